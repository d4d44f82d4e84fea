#include "agent/graph/graph.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

#define FAULT_EVERY_MS 1000 /* for each graph; the engine keeps to it, a hostile one does not */
#define REASON_MAX     4000

static const char *const kinds[] = {
	[DOING_IDF] = "idf",
	[DOING_JOIN] = "join",
	[DOING_ODF] = "odf",
};

static void tell_csm(struct graph *g, const char *kind, uint32_t lid, const char *reason)
{
	g->s->events.report(g->s->arg,
			    json_pack("{s:s, s:s, s:o, s:s?, s:s, s:s}", "op", "report", "graph",
				      g->id, "lid", lid != 0 ? json_integer(lid) : json_null(),
				      "kind", kind, "level", "error", "reason", reason));
}

static void tell_monitor(struct graph *g, const char *kind, const char *src, const char *why)
{
	struct service *s = g->s;

	if (g->running == NULL || g->running->monitor == NULL)
		return;
	json_auto_t *msg =
		json_pack("{s:s, s:{s:o, s:s}}", "op", "esm_error", "data", "msg",
			  json_sprintf("%s function failure:\n%s", kind, why), "src", src);
	CLEANUP(freep)
	char *text = msg != NULL ? json_dumps(msg, JSON_COMPACT) : NULL;
	if (text == NULL ||
	    s->ops->publish(s->port, g->running->monitor_slot, text, strlen(text)) < 0)
		log_debug("graph.monitor_failed", KV("graph", g->id));
}

void blame_graph(struct graph *g, const char *kind, uint32_t lid, const char *src, const char *why)
{
	log_warn("graph.blamed", KV("graph", g->id), KV("kind", kind != NULL ? kind : "load"),
		 KV("lid", lid), KV("why", why));
	tell_monitor(g, kind != NULL ? kind : "idf", src, why);
	tell_csm(g, kind, lid, why);
}

static const struct doc_link *link_at(const struct graph *g, uint32_t slot)
{
	if (g->running == NULL || g->refused != NULL)
		return NULL;
	for (size_t i = 0; i < g->running->n_links; i++)
		if (!g->running->links[i].odf && g->running->links[i].slot == slot)
			return &g->running->links[i];
	return NULL;
}

static void blame_function(struct graph *g, const char *kind, uint32_t lid, const char *digest,
			   const char *why)
{
	size_t len;
	const char *src = digest != NULL ? funcs_find(g->s->funcs, digest, &len) : NULL;

	blame_graph(g, kind, lid, src != NULL ? src : "", why);
}

/* The hint names a function of g: blame that one. ret: false if it does not. */
static bool blame_hinted(struct graph *g, const struct host_doing *doing, const char *why)
{
	const struct doc_link *link = doc_link(g->running, doing->lid);

	if (doing->kind == DOING_JOIN) {
		blame_function(g, kinds[DOING_JOIN], 0, g->running->join_func, why);
		return true;
	}
	if (link == NULL || link->odf != (doing->kind == DOING_ODF))
		return false;
	blame_function(g, kinds[doing->kind], link->lid, link->func, why);
	return true;
}

void blame_message(struct service *s, const struct host_fall *fall)
{
	bool hinted = fall->doing.kind >= DOING_IDF && fall->doing.kind <= DOING_ODF;

	/* The engine's word is believed only for a graph that uses the slot of the message. */
	for (struct graph *g = hinted ? s->graphs : NULL; g != NULL; g = g->next)
		if (g->index == fall->doing.graph && link_at(g, fall->slot) != NULL &&
		    blame_hinted(g, &fall->doing, fall->why))
			return;
	for (struct graph *g = s->graphs; g != NULL; g = g->next) {
		const struct doc_link *link = link_at(g, fall->slot);

		if (link != NULL)
			blame_function(g, kinds[DOING_IDF], link->lid, link->func, fall->why);
	}
}

void blame_fault(struct service *s, json_t *msg)
{
	const char *id = json_string_value(json_object_get(msg, "graph"));
	const char *kind = json_string_value(json_object_get(msg, "kind"));
	const char *text = json_string_value(json_object_get(msg, "msg"));
	json_int_t lid = json_integer_value(json_object_get(msg, "lid"));
	struct graph *g = id != NULL ? graph_find(s, id) : NULL;
	int64_t now = loop_now_ms(s->loop);

	if (g == NULL || g->running == NULL || kind == NULL || text == NULL)
		return;
	size_t k = DOING_IDF;
	while (k < ARRAY_LEN(kinds) && strcmp(kinds[k], kind) != 0)
		k++;
	if (k == ARRAY_LEN(kinds) || now - g->reported_ms < FAULT_EVERY_MS)
		return;
	g->reported_ms = now;
	size_t len = strlen(text);
	if (len > REASON_MAX) { /* the end of a traceback says most; begin at a character */
		text += len - REASON_MAX;
		while (((unsigned char)*text & 0xc0) == 0x80)
			text++;
	}
	tell_csm(g, kinds[k], lid > 0 && lid <= UINT32_MAX ? (uint32_t)lid : 0, text);
}
