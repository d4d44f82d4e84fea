/* iottalk-engine - evaluates graphs; started by the gateway agent, with descriptors 3 to 7
 * (docs/graph-document.rst). */
#include "common/log.h"
#include "common/util.h"
#include "engine/engine.h"
#include "engine/sanitizer.h"
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

SANITIZER_OPTIONS

struct number_option {
	const char *name;
	unsigned min, max;
	size_t offset; /* of an unsigned in struct options */
};

struct options {
	unsigned budget_ms, memory_mb, max_payload;
	int qos;
};

static const struct number_option numbers[] = {
	{"budget-ms", 1, 3600000, offsetof(struct options, budget_ms)},
	{"memory-mb", 32, 1u << 20, offsetof(struct options, memory_mb)},
	{"max-payload", 1024, 64u << 20, offsetof(struct options, max_payload)},
};

static const char *const qos_names[] = {"auto", "0", "1", "2"};

static const char usage[] =
	"usage: iottalk-engine --budget-ms N --memory-mb N --max-payload N --qos auto|0|1|2\n"
	"Evaluates graphs for gateway-agent, which starts it with descriptors 3 to 7:\n"
	"control socket, in-memfd, out-memfd, wake pipe (read), result pipe (write).\n";

static bool read_number(const struct number_option *row, const char *text, struct options *o)
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
	*(unsigned *)(void *)((char *)o + row->offset) = (unsigned)n;
	return true;
}

static bool read_qos(const char *text, struct options *o)
{
	for (int i = 0; i < (int)ARRAY_LEN(qos_names); i++) {
		if (strcmp(text, qos_names[i]) == 0) {
			o->qos = i - 1;
			return true;
		}
	}
	fprintf(stderr, "iottalk-engine: --qos: '%s' is none of auto, 0, 1, 2\n", text);
	return false;
}

/* ret: -1 go on, else the exit status. */
static int read_options(int argc, char *argv[], struct options *o)
{
	enum { QOS = ARRAY_LEN(numbers), VERSION_, HELP };
	static const struct option longs[] = {
		{"budget-ms", required_argument, NULL, 0},
		{"memory-mb", required_argument, NULL, 1},
		{"max-payload", required_argument, NULL, 2},
		{"qos", required_argument, NULL, QOS},
		{"version", no_argument, NULL, VERSION_},
		{"help", no_argument, NULL, HELP},
		{0},
	};
	int c;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == HELP || c == VERSION_) {
			fputs(c == HELP ? usage : "iottalk-engine " IOTTALK_VERSION "\n", stdout);
			return ENGINE_EXIT_OK;
		}
		bool fine = c == QOS ? read_qos(optarg, o)
				     : c >= 0 && c < (int)ARRAY_LEN(numbers) &&
					       read_number(&numbers[c], optarg, o);
		if (!fine)
			return ENGINE_EXIT_USAGE;
	}
	if (optind < argc) {
		fprintf(stderr, "iottalk-engine: '%s' is too much\n%s", argv[optind], usage);
		return ENGINE_EXIT_USAGE;
	}
	return -1;
}

int main(int argc, char *argv[])
{
	struct options o = {.budget_ms = 1000, .memory_mb = 256, .max_payload = 262144, .qos = -1};
	int status = read_options(argc, argv, &o);
	if (status >= 0)
		return status;
	log_init("engine", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	const struct engine_conf conf = {
		.budget_ms = o.budget_ms,
		.memory_mb = o.memory_mb,
		.max_payload_bytes = o.max_payload,
		.qos = o.qos,
	};
	_exit(engine_run(&conf));
}
