/* mqtt_link.h - one MQTT 3.1.1 connection on the loop, for the data path: a batch of packets costs
 * one read and one write, and nothing is allocated for a message.
 *
 * A link connects and reconnects by itself (at once, then after 50 ms doubling to 1 s, with
 * jitter), sets TCP_NODELAY, keeps a persistent session, asks for its topics again on every
 * connection, and sends again what was not acknowledged. Who takes no message for the moment is
 * offered nothing else: the link stops reading, and the broker keeps the rest. Loop thread only; no
 * threads but for looking up a host's name. It logs when it goes up and down.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "common/mqtt/mqtt_subs.h"
#include "common/mqtt/mqtt_wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mqtt_link;

struct mqtt_link_handlers { /* each may be NULL, but for on_message where there are topics */
	/* Connected and all topics acknowledged (or refused). fresh: the broker had no session of
	 * ours. */
	void (*on_up)(void *arg, bool fresh);
	void (*on_down)(void *arg, const char *why); /* once after each on_up */
	/* A message; may come before on_up. payload NULL: more than max_payload_bytes, it is
	 * skipped. It is acknowledged once it is taken. ret: false: not now: it stays with the
	 * link, which goes on after mqtt_link_resume() (or hears of it again from the broker). */
	bool (*on_message)(void *arg, const struct mqtt_publish *m);
	void (*on_batch)(void *arg); /* after a batch of on_message calls, once */
	void (*on_room)(void *arg);  /* after ERR_LIMIT: messages are taken again */
};

struct mqtt_link_conf {
	const char *host; /* strings are copied */
	unsigned port;
	const char *client_id;
	/* The session that an earlier process may have left is not ours: have the broker forget it
	 * before the first connection. */
	bool forget_session;
	size_t max_payload_bytes; /* of messages received */
	size_t max_queued;        /* messages to publish, sent and not acknowledged included */
	size_t max_queued_bytes;
	unsigned keepalive_ms; /* 0: 30000 */
	unsigned timeout_ms;   /* of a connection attempt, CONNACK included; 0: 5000 */
};

struct mqtt_link_stats {
	uint64_t connects;
	uint64_t repeated; /* QoS 2 messages sent again that had been taken */
	size_t kept;       /* to be published or acknowledged */
	bool up, stopped;  /* stopped: reading, for want of room */
};

/* Start connecting. ret: yours. Errors: ERR_INVAL (bad address), ERR_NOMEM. */
int mqtt_link_new(struct loop *l, const struct mqtt_link_conf *conf,
		  const struct mqtt_link_handlers *h, void *arg, struct mqtt_link **ret,
		  struct err *err);
/* Says goodbye: if it is up, waits up to half a second for acknowledgements. No handler and no done
 * function is called. Not from within a callback of this link. NULL is fine; returns NULL. */
struct mqtt_link *mqtt_link_free(struct mqtt_link *k);

/* Kept over reconnects; done is called once, later. Errors: ERR_INVAL (no topic), ERR_NOMEM. */
int mqtt_link_subscribe(struct mqtt_link *k, const char *topic, uint8_t qos, mqtt_done_fn *done,
			void *arg, struct err *err);
int mqtt_link_unsubscribe(struct mqtt_link *k, const char *topic, mqtt_done_fn *done, void *arg,
			  struct err *err);

/* Queue a message (copied), in order, also while offline; to be sent by mqtt_link_flush(), due
 * after each batch. topic is to be valid. Errors: ERR_LIMIT (full; on_room tells), ERR_RANGE (too
 * large for MQTT), ERR_NOMEM. */
int mqtt_link_publish(struct mqtt_link *k, const char *topic, size_t topic_len, const void *payload,
		      size_t len, uint8_t qos);
void mqtt_link_flush(struct mqtt_link *k);
/* The message that was not taken may be offered again, and the others. */
void mqtt_link_resume(struct mqtt_link *k);

void mqtt_link_get_stats(const struct mqtt_link *k, struct mqtt_link_stats *ret);
