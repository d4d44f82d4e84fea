/* service.h - the graph service: runs the graphs csm gives it, over one transport, each owner's in
 * engines of its own (docs/agent-protocol.rst, docs/engines.rst).
 *
 * Requests enter through the rows of service_ops(); answers and reports leave through events. Loop
 * thread only.
 */
#pragma once

#include "agent/graph/transport.h"
#include "agent/request.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct service;

struct service_events {
	void (*answer)(void *arg, const struct request_tag *tag,
		       json_t *answer);           /* answer: taken */
	int (*report)(void *arg, json_t *report); /* report: taken */
	void (*on_change)(void *arg);             /* of service_get_status() */
	/* The engines of an earlier agent, if there are any, are known: csm may be spoken to. Once.
	 */
	void (*on_engines)(void *arg);
	/* There is no keeper of engines; why: for people. was_up: it goes on by itself; else it has
	 * never started, and tries again. */
	void (*on_no_keeper)(void *arg, const char *why, bool was_up);
};

struct service_status {
	size_t graphs;   /* running */
	bool open, link; /* open: csm has synchronized; link: the data connection stands */
	bool others;     /* csm says that the other agents serve their graphs, too */
	size_t engines, engines_ready;
	size_t quarantined;       /* functions */
	bool engine_late;         /* one that has graphs is not ready, and that for a while */
	uint64_t engine_restarts; /* of all there ever were */
	const char *transport;
	pid_t keeper_pid;       /* -1: none */
	const char *keeper_why; /* why there is none; "": there is. Borrowed for this turn */
	const json_t *layers;   /* of its sandbox; borrowed; NULL: none */
};

/* engine: path of the engine's program, copied; settings: borrowed. ret: yours. */
int service_new(struct loop *l, const struct settings *settings, const char *agent_id,
		const char *engine, const struct transport_ops *ops,
		const struct service_events *events, void *arg, struct service **ret,
		struct err *err);
/* Ends all engines, and their keeper. NULL is fine; returns NULL. */
struct service *service_free(struct service *s);

/* Handlers take the service as arg. */
const struct request_op *service_ops(size_t *ret_n);

/* The broker is lost: whatever csm has said of the other agents. */
void service_forget_others(struct service *s);
void service_get_status(const struct service *s, struct service_status *ret);
/* Of the engines that run, at most n. ret: how many. */
size_t service_engine_pids(const struct service *s, pid_t *pids, size_t n);
/* Totals by name; a new object, yours; NULL: out of memory. */
json_t *service_counters(const struct service *s);

/* What graphs are and have done (docs/engines.rst, Figures). Engines are asked, and what they have
 * not told within a second is left out. fn: called later, once. answer: taken; NULL: out of memory.
 */
typedef void service_told_fn(void *arg, json_t *answer);
void service_list(struct service *s, service_told_fn *fn, void *arg); /* of all: a list */
/* Of one: an object. Errors: ERR_NOENT, ERR_NOMEM. */
int service_show(struct service *s, const char *graph, service_told_fn *fn, void *arg,
		 struct err *err);
/* Run the functions of a graph that are quarantined again. ret: how many they were, or ERR_NOENT.
 */
int service_release(struct service *s, const char *graph, struct err *err);
