/* traffic.h - numbered messages over many connections of one thread, and what becomes of them.
 *
 * A device has one or more inputs (topics to publish on) and one topic that answers. Messages go
 * round: over all devices, then to the next input of each. The payload of message n is [n] or, at
 * a given size, [n,21.5,7,...]; the answer to it is [factor*n+offset] followed by the same values.
 * An answer that differs in anything, or comes from another device's topic, is counted as wrong
 * and as nothing else, so a message counts as received only if its result is right.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct latency;
struct traffic;

struct traffic_conf {
	unsigned port, qos;
	unsigned inputs;      /* of each device */
	unsigned connections; /* publishers, and as many subscribers; 0: one each for each device */
	size_t payload_bytes; /* about; 0: the number alone */
	int64_t factor, offset;
	const char *topics_path; /* lines "topic-to-publish topic-that-answers", input after input,
				    device after device */
};

struct traffic_counts {
	uint64_t sent, received;
	uint64_t duplicated, disordered, wrong;
	uint64_t last_received_ns;
};

/* Connect and subscribe everything. ret: yours; give it to traffic_close(). */
int traffic_open(const struct traffic_conf *conf, struct traffic **ret, struct err *err);
struct traffic *traffic_close(struct traffic *t); /* NULL is fine; returns NULL */

/* One message to every input, and whatever is answered forgotten: joins have all values then. */
int traffic_prime(struct traffic *t, struct err *err);

/* Put the next message into its connection's write buffer; traffic_push() writes all of them.
 * at_ns: what its latency counts from. Errors: ERR_AGAIN (no packet id is free), ERR_NOMEM. */
int traffic_send(struct traffic *t, uint64_t at_ns);
int traffic_push(struct traffic *t, struct err *err);

/* Wait for at most wait_ns (below a second) and take what came. ret: connections that had
 * something. */
int traffic_take(struct traffic *t, int64_t wait_ns, struct err *err);

/* Take until all is answered and a moment passed (duplicates come last), but no longer than
 * limit_ns in all and silence_ns without anything. */
int traffic_drain(struct traffic *t, uint64_t silence_ns, uint64_t limit_ns, struct err *err);

/* Latencies of the answers from now on are added there; NULL: nowhere. Borrowed. */
void traffic_measure(struct traffic *t, struct latency *latency);
const struct traffic_counts *traffic_counts(const struct traffic *t);
