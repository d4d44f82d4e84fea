#include "csm/graph.h"

#include "common/shortage.h"
#include "common/util.h"
#include "csm/funcs.h"
#include "csm/graph_propose.h"
#include "csm/graph_trouble.h"
#include "csm/store.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define UNLIVE_AGAIN_MS 200

/* ---- requests ---- */

void request_append(struct request_list *l, struct graph_request *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

struct graph_request *request_take(struct request_list *l)
{
	struct graph_request *r = l->first;
	if (r == NULL)
		return NULL;
	l->first = r->next;
	if (l->first == NULL)
		l->last = &l->first;
	return r;
}

/* ---- documents and what they refer to ---- */

/* Links of a document, referred to or let go one after the other. */
struct reffing {
	struct graph *g;
	size_t done, max; /* how many; how many at most */
	bool failed;
};

static void ref_link(void *arg, const char *mode, json_t *entry)
{
	struct reffing *r = arg;
	if (r->failed || links_ref(r->g->csm->links, json_string_value(json_object_get(entry, "da_id")),
				   json_string_value(json_object_get(entry, "feature")), mode,
				   json_string_value(json_object_get(entry, "topic"))) == NULL)
		r->failed = true;
	else
		r->done++;
}

static void unref_link(void *arg, const char *mode, json_t *entry)
{
	struct reffing *r = arg;
	if (r->done++ < r->max)
		links_unref(r->g->csm->links,
			    links_find(r->g->csm->links, json_string_value(json_object_get(entry, "da_id")),
				       json_string_value(json_object_get(entry, "feature")), mode));
}

static void ref_digest(void *arg, const char *digest)
{
	struct graph *g = arg;
	funcs_ref(g->csm->funcs, digest);
}

static void unref_digest(void *arg, const char *digest)
{
	struct graph *g = arg;
	funcs_unref(g->csm->funcs, digest);
}

bool graph_is_monitored(const json_t *doc)
{
	return doc != NULL && json_is_string(json_object_get(doc, "monitor"));
}

int graph_set_doc(struct graph *g, json_t **which, json_t *doc)
{
	json_t *old = *which;
	struct reffing refs = {.g = g}, unrefs = {.g = g, .max = SIZE_MAX};
	if (doc != NULL)
		graphdoc_each_link(doc, ref_link, &refs);
	if (refs.failed) {
		unrefs.max = refs.done;
		graphdoc_each_link(doc, unref_link, &unrefs);
		return ERR_NOMEM;
	}
	if (g->csm->graphs != NULL && which == &g->confirmed) /* NULL while loading */
		graphs_count_monitored(g->csm->graphs, graph_is_monitored(old), graph_is_monitored(doc));
	if (doc != NULL) {
		json_incref(doc);
		graphdoc_each_digest(doc, ref_digest, g);
	}
	*which = doc;
	if (old != NULL) {
		graphdoc_each_link(old, unref_link, &unrefs);
		graphdoc_each_digest(old, unref_digest, g);
		json_decref(old);
	}
	return 0;
}

struct living {
	struct graph *g;
	const json_t *and_in; /* NULL: no further condition */
	struct link **links;  /* room for all; NULL: only count */
	size_t n;
};

static void collect_live(void *arg, const char *mode, json_t *entry)
{
	struct living *l = arg;
	const char *da_id = json_string_value(json_object_get(entry, "da_id"));
	const char *feature = json_string_value(json_object_get(entry, "feature"));
	if (json_object_get(entry, "out") != NULL ||
	    (l->and_in != NULL && graphdoc_find(l->and_in, mode, da_id, feature) == NULL))
		return;
	if (l->links != NULL) /* the document has made the link: one more reference takes no memory */
		l->links[l->n] = links_ref(l->g->csm->links, da_id, feature, mode, NULL);
	l->n++;
}

void graph_update_live(struct graph *g)
{
	struct living now = {.g = g};
	if (!g->detached) {
		/* a change that is only pending adds nothing yet, but what it takes away is gone */
		now.and_in = g->late ? g->proposed : NULL;
		graphdoc_each_link(g->confirmed, collect_live, &now);
	}
	g->unlive = now.n > 0 && (now.links = calloc(now.n, sizeof(*now.links))) == NULL;
	if (g->unlive) {
		loop_arm(g->csm->loop, g->timer, UNLIVE_AGAIN_MS);
		return;
	}
	if (now.n > 0) {
		now.n = 0;
		graphdoc_each_link(g->confirmed, collect_live, &now);
	}
	for (size_t i = 0; i < now.n; i++)
		links_enliven(g->csm->links, now.links[i]);
	for (size_t i = 0; i < g->n_live; i++) {
		links_quiet(g->csm->links, g->live[i]);
		links_unref(g->csm->links, g->live[i]);
	}
	free(g->live);
	g->live = now.links;
	g->n_live = now.n;
}

/* ---- one graph ---- */

struct graph *graph_hold(struct graph *g)
{
	g->refs++;
	return g;
}

void graph_drop(struct graph *g)
{
	if (--g->refs > 0)
		return;
	g->detached = true;
	graph_update_live(g);
	graph_set_doc(g, &g->confirmed, NULL);
	graph_set_doc(g, &g->proposed, NULL);
	graph_set_doc(g, &g->base, NULL);
	graph_set_doc(g, &g->working, NULL);
	loop_remove(g->csm->loop, g->timer);
	graph_trouble_free(g);
	free(g->key);
	free(g->client);
	free(g->graph_id);
	free(g->owner);
	free(g->topic);
	free(g);
}

struct graph *graph_new(struct csm *csm, const char *client, const char *graph_id,
			       const char *owner)
{
	struct graph *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return NULL;
	g->csm = csm;
	g->refs = 1;
	g->inflight.last = &g->inflight.first;
	g->queue.last = &g->queue.first;
	g->client = strdup(client);
	g->graph_id = strdup(graph_id);
	g->owner = strdup(owner);
	if (asprintf(&g->key, "%s/%s", client, graph_id) < 0)
		g->key = NULL;
	if (asprintf(&g->topic, "iottalk/api/res/%s/graph/%s", client, graph_id) < 0)
		g->topic = NULL;
	if (g->client == NULL || g->graph_id == NULL || g->owner == NULL || g->key == NULL ||
	    g->topic == NULL || loop_add_timer(csm->loop, -1, 0, graph_on_timer, g, &g->timer, NULL) < 0) {
		graph_drop(g);
		return NULL;
	}
	return g;
}

void graph_save(struct graph *g)
{
	CLEANUP(freep) char *confirmed = shortage_dumps(g->confirmed);
	CLEANUP(freep) char *proposed =
		g->proposed != NULL ? shortage_dumps(g->proposed) : NULL;
	if (confirmed == NULL || (g->proposed != NULL && proposed == NULL)) {
		store_failed(g->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		return;
	}
	store_exec(g->csm->store,
		   "INSERT INTO graph (client, graph_id, owner, agent, confirmed, proposed)"
		   " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (client, graph_id) DO UPDATE SET"
		   " owner = excluded.owner, agent = excluded.agent,"
		   " confirmed = excluded.confirmed, proposed = excluded.proposed",
		   DB_V_TEXT(g->client), DB_V_TEXT(g->graph_id), DB_V_TEXT(g->owner),
		   g->agent[0] != '\0' ? DB_V_TEXT(g->agent) : DB_V_NULL, DB_V_TEXT(confirmed),
		   DB_V_TEXT(proposed));
}
