/* graphdoc.h - the graph document (docs/graph-document.rst) as a value: build, look up, change a copy. Pure functions. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* An empty document; NULL: out of memory. */
json_t *graphdoc_new(const char *id, const char *owner);
int64_t graphdoc_rev(const json_t *doc);
/* The link's entry in the list of its mode; borrowed; NULL: none. */
json_t *graphdoc_find(const json_t *doc, const char *mode, const char *da_id, const char *feature);
json_t *graphdoc_find_lid(const json_t *doc, json_int_t lid);
/* Put a link's entry (taken) in: gives it the next lid, and an `order` unless it has one, and sorts. ret: 0 or ERR_NOMEM. */
int graphdoc_add(json_t *doc, const char *mode, json_t *entry);
void graphdoc_remove(json_t *doc, const char *mode, const json_t *entry);

/* Every link entry, and every function digest (dependencies included), of a document. */
typedef void graphdoc_link_fn(void *arg, const char *mode, json_t *entry);
void graphdoc_each_link(const json_t *doc, graphdoc_link_fn *fn, void *arg);
typedef void graphdoc_digest_fn(void *arg, const char *digest);
void graphdoc_each_digest(const json_t *doc, graphdoc_digest_fn *fn, void *arg);

/* Copy into `told` (an object) what a link's entry says of how it is run: topic, func, depends, param_no, tag_param_no, and of an IDF
 * input_type and order. ret: 0 or ERR_NOMEM. */
int graphdoc_tell(const json_t *entry, json_t *told);

/* What agents get: without links that carry an `error`, and without csm's own notes. A new document; NULL: out of memory. */
json_t *graphdoc_for_agent(const json_t *doc);

/* The agent refused `doc` because of the function at `where` ({"kind", "lid"}, docs/graph-document.rst). Make of doc one without that
 * function: the link or join gets what `confirmed` has, or if it is new there, stays out; either way it carries `error`: reason.
 * ret: false if `where` names nothing in doc that differs from confirmed. */
bool graphdoc_mend(json_t *doc, const json_t *confirmed, const json_t *where, const char *reason);
/* Whether the function at `where` is the same in both. */
bool graphdoc_same_at(const json_t *a, const json_t *b, const json_t *where);
