/* pool.h - places: each is one engine and the graphs that run in it.
 *
 * Graphs of different owners never share a place. Those of one owner are spread over a few; one
 * that made its engine fall again and again has a place of its own. A place is started when the
 * first graph comes, and stopped when it has had none for a while. Its name is made of owner and
 * number, so it is the same after a restart of the agent, when the engine may still be there
 * (pool_adopt()). Private to agent/graph.
 */
#pragma once

#include "agent/graph/graph.h"

#define PLACE_NAME_MAX 64

struct figures { /* what an engine and the transport have told of the graphs (figures.h) */
	struct asker asker;
	bool asked, slots_asked;
	json_t *graphs;                     /* id -> figures; NULL: never told */
	struct transport_slot_stats *slots; /* sorted by slot */
	size_t n_slots;
};

struct place {
	struct service *s;
	struct place *prev, *next;
	char name[PLACE_NAME_MAX];
	char trust[PLACE_NAME_MAX]; /* whose: all places of an owner have the same; empty: not known
				     */
	bool apart;                 /* for one graph */
	bool adopted;               /* its engine is from before this agent began */
	struct host *host;
	struct transport_port *port;
	struct graph *graphs;
	size_t n_graphs, holds;
	size_t arriving; /* graphs whose messages come already: none is to be looked at before they
			    are loaded */
	struct graph *reload_at; /* the next graph to load into a new engine */
	size_t reloading;        /* asked for, not answered */
	bool loaded;             /* the engine has all that runs: new things may be asked of it */
	int64_t down_ms;         /* since when it is not loaded */
	struct loop_src *idle_timer;
	json_t *present; /* counters of the present engine */
	struct figures figures;
	struct asker keep;
};

/* Find or start the place for a graph. ret: borrowed; it stays as long as it has a graph or is
 * held, and at least until the loop's next turn. Errors: ERR_LIMIT, ERR_NOMEM, ERR_SYS. */
int pool_place(struct service *s, const char *id, const char *owner, struct place **ret,
	       struct err *err);
/* One for this graph alone. ERR_LIMIT: its owner has as many of those as are allowed. */
int pool_place_apart(struct service *s, const char *id, const char *owner, struct place **ret,
		     struct err *err);
/* One in which no graph runs, to compile what somebody wants to have checked. owner NULL: not
 * known. */
int pool_place_check(struct service *s, const char *owner, struct place **ret, struct err *err);

/* Makes the host of a place. */
typedef int service_make_fn(void *arg, const char *name, const struct host_events *events,
			    void *host_arg, struct host **ret, struct err *err);

/* An engine of an earlier agent lives on: graphs that csm puts again go there. It is stopped if
 * none has come when csm has put all. */
int pool_adopt(struct service *s, const char *name, service_make_fn *make, void *arg,
	       struct err *err);
/* All that csm wants is there: messages flow, and what was adopted forgets the rest. */
void pool_open(struct service *s);
/* There is a keeper (again): engines that wait for one are started. */
void pool_keeper_up(struct service *s);
void pool_free(struct service *s);

struct place *pool_of_port(struct service *s, const struct transport_port *port);

void place_join(struct place *p, struct graph *g);
void place_leave(struct graph *g); /* nowhere: fine */
void place_hold(struct place *p);  /* keep it though it has no graph */
void place_release(struct place *p);
/* The same, and messages wait until all that was expected has arrived. */
void place_expect(struct place *p);
void place_arrived(struct place *p);
/* The engine has answered one of its graphs' reloads. */
void place_reloaded(struct place *p);
