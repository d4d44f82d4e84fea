/* packed.h - a JSON value in little memory, for what stays and is seldom looked at: its text,
 * compressed. A list of objects that are much alike takes some bytes for each; as a tree, more than
 * a kilobyte.
 */
#pragma once

#include <jansson.h>

struct packed;

/* ret: yours, free(); NULL: out of memory. */
struct packed *packed_new(const json_t *value);
/* The value again, members in the order they had. ret: new; NULL: out of memory. */
json_t *packed_json(const struct packed *p);
