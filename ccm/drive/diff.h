/* diff.h - what has to be said to csm so that a graph becomes what is wanted. Pure functions. */
#pragma once

#include "ccm/drive/wanted.h"

struct diff {
	json_t *requests; /* of the graph API, in the order in which they are to be sent; those with functions come without their sources */
	unsigned added, removed, changed; /* links: those that get another function or input_type are changed */
	bool join;			  /* it gets another function */
};

/* state: what csm says of the graph; NULL: it is new and empty. ret: 0 or ERR_NOMEM; diff_done() only after 0. */
int diff_graph(const struct wanted *w, const json_t *state, struct diff *ret, struct err *err);
void diff_done(struct diff *d);

/* The digests that a request of diff_graph() needs csm to have. */
typedef void diff_digest_fn(void *arg, const char *digest);
void diff_each_digest(const json_t *request, diff_digest_fn *fn, void *arg);
