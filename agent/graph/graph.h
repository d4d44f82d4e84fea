/* graph.h - inside the graph service: one graph, what runs of it and what is being tried.
 *
 * Requests for one graph are done in order, each to its end; different graphs go on side by side.
 * Private to agent/graph.
 */
#pragma once

#include "agent/graph/doc.h"
#include "agent/graph/funcs.h"
#include "agent/graph/host.h"
#include "agent/graph/service.h"
#include "common/map.h"

enum asker_kind { ASKER_GRAPH, ASKER_CHECK };

/* First member of everything that asks the engine, so the host's blame can be told apart. */
struct asker {
	enum asker_kind kind;
};

struct sync { /* a sync request that waits for its drops */
	struct sync *next;
	struct request_tag tag;
	size_t drops_left;
};

struct check { /* a check request that waits for its answer */
	struct asker asker;
	struct check *next;
	struct service *s;
	struct request_tag tag;
	json_t *msg;
	bool asked;
};

enum graph_stage {
	GRAPH_IDLE,
	GRAPH_TAPPING,    /* waiting for the broker to acknowledge new topics */
	GRAPH_LOADING,    /* waiting for the engine to accept the document */
	GRAPH_CONFIRMING, /* loaded before the transport was open: waiting for its topics */
	GRAPH_REFUSED,    /* refused and answered: waiting for topics asked for, to give them back */
	GRAPH_DROPPING,   /* waiting for the engine to forget it */
};

struct job;

struct graph {
	struct asker asker;
	struct service *s;
	struct graph *prev, *next;
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
};

struct service {
	struct loop *loop;
	const struct settings *settings;
	const struct transport_ops *ops;
	struct transport *transport;
	struct transport_port *port;
	struct host *host;
	struct funcs *funcs;
	struct service_events events;
	void *arg;
	struct map *by_id; /* struct graph, owned */
	struct graph *graphs;
	struct graph *reload_at; /* the next graph to load into a new engine */
	size_t reloading;        /* asked for, not answered */
	bool loaded;             /* the engine has all that runs: new things may be asked of it */
	bool opened, link;
	size_t n_loading; /* graphs in stage GRAPH_TAPPING or GRAPH_LOADING */
	struct sync *syncs;
	struct check *checks;
	size_t n_checks;
	json_t *totals;  /* of engines that are gone */
	json_t *present; /* of the present engine */
};

/* ---- graph.c ---- */

struct graph *graph_find(struct service *s, const char *id);
/* doc: taken. Answers tag, now or later. */
void graph_put(struct service *s, const struct request_tag *tag, struct doc *doc);
/* tag and sync may be NULL: nobody waits. */
void graph_drop(struct service *s, struct graph *g, const struct request_tag *tag,
		struct sync *sync);
void graph_free(struct graph *g);
/* Mark every source that its documents use. */
void graph_mark_funcs(struct graph *g);

/* An engine is ready: load what runs, then let messages flow, then go on with what is being tried.
 */
void graphs_reload(struct service *s);
/* The engine is gone. culprit: the graph whose request it died of, or NULL; why: in a sentence. */
void graphs_fall(struct service *s, const struct graph *culprit, const char *why);

/* ---- blame.c ---- */

/* Tell the monitor, csm and the log what a graph did to its engine. kind: "idf", "join", "odf"; lid
 * 0: none. */
void blame_graph(struct graph *g, const char *kind, uint32_t lid, const char *src, const char *why);
/* Find whose message the engine died of. */
void blame_message(struct service *s, const struct host_fall *fall);
/* A function raised: the engine's `fault` message. */
void blame_fault(struct service *s, json_t *msg);

/* ---- service.c ---- */

/* Open the transport if it is time, answer the syncs that are done. */
void service_progress(struct service *s);
void service_answer(struct service *s, const struct request_tag *tag, json_t *answer);
void service_answer_error(struct service *s, const struct request_tag *tag, const char *reason);
void service_ask_checks(struct service *s);
