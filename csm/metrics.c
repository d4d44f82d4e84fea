#include "csm/metrics.h"

#include "common/exposition.h"
#include "common/histogram.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/graphs.h"
#include "csm/links.h"
#include "csm/registry.h"
#include "csm/store.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SERIES_MAX 2000 /* bound on what names can make us keep */

enum family {
	HTTP_REQUESTS,
	HTTP_SECONDS,
	API_REQUESTS,
	API_SECONDS,
	COMMANDS,
	COMMAND_SECONDS,
	AGENT_SECONDS,
	COMMIT_SECONDS,
	STATEMENTS,
	ROLLBACKS,
	DROPS,
	FAMILIES
};

static const struct {
	const char *name;
	enum { COUNTER, HISTOGRAM } type;
	const char *help;
} families[FAMILIES] = {
	[HTTP_REQUESTS] = {"iottalk_http_requests_total", COUNTER, "HTTP requests that got an answer."},
	[HTTP_SECONDS] = {"iottalk_http_request_seconds", HISTOGRAM,
			  "From a complete HTTP request to its answer, with the commit."},
	[API_REQUESTS] = {"iottalk_api_requests_total", COUNTER, "Requests of the MQTT API that got an answer."},
	[API_SECONDS] = {"iottalk_api_request_seconds", HISTOGRAM,
			 "From a request of the MQTT API to its answer, with commit and agent."},
	[COMMANDS] = {"iottalk_control_commands_total", COUNTER, "Commands to devices that are over, by what became of them."},
	[COMMAND_SECONDS] = {"iottalk_control_round_trip_seconds", HISTOGRAM, "From a command to the device's answer."},
	[AGENT_SECONDS] = {"iottalk_agent_round_trip_seconds", HISTOGRAM,
			   "From a request to an agent (put: a proposal) to its answer."},
	[COMMIT_SECONDS] = {"iottalk_store_commit_seconds", HISTOGRAM, "Time of a commit; all requests of a moment share one."},
	[STATEMENTS] = {"iottalk_store_statements_total", COUNTER, "Changes written to the store."},
	[ROLLBACKS] = {"iottalk_store_failures_total", COUNTER, "Transactions that the store did not take."},
	[DROPS] = {"iottalk_drops_total", COUNTER, "What was thrown away, by where it came from and why."},
};

struct series {
	union {
		uint64_t count;
		struct histogram times;
	};
	char labels[];
};

struct metrics {
	struct map *series[FAMILIES]; /* by labels */
	size_t n;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return NULL;
	for (size_t i = 0; i < FAMILIES; i++)
		if ((m->series[i] = map_new()) == NULL)
			return metrics_free(m);
	return m;
}

struct metrics *metrics_free(struct metrics *m)
{
	if (m == NULL)
		return NULL;
	for (size_t i = 0; i < FAMILIES; i++)
		map_free(m->series[i], free);
	free(m);
	return NULL;
}

/* ret: NULL if there is no room for it: a count lost, nothing else. */
static struct series *find(struct metrics *m, enum family f, const char *labels)
{
	struct series *s = map_find(m->series[f], labels);
	size_t len = strlen(labels) + 1;
	if (s != NULL || m->n >= SERIES_MAX)
		return s;
	s = calloc(1, sizeof(*s) + len);
	if (s == NULL)
		return NULL;
	memcpy(s->labels, labels, len);
	if (map_add(m->series[f], s->labels, s) < 0) {
		free(s);
		return NULL;
	}
	m->n++;
	return s;
}

static void count(struct metrics *m, enum family f, const char *labels, uint64_t n)
{
	struct series *s = find(m, f, labels);
	if (s != NULL)
		s->count += n;
}

static void observe(struct metrics *m, enum family f, const char *labels, int64_t us)
{
	struct series *s = find(m, f, labels);
	if (s != NULL)
		histogram_observe(&s->times, us);
}

void metrics_http(struct metrics *m, const struct http_done *done)
{
	char labels[64];
	snprintf(labels, sizeof(labels), "method=\"%s\",status=\"%u\"", done->method, done->status);
	count(m, HTTP_REQUESTS, labels, 1);
	snprintf(labels, sizeof(labels), "method=\"%s\"", done->method);
	if (done->took_us >= 0)
		observe(m, HTTP_SECONDS, labels, done->took_us);
}

void metrics_api(struct metrics *m, const char *service, const char *op, const char *state, int64_t took_us)
{
	char labels[128];
	snprintf(labels, sizeof(labels), "service=\"%s\",op=\"%s\",state=\"%s\"", service, op, state);
	count(m, API_REQUESTS, labels, 1);
	snprintf(labels, sizeof(labels), "service=\"%s\",op=\"%s\"", service, op);
	observe(m, API_SECONDS, labels, took_us);
}

void metrics_command(struct metrics *m, const char *command, const char *result, int64_t took_us)
{
	char labels[96];
	snprintf(labels, sizeof(labels), "command=\"%s\",result=\"%s\"", command, result);
	count(m, COMMANDS, labels, 1);
	snprintf(labels, sizeof(labels), "command=\"%s\"", command);
	if (strcmp(result, "timeout") != 0)
		observe(m, COMMAND_SECONDS, labels, took_us);
}

void metrics_agent(struct metrics *m, const char *op, int64_t took_us)
{
	char labels[32];
	snprintf(labels, sizeof(labels), "op=\"%s\"", op);
	observe(m, AGENT_SECONDS, labels, took_us);
}

void metrics_commit(struct metrics *m, bool stored, uint64_t statements, int64_t took_us)
{
	if (!stored) {
		count(m, ROLLBACKS, "", 1);
		return;
	}
	observe(m, COMMIT_SECONDS, "", took_us);
	count(m, STATEMENTS, "", statements);
}

void metrics_drop(struct metrics *m, const char *source, const char *reason)
{
	char labels[128];
	snprintf(labels, sizeof(labels), "source=\"%s\",reason=\"%s\"", source, reason);
	count(m, DROPS, labels, 1);
}

/* ---- the page ---- */

struct writing {
	FILE *out;
	enum family family;
};

static void write_series(void *arg, const char *key, void *value)
{
	const struct writing *w = arg;
	const struct series *s = value;
	const char *name = families[w->family].name;
	if (families[w->family].type == HISTOGRAM)
		histogram_write(&s->times, w->out, name, key);
	else if (*key == '\0')
		fprintf(w->out, "%s %" PRIu64 "\n", name, s->count);
	else
		fprintf(w->out, "%s{%s} %" PRIu64 "\n", name, key, s->count);
}

char *metrics_page(struct csm *csm)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct bus_stats bus = {0};
	if (out == NULL)
		return NULL;
	bus_get_stats(csm->bus, &bus);
	const struct {
		const char *name, *type, *help;
		double value;
	} rows[] = {
		{"iottalk_registrations", "gauge", "Registered device applications.",
		 (double)registry_count(csm->registry)},
		{"iottalk_online", "gauge", "Device applications that are online.",
		 (double)registry_online(csm->registry)},
		{"iottalk_links", "gauge", "Links (device application, feature, mode) in use by graphs.",
		 (double)links_count(csm->links)},
		{"iottalk_graphs", "gauge", "Attached graphs.", (double)graphs_count(csm->graphs)},
		{"iottalk_bus_up", "gauge", "1 while the broker is connected.", bus.up},
		{"iottalk_bus_dropped_inbound_total", "counter", "Messages of the broker that found no room.",
		 (double)bus.dropped_inbound},
		{"iottalk_store_ok", "gauge", "1 while the store takes changes.", store_trouble(csm->store) == NULL},
		{"iottalk_http_connections", "gauge", "Open HTTP connections.", (double)http_connections(csm->http)},
		{"iottalk_uptime_seconds", "gauge", "Seconds since start.",
		 (double)(loop_now_ms(csm->loop) - csm->started_ms) / 1000},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		exposition_one(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
	exposition_process(out, "csm");
	for (enum family f = 0; f < FAMILIES; f++) {
		struct writing w = {.out = out, .family = f};
		exposition_head(out, families[f].name, families[f].type == HISTOGRAM ? "histogram" : "counter",
				families[f].help);
		map_each(csm->metrics->series[f], write_series, &w);
	}
	agents_write_metrics(csm->agents, out);
	bool whole = ferror(out) == 0;
	if (fclose(out) != 0 || !whole) {
		free(text);
		return NULL;
	}
	return text;
}
