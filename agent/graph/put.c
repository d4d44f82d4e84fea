#include "agent/graph/graph.h"
#include "agent/graph/pool.h"
#include "agent/graph/quarantine.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

const char put_no_topic[] = "the broker did not let a data topic be subscribed";

/* ---- topics of a document ---- */

static void on_tapped(void *arg, int rc)
{
	struct graph *g = arg;

	if (rc < 0)
		g->tap_rc = rc;
	if (--g->taps_waiting == 0)
		graph_run(g);
}

static void on_out(void *arg, int rc)
{
	struct graph *g = arg;

	if (rc < 0)
		g->tap_rc = rc;
	if (--g->outs_waiting == 0)
		graph_run(g);
}

static int take_out(struct graph *g, struct place *p, const char *topic, uint32_t *ret_slot,
		    struct err *err)
{
	int rc = g->s->ops->out_topic(p->port, topic, ret_slot, on_out, g, err);

	if (rc == 0)
		g->outs_waiting++;
	return rc;
}

int put_take_topics(struct graph *g, struct place *p, struct err *err)
{
	const struct transport_ops *ops = g->s->ops;
	struct job *job = g->first;

	for (size_t i = 0; i < job->doc->n_links; i++) {
		struct doc_link *link = &job->doc->links[i];
		int rc = link->odf ? take_out(g, p, link->topic, &link->slot, err)
				   : ops->tap_topic(p->port, link->topic, &link->slot, on_tapped, g,
						    err);
		if (rc < 0)
			return rc;
		job->taken++;
		if (!link->odf)
			g->taps_waiting++;
	}
	if (job->doc->monitor == NULL)
		return 0;
	int rc = take_out(g, p, job->doc->monitor, &job->doc->monitor_slot, err);
	job->monitor_taken = rc == 0;
	return rc;
}

void put_release_in(struct place *p, const struct doc *doc, size_t n_links)
{
	for (size_t i = 0; i < n_links; i++)
		if (!doc->links[i].odf)
			p->s->ops->untap_topic(p->port, doc->links[i].topic);
}

void put_release_out(struct place *p, const struct doc *doc, size_t n_links, bool monitor)
{
	for (size_t i = 0; i < n_links; i++)
		if (doc->links[i].odf)
			p->s->ops->drop_out_topic(p->port, doc->links[i].topic);
	if (monitor)
		p->s->ops->drop_out_topic(p->port, doc->monitor);
}

void put_drop_running(struct graph *g)
{
	if (g->running != NULL) {
		put_release_in(g->place, g->running, g->running->n_links);
		put_release_out(g->place, g->running, g->running->n_links,
				g->running->monitor != NULL);
	}
	g->running = doc_free(g->running);
	free(g->refused);
	g->refused = NULL;
}

/* ---- answers ---- */

/* answer: taken; gets the graph's id and the revision asked for. */
static void put_answer(struct graph *g, json_t *answer)
{
	const struct job *job = g->first;

	if (answer != NULL) {
		json_object_set_new(answer, "graph", json_string(g->id));
		json_object_set_new(answer, "rev", json_integer(job->rev));
	}
	if (job->answered)
		service_answer(g->s, &job->tag, answer);
	else
		json_decref(answer);
}

void put_refused_over(struct graph *g)
{
	struct job *job = g->first;

	if (job->taken > 0 || job->monitor_taken) {
		put_release_in(g->place, job->doc, job->taken);
		put_release_out(g->place, job->doc, job->taken, job->monitor_taken);
	}
	graph_job_done(g);
}

void put_refused(struct graph *g, const char *reason, json_t *where)
{
	struct job *job = g->first;

	if (job->kind == JOB_REFRESH) {
		/* what the engine has goes on; if it fell, the next one gets it as it should be */
		log_error("graph.not_refreshed", KV("graph", g->id), KV("why", reason));
		graph_job_done(g);
		return;
	}
	if (job->kind == JOB_MOVE) {
		g->running = TAKE(job->doc); /* its topics stay its own */
		graph_refuse(g, reason);
		graph_job_done(g);
		return;
	}
	log_info("graph.refused", KV("graph", g->id), KV("rev", job->rev),
		 KV("trace", job->tag.trace.s));
	json_t *answer = json_pack("{s:s, s:s}", "state", "error", "reason", reason);
	if (where != NULL)
		json_object_set(answer, "where", where);
	put_answer(g, answer);
	/* A topic that is not acknowledged yet is not given back: the acknowledgement would find
	 * nobody. */
	if (g->taps_waiting > 0 || g->outs_waiting > 0)
		graph_set_stage(g, GRAPH_REFUSED);
	else
		put_refused_over(g);
}

void put_confirmed(struct graph *g)
{
	struct job *job = g->first;

	if (g->tap_rc < 0 && job->kind == JOB_PUT) {
		/* Too late for the old revision, and half a graph is none. */
		put_answer(g, json_pack("{s:s, s:s}", "state", "error", "reason", put_no_topic));
		job->kind = JOB_DROP;
		job->answered = false;
		graph_set_stage(g, GRAPH_IDLE);
		return;
	}
	/* what nobody asked for just now is a graph of an earlier session: there may be thousands
	 */
	LOG_AT(job->tag.trace.s[0] != '\0' ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "graph.running",
	       KV("graph", g->id), KV("rev", g->running->rev), KV("trace", job->tag.trace.s));
	put_answer(g, json_pack("{s:s}", "state", "ok"));
	graph_job_done(g);
}

/* ---- into force ---- */

struct missing {
	const struct funcs *funcs;
	json_t *digests;
};

static void note_missing(void *arg, const char *digest)
{
	struct missing *m = arg;
	size_t len, i;
	json_t *known;

	if (funcs_find(m->funcs, digest, &len) != NULL)
		return;
	json_array_foreach (m->digests, i, known) {
		if (strcmp(json_string_value(known), digest) == 0)
			return;
	}
	json_array_append_new(m->digests, json_string(digest));
}

/* ret: true if the answer was `need`. */
static bool put_needs(struct graph *g)
{
	json_auto_t *digests = json_array();
	struct missing missing = {.funcs = g->s->funcs, .digests = digests};

	doc_each_digest(g->first->doc, note_missing, &missing);
	if (json_array_size(digests) == 0)
		return false;
	log_debug("graph.needs", KV("graph", g->id), KV("sources", json_array_size(digests)),
		  KV("trace", g->first->tag.trace.s));
	put_answer(g, json_pack("{s:s, s:O}", "state", "need", "digests", digests));
	graph_job_done(g);
	return true;
}

/* A graph of which nothing runs goes where its owner's graphs are. */
static int find_place(struct graph *g, struct err *err)
{
	const struct doc *doc = g->first->doc;
	struct place *p = g->place;

	if (g->running != NULL)
		return 0;
	int rc = pool_place(g->s, doc->id, doc->owner, &p, err);
	if (rc < 0 || p == g->place)
		return rc;
	place_leave(g);
	place_join(p, g);
	return 0;
}

void put_start(struct graph *g)
{
	struct job *job = g->first;
	struct err err = {0};

	g->tap_rc = 0;
	if (g->running != NULL && job->rev < g->running->rev) {
		put_refused(g, "stale revision", NULL);
		return;
	}
	if (g->running != NULL && job->rev == g->running->rev && g->refused == NULL) {
		put_confirmed(g);
		return;
	}
	if (put_needs(g))
		return;
	if (find_place(g, &err) < 0) {
		put_refused(g, err.text, NULL);
		return;
	}
	int rc = put_take_topics(g, g->place, &err);
	if (rc < 0) {
		/* What was tapped already is given back when all its acknowledgements are here. */
		log_warn("graph.tap_failed", KV("graph", g->id), KV("why", err.text));
		g->tap_rc = rc;
	}
	graph_set_stage(g, GRAPH_TAPPING);
}

void put_tapped(struct graph *g)
{
	if (g->tap_rc < 0) {
		put_refused(g, put_no_topic, NULL);
		return;
	}
	graph_set_stage(g, GRAPH_LOADING);
	graph_ask_load(g);
}

void put_loaded(struct graph *g, json_t *answer)
{
	struct job *job = g->first;
	json_t *where = json_object_get(answer, "where");
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));
	bool first = g->running == NULL;

	if (state == NULL || strcmp(state, "ok") != 0) {
		put_refused(g, reason != NULL ? reason : "the engine gave no reason", where);
		return;
	}
	g->index = (uint32_t)json_integer_value(json_object_get(answer, "index"));
	if (job->kind == JOB_REFRESH) {
		graph_job_done(g);
		return;
	}
	put_drop_running(g);
	g->running = TAKE(job->doc);
	if (first) {
		g->seen_ms = loop_now_ms(g->s->loop);
		g->seen_evaluated = 0;
	}
	/* before the answer: who hears it finds the states of its links as they are now */
	quarantine_revise(g);
	graph_set_stage(g, GRAPH_CONFIRMING);
}
