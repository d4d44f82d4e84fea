#include "csm/agent.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "csm/graphs.h"
#include "csm/metrics.h"
#include <stdio.h>
#include <string.h>

/* With the agent at a time: enough to keep it busy, little enough that the MQTT library's queue stays short. */
#define WINDOW	  256
#define NEEDS_MAX 3 /* times an agent may say that it lacks sources for one request */

static const char *const kind_names[] = {
	[REQUEST_PUT] = "put",
	[REQUEST_DROP] = "drop",
	[REQUEST_SYNC] = "sync",
	[REQUEST_CHECK] = "check",
};

struct request {
	struct requests *all;
	enum request_kind kind;
	char id[24];
	char *graph;
	json_t *body;
	bool sent, told; /* it is with the agent; fn heard that it is late */
	unsigned needs;
	agents_answer_fn *fn;
	void *arg;
	int64_t began_us;
	struct loop_src *timer;
	struct request *prev_unsent, *next_unsent;
};

struct requests {
	struct agent *agent;
	int64_t last_id;
	struct map *by_id;
	struct map *by_graph;
	struct request *first_unsent, *last_unsent;
	size_t n_sent, open[REQUEST_CHECK + 1];
};

struct requests *requests_new(struct agent *ag)
{
	struct requests *r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	r->agent = ag;
	r->by_id = map_new();
	r->by_graph = map_new();
	return r->by_id != NULL && r->by_graph != NULL ? r : requests_free(r);
}

struct requests *requests_free(struct requests *r)
{
	if (r == NULL)
		return NULL;
	map_free(r->by_id, NULL); /* requests_fail() came first */
	map_free(r->by_graph, NULL);
	free(r);
	return NULL;
}

size_t requests_open(const struct requests *r, enum request_kind kind)
{
	return r->open[kind];
}

static void request_free(struct request *q)
{
	loop_remove(q->all->agent->csm->loop, q->timer);
	free(q->graph);
	json_decref(q->body);
	free(q);
}

static void unlink_unsent(struct request *q)
{
	struct requests *r = q->all;
	*(q->prev_unsent != NULL ? &q->prev_unsent->next_unsent : &r->first_unsent) = q->next_unsent;
	*(q->next_unsent != NULL ? &q->next_unsent->prev_unsent : &r->last_unsent) = q->prev_unsent;
}

static void link_unsent(struct request *q)
{
	struct requests *r = q->all;
	q->prev_unsent = r->last_unsent;
	*(q->prev_unsent != NULL ? &q->prev_unsent->next_unsent : &r->first_unsent) = q;
	r->last_unsent = q;
}

static void send_one(struct request *q)
{
	struct agent *ag = q->all->agent;
	if (q->kind == REQUEST_SYNC) {
		/* puts and drops have changed the list since it was made */
		json_t *ids = graphs_ids(ag->csm->graphs, ag->id);
		if (ids == NULL || json_object_set_new(q->body, "graphs", ids) < 0) {
			log_error("agent.sync_failed", KV("agent", ag->id), KV("why", "out of memory"));
			return; /* the timer tries again */
		}
	}
	agent_send(ag, q->body);
}

static void send_more(struct requests *r)
{
	while (r->first_unsent != NULL && r->n_sent < WINDOW) {
		struct request *q = r->first_unsent;
		unlink_unsent(q);
		q->sent = true;
		r->n_sent++;
		send_one(q);
	}
}

/* Take q out and tell its owner, finally. */
static void finish(struct request *q, json_t *answer, const char *why)
{
	struct requests *r = q->all;
	agents_answer_fn *fn = q->fn;
	void *arg = q->arg;
	map_remove(r->by_id, q->id);
	if (q->graph != NULL)
		map_remove(r->by_graph, q->graph);
	if (q->sent)
		r->n_sent--;
	else
		unlink_unsent(q);
	r->open[q->kind]--;
	request_free(q);
	if (fn != NULL)
		fn(arg, answer, why, true);
	send_more(r);
}

static void on_timer(void *arg)
{
	struct request *q = arg;
	struct csm *csm = q->all->agent->csm;
	bool first = !q->told;
	static const char why[] = "no answer from the agent in time";
	if (q->kind == REQUEST_CHECK) {
		finish(q, NULL, why);
		return;
	}
	q->told = true;
	loop_arm(csm->loop, q->timer, csm->settings->core.agent_timeout_ms);
	if (q->sent)
		send_one(q);
	if (first && q->fn != NULL)
		q->fn(q->arg, NULL, why, false); /* may end q: last */
}

void requests_add(struct requests *r, enum request_kind kind, const char *graph, json_t *body,
		  agents_answer_fn *fn, void *arg)
{
	struct csm *csm = r->agent->csm;
	struct request *older = graph != NULL ? map_find(r->by_graph, graph) : NULL;
	struct request *q = body != NULL ? calloc(1, sizeof(*q)) : NULL;
	if (older != NULL)
		finish(older, NULL, "superseded");
	if (q == NULL) {
		json_decref(body);
		if (fn != NULL)
			fn(arg, NULL, AGENTS_NO_MEMORY, true);
		return;
	}
	*q = (struct request){
		.all = r, .kind = kind, .body = body, .fn = fn, .arg = arg, .began_us = monotonic_us()};
	snprintf(q->id, sizeof(q->id), "%lld", (long long)++r->last_id);
	q->graph = graph != NULL ? strdup(graph) : NULL;
	if ((graph != NULL && q->graph == NULL) ||
	    json_object_set_new(body, "id", json_integer(r->last_id)) < 0 ||
	    loop_add_timer(csm->loop, csm->settings->core.agent_timeout_ms, 0, on_timer, q, &q->timer,
			   NULL) < 0 ||
	    map_add(r->by_id, q->id, q) < 0) {
		request_free(q);
		if (fn != NULL)
			fn(arg, NULL, AGENTS_NO_MEMORY, true);
		return;
	}
	if (q->graph != NULL && map_add(r->by_graph, q->graph, q) < 0) {
		map_remove(r->by_id, q->id);
		request_free(q);
		if (fn != NULL)
			fn(arg, NULL, AGENTS_NO_MEMORY, true);
		return;
	}
	r->open[kind]++;
	link_unsent(q);
	send_more(r);
}

/* The agent lacks sources, against our record. */
static void send_needed(struct request *q, json_t *digests)
{
	struct agent *ag = q->all->agent;
	bool have_all = ++q->needs <= NEEDS_MAX;
	size_t i;
	json_t *digest;
	json_array_foreach (digests, i, digest) {
		const char *text = json_string_value(digest);
		if (text == NULL)
			continue;
		free(map_remove(ag->sent, text));
		have_all = have_all && agent_send_source(ag, text);
	}
	if (have_all) {
		send_one(q);
		return;
	}
	json_auto_t *refusal = json_pack("{s:s, s:s}", "state", "error", "reason",
					 "the source of a function is not known any more");
	finish(q, refusal, refusal == NULL ? "out of memory" : NULL);
}

bool requests_answer(struct requests *r, json_int_t id, json_t *answer)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)id);
	struct request *q = map_find(r->by_id, text);
	const char *state = json_string_value(json_object_get(answer, "state"));
	if (q == NULL)
		return false;
	if (state != NULL && strcmp(state, "need") == 0) {
		send_needed(q, json_object_get(answer, "digests"));
	} else {
		metrics_agent(r->agent->csm->metrics, kind_names[q->kind], monotonic_us() - q->began_us);
		finish(q, answer, NULL);
	}
	return true;
}

void requests_fail(struct requests *r, const char *why)
{
	/* those that were never sent first, or finishing the others would send them */
	while (r->first_unsent != NULL)
		finish(r->first_unsent, NULL, why);
	for (struct request *q = map_first(r->by_id); q != NULL; q = map_first(r->by_id))
		finish(q, NULL, why);
}
