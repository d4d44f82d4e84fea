/* quarantine.h - what follows from strikes: functions that do not run, graphs that move, who is
 * told. Private to agent/graph.
 */
#pragma once

#include "agent/graph/graph.h"
#include "agent/graph/strikes.h"

/* The function of link lid (0: join) of a running graph made its engine fall (fell), or broke a
 * limit that its engine survived. kind: "idf", "join", "odf". */
void quarantine_strike(struct graph *g, const char *kind, uint32_t lid, const char *why, bool fell);
/* Mark in doc what is not to run. */
void quarantine_mark(const struct graph *g, struct doc *doc);
/* A new document runs: what it has no more is released, and csm hears so. */
void quarantine_revise(struct graph *g);
/* The graph is gone. */
void quarantine_forget(struct graph *g);

/* A person's word. ret: how many functions run again; ERR_NOENT: no such graph. */
int quarantine_release(struct service *s, const char *graph, struct err *err);
/* csm has begun a session, and all its graphs are here: it hears of everything, and what is kept of
 * other graphs is forgotten. */
void quarantine_session(struct service *s);
