/* slots.h - the numbers that stand for topics on a ring.
 *
 * A number that was given back may still be on the ring: it rests until the ring has moved past the
 * mark it was given back with, and only then is given out for another topic.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slots; /* maps a slot to the value it stands for */

struct slots *slots_new(void); /* NULL: out of memory */
struct slots *slots_free(struct slots *s);
/* passed: how far the ring has moved by now. ret: 0 or ERR_NOMEM, ERR_LIMIT. */
int slots_take(struct slots *s, void *value, uint64_t passed, uint32_t *ret_slot);
/* Take this one, which an earlier process gave out. Those below that nobody has are free. ret: 0 or
 * ERR_EXIST, ERR_NOMEM, ERR_LIMIT. */
int slots_claim(struct slots *s, uint32_t slot, void *value);
/* Those that nobody has, of the first n, rest until `mark` is passed: an earlier process may have
 * used them to the last. ret: 0 or ERR_NOMEM, ERR_LIMIT. */
int slots_rest(struct slots *s, uint32_t n, uint64_t mark);
/* The slot rests from now on, until `mark` is passed. */
void slots_give(struct slots *s, uint32_t slot, uint64_t mark);
/* NULL: no such slot, or it rests. */
void *slots_find(const struct slots *s, uint32_t slot);
/* True for a slot whose rest is not over: it stands for nothing, but who still uses it does no
 * wrong. */
bool slots_resting(const struct slots *s, uint32_t slot, uint64_t passed);
