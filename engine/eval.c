#include "engine/eval.h"

#include "engine/pass.h"
#include "engine/payload.h"
#include <stdio.h>
#include <time.h>

int eval_init(struct eval *ev, struct py *py, struct graphs *gs, const struct eval_sink *sink,
	      int qos, size_t max_payload, struct err *err)
{
	/* so that an esm_error, or an esm_print, fits into a message */
	size_t reason = max_payload / 3 < PY_REASON_MAX ? max_payload / 3 : PY_REASON_MAX;
	*ev = (struct eval){.py = py, .graphs = gs, .sink = *sink, .qos = qos};
	int rc = text_init(&ev->out, max_payload, err);
	if (rc == 0)
		rc = text_init(&ev->monitor, max_payload, err);
	if (rc == 0)
		rc = text_init(&ev->why, reason, err);
	if (rc == 0)
		rc = text_init(&ev->printed, reason, err);
	if (rc < 0)
		eval_done(ev);
	return rc;
}

void eval_done(struct eval *ev)
{
	vals_done(&ev->values);
	vals_done(&ev->args);
	text_done(&ev->out);
	text_done(&ev->monitor);
	text_done(&ev->why);
	text_done(&ev->printed);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Steps 2 to 8 in one graph. */
static int run_graph(struct eval *ev, const struct tap_rec *rec, struct link *idf)
{
	struct pass p = {
		.ev = ev, .rec = rec, .graph = idf->graph, .idf = idf, .n_values = ev->values.n};
	if (idf->param_no >= 0) {
		size_t want = (size_t)idf->param_no + (size_t)idf->tag_param_no;
		if (ev->values.n != want) {
			char why[120];
			eval_pause(ev);
			snprintf(why, sizeof(why),
				 "message dropped: it has %zu values, not %d and a tag of %d",
				 ev->values.n, idf->param_no, idf->tag_param_no);
			return pass_drop(&p, TAP_IDF, &idf->use, DROP_WRONG_LENGTH, why);
		}
		p.n_values = (size_t)idf->param_no;
		p.tag = ev->values.v + p.n_values;
		p.n_tag = (size_t)idf->tag_param_no;
	}
	if (ev->mark_ns == 0)
		ev->mark_ns = now_ns();
	ev->stats.evaluated++;
	p.graph->stats->evaluated++;
	monitor_begin(&p.monitor, p.graph->monitored ? &ev->monitor : NULL, idf);
	int rc = pass_run(&p);
	if (rc == 0 && p.monitor.out != NULL)
		rc = pass_publish_monitor(&p, &ev->monitor, monitor_end(&p.monitor));
	int64_t now = now_ns();
	stats_add_time(p.graph->stats, now - ev->mark_ns);
	ev->mark_ns = now;
	return rc;
}

/* ---- messages ---- */

/* The message is unusable for everybody. */
static int drop_everywhere(struct eval *ev, const struct tap_rec *rec, const struct feeds *feeds,
			   enum eval_drop d, const char *reason)
{
	int rc = 0;
	eval_pause(ev);
	for (size_t i = 0; rc == 0 && i < feeds->n; i++) {
		struct pass p = {.ev = ev,
				 .rec = rec,
				 .graph = feeds->link[i]->graph,
				 .idf = feeds->link[i]};
		rc = pass_drop_shared(&p, d, reason);
	}
	ev->stats.drops[d]++;
	return rc;
}

static int drop_unread(struct eval *ev, const struct tap_rec *rec, const struct feeds *feeds,
		       int code, const char *why)
{
	char reason[300];
	if (code == ERR_NOMEM)
		return drop_everywhere(ev, rec, feeds, DROP_NO_MEMORY,
				       "message dropped: out of memory");
	snprintf(reason, sizeof(reason), "message dropped: it is not JSON: %.200s", why);
	for (char *c = reason; *c != '\0'; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?'; /* the parser quotes what it could not read, in pieces */
	return drop_everywhere(ev, rec, feeds, DROP_NOT_JSON, reason);
}

static int run_graphs(struct eval *ev, const struct tap_rec *rec, const struct feeds *feeds,
		      struct payload *read)
{
	int rc = run_graph(ev, rec, feeds->link[0]);
	for (size_t i = 1; rc == 0 && i < feeds->n; i++) {
		struct err err;
		/* what one graph's functions may have changed is not shown to the next one's */
		rc = payload_renew(read, &ev->values, &err);
		if (rc < 0)
			return drop_unread(ev, rec, feeds, rc, err.text);
		rc = run_graph(ev, rec, feeds->link[i]);
	}
	return rc;
}

int eval_message(struct eval *ev, const struct tap_rec *rec, const char *payload)
{
	struct payload read;
	struct err err; /* set where one is made */
	const struct feeds *feeds = graphs_feeds(ev->graphs, rec->slot);
	if (feeds == NULL) {
		ev->stats.drops[DROP_NO_LINK]++;
		return 0;
	}
	if (payload == NULL)
		return drop_everywhere(ev, rec, feeds, DROP_TOO_LARGE,
				       "message dropped: it is too long");
	if (ev->mark_ns == 0)
		ev->mark_ns = now_ns();
	int rc = payload_read(&read, payload, rec->len, &ev->values, &err);
	if (rc < 0)
		rc = drop_unread(ev, rec, feeds, rc, err.text);
	else
		rc = run_graphs(ev, rec, feeds, &read);
	payload_done(&read);
	vals_clear(&ev->values);
	return rc;
}
