/* show.c - asking a daemon, and its answer as text for people. */
#include "iotctl/show.h"
#include "common/ctl.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CCM_MS 30000

/* How a daemon is asked: ctl_request() or ctl_exchange(). */
typedef int ask_fn(const char *path, json_t *request, int timeout_ms, json_t **ret_answer,
		   struct err *err);

static int ask_with(ask_fn *fn, const struct iotctl *app, const char *command, const char *daemon,
		    json_t *request, int timeout_ms, json_t **ret_answer)
{
	json_auto_t *taken = request;
	char relative[64];
	struct err err = {0};

	snprintf(relative, sizeof(relative), "run/%s.sock", daemon);
	CLEANUP(freep)
	char *path = settings_path(&app->settings, relative);
	if (path == NULL || taken == NULL)
		return complain("%s: out of memory", command);
	int rc = fn(path, taken, timeout_ms, ret_answer, &err);
	if (rc == ERR_NOENT) {
		complain("%s: the %s does not run; start it with `iotctl start`", command, daemon);
		return EXIT_NOT_RUNNING;
	}
	return rc < 0 ? complain("%s: %s", command, err.text) : EXIT_OK;
}

int ask_daemon(const struct iotctl *app, const char *command, const char *daemon, json_t *request,
	       int timeout_ms, json_t **ret_answer)
{
	return ask_with(ctl_request, app, command, daemon, request, timeout_ms, ret_answer);
}

int ask_daemon_whole(const struct iotctl *app, const char *command, const char *daemon,
		     json_t *request, int timeout_ms, json_t **ret_answer)
{
	return ask_with(ctl_exchange, app, command, daemon, request, timeout_ms, ret_answer);
}

int ask_ccm_all(const struct iotctl *app, const char *command, const char *list, const char *id,
		json_t **ret_rows)
{
	json_auto_t *rows = json_array();
	json_int_t after = 0;

	for (bool more = true; more;) {
		json_auto_t *answer = NULL;
		int rc = ask_daemon(app, command, "ccm",
				    json_pack("{s:s, s:I}", "op", list, "after", after), CCM_MS,
				    &answer);

		if (rc != EXIT_OK)
			return rc;
		json_t *page = json_object_get(answer, list);

		if (json_array_extend(rows, page) < 0)
			return complain("%s: out of memory", command);
		after = json_integer_value(
			json_object_get(json_array_get(page, json_array_size(page) - 1), id));
		more = json_is_true(json_object_get(answer, "more"));
	}
	*ret_rows = TAKE(rows);
	return EXIT_OK;
}

json_t *daemon_status(const struct settings *s, const char *daemon, int timeout_ms)
{
	char relative[64];

	snprintf(relative, sizeof(relative), "run/%s.sock", daemon);
	CLEANUP(freep)
	char *path = settings_path(s, relative);
	json_auto_t *request = json_pack("{s:s}", "op", "status");
	json_t *answer = NULL;

	if (path == NULL || request == NULL ||
	    ctl_request(path, request, timeout_ms, &answer, NULL) < 0)
		return NULL;
	return answer;
}

int print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
	return EXIT_OK;
}

/* ret: a new string */
static json_t *plain_string(const json_t *value, bool lines)
{
	char *text = strdup(json_string_value(value));

	for (char *c = text; c != NULL && *c != '\0'; c++)
		if (((unsigned char)*c < ' ' && !(lines && (*c == '\n' || *c == '\t'))) ||
		    *c == 0x7f)
			*c = '?';
	json_t *made = text != NULL ? json_string(text) : NULL;

	free(text);
	return made;
}

void show_plain(json_t *value)
{
	const char *key;
	json_t *inner;
	void *next;
	size_t i;

	json_object_foreach_safe (value, next, key, inner) {
		if (json_is_string(inner))
			json_object_set_new(value, key,
					    plain_string(inner, strcmp(key, "code") == 0));
		else
			show_plain(inner);
	}
	json_array_foreach (value, i, inner) {
		if (json_is_string(inner))
			json_array_set_new(value, i, plain_string(inner, false));
		else
			show_plain(inner);
	}
}

const char *text_or_empty(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text != NULL ? text : "";
}

const char *text_of(const json_t *o, const char *key)
{
	return json_is_string(json_object_get(o, key)) ? text_or_empty(o, key) : "-";
}

const char *number_of(const json_t *o, const char *key, char buf[32])
{
	json_t *n = json_object_get(o, key);

	if (json_is_integer(n))
		snprintf(buf, 32, "%lld", (long long)json_integer_value(n));
	else if (json_is_real(n))
		snprintf(buf, 32, "%.1f", json_real_value(n));
	else
		snprintf(buf, 32, "-");
	return buf;
}

const char *age_of(double since, char buf[32])
{
	static const struct {
		double seconds;
		const char *unit;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	double age = (double)time(NULL) - since;

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (age >= 2 * units[i].seconds || i + 1 == ARRAY_LEN(units)) {
			snprintf(buf, 32, "%.0f %s", age > 0 ? age / units[i].seconds : 0,
				 units[i].unit);
			break;
		}
	}
	return buf;
}

/* The next character of a text, which is UTF-8, and where the one after it begins. */
static uint32_t next_character(const unsigned char **at)
{
	const unsigned char *c = *at;
	uint32_t code = *c < 0x80 ? *c : *c < 0xe0 ? *c & 0x1f : *c < 0xf0 ? *c & 0x0f : *c & 0x07;

	for (c++; (*c & 0xc0) == 0x80; c++)
		code = code << 6 | (*c & 0x3f);
	*at = c;
	return code;
}

/* Places that a text takes on a terminal: characters of East Asia and pictures take two, accents
 * for the one before none. wcwidth() would ask a locale, which not every machine has. */
static size_t places_of(const char *text)
{
	static const struct {
		uint32_t first, last;
		unsigned places;
	} others[] = {{0x300, 0x36f, 0},     {0x1100, 0x115f, 2},   {0x200b, 0x200f, 0},
		      {0x2e80, 0xa4cf, 2},   {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},
		      {0xfe00, 0xfe0f, 0},   {0xfe30, 0xfe6f, 2},   {0xff00, 0xff60, 2},
		      {0xffe0, 0xffe6, 2},   {0x1f300, 0x1f64f, 2}, {0x1f680, 0x1f6ff, 2},
		      {0x1f900, 0x1f9ff, 2}, {0x20000, 0x3fffd, 2}};
	const unsigned char *at = (const unsigned char *)text;
	size_t places = 0;

	while (*at != '\0') {
		uint32_t code = next_character(&at);
		unsigned takes = 1;

		for (size_t i = 0; i < ARRAY_LEN(others); i++)
			if (code >= others[i].first && code <= others[i].last)
				takes = others[i].places;
		places += takes;
	}
	return places;
}

int bytes_of(int width, const char *text)
{
	return width + (int)strlen(text) - (int)places_of(text);
}

int width_of(const json_t *list, const char *key, size_t least)
{
	json_t *row;
	size_t i;

	json_array_foreach (list, i, row) {
		size_t places = places_of(text_of(row, key));

		if (places > least)
			least = places;
	}
	return (int)least;
}

char *value_text(const json_t *value)
{
	const json_t *shown = json_array_size(value) == 1 ? json_array_get(value, 0) : value;

	for (size_t digits = 15;; digits++) {
		char *text = json_dumps(shown, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
		json_auto_t *again = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

		if (text == NULL || digits == 17 || json_equal(again, shown))
			return text;
		free(text);
	}
}

/* ret: yours, for a column or behind a name; NULL: out of memory. */
static char *member_text(const json_t *value)
{
	if (json_is_null(value))
		return strdup("-");
	if (!json_is_string(value))
		return value_text(value);
	return strdup(json_string_length(value) > 0 ? json_string_value(value) : "-");
}

static int column_width(const json_t *rows, const char *key)
{
	size_t width = strlen(key), i;
	json_t *row;

	json_array_foreach (rows, i, row) {
		CLEANUP(freep)
		char *text = member_text(json_object_get(row, key));

		if (text != NULL && places_of(text) > width)
			width = places_of(text);
	}
	return (int)width;
}

static void print_table(const json_t *rows, int indent)
{
	json_t *first = json_array_get(rows, 0), *unused, *row;
	const char *key;
	size_t i;

	printf("%*s", indent, "");
	json_object_foreach (first, key, unused)
		printf("%-*s ", column_width(rows, key), key);
	putchar('\n');
	json_array_foreach (rows, i, row) {
		printf("%*s", indent, "");
		json_object_foreach (first, key, unused) {
			CLEANUP(freep)
			char *text = member_text(json_object_get(row, key));
			const char *shown = text != NULL ? text : "-";

			printf("%-*s ", bytes_of(column_width(rows, key), shown), shown);
		}
		putchar('\n');
	}
}

void print_members(const json_t *object, int indent)
{
	int width = 16 - indent;
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)object, key, value)
		if ((int)strlen(key) > width)
			width = (int)strlen(key);
	json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
		bool table = json_is_object(json_array_get(value, 0));

		if (table || json_is_object(value)) {
			printf("%*s%s\n", indent, "", key);
			if (table)
				print_table(value, indent + 2);
			else
				print_members(value, indent + 2);
			continue;
		}
		CLEANUP(freep)
		char *text = member_text(value);

		printf("%*s%-*s %s\n", indent, "", width, key, text != NULL ? text : "-");
	}
}
