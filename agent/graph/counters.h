/* counters.h - totals by name, as JSON objects. */
#pragma once

#include <jansson.h>

void counters_add(json_t *totals, const char *name, json_int_t n);
void counters_add_all(json_t *totals, json_t *more); /* more: NULL is fine */
/* A total that an engine may have reached; anything else it says is 0. */
json_int_t counters_believe(const json_t *n);
/* An engine's `stats` as names of ours; what it makes up is cut down to size. A new object; NULL:
 * out of memory. */
json_t *counters_of_engine(json_t *msg);
/* The reasons it gives for drops, likewise; each name gets prefix in front. */
void counters_add_drops(json_t *totals, const char *prefix, json_t *drops);
