/* mqtt_link.h - one MQTT 3.1.1 connection on the loop: a batch of packets costs one read and one
 * write, and nothing is allocated for a message. The data path of the agent is two of them; a bus
 * of the suite's own client (common/bus.h) is one.
 *
 * A link connects and reconnects by itself (at once, then after 50 ms doubling to 1 s, with
 * jitter), sets TCP_NODELAY, asks for its topics again on every connection, and in a persistent
 * session sends again what was not acknowledged. Who takes no message for the moment is offered
 * nothing else: the link stops reading, and the broker keeps the rest. Loop thread only; no threads
 * but for looking up a host's name. It logs when it goes up and down.
 */
#pragma once

#include "common/bus.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/mqtt/mqtt_out.h"
#include "common/mqtt/mqtt_subs.h"
#include "common/mqtt/mqtt_wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mqtt_link;

struct mqtt_link_handlers { /* each may be NULL, but for on_message where there are topics */
	/* Before each attempt to connect: fill *will and return true, or return false for none. */
	bool (*on_connecting)(void *arg, struct bus_will *will);
	/* An attempt led to nothing, also one that ended before on_up. */
	void (*on_failed)(void *arg, const char *why);
	/* Connected and all topics acknowledged (or refused). fresh: the broker had no session of
	 * ours. */
	void (*on_up)(void *arg, bool fresh);
	void (*on_down)(void *arg, const char *why); /* once after each on_up */
	/* A message; may come before on_up. payload: a NUL follows it; NULL: more than
	 * max_payload_bytes, it is skipped. It is acknowledged once it is taken. ret: false: not
	 * now: it stays with the link, which goes on after mqtt_link_resume() (or hears of it again
	 * from the broker). */
	bool (*on_message)(void *arg, const struct mqtt_publish *m);
	void (*on_batch)(void *arg); /* after a batch of on_message calls, once */
	void (*on_room)(void *arg);  /* after ERR_LIMIT: messages are taken again */
};

struct mqtt_link_conf {
	const char *host; /* strings are copied */
	unsigned port;
	const char *client_id;
	const char *username, *password; /* NULL: none */
	bool clean_session;
	/* What was sent and not acknowledged when its session ends is given up, and counted: a
	 * clean one ends with its connection, any when the broker has forgotten it, or has ended
	 * four connections in a row at once: it does not like what is repeated. false: it is sent
	 * again until the broker has it. */
	bool give_up;
	bool frugal; /* one of thousands: no buffers while they hold nothing */
	/* The session that an earlier process may have left is not ours: have the broker forget it
	 * before the first connection. */
	bool forget_session;
	size_t max_payload_bytes; /* of messages received */
	size_t max_queued;        /* messages to publish, sent and not acknowledged included */
	size_t max_queued_bytes;
	size_t max_waiting, max_in_flight; /* as in struct mqtt_out_limits; 0: see there */
	/* Between attempts, doubling; 0, 0: 50 and 1000, and the first comes at once after a
	 * connection that lasted. */
	unsigned retry_min_ms, retry_max_ms;
	unsigned keepalive_ms; /* 0: 30000 */
	unsigned timeout_ms;   /* of a connection attempt, CONNACK included; 0: 5000 */
};

struct mqtt_link_stats {
	uint64_t connects;
	uint64_t repeated; /* QoS 2 messages sent again that had been taken */
	uint64_t given_up; /* messages */
	size_t kept;       /* to be published or acknowledged */
	bool up, stopped;  /* stopped: reading, for want of room */
	bool fresh;        /* the broker had no session of ours at the last connection */
};

/* Start connecting. ret: yours. Errors: ERR_INVAL (bad address), ERR_NOMEM. */
int mqtt_link_new(struct loop *l, const struct mqtt_link_conf *conf,
		  const struct mqtt_link_handlers *h, void *arg, struct mqtt_link **ret,
		  struct err *err);
/* Begin to say goodbye, without waiting: what is queued is sent, what is acknowledged is heard
 * while the loop turns, and then the connection is ended. No handler and no done function is called
 * any more, and nothing is published. Not from within a callback of this link. */
void mqtt_link_part(struct mqtt_link *k);
/* The same, and waits for it: half a second at most, counted from mqtt_link_part() if that was
 * called, so thousands that part and then are freed take half a second together. Not from within a
 * callback of this link. NULL is fine; returns NULL. */
struct mqtt_link *mqtt_link_free(struct mqtt_link *k);

/* Kept over reconnects; done is called once, later. topic: a filter. Errors: ERR_INVAL (it is
 * none), ERR_NOMEM. */
int mqtt_link_subscribe(struct mqtt_link *k, const char *topic, uint8_t qos, mqtt_done_fn *done,
			void *arg, struct err *err);
int mqtt_link_unsubscribe(struct mqtt_link *k, const char *topic, mqtt_done_fn *done, void *arg,
			  struct err *err);

/* Queue a message (copied), in order, also while offline; to be sent by mqtt_link_flush(), due
 * after each batch. topic is to be valid. Errors: ERR_LIMIT (full; on_room tells), ERR_RANGE (too
 * large for MQTT), ERR_NOMEM. */
int mqtt_link_publish(struct mqtt_link *k, const char *topic, size_t topic_len, const void *payload,
		      size_t len, uint8_t qos);
/* The same for any message (its id is ignored). w: is told what became of it (QoS 1 and 2); NULL:
 * nobody asks. */
int mqtt_link_send(struct mqtt_link *k, const struct mqtt_publish *m,
		   const struct mqtt_out_waiter *w);
void mqtt_link_flush(struct mqtt_link *k);
void mqtt_link_flush_soon(struct mqtt_link *k); /* in the next turn, with what comes until then */
/* The message that was not taken may be offered again, and the others. */
void mqtt_link_resume(struct mqtt_link *k);

void mqtt_link_get_stats(const struct mqtt_link *k, struct mqtt_link_stats *ret);
