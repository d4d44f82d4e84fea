/* graph_ops.h - the graph API's operations on one document (spec iottalk-core 5.2). */
#pragma once

#include "csm/csm.h"

#define OP_REASON_MAX 2048

/* Apply a request to doc (changed in place; throw it away on failure). answer: gets further fields.
 * ret: 0; ERR_NOENT: no such operation (not one that changes a document); any other negative with a reason. */
int graph_op_apply(struct csm *csm, json_t *doc, json_t *request, json_t *answer,
		   char reason[OP_REASON_MAX]);
/* The name as a literal; NULL: no such operation. */
const char *graph_op_name(const char *op);

/* add_funcs and rm_funcs: for all graphs, at once. */
int graph_op_add_funcs(struct csm *csm, json_t *request, char reason[OP_REASON_MAX]);
int graph_op_rm_funcs(struct csm *csm, json_t *request, char reason[OP_REASON_MAX]);
/* {alias: digest} with known digests -> {alias: source}; *ret is new. missing: the reason's format, alias then digest. */
int graph_op_sources(struct csm *csm, json_t *depends, json_t **ret, char reason[OP_REASON_MAX]);
