#include "csm/graphs.h"

#include "common/map.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/graph.h"
#include "csm/graph_propose.h"
#include "csm/graph_trouble.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stdio.h>
#include <string.h>

#define GRAPHS_MAX	50000
#define KEY_PART_MAX	255 /* of client and graph id */

struct graphs {
	struct csm *csm;
	struct map *by_key;
	size_t monitored; /* confirmed documents with a monitor */
};

/* ---- the collection ---- */

struct loading {
	struct graphs *gs;
	struct err *err;
};

static int load_row(void *arg, const struct db_value *v, size_t n)
{
	struct loading *l = arg;
	(void)n;
	if (v[0].type != DB_TEXT || v[1].type != DB_TEXT || v[2].type != DB_TEXT ||
	    v[4].type != DB_TEXT)
		return err_set(l->err, ERR_DB, "store: a graph does not read back");
	struct graph *g = graph_new(l->gs->csm, v[0].text, v[1].text, v[2].text);
	if (g == NULL)
		return err_set(l->err, ERR_NOMEM, "loading graphs");
	if (v[3].type == DB_TEXT)
		snprintf(g->agent, sizeof(g->agent), "%s", v[3].text);
	json_auto_t *confirmed = json_loads(v[4].text, 0, NULL);
	json_auto_t *proposed = v[5].type == DB_TEXT ? json_loads(v[5].text, 0, NULL) : NULL;
	if (confirmed == NULL || (v[5].type == DB_TEXT && proposed == NULL)) {
		graph_drop(g);
		return err_set(l->err, ERR_DB, "store: graph %s/%s does not read back", v[0].text,
			       v[1].text);
	}
	int rc = graph_set_doc(g, &g->confirmed, confirmed);
	if (rc == 0)
		rc = graph_set_doc(g, &g->proposed, proposed);
	g->late = proposed != NULL; /* nobody waits for its answer any more */
	graph_set_doc(g, &g->base, g->confirmed);
	graph_set_doc(g, &g->working, g->proposed != NULL ? g->proposed : g->confirmed);
	if (rc < 0 || map_add(l->gs->by_key, g->key, g) < 0) {
		graph_drop(g);
		return err_set(l->err, ERR_NOMEM, "loading graphs");
	}
	return 0;
}

/* What is confirmed was in force before we started: silently so again. */
static void begin_life(void *arg, const char *key, void *value)
{
	struct graphs *gs = arg;
	struct graph *g = value;
	bool late = g->late;
	(void)key;
	gs->monitored += graph_is_monitored(g->confirmed);
	g->late = false;
	graph_update_live(g);
	g->late = late;
}

static void settle(void *arg, const char *key, void *value)
{
	const struct graph *g = value;
	(void)arg;
	(void)key;
	if (g->late)
		graph_update_live(value);
}

void graphs_settle(struct graphs *gs)
{
	map_each(gs->by_key, settle, NULL);
}

int graphs_new(struct csm *csm, struct graphs **ret, struct err *err)
{
	struct graphs *gs = calloc(1, sizeof(*gs));
	if (gs == NULL || (gs->by_key = map_new()) == NULL) {
		free(gs);
		return err_set(err, ERR_NOMEM, "graphs");
	}
	gs->csm = csm;
	struct loading l = {.gs = gs, .err = err};
	int rc = db_run(store_db(csm->store), err, load_row, &l,
			"SELECT client, graph_id, owner, agent, confirmed, proposed FROM graph");
	*ret = gs;
	if (rc == 0)
		map_each(gs->by_key, begin_life, gs);
	return rc;
}

static void free_graph(void *value)
{
	struct graph *g = value;
	graph_stop(g);
	g->detached = true;
	graph_drop(g);
}

struct graphs *graphs_free(struct graphs *gs)
{
	if (gs == NULL)
		return NULL;
	map_free(gs->by_key, free_graph);
	free(gs);
	return NULL;
}

void graphs_count_monitored(struct graphs *gs, bool was, bool is)
{
	gs->monitored += (size_t)is - (size_t)was;
}

size_t graphs_count(const struct graphs *gs)
{
	return map_count(gs->by_key);
}

struct graph *graphs_find(const struct graphs *gs, const char *client, const char *graph_id)
{
	char key[2 * KEY_PART_MAX + 2]; /* no memory to lack: an answer of none is one that matters */
	return snprintf(key, sizeof(key), "%s/%s", client, graph_id) < (int)sizeof(key) ? map_find(gs->by_key, key) : NULL;
}

struct graph *graphs_find_key(const struct graphs *gs, const char *key)
{
	return map_find(gs->by_key, key);
}

const char *graphs_owner(const struct graph *g)
{
	return g->owner;
}

const char *graphs_id(const struct graph *g)
{
	return g->graph_id;
}

int64_t graphs_rev(const struct graph *g)
{
	return graphdoc_rev(g->confirmed);
}

static void attach_done(void *arg, const char *why)
{
	(void)why;
	graph_drop(arg);
}

static void attach_failed(void *arg, const char *why)
{
	struct graph *g = arg;
	graph_fail_all(g, why);
	if (!g->detached) {
		map_remove(g->csm->graphs->by_key, g->key);
		g->detached = true;
		g->refs--; /* the collection's */
	}
	graph_drop(g);
}

struct graph *graphs_attach(struct graphs *gs, const char *client, const char *graph_id,
			    const char *owner)
{
	struct graph *g = NULL;
	if (map_count(gs->by_key) >= GRAPHS_MAX)
		return NULL;
	g = graph_new(gs->csm, client, graph_id, owner);
	if (g == NULL) {
		store_failed(gs->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		return NULL;
	}
	json_auto_t *doc = graphdoc_new(g->key, owner);
	if (doc != NULL) {
		graph_set_doc(g, &g->confirmed, doc);
		graph_set_doc(g, &g->base, doc);
		graph_set_doc(g, &g->working, doc);
	}
	if (doc == NULL || map_add(gs->by_key, g->key, g) < 0) {
		store_failed(gs->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		graph_drop(g);
		return NULL;
	}
	graph_save(g);
	store_then(gs->csm->store, attach_done, attach_failed, graph_hold(g));
	return g;
}

void graphs_request(struct graph *g, json_t *request, const char *topic, const struct asked *asked)
{
	struct graph_request *r = calloc(1, sizeof(*r));
	if (r != NULL) {
		r->answer = shortage_copy(request);
		r->out = outgoing_new(g->csm, topic, asked);
	}
	if (r == NULL || r->answer == NULL || r->out == NULL) {
		if (r != NULL) {
			json_decref(r->answer);
			outgoing_free(r->out);
			free(r);
		}
		store_failed(g->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		csm_answer(g->csm, topic, json_incref(request), asked);
		return;
	}
	graph_enqueue(g, r);
}

/* ---- detach ---- */

struct detaching {
	struct graph *g;
	graphs_detached_fn *done;
	void *arg;
	struct trace_text trace;
};

static void on_dropped(void *arg, json_t *answer, const char *why, bool final)
{
	struct detaching *d = arg;
	if (answer == NULL && final && strcmp(why, AGENTS_NO_MEMORY) == 0)
		agents_sync(d->g->csm->agents, d->g->agent); /* the list without it says as much */
	if (d->done != NULL)
		d->done(d->arg, answer == NULL, NULL);
	d->done = NULL; /* told once */
	if (final) {
		graph_drop(d->g);
		free(d);
	}
}

static void detach_commit(void *arg, const char *why)
{
	struct detaching *d = arg;
	struct graph *g = d->g;
	(void)why;
	graph_update_live(g);
	if (g->agent[0] == '\0' || !graph_is_known(g)) {
		/* no agent ever heard of it */
		if (d->done != NULL)
			d->done(d->arg, false, NULL);
		graph_drop(g);
		free(d);
		return;
	}
	agents_drop_graph(g->csm->agents, g->agent, g->key, d->trace.s, on_dropped, d);
}

static void detach_rollback(void *arg, const char *why)
{
	struct detaching *d = arg;
	struct graph *g = d->g;
	/* still in the store: take it back, unless it was attached anew meanwhile */
	if (map_add(g->csm->graphs->by_key, g->key, g) == 0) {
		g->detached = false;
		graph_hold(g);
		/* the requests that waited were answered with an error */
		graph_set_doc(g, &g->base, g->proposed != NULL ? g->proposed : g->confirmed);
		graph_set_doc(g, &g->working, g->base);
	}
	if (d->done != NULL)
		d->done(d->arg, false, why);
	graph_drop(g);
	free(d);
}

void graphs_detach(struct graph *g, const char *trace, graphs_detached_fn *done, void *arg)
{
	struct detaching *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		store_failed(g->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		if (done != NULL)
			done(arg, false, "out of memory");
		return;
	}
	*d = (struct detaching){.g = g, .done = done, .arg = arg, .trace = trace_of(trace)};
	graph_fail_all(g, "the graph was detached");
	map_remove(g->csm->graphs->by_key, g->key);
	g->detached = true;
	store_exec(g->csm->store, "DELETE FROM graph WHERE client = $1 AND graph_id = $2",
		   DB_V_TEXT(g->client), DB_V_TEXT(g->graph_id));
	store_then(g->csm->store, detach_commit, detach_rollback, d);
}

struct of_client {
	const char *client;
	struct graph **found;
	size_t n;
};

static void pick_client(void *arg, const char *key, void *value)
{
	struct of_client *o = arg;
	struct graph *g = value;
	(void)key;
	if (strcmp(g->client, o->client) == 0)
		o->found[o->n++] = g;
}

struct graph **graphs_of_client(const struct graphs *gs, const char *client)
{
	struct of_client o = {.client = client,
			      .found = calloc(map_count(gs->by_key) + 1, sizeof(struct graph *))};
	if (o.found != NULL)
		map_each(gs->by_key, pick_client, &o);
	return o.found;
}

/* ---- what others ask ---- */

struct telling {
	const struct graph *g;
	json_t *links;
	bool failed;
};

static void tell_link(void *arg, const char *mode, json_t *entry)
{
	struct telling *t = arg;
	const struct graph *g = t->g;
	const char *da_id = json_string_value(json_object_get(entry, "da_id"));
	const char *feature = json_string_value(json_object_get(entry, "feature"));
	const struct link *k = links_find(g->csm->links, da_id, feature, mode);
	const char *error = json_string_value(json_object_get(entry, "error"));
	const char *state = k != NULL ? link_state(k) : "waiting";
	const char *reason = k != NULL ? link_reason(k) : NULL;
	const char *trouble = graph_trouble(g, json_integer_value(json_object_get(entry, "lid")));
	if (error != NULL || trouble != NULL) {
		state = "error";
		reason = error != NULL ? error : trouble;
	} else if (graphdoc_find(g->confirmed, mode, da_id, feature) == NULL) {
		state = "pending";
	}
	json_t *told = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s*}", "da_id", da_id, "feature", feature, "mode", mode,
				 "state", state, "reason", reason, "suspension",
				 suspension_state(g->csm->suspensions, da_id, mode, feature));
	if (graphdoc_tell(entry, told) < 0 || json_array_append(t->links, told) < 0)
		t->failed = true;
	json_decref(told);
}

json_t *graphs_state(const struct graph *g)
{
	const json_t *doc = g->proposed != NULL ? g->proposed : g->confirmed;
	json_t *join = json_object_get(doc, "join"), *monitor = json_object_get(doc, "monitor");
	json_auto_t *links = json_array();
	struct telling t = {.g = g, .links = links};
	if (links == NULL)
		return NULL;
	graphdoc_each_link(doc, tell_link, &t);
	if (t.failed)
		return NULL;
	json_t *state = json_pack("{s:I, s:b, s:s, s:O, s:O?, s:O?, s:s*}", "rev",
				  (json_int_t)graphdoc_rev(g->confirmed), "pending",
				  g->proposed != NULL, "owner", g->owner, "links", links, "join",
				  json_object_get(join, "func"), "join_depends", json_object_get(join, "depends"), "agent",
				  g->agent[0] != '\0' ? g->agent : NULL);
	if (state != NULL && json_object_get(join, "error") != NULL)
		json_object_set(state, "join_error", json_object_get(join, "error"));
	else if (state != NULL && graph_trouble(g, 0) != NULL)
		json_object_set_new(state, "join_error", json_string(graph_trouble(g, 0)));
	if (state != NULL && json_is_string(monitor))
		json_object_set(state, "monitor_topics", monitor);
	return state;
}

struct resync {
	struct graphs *gs;
	const char *agent_id;
	json_t *ids;
	bool failed;
};

static void resend(void *arg, const char *key, void *value)
{
	struct resync *s = arg;
	struct graph *g = value;
	(void)key;
	if (g->agent[0] == '\0' && graph_is_known(g)) {
		/* it was proposed while there was no agent at all */
		snprintf(g->agent, sizeof(g->agent), "%s", s->agent_id);
		graph_save(g);
	}
	if (strcmp(g->agent, s->agent_id) != 0 || !graph_is_known(g))
		return;
	graph_trouble_begin(g);
	graph_resend(g);
}

void graphs_on_session(struct graphs *gs, const char *agent_id)
{
	struct resync s = {.gs = gs, .agent_id = agent_id};
	map_each(gs->by_key, resend, &s);
	agents_sync(gs->csm->agents, agent_id);
}

static void add_id(void *arg, const char *key, void *value)
{
	struct resync *s = arg;
	const struct graph *g = value;
	if (strcmp(g->agent, s->agent_id) == 0 && graph_is_known(g) &&
	    json_array_append_new(s->ids, json_string(key)) < 0)
		s->failed = true;
}

json_t *graphs_ids(const struct graphs *gs, const char *agent_id)
{
	struct resync s = {.agent_id = agent_id, .ids = json_array()};
	if (s.ids != NULL)
		map_each(gs->by_key, add_id, &s);
	if (s.failed) /* a list that lacks one would drop it */
		json_decref(s.ids);
	return s.failed ? NULL : s.ids;
}

struct lateness {
	const struct graphs *gs;
	const char *last; /* the agent that was looked at last: most graphs have the same one */
	char *late;
	size_t size;
	unsigned n;
};

static void count_late(void *arg, const char *key, void *value)
{
	struct lateness *l = arg;
	const struct graph *g = value;
	(void)key;
	if (l->n > 1 || g->agent[0] == '\0' || !graph_is_known(g) || (l->last != NULL && strcmp(l->last, g->agent) == 0))
		return;
	l->last = g->agent;
	if (strcmp(l->late, g->agent) == 0 || agents_serves(l->gs->csm->agents, g->agent))
		return;
	l->n++;
	snprintf(l->late, l->size, "%s", g->agent);
}

unsigned graphs_late_agents(const struct graphs *gs, char *late, size_t size)
{
	struct lateness l = {.gs = gs, .late = late, .size = size};
	late[0] = '\0';
	map_each(gs->by_key, count_late, &l);
	return l.n;
}

struct report {
	struct csm *csm;
	const char *da_id, *feature, *mode, *reason;
};

static void report_to(void *arg, const char *key, void *value)
{
	struct report *r = arg;
	struct graph *g = value;
	const char *monitor = json_string_value(json_object_get(g->confirmed, "monitor"));
	(void)key;
	if (monitor == NULL || graphdoc_find(g->confirmed, r->mode, r->da_id, r->feature) == NULL)
		return;
	csm_send(r->csm, monitor,
		 json_pack("{s:s, s:{s:[s,s], s:s, s:s, s:s}}", "op", "link_error", "data", "id",
			   r->da_id, r->feature, "mode", r->mode, "state", "error", "reason",
			   r->reason),
		 1, false);
}

void graphs_report_link(struct graphs *gs, const char *da_id, const char *feature, const char *mode,
			const char *reason)
{
	if (gs->monitored == 0)
		return;
	struct report r = {
		.csm = gs->csm, .da_id = da_id, .feature = feature, .mode = mode, .reason = reason};
	map_each(gs->by_key, report_to, &r);
}
