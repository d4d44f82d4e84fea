/* graph_trouble.h - functions that agents do not run any more, though they are in force: what they reported of them since
 * their session began (docs/agent-protocol.rst, Reports). In memory only: an agent tells it all again in each session.
 */
#pragma once

#include "csm/graphs.h"
#include <jansson.h>

/* A report of an agent: level "error" sets, "ok" clears; others change nothing. The graph's client and its monitor hear of changes. */
void graphs_on_report(struct graphs *gs, const char *agent_id, json_t *report);

/* Why the function of link lid (0: the join) does not run; NULL: it does, as far as we know. */
const char *graph_trouble(const struct graph *g, json_int_t lid);
/* Its agent begins a session and will tell anew. */
void graph_trouble_begin(struct graph *g);
void graph_trouble_free(struct graph *g);
