/* fake_transport.h - a transport of the test: it has the rings of its ports and nothing behind
 * them; taps are acknowledged when the test says so. */
#pragma once

#include "agent/graph/transport.h"
#include "common/tap.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct fake_topic {
	char name[80];
	unsigned refs;
};

struct tap_wait {
	struct transport_port *port;
	transport_done_fn *fn;
	void *arg;
};

struct transport {
	struct loop *loop;
	struct transport_events ev;
	void *arg;
	unsigned opened;
	struct transport_port *ports; /* newest first */
	struct tap_wait waits[64];
	size_t n_waits;
	json_t *early; /* results that were there when their engine died */
};

struct transport_port {
	struct transport *t;
	struct transport_port *next;
	char name[80];
	struct tap *tap;
	int wake_fd;
	unsigned renewals;
	struct fake_topic in[8], out[8]; /* index is the slot */
	char said[4096];
	uint32_t said_slot;
	transport_held_fn *held;
	transport_done_fn *retired;
	void *held_arg, *retired_arg;
	transport_slots_fn *slots;
	void *slots_arg;
	struct loop_src *later; /* what was promised for the next turn; goes with the port */
	struct tap_wait outs[64];
	size_t n_outs;
};

static struct transport *the_transport(struct transport *set)
{
	static struct transport *t; /* made by the service, looked at by the test */
	if (set != NULL)
		t = set;
	return t;
}

static int fake_start(struct loop *l, const struct settings *s, const char *agent_id,
		      const struct transport_events *ev, void *arg, struct transport **ret,
		      struct err *err)
{
	(void)s, (void)agent_id, (void)err;
	*ret = calloc(1, sizeof(**ret));
	(*ret)->loop = l;
	(*ret)->ev = *ev;
	(*ret)->arg = arg;
	(*ret)->early = json_array();
	the_transport(*ret);
	return 0;
}

static struct transport *fake_stop(struct transport *t)
{
	json_decref(t->early);
	free(t);
	return NULL;
}

static void fake_open(struct transport *t)
{
	t->opened++;
}

static bool pull_from(struct transport_port *p, char payload[256])
{
	struct tap_rec rec;
	int rc = tap_pull(p->tap, &rec, payload, 255);

	assert_true(rc >= 0);
	if (rc == 1)
		payload[rec.len] = '\0';
	return rc == 1;
}

static void say_held(struct transport_port *p)
{
	struct tap_rec current;
	uint64_t waiting;
	struct transport_standing standing = {0};

	standing.sane = tap_progress(p->tap, &standing.done, &waiting) == 0;
	standing.at_message = standing.sane && tap_current(p->tap, &current) == 1;
	standing.slot = standing.at_message ? current.slot : 0;
	TAKE(p->held)(p->held_arg, &standing);
}

static void say_slots(struct transport_port *p)
{
	struct transport_slot_stats rows[8];
	size_t n = 0;

	for (uint32_t i = 8; i-- > 0;) /* in no order that matters */
		if (p->in[i].refs > 0)
			rows[n++] = (struct transport_slot_stats){
				.slot = i, .received = 10 + i, .dropped_full = 3};
	TAKE(p->slots)(p->slots_arg, rows, n);
}

static void on_later(void *arg)
{
	struct transport_port *p = arg;

	for (size_t i = 0; i < p->n_outs; i++)
		p->outs[i].fn(p->outs[i].arg, 0);
	p->n_outs = 0;
	if (p->slots != NULL)
		say_slots(p);
	if (p->held != NULL)
		say_held(p);
	else if (p->retired != NULL)
		TAKE(p->retired)(p->retired_arg, 0);
}

static int later(struct transport_port *p)
{
	loop_arm(p->t->loop, p->later, 0);
	return 0;
}

static int fake_port_hold(struct transport_port *p, transport_held_fn *fn, void *arg,
			  struct err *err)
{
	char payload[256];

	(void)err;
	while (pull_from(p, payload))
		json_array_append_new(p->t->early, json_string(payload));
	p->wake_fd = -1;
	p->renewals++;
	p->held = fn;
	p->held_arg = arg;
	return later(p);
}

static int fake_port_retire(struct transport_port *p, bool skip_current, transport_done_fn *done,
			    void *arg, struct err *err)
{
	(void)err;
	tap_retire(p->tap, skip_current, NULL);
	p->retired = done;
	p->retired_arg = arg;
	return later(p);
}

static int fake_port_resume(struct transport_port *p, const struct tap_fds *fds, int wake_fd,
			    int result_fd, struct err *err)
{
	(void)result_fd;
	assert_int_equal(tap_set_out(p->tap, fds->out_fd, err), 0);
	p->wake_fd = wake_fd;
	p->renewals++;
	assert_int_equal(write(wake_fd, "w", 1), 1);
	return 0;
}

static int fake_port_add(struct transport *t, const char *name, const struct tap_fds *fds,
			 int wake_fd, int result_fd, struct transport_port **ret, struct err *err)
{
	struct transport_port *p = calloc(1, sizeof(*p));

	(void)result_fd;
	p->t = t;
	p->next = t->ports;
	t->ports = p;
	snprintf(p->name, sizeof(p->name), "%s", name);
	assert_int_equal(loop_add_timer(t->loop, -1, 0, on_later, p, &p->later, err), 0);
	assert_int_equal(tap_open(fds->in_fd, fds->out_fd, &p->tap, err), 0);
	p->wake_fd = wake_fd;
	*ret = p;
	return 0;
}

static struct transport_port *fake_port_remove(struct transport_port *p)
{
	struct transport *t = p->t;
	struct transport_port **at = &t->ports;
	size_t left = 0;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	for (size_t i = 0; i < t->n_waits; i++)
		if (t->waits[i].port != p)
			t->waits[left++] = t->waits[i];
	t->n_waits = left;
	loop_remove(t->loop, p->later);
	tap_close(p->tap);
	free(p);
	return NULL;
}

static bool fake_holding(const struct transport_port *p)
{
	(void)p;
	return false;
}

static uint32_t topic_slot(struct fake_topic *list, const char *name, int change)
{
	uint32_t empty = UINT32_MAX;

	for (uint32_t i = 0; i < 8; i++) {
		if (list[i].refs > 0 && strcmp(list[i].name, name) == 0) {
			list[i].refs += (unsigned)change;
			return i;
		}
		if (list[i].refs == 0 && empty == UINT32_MAX)
			empty = i;
	}
	assert_int_equal(change, 1); /* nothing is given back that was not taken */
	assert_true(empty < 8);
	snprintf(list[empty].name, sizeof(list[empty].name), "%s", name);
	list[empty].refs = 1;
	return empty;
}

static unsigned refs_of(const struct fake_topic *list, const char *name)
{
	for (size_t i = 0; i < 8; i++)
		if (strcmp(list[i].name, name) == 0)
			return list[i].refs;
	return 0;
}

static int fake_tap(struct transport_port *p, const char *topic, uint32_t *ret_slot,
		    transport_done_fn *done, void *arg, struct err *err)
{
	(void)err;
	*ret_slot = topic_slot(p->in, topic, 1);
	assert_true(p->t->n_waits < 64);
	p->t->waits[p->t->n_waits++] = (struct tap_wait){p, done, arg};
	return 0;
}

static void fake_untap(struct transport_port *p, const char *topic)
{
	topic_slot(p->in, topic, -1);
}

static int fake_out(struct transport_port *p, const char *topic, uint32_t *ret_slot,
		    transport_done_fn *done, void *arg, struct err *err)
{
	(void)err;
	assert_true(p->n_outs < 64);
	p->outs[p->n_outs++] = (struct tap_wait){p, done, arg};
	*ret_slot = topic_slot(p->out, topic, 1);
	return later(p);
}

static void fake_drop_out(struct transport_port *p, const char *topic)
{
	topic_slot(p->out, topic, -1);
}

static int fake_publish(struct transport_port *p, uint32_t slot, const char *payload, size_t len)
{
	p->said_slot = slot;
	snprintf(p->said, sizeof(p->said), "%.*s", (int)len, payload);
	return 0;
}

static json_t *fake_stats(const struct transport *t)
{
	(void)t;
	return json_object();
}

static int fake_port_stats(struct transport_port *p, transport_slots_fn *fn, void *arg,
			   struct err *err)
{
	(void)err;
	p->slots = fn;
	p->slots_arg = arg;
	return later(p);
}

static const struct transport_ops fake_ops = {
	.name = "fake",
	.start = fake_start,
	.stop = fake_stop,
	.open = fake_open,
	.port_add = fake_port_add,
	.port_hold = fake_port_hold,
	.port_retire = fake_port_retire,
	.port_resume = fake_port_resume,
	.port_remove = fake_port_remove,
	.port_holding = fake_holding,
	.tap_topic = fake_tap,
	.untap_topic = fake_untap,
	.out_topic = fake_out,
	.drop_out_topic = fake_drop_out,
	.publish = fake_publish,
	.stats = fake_stats,
	.port_stats = fake_port_stats,
};
