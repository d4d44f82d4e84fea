/* graph.h - inside of one graph; only graph.c, graphs.c, graph_propose.c, graph_ops.c look in here. */
#pragma once

#include "csm/graphdoc.h"
#include "csm/graphs.h"
#include "csm/links.h"
#include "csm/outgoing.h"

struct graph_request {
	json_t *answer; /* the request's fields, to be answered */
	struct outgoing *out; /* where the answer goes */
	bool evaluated; /* its change is part of the working document */
	struct graph_request *next;
};

struct request_list {
	struct graph_request *first, **last;
};

struct graph {
	struct csm *csm;
	unsigned refs; /* the collection, effects and agent requests that will come back to it */
	bool detached;
	char *key;  /* "client/graph-id" */
	char *client, *graph_id, *owner, *topic /* of answers */;
	char agent[72];	      /* "" while none is chosen */
	json_t *confirmed;    /* in force, as far as we know; never NULL */
	json_t *proposed;     /* NULL: none */
	json_t *base;	      /* what `proposed` was made from */
	json_t *working;      /* with all requests that were accepted so far */
	bool proposing;	      /* somebody waits for the agent's word on `proposed` */
	bool late;	      /* `proposed` was answered as pending */
	bool solo;	      /* a shared revision was refused: propose the queue's requests one by one */
	bool unsaved;	      /* confirmed in memory, the store did not take it yet */
	bool unsent, unlive;  /* there was no memory to tell the agent, to bring `live` in line: the timer tries again */
	unsigned tries;	      /* to send */
	struct request_list inflight, queue;
	struct loop_src *timer;
	json_t *trouble;	/* graph_trouble.h: what its agent does not run, and why; NULL: nothing */
	json_t *trouble_before; /* what it said before its present session */
	struct link **live; /* links in force, each with a reference */
	size_t n_live;
	struct graph *next_all, **prev_all;
};

/* With one reference, in no collection. NULL: out of memory. */
struct graph *graph_new(struct csm *csm, const char *client, const char *graph_id, const char *owner);
struct graph *graph_hold(struct graph *g);
void graph_drop(struct graph *g);
/* Set one of the documents, minding the references on links and functions that documents hold. doc: borrowed. ret: 0, or ERR_NOMEM and
 * nothing changed: only if doc has links that no other document has yet. */
int graph_set_doc(struct graph *g, json_t **which, json_t *doc);
bool graph_is_monitored(const json_t *doc); /* NULL is fine */
/* A confirmed document gave way to another one (graphs.c). */
void graphs_count_monitored(struct graphs *gs, bool was, bool is);
void graph_save(struct graph *g);
/* Bring g->live, hence CONNECT and DISCONNECT, in line with the documents. */
void graph_update_live(struct graph *g);

void request_append(struct request_list *l, struct graph_request *r);
struct graph_request *request_take(struct request_list *l);
