#include "ccm/web/metrics.h"

#include "ccm/gui/gui.h"
#include "common/exposition.h"
#include "common/histogram.h"
#include "common/util.h"
#include <inttypes.h>
#include <string.h>

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "OTHER"};
static const char *const cuts[] = {"slow", "gone", "full", "memory"};
#define STATUS_MIN 100
#define STATUS_MAX 600

struct web_metrics {
	uint64_t requests[ARRAY_LEN(methods)][STATUS_MAX - STATUS_MIN];
	struct histogram took[ARRAY_LEN(methods)];
	uint64_t cut[ARRAY_LEN(cuts)];
};

struct web_metrics *web_metrics_new(void)
{
	return calloc(1, sizeof(struct web_metrics));
}

struct web_metrics *web_metrics_free(struct web_metrics *m)
{
	free(m);
	return NULL;
}

void web_metrics_http(struct web_metrics *m, const struct http_done *done)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		if (strcmp(methods[i], done->method) != 0 || done->status < STATUS_MIN || done->status >= STATUS_MAX)
			continue;
		m->requests[i][done->status - STATUS_MIN]++;
		if (done->took_us >= 0)
			histogram_observe(&m->took[i], done->took_us);
	}
}

void web_metrics_cut(struct web_metrics *m, const char *why)
{
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++)
		m->cut[i] += strcmp(cuts[i], why) == 0;
}

static void write_http(const struct web_metrics *m, FILE *out)
{
	exposition_head(out, "iottalk_ccm_http_requests_total", "counter", "HTTP requests that got an answer.");
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		for (unsigned s = 0; s < STATUS_MAX - STATUS_MIN; s++)
			if (m->requests[i][s] > 0)
				fprintf(out, "iottalk_ccm_http_requests_total{method=\"%s\",status=\"%u\"} %" PRIu64 "\n", methods[i],
					s + STATUS_MIN, m->requests[i][s]);
	exposition_head(out, "iottalk_ccm_http_request_seconds", "histogram", "From a complete HTTP request to its answer, with the commit.");
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		char label[32];
		snprintf(label, sizeof(label), "method=\"%s\"", methods[i]);
		if (histogram_count(&m->took[i]) > 0)
			histogram_write(&m->took[i], out, "iottalk_ccm_http_request_seconds", label);
	}
	exposition_head(out, "iottalk_ccm_http_cut_total", "counter", "Connections closed because of their client, by why.");
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++)
		fprintf(out, "iottalk_ccm_http_cut_total{reason=\"%s\"} %" PRIu64 "\n", cuts[i], m->cut[i]);
}

char *web_metrics_page(const struct web_metrics *m, struct ccm *ccm, const struct http_server *http)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return NULL;
	exposition_one(out, "iottalk_ccm_bus_up", "gauge", "1 while the broker is connected.", ccm->bus != NULL && bus_is_up(ccm->bus));
	exposition_one(out, "iottalk_ccm_http_connections", "gauge", "Open HTTP connections.", (double)http_connections(http));
	exposition_one(out, "iottalk_ccm_uptime_seconds", "gauge", "Seconds since start.", (double)(loop_now_ms(ccm->loop) - ccm->started_ms) / 1000);
	exposition_process(out, "ccm");
	write_http(m, out);
	gui_write_metrics(ccm->gui, out);
	bool whole = ferror(out) == 0;
	if (fclose(out) != 0 || !whole) {
		free(text);
		return NULL;
	}
	return text;
}
