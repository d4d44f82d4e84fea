/* graph.h - one graph: a small machine that asks csm what there is, compares it with the store and sends the difference.
 *
 * A pass is attach, then (in one go, answered one by one) what diff.h finds; or detach, if the store does not want the graph. One pass
 * is under way at a time; what changes meanwhile is looked at in the next.
 */
#pragma once

#include "ccm/drive/drive_int.h"

enum graph_phase { GRAPH_IDLE, GRAPH_WAITS /* for its turn */, GRAPH_ASKING, GRAPH_CHANGING };

struct watcher { /* a gui client that looks at the graph's monitor */
	struct watcher *next;
	char topic[128]; /* that it was told; "": none yet */
	bool told;
	char uuid[];
};

struct graph {
	struct drive *drive;
	int64_t na_id, p_id; /* p_id: 0 as long as it is not known */
	char id[24];
	enum graph_phase phase;
	struct graph *next; /* that waits for its turn */
	bool dirty;	    /* look again when this pass is over */
	enum graph_cause cause;
	bool maybe_attached; /* csm may have it */
	bool running;	     /* the store wanted it when we looked last */
	int64_t rev;	     /* with which it was found equal; -1: we changed it since */
	struct loop_src *timer;
	int64_t sent_ms;
	unsigned backoff_ms;
	bool backs_off;

	/* the pass */
	json_t *asked; /* {ref: request} without an answer */
	bool failed, pending, made, gone, unknown_function;
	unsigned added, removed, changed;
	bool join;
	char monitor[128]; /* its topic; "": none */
	struct watcher *watchers;
};

/* NULL: out of memory */
struct graph *graph_new(struct drive *d, int64_t na_id);
struct graph *graph_free(struct graph *g); /* NULL is fine; returns NULL */
/* Its turn. ret: false if there was nothing to do. */
bool graph_begin(struct graph *g);
void graph_on_answer(struct graph *g, json_t *answer);
/* The pass under way is void: what was asked may be lost. */
void graph_abandon(struct graph *g);
int graph_watch(struct graph *g, const char *uuid);
/* ret: whether it was a watcher */
bool graph_unwatch(struct graph *g, const char *uuid);

/* graphs.c: the pass is over. again: it has to be looked at once more. */
void graph_is_done(struct graph *g, bool again);
