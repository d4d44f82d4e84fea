/* doc.h - a graph document (docs/graph-document.rst), checked where it enters.
 *
 * A document knows its links and, once the transport has given them, their slots; doc_for_engine()
 * makes of it what an engine understands.
 */
#pragma once

#include "agent/graph/funcs.h"
#include "common/err.h"
#include "common/id.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOC_ID_MAX 1024 /* bytes of a graph id */

struct doc_link {
	bool odf;
	uint32_t lid;
	const char *topic; /* strings are borrowed from the document */
	const char *func;  /* NULL: none */
	uint32_t slot;     /* who has the document sets this, */
	bool blocked;      /* and this: its function is not to run */
};

struct doc {
	json_t *json;
	const char *id, *owner;
	json_int_t rev;
	struct doc_link *links; /* idf links, then odf links */
	size_t n_links;
	const char *join_func;
	bool join_blocked;
	const char *monitor; /* NULL: nobody watches */
	uint32_t monitor_slot;
};

/* json: a reference is taken. ret: yours. Errors: ERR_SCHEMA (text names the place), ERR_NOMEM. */
int doc_new(json_t *json, struct doc **ret, struct err *err);
struct doc *doc_free(struct doc *d); /* NULL is fine; returns NULL */

const struct doc_link *doc_link(const struct doc *d, uint32_t lid); /* NULL: none */
/* The function that link lid, or (0) the join, uses, with what it depends on, as one digest; ret:
 * false if there is no such link, or no function there. */
bool doc_use(const struct doc *d, uint32_t lid, struct digest_text *ret);
/* Call fn with every digest the document names, some more than once. */
void doc_each_digest(const struct doc *d, void (*fn)(void *arg, const char *digest), void *arg);
/* The "graph" message for an engine, without seq; what is blocked says so. NULL: out of memory, or
 * a source is not there. */
json_t *doc_for_engine(const struct doc *d, const struct funcs *funcs);
