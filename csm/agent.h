/* agent.h - one agent as csm knows it; for agents.c, agents_served.c and agent_requests.c only. */
#pragma once

#include "common/map.h"
#include "csm/agent_session.h"
#include "csm/agents.h"

struct agents {
	struct csm *csm;
	int64_t last_rev;
	struct map *by_id;
	struct loop_src *served_timer;
};

struct agent {
	struct csm *csm;
	char id[AGENT_ID_MAX + 1];
	struct agent_session session;
	struct map *sent;    /* digest -> digest, sources it has in this session */
	json_t *counters, *gauges; /* as it reported them last */
	struct requests *requests;
	struct loop_src *sync_timer;
	/* of its session: it has all its graphs; it has the data connection; it was told that the others serve */
	bool synced, linked, told_served;
};

/* Send body in the session; a failure is logged. */
void agent_send(struct agent *ag, json_t *body);
/* Send the source unless it has it. ret: false if csm has no such source. */
bool agent_send_source(struct agent *ag, const char *digest);

/* ---- agents_served.c: who serves ---- */

/* A session has begun, or what its agent has, has changed. */
void agent_served_changed(struct agent *ag);
/* Timer: tell those that are to know. arg: struct agents. */
void agents_tell_served(void *arg);

/* ---- agent_requests.c: requests that wait for their answer ---- */

enum request_kind {
	REQUEST_PUT,   /* of a graph: newest only */
	REQUEST_DROP,  /* of a graph: a newer put or drop ends it */
	REQUEST_SYNC,  /* made anew at each sending */
	REQUEST_CHECK, /* changes nothing: never repeated */
};

struct requests;

struct requests *requests_new(struct agent *ag); /* NULL: out of memory */
struct requests *requests_free(struct requests *r);
/* Queue a request. graph: key, NULL for sync and check. body: taken. fn may be NULL; see agents_answer_fn. At most a few hundred
 * are with the agent at a time, the others wait their turn. */
void requests_add(struct requests *r, enum request_kind kind, const char *graph, json_t *body,
		  agents_answer_fn *fn, void *arg);
/* An answer with that id. ret: false if nobody waits for it. */
bool requests_answer(struct requests *r, json_int_t id, json_t *answer);
/* The session is over. */
void requests_fail(struct requests *r, const char *why);
size_t requests_open(const struct requests *r, enum request_kind kind);
