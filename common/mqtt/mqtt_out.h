/* mqtt_out.h - the messages a client has to publish: queue, in-flight window, acknowledgements
 * (OASIS MQTT 3.1.1: 4.3 QoS, 4.4 delivery retry, 4.6 order).
 *
 * Messages go out in the order they came. With QoS 1 and 2 each is kept until its exchange with the
 * broker is over, and is sent again in the old order when a session is taken up again. Pure: it
 * writes to a buffer and reads no clock.
 */
#pragma once

#include "common/mqtt/mqtt_wire.h"

/* Packet identifiers 1 to MQTT_OUT_IDS are used here; those above are free for others. */
#define MQTT_OUT_IDS 61439

struct mqtt_out_msg;

/* What became of a message: 0: acknowledged; ERR_AGAIN: given up. */
typedef void mqtt_acked_fn(void *arg, int rc);
struct mqtt_out_waiter {
	mqtt_acked_fn *done; /* NULL: nobody waits */
	void *arg;
};

struct mqtt_out_limits {
	size_t msgs, bytes; /* kept: sent and not acknowledged, or waiting */
	size_t waiting;     /* messages not sent; 0: no limit of their own */
	size_t in_flight;   /* sent; 0: MQTT_OUT_IDS, which is the most */
	bool frugal;        /* keep no memory that holds nothing */
};

struct mqtt_out { /* private to mqtt_out.c, but for embedding */
	struct mqtt_out_msg *msgs;
	struct mqtt_out_waiter *waiters; /* of msgs, place by place; NULL: there was none yet */
	size_t cap;                      /* a power of two: message n is msgs[n & (cap - 1)] */
	uint64_t first, cursor, next;    /* oldest kept, next to send, next to be added */
	struct mqtt_bytes store;         /* packets of first..next, one after the other */
	uint64_t popped;                 /* bytes that have left the store */
	struct mqtt_out_limits max;
};

void mqtt_out_init(struct mqtt_out *o, const struct mqtt_out_limits *max);
void mqtt_out_done(struct mqtt_out *o);

/* Take a message (copied; its id is ignored); mqtt_out_pump() sends it. w: who waits for its
 * acknowledgement (QoS 1 and 2); NULL: nobody. ret: 0, ERR_LIMIT (full), ERR_RANGE (too large for
 * MQTT) or ERR_NOMEM. */
int mqtt_out_add(struct mqtt_out *o, const struct mqtt_publish *p, const struct mqtt_out_waiter *w);
/* Write what may go now, until max_waiting bytes wait in w. ret: 0 or ERR_NOMEM. */
int mqtt_out_pump(struct mqtt_out *o, struct mqtt_bytes *w, size_t max_waiting);
/* Something may go now. */
bool mqtt_out_ready(const struct mqtt_out *o);
/* Everything taken so far was written: the next message may go straight to the connection. */
bool mqtt_out_idle(const struct mqtt_out *o);
/* A PUBACK, PUBREC or PUBCOMP. Unknown identifiers do no harm. *ret: who is to be told now, if
 * anybody. ret: 0, ERR_NOMEM, or ERR_PEER if the message is not of the kind that is acknowledged
 * like this. */
int mqtt_out_acked(struct mqtt_out *o, enum mqtt_type type, uint16_t id, struct mqtt_bytes *w,
		   struct mqtt_out_waiter *ret, struct err *err);
/* Forget what was sent and not acknowledged, and tell who waits for it; they may add messages. ret:
 * how many. */
size_t mqtt_out_give_up(struct mqtt_out *o);
/* A new connection, to be pumped. resumed: the broker knows the session: what is not acknowledged
 * is sent again as it stood. Not resumed: all of it is new to the broker, but for QoS 2 messages
 * whose receipt was acknowledged. */
void mqtt_out_connected(struct mqtt_out *o, bool resumed);

size_t mqtt_out_kept(const struct mqtt_out *o);
size_t mqtt_out_unsent(const struct mqtt_out *o); /* of them */
size_t mqtt_out_unsent_bytes(const struct mqtt_out *o);
bool mqtt_out_has_room(const struct mqtt_out *o); /* a quarter of both limits is free */
