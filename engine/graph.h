/* graph.h - the graphs an engine runs: documents (docs/graph-document.rst) made into what
 * evaluation needs.
 *
 * A new revision is built beside the running one, takes over what it may keep (functions whose lid,
 * func and depends are the same; join slots and previous values of links whose lid is the same),
 * and replaces it at once or not at all.
 */
#pragma once

#include "common/id.h"
#include "common/map.h"
#include "common/tap.h"
#include "engine/pyfn.h"
#include "engine/stats.h"
#include "engine/vals.h"
#include <jansson.h>
#include <stdint.h>

#define GRAPH_PARAMS_MAX 65535 /* param_no, tag_param_no */
#define GRAPH_SLOTS_MAX  (1u << 20)

/* In all of these, what each message needs comes first and together: with many graphs, none of it
 * is in the processor's caches. */

/* A function where it is used. */
struct fn_use {
	struct pyfn *fn;             /* NULL: no function */
	bool blocked;                /* in quarantine: not loaded, and no message goes past it */
	char digest[DIGEST_LEN + 1]; /* empty: no function */
	json_t *depends;             /* alias -> digest; NULL: none */
};

/* What a stage hands on: a value, or (alone) the one item of a list that nobody has had to see as a
 * list yet. */
struct given {
	struct val *v; /* NULL: nothing */
	bool alone;
};

struct link {
	struct graph *graph;
	uint32_t lid;
	uint32_t slot;
	int param_no;      /* -1: not checked */
	int tag_param_no;  /* 0 if param_no is -1 */
	struct given held; /* IDF only: join slot; nothing: never written */
	size_t n_variant;  /* IDF only: of variant */
	struct fn_use use;
	char *name_json; /* ["da_id","feature"] for messages */

	/* IDF only */
	bool *variant; /* per value; the last one holds for further values; NULL: all are samples */
	struct vals before; /* the values of the message before, for variants */
};

struct graph {
	uint32_t number; /* index of the answer, and in the doing word */
	uint32_t monitor_slot;
	bool monitored;
	struct link *idf, *odf;
	size_t n_idf, n_odf;
	struct graph_stats *stats; /* all revisions have the same */
	struct fn_use join;
	char *id;
	int64_t fault_next_ms;  /* not before that another fault is reported */
	int64_t strike_next_ms; /* the same for one that counts against the function */
	struct prints {
		int64_t second;
		size_t bytes;      /* told to the monitor in it */
		uint64_t left_out; /* messages, since the last that was told */
	} prints;
};

/* The IDF links that a slot feeds. */
struct feeds {
	struct link **link;
	size_t n, cap;
};

typedef void graphs_doing_fn(void *arg, uint64_t what);

struct graphs {
	struct py *py;
	struct map *by_id; /* struct graph_place */
	struct graph_place **by_number;
	size_t n_numbers, free_from; /* no number below free_from is free, 0 is never given */
	struct feeds *slots;
	size_t n_slots;
	graphs_doing_fn *doing; /* told what is being loaded; may be NULL */
	void *arg;
};

/* Where a refused document is wrong. */
struct graph_where {
	const char *kind; /* "idf", "join", "odf"; NULL: elsewhere */
	int64_t lid;      /* -1: none */
};

int graphs_init(struct graphs *gs, struct py *py, struct err *err);
void graphs_done(struct graphs *gs);

/* Make doc the running revision of its graph. funcs: object, digest -> source, holding all that doc
 * names. Errors: ERR_SCHEMA, ERR_LIMIT, ERR_NOMEM; why says more, *ret_where where; the running
 * revision stays untouched. */
int graphs_put(struct graphs *gs, json_t *doc, json_t *funcs, uint32_t *ret_number,
	       struct graph_where *ret_where, struct text *why);
/* An unknown id is fine. */
void graphs_drop(struct graphs *gs, const char *id);
/* Drop all whose id is no key of the object `ids`. ret: how many; ERR_NOMEM: none. */
int graphs_keep(struct graphs *gs, const json_t *ids);
size_t graphs_count(const struct graphs *gs);
const struct graph *graphs_find(const struct graphs *gs, const char *id); /* NULL: none */
void graphs_each(const struct graphs *gs, void (*fn)(void *arg, const struct graph *g), void *arg);

/* Bytes that the functions of a graph hold. */
size_t graph_memory(const struct graph *g);
/* The function that holds most. ret: false: there is none that holds anything. */
struct graph_user {
	const struct graph *graph;
	enum tap_kind kind;
	const struct link *link; /* NULL: the join */
	size_t bytes;
};
bool graphs_heaviest(const struct graphs *gs, struct graph_user *ret);

/* The links a slot feeds; NULL: none. */
static inline const struct feeds *graphs_feeds(const struct graphs *gs, uint32_t slot)
{
	return slot < gs->n_slots && gs->slots[slot].n > 0 ? &gs->slots[slot] : NULL;
}
