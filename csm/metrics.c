#include "csm/metrics.h"

#include "common/map.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/graphs.h"
#include "csm/links.h"
#include "csm/registry.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

#define SERIES_MAX 2000 /* bound on what names can make us keep */

struct series {
	uint64_t count;
	char key[]; /* name{labels} */
};

struct metrics {
	struct map *series;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof(*m));
	if (m != NULL && (m->series = map_new()) == NULL)
		m = metrics_free(m);
	return m;
}

struct metrics *metrics_free(struct metrics *m)
{
	if (m == NULL)
		return NULL;
	map_free(m->series, free);
	free(m);
	return NULL;
}

static void count(struct metrics *m, const char *key)
{
	struct series *s = map_find(m->series, key);
	if (s == NULL) {
		size_t len = strlen(key) + 1;
		if (map_count(m->series) >= SERIES_MAX)
			return;
		s = calloc(1, sizeof(*s) + len);
		if (s == NULL)
			return; /* a count lost, nothing else */
		memcpy(s->key, key, len);
		if (map_add(m->series, s->key, s) < 0) {
			free(s);
			return;
		}
	}
	s->count++;
}

void metrics_http(struct metrics *m, const char *method, unsigned status)
{
	char key[128];
	static const char *const known[] = {"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD"};
	const char *name = "other";
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(method, known[i]) == 0)
			name = known[i];
	snprintf(key, sizeof(key), "iottalk_http_requests_total{method=\"%s\",status=\"%u\"}", name,
		 status);
	count(m, key);
}

void metrics_api(struct metrics *m, const char *service, const char *op, const char *state)
{
	char key[192];
	snprintf(key, sizeof(key),
		 "iottalk_api_requests_total{service=\"%s\",op=\"%s\",state=\"%s\"}", service, op,
		 state);
	count(m, key);
}

void metrics_drop(struct metrics *m, const char *source, const char *reason)
{
	char key[192];
	snprintf(key, sizeof(key), "iottalk_drops_total{source=\"%s\",reason=\"%s\"}", source,
		 reason);
	count(m, key);
}

struct page {
	FILE *out;
	size_t type_len;	/* of the metric name whose TYPE line was written last */
	const char *type_of;
};

static void write_series(void *arg, const char *key, void *value)
{
	struct page *p = arg;
	const struct series *s = value;
	size_t len = strcspn(key, "{");
	if (p->type_of == NULL || len != p->type_len || strncmp(p->type_of, key, len) != 0) {
		fprintf(p->out, "# TYPE %.*s counter\n", (int)len, key);
		p->type_of = key;
		p->type_len = len;
	}
	fprintf(p->out, "%s %llu\n", key, (unsigned long long)s->count);
}

static void gauge(FILE *out, const char *name, const char *help, double value)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %.15g\n", name, help, name, name, value);
}

char *metrics_page(struct csm *csm)
{
	char *text = NULL;
	size_t size;
	struct page p = {.out = open_memstream(&text, &size)};
	struct bus_stats bus = {0};
	if (p.out == NULL)
		return NULL;
	bus_get_stats(csm->bus, &bus);
	gauge(p.out, "iottalk_registrations", "Registered device applications.",
	      (double)registry_count(csm->registry));
	gauge(p.out, "iottalk_online", "Device applications that are online.",
	      (double)registry_online(csm->registry));
	gauge(p.out, "iottalk_links", "Links (device application, feature, mode) in use by graphs.",
	      (double)links_count(csm->links));
	gauge(p.out, "iottalk_graphs", "Attached graphs.", (double)graphs_count(csm->graphs));
	gauge(p.out, "iottalk_bus_up", "1 while the broker is connected.", bus.up);
	gauge(p.out, "iottalk_store_ok", "1 while the store takes changes.",
	      store_trouble(csm->store) == NULL);
	gauge(p.out, "iottalk_uptime_seconds", "Seconds since start.",
	      (double)(loop_now_ms(csm->loop) - csm->started_ms) / 1000);
	fprintf(p.out, "# TYPE iottalk_bus_dropped_inbound_total counter\n"
		       "iottalk_bus_dropped_inbound_total %llu\n",
		(unsigned long long)bus.dropped_inbound);
	map_each(csm->metrics->series, write_series, &p);
	agents_write_metrics(csm->agents, p.out);
	if (fclose(p.out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
