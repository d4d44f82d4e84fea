#include "agent/graph/backlog.h"
#include "agent/graph/slots.h"
#include "agent/graph/topic_table.h"
#include "agent/graph/transport.h"
#include "common/bus.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define CLIENT_ID_MAX    128
#define MAX_INFLIGHT     10000
#define MAX_QUEUED       50000
#define TOPIC_QOS        2
#define OWN_QOS          1 /* of what the agent itself says */
#define RESULTS_PER_TURN 512
#define BACKLOG_RETRY_MS 2 /* an engine does not tell when it has made room */
#define HOLD_RETRY_MS    5 /* nor does the queue to the broker */

struct waiter {
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
	unsigned acks_pending;  /* subscribe and unsubscribe packets under way: each names this struct */
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
	uint64_t pulled; /* clock of the out-ring for resting slots: bytes taken, and a whole ring whenever it was empty */
	bool fed, broken, holding;
	struct tap_rec held; /* while holding: the result that the broker did not take, payload in buf */
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

/* ---- messages in ---- */

static void wake(struct transport_port *p)
{
	/* A full pipe has bytes enough in it to wake anybody. */
	if (p->wake_fd >= 0 && write(p->wake_fd, "w", 1) < 0 && errno != EAGAIN)
		log_debug("transport.wake_failed", KV("errno", errno));
}

static void mark_broken(struct transport_port *p)
{
	if (p->broken)
		return;
	p->broken = true;
	p->t->ev.on_port_broken(p->t->arg, p);
}

static void keep_for_later(struct transport_port *p, const struct tap_rec *rec, uint64_t serial,
			   const void *payload)
{
	if (backlog_add(&p->backlog, rec, serial, payload) < 0)
		p->t->n.ring_full++;
	else if (p->wake_fd >= 0)
		loop_arm(p->t->loop, p->backlog_timer, BACKLOG_RETRY_MS);
}

/* ret: false if there was no room and the message is still the caller's. */
static bool push(struct transport_port *p, const struct tap_rec *rec, const void *payload)
{
	int rc = tap_push(p->tap, rec, payload);

	if (rc == ERR_AGAIN)
		return false;
	if (rc == 0) {
		p->fed = true;
	} else if (rc == ERR_RANGE) {
		p->t->n.too_large++;
	} else {
		mark_broken(p);
		return false;
	}
	return true;
}

static void deliver(const struct topic *topic, const struct bus_msg *m)
{
	struct tap_rec rec = {
		.qos = m->qos,
		.flags = m->dup ? TAP_FLAG_DUP : 0,
		.len = (uint32_t)m->len,
	};

	for (const struct route *r = topic->routes; r != NULL; r = r->next) {
		struct transport_port *p = r->port;

		rec.slot = r->slot;
		if (p->wake_fd >= 0 && !p->broken && p->backlog.first == NULL &&
		    push(p, &rec, m->payload))
			continue;
		keep_for_later(p, &rec, r->serial, m->payload);
	}
}

static void feed_done(struct transport_port *p)
{
	if (!p->fed)
		return;
	p->fed = false;
	if (tap_engine_sleeps(p->tap))
		wake(p);
	p->t->ev.on_port_fed(p->t->arg, p);
}

static bool still_routed(const struct transport_port *p, const struct backlog_msg *m)
{
	const struct route *r = slots_find(p->in_slots, m->rec.slot);

	return r != NULL && r->serial == m->serial;
}

static void on_backlog(void *arg)
{
	struct transport_port *p = arg;

	if (p->wake_fd < 0 || p->broken)
		return;
	for (const struct backlog_msg *m = p->backlog.first; m != NULL; m = p->backlog.first) {
		if (!still_routed(p, m))
			p->t->n.untapped++;
		else if (!push(p, &m->rec, m->payload))
			break;
		backlog_drop_first(&p->backlog);
	}
	if (p->backlog.first != NULL && !p->broken)
		loop_arm(p->t->loop, p->backlog_timer, BACKLOG_RETRY_MS);
	feed_done(p);
}

/* ---- topics ---- */

static void topic_free(void *value)
{
	struct topic *topic = value;

	while (topic->waiters != NULL) {
		struct waiter *w = topic->waiters;
		topic->waiters = w->next;
		free(w);
	}
	while (topic->routes != NULL) {
		struct route *r = topic->routes;
		topic->routes = r->next;
		free(r);
	}
	free(topic);
}

static struct topic *topic_new(struct transport *t, const char *name)
{
	size_t len = strlen(name) + 1;
	struct topic *topic = calloc(1, sizeof(*topic) + len);

	if (topic == NULL)
		return NULL;
	topic->t = t;
	memcpy(topic->name, name, len);
	if (topic_table_add(t->topics, topic->name, topic) < 0) {
		free(topic);
		return NULL;
	}
	return topic;
}

static void topic_drop_unused(struct topic *topic)
{
	if (topic->routes != NULL || topic->acks_pending > 0 || topic->waiters != NULL)
		return;
	topic_table_remove(topic->t->topics, topic->name);
	topic_free(topic);
}

static void on_unsubscribed(void *arg, int rc)
{
	struct topic *topic = arg;

	(void)rc; /* a topic that the broker keeps is met again as an unknown one */
	topic->acks_pending--;
	topic_drop_unused(topic);
}

static void unsubscribe(struct topic *topic)
{
	topic->subscribed = false;
	topic->acks_pending++;
	if (bus_unsubscribe(topic->t->bus, topic->name, on_unsubscribed, topic, NULL) < 0)
		on_unsubscribed(topic, ERR_BUS);
}

static void on_subscribed(void *arg, int rc)
{
	struct topic *topic = arg;
	struct waiter *w = topic->waiters;

	topic->acks_pending--;
	if (--topic->subs_pending > 0)
		return; /* taken back and asked for again meanwhile: only the last answer tells */
	topic->waiters = NULL;
	if (rc == 0 && topic->routes != NULL)
		topic->subscribed = true;
	else if (rc < 0)
		log_warn("transport.subscribe_failed", KV("topic", topic->name),
			 KV("why", err_name(rc)));
	topic->acks_pending++; /* callbacks may untap: stay alive */
	while (w != NULL) {
		struct waiter *next = w->next;
		w->fn(w->arg, rc);
		free(w);
		w = next;
	}
	topic->acks_pending--;
	topic_drop_unused(topic);
}

static int subscribe(struct topic *topic, struct err *err)
{
	topic->acks_pending++;
	topic->subs_pending++;
	int rc = bus_subscribe(topic->t->bus, topic->name, TOPIC_QOS, on_subscribed, topic, err);
	if (rc < 0) {
		topic->acks_pending--;
		topic->subs_pending--;
	}
	return rc;
}

/* Left over in the persistent session from a graph that is gone. */
static void turn_away(struct transport *t, const char *name)
{
	struct topic *topic = topic_new(t, name);

	t->n.unknown_topic++;
	if (topic != NULL)
		unsubscribe(topic);
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct transport *t = arg;
	struct topic *topic;

	t->n.received++;
	if (m->retained) {
		t->n.retained++;
		return;
	}
	topic = topic_table_find(t->topics, m->topic);
	if (topic == NULL)
		turn_away(t, m->topic);
	else if (topic->routes == NULL)
		t->n.unknown_topic++;
	else if (m->len > (size_t)t->settings->agent.max_payload_bytes)
		t->n.too_large++;
	else
		deliver(topic, m);
}

static void on_batch(void *arg)
{
	struct transport *t = arg;

	for (struct transport_port *p = t->ports; p != NULL; p = p->next)
		feed_done(p);
}

static void on_due(void *arg)
{
	struct transport *t = arg;
	struct waiter *w = t->due;

	t->due = NULL;
	while (w != NULL) {
		struct waiter *next = w->next;
		w->fn(w->arg, 0);
		free(w);
		w = next;
	}
}

static struct route *route_of(const struct topic *topic, const struct transport_port *p)
{
	struct route *r = topic->routes;

	while (r != NULL && r->port != p)
		r = r->next;
	return r;
}

static int route_add(struct topic *topic, struct transport_port *p, struct route **ret,
		     struct err *err)
{
	uint64_t done = 0, waiting;
	struct route *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return err_set(err, ERR_NOMEM, "tapping a topic");
	*r = (struct route){.next = topic->routes, .port = p, .serial = ++p->t->serials};
	if (tap_progress(p->tap, &done, &waiting) < 0)
		done = 0; /* no rest is over then; the engine is replaced soon */
	int rc = slots_take(p->in_slots, r, done, &r->slot);
	if (rc < 0) {
		free(r);
		return err_set(err, rc, "no slot left on the ring");
	}
	topic->routes = r;
	*ret = r;
	return 0;
}

static void route_remove(struct topic *topic, struct route *r)
{
	uint64_t done, waiting, mark = UINT64_MAX;
	struct route **at = &topic->routes;

	if (tap_progress(r->port->tap, &done, &waiting) == 0)
		mark = done + waiting;
	slots_give(r->port->in_slots, r->slot, mark);
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	free(r);
	if (topic->routes != NULL)
		return;
	if (topic->t->bus != NULL)
		unsubscribe(topic); /* may free the topic */
	else
		topic_drop_unused(topic);
}

static int client_tap_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
			    transport_done_fn *done, void *arg, struct err *err)
{
	struct transport *t = p->t;
	struct topic *topic = topic_table_find(t->topics, name);
	struct waiter *w = malloc(sizeof(*w));
	struct route *r = NULL;
	int rc;

	if (topic == NULL)
		topic = topic_new(t, name);
	if (w == NULL || topic == NULL) {
		rc = err_set(err, ERR_NOMEM, "tapping a topic");
		goto fail;
	}
	r = route_of(topic, p);
	if (r == NULL) {
		rc = route_add(topic, p, &r, err);
		if (rc < 0)
			goto fail;
	}
	r->refs++;
	if (t->bus != NULL && !topic->subscribed && topic->waiters == NULL) {
		rc = subscribe(topic, err);
		if (rc < 0)
			goto fail;
	}
	*w = (struct waiter){.fn = done, .arg = arg};
	struct waiter **list = topic->subscribed ? &t->due : &topic->waiters;
	w->next = *list;
	*list = w;
	if (topic->subscribed)
		loop_arm(t->loop, t->due_timer, 0);
	*ret_slot = r->slot;
	return 0;
fail:
	free(w);
	if (r != NULL && --r->refs == 0)
		route_remove(topic, r);
	else if (topic != NULL)
		topic_drop_unused(topic);
	return rc;
}

static void client_untap_topic(struct transport_port *p, const char *name)
{
	struct topic *topic = topic_table_find(p->t->topics, name);
	struct route *r = topic != NULL ? route_of(topic, p) : NULL;

	if (r != NULL && --r->refs == 0)
		route_remove(topic, r);
}

/* ---- results out ---- */

/* ret: false if the broker's queue is full and the result is still ours. */
static bool publish_result(struct transport_port *p, const struct tap_rec *rec)
{
	struct transport *t = p->t;
	const struct out_topic *out = slots_find(p->out_slots, rec->slot);

	if (out == NULL) {
		if (slots_resting(p->out_slots, rec->slot, p->pulled))
			t->n.late_result++;
		else
			mark_broken(p);
		return true;
	}
	if (rec->len > t->max_result_bytes) {
		t->n.result_too_large++;
		return true;
	}
	int rc = t->bus != NULL ? bus_publish(t->bus, out->name, p->buf, rec->len, rec->qos, false, NULL)
				: ERR_LIMIT;
	if (rc == ERR_LIMIT)
		return false;
	if (rc < 0)
		t->n.publish_failed++;
	else
		t->n.published++;
	return true;
}

/* Take up to max results. ret: true if there may be more. */
static bool pull_some(struct transport_port *p, size_t max)
{
	if (p->holding) {
		if (!publish_result(p, &p->held))
			return true;
		p->holding = false;
	}
	for (size_t i = 0; i < max && !p->broken; i++) {
		struct tap_rec rec;
		int got = tap_pull(p->tap, &rec, p->buf, p->buf_bytes);

		if (got < 0) {
			mark_broken(p);
			return false;
		}
		if (got == 0) {
			p->pulled += p->t->ring_bytes;
			return false;
		}
		p->pulled += sizeof(rec) + rec.len;
		if (!publish_result(p, &rec)) {
			p->holding = true;
			p->held = rec;
			return true;
		}
	}
	return !p->broken;
}

static void on_pull(void *arg)
{
	struct transport_port *p = arg;

	if (p->broken)
		return;
	tap_set_asleep(p->tap, false);
	bool more = pull_some(p, RESULTS_PER_TURN);
	if (!more && !p->broken) {
		/* Nothing there: say that we sleep, then look once more. */
		tap_set_asleep(p->tap, true);
		more = pull_some(p, RESULTS_PER_TURN);
		if (more)
			tap_set_asleep(p->tap, false);
	}
	if (more)
		loop_arm(p->t->loop, p->pull_timer, p->holding ? HOLD_RETRY_MS : 0);
}

static void on_result_byte(void *arg, uint32_t events)
{
	struct transport_port *p = arg;
	char sink[512];
	ssize_t n = read(p->result_fd, sink, sizeof(sink));

	(void)events;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		/* The engine is dead; its keeper says so in a moment. */
		p->result_src = loop_remove(p->t->loop, p->result_src);
		return;
	}
	on_pull(p);
}

static int client_out_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
			    struct err *err)
{
	struct out_topic *out = topic_table_find(p->out_topics, name);

	if (out == NULL) {
		size_t len = strlen(name) + 1;

		out = calloc(1, sizeof(*out) + len);
		if (out == NULL)
			return err_set(err, ERR_NOMEM, "out topic");
		memcpy(out->name, name, len);
		int rc = slots_take(p->out_slots, out, p->pulled, &out->slot);
		if (rc == 0 && (rc = topic_table_add(p->out_topics, out->name, out)) < 0)
			slots_give(p->out_slots, out->slot, 0);
		if (rc < 0) {
			free(out);
			return err_set(err, rc, "out topic");
		}
	}
	out->refs++;
	*ret_slot = out->slot;
	return 0;
}

static void client_drop_out_topic(struct transport_port *p, const char *name)
{
	struct out_topic *out = topic_table_find(p->out_topics, name);

	if (out == NULL || --out->refs > 0)
		return;
	/* What was written before the topic went away still goes out; the ring holds no more than this many records. */
	if (!p->broken)
		pull_some(p, p->t->ring_bytes / sizeof(struct tap_rec));
	if (p->holding && p->held.slot == out->slot) {
		p->holding = false;
		p->t->n.late_result++;
	}
	slots_give(p->out_slots, out->slot, p->pulled + p->t->ring_bytes);
	topic_table_remove(p->out_topics, name);
	free(out);
}

static int client_publish(struct transport_port *p, uint32_t out_slot, const char *payload,
			  size_t len)
{
	const struct out_topic *out = slots_find(p->out_slots, out_slot);

	if (out == NULL || p->t->bus == NULL)
		return ERR_NOENT;
	return bus_publish(p->t->bus, out->name, payload, len, OWN_QOS, false, NULL);
}

/* ---- ports ---- */

/* The engine is gone: what it has written still counts, and what nobody takes now is lost. */
static void pull_last(struct transport_port *p)
{
	size_t max = p->t->ring_bytes / sizeof(struct tap_rec);
	struct tap_rec rec;

	if (!pull_some(p, max) || !p->holding)
		return;
	CLEANUP(freep) char *sink = malloc(p->buf_bytes);
	while (sink != NULL && max-- > 0 && tap_pull(p->tap, &rec, sink, p->buf_bytes) == 1)
		p->t->n.late_result++;
}

static int client_port_renewed(struct transport_port *p, int wake_fd, int result_fd, struct err *err)
{
	struct transport *t = p->t;

	p->result_src = loop_remove(t->loop, p->result_src);
	if (wake_fd < 0) {
		if (p->wake_fd >= 0 && !p->broken)
			pull_last(p);
		p->wake_fd = p->result_fd = -1;
		return 0;
	}
	p->pulled += t->ring_bytes; /* a new out-ring: nothing old is left on it */
	p->broken = false;
	int rc = loop_add_fd(t->loop, result_fd, EPOLLIN, on_result_byte, p, &p->result_src, err);
	if (rc < 0)
		return rc;
	p->wake_fd = wake_fd;
	p->result_fd = result_fd;
	on_backlog(p);
	wake(p);
	loop_arm(t->loop, p->pull_timer, 0);
	return 0;
}

static struct transport_port *client_port_remove(struct transport_port *p)
{
	if (p == NULL)
		return NULL;
	struct transport *t = p->t;

	for (struct transport_port **at = &t->ports; *at != NULL; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	loop_remove(t->loop, p->result_src);
	loop_remove(t->loop, p->backlog_timer);
	loop_remove(t->loop, p->pull_timer);
	topic_table_free(p->out_topics, free);
	slots_free(p->in_slots);
	slots_free(p->out_slots);
	backlog_done(&p->backlog);
	free(p->buf);
	free(p);
	return NULL;
}

static int client_port_add(struct transport *t, struct tap *tap, int wake_fd, int result_fd,
			   struct transport_port **ret, struct err *err)
{
	struct transport_port *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return err_set(err, ERR_NOMEM, "port");
	*p = (struct transport_port){
		.t = t,
		.next = t->ports,
		.tap = tap,
		.wake_fd = -1,
		.result_fd = -1,
		.in_slots = slots_new(),
		.out_slots = slots_new(),
		.out_topics = topic_table_new(),
		.backlog = {.max_bytes = (size_t)t->settings->agent.queue_bytes},
		.buf_bytes = t->ring_bytes,
		.buf = malloc(t->ring_bytes),
	};
	t->ports = p;
	int rc = ERR_NOMEM;
	if (p->in_slots == NULL || p->out_slots == NULL || p->out_topics == NULL || p->buf == NULL)
		err_set(err, rc, "port");
	else
		rc = loop_add_timer(t->loop, -1, 0, on_backlog, p, &p->backlog_timer, err);
	if (rc == 0)
		rc = loop_add_timer(t->loop, -1, 0, on_pull, p, &p->pull_timer, err);
	if (rc == 0 && wake_fd >= 0)
		rc = client_port_renewed(p, wake_fd, result_fd, err);
	if (rc < 0) {
		client_port_remove(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static bool client_port_holding(const struct transport_port *p)
{
	return p->holding;
}

/* ---- the transport ---- */

static void on_up(void *arg, bool fresh)
{
	struct transport *t = arg;

	(void)fresh;
	t->ev.on_link(t->arg, true);
}

static void on_down(void *arg, const char *why)
{
	struct transport *t = arg;

	(void)why; /* the bus of the control plane tells the log */
	t->ev.on_link(t->arg, false);
}

static struct transport *client_stop(struct transport *t)
{
	if (t == NULL)
		return NULL;
	bus_free(t->bus);
	while (t->ports != NULL)
		client_port_remove(t->ports);
	topic_table_free(t->topics, topic_free);
	while (t->due != NULL) {
		struct waiter *w = t->due;
		t->due = w->next;
		free(w);
	}
	loop_remove(t->loop, t->due_timer);
	free(t);
	return NULL;
}

static int client_start(struct loop *l, const struct settings *s, const char *agent_id,
			const struct transport_events *ev, void *arg, struct transport **ret,
			struct err *err)
{
	struct transport *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return err_set(err, ERR_NOMEM, "transport");
	*t = (struct transport){
		.loop = l,
		.settings = s,
		.ev = *ev,
		.arg = arg,
		.topics = topic_table_new(),
		/* rings are rounded up to a power of two: twice is enough for any */
		.ring_bytes = (size_t)s->engine.ring_kb * 1024 * 2,
		/* a broker ends the connection over a message that is too large for it */
		.max_result_bytes = s->broker.message_size_limit > 0
					    ? (size_t)s->broker.message_size_limit
					    : SIZE_MAX,
	};
	snprintf(t->client_id, sizeof(t->client_id), "agent-%s-data", agent_id);
	int rc = t->topics == NULL ? err_set(err, ERR_NOMEM, "transport")
				   : loop_add_timer(l, -1, 0, on_due, t, &t->due_timer, err);
	if (rc < 0) {
		client_stop(t);
		return rc;
	}
	*ret = t;
	return 0;
}

static void subscribe_each(void *arg, void *value)
{
	struct topic *topic = value;
	struct err err = {0};

	(void)arg;
	if (topic->routes != NULL && subscribe(topic, &err) < 0)
		log_error("transport.subscribe_failed", KV("topic", topic->name), KV("why", err.text));
}

static void client_open(struct transport *t)
{
	static const struct bus_handlers handlers = {
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
		.on_batch = on_batch,
	};
	const struct bus_conf conf = {
		.host = t->settings->core_mqtt.host,
		.port = (unsigned)t->settings->core_mqtt.port,
		.client_id = t->client_id,
		.clean_session = false,
		.max_inflight = MAX_INFLIGHT,
		.max_queued = MAX_QUEUED,
		.max_inbound_bytes = (size_t)t->settings->agent.queue_bytes,
	};
	struct err err = {0};

	if (t->bus != NULL)
		return;
	if (bus_new(t->loop, &conf, &handlers, t, &t->bus, &err) < 0) {
		log_error("transport.open_failed", KV("why", err.text));
		return;
	}
	topic_table_each(t->topics, subscribe_each, t);
}

static json_t *client_stats(const struct transport *t)
{
	struct bus_stats bus = {0};

	if (t->bus != NULL)
		bus_get_stats(t->bus, &bus);
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"received", (json_int_t)t->n.received,
		"published", (json_int_t)t->n.published,
		"publish_failed", (json_int_t)(t->n.publish_failed + bus.publish_failed),
		"dropped.retained", (json_int_t)t->n.retained,
		"dropped.unknown_topic", (json_int_t)t->n.unknown_topic,
		"dropped.too_large", (json_int_t)t->n.too_large,
		"dropped.ring_full", (json_int_t)t->n.ring_full,
		"dropped.untapped", (json_int_t)t->n.untapped,
		"dropped.inbound_full", (json_int_t)bus.dropped_inbound,
		"dropped.late_result", (json_int_t)t->n.late_result,
		"dropped.result_too_large", (json_int_t)t->n.result_too_large,
		"data_connects", (json_int_t)bus.connects);
}

const struct transport_ops transport_client = {
	.name = "client",
	.start = client_start,
	.stop = client_stop,
	.open = client_open,
	.port_add = client_port_add,
	.port_renewed = client_port_renewed,
	.port_remove = client_port_remove,
	.port_holding = client_port_holding,
	.tap_topic = client_tap_topic,
	.untap_topic = client_untap_topic,
	.out_topic = client_out_topic,
	.drop_out_topic = client_drop_out_topic,
	.publish = client_publish,
	.stats = client_stats,
};
