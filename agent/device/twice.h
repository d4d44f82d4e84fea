/* twice.h - acts that the broker delivers twice (QoS 1): the same body on the same topic, marked as
 * a duplicate, within ten seconds of the first (gateway-devices 1.5).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TWICE_MAX 8192 /* acts remembered; of more in ten seconds the oldest are forgotten */

struct twice {
	unsigned char key[16];
	struct {
		uint64_t hash;
		int64_t ms;
	} acts[TWICE_MAX]; /* a ring */
	size_t next;
};

void twice_init(struct twice *t);
/* Remember an act. ret: it is a duplicate of one that came before. */
bool twice_seen(struct twice *t, const char *topic, const char *body, size_t len, bool dup,
		int64_t now_ms);
