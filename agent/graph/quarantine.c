#include "agent/graph/quarantine.h"
#include "agent/graph/counters.h"
#include "agent/graph/pool.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

/* Logged here: what follows has begun already. */
static void save(struct service *s)
{
	struct err err = {0};

	if (strikes_save(s->strikes, &err) < 0)
		log_error("quarantine.not_kept", KV("why", err.text));
}

static const char *source_of(const struct graph *g, uint32_t lid)
{
	const struct doc_link *link = lid != 0 ? doc_link(g->running, lid) : NULL;
	const char *digest = lid == 0 ? g->running->join_func : link != NULL ? link->func : NULL;
	size_t len;
	const char *src = digest != NULL ? funcs_find(g->s->funcs, digest, &len) : NULL;

	return src != NULL ? src : "";
}

static void report_error(void *arg, const struct strikes_use *use)
{
	blame_report(arg, use->kind, use->lid, "error", use->reason);
}

static void report_ok(void *arg, const struct strikes_use *use)
{
	struct graph *g = arg;

	log_info("graph.released", KV("graph", g->id), KV("kind", use->kind), KV("lid", use->lid));
	blame_report(g, use->kind, use->lid, "ok", NULL);
}

/* ---- strikes ---- */

static void put_apart(struct graph *g)
{
	struct service *s = g->s;
	struct place *to;
	struct err err = {0};

	if (g->place->apart)
		return;
	int rc = pool_place_apart(s, g->id, g->running->owner, &to, &err);
	if (rc == 0)
		rc = graph_do(g, JOB_MOVE);
	if (rc == 0) {
		log_info("graph.apart", KV("graph", g->id), KV("engine", to->name));
		return;
	}
	strikes_together(s->strikes, g->id);
	log_warn("graph.not_apart", KV("graph", g->id),
		 KV("why", rc == ERR_NOMEM ? "out of memory" : err.text));
}

static void put_away(struct graph *g, const char *kind, uint32_t lid,
		     const struct digest_text *code, bool fell)
{
	struct service *s = g->s;
	const char *reason = strikes_reason(s->strikes, g->id, lid, code);

	log_warn("graph.quarantined", KV("graph", g->id), KV("kind", kind), KV("lid", lid),
		 KV("why", reason));
	counters_add(s->totals, "quarantined", 1);
	blame_monitor(g, kind, source_of(g, lid), reason);
	blame_report(g, kind, lid, "error", reason);
	/* the next engine gets the document as it is to be; one that lives must be told */
	if (!fell && graph_do(g, JOB_REFRESH) < 0)
		log_error("graph.not_blocked", KV("graph", g->id), KV("why", "out of memory"));
}

void quarantine_strike(struct graph *g, const char *kind, uint32_t lid, const char *why, bool fell)
{
	struct service *s = g->s;
	struct digest_text code;

	if (g->running == NULL || g->place == NULL || !doc_use(g->running, lid, &code))
		return;
	counters_add(s->totals, "strikes", 1);
	switch (strikes_add(s->strikes, g->id, kind, lid, &code, loop_now_ms(s->loop), why)) {
	case STRIKES_NOTED:
		return;
	case STRIKES_APART:
		put_apart(g);
		break;
	case STRIKES_QUARANTINED:
		put_away(g, kind, lid, &code, fell);
		break;
	}
	save(s);
	if (!fell)
		graph_run(g); /* it runs: it is still there after this */
}

/* ---- documents ---- */

void quarantine_mark(const struct graph *g, struct doc *doc)
{
	const struct strikes *b = g->s->strikes;
	struct digest_text code;

	if (strikes_quarantined(b, g->id) == 0) {
		doc->join_blocked = false;
		for (size_t i = 0; i < doc->n_links; i++)
			doc->links[i].blocked = false;
		return;
	}
	doc->join_blocked = doc_use(doc, 0, &code) && strikes_reason(b, g->id, 0, &code) != NULL;
	for (size_t i = 0; i < doc->n_links; i++) {
		struct doc_link *link = &doc->links[i];

		link->blocked = doc_use(doc, link->lid, &code) &&
				strikes_reason(b, g->id, link->lid, &code) != NULL;
	}
}

static bool is_still_used(void *arg, uint32_t lid, const struct digest_text *code)
{
	const struct graph *g = arg;
	struct digest_text now;

	return doc_use(g->running, lid, &now) && strcmp(now.s, code->s) == 0;
}

void quarantine_revise(struct graph *g)
{
	strikes_revise(g->s->strikes, g->id, is_still_used, report_ok, g);
	save(g->s);
}

void quarantine_forget(struct graph *g)
{
	strikes_forget(g->s->strikes, g->id);
	save(g->s);
}

/* ---- release, and a new session ---- */

static bool keep_none(void *arg, uint32_t lid, const struct digest_text *code)
{
	(void)arg, (void)lid, (void)code;
	return false;
}

int quarantine_release(struct service *s, const char *graph, struct err *err)
{
	struct graph *g = graph_find(s, graph);

	if (g == NULL)
		return err_set(err, ERR_NOENT, "no graph '%s' runs here", graph);
	int n = (int)strikes_quarantined(s->strikes, graph);
	if (n > 0 && graph_do(g, JOB_REFRESH) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	strikes_revise(s->strikes, graph, keep_none, report_ok, g);
	save(s);
	graph_run(g);
	return n;
}

static bool is_here(void *arg, const char *graph)
{
	return graph_find(arg, graph) != NULL;
}

void quarantine_session(struct service *s)
{
	strikes_sweep(s->strikes, is_here, s);
	save(s);
	for (struct graph *g = s->graphs; g != NULL; g = g->next)
		strikes_each(s->strikes, g->id, report_error, g);
}
