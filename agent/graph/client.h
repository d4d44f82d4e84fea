/* client.h - inside the client transport: topics on the broker's side, ports on the engines' side.
 * Private to transport_client.c (topics, the connection) and client_port.c (rings).
 */
#pragma once

#include "agent/graph/backlog.h"
#include "agent/graph/slots.h"
#include "agent/graph/topic_table.h"
#include "agent/graph/transport.h"
#include "common/bus.h"
#include "common/loop.h"
#include <stdbool.h>

#define CLIENT_ID_MAX 128

struct waiter { /* for the broker's acknowledgement of a topic */
	struct waiter *next;
	transport_done_fn *fn;
	void *arg;
};

struct route { /* a topic's way to one port */
	struct route *next;
	struct transport_port *port;
	uint32_t slot;
	uint64_t serial;
	unsigned refs;
};

struct topic {
	struct transport *t;
	struct route *routes;
	struct waiter *waiters; /* for the broker's acknowledgement */
	unsigned acks_pending;  /* subscribe and unsubscribe packets under way: each names this
				   struct */
	unsigned subs_pending;  /* the subscribe packets among them */
	bool subscribed;        /* acknowledged, and not unsubscribed since */
	char name[];
};

struct out_topic {
	uint32_t slot;
	unsigned refs;
	char name[];
};

struct transport_port {
	struct transport *t;
	struct transport_port *next;
	struct tap *tap;
	int wake_fd, result_fd; /* -1: no engine */
	struct loop_src *result_src, *backlog_timer, *pull_timer;
	struct slots *in_slots, *out_slots;
	struct topic_table *out_topics;
	struct backlog backlog;
	uint64_t pulled; /* clock of the out-ring for resting slots: bytes taken, and a whole ring
			    whenever it was empty */
	bool fed, broken, holding;
	struct tap_rec
		held; /* while holding: the result that the broker did not take, payload in buf */
	char *buf;
	size_t buf_bytes;
};

struct counters {
	uint64_t received, retained, unknown_topic, too_large, ring_full, untapped;
	uint64_t published, late_result, result_too_large, publish_failed;
	uint64_t refused; /* by the bus, tried again or not: it counts them as failed */
};

struct transport {
	struct loop *loop;
	const struct settings *settings;
	struct transport_events ev;
	void *arg;
	char client_id[CLIENT_ID_MAX];
	struct bus *bus; /* NULL until open() */
	struct topic_table *topics;
	struct transport_port *ports;
	struct waiter *due; /* of topics that are subscribed already: called from the next turn */
	struct loop_src *due_timer;
	uint64_t serials;
	size_t ring_bytes, max_result_bytes;
	struct counters n;
};

/* ---- client_port.c; the operations of the same names in transport.h are these ---- */

/* Put a message on the ring of every port the topic goes to, or keep it for later. */
void client_deliver(const struct topic *topic, const struct bus_msg *m);
/* After a batch: wake the engine if it sleeps. */
void client_feed_done(struct transport_port *p);

int client_port_add(struct transport *t, struct tap *tap, int wake_fd, int result_fd,
		    struct transport_port **ret, struct err *err);
int client_port_renewed(struct transport_port *p, int wake_fd, int result_fd, struct err *err);
struct transport_port *client_port_remove(struct transport_port *p);
bool client_port_holding(const struct transport_port *p);
int client_out_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     struct err *err);
void client_drop_out_topic(struct transport_port *p, const char *name);
int client_publish(struct transport_port *p, uint32_t out_slot, const char *payload, size_t len);
