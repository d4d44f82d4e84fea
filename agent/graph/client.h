/* client.h - inside the client transport: topics on the broker's side, ports on the engines' side.
 * Private to transport_client.c (topics, the connections) and client_port.c (rings).
 *
 * It has two connections, one for messages and one for results. A message that finds no room stops
 * the reading of its connection until there is some, and the broker keeps what follows. Were
 * results on the same connection, their acknowledgements would stand behind those messages: an
 * engine whose results nobody acknowledges stands still, makes no room, and both sides would wait
 * for ever.
 */
#pragma once

#include "agent/graph/backlog.h"
#include "agent/graph/slots.h"
#include "agent/graph/transport.h"
#include "common/loop.h"
#include "common/mqtt/mqtt_link.h"
#include "common/topic_table.h"
#include <stdbool.h>

#define CLIENT_ID_MAX 128

struct waiter { /* for the broker's acknowledgement of a topic, or (due) for the next turn */
	struct waiter *next;
	const struct transport_port *port;
	transport_done_fn *fn;
	void *arg;
};

struct route { /* a topic's way to one port */
	struct route *next;
	struct transport_port *port;
	uint32_t slot;
	uint64_t serial;
	unsigned refs;
	struct transport_slot_stats n;
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
	size_t name_len;
	uint32_t slot;
	unsigned refs;
	char name[];
};

struct later { /* what a port has promised for the next turn; NULL: nothing */
	transport_held_fn *held;
	transport_done_fn *retired;
	transport_slots_fn *slots;
	void *held_arg, *retired_arg, *slots_arg;
	struct transport_standing standing;
};

struct transport_port {
	struct transport *t;
	struct transport_port *next;
	struct tap *tap;
	int wake_fd, result_fd; /* -1: no engine */
	struct loop_src *result_src, *backlog_timer, *pull_timer, *later_timer;
	struct later later;
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
};

struct transport {
	struct loop *loop;
	const struct settings *settings;
	struct transport_events ev;
	void *arg;
	char in_id[CLIENT_ID_MAX], out_id[CLIENT_ID_MAX]; /* client ids */
	struct mqtt_link *in, *out;                       /* messages, results; NULL until open() */
	bool in_up, out_up;
	struct topic_table *topics;
	struct transport_port *ports;
	struct waiter *due; /* of topics that are subscribed already: called from the next turn */
	struct loop_src *due_timer, *resume_timer;
	uint64_t serials;
	size_t ring_bytes, max_result_bytes;
	struct counters n;
};

/* ---- transport_client.c ---- */

/* Call fn(arg, 0) in the next turn, unless the port goes before. */
int client_due(struct transport_port *p, transport_done_fn *fn, void *arg, struct err *err);
/* Call fn with every route to the port. */
void client_each_route(struct transport_port *p, void (*fn)(void *arg, struct route *r), void *arg);

/* ---- client_port.c; the operations of the same names in transport.h are these ---- */

/* Is there room for the message wherever the topic goes? */
bool client_has_room(const struct topic *topic, size_t len);
/* Put a message on the ring of every port the topic goes to, or keep it for later. */
void client_deliver(struct topic *topic, const struct mqtt_publish *m);
/* After a batch: wake the engine if it sleeps. */
void client_feed_done(struct transport_port *p);
/* Results are taken again: go on with the one that was held. */
void client_go_on(struct transport_port *p);

int client_port_add(struct transport *t, const char *name, const struct tap_fds *fds, int wake_fd,
		    int result_fd, struct transport_port **ret, struct err *err);
int client_port_hold(struct transport_port *p, transport_held_fn *fn, void *arg, struct err *err);
int client_port_retire(struct transport_port *p, bool skip_current, transport_done_fn *done,
		       void *arg, struct err *err);
int client_port_resume(struct transport_port *p, const struct tap_fds *fds, int wake_fd,
		       int result_fd, struct err *err);
struct transport_port *client_port_remove(struct transport_port *p);
int client_port_stats(struct transport_port *p, transport_slots_fn *fn, void *arg, struct err *err);
bool client_port_holding(const struct transport_port *p);
int client_out_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     transport_done_fn *done, void *arg, struct err *err);
void client_drop_out_topic(struct transport_port *p, const char *name);
int client_publish(struct transport_port *p, uint32_t out_slot, const char *payload, size_t len);
