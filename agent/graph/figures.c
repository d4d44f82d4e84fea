#include "agent/graph/figures.h"
#include "agent/graph/counters.h"
#include "agent/graph/strikes.h"
#include "common/log.h"
#include "common/util.h"
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 1000
#define DIGEST_SHOW 12 /* hex digits of a digest are enough for people */

struct figures_ask { /* somebody waits */
	struct figures_ask *next;
	struct service *s;
	char *graph; /* NULL: all */
	service_told_fn *fn;
	void *arg;
	struct loop_src *timer;
};

/* ---- one graph in words and numbers ---- */

static const char *state_of(const struct graph *g)
{
	if (g->running == NULL)
		return "waiting";
	if (g->refused != NULL)
		return "refused";
	return strikes_quarantined(g->s->strikes, g->id) > 0 ? "quarantined" : "running";
}

static void first_reason(void *arg, const struct strikes_use *use)
{
	const char **reason = arg;

	if (*reason == NULL)
		*reason = use->reason;
}

static int by_slot(const void *a, const void *b)
{
	const struct transport_slot_stats *x = a, *y = b;

	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static const struct transport_slot_stats *slot_stats(const struct place *p, uint32_t slot)
{
	struct transport_slot_stats key = {.slot = slot};

	if (p->figures.n_slots == 0)
		return NULL;
	return bsearch(&key, p->figures.slots, p->figures.n_slots, sizeof(key), by_slot);
}

/* All that was dropped of its messages, by reason. A new object. */
static json_t *drops_of(const struct graph *g, json_t *told)
{
	json_t *drops = json_object();

	counters_add_drops(drops, "", json_object_get(told, "drops"));
	for (size_t i = 0; g->running != NULL && i < g->running->n_links; i++) {
		const struct doc_link *link = &g->running->links[i];
		const struct transport_slot_stats *n =
			link->odf ? NULL : slot_stats(g->place, link->slot);

		if (n != NULL && n->dropped_full > 0)
			counters_add(drops, "ring_full", (json_int_t)n->dropped_full);
		if (n != NULL && n->dropped_too_large > 0)
			counters_add(drops, "too_large", (json_int_t)n->dropped_too_large);
	}
	return drops;
}

static json_int_t sum_of(json_t *numbers)
{
	json_int_t sum = 0;
	const char *name;
	json_t *n;

	json_object_foreach (numbers, name, n) {
		sum += json_integer_value(n);
	}
	return sum;
}

/* What its engine has told of it. look: somebody looks, the next rate is that since now. */
static void add_told(struct graph *g, json_t *told, json_t *row, bool look)
{
	static const char *const names[] = {"failed", "p50_us", "p99_us", "memory_bytes"};
	json_int_t evaluated = counters_believe(json_object_get(told, "evaluated"));
	int64_t now = loop_now_ms(g->s->loop), passed = now - g->seen_ms;
	json_int_t more = evaluated - g->seen_evaluated;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		json_t *n = json_object_get(told, names[i]);

		if (json_is_integer(n))
			json_object_set_new(row, names[i], json_integer(counters_believe(n)));
		else if (json_is_real(n) && json_real_value(n) >= 0)
			json_object_set(row, names[i], n);
	}
	json_object_set_new(row, "evaluated", json_integer(evaluated));
	if (passed > 0 && more >= 0) {
		json_object_set_new(row, "per_s", json_real((double)more * 1000 / (double)passed));
		json_object_set_new(row, "over_ms", json_integer(passed));
	}
	if (look) {
		g->seen_evaluated = evaluated;
		g->seen_ms = now;
	}
}

/* ret: a new object, or NULL. */
static json_t *row_of(struct graph *g, bool look)
{
	const struct place *p = g->place;
	const char *reason = g->refused;
	struct host_status host = {.pid = -1};

	if (reason == NULL)
		strikes_each(g->s->strikes, g->id, first_reason, &reason);
	json_t *row = json_pack("{s:s, s:s*, s:I, s:s, s:s*}", "id", g->id, "owner",
				g->running != NULL ? g->running->owner : NULL, "rev",
				g->running != NULL ? g->running->rev : 0, "state", state_of(g),
				"reason", reason);
	if (row == NULL || p == NULL)
		return row;
	host_get_status(p->host, &host);
	json_object_set_new(row, "engine", json_string(p->name));
	json_object_set_new(row, "apart", json_boolean(p->apart));
	if (host.pid >= 0)
		json_object_set_new(row, "pid", json_integer(host.pid));
	json_t *told = json_object_get(p->figures.graphs, g->id);
	if (json_is_object(told) && g->refused == NULL)
		add_told(g, told, row, look);
	json_t *drops = drops_of(g, told);
	json_object_set_new(row, "dropped", json_integer(sum_of(drops)));
	json_object_set_new(row, "drops", drops);
	return row;
}

static json_t *link_row(const struct graph *g, json_t *link, const struct doc_link *known)
{
	const struct transport_slot_stats *n =
		known->odf || g->place == NULL ? NULL : slot_stats(g->place, known->slot);
	json_t *row = json_pack(
		"{s:I, s:O?, s:O?, s:s, s:s, s:o, s:s*}", "lid", (json_int_t)known->lid, "da_id",
		json_object_get(link, "da_id"), "feature", json_object_get(link, "feature"), "mode",
		known->odf ? "odf" : "idf", "topic", known->topic, "func",
		known->func != NULL ? json_stringn(known->func, DIGEST_SHOW) : json_null(), "state",
		known->blocked ? "quarantined" : NULL);

	if (n != NULL)
		json_object_update_new(
			row, json_pack("{s:I, s:I, s:I}", "received", (json_int_t)n->received,
				       "dropped_full", (json_int_t)n->dropped_full,
				       "dropped_too_large", (json_int_t)n->dropped_too_large));
	return row;
}

static json_t *details_of(struct graph *g)
{
	json_t *row = row_of(g, true), *links = json_array(), *list;
	size_t at = 0, i;
	json_t *link;

	if (row == NULL || links == NULL) {
		json_decref(row);
		json_decref(links);
		return NULL;
	}
	for (int odf = 0; g->running != NULL && odf < 2; odf++) {
		list = json_object_get(g->running->json, odf ? "odf" : "idf");
		json_array_foreach (list, i, link) {
			json_array_append_new(links, link_row(g, link, &g->running->links[at]));
			at++;
		}
	}
	json_object_set_new(row, "links", links);
	if (g->running != NULL)
		json_object_set_new(row, "join",
				    g->running->join_func != NULL
					    ? json_stringn(g->running->join_func, DIGEST_SHOW)
					    : json_null());
	json_object_set_new(row, "strikes",
			    strikes_tell(g->s->strikes, g->id, loop_now_ms(g->s->loop)));
	return row;
}

/* ---- who asked ---- */

static json_t *list_all(struct service *s)
{
	json_t *list = json_array();

	for (struct graph *g = s->graphs; g != NULL; g = g->next)
		json_array_append_new(list, row_of(g, true));
	return list;
}

static void finish(struct figures_ask *a)
{
	struct service *s = a->s;
	struct figures_ask **at = &s->asks;
	struct graph *g = a->graph != NULL ? graph_find(s, a->graph) : NULL;
	json_t *answer;

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	if (a->graph == NULL)
		answer = list_all(s);
	else if (g != NULL)
		answer = details_of(g);
	else /* dropped while we asked */
		answer = json_pack("{s:s, s:s}", "id", a->graph, "state", "gone");
	a->fn(a->arg, answer);
	loop_remove(s->loop, a->timer);
	free(a->graph);
	free(a);
}

static bool is_asked(const struct place *p)
{
	return p->figures.asked || p->figures.slots_asked;
}

/* Is everything there that a waits for? */
static bool is_complete(const struct figures_ask *a)
{
	const struct graph *g = a->graph != NULL ? graph_find(a->s, a->graph) : NULL;

	if (a->graph != NULL)
		return g == NULL || g->place == NULL || !is_asked(g->place);
	for (const struct place *p = a->s->places; p != NULL; p = p->next)
		if (is_asked(p))
			return false;
	return true;
}

static void on_timer(void *arg)
{
	finish(arg);
}

/* From the loop, not from within the call that asked. */
static void look(struct service *s)
{
	for (struct figures_ask *a = s->asks; a != NULL; a = a->next)
		if (is_complete(a))
			loop_arm(s->loop, a->timer, 0);
}

/* ---- asking ---- */

static void on_told(void *arg, json_t *answer)
{
	struct figures *f = arg;
	struct place *p = (struct place *)((char *)f - offsetof(struct place, figures));
	json_t *graphs = json_object_get(answer, "graphs");

	f->asked = false;
	if (json_is_object(graphs)) { /* an engine may not know the question */
		json_decref(f->graphs);
		f->graphs = json_incref(graphs);
	}
	look(p->s);
}

static void on_slots(void *arg, const struct transport_slot_stats *rows, size_t n)
{
	struct place *p = arg;
	struct figures *f = &p->figures;
	struct transport_slot_stats *copy = NULL;

	f->slots_asked = false;
	if (n > 0)
		copy = malloc(n * sizeof(*copy));
	if (copy != NULL) {
		memcpy(copy, rows, n * sizeof(*copy));
		qsort(copy, n, sizeof(*copy), by_slot);
	}
	free(f->slots);
	f->slots = copy;
	f->n_slots = copy != NULL ? n : 0;
	look(p->s);
}

static void ask_place(struct place *p)
{
	struct figures *f = &p->figures;
	struct err err = {0};

	if (p->n_graphs == 0)
		return;
	if (!f->asked && p->loaded) {
		json_decref(f->graphs);
		f->graphs = NULL; /* nothing old is told as if it were new */
		f->asked =
			host_request(p->host, json_pack("{s:s, s:n}", "op", "graph_stats", "ids"),
				     on_told, f, &err) == 0;
	}
	if (!f->slots_asked && p->s->ops->port_stats != NULL)
		f->slots_asked = p->s->ops->port_stats(p->port, on_slots, p, &err) == 0;
	if (err.code != 0)
		log_debug("figures.not_asked", KV("engine", p->name), KV("why", err.text));
}

static int ask(struct service *s, const char *graph, service_told_fn *fn, void *arg,
	       struct err *err)
{
	struct figures_ask *a = calloc(1, sizeof(*a));

	if (a != NULL)
		*a = (struct figures_ask){.next = s->asks, .s = s, .fn = fn, .arg = arg};
	if (a != NULL && graph != NULL)
		a->graph = strdup(graph);
	if (a == NULL || (graph != NULL && a->graph == NULL) ||
	    loop_add_timer(s->loop, PATIENCE_MS, 0, on_timer, a, &a->timer, NULL) < 0) {
		if (a != NULL)
			free(a->graph);
		free(a);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	s->asks = a;
	return 0;
}

void service_list(struct service *s, service_told_fn *fn, void *arg)
{
	if (ask(s, NULL, fn, arg, NULL) < 0) {
		fn(arg, NULL);
		return;
	}
	for (struct place *p = s->places; p != NULL; p = p->next)
		ask_place(p);
	look(s);
}

int service_show(struct service *s, const char *graph, service_told_fn *fn, void *arg,
		 struct err *err)
{
	const struct graph *g = graph_find(s, graph);

	if (g == NULL)
		return err_set(err, ERR_NOENT, "no graph '%.200s' runs here", graph);
	int rc = ask(s, graph, fn, arg, err);
	if (rc < 0)
		return rc;
	if (g->place != NULL)
		ask_place(g->place);
	look(s);
	return 0;
}

void figures_fell(struct place *p)
{
	p->figures.asked = false;
	look(p->s);
}

void figures_done(struct place *p)
{
	struct figures *f = &p->figures;

	f->asked = f->slots_asked = false;
	json_decref(f->graphs);
	f->graphs = NULL;
	free(f->slots);
	f->slots = NULL;
	f->n_slots = 0;
	look(p->s);
}

void figures_free(struct service *s)
{
	while (s->asks != NULL)
		finish(s->asks);
}
