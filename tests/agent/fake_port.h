/* fake_port.h - the service's side of one instance of a driver: it notes what the driver tells. */
#pragma once

#include "agent/device/driver.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define FAKE_EVENTS_MAX 8192

struct fake_event {
	char path[200]; /* segments joined with '/' */
	json_t *payload;
	bool retain;
	int point; /* -1: of none */
	struct value value;
	emitted_fn *done; /* not called yet */
	void *arg;
};

struct fake_state {
	const char *path[4];
	size_t n_path;
	json_t *payload;
};

struct port {
	struct loop *loop;
	struct fake_event events[FAKE_EVENTS_MAX];
	size_t n, read; /* read: what next_event() has given */
	unsigned created, ended;
	char why[200];
	enum link_state link;
	unsigned count, links;
	struct fake_state states[16]; /* what was told before */
	size_t n_states;
	unsigned asked_states;
	json_t *values[64];       /* by point, that port_value() told: the last */
	struct point_list points; /* of fake_port_create() */
};

struct port_call {
	unsigned answers;
	enum ack ack;
};

struct loop *port_loop(const struct port *p)
{
	return p->loop;
}

const char *port_name(const struct port *p)
{
	(void)p;
	return "dev";
}

const char *port_point_name(const struct port *p, unsigned point)
{
	assert_true(point < p->points.n);
	return p->points.items[point].name;
}

static void join(const char *const *path, size_t n, char *buf, size_t cap)
{
	buf[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(buf);
		snprintf(buf + len, cap - len, "%s%s", i > 0 ? "/" : "", path[i]);
	}
}

void port_emit(struct port *p, const struct emission *e)
{
	struct fake_event *to = &p->events[p->n];

	assert_in_range(p->n, 0, FAKE_EVENTS_MAX - 1);
	assert_non_null(e->payload);
	*to = (struct fake_event){.payload = e->payload,
				  .retain = e->retain,
				  .point = e->point,
				  .value = e->value,
				  .done = e->done,
				  .arg = e->arg};
	join(e->path, e->n_path, to->path, sizeof(to->path));
	p->n++;
}

void port_link(struct port *p, enum link_state state, unsigned count)
{
	p->link = state;
	p->count = count;
	p->links++;
}

void port_value(struct port *p, unsigned point, const struct value *v)
{
	assert_in_range(point, 0, ARRAY_LEN(p->values) - 1);
	json_decref(p->values[point]);
	p->values[point] = json_integer((json_int_t)v->u);
}

void port_created(struct port *p)
{
	p->created++;
}

void port_ended(struct port *p, const char *why)
{
	p->ended++;
	snprintf(p->why, sizeof(p->why), "%s", why);
}

void port_written(struct port_call *call, enum ack ack, const char *why)
{
	(void)why;
	call->answers++;
	call->ack = ack;
}

void port_was_read(struct port_call *call, const struct value *v, const char *why)
{
	(void)call;
	(void)v;
	fail_msg("no read was asked for: %s", why);
}

void port_each_state(struct port *p, port_state_fn *fn, void *arg)
{
	p->asked_states++;
	for (size_t i = 0; i < p->n_states; i++)
		fn(arg, p->states[i].path, p->states[i].n_path, p->states[i].payload);
}

/* ---- for tests ---- */

MAYBE_UNUSED static struct port *fake_port_new(struct loop *l)
{
	struct port *p = test_calloc(1, sizeof(*p));

	p->loop = l;
	p->link = LINK_DISCONNECTED;
	return p;
}

MAYBE_UNUSED static void fake_port_free(struct port *p)
{
	for (size_t i = 0; i < p->n; i++)
		json_decref(p->events[i].payload);
	for (size_t i = 0; i < p->n_states; i++)
		json_decref(p->states[i].payload);
	for (size_t i = 0; i < ARRAY_LEN(p->values); i++)
		json_decref(p->values[i]);
	free(p->points.items);
	test_free(p);
}

/* As a device does: the instance gets a configuration that is gone right afterwards. conf: it
 * outlives the port. */
MAYBE_UNUSED static int fake_port_create(struct port *p, const struct device_type *type,
					 const json_t *conf, void **ret, struct err *err)
{
	json_auto_t *copy = json_deep_copy(conf);

	free(p->points.items);
	assert_int_equal(type->points(conf, &p->points, err), 0);
	return type->ops->create(p, copy, ret, err);
}

/* All events that were not looked at yet, as "path payload" lines. */
MAYBE_UNUSED static const char *fake_port_told(struct port *p)
{
	static char text[65536];
	size_t len = 0;

	text[0] = '\0';
	for (; p->read < p->n; p->read++) {
		const struct fake_event *e = &p->events[p->read];
		char *payload =
			json_dumps(e->payload, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);

		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %s\n", e->path,
					payload);
		assert_in_range(len, 0, sizeof(text) - 1);
		free(payload);
	}
	return text;
}
