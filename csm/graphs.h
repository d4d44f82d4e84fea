/* graphs.h - all graphs: what is confirmed, what is proposed, who waits for the answer (design section 3).
 *
 * A graph exists from attach to detach. Its requests are applied to a working document as they arrive; the document is proposed
 * to the agent that runs the graph, and they are answered when it is in force (graph_propose.h).
 */
#pragma once

#include "csm/csm.h"

struct graphs;
struct graph;

int graphs_new(struct csm *csm, struct graphs **ret, struct err *err); /* loads the store */
struct graphs *graphs_free(struct graphs *gs);
size_t graphs_count(const struct graphs *gs);
struct graph *graphs_find(const struct graphs *gs, const char *client, const char *graph_id);
struct graph *graphs_find_key(const struct graphs *gs, const char *key); /* "client/graph-id" */
const char *graphs_owner(const struct graph *g);
const char *graphs_id(const struct graph *g); /* as its client names it */
int64_t graphs_rev(const struct graph *g);    /* the confirmed revision */

/* attach: make the graph. ret: borrowed; NULL: out of memory, or there are 50,000 already. */
struct graph *graphs_attach(struct graphs *gs, const char *client, const char *graph_id,
			    const char *owner);
/* A request that changes the graph. request: borrowed; answered on topic, now or later. */
void graphs_request(struct graph *g, json_t *request, const char *topic, const struct asked *asked);
/* detach one. done is called once: when the agent has dropped it; when it answers too late (pending); when the store did not take it,
 * then error says why and the graph is still there. */
typedef void graphs_detached_fn(void *arg, bool pending, const char *error);
void graphs_detach(struct graph *g, const char *trace, graphs_detached_fn *done, void *arg);
/* All graphs of a client, NULL-terminated, yours to free(); NULL: out of memory. */
struct graph **graphs_of_client(const struct graphs *gs, const char *client);
/* What attach tells of a graph: rev, pending, owner, links, join, monitor_topics. A new object. */
json_t *graphs_state(const struct graph *g);

/* After loading, once commands may go out: disconnect what was taken away by changes that are still pending. */
void graphs_settle(struct graphs *gs);
/* The ids of all graphs that an agent should have; a new list, NULL: out of memory. */
json_t *graphs_ids(const struct graphs *gs, const char *agent_id);
/* How many agents have graphs and do not serve them: 0, 1 (late: its id, else "") or 2 for more. */
unsigned graphs_late_agents(const struct graphs *gs, char *late, size_t size);

/* An agent has a new session: send it all its graphs, then sync. */
void graphs_on_session(struct graphs *gs, const char *agent_id);
/* A link does not work: tell the monitors of the graphs that use it. */
void graphs_report_link(struct graphs *gs, const char *da_id, const char *feature, const char *mode,
			const char *reason);
