/* graph.h - inside the graph service: one graph, what runs of it and what is being tried.
 *
 * Requests for one graph are done in order, each to its end; different graphs go on side by side. A
 * graph runs in one place (pool.h), which is chosen when nothing of it runs yet. Private to
 * agent/graph.
 */
#pragma once

#include "agent/graph/doc.h"
#include "agent/graph/funcs.h"
#include "agent/graph/host.h"
#include "agent/graph/service.h"
#include "common/map.h"

enum asker_kind { ASKER_GRAPH, ASKER_CHECK, ASKER_FIGURES, ASKER_KEEP };

/* First member of everything that asks an engine, so the host's blame can be told apart. */
struct asker {
	enum asker_kind kind;
};

struct place;

struct sync { /* a sync request that waits for its drops */
	struct sync *next;
	struct request_tag tag;
	size_t drops_left;
};

enum graph_stage {
	GRAPH_IDLE,
	GRAPH_TAPPING,  /* waiting for the broker to acknowledge new topics */
	GRAPH_DRAINING, /* moving: its messages go to the new place; waiting for the old one to have
			   done those before */
	GRAPH_LEAVING,  /* moving: waiting for the old engine to forget it */
	GRAPH_LOADING,  /* waiting for the engine to accept the document */
	GRAPH_CONFIRMING, /* loaded before the transport was open: waiting for its topics */
	GRAPH_REFUSED,  /* refused and answered: waiting for topics asked for, to give them back */
	GRAPH_DROPPING, /* waiting for the engine to forget it */
};

enum job_kind {
	JOB_PUT,
	JOB_DROP,
	JOB_MOVE,    /* to an engine of its own */
	JOB_REFRESH, /* the same document again: what is blocked in it has changed */
	JOB_KINDS
};

struct job {
	struct job *next;
	enum job_kind kind;
	struct request_tag tag;
	bool answered;   /* somebody waits for tag */
	struct doc *doc; /* to put, or the one for the new place; NULL once it runs */
	json_int_t rev;
	struct sync *sync;
	size_t taken; /* links of doc that have their slot */
	bool monitor_taken;
	/* moving */
	struct place *to; /* expects it */
	struct loop_src *drain_timer;
	bool released_in; /* the old place gets no more messages for it */
	bool marked;
	uint64_t mark; /* the old engine is to come so far before the graph leaves it */
	int64_t since_ms;
};

struct graph {
	struct asker asker;
	struct service *s;
	struct graph *prev, *next; /* of the service */
	struct place *place;       /* NULL: nowhere yet */
	struct graph *place_prev, *place_next;
	char *id;
	struct doc *running; /* NULL: none yet */
	char *refused;       /* why `running` is in no engine though it should be; NULL: it is */
	uint32_t index;      /* the engine's number for it */
	struct job *first, *last;
	size_t n_jobs;
	enum graph_stage stage;                                             /* of the first job */
	enum { ASKED_NOTHING, ASKED_LOAD, ASKED_RELOAD, ASKED_DROP } asked; /* of the engine, now */
	size_t taps_waiting, outs_waiting; /* topics asked for, not acknowledged */
	int tap_rc;
	int64_t reported_ms; /* when its last fault went to csm */
	/* for the rate: what was evaluated at the last look, and when that was */
	int64_t seen_evaluated, seen_ms;
};

struct service {
	struct loop *loop;
	const struct settings *settings;
	const struct transport_ops *ops;
	struct transport *transport;
	struct keeper *keeper;
	bool keeper_was_up;
	struct service_events events;
	void *arg;
	struct funcs *funcs;
	struct strikes *strikes;
	struct map *by_id; /* struct graph, owned */
	struct graph *graphs;
	struct map *by_name; /* struct place, owned */
	struct place *places;
	bool opened, link, others; /* as service_status has them */
	size_t n_loading;          /* graphs on their way to be loaded */
	struct sync *syncs;
	struct check *checks;
	size_t n_checks;
	struct figures_ask *asks;
	json_t *totals;    /* of engines that are gone */
	uint64_t restarts; /* of places that are gone */
};

/* ---- graph.c ---- */

struct graph *graph_find(struct service *s, const char *id);
/* doc: taken. Answers tag, now or later. */
void graph_put(struct service *s, const struct request_tag *tag, struct doc *doc);
/* tag and sync may be NULL: nobody waits. */
void graph_drop(struct service *s, struct graph *g, const struct request_tag *tag,
		struct sync *sync);
/* Do a job of the service's own, after those that wait. ret: 0 or ERR_NOMEM. */
int graph_do(struct graph *g, enum job_kind kind);
void graph_free(struct graph *g);
/* Mark every source that its documents use. */
void graph_mark_funcs(struct graph *g);

/* What its place has to tell: its engine knows what runs, and takes new requests; it asks for what
 * runs (ret: true if an answer will come); it fell (culprit: of this graph's request). May free g.
 */
void graph_go_on(struct graph *g);
bool graph_reload(struct graph *g);
void graph_fell(struct graph *g, bool culprit, const char *why);

/* For what follows: go on as far as it goes. May free g. */
void graph_run(struct graph *g);
void graph_set_stage(struct graph *g, enum graph_stage stage);
void graph_job_done(struct graph *g);
/* A running document that its engine does not take: it stays out until csm puts it again. */
void graph_refuse(struct graph *g, const char *reason);
/* Ask the engine to load the job's document. */
void graph_ask_load(struct graph *g);
void graph_ask_drop(struct graph *g);

/* ---- put.c: the way of a document into force ---- */

void put_start(struct graph *g);
void put_tapped(struct graph *g);
void put_loaded(struct graph *g, json_t *answer);
void put_confirmed(struct graph *g);
/* The old revision goes on. where: borrowed, may be NULL. */
void put_refused(struct graph *g, const char *reason, json_t *where);
void put_refused_over(struct graph *g);
/* Ask for every topic of the job's document at a place; ret: negative if not all were. */
int put_take_topics(struct graph *g, struct place *p, struct err *err);
/* Give back the topics that messages come on, those that results go to. */
void put_release_in(struct place *p, const struct doc *doc, size_t n_links);
void put_release_out(struct place *p, const struct doc *doc, size_t n_links, bool monitor);
void put_drop_running(struct graph *g);

extern const char put_no_topic[];

/* ---- move.c: from one place to another, with nothing lost in between ---- */

void move_start(struct graph *g);
void move_tapped(struct graph *g);
/* ret: true if it has moved on. */
bool move_drained(struct graph *g);
void move_left(struct graph *g);

/* ---- blame.c ---- */

/* Tell the monitor, csm and the log what a graph did to its engine. kind: "idf", "join", "odf"; lid
 * 0: none. */
void blame_graph(struct graph *g, const char *kind, uint32_t lid, const char *src, const char *why);
/* Find whose message the engine of a place died of. */
void blame_message(struct place *p, const struct host_fall *fall);
/* A function raised, or broke a limit: the `fault` message of the engine of a place. */
void blame_fault(struct place *p, json_t *msg);
/* Tell csm of a function. level: "warning" (something happened), "error" (it is not run from now
 * on), "ok" (it is again). */
void blame_report(struct graph *g, const char *kind, uint32_t lid, const char *level,
		  const char *reason);
void blame_monitor(struct graph *g, const char *kind, const char *src, const char *why);

/* ---- service.c ---- */

struct host_conf service_host_conf(const struct service *s);

/* Open the transport if it is time, answer the syncs that are done. */
void service_progress(struct service *s);
void service_answer(struct service *s, const struct request_tag *tag, json_t *answer);
void service_answer_error(struct service *s, const struct request_tag *tag, const char *reason);
void service_add_totals(struct service *s, json_t *more);
