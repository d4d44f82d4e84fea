#include "engine/graph.h"

#include "common/util.h"
#include "engine/graph_doc.h"

/* A graph's place, which stays while its revisions come and go. */
struct graph_place {
	struct graph_stats stats;
	uint32_t number;
	char *id;
	struct graph *now;
};

static void graph_freep(struct graph **g)
{
	*g = graph_free(*g);
}

static int out_of_memory(struct text *why)
{
	text_set_bounded(why, "out of memory", strlen("out of memory"), 0);
	return ERR_NOMEM;
}

int graphs_init(struct graphs *gs, struct py *py, struct err *err)
{
	*gs = (struct graphs){.py = py, .by_id = map_new(), .free_from = 1};
	return gs->by_id != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory for graphs");
}

static void place_free(void *p)
{
	struct graph_place *place = p;
	graph_free(place->now);
	free(place->id);
	free(place);
}

void graphs_done(struct graphs *gs)
{
	for (size_t i = 0; i < gs->n_slots; i++)
		free(gs->slots[i].link);
	free(gs->slots);
	free(gs->by_number);
	gs->by_id = map_free(gs->by_id, place_free);
	*gs = (struct graphs){0};
}

size_t graphs_count(const struct graphs *gs)
{
	return map_count(gs->by_id);
}

const struct graph *graphs_find(const struct graphs *gs, const char *id)
{
	const struct graph_place *place = map_find(gs->by_id, id);
	return place != NULL ? place->now : NULL;
}

struct each {
	void (*fn)(void *arg, const struct graph *g);
	void *arg;
};

static void each_place(void *arg, const char *key, void *value)
{
	const struct graph_place *place = value;
	struct each *e = arg;
	(void)key;
	e->fn(e->arg, place->now);
}

void graphs_each(const struct graphs *gs, void (*fn)(void *arg, const struct graph *g), void *arg)
{
	struct each e = {.fn = fn, .arg = arg};
	map_each(gs->by_id, each_place, &e);
}

/* ---- places and numbers ---- */

/* A free number from 1 on; 0: out of memory or numbers. */
static uint32_t number_get(struct graphs *gs)
{
	for (; gs->free_from < gs->n_numbers; gs->free_from++)
		if (gs->by_number[gs->free_from] == NULL)
			return (uint32_t)gs->free_from;
	size_t n = gs->n_numbers > 0 ? gs->n_numbers * 2 : 16;
	if (n > (size_t)TAP_GRAPH_MAX + 1)
		n = (size_t)TAP_GRAPH_MAX + 1;
	if (n == gs->n_numbers)
		return 0;
	struct graph_place **grown = realloc(gs->by_number, n * sizeof(*grown));
	if (grown == NULL)
		return 0;
	memset(grown + gs->n_numbers, 0, (n - gs->n_numbers) * sizeof(*grown));
	gs->by_number = grown;
	gs->n_numbers = n;
	return (uint32_t)gs->free_from;
}

static struct graph_place *place_new(struct graphs *gs, const char *id)
{
	struct graph_place *place = calloc(1, sizeof(*place));
	if (place == NULL || (place->id = strdup(id)) == NULL ||
	    (place->number = number_get(gs)) == 0 || map_add(gs->by_id, place->id, place) < 0) {
		if (place != NULL)
			place_free(place);
		return NULL;
	}
	gs->by_number[place->number] = place;
	return place;
}

static void place_remove(struct graphs *gs, struct graph_place *place)
{
	map_remove(gs->by_id, place->id);
	gs->by_number[place->number] = NULL;
	if (place->number < gs->free_from)
		gs->free_from = place->number;
	place_free(place);
}

/* ---- slots ---- */

/* Room for the links of g, so that linking cannot fail. */
static int slots_reserve(struct graphs *gs, const struct graph *g)
{
	for (size_t i = 0; i < g->n_idf; i++) {
		size_t slot = g->idf[i].slot;
		if (slot >= gs->n_slots) {
			size_t n = gs->n_slots > 0 ? gs->n_slots : 16;
			while (n <= slot)
				n *= 2;
			struct feeds *grown = realloc(gs->slots, n * sizeof(*grown));
			if (grown == NULL)
				return ERR_NOMEM;
			memset(grown + gs->n_slots, 0, (n - gs->n_slots) * sizeof(*grown));
			gs->slots = grown;
			gs->n_slots = n;
		}
		struct feeds *f = &gs->slots[slot];
		size_t more = 0; /* one, unless the document names a topic twice */
		for (size_t k = 0; k < g->n_idf; k++)
			more += g->idf[k].slot == slot;
		if (f->cap < f->n + more) {
			size_t cap = f->n + more + f->n / 2;
			struct link **grown = realloc(f->link, cap * sizeof(*grown));
			if (grown == NULL)
				return ERR_NOMEM;
			f->link = grown;
			f->cap = cap;
		}
	}
	return 0;
}

static void slots_unlink(struct graphs *gs, const struct graph *g)
{
	for (size_t i = 0; i < g->n_idf; i++) {
		struct feeds *f = &gs->slots[g->idf[i].slot];
		size_t kept = 0;
		for (size_t k = 0; k < f->n; k++)
			if (f->link[k]->graph != g)
				f->link[kept++] = f->link[k];
		f->n = kept;
	}
}

/* Give back what the links of g no longer need. */
static void slots_trim(struct graphs *gs, const struct graph *g)
{
	for (size_t i = 0; i < g->n_idf; i++) {
		struct feeds *f = &gs->slots[g->idf[i].slot];
		if (f->n == 0) {
			free(f->link);
			*f = (struct feeds){0};
		}
	}
}

static void slots_link(struct graphs *gs, struct graph *g)
{
	for (size_t i = 0; i < g->n_idf; i++) {
		struct feeds *f = &gs->slots[g->idf[i].slot];
		f->link[f->n++] = &g->idf[i];
	}
}

/* ---- functions ---- */

/* A row of funcs, checked against its name. */
static int find_source(json_t *funcs, const char *digest, struct pyfn_source *ret, struct text *why)
{
	const json_t *source = json_object_get(funcs, digest);
	char reason[200];
	if (!json_is_string(source)) {
		snprintf(reason, sizeof(reason), "function %s: no source", digest);
	} else {
		ret->source = json_string_value(source);
		ret->len = json_string_length(source);
		if (strcmp(sha256_hex(ret->source, ret->len).s, digest) == 0)
			return 0;
		snprintf(reason, sizeof(reason), "function %s: the source has another digest",
			 digest);
	}
	text_set_bounded(why, reason, strlen(reason), 0);
	return ERR_SCHEMA;
}

static bool same_function(const struct fn_use *a, const struct fn_use *b)
{
	if (strcmp(a->digest, b->digest) != 0)
		return false;
	if (a->depends == NULL || b->depends == NULL)
		return a->depends == b->depends;
	return json_equal(a->depends, b->depends) != 0;
}

/* Give `use` its function: the one `old` (NULL: none) has, or a fresh one. */
static int use_load(struct graphs *gs, struct fn_use *use, const struct fn_use *old, json_t *funcs,
		    struct text *why)
{
	if (use->digest[0] == '\0' || use->blocked)
		return 0;
	if (old != NULL && old->fn != NULL && same_function(use, old)) {
		use->fn = pyfn_keep(old->fn);
		return 0;
	}
	struct pyfn_source fn = {0};
	const char *alias;
	json_t *digest;
	size_t n = 0;
	CLEANUP(freep)
	struct pyfn_source *depends = calloc(json_object_size(use->depends) + 1, sizeof(*depends));
	if (depends == NULL)
		return out_of_memory(why);
	int rc = find_source(funcs, use->digest, &fn, why);
	if (rc < 0)
		return rc;
	json_object_foreach (use->depends, alias, digest) {
		rc = find_source(funcs, json_string_value(digest), &depends[n], why);
		if (rc < 0)
			return rc;
		depends[n++].alias = alias;
	}
	return pyfn_new(gs->py, &fn, depends, n, &use->fn, why);
}

static struct link *find_lid(struct link *links, size_t n, uint32_t lid)
{
	for (size_t i = 0; i < n; i++)
		if (links[i].lid == lid)
			return &links[i];
	return NULL;
}

static int load_links(struct graphs *gs, const char *kind, struct link *links, size_t n,
		      struct link *old, size_t n_old, json_t *funcs, struct graph_where *where,
		      struct text *why)
{
	for (size_t i = 0; i < n; i++) {
		*where = (struct graph_where){.kind = kind, .lid = links[i].lid};
		const struct link *was = find_lid(old, n_old, links[i].lid);
		int rc = use_load(gs, &links[i].use, was != NULL ? &was->use : NULL, funcs, why);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int load(struct graphs *gs, struct graph *g, struct graph *old, json_t *funcs,
		struct graph_where *where, struct text *why)
{
	int rc = load_links(gs, "idf", g->idf, g->n_idf, old != NULL ? old->idf : NULL,
			    old != NULL ? old->n_idf : 0, funcs, where, why);
	if (rc < 0)
		return rc;
	*where = (struct graph_where){.kind = "join", .lid = -1};
	rc = use_load(gs, &g->join, old != NULL ? &old->join : NULL, funcs, why);
	if (rc < 0)
		return rc;
	return load_links(gs, "odf", g->odf, g->n_odf, old != NULL ? old->odf : NULL,
			  old != NULL ? old->n_odf : 0, funcs, where, why);
}

/* The links of a new revision go on with the values of the old one. */
static void take_over(struct graph *g, struct graph *old)
{
	g->fault_next_ms = old->fault_next_ms;
	g->strike_next_ms = old->strike_next_ms;
	g->prints = old->prints;
	for (size_t i = 0; i < g->n_idf; i++) {
		struct link *l = &g->idf[i], *was = find_lid(old->idf, old->n_idf, l->lid);
		if (was == NULL)
			continue;
		l->held = was->held;
		was->held = (struct given){0};
		l->before = was->before;
		was->before = (struct vals){0};
	}
}

/* ---- memory ---- */

static void weigh(const struct graph *g, enum tap_kind kind, const struct link *link,
		  const struct fn_use *use, struct graph_user *most)
{
	size_t bytes = use->fn != NULL ? pyfn_memory(use->fn) : 0;
	if (bytes > most->bytes)
		*most = (struct graph_user){g, kind, link, bytes};
}

static void weigh_graph(void *arg, const struct graph *g)
{
	for (size_t i = 0; i < g->n_idf; i++)
		weigh(g, TAP_IDF, &g->idf[i], &g->idf[i].use, arg);
	weigh(g, TAP_JOIN, NULL, &g->join, arg);
	for (size_t i = 0; i < g->n_odf; i++)
		weigh(g, TAP_ODF, &g->odf[i], &g->odf[i].use, arg);
}

bool graphs_heaviest(const struct graphs *gs, struct graph_user *ret)
{
	*ret = (struct graph_user){0};
	graphs_each(gs, weigh_graph, ret);
	return ret->bytes > 0;
}

static size_t memory_of(const struct fn_use *use)
{
	return use->fn != NULL ? pyfn_memory(use->fn) : 0;
}

size_t graph_memory(const struct graph *g)
{
	size_t bytes = memory_of(&g->join);
	for (size_t i = 0; i < g->n_idf; i++)
		bytes += memory_of(&g->idf[i].use);
	for (size_t i = 0; i < g->n_odf; i++)
		bytes += memory_of(&g->odf[i].use);
	return bytes;
}

/* ---- revisions ---- */

static void tell(struct graphs *gs, uint64_t what)
{
	if (gs->doing != NULL)
		gs->doing(gs->arg, what);
}

int graphs_put(struct graphs *gs, json_t *doc, json_t *funcs, uint32_t *ret_number,
	       struct graph_where *ret_where, struct text *why)
{
	CLEANUP(graph_freep)
	struct graph *g = NULL;
	struct err err = {0};
	text_clear(why);
	int rc = graph_parse(doc, &g, ret_where, &err);
	if (rc < 0) {
		text_set_bounded(why, err.text, strlen(err.text), 0);
		return rc;
	}
	struct graph_place *place = map_find(gs->by_id, g->id);
	bool fresh = place == NULL;
	if (fresh && (place = place_new(gs, g->id)) == NULL)
		return out_of_memory(why);
	g->number = place->number;
	g->stats = &place->stats;

	tell(gs, tap_doing_make(g->number, TAP_LOADING, 0));
	rc = load(gs, g, place->now, funcs, ret_where, why);
	tell(gs, 0);
	if (rc == 0) {
		*ret_where = (struct graph_where){.lid = -1};
		if (slots_reserve(gs, g) < 0)
			rc = out_of_memory(why);
	}
	if (rc < 0) {
		if (fresh)
			place_remove(gs, place);
		return rc;
	}
	struct graph *old = TAKE(place->now);
	if (old != NULL) {
		take_over(g, old);
		slots_unlink(gs, old);
	}
	*ret_number = g->number;
	slots_link(gs, g);
	place->now = TAKE(g);
	if (old == NULL)
		return 0;
	slots_trim(gs, old);
	tell(gs,
	     tap_doing_make(place->number, TAP_LOADING, 0)); /* old objects may have finalizers */
	graph_free(old);
	tell(gs, 0);
	return 0;
}

void graphs_drop(struct graphs *gs, const char *id)
{
	struct graph_place *place = map_find(gs->by_id, id);
	if (place == NULL)
		return;
	slots_unlink(gs, place->now);
	slots_trim(gs, place->now);
	tell(gs, tap_doing_make(place->number, TAP_LOADING, 0));
	place_remove(gs, place);
	tell(gs, 0);
}

int graphs_keep(struct graphs *gs, const json_t *ids)
{
	CLEANUP(freep)
	void **places = map_values(gs->by_id);
	int dropped = 0;
	if (places == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; places[i] != NULL; i++) {
		const struct graph_place *place = places[i];
		if (json_object_get(ids, place->id) != NULL)
			continue;
		graphs_drop(gs, place->id);
		dropped++;
	}
	return dropped;
}
