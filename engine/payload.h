/* payload.h - what a message holds, as values (spec iottalk-core 6, step 1).
 *
 * Numbers, booleans and null, alone or in one list, are read by hand, without allocation but for
 * the values. All else is left to the JSON library. Both ways give the same.
 */
#pragma once

#include "common/err.h"
#include "engine/vals.h"
#include <jansson.h>
#include <stdbool.h>

struct payload {
	json_t *json; /* NULL: read by hand */
	bool flat;    /* no value can be changed by who gets it */
};

/* Set *values to what the message holds. Errors: ERR_SCHEMA (not JSON, err says why), ERR_NOMEM. */
int payload_read(struct payload *p, const char *text, size_t len, struct vals *values,
		 struct err *err);
void payload_done(struct payload *p);
/* Set *values to fresh ones, if functions may have changed what those of the last time hold. */
int payload_renew(struct payload *p, struct vals *values, struct err *err);

/* The two ways, for tests. Quick: false: not for this way (then *values holds anything). */
bool payload_read_quick(const char *text, size_t len, struct vals *values);
int payload_read_json(struct payload *p, const char *text, size_t len, struct vals *values,
		      struct err *err);
