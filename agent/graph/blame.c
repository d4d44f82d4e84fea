#include "agent/graph/graph.h"
#include "agent/graph/pool.h"
#include "agent/graph/quarantine.h"
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

void blame_report(struct graph *g, const char *kind, uint32_t lid, const char *level,
		  const char *reason)
{
	g->s->events.report(g->s->arg,
			    json_pack("{s:s, s:s, s:o, s:s?, s:s, s:s?}", "op", "report", "graph",
				      g->id, "lid", lid != 0 ? json_integer(lid) : json_null(),
				      "kind", kind, "level", level, "reason", reason));
}

void blame_monitor(struct graph *g, const char *kind, const char *src, const char *why)
{
	struct service *s = g->s;

	if (g->running == NULL || g->running->monitor == NULL || g->place == NULL)
		return;
	json_auto_t *msg =
		json_pack("{s:s, s:{s:o, s:s}}", "op", "esm_error", "data", "msg",
			  json_sprintf("%s function failure:\n%s", kind, why), "src", src);
	CLEANUP(freep)
	char *text = msg != NULL ? json_dumps(msg, JSON_COMPACT) : NULL;
	if (text == NULL ||
	    s->ops->publish(g->place->port, g->running->monitor_slot, text, strlen(text)) < 0)
		log_debug("graph.monitor_failed", KV("graph", g->id));
}

void blame_graph(struct graph *g, const char *kind, uint32_t lid, const char *src, const char *why)
{
	log_warn("graph.blamed", KV("graph", g->id), KV("kind", kind != NULL ? kind : "load"),
		 KV("lid", lid), KV("why", why));
	blame_monitor(g, kind != NULL ? kind : "idf", src, why);
	blame_report(g, kind, lid, "warning", why);
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

/* Who is killed from outside has done nothing. */
static void strike(struct graph *g, const char *kind, uint32_t lid, const struct host_fall *fall)
{
	if (!fall->foreign)
		quarantine_strike(g, kind, lid, fall->why, true);
}

/* The hint names a function of g: blame that one. ret: false if it does not. */
static bool blame_hinted(struct graph *g, const struct host_fall *fall)
{
	const struct host_doing *doing = &fall->doing;
	const struct doc_link *link = doc_link(g->running, doing->lid);

	if (doing->kind == DOING_JOIN) {
		blame_function(g, kinds[DOING_JOIN], 0, g->running->join_func, fall->why);
		strike(g, kinds[DOING_JOIN], 0, fall);
		return true;
	}
	if (link == NULL || link->odf != (doing->kind == DOING_ODF))
		return false;
	blame_function(g, kinds[doing->kind], link->lid, link->func, fall->why);
	strike(g, kinds[doing->kind], link->lid, fall);
	return true;
}

/* Nobody can say which of them it was: all that may run on a message of g. Apart from the others,
 * after two of these, the innocent have no more to do with it. */
static void strike_all(struct graph *g, const struct host_fall *fall)
{
	strike(g, kinds[DOING_JOIN], 0, fall);
	for (size_t i = 0; i < g->running->n_links; i++) {
		const struct doc_link *link = &g->running->links[i];

		if (link->odf || link->slot == fall->slot)
			strike(g, kinds[link->odf ? DOING_ODF : DOING_IDF], link->lid, fall);
	}
}

void blame_message(struct place *p, const struct host_fall *fall)
{
	bool hinted = fall->doing.kind >= DOING_IDF && fall->doing.kind <= DOING_ODF;

	/* The engine's word is believed only for a graph that uses the slot of the message. */
	for (struct graph *g = hinted ? p->graphs : NULL; g != NULL; g = g->place_next)
		if (g->index == fall->doing.graph && link_at(g, fall->slot) != NULL &&
		    blame_hinted(g, fall))
			return;
	for (struct graph *g = p->graphs; g != NULL; g = g->place_next) {
		const struct doc_link *link = link_at(g, fall->slot);

		if (link == NULL)
			continue;
		blame_function(g, kinds[DOING_IDF], link->lid, link->func, fall->why);
		strike_all(g, fall);
	}
}

/* What the engine calls a strike, in words. */
static const char *limit_named(const char *strike)
{
	return strcmp(strike, "memory") == 0 ? "memory limit exceeded" : "a limit was exceeded";
}

/* The end of a traceback says most; begin at a character. */
static const char *last_part(const char *text)
{
	size_t len = strlen(text);

	if (len <= REASON_MAX)
		return text;
	text += len - REASON_MAX;
	while (((unsigned char)*text & 0xc0) == 0x80)
		text++;
	return text;
}

void blame_fault(struct place *p, json_t *msg)
{
	struct service *s = p->s;
	const char *id = json_string_value(json_object_get(msg, "graph"));
	const char *kind = json_string_value(json_object_get(msg, "kind"));
	const char *text = json_string_value(json_object_get(msg, "msg"));
	const char *limit = json_string_value(json_object_get(msg, "strike"));
	json_int_t number = json_integer_value(json_object_get(msg, "lid"));
	uint32_t lid = number > 0 && number <= UINT32_MAX ? (uint32_t)number : 0;
	struct graph *g = id != NULL ? graph_find(s, id) : NULL;
	int64_t now = loop_now_ms(s->loop);

	/* an engine can speak of its own graphs only */
	if (g == NULL || g->place != p || g->running == NULL || kind == NULL || text == NULL)
		return;
	size_t k = DOING_IDF;
	while (k < ARRAY_LEN(kinds) && strcmp(kinds[k], kind) != 0)
		k++;
	if (k == ARRAY_LEN(kinds))
		return;
	if (now - g->reported_ms >= FAULT_EVERY_MS) {
		g->reported_ms = now;
		blame_report(g, kinds[k], lid, "warning", last_part(text));
	}
	if (limit != NULL)
		quarantine_strike(g, kinds[k], k == DOING_JOIN ? 0 : lid, limit_named(limit),
				  false);
}
