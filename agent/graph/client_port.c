#include "agent/graph/client.h"
#include "agent/graph/slot_rows.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>
#include <sys/epoll.h>

#define OWN_QOS          1 /* of what the agent itself says */
#define RESULTS_PER_TURN 512
#define BACKLOG_RETRY_MS 2 /* an engine does not tell when it has made room */

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

static void keep_for_later(struct route *r, const struct tap_rec *rec, const void *payload)
{
	struct transport_port *p = r->port;

	if (backlog_add(&p->backlog, rec, r->serial, payload) < 0) {
		p->t->n.ring_full++;
		r->n.dropped_full++;
	} else if (p->wake_fd >= 0) {
		loop_arm(p->t->loop, p->backlog_timer, BACKLOG_RETRY_MS);
	}
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

bool client_has_room(const struct topic *topic, size_t len)
{
	for (const struct route *r = topic->routes; r != NULL; r = r->next)
		if (!backlog_has_room(&r->port->backlog, len))
			return false;
	return true;
}

void client_deliver(struct topic *topic, const struct mqtt_publish *m)
{
	struct tap_rec rec = {
		.qos = m->qos,
		.flags = m->dup ? TAP_FLAG_DUP : 0,
		.len = (uint32_t)m->len,
	};

	for (struct route *r = topic->routes; r != NULL; r = r->next) {
		struct transport_port *p = r->port;

		rec.slot = r->slot;
		r->n.received++;
		if (p->wake_fd >= 0 && !p->broken && p->backlog.first == NULL &&
		    push(p, &rec, m->payload))
			continue;
		keep_for_later(r, &rec, m->payload);
	}
}

void client_feed_done(struct transport_port *p)
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
	client_feed_done(p);
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
	if (t->out == NULL)
		return false;
	int rc = mqtt_link_publish(t->out, out->name, out->name_len, p->buf, rec->len, rec->qos);
	if (rc == 0) {
		t->n.published++;
		return true;
	}
	if (rc == ERR_LIMIT)
		return false;
	t->n.publish_failed++;
	return true;
}

static bool pull_batch(struct transport_port *p, size_t max)
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

/* Take up to max results and send them in one go. ret: true if there may be more. */
static bool pull_some(struct transport_port *p, size_t max)
{
	bool more = pull_batch(p, max);

	if (p->t->out != NULL)
		mqtt_link_flush(p->t->out);
	return more;
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
	if (more && !p->holding) /* or else client_go_on() is due */
		loop_arm(p->t->loop, p->pull_timer, 0);
}

void client_go_on(struct transport_port *p)
{
	if (p->holding)
		loop_arm(p->t->loop, p->pull_timer, 0);
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

int client_out_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     transport_done_fn *done, void *arg, struct err *err)
{
	struct out_topic *out = topic_table_find(p->out_topics, name);

	if (out == NULL) {
		size_t len = strlen(name) + 1;

		out = calloc(1, sizeof(*out) + len);
		if (out == NULL)
			return err_set(err, ERR_NOMEM, "out topic");
		memcpy(out->name, name, len);
		out->name_len = len - 1;
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
	int rc = client_due(p, done, arg, err);
	if (rc < 0)
		client_drop_out_topic(p, name);
	return rc;
}

void client_drop_out_topic(struct transport_port *p, const char *name)
{
	struct out_topic *out = topic_table_find(p->out_topics, name);

	if (out == NULL || --out->refs > 0)
		return;
	/* What was written before the topic went away still goes out; the ring holds no more than
	 * this many records. */
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

int client_publish(struct transport_port *p, uint32_t out_slot, const char *payload, size_t len)
{
	const struct out_topic *out = slots_find(p->out_slots, out_slot);
	struct transport *t = p->t;

	if (out == NULL || t->out == NULL)
		return ERR_NOENT;
	int rc = mqtt_link_publish(t->out, out->name, out->name_len, payload, len, OWN_QOS);
	mqtt_link_flush(t->out);
	t->n.publish_failed += rc < 0;
	return rc;
}

/* ---- ports ---- */

static void add_slot(void *arg, struct route *r)
{
	slot_rows_add(arg, r->n);
}

/* The engine is gone: what it has written still counts, and what nobody takes now is lost. */
static void pull_last(struct transport_port *p)
{
	size_t max = p->t->ring_bytes / sizeof(struct tap_rec);
	struct tap_rec rec;

	if (!pull_some(p, max) || !p->holding)
		return;
	char *sink = malloc(p->buf_bytes);
	while (sink != NULL && max-- > 0 && tap_pull(p->tap, &rec, sink, p->buf_bytes) == 1)
		p->t->n.late_result++;
	free(sink);
}

static void on_later(void *arg)
{
	struct transport_port *p = arg;
	struct later now = p->later;

	p->later = (struct later){0};
	/* of these only one is ever the last thing that is done with the port */
	if (now.slots != NULL) {
		struct slot_rows list = {0};

		client_each_route(p, add_slot, &list);
		now.slots(now.slots_arg, list.rows, list.n);
		free(list.rows);
	}
	if (now.held != NULL)
		now.held(now.held_arg, &now.standing);
	if (now.retired != NULL)
		now.retired(now.retired_arg, 0);
}

int client_port_hold(struct transport_port *p, transport_held_fn *fn, void *arg, struct err *err)
{
	struct transport *t = p->t;
	struct transport_standing *standing = &p->later.standing;
	struct tap_rec current;
	uint64_t waiting;

	(void)err;
	p->result_src = loop_remove(t->loop, p->result_src);
	if (!p->broken)
		pull_last(p);
	p->wake_fd = p->result_fd = -1;
	*standing = (struct transport_standing){0};
	standing->sane = tap_progress(p->tap, &standing->done, &waiting) == 0;
	if (standing->sane && tap_current(p->tap, &current) == 1) {
		standing->at_message = true;
		standing->slot = current.slot;
	}
	p->later.held = fn;
	p->later.held_arg = arg;
	loop_arm(t->loop, p->later_timer, 0);
	return 0;
}

int client_port_retire(struct transport_port *p, bool skip_current, transport_done_fn *done,
		       void *arg, struct err *err)
{
	(void)err;
	tap_retire(p->tap, skip_current, NULL);
	p->later.retired = done;
	p->later.retired_arg = arg;
	loop_arm(p->t->loop, p->later_timer, 0);
	return 0;
}

int client_port_resume(struct transport_port *p, const struct tap_fds *fds, int wake_fd,
		       int result_fd, struct err *err)
{
	struct transport *t = p->t;

	int rc = tap_set_out(p->tap, fds->out_fd, err);
	if (rc < 0)
		return rc;
	p->pulled += t->ring_bytes; /* a new out-ring: nothing old is left on it */
	p->broken = false;
	rc = loop_add_fd(t->loop, result_fd, EPOLLIN, on_result_byte, p, &p->result_src, err);
	if (rc < 0)
		return rc;
	p->wake_fd = wake_fd;
	p->result_fd = result_fd;
	on_backlog(p);
	wake(p);
	loop_arm(t->loop, p->pull_timer, 0);
	return 0;
}

int client_port_stats(struct transport_port *p, transport_slots_fn *fn, void *arg, struct err *err)
{
	if (p->later.slots != NULL)
		return err_set(err, ERR_BUSY, "these statistics are being asked for");
	p->later.slots = fn;
	p->later.slots_arg = arg;
	loop_arm(p->t->loop, p->later_timer, 0);
	return 0;
}

/* Whatever is due for the port is due no more. */
static void forget_due(struct transport *t, const struct transport_port *p)
{
	struct waiter **at = &t->due;

	while (*at != NULL) {
		struct waiter *w = *at;

		if (w->port != p) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		free(w);
	}
}

struct transport_port *client_port_remove(struct transport_port *p)
{
	if (p == NULL)
		return NULL;
	struct transport *t = p->t;

	for (struct transport_port **at = &t->ports; *at != NULL; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	forget_due(t, p);
	loop_remove(t->loop, p->result_src);
	loop_remove(t->loop, p->backlog_timer);
	loop_remove(t->loop, p->pull_timer);
	loop_remove(t->loop, p->later_timer);
	topic_table_free(p->out_topics, free);
	slots_free(p->in_slots);
	slots_free(p->out_slots);
	backlog_done(&p->backlog);
	tap_close(p->tap);
	free(p->buf);
	free(p);
	return NULL;
}

int client_port_add(struct transport *t, const char *name, const struct tap_fds *fds, int wake_fd,
		    int result_fd, struct transport_port **ret, struct err *err)
{
	struct transport_port *p = calloc(1, sizeof(*p));

	(void)name; /* nobody else knows our ports */
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "port");
	*p = (struct transport_port){
		.t = t,
		.next = t->ports,
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
		rc = tap_open(fds->in_fd, fds->out_fd, &p->tap, err);
	if (rc == 0)
		rc = loop_add_timer(t->loop, -1, 0, on_backlog, p, &p->backlog_timer, err);
	if (rc == 0)
		rc = loop_add_timer(t->loop, -1, 0, on_pull, p, &p->pull_timer, err);
	if (rc == 0)
		rc = loop_add_timer(t->loop, -1, 0, on_later, p, &p->later_timer, err);
	if (rc == 0 && wake_fd >= 0)
		rc = client_port_resume(p, fds, wake_fd, result_fd, err);
	if (rc < 0) {
		client_port_remove(p);
		return rc;
	}
	*ret = p;
	return 0;
}

bool client_port_holding(const struct transport_port *p)
{
	return p->holding;
}
