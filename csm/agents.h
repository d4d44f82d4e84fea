/* agents.h - sessions with agents, and requests to them (docs/agent-protocol.rst, csm's side). */
#pragma once

#include "csm/csm.h"
#include <stdio.h>

struct agents;

int agents_new(struct csm *csm, struct agents **ret, struct err *err);
struct agents *agents_free(struct agents *a);
/* Messages on iottalk/agent/<id>/state and .../res. */
void agents_on_message(struct agents *a, const struct bus_msg *m);

/* The agent a new graph should run on: the one with a session and the fewest graphs; NULL: none has a session. */
const char *agents_pick(struct agents *a);
/* Whether any agent, or this one, has a session. agent_id NULL: any. */
bool agents_up(struct agents *a, const char *agent_id);

/* A revision number never used before; part of the turn's transaction. */
int64_t agents_next_rev(struct agents *a);

/* What becomes of a request. answer: borrowed; NULL: none, and why says so: not within agent-timeout-ms (final is false: the
 * request goes on being sent and fn is called again), or the session ended or never was (final). Called exactly once with final. */
typedef void agents_answer_fn(void *arg, json_t *answer, const char *why, bool final);

#define AGENTS_NO_MEMORY "out of memory" /* why, if the request could not even be queued */

/* Send a document, and before it the sources the agent has not had in this session. doc: borrowed. A newer put of
 * the same graph ends the resending of an older one (its fn hears so, finally). trace: of whose requests it is (common/trace.h),
 * for the agent's log; "": nobody's. */
void agents_put(struct agents *a, const char *agent_id, const char *graph, const json_t *doc,
		const char *trace, agents_answer_fn *fn, void *arg);
void agents_drop_graph(struct agents *a, const char *agent_id, const char *graph, const char *trace,
		       agents_answer_fn *fn, void *arg);
/* It has a session, its graphs and its data connection: what is sent to its graphs arrives. */
bool agents_serves(const struct agents *a, const char *agent_id);
/* The broker is lost, and who went with it was not told: nobody serves before a new session. */
void agents_doubt(struct agents *a);
/* After all puts of a new session: the agent drops what graphs_ids() does not list. Tried again until there is memory for it. */
void agents_sync(struct agents *a, const char *agent_id);
/* Compile on any agent, for owner. codes borrowed, depends {alias: source} borrowed. fn is called once: a check is not repeated. */
void agents_check(struct agents *a, const char *owner, json_t *codes, json_t *depends,
		  const char *trace, agents_answer_fn *fn, void *arg);

/* Prometheus lines: what agents report, and our drops by agent. */
void agents_write_metrics(struct agents *a, FILE *out);
