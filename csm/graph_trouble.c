#include "csm/graph_trouble.h"

#include "common/log.h"
#include "csm/graph.h"
#include <stdio.h>
#include <string.h>

#define KEY_MAX 24

/* "join", or the link's number. */
static void make_key(json_int_t lid, char key[KEY_MAX])
{
	if (lid == 0)
		snprintf(key, KEY_MAX, "join");
	else
		snprintf(key, KEY_MAX, "%lld", (long long)lid);
}

const char *graph_trouble(const struct graph *g, json_int_t lid)
{
	char key[KEY_MAX];
	make_key(lid, key);
	return json_string_value(json_object_get(g->trouble, key));
}

void graph_trouble_begin(struct graph *g)
{
	if (g->trouble == NULL)
		return;
	json_decref(g->trouble_before);
	g->trouble_before = g->trouble;
	g->trouble = NULL;
}

void graph_trouble_free(struct graph *g)
{
	json_decref(g->trouble);
	json_decref(g->trouble_before);
	g->trouble = g->trouble_before = NULL;
}

static void announce(struct graph *g, const char *reason)
{
	csm_send(g->csm, g->topic,
		 json_pack("{s:s, s:s, s:s, s:s*, s:o}", "op", "anno", "type", "graph", "state",
			   reason != NULL ? "error" : "ok", "reason", reason, "graph", graphs_state(g)),
		 2, false);
}

static void tell_monitor(struct graph *g, json_int_t lid, const char *kind, const char *reason)
{
	const char *monitor = json_string_value(json_object_get(g->confirmed, "monitor"));
	const json_t *entry = lid != 0 ? graphdoc_find_lid(g->confirmed, lid) : NULL;
	if (monitor == NULL || entry == NULL)
		return;
	csm_send(g->csm, monitor,
		 json_pack("{s:s, s:{s:[O,O], s:s, s:s, s:s}}", "op", "link_error", "data", "id",
			   json_object_get(entry, "da_id"), json_object_get(entry, "feature"), "mode", kind,
			   "state", "error", "reason", reason),
		 1, false);
}

static void set(struct graph *g, json_int_t lid, const char *kind, const char *reason)
{
	char key[KEY_MAX];
	make_key(lid, key);
	const char *before = json_string_value(json_object_get(g->trouble_before, key));
	bool known = before != NULL && strcmp(before, reason) == 0;
	const char *now = graph_trouble(g, lid);
	known = known || (now != NULL && strcmp(now, reason) == 0);
	if (g->trouble == NULL)
		g->trouble = json_object();
	if (json_object_set_new(g->trouble, key, json_string(reason)) < 0) {
		log_error("graph.trouble_lost", KV("graph", g->key), KV("why", "out of memory"));
		return;
	}
	json_object_del(g->trouble_before, key);
	if (known)
		return;
	tell_monitor(g, lid, kind, reason);
	announce(g, reason);
}

static void clear(struct graph *g, json_int_t lid)
{
	char key[KEY_MAX];
	make_key(lid, key);
	json_object_del(g->trouble_before, key);
	if (json_object_del(g->trouble, key) == 0)
		announce(g, NULL);
}

void graphs_on_report(struct graphs *gs, const char *agent_id, json_t *report)
{
	const char *key = json_string_value(json_object_get(report, "graph"));
	const char *kind = json_string_value(json_object_get(report, "kind"));
	const char *level = json_string_value(json_object_get(report, "level"));
	const char *reason = json_string_value(json_object_get(report, "reason"));
	json_int_t lid = json_integer_value(json_object_get(report, "lid"));
	struct graph *g = key != NULL ? graphs_find_key(gs, key) : NULL;
	if (g == NULL || kind == NULL || level == NULL || strcmp(g->agent, agent_id) != 0)
		return;
	if ((lid == 0) != (strcmp(kind, "join") == 0))
		return; /* of the whole graph, not of a function of it */
	if (strcmp(level, "error") == 0 && reason != NULL)
		set(g, lid, kind, reason);
	else if (strcmp(level, "ok") == 0)
		clear(g, lid);
}
