/* wrapper.h - the function that a link or a join is given: generated source that calls the user's functions and normalizers, which are its
 * dependencies (spec ccm 5.2).
 *
 * The text depends on names, positions and counts alone; what a user's function does shows in the dependencies' digests. Where a wrapper
 * would only hand on its arguments there is none. Pure functions.
 */
#pragma once

#include "common/err.h"
#include "common/id.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* A user's function; strings are borrowed. */
struct user_function {
	int64_t fn_id;
	const char *name;
	const char *code; /* NULL: there is no function */
};

/* One parameter of an output. */
struct output_param {
	struct user_function fn;
	int64_t dfo_id, param_i;
	bool normalized; /* into [min, max]; of no effect when they are equal */
	double min, max;
};

struct wrapper {
	struct digest_text digest; /* "": there is no wrapper */
	json_t *depends;	   /* {name: digest} */
	json_t *sources;	   /* {digest: source}, the wrapper's own among them */
};

/* Each makes *ret, to be released with wrapper_done(). Errors: ERR_NOMEM; ERR_SCHEMA: source that is no UTF-8. */
int wrapper_of_function(const struct user_function *fn, struct wrapper *ret, struct err *err); /* of an input, or of a join */
int wrapper_of_output(const struct output_param *params, size_t n, struct wrapper *ret, struct err *err);
void wrapper_done(struct wrapper *w);
