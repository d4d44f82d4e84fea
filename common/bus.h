/* bus.h - an MQTT 3.1.1 connection on the loop.
 *
 * A bus connects and reconnects by itself (first try at once, then 50 ms doubling to 1 s or as its
 * conf says, with jitter), sets TCP_NODELAY on every connection, and subscribes to its topics
 * again each time it comes up. All callbacks run on the loop's thread.
 *
 * Two clients stand behind the same calls (struct bus_ops): paho's MQTTAsync, whose threads never
 * show, and the suite's own (common/mqtt), which is small and has no threads: for processes with
 * thousands of connections, and for the library of device applications.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus;
typedef void bus_done_fn(void *arg, int rc);

struct bus_msg {
	const char *topic;   /* NUL-terminated; borrowed for the callback, like payload */
	const char *payload; /* len bytes, any content, NUL-terminated beyond len for convenience */
	size_t len;
	uint8_t qos;
	bool retained; /* a replay of a retained message */
	bool dup;
};

struct bus_will {
	char topic[256];
	char payload[1024];
	size_t len;
	uint8_t qos;
	bool retain;
};

struct bus_handlers {
	/* Before each connection attempt: fill *will (qos, retain, topic, payload) and return true,
	 * or return false for none. */
	bool (*on_connecting)(void *arg, struct bus_will *will);
	/* An attempt to connect failed; the next one comes by itself. Optional. */
	void (*on_failed)(void *arg, const char *why);
	/* Connected and all subscriptions acknowledged (or refused). fresh: the broker had no
	 * session of ours. */
	void (*on_up)(void *arg, bool fresh);
	/* Once after each on_up. */
	void (*on_down)(void *arg, const char *why);
	/* Messages received early or late may come before on_up and after on_down. */
	void (*on_message)(void *arg, const struct bus_msg *m);
	/* After a batch of on_message calls, once; optional. */
	void (*on_batch)(void *arg);
};

struct bus_conf {
	const char *host; /* strings are copied */
	unsigned port;
	const char *client_id;
	const char *username, *password; /* NULL: none */
	bool clean_session;
	unsigned max_inflight;   /* 0: 60000. Once it is reached paho sends only so many a
				    second: leave it high */
	/* Messages kept while offline or when inflight is full; 0: 10000. With QoS 1 and 2 each
	 * costs paho time in proportion to those waiting: 0.05 ms at 10000, 0.5 ms at 20000. The
	 * suite's own client keeps 64 MiB of them at most.
	 */
	unsigned max_queued;
	/* Received but not yet handled; beyond: dropped, counted; 0: 64 MiB. The suite's own client
	 * has one message at a time, and drops a larger one; the others wait at the broker. */
	size_t max_inbound_bytes;
	unsigned retry_min_ms, retry_max_ms; /* between attempts to connect; 0: 50 and 1000 */
};

struct bus_stats {
	uint64_t received, published, dropped_inbound;
	/* Refused by bus_publish(), or QoS 1 and 2 not acknowledged when a session ended: a clean
	 * one with its connection, any when the broker has forgotten it. */
	uint64_t publish_failed;
	unsigned connects;
	bool up;
};

struct bus_ops {
	struct bus *(*free)(struct bus *b);
	void (*part)(struct bus *b);
	int (*subscribe)(struct bus *b, const char *topic, uint8_t qos, bus_done_fn *done,
			 void *arg, struct err *err);
	int (*unsubscribe)(struct bus *b, const char *topic, bus_done_fn *done, void *arg,
			   struct err *err);
	int (*publish)(struct bus *b, const char *topic, const void *payload, size_t len,
		       uint8_t qos, bool retain, struct err *err);
	int (*publish_acked)(struct bus *b, const char *topic, const void *payload, size_t len,
			     bool retain, bus_done_fn *done, void *arg, struct err *err);
	bool (*is_up)(const struct bus *b);
	bool (*is_fresh)(const struct bus *b);
	void (*get_stats)(const struct bus *b, struct bus_stats *ret);
};

struct bus {
	const struct bus_ops *ops; /* first member of every implementation */
};

/* Start connecting. ret: yours; give it to bus_free(). Errors: ERR_NOMEM, ERR_BUS (bad address). */
typedef int bus_new_fn(struct loop *l, const struct bus_conf *conf, const struct bus_handlers *h,
		       void *arg, struct bus **ret, struct err *err);
bus_new_fn bus_new_paho, bus_new_own;

/* Begin to say goodbye, without waiting for its end; nothing but bus_free() may follow. Who has many
 * to free parts from each and then frees each, and waits once for all. NULL is fine. Not from within
 * a callback of this bus. */
static inline void bus_part(struct bus *b)
{
	if (b != NULL)
		b->ops->part(b);
}

/* Disconnects (cleanly if up: no last will) and releases; blocks at most about two seconds from
 * bus_part() or from here: with paho most of it for the last bus of a process, with the suite's own
 * client half a second, and only while acknowledgements are missing. What is not acknowledged by
 * then is lost. Not from within a callback of this bus. No done function is called. NULL is fine;
 * returns NULL. */
static inline struct bus *bus_free(struct bus *b)
{
	return b != NULL ? b->ops->free(b) : NULL;
}

/* Add or drop a subscription; kept over reconnects. done (may be NULL) is called once with 0 when
 * the broker acknowledged it, or a negative code: ERR_ACCES (refused), ERR_CONFLICT (a later call
 * for the same filter took its place). While offline it waits for the next connection. A topic
 * already subscribed is acknowledged again, without another replay of retained messages unless the
 * QoS changes. Calls of one loop turn share packets. Errors: ERR_INVAL (no topic filter),
 * ERR_NOMEM. */
static inline int bus_subscribe(struct bus *b, const char *topic, uint8_t qos, bus_done_fn *done,
				void *arg, struct err *err)
{
	return b->ops->subscribe(b, topic, qos, done, arg, err);
}

static inline int bus_unsubscribe(struct bus *b, const char *topic, bus_done_fn *done, void *arg,
				  struct err *err)
{
	return b->ops->unsubscribe(b, topic, done, arg, err);
}

/* Queue for sending; while offline kept up to max_queued. Order per topic is kept. Errors:
 * ERR_LIMIT (queue full; 65535 is the most for QoS 1 and 2 together), ERR_BUS (not a topic, too
 * large, ...), ERR_NOMEM. payload is copied. */
static inline int bus_publish(struct bus *b, const char *topic, const void *payload, size_t len,
			      uint8_t qos, bool retain, struct err *err)
{
	return b->ops->publish(b, topic, payload, len, qos, retain, err);
}

/* The same at QoS 1, and done is called once, later: 0 when the broker acknowledged it, ERR_AGAIN when
 * that did not come before the session ended (a clean one ends with its connection; the message may
 * have arrived). While offline it waits as all do. Not called any more once bus_free() has begun.
 * Errors: as above; done is not called then. */
static inline int bus_publish_acked(struct bus *b, const char *topic, const void *payload,
				    size_t len, bool retain, bus_done_fn *done, void *arg,
				    struct err *err)
{
	return b->ops->publish_acked(b, topic, payload, len, retain, done, arg, err);
}

static inline bool bus_is_up(const struct bus *b)
{
	return b->ops->is_up(b);
}

/* The last connection found no session of ours: what happened while we were away went unheard.
 * Known before the first on_message of a connection. */
static inline bool bus_is_fresh(const struct bus *b)
{
	return b->ops->is_fresh(b);
}

static inline void bus_get_stats(const struct bus *b, struct bus_stats *ret)
{
	b->ops->get_stats(b, ret);
}
