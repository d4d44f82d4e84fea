#include "agent/device/tool_modbus.h"
#include "agent/device/field.h"
#include "agent/device/modbus/client.h"
#include "agent/device/modbus/decode.h"
#include "agent/device/modbus/scan.h"
#include "common/loop.h"
#include "common/shortage.h"
#include "common/util.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_BYTES    256
#define WORDS_MAX     1000
#define SCAN_PAUSE_MS 5
#define ADDRESS_MAX   65535

const struct option_row scan_options[] = {
	{"framing", 0, "FRAMING", "TCP (of hosts, if nobody says), RTU (of lines) or ASCII"},
	{"line", 0, "BAUD[,8N1]",
	 "speed, data bits, parity (N, E, O, M, S) and stop bits (9600,8N1)"},
	{"units", 0, "FIRST-LAST", "unit ids to look for (1-247)"},
	{"tables", 0, "NAME,...", "coil, discrete, input, holding (all of them), or none"},
	{"addresses", 0, "FIRST-LAST", "where to look in the tables (0-999)"},
	{"timeout", 0, "SECONDS", "how long an answer may take (0.3)"},
	{"json", 0, NULL, "as JSON, for programs"},
	{0},
};

const struct option_row decode_options[] = {
	{"addresses", 0, "FIRST", "the address of the first register (0)"},
	{"json", 0, NULL, "as JSON, for programs"},
	{0},
};

/* ---- the connection, from the command line ---- */

/* "HOST", "HOST:PORT", "[V6]:PORT", or a V6 address alone. ret: NULL: out of memory, or it is none.
 */
static json_t *tcp_transport(const char *target)
{
	const char *close = target[0] == '[' ? strchr(target, ']') : NULL;
	const char *colon = strrchr(target, ':');
	bool six = close == NULL && colon != NULL && strchr(target, ':') != colon;
	char host[HOST_BYTES];

	if (six || (close != NULL && colon < close))
		colon = NULL;
	const char *begin = close != NULL ? target + 1 : target;
	const char *end = close != NULL ? close : colon != NULL ? colon : target + strlen(target);

	if ((size_t)(end - begin) >= sizeof(host) ||
	    (colon != NULL && strspn(colon, ":0123456789") != strlen(colon)))
		return NULL;
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	return colon != NULL ? json_pack("{s:s, s:s, s:I}", "type", "TCP", "host", host, "port",
					 (json_int_t)strtol(colon + 1, NULL, 10))
			     : json_pack("{s:s, s:s}", "type", "TCP", "host", host);
}

/* The word that a character of "8N1" stands for, in letters; NULL: none. */
static const char *word_for(char c, const char *letters, const char *const *words)
{
	const char *at = c != '\0' ? strchr(letters, c) : NULL;

	return at != NULL ? words[at - letters] : NULL;
}

/* line: "19200,8E1"; NULL: as a device file without these. ret: NULL: out of memory, or it is none.
 */
static json_t *serial_transport(const char *target, const char *line)
{
	static const char *const sizes[] = {"FIVEBITS", "SIXBITS", "SEVENBITS", "EIGHTBITS"};
	static const char *const parities[] = {"NONE", "EVEN", "ODD", "MARK", "SPACE"};
	static const char *const stops[] = {"ONE", "TWO"};
	json_t *block = json_pack("{s:s, s:s}", "type", "SERIAL", "port", target);
	char *rest = NULL;

	if (line == NULL || block == NULL)
		return block;
	int rc = json_object_set_new(block, "baudrate", json_integer(strtol(line, &rest, 10)));
	const char *form = *rest == ',' ? rest + 1 : NULL;
	bool whole = form != NULL && strlen(form) == 3;

	if (rc == 0 && whole)
		rc = json_object_update_new(block,
					    json_pack("{s:s, s:s, s:s}", "bytesize",
						      word_for(form[0], "5678", sizes), "parity",
						      word_for(form[1], "NEOMS", parities),
						      "stopbits", word_for(form[2], "12", stops)));
	if (rc == 0 && rest != line && (whole || (form == NULL && *rest == '\0')))
		return block;
	json_decref(block);
	return NULL;
}

static void on_problem(void *arg, bool is_error, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s: %s\n", is_error ? "error" : "warning", text);
}

/* As a device file would have it, checked in the same way. ret: NULL: told. */
static json_t *connection_of(const struct options *o, double timeout_s)
{
	const char *target = o->argv[0], *framing = options_value(o, "framing");
	bool serial = target[0] == '/';
	json_t *transport =
		serial ? serial_transport(target, options_value(o, "line")) : tcp_transport(target);
	struct problems *p = problems_new();
	json_auto_t *connection = json_pack(
		"{s:s, s:o, s:f, s:f, s:f, s:f, s:i, s:i, s:f}", "modbus_type",
		framing != NULL ? framing
		: serial        ? "RTU"
				: "TCP",
		"transport", transport, "connect_timeout", 5.0, "connect_delay", 1.0,
		"request_timeout", timeout_s, "request_delay", 0.0, "request_retry_immediate_count",
		0, "request_retry_delayed_count", 0, "request_retry_delay", 0.0);

	if (p == NULL || connection == NULL) {
		fputs("error: the connection is told by HOST[:PORT], or by the path of a line and "
		      "--line BAUD,8N1\n",
		      stderr);
		problems_free(p);
		return NULL;
	}
	if (fields_check(modbus_connection_fields, connection, p) == 0)
		modbus_connection_check(connection, p);
	bool good = problems_errors(p) == 0;

	problems_each(p, on_problem, NULL);
	problems_free(p);
	return good ? TAKE(connection) : NULL;
}

/* "7" or "1-247", both ends from 0 to max. ret: false: it is none. */
static bool read_range(const char *text, unsigned max, unsigned *first, unsigned *last)
{
	char *end = NULL;
	unsigned long from = strtoul(text, &end, 0), to = from;
	bool whole = end != text && text[0] != '-';

	if (whole && *end == '-') {
		const char *second = end + 1;

		to = strtoul(second, &end, 0);
		whole = end != second && *second != '-';
	}
	if (!whole || *end != '\0' || from > to || to > max)
		return false;
	*first = (unsigned)from;
	*last = (unsigned)to;
	return true;
}

/* ret: false: it is none, or none of use. */
static bool read_seconds(const char *text, double *ret)
{
	char *end = NULL;

	*ret = strtod(text, &end);
	return end != text && *end == '\0' && *ret >= 0.001 && *ret <= 60;
}

/* ---- scan ---- */

/* In the order of the functions that read them, 1 to 4. */
static const struct {
	const char *name, *data_type;
	uint8_t function;
} tables[] = {
	{"coil", "COIL", MODBUS_READ_COILS},
	{"discrete", "DISCRETE_INPUT", MODBUS_READ_DISCRETE_INPUTS},
	{"holding", "HOLDING_REGISTER", MODBUS_READ_HOLDING_REGISTERS},
	{"input", "INPUT_REGISTER", MODBUS_READ_INPUT_REGISTERS},
};

/* Whether `len` bytes are a name of a table, in letters of any size. */
static bool is_table(size_t i, const char *text, size_t len)
{
	const char *names[] = {tables[i].name, tables[i].data_type};

	for (size_t n = 0; n < ARRAY_LEN(names); n++)
		if (strlen(names[n]) == len && strncasecmp(names[n], text, len) == 0)
			return true;
	return false;
}

/* "coil,holding". ret: false: it is none. */
static bool read_tables(const char *text, unsigned *ret)
{
	*ret = 0;
	if (strcmp(text, "none") == 0)
		return true;
	while (*text != '\0') {
		size_t len = strcspn(text, ","), i = 0;

		while (i < ARRAY_LEN(tables) && !is_table(i, text, len))
			i++;
		if (i == ARRAY_LEN(tables))
			return false;
		*ret |= 1U << tables[i].function;
		text += len + (text[len] == ',');
	}
	return *ret != 0;
}

struct scan {
	struct loop *loop;
	json_t *units; /* of JSON: what was found */
	bool as_json, progress;
	unsigned found;
	unsigned told; /* the unit whose ranges are being told, plus 1 */
	char why[300]; /* it ended early */
};

static void clear_progress(const struct scan *s)
{
	if (s->progress)
		fputs("\r\033[K", stderr);
}

static void on_unit(void *arg, unsigned unit)
{
	struct scan *s = arg;

	s->found++;
	clear_progress(s);
	if (s->as_json)
		json_array_append_new(s->units,
				      json_pack("{s:I, s:[]}", "unit", (json_int_t)unit, "ranges"));
	else
		printf("unit %u answers\n", unit);
	fflush(stdout);
}

static void on_range(void *arg, unsigned unit, uint8_t function, unsigned first, unsigned last)
{
	struct scan *s = arg;
	const char *type = tables[function - 1].data_type;
	json_t *found;
	size_t i;

	json_array_foreach (s->units, i, found) {
		if (json_integer_value(json_object_get(found, "unit")) == unit)
			json_array_append_new(json_object_get(found, "ranges"),
					      json_pack("{s:s, s:I, s:I}", "data_type", type,
							"first", (json_int_t)first, "last",
							(json_int_t)last));
	}
	if (s->as_json)
		return;
	clear_progress(s);
	if (s->told != unit + 1)
		printf("unit %u\n", unit);
	s->told = unit + 1;
	printf("  %-16s %5u to %u\n", type, first, last);
	fflush(stdout);
}

static void on_progress(void *arg, bool units, uint64_t done, uint64_t total)
{
	const struct scan *s = arg;

	if (s->progress)
		fprintf(stderr, "\r\033[K%s %llu of %llu", units ? "unit" : "address",
			(unsigned long long)done, (unsigned long long)total);
}

static void on_done(void *arg, const char *why)
{
	struct scan *s = arg;

	clear_progress(s);
	snprintf(s->why, sizeof(s->why), "%s", why != NULL ? why : "");
	loop_quit(s->loop, 0);
}

static int run_scan(struct scan *s, const struct modbus_scan_conf *conf, struct err *err)
{
	static const struct modbus_scan_events events = {
		.on_unit = on_unit,
		.on_range = on_range,
		.on_progress = on_progress,
		.on_done = on_done,
	};
	struct modbus_scan *scan = NULL;
	int rc = loop_new(&s->loop, err);

	if (rc == 0)
		rc = modbus_scan_new(s->loop, conf, &events, s, &scan, err);
	if (rc == 0)
		rc = loop_run(s->loop);
	modbus_scan_free(scan);
	loop_free(s->loop);
	if (rc == 0 && s->why[0] != '\0')
		rc = err_set(err, ERR_PEER, "%s", s->why);
	return rc;
}

/* ret: the exit status. */
static int tell_scan(const struct scan *s)
{
	if (s->as_json) {
		json_auto_t *all = json_pack("{s:O}", "units", s->units);
		CLEANUP(freep)
		char *text = shortage_dumps(all);

		if (text == NULL) {
			fputs("error: out of memory\n", stderr);
			return EXIT_FAILURE;
		}
		puts(text);
	} else if (s->found == 0)
		puts("no unit answers");
	return s->found > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static const char *value_or(const struct options *o, const char *name, const char *missing)
{
	const char *value = options_value(o, name);

	return value != NULL ? value : missing;
}

/* ret: whether all can be used; those that cannot are told. */
static bool read_scan_options(const struct options *o, struct modbus_scan_conf *conf,
			      double *ret_timeout_s)
{
	const char *units = value_or(o, "units", "1-247"),
		   *addresses = value_or(o, "addresses", "0-999"),
		   *names = value_or(o, "tables", "coil,discrete,holding,input"),
		   *timeout = value_or(o, "timeout", "0.3");
	const struct {
		const char *name, *value, *rule;
		bool good;
	} read[] = {
		{"units", units, "FIRST-LAST or one, of 0 to 255",
		 read_range(units, MODBUS_UNIT_MAX, &conf->first_unit, &conf->last_unit)},
		{"addresses", addresses, "FIRST-LAST or one, of 0 to 65535",
		 read_range(addresses, ADDRESS_MAX, &conf->first_address, &conf->last_address)},
		{"tables", names, "some of coil,discrete,holding,input, or none",
		 read_tables(names, &conf->tables)},
		{"timeout", timeout, "seconds, 0.001 to 60", read_seconds(timeout, ret_timeout_s)},
	};
	bool good = true;

	for (size_t i = 0; i < ARRAY_LEN(read); i++) {
		if (read[i].good)
			continue;
		fprintf(stderr, "error: --%s %s: must be %s\n", read[i].name, read[i].value,
			read[i].rule);
		good = false;
	}
	return good;
}

int tool_scan(const struct options *o)
{
	struct modbus_scan_conf conf = {.pause_ms = SCAN_PAUSE_MS};
	json_auto_t *units = json_array();
	struct scan s = {.units = units,
			 .as_json = options_has(o, "json"),
			 .progress = isatty(STDERR_FILENO) == 1};
	double timeout_s;
	struct err err = {0};

	if (!read_scan_options(o, &conf, &timeout_s))
		return EXIT_WRONG_LINE;
	json_auto_t *connection = connection_of(o, timeout_s);

	if (connection == NULL)
		return EXIT_WRONG_LINE;
	conf.connection = connection;
	signal(SIGPIPE, SIG_IGN);
	if (run_scan(&s, &conf, &err) < 0) {
		fprintf(stderr, "error: %s: %s\n", o->argv[0], err.text);
		return EXIT_FAILURE;
	}
	return tell_scan(&s);
}

/* ---- decode ---- */

static void print_rows(const json_t *rows)
{
	json_t *row;
	size_t i;

	printf("%7s  %-8s %-5s %s\n", "address", "type", "order", "value");
	json_array_foreach (rows, i, row) {
		const char *order = json_string_value(json_object_get(row, "order"));
		json_t *value = json_object_get(row, "value");
		CLEANUP(freep)
		char *text = json_is_string(value) ? strdup(json_string_value(value))
						   : shortage_dumps(value);

		printf("%7lld  %-8s %-5s %s\n",
		       (long long)json_integer_value(json_object_get(row, "address")),
		       json_string_value(json_object_get(row, "type")), order != NULL ? order : "",
		       text != NULL ? text : "");
	}
}

int tool_decode(const struct options *o)
{
	unsigned address, unused;
	uint16_t words[WORDS_MAX];
	size_t n = (size_t)o->argc;

	if (!read_range(value_or(o, "addresses", "0"), ADDRESS_MAX, &address, &unused) ||
	    n > WORDS_MAX) {
		fputs("error: addresses are 0 to 65535, and there are 1000 registers at most\n",
		      stderr);
		return EXIT_WRONG_LINE;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned word;

		if (!read_range(o->argv[i], UINT16_MAX, &word, &unused) || word != unused) {
			fprintf(stderr, "error: %s is no register: 0 to 65535, or 0x0 to 0xffff\n",
				o->argv[i]);
			return EXIT_WRONG_LINE;
		}
		words[i] = (uint16_t)word;
	}
	json_auto_t *rows = modbus_decode(address, words, n);
	CLEANUP(freep)
	char *text = options_has(o, "json") ? shortage_dumps(rows) : NULL;

	if (rows == NULL || (options_has(o, "json") && text == NULL)) {
		fputs("error: out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	if (text != NULL)
		puts(text);
	else
		print_rows(rows);
	return EXIT_SUCCESS;
}
