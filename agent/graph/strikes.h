/* strikes.h - the book of functions that made their engine fall: how often, and what follows.
 *
 * A function is known by its use: graph, link (0: the join), and the digest of its source with what
 * it depends on. Three strikes within a minute and the use is quarantined; two within an hour and
 * its graph is to have an engine of its own. Both outlive the process, in a small file. No graph,
 * no loop and no engine here. Times are milliseconds of any clock that does not go back.
 */
#pragma once

#include "common/err.h"
#include "common/id.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct strikes;

enum strikes_verdict {
	STRIKES_NOTED,
	STRIKES_APART,      /* from now on an engine of its own */
	STRIKES_QUARANTINED /* from now on not to be run */
};

/* One use that is quarantined; strings are borrowed for the call. */
struct strikes_use {
	const char *kind; /* "idf", "join", "odf" */
	uint32_t lid;
	const char *reason;
};
typedef void strikes_fn(void *arg, const struct strikes_use *use);

/* path: of the file, copied; NULL: nothing is kept. One that cannot be read is logged and begun
 * anew. ret: yours. */
int strikes_new(const char *path, struct strikes **ret, struct err *err);
struct strikes *strikes_free(struct strikes *b); /* NULL is fine; returns NULL */

/* why: in words, what it did. Nothing is noted of a use that is quarantined already. */
enum strikes_verdict strikes_add(struct strikes *b, const char *graph, const char *kind,
				 uint32_t lid, const struct digest_text *code, int64_t now_ms,
				 const char *why);
/* NULL: it may run. */
const char *strikes_reason(const struct strikes *b, const char *graph, uint32_t lid,
			   const struct digest_text *code);
bool strikes_apart(const struct strikes *b, const char *graph);
/* It could not get an engine of its own after all. */
void strikes_together(struct strikes *b, const char *graph);

/* Forget the uses for which keep says false; fn (may be NULL) is told of those that were
 * quarantined. */
typedef bool strikes_keep_fn(void *arg, uint32_t lid, const struct digest_text *code);
void strikes_revise(struct strikes *b, const char *graph, strikes_keep_fn *keep, strikes_fn *fn,
		    void *arg);
/* The graph is gone. */
void strikes_forget(struct strikes *b, const char *graph);
/* Forget the graphs for which keep says false. */
void strikes_sweep(struct strikes *b, bool (*keep)(void *arg, const char *graph), void *arg);

void strikes_each(const struct strikes *b, const char *graph, strikes_fn *fn, void *arg);
size_t strikes_quarantined(const struct strikes *b, const char *graph);
size_t strikes_all_quarantined(const struct strikes *b);
/* [{"kind", "lid", "strikes": n, "last_s": seconds ago or null, "quarantined": reason or null}]; a
 * new list. */
json_t *strikes_tell(const struct strikes *b, const char *graph, int64_t now_ms);
/* Write what is to be kept, if it changed. Errors are the caller's to log. */
int strikes_save(struct strikes *b, struct err *err);
