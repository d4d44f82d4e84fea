/* bus_int.h - the paho client; shared by bus.c (loop side), bus_publish.c (sending) and bus_inbound.c (library side) only. */
#pragma once

#include "common/bus.h"
#include "common/bus_paho.h"
#include "common/bus_subs.h"
#include <MQTTAsync.h>
#include <pthread.h>
#include <stdatomic.h>

enum bus_state {
	BUS_WAITING,    /* for the next attempt */
	BUS_CONNECTING, /* asked the library to connect */
	BUS_SYNCING,    /* connected, subscriptions not all acknowledged */
	BUS_UP,
};

/* Messages between the library's thread and the loop: records in one block of memory, swapped as a
 * whole. */
struct bus_queue {
	char *buf;
	size_t len, cap;
};

/* A message whose sender wants to hear what became of it. */
struct bus_ack {
	struct paho *bus;
	bus_done_fn *done;
	void *arg;
	int rc;
	struct bus_ack *prev, *next;
};

struct paho {
	struct bus bus;
	bool fresh; /* the broker had no session of ours at the last connection */
	struct loop *loop;
	struct bus_handlers handlers;
	void *arg;
	char *uri, *client_id, *username, *password;
	unsigned port, max_inflight, max_queued;
	bool clean_session;
	size_t max_inbound_bytes;

	MQTTAsync client;
	struct bus_peer peer;
	enum bus_state state;
	unsigned busy; /* inside that many of our callbacks */
	int64_t retry_ms, retry_min_ms, retry_max_ms, connecting_since_ms, up_since_ms;
	unsigned nudges, short_lives; /* connections in a row that the broker ended at once */
	struct bus_subs *subs;
	struct loop_src *retry_timer, *nudge_timer, *watch_timer, *wake_src;
	int wake_fd;
	unsigned connects;
	uint64_t published, publish_refused;
	struct bus_queue handling; /* taken from `incoming`, handled up to handled_at */
	size_t handled_at;

	/* what the library's threads write */
	atomic_size_t unacked;     /* QoS 1 and 2, given to the library */
	atomic_uint_fast64_t lost; /* given up by the library */
	pthread_mutex_t lock;      /* for the rest */
	pthread_cond_t changed;    /* unacked is 0 or disconnected, only while closing */
	bool closing, disconnected, woken;
	struct timespec goodbye_until; /* once closing */
	struct bus_queue incoming;
	size_t inbound_bytes; /* in both queues, not handled */
	uint64_t received, dropped_inbound;
	struct {
		bool decided, accepted, session_present, lost;
		char why[128];
	} conn;
	struct bus_call *answered;
	struct bus_ack *ack_awaited;              /* the library has the message */
	struct bus_ack *ack_first, **ack_end;     /* to be told on the loop, in the order they came */
};

/* The library's words for its codes; it has none for some. */
const char *bus_explain(int rc);
/* Make the loop look at what is new; lock held. */
void bus_wake(struct paho *b);
/* The message at *at, which moves on to the next. ret: false at the end. */
bool bus_queue_next(const struct bus_queue *q, size_t *at, struct bus_msg *ret);
void bus_one_less_unacked(struct paho *b);
/* The library, which had them, is gone: all that are awaited failed. */
void bus_acks_give_up(struct paho *b);
/* Tell what became of them; a chain by next, which it releases. */
void bus_acks_tell(struct bus_ack *acks);
/* Forget them all, after the client is destroyed. */
void bus_acks_drop(struct paho *b);

/* Callbacks for the library; context is the bus. */
int bus_on_library_message(void *context, char *topic, int topic_len, MQTTAsync_message *m);
void bus_on_library_lost(void *context, char *cause);
void bus_on_library_connected(void *context, MQTTAsync_successData *data);
void bus_on_library_refused(void *context, MQTTAsync_failureData *data);
void bus_on_library_acked(void *context, MQTTAsync_successData *data);
void bus_on_library_gave_up(void *context, MQTTAsync_failureData *data);
void bus_on_library_disconnected(void *context, MQTTAsync_successData *data);
void bus_on_call_answered(void *arg, struct bus_call *call);

int paho_publish(struct bus *bus, const char *topic, const void *payload, size_t len, uint8_t qos,
		 bool retain, struct err *err);
int paho_publish_acked(struct bus *bus, const char *topic, const void *payload, size_t len, bool retain,
		       bus_done_fn *done, void *arg, struct err *err);
