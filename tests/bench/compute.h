/* compute.h - what the relays compute, in C: the same as the user functions of the suite. */
#pragma once

#include <stddef.h>

#define COMPUTE_INPUTS 5

struct compute; /* remembers the values of joins */

struct compute *compute_new(void); /* NULL: no memory */
struct compute *compute_free(struct compute *c);

/* The answer to a message, borrowed until the next call; NULL: none. A topic PREFIX/in/DEVICE of a
 * payload [x,...] is answered on PREFIX/out/DEVICE with [x*2+1,...]; PREFIX/in/DEVICE/INPUT (0..4)
 * on PREFIX/out/DEVICE with [s*2+1], s the sum of the latest values of the device's five inputs,
 * once each has one. prefix_len is that of "PREFIX/". */
const char *compute_answer(struct compute *c, size_t prefix_len, const char *topic,
			   size_t topic_len, const char *payload, size_t len,
			   const char **ret_topic, size_t *ret_topic_len, size_t *ret_len);
