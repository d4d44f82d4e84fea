/* iottalk-engine - the keeper of engines, which evaluate graphs; started by the gateway agent
 * (docs/keeper-protocol.rst). */
#include "common/log.h"
#include "common/util.h"
#include "engine/keeper.h"
#include "engine/sandbox.h"
#include "engine/sanitizer.h"
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

SANITIZER_OPTIONS

struct options {
	unsigned memory_mb, function_mb, max_payload, report_fd, orphan_ms;
	const char *socket, *layers;
	int qos;
	bool strict, probe;
};

static const char usage[] =
	"usage: iottalk-engine --socket PATH --report-fd N --memory-mb N --function-mb N\n"
	"                      --max-payload N --qos auto|0|1|2 --sandbox strict|degraded\n"
	"       iottalk-engine --probe\n"
	"Keeps engines, which evaluate graphs, for gateway-agent, which starts it.\n"
	"--probe says which layers of the sandbox this machine offers, as JSON.\n";

/* ---- options ---- */

struct row;
typedef bool read_fn(const struct row *row, const char *text, struct options *o);

struct row {
	const char *name;
	read_fn *read; /* NULL: no argument */
	unsigned min, max;
	size_t offset; /* of its member in struct options */
};

static void *member(const struct row *row, struct options *o)
{
	return (char *)o + row->offset;
}

static bool read_number(const struct row *row, const char *text, struct options *o)
{
	char *end;
	errno = 0;
	uintmax_t n = strtoumax(text, &end, 10);
	if (errno != 0 || *end != '\0' || end == text || *text == '-' || n < row->min ||
	    n > row->max) {
		fprintf(stderr, "iottalk-engine: --%s: '%s' is not a number from %u to %u\n",
			row->name, text, row->min, row->max);
		return false;
	}
	*(unsigned *)member(row, o) = (unsigned)n;
	return true;
}

static bool read_text(const struct row *row, const char *text, struct options *o)
{
	*(const char **)member(row, o) = text;
	return true;
}

static bool read_qos(const struct row *row, const char *text, struct options *o)
{
	static const char *const names[] = {"auto", "0", "1", "2"};
	for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			o->qos = i - 1;
			return true;
		}
	}
	fprintf(stderr, "iottalk-engine: --%s: '%s' is none of auto, 0, 1, 2\n", row->name, text);
	return false;
}

static bool read_sandbox(const struct row *row, const char *text, struct options *o)
{
	o->strict = strcmp(text, "strict") == 0;
	if (o->strict || strcmp(text, "degraded") == 0)
		return true;
	fprintf(stderr, "iottalk-engine: --%s: '%s' is none of strict, degraded\n", row->name,
		text);
	return false;
}

enum { ROW_PROBE, ROW_VERSION, ROW_HELP };

#define AT(m) offsetof(struct options, m)

static const struct row rows[] = {
	[ROW_PROBE] = {.name = "probe"},
	[ROW_VERSION] = {.name = "version"},
	[ROW_HELP] = {.name = "help"},
	{"socket", read_text, 0, 0, AT(socket)},
	{"report-fd", read_number, 3, 1023, AT(report_fd)},
	{"memory-mb", read_number, 32, 1u << 20, AT(memory_mb)},
	{"function-mb", read_number, 1, 1u << 20, AT(function_mb)},
	{"max-payload", read_number, 64, 64u << 20, AT(max_payload)},
	{"qos", read_qos, 0, 0, 0},
	{"sandbox", read_sandbox, 0, 0, 0},
	/* for tests: layers of the sandbox by name; how long it lives without an agent */
	{"layers", read_text, 0, 0, AT(layers)},
	{"orphan-ms", read_number, 1, 3600000, AT(orphan_ms)},
};

/* ret: -1 go on, else the exit status. */
static int read_options(int argc, char *argv[], struct options *o)
{
	struct option longs[ARRAY_LEN(rows) + 1] = {0};
	int c;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		longs[i] = (struct option){rows[i].name,
					   rows[i].read != NULL ? required_argument : no_argument,
					   NULL, (int)i};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c < 0 || c >= (int)ARRAY_LEN(rows))
			return ENGINE_EXIT_USAGE;
		if (c == ROW_HELP || c == ROW_VERSION) {
			fputs(c == ROW_HELP ? usage : "iottalk-engine " IOTTALK_VERSION "\n",
			      stdout);
			return ENGINE_EXIT_OK;
		}
		if (c == ROW_PROBE)
			o->probe = true;
		else if (!rows[c].read(&rows[c], optarg, o))
			return ENGINE_EXIT_USAGE;
	}
	if (optind < argc)
		fprintf(stderr, "iottalk-engine: '%s' is too much\n%s", argv[optind], usage);
	else if (!o->probe && o->socket == NULL)
		fprintf(stderr, "iottalk-engine: no --socket\n%s", usage);
	else
		return -1;
	return ENGINE_EXIT_USAGE;
}

static int probe(const struct options *o)
{
	struct err err = {0};
	json_t *report = sandbox_probe((size_t)o->memory_mb << 20, &err);
	if (report == NULL) {
		fprintf(stderr, "iottalk-engine: %s\n", err.text);
		return ENGINE_EXIT_START;
	}
	json_auto_t *all = json_pack("{s:o}", "layers", report);
	if (json_dumpf(all, stdout, JSON_INDENT(1)) < 0 || putchar('\n') < 0)
		return ENGINE_EXIT_START;
	return ENGINE_EXIT_OK;
}

int main(int argc, char *argv[])
{
	struct options o = {.memory_mb = 256,
			    .function_mb = 64,
			    .max_payload = 262144,
			    .orphan_ms = 60000,
			    .layers = "all",
			    .qos = -1,
			    .strict = true};
	int status = read_options(argc, argv, &o);
	if (status >= 0)
		return status;
	log_init("keeper", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	if (o.probe)
		return probe(&o);
	const struct keeper_conf conf = {
		.socket = o.socket,
		.report_fd = o.report_fd > 0 ? (int)o.report_fd : -1,
		.engine = {.memory_mb = o.memory_mb,
			   .function_mb = o.function_mb,
			   .max_payload_bytes = o.max_payload,
			   .qos = o.qos},
		.strict = o.strict,
		.layers = o.layers,
		.orphan_ms = o.orphan_ms,
	};
	_exit(keeper_run(&conf));
}
