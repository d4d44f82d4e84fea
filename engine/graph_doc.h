/* graph_doc.h - reading one graph document; used by graph.c only. */
#pragma once

#include "engine/graph.h"

/* Build a graph from doc, without functions loaded. ret: yours. Errors: ERR_SCHEMA, ERR_NOMEM;
 * *ret_where as graphs_put(). */
int graph_parse(json_t *doc, struct graph **ret, struct graph_where *ret_where, struct err *err);
struct graph *graph_free(struct graph *g); /* NULL is fine; returns NULL */
