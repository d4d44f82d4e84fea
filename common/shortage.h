/* shortage.h - whether memory was short: a JSON value that was built with little memory may lack a
 * member without a word, text of it may be no JSON, and jansson 2.14's parser writes over the end
 * of a string.
 *
 * Once watched, each allocation that jansson would not get is counted, and given from a reserve of
 * ours, so that it never sees a failure before that is used up. Whoever built or read values asks
 * whether the count is still the one from before: only then are they whole. For processes that use
 * jansson on one thread.
 */
#pragma once

#include <jansson.h>

/* Before the first JSON value of the process. From then on text of json_dumps() may not be given to
 * free(): shortage_dumps(). */
void shortage_watch_json(void);
unsigned long shortage_count(void);

/* Text of any value, on one line, and a copy of one, that lack nothing: jansson's own may without a
 * word. ret: yours, free() and json_decref(); NULL: out of memory, or there was no value. */
char *shortage_dumps(const json_t *value);
json_t *shortage_copy(const json_t *value);
