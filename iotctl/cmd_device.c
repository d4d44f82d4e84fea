/* cmd_device.c - iotctl device: field devices of this machine's agent, and the devices that
 * projects can use. What needs no agent (check, doc, scan, decode) is done by gateway-agent, which
 * lies beside us. */
#include "common/ctl.h"
#include "common/util.h"
#include "iotctl/act.h"
#include "iotctl/show.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define ASK_MS        15000
#define FIELD_MS      120000 /* reads and writes: retries of the field are within */
#define RELOAD_MS     120000 /* all devices may be made anew, and others may wait before us */
#define WORDS         300    /* of gateway-agent's command line */
#define PROBLEMS_TOLD 20

/* ---- asking the agent ---- */

/* request: taken. ret: EXIT_OK and *ret_answer, or told already. */
static int ask(const struct iotctl *app, json_t *request, int timeout_ms, json_t **ret_answer)
{
	return ask_daemon(app, "device", "agent", request, timeout_ms, ret_answer);
}

/* Tell an answer about one device. */
static int ask_about(const struct iotctl *app, const struct options *o, const char *op,
		     json_t **ret_device)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, json_pack("{s:s, s:s}", "op", op, "name", o->argv[1]), ASK_MS, &answer);

	if (rc == EXIT_OK)
		*ret_device = json_incref(json_object_get(answer, "device"));
	return rc;
}

/* ---- list ---- */

static const char *word_of_bool(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key)) ? "yes" : "no";
}

static void print_field_devices(const json_t *rows)
{
	int name = width_of(rows, "name", 16), type = width_of(rows, "type", 13);
	char points[32], backlog[32];
	json_t *d;
	size_t i;

	printf("%-*s %-*s %-8s %-9s %-13s %6s %8s  %s\n", name, "field device", type, "type",
	       "enabled", "state", "link", "points", "backlog", "why");
	json_array_foreach (rows, i, d)
		printf("%-*s %-*s %-8s %-9s %-13s %6s %8s  %s\n",
		       bytes_of(name, text_of(d, "name")), text_of(d, "name"), type,
		       text_of(d, "type"), word_of_bool(d, "enabled"), text_of(d, "state"),
		       text_of(d, "link"), number_of(d, "points", points),
		       number_of(d, "backlog", backlog), text_or_empty(d, "why"));
}

/* With why there are none, or why they wait. */
static void print_field_answer(const json_t *answer)
{
	print_field_devices(json_object_get(answer, "devices"));
	if (text_or_empty(answer, "bus_why")[0] != '\0')
		printf("broker: %s\n", text_of(answer, "bus_why"));
	if (text_or_empty(answer, "why")[0] != '\0')
		printf("not started: %s\n", text_of(answer, "why"));
}

static void print_ccm_devices(const json_t *rows)
{
	int name = width_of(rows, "d_name", 16), model = width_of(rows, "dm_name", 16),
	    owner = width_of(rows, "owner", 10);
	char id[32];
	json_t *d;
	size_t i;

	printf("%6s %-*s %-*s %-*s %-8s %-36s %s\n", "number", name, "device", model, "model",
	       owner, "owner", "state", "id", "projects");
	json_array_foreach (rows, i, d)
		printf("%6s %-*s %-*s %-*s %-8s %-36s %s%s\n", number_of(d, "d_id", id),
		       bytes_of(name, text_of(d, "d_name")), text_of(d, "d_name"),
		       bytes_of(model, text_of(d, "dm_name")), text_of(d, "dm_name"),
		       bytes_of(owner, text_of(d, "owner")), text_of(d, "owner"),
		       text_of(d, "status"), text_of(d, "mac_addr"), text_of(d, "projects"),
		       json_is_true(json_object_get(d, "is_sim")) ? " (simulated)" : "");
}

static int list_field(const struct iotctl *app, bool as_json)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, json_pack("{s:s}", "op", "device_list"), ASK_MS, &answer);
	json_t *rows = json_object_get(answer, "devices");

	if (rc != EXIT_OK)
		return rc;
	if (as_json) {
		json_auto_t *all = json_pack("{s:O}", "field_devices", rows);

		return print_json(all);
	}
	show_plain(answer);
	print_field_answer(answer);
	return EXIT_OK;
}

/* The answer of an agent that runs and has some, or should have; NULL: else. */
static json_t *field_answer(const struct iotctl *app)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "run/agent.sock");
	json_auto_t *request = json_pack("{s:s}", "op", "device_list");
	json_auto_t *answer = NULL;

	if (path == NULL || request == NULL ||
	    ctl_request(path, request, ASK_MS, &answer, NULL) < 0)
		return NULL;
	bool some = json_array_size(json_object_get(answer, "devices")) > 0 ||
		    text_or_empty(answer, "why")[0] != '\0';

	return some ? json_incref(answer) : NULL;
}

static int device_list(const struct iotctl *app, const struct options *o)
{
	json_auto_t *rows = NULL, *field = NULL;
	bool as_json = options_has(o, "json");

	if (options_has(o, "field"))
		return list_field(app, as_json);
	field = field_answer(app);
	if (!as_json && field != NULL) {
		show_plain(field);
		print_field_answer(field);
		putchar('\n');
		fflush(stdout);
	}
	int rc = ask_ccm_all(app, "device", "devices", "d_id", &rows);

	if (rc != EXIT_OK)
		return rc;
	if (as_json) {
		json_auto_t *all = json_pack("{s:O, s:O*}", "devices", rows, "field_devices",
					     json_object_get(field, "devices"));

		return print_json(all);
	}
	show_plain(rows);
	print_ccm_devices(rows);
	return EXIT_OK;
}

/* ---- show ---- */

static void print_points(const json_t *points)
{
	int name = width_of(points, "name", 16), idf = width_of(points, "idf", 12),
	    odf = width_of(points, "odf", 12);
	char quality[32], age[32];
	json_t *point;
	size_t i;

	printf("%-*s %-*s %-*s %-7s %-24s %7s %s\n", name, "point", idf, "IDF", odf, "ODF", "keep",
	       "value", "quality", "age");
	json_array_foreach (points, i, point) {
		json_t *time_us = json_object_get(point, "time_us");
		json_t *last = json_object_get(point, "value");
		CLEANUP(freep)
		char *value = json_is_null(last) ? NULL : value_text(last);

		printf("%-*s %-*s %-*s %-7s %-24s %7s %s\n", bytes_of(name, text_of(point, "name")),
		       text_of(point, "name"), idf, text_of(point, "idf"), odf,
		       text_of(point, "odf"), text_of(point, "keep"), value != NULL ? value : "-",
		       number_of(point, "quality", quality),
		       json_is_integer(time_us)
			       ? age_of((double)json_integer_value(time_us) / 1e6, age)
			       : "-");
	}
}

/* What waits: since when, instead of a time in microseconds. */
static void show_age(json_t *outbox)
{
	json_int_t oldest_us = json_integer_value(json_object_get(outbox, "oldest_us"));
	char age[32] = "-";

	if (oldest_us > 0)
		age_of((double)oldest_us / 1e6, age);
	json_object_del(outbox, "oldest_us");
	json_object_set_new(outbox, "oldest", json_string(age));
}

static int device_show(const struct iotctl *app, const struct options *o)
{
	json_auto_t *device = NULL;
	int rc = ask_about(app, o, "device_show", &device);

	if (rc != EXIT_OK)
		return rc;
	if (options_has(o, "json"))
		return print_json(device);
	show_plain(device);
	show_age(json_object_get(device, "outbox"));
	json_auto_t *points = json_incref(json_object_get(device, "points_list"));

	json_object_del(device, "points_list");
	print_members(device, 0);
	putchar('\n');
	print_points(points);
	return EXIT_OK;
}

/* ---- enable, disable ---- */

static int device_switch(const struct iotctl *app, const struct options *o)
{
	json_auto_t *device = NULL;
	char op[32];

	snprintf(op, sizeof(op), "device_%s", o->argv[0]);
	int rc = ask_about(app, o, op, &device);

	if (rc != EXIT_OK)
		return rc;
	if (options_has(o, "json"))
		return print_json(device);
	show_plain(device);
	printf("%s is %sd; state: %s\n", text_of(device, "name"), o->argv[0],
	       text_of(device, "state"));
	return EXIT_OK;
}

/* ---- read, write ---- */

static int device_read(const struct iotctl *app, const struct options *o)
{
	json_auto_t *answer = NULL;
	int rc = ask(app,
		     json_pack("{s:s, s:s, s:s, s:i}", "op", "device_read", "name", o->argv[1],
			       "point", o->argv[2], "timeout_ms", FIELD_MS - 1000),
		     FIELD_MS, &answer);
	json_t *value = json_object_get(answer, "value");
	json_int_t quality = json_integer_value(json_object_get(answer, "quality"));

	if (rc != EXIT_OK)
		return rc;
	json_object_del(answer, "state");
	if (options_has(o, "json"))
		return print_json(answer);
	CLEANUP(freep)
	char *text = value_text(value);

	if (text == NULL)
		return complain("device: out of memory");
	printf("%s", text);
	if (quality != 0)
		printf(" (quality %lld)", (long long)quality);
	putchar('\n');
	return EXIT_OK;
}

/* A JSON value, or, where the word is none, a text. ret: NULL: out of memory. */
static json_t *value_of(const char *word)
{
	json_t *value = json_loads(word, JSON_DECODE_ANY, NULL);

	return value != NULL ? value : json_string(word);
}

static int device_write(const struct iotctl *app, const struct options *o)
{
	json_auto_t *answer = NULL;
	int rc = ask(app,
		     json_pack("{s:s, s:s, s:s, s:o, s:i}", "op", "device_write", "name",
			       o->argv[1], "point", o->argv[2], "value", value_of(o->argv[3]),
			       "timeout_ms", FIELD_MS - 1000),
		     FIELD_MS, &answer);

	if (rc != EXIT_OK)
		return rc;
	json_object_del(answer, "state");
	if (options_has(o, "json"))
		return print_json(answer);
	puts("written");
	return EXIT_OK;
}

/* ---- reload ---- */

static void print_names(const json_t *answer, const char *what)
{
	json_t *name;
	size_t i;

	json_array_foreach (json_object_get(answer, what), i, name) {
		CLEANUP(freep)
		char *text = json_is_string(name) ? strdup(json_string_value(name))
						  : json_dumps(name, JSON_ENCODE_ANY);

		printf("%-9s %s\n", what, text != NULL ? text : "-");
	}
}

/* As `device check` tells them, but no more than people read. */
static void tell_problems(const char *kind, const json_t *texts, const char *file)
{
	json_t *text;
	size_t i;

	fflush(stdout);
	json_array_foreach (texts, i, text) {
		if (i == PROBLEMS_TOLD) {
			fprintf(stderr, "and %zu more: iotctl device check %s\n",
				json_array_size(texts) - i, file);
			return;
		}
		fprintf(stderr, "%s: %s\n", kind, json_string_value(text));
	}
}

static int tell_wrong_file(const struct options *o, json_t *answer)
{
	json_t *errors = json_object_get(answer, "errors");

	if (options_has(o, "json"))
		print_json(answer);
	show_plain(answer);
	if (json_array_size(errors) == 0 || options_has(o, "json"))
		return complain("device: %s", text_of(answer, "reason"));
	tell_problems("error", errors, text_of(answer, "file"));
	return complain("device: %s is wrong, nothing is changed", text_of(answer, "file"));
}

static int device_reload(const struct iotctl *app, const struct options *o)
{
	static const char *const lists[] = {"added", "changed", "removed", "failed"};
	json_auto_t *answer = NULL;
	size_t told = 0;
	int rc = ask_daemon_whole(app, "device", "agent",
				  json_pack("{s:s, s:s*}", "op", "device_reload", "name",
					    o->argc > 1 ? o->argv[1] : NULL),
				  RELOAD_MS, &answer);

	if (rc != EXIT_OK)
		return rc;
	if (strcmp(text_of(answer, "state"), "error") == 0)
		return tell_wrong_file(o, answer);
	json_object_del(answer, "state");
	if (options_has(o, "json"))
		return print_json(answer);
	show_plain(answer);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		print_names(answer, lists[i]);
		told += json_array_size(json_object_get(answer, lists[i]));
	}
	if (json_is_string(json_object_get(answer, "note")))
		puts(text_of(answer, "note"));
	else if (told == 0)
		puts("nothing has changed");
	tell_problems("warning", json_object_get(answer, "warnings"), text_of(answer, "file"));
	return json_array_size(json_object_get(answer, "failed")) > 0 ? EXIT_ERROR : EXIT_OK;
}

/* ---- what gateway-agent does ---- */

/* Become it; with the settings for what looks at them. */
static int become_agent(const struct iotctl *app, const struct options *o)
{
	char path[PATH_MAX];
	char *words[WORDS] = {"gateway-agent", "device", o->argv[0]};
	size_t n = 3;

	if (strcmp(o->argv[0], "doc") == 0 && options_has(o, "json"))
		return misused("device: --json is not for doc");
	if ((size_t)o->argc + 2 * OPTIONS_MAX + 6 > WORDS)
		return misused("device: too many words");
	if (app->conf_path != NULL && strcmp(o->argv[0], "check") == 0) {
		words[n++] = "--config";
		words[n++] = app->conf_path;
	}
	for (size_t i = 0; o->rows[i].name != NULL; i++) {
		if (o->values[i] == NULL)
			continue;
		CLEANUP(freep)
		char *option = NULL;

		if (asprintf(&option, "--%s%s%s", o->rows[i].name,
			     o->rows[i].arg != NULL ? "=" : "",
			     o->rows[i].arg != NULL ? o->values[i] : "") < 0) {
			option = NULL;
			return complain("device: out of memory");
		}
		words[n++] = TAKE(option);
	}
	words[n++] = "--";
	for (int i = 1; i < o->argc; i++)
		words[n++] = o->argv[i];
	if (snprintf(path, sizeof(path), "%s/gateway-agent", app->program_dir) >= PATH_MAX)
		return complain("device: the path of the program is too long");
	fflush(stdout);
	execv(path, words);
	return complain("device: %s: %s", path, strerror(errno));
}

int cmd_device(struct iotctl *app, const struct options *o)
{
	static const struct act acts[] = {
		{"list", 0, 0, "no further argument", device_list, "field "},
		{"show", 1, 1, "one field device", device_show, NULL},
		{"enable", 1, 1, "one field device", device_switch, NULL},
		{"disable", 1, 1, "one field device", device_switch, NULL},
		{"read", 2, 2, "a field device and a point", device_read, NULL},
		{"write", 3, 3, "a field device, a point and a value", device_write, NULL},
		{"reload", 0, 1, "perhaps one field device", device_reload, NULL},
		{"check", 1, 1, "one file", become_agent, NULL},
		{"doc", 0, 1, "perhaps a device type", become_agent, NULL},
		{"scan", 1, 1, "a host or a serial line", become_agent,
		 "framing line units tables addresses timeout "},
		{"decode", 1, WORDS, "registers", become_agent, "addresses "},
	};

	return run_act(app, "device", acts, ARRAY_LEN(acts), o);
}
