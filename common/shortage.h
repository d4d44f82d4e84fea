/* shortage.h - whether memory was short: a JSON value that was built with little memory may lack a
 * member without a word.
 *
 * Once watched, each allocation that jansson does not get is counted. Whoever built or read values
 * asks whether the count is still the one from before: then they are whole.
 */
#pragma once

#include <jansson.h>

/* Before the first JSON value of the process. */
void shortage_watch_json(void);
unsigned long shortage_count(void);

/* Text of any value, on one line, and a copy of one, that lack nothing: jansson's own may without a
 * word. ret: yours, free() and json_decref(); NULL: out of memory, or there was no value. */
char *shortage_dumps(const json_t *value);
json_t *shortage_copy(const json_t *value);
