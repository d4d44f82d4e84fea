/* graph_propose.h - how a changed document comes into force (docs/agent-protocol.rst, Proposals). */
#pragma once

#include "csm/graph.h"

/* Take r (owned from here on): apply it, propose what is there to propose. */
void graph_enqueue(struct graph *g, struct graph_request *r);
/* A new session with the graph's agent: send it the confirmed document and the proposed one. */
void graph_resend(struct graph *g);
/* Answer all requests that wait, with an error. */
void graph_fail_all(struct graph *g, const char *reason);
/* csm ends: what is proposed is in the store, so it is answered as pending; what was not yet, as an error. */
void graph_stop(struct graph *g);
/* Whether the agent has ever been sent something of it. */
bool graph_is_known(const struct graph *g);
/* The graph's timer: what lacked memory, or was not stored, once more. */
void graph_on_timer(void *arg);
