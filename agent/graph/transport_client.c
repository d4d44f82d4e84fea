#include "agent/graph/client.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define MAX_QUEUED       50000 /* results */
#define MAX_QUEUED_BYTES (64 << 20)
#define RESUME_MS        2 /* an engine does not tell when it has made room */
#define TOPIC_QOS        2

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

static struct topic *topic_new(struct transport *t, const char *name, size_t len)
{
	struct topic *topic = calloc(1, sizeof(*topic) + len + 1);

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
	int rc = mqtt_link_unsubscribe(topic->t->in, topic->name, on_unsubscribed, topic, NULL);
	if (rc < 0)
		on_unsubscribed(topic, rc);
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
	if (!mqtt_topic_valid(topic->name, strlen(topic->name)))
		return err_set(err, ERR_INVAL, "not a topic: '%.100s'", topic->name);
	topic->acks_pending++;
	topic->subs_pending++;
	int rc = mqtt_link_subscribe(topic->t->in, topic->name, TOPIC_QOS, on_subscribed, topic,
				     err);
	if (rc < 0) {
		topic->acks_pending--;
		topic->subs_pending--;
	}
	return rc;
}

/* Left over in the persistent session from a graph that is gone. */
static void turn_away(struct transport *t, const char *name, size_t len)
{
	struct topic *topic = topic_new(t, name, len);

	if (topic != NULL)
		unsubscribe(topic);
}

/* ret: false: not now; it is acknowledged only when it is taken. */
static bool on_message(void *arg, const struct mqtt_publish *m)
{
	struct transport *t = arg;
	struct topic *topic = topic_table_find_bytes(t->topics, m->topic, m->topic_len);
	bool routed = topic != NULL && topic->routes != NULL;

	if (routed && !m->retained && m->payload != NULL && !client_has_room(topic, m->len)) {
		loop_arm(t->loop, t->resume_timer, RESUME_MS);
		return false;
	}
	t->n.received++;
	if (m->retained) {
		t->n.retained++;
	} else if (!routed) {
		t->n.unknown_topic++;
		if (topic == NULL)
			turn_away(t, m->topic, m->topic_len);
	} else if (m->payload == NULL) {
		t->n.too_large++;
		for (struct route *r = topic->routes; r != NULL; r = r->next)
			r->n.dropped_too_large++;
	} else {
		client_deliver(topic, m);
	}
	return true;
}

static void on_resume(void *arg)
{
	struct transport *t = arg;

	mqtt_link_resume(t->in);
}

static void on_batch(void *arg)
{
	struct transport *t = arg;

	for (struct transport_port *p = t->ports; p != NULL; p = p->next)
		client_feed_done(p);
}

int client_due(struct transport_port *p, transport_done_fn *fn, void *arg, struct err *err)
{
	struct transport *t = p->t;
	struct waiter *w = malloc(sizeof(*w));

	if (w == NULL)
		return err_set(err, ERR_NOMEM, "transport");
	*w = (struct waiter){.next = t->due, .port = p, .fn = fn, .arg = arg};
	t->due = w;
	loop_arm(t->loop, t->due_timer, 0);
	return 0;
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

struct each_route {
	const struct transport_port *port;
	void (*fn)(void *arg, struct route *r);
	void *arg;
};

static void visit_topic(void *arg, void *value)
{
	const struct each_route *each = arg;
	struct topic *topic = value;

	for (struct route *r = topic->routes; r != NULL; r = r->next)
		if (r->port == each->port)
			each->fn(each->arg, r);
}

void client_each_route(struct transport_port *p, void (*fn)(void *arg, struct route *r), void *arg)
{
	struct each_route each = {.port = p, .fn = fn, .arg = arg};

	topic_table_each(p->t->topics, visit_topic, &each);
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
	r->n.slot = r->slot;
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
	if (topic->t->in != NULL)
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
		topic = topic_new(t, name, strlen(name));
	if (w == NULL || topic == NULL) {
		rc = err_set(err, ERR_NOMEM, "tapping a topic");
		goto fail;
	}
	r = route_of(topic, p);
	if (r == NULL) {
		rc = route_add(topic, p, &r, err);
		if (rc < 0 || r == NULL)
			goto fail;
	}
	r->refs++;
	if (t->in != NULL && !topic->subscribed && topic->waiters == NULL) {
		rc = subscribe(topic, err);
		if (rc < 0)
			goto fail;
	}
	*w = (struct waiter){.port = p, .fn = done, .arg = arg};
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

/* ---- the transport ---- */

/* The data path is up when both connections are. */
static void note_link(struct transport *t, bool *which, bool up)
{
	bool was_up = t->in_up && t->out_up;

	*which = up;
	if (was_up != (t->in_up && t->out_up))
		t->ev.on_link(t->arg, !was_up);
}

static void on_in_up(void *arg, bool fresh)
{
	struct transport *t = arg;

	(void)fresh;
	note_link(t, &t->in_up, true);
}

static void on_in_down(void *arg, const char *why)
{
	struct transport *t = arg;

	(void)why;
	note_link(t, &t->in_up, false);
}

static void on_out_up(void *arg, bool fresh)
{
	struct transport *t = arg;

	(void)fresh;
	note_link(t, &t->out_up, true);
}

static void on_out_down(void *arg, const char *why)
{
	struct transport *t = arg;

	(void)why;
	note_link(t, &t->out_up, false);
}

static void on_out_room(void *arg)
{
	struct transport *t = arg;

	for (struct transport_port *p = t->ports; p != NULL; p = p->next)
		client_go_on(p);
}

static struct transport *client_stop(struct transport *t)
{
	if (t == NULL)
		return NULL;
	t->in = mqtt_link_free(t->in);
	t->out = mqtt_link_free(t->out);
	while (t->ports != NULL)
		client_port_remove(t->ports);
	topic_table_free(t->topics, topic_free);
	while (t->due != NULL) {
		struct waiter *w = t->due;
		t->due = w->next;
		free(w);
	}
	loop_remove(t->loop, t->due_timer);
	loop_remove(t->loop, t->resume_timer);
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
	snprintf(t->in_id, sizeof(t->in_id), "agent-%s-data", agent_id);
	snprintf(t->out_id, sizeof(t->out_id), "agent-%s-out", agent_id);
	int rc = t->topics == NULL ? err_set(err, ERR_NOMEM, "transport")
				   : loop_add_timer(l, -1, 0, on_due, t, &t->due_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_resume, t, &t->resume_timer, err);
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
		log_error("transport.subscribe_failed", KV("topic", topic->name),
			  KV("why", err.text));
}

static int open_links(struct transport *t, struct err *err)
{
	static const struct mqtt_link_handlers in = {
		.on_up = on_in_up,
		.on_down = on_in_down,
		.on_message = on_message,
		.on_batch = on_batch,
	};
	static const struct mqtt_link_handlers out = {
		.on_up = on_out_up,
		.on_down = on_out_down,
		.on_room = on_out_room,
	};
	struct mqtt_link_conf conf = {
		.host = t->settings->core_mqtt.host,
		.port = (unsigned)t->settings->core_mqtt.port,
		.client_id = t->in_id,
		.max_payload_bytes = (size_t)t->settings->agent.max_payload_bytes,
		.max_queued = MAX_QUEUED,
		.max_queued_bytes = MAX_QUEUED_BYTES,
	};
	int rc = mqtt_link_new(t->loop, &conf, &in, t, &t->in, err);

	if (rc < 0)
		return rc;
	/* What an earlier process published is no business of ours: its identifiers would be
	 * mistaken for those of ours. */
	conf.client_id = t->out_id;
	conf.forget_session = true;
	rc = mqtt_link_new(t->loop, &conf, &out, t, &t->out, err);
	if (rc < 0)
		t->in = mqtt_link_free(t->in);
	return rc;
}

static void client_open(struct transport *t)
{
	struct err err = {0};

	if (t->in != NULL)
		return;
	if (open_links(t, &err) < 0) {
		log_error("transport.open_failed", KV("why", err.text));
		return;
	}
	topic_table_each(t->topics, subscribe_each, t);
	on_out_room(t);
}

static json_t *client_stats(const struct transport *t)
{
	struct mqtt_link_stats in = {0};

	if (t->in != NULL)
		mqtt_link_get_stats(t->in, &in);
	const struct {
		const char *name;
		uint64_t n;
	} rows[] = {
		{"received", t->n.received},
		{"published", t->n.published},
		{"publish_failed", t->n.publish_failed},
		{"dropped.retained", t->n.retained},
		{"dropped.unknown_topic", t->n.unknown_topic},
		{"dropped.too_large", t->n.too_large},
		{"dropped.ring_full", t->n.ring_full},
		{"dropped.untapped", t->n.untapped},
		{"dropped.late_result", t->n.late_result},
		{"dropped.result_too_large", t->n.result_too_large},
		{"data_connects", in.connects},
	};
	json_auto_t *stats = json_object();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		json_int_t n = (json_int_t)rows[i].n;

		if (json_object_set_new(stats, rows[i].name, json_integer(n)) < 0)
			return NULL;
	}
	return TAKE(stats);
}

const struct transport_ops transport_client = {
	.name = "client",
	.start = client_start,
	.stop = client_stop,
	.open = client_open,
	.port_add = client_port_add,
	.port_hold = client_port_hold,
	.port_retire = client_port_retire,
	.port_resume = client_port_resume,
	.port_remove = client_port_remove,
	.port_holding = client_port_holding,
	.tap_topic = client_tap_topic,
	.untap_topic = client_untap_topic,
	.out_topic = client_out_topic,
	.drop_out_topic = client_drop_out_topic,
	.publish = client_publish,
	.stats = client_stats,
	.port_stats = client_port_stats,
};
