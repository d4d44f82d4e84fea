#include "csm/graph_propose.h"

#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/funcs.h"
#include "csm/graph_ops.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

/* A message to an agent must fit into what the broker takes, with its seal. */
#define SEAL_ROOM 1024

#define UNSAVED_AGAIN_MS 5000
#define AGAIN_MS 200 /* what lacked memory */

static void pump(struct graph *g);
static void send_proposal(struct graph *g);
static void answer_late(struct graph *g);

bool graph_is_known(const struct graph *g)
{
	return graphdoc_rev(g->confirmed) > 0 || g->proposed != NULL;
}

/* ---- answers ---- */

static void answer(struct graph_request *r, const char *reason, bool pending)
{
	/* What is answered ok is in the store already, as a proposal: nothing to wait for. An error comes behind what was answered
	 * before it in this turn. */
	if (reason == NULL) {
		outgoing_answer_ok(r->out, r->answer, pending);
	} else {
		json_object_set_new(r->answer, "state", json_string("error"));
		json_object_set_new(r->answer, "reason", csm_text(reason));
		outgoing_answer(r->out, r->answer);
	}
	free(r);
}

static void answer_all(struct request_list *list, const char *reason, bool pending)
{
	for (struct graph_request *r = request_take(list); r != NULL; r = request_take(list))
		answer(r, reason, pending);
}

void graph_fail_all(struct graph *g, const char *reason)
{
	answer_all(&g->inflight, reason, false);
	answer_all(&g->queue, reason, false);
	g->proposing = g->solo = false;
}

void graph_stop(struct graph *g)
{
	answer_all(&g->inflight, NULL, true);
	answer_all(&g->queue, "csm is stopping", false);
}

/* ---- the working document ---- */

/* Apply r to a copy of doc. ret: 0 and a new document, or negative and a reason. */
static int apply(struct graph *g, const json_t *doc, struct graph_request *r, json_t **ret,
		 char reason[OP_REASON_MAX])
{
	unsigned long shortages = shortage_count();
	json_t *copy = shortage_copy(doc);
	int rc = ERR_NOMEM;
	if (copy != NULL)
		rc = graph_op_apply(g->csm, copy, r->answer, r->answer, reason);
	if (shortage_count() != shortages) /* whatever came of it, it may lack something */
		rc = ERR_NOMEM;
	if (rc == ERR_NOMEM)
		snprintf(reason, OP_REASON_MAX, "out of memory");
	if (rc < 0) {
		json_decref(copy);
		return rc;
	}
	*ret = copy;
	return 0;
}

void graph_enqueue(struct graph *g, struct graph_request *r)
{
	char reason[OP_REASON_MAX];
	json_auto_t *doc = NULL;
	if (!g->solo) {
		if (apply(g, g->working, r, &doc, reason) < 0) {
			answer(r, reason, false);
			return;
		}
		if (graph_set_doc(g, &g->working, doc) < 0) {
			answer(r, "out of memory", false);
			return;
		}
	}
	request_append(&g->queue, r);
	pump(g);
}

/* ---- proposing ---- */

static void proposal_stored(void *arg, const char *why)
{
	struct graph *g = arg;
	(void)why;
	if (!g->detached && g->proposed != NULL)
		send_proposal(g);
	graph_drop(g);
}

static void proposal_not_stored(void *arg, const char *why)
{
	struct graph *g = arg;
	graph_fail_all(g, why);
	graph_set_doc(g, &g->proposed, g->base == g->confirmed ? NULL : g->base);
	g->late = g->proposed != NULL;
	graph_set_doc(g, &g->working, g->base);
	graph_drop(g);
}

static void propose(struct graph *g, json_t *doc)
{
	json_object_set_new(doc, "rev", json_integer(agents_next_rev(g->csm->agents)));
	g->proposing = true;
	if (graph_set_doc(g, &g->proposed, doc) < 0)
		store_failed(g->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
	graph_save(g);
	store_then(g->csm->store, proposal_stored, proposal_not_stored, graph_hold(g));
}

static bool too_large(struct graph *g, const json_t *doc)
{
	size_t limit = (size_t)g->csm->settings->broker.message_size_limit;
	return json_dumpb(doc, NULL, 0, JSON_COMPACT) + SEAL_ROOM > limit;
}

static void check_source(void *arg, const char *digest)
{
	struct graph **g = arg;
	if (*g != NULL && funcs_source((*g)->csm->funcs, digest) == NULL)
		*g = NULL;
}

/* Whether all functions of doc are there: one may have gone with a turn that the store did not take. */
static bool complete(struct graph *g, const json_t *doc)
{
	struct graph *known = g;
	graphdoc_each_digest(doc, check_source, (void *)&known);
	return known != NULL;
}

/* Take what waits and propose it, unless a proposal is out. */
static void pump(struct graph *g)
{
	char reason[OP_REASON_MAX];
	if (g->proposing || g->detached)
		return;
	graph_set_doc(g, &g->base, g->proposed != NULL ? g->proposed : g->confirmed);
	if (!g->solo) {
		if (g->queue.first == NULL)
			return;
		if (!too_large(g, g->working) && complete(g, g->working)) {
			struct graph_request *r;
			while ((r = request_take(&g->queue)) != NULL)
				request_append(&g->inflight, r);
			json_auto_t *doc = shortage_copy(g->working);
			if (doc != NULL) {
				propose(g, doc);
				return;
			}
			graph_fail_all(g, "out of memory");
			return;
		}
		g->solo = true; /* find the request that is to blame */
	}
	for (struct graph_request *r = request_take(&g->queue); r != NULL;
	     r = request_take(&g->queue)) {
		json_auto_t *doc = NULL;
		int rc = apply(g, g->base, r, &doc, reason);
		if (rc == 0 && too_large(g, doc)) {
			snprintf(reason, sizeof(reason), "the graph would be too large: its document must "
							 "stay under message-size-limit");
			rc = ERR_LIMIT;
		}
		if (rc < 0) {
			answer(r, reason, false);
			continue;
		}
		request_append(&g->inflight, r);
		propose(g, doc);
		return;
	}
	/* every request had its answer: back to sharing revisions */
	g->solo = false;
	graph_set_doc(g, &g->working, g->base);
}

/* ---- what comes back ---- */

static void confirmed_stored(void *arg, const char *why)
{
	(void)why;
	graph_drop(arg);
}

/* In force but still a proposal in the store: after a restart it is simply proposed again. The timer tries to save it. */
static void confirmed_not_stored(void *arg, const char *why)
{
	struct graph *g = arg;
	(void)why;
	g->unsaved = true;
	loop_arm(g->csm->loop, g->timer, UNSAVED_AGAIN_MS);
	graph_drop(g);
}

static void save_confirmed(struct graph *g)
{
	g->unsaved = false;
	graph_save(g);
	store_then(g->csm->store, confirmed_stored, confirmed_not_stored, graph_hold(g));
}

void graph_on_timer(void *arg)
{
	struct graph *g = arg;
	if (g->unsaved)
		save_confirmed(g);
	if (g->unlive)
		graph_update_live(g);
	if (!g->unsent)
		return;
	g->unsent = false;
	graph_resend(g);
	if (g->unsent && ++g->tries * AGAIN_MS >= g->csm->settings->core.agent_timeout_ms && g->proposing)
		answer_late(g);
}

/* There was no memory for a message to the agent. */
static void send_again(struct graph *g)
{
	log_error("graph.not_sent", KV("graph", g->key), KV("why", AGENTS_NO_MEMORY));
	g->unsent = true;
	loop_arm(g->csm->loop, g->timer, AGAIN_MS);
}

static void confirm(struct graph *g)
{
	graph_set_doc(g, &g->confirmed, g->proposed);
	graph_set_doc(g, &g->proposed, NULL);
	graph_set_doc(g, &g->base, g->confirmed);
	g->proposing = g->late = false;
	save_confirmed(g);
	graph_update_live(g);
	answer_all(&g->inflight, NULL, false);
	pump(g);
}

/* Nobody waits any longer, but the proposal stands. */
static void answer_late(struct graph *g)
{
	g->proposing = false;
	g->late = true;
	graph_set_doc(g, &g->base, g->proposed);
	graph_update_live(g);
	answer_all(&g->inflight, NULL, true);
	pump(g);
}

/* All that waited in order again, to be proposed one by one on top of `onto`. */
static void start_solo(struct graph *g, json_t *onto)
{
	struct request_list all = g->inflight;
	if (all.first != NULL) {
		if (g->queue.first != NULL) {
			*all.last = g->queue.first;
			all.last = g->queue.last;
		}
		g->queue = all;
		g->inflight.first = NULL;
		g->inflight.last = &g->inflight.first;
	}
	json_incref(onto);
	graph_set_doc(g, &g->proposed, onto == g->confirmed ? NULL : onto);
	json_decref(onto);
	g->late = g->proposed != NULL;
	g->proposing = false;
	g->solo = true;
	graph_save(g);
	graph_update_live(g);
}

static void announce_refusal(struct graph *g, const char *reason)
{
	log_warn("graph.refused_late", KV("graph", g->key), KV("why", reason));
	csm_send(g->csm, g->topic,
		 json_pack("{s:s, s:s, s:s, s:s, s:o}", "op", "anno", "type", "graph", "state", "error",
			   "reason", reason, "graph", graphs_state(g)),
		 2, false);
}

/* A document that was answered as pending is refused: go on without the function that is to blame. */
static void refuse_late(struct graph *g, json_t *doc, const json_t *where, const char *reason)
{
	json_auto_t *mended = shortage_copy(doc);
	if (mended != NULL && graphdoc_mend(mended, g->confirmed, where, reason)) {
		g->solo = true; /* what waits was made for the old document */
		graph_set_doc(g, &g->base, g->confirmed);
		propose(g, mended);
		g->late = true;
	} else {
		/* nothing to blame that the confirmed document has not too: back to that */
		start_solo(g, g->confirmed);
	}
	announce_refusal(g, reason);
	pump(g);
}

static void refuse(struct graph *g, const json_t *where, const char *reason)
{
	bool on_late = g->base != g->confirmed;
	if (g->inflight.first == NULL) {
		refuse_late(g, g->proposed, where, reason);
		return;
	}
	if (on_late && graphdoc_same_at(g->base, g->proposed, where)) {
		/* not the fault of those who wait, but of an earlier pending change below them */
		json_auto_t *below = json_incref(g->base);
		start_solo(g, below);
		refuse_late(g, below, where, reason);
		return;
	}
	bool alone = g->inflight.first->next == NULL;
	if (alone)
		answer(request_take(&g->inflight), reason, false);
	start_solo(g, g->base);
	if (g->queue.first == NULL && on_late) {
		/* the pending change below was replaced at the agent by what it refused: send it again */
		json_auto_t *again = shortage_copy(g->base);
		if (again != NULL)
			propose(g, again);
		return;
	}
	pump(g);
}

struct sent {
	struct graph *g;
	int64_t rev;
};

static void on_put_answer(void *arg, json_t *reply, const char *why, bool final)
{
	struct sent *sent = arg;
	struct graph *g = sent->g;
	bool current = !g->detached && g->proposed != NULL && graphdoc_rev(g->proposed) == sent->rev;
	if (current && reply == NULL) {
		if (final && strcmp(why, AGENTS_NO_MEMORY) == 0) {
			send_again(g);
		} else if (g->proposing) {
			log_info("graph.pending", KV("graph", g->key), KV("rev", sent->rev), KV("why", why));
			answer_late(g);
		}
	} else if (current) {
		const char *state = json_string_value(json_object_get(reply, "state"));
		const char *reason = json_string_value(json_object_get(reply, "reason"));
		if (state != NULL && strcmp(state, "ok") == 0)
			confirm(g);
		else
			refuse(g, json_object_get(reply, "where"),
			       reason != NULL ? reason : "refused by the agent");
	}
	if (final) {
		graph_drop(g);
		free(sent);
	}
}

static void put(struct graph *g, const json_t *doc, agents_answer_fn *fn)
{
	struct sent *sent = calloc(1, sizeof(*sent));
	json_auto_t *copy = graphdoc_for_agent(doc);
	if (sent == NULL || copy == NULL) {
		free(sent);
		send_again(g);
		return;
	}
	sent->g = graph_hold(g);
	sent->rev = graphdoc_rev(doc);
	struct traces traces = {.s = ""};
	for (const struct graph_request *r = doc == g->proposed ? g->inflight.first : NULL; r != NULL; r = r->next)
		traces_add(&traces, outgoing_trace(r->out));
	agents_put(g->csm->agents, g->agent, g->key, copy, traces.s, fn, sent);
}

static void send_proposal(struct graph *g)
{
	if (g->agent[0] == '\0') {
		const char *agent = agents_pick(g->csm->agents);
		if (agent == NULL) {
			if (g->proposing)
				answer_late(g);
			return;
		}
		snprintf(g->agent, sizeof(g->agent), "%s", agent);
		graph_save(g);
	}
	put(g, g->proposed, on_put_answer);
}

static void on_confirmed_put(void *arg, json_t *reply, const char *why, bool final)
{
	struct sent *sent = arg;
	const char *state = json_string_value(json_object_get(reply, "state"));
	const char *reason = json_string_value(json_object_get(reply, "reason"));
	if (reply == NULL && final && !sent->g->detached && strcmp(why, AGENTS_NO_MEMORY) == 0)
		send_again(sent->g);
	if (state != NULL && strcmp(state, "ok") != 0 && !sent->g->detached)
		log_error("graph.confirmed_refused", KV("graph", sent->g->key), KV("why", reason));
	if (final) {
		graph_drop(sent->g);
		free(sent);
	}
}

void graph_resend(struct graph *g)
{
	if (graphdoc_rev(g->confirmed) > 0)
		put(g, g->confirmed, on_confirmed_put);
	if (g->proposed != NULL)
		put(g, g->proposed, on_put_answer);
}
