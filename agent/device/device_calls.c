/* device_calls.c - reads and writes of points, for the IoTtalk view and for people. */
#include "agent/device/device_int.h"
#include "agent/device/point.h"
#include "common/clock.h"
#include "common/util.h"

struct port_call {
	struct device *device;
	struct port_call *next, **at;
	device_done_fn *done; /* NULL: of the view, or whoever asked has gone */
	void *arg;
	bool of_view;
	uint64_t number; /* of the view's write */
	struct loop_src *timer;
};

const char *ack_name(enum ack ack)
{
	static const char *const names[] = {
		[ACK_OK] = "ok",
		[ACK_REJECTED] = "rejected",
		[ACK_TIMEOUT] = "timeout",
		[ACK_LINK_DOWN] = "link down",
		[ACK_BAD_VALUE] = "bad value",
		[ACK_SELECT_REFUSED] = "select refused",
		[ACK_CANCELLED] = "cancelled",
	};

	return names[ack];
}

static void call_free(struct port_call *c)
{
	*c->at = c->next;
	if (c->next != NULL)
		c->next->at = c->at;
	loop_remove(c->device->env->loop, c->timer);
	free(c);
}

/* Whoever asked is told, once. */
static void call_answer(struct port_call *c, enum ack ack, const struct value *v, const char *why)
{
	device_done_fn *done = TAKE(c->done);

	if (c->of_view)
		view_written(c->device->view, c->number, ack);
	c->of_view = false;
	if (done != NULL)
		done(c->arg, ack, v, why);
}

/* The driver may answer still: the call stays. */
static void on_call_timer(void *arg)
{
	call_answer(arg, ACK_TIMEOUT, NULL, "no answer in time");
}

/* ret: NULL: out of memory. */
static struct port_call *call_new(struct device *d, unsigned timeout_ms)
{
	struct port_call *c = malloc(sizeof(*c));

	if (c == NULL)
		return NULL;
	*c = (struct port_call){.device = d, .next = d->calls, .at = &d->calls};
	if (timeout_ms > 0 &&
	    loop_add_timer(d->env->loop, timeout_ms, 0, on_call_timer, c, &c->timer, NULL) < 0) {
		free(c);
		return NULL;
	}
	if (c->next != NULL)
		c->next->at = &c->next;
	d->calls = c;
	return c;
}

void port_written(struct port_call *call, enum ack ack, const char *why)
{
	call_answer(call, ack, NULL, why != NULL ? why : ack_name(ack));
	call_free(call);
}

void port_was_read(struct port_call *call, const struct value *v, const char *why)
{
	struct value read = {0};

	if (v != NULL) {
		read = *v;
		if (read.time_us == 0)
			read.time_us = wall_us();
	}
	call_answer(call, v != NULL ? ACK_OK : ACK_REJECTED, v != NULL ? &read : NULL,
		    why != NULL ? why : "");
	call_free(call);
}

void device_end_calls(struct device *d)
{
	while (d->calls != NULL) {
		call_answer(d->calls, ACK_LINK_DOWN, NULL, "the device stops");
		call_free(d->calls);
	}
}

/* ret: whether it can be written; else what to answer. */
static bool can_write(const struct device *d, unsigned point, enum ack *ret, const char **why)
{
	if (point >= d->points.n || !d->points.items[point].output || d->type->ops->write == NULL) {
		*ret = ACK_REJECTED;
		*why = "the point cannot be written";
		return false;
	}
	if (d->state != DEVICE_RUNNING || d->closing || d->ending) {
		*ret = ACK_LINK_DOWN;
		*why = "the device does not run";
		return false;
	}
	return true;
}

void device_on_view_write(void *arg, unsigned point, const struct value *v, uint64_t number)
{
	struct device *d = arg;
	enum ack ack = ACK_REJECTED;
	const char *why;
	struct port_call *c = NULL;

	if (can_write(d, point, &ack, &why))
		c = call_new(d, 0);
	if (c == NULL) {
		view_written(d->view, number, ack);
		return;
	}
	c->of_view = true;
	c->number = number;
	d->type->ops->write(d->instance, point, v, c);
}

void device_write(struct device *d, unsigned point, const struct value *v, unsigned timeout_ms,
		  device_done_fn *done, void *arg)
{
	enum ack ack = ACK_REJECTED;
	const char *why = "out of memory";
	struct port_call *c = NULL;

	if (can_write(d, point, &ack, &why))
		c = call_new(d, timeout_ms);
	if (c == NULL) {
		done(arg, ack, NULL, why);
		return;
	}
	c->done = done;
	c->arg = arg;
	d->type->ops->write(d->instance, point, v, c);
}

void device_read(struct device *d, unsigned point, unsigned timeout_ms, device_done_fn *done,
		 void *arg)
{
	const struct value *last = &d->lasts[point];
	bool known = last->kind != VALUE_NONE;

	if (d->state != DEVICE_RUNNING || d->closing || d->ending) {
		done(arg, ACK_LINK_DOWN, NULL, "the device does not run");
		return;
	}
	if (d->type->ops->read == NULL) {
		done(arg, known ? ACK_OK : ACK_REJECTED, known ? last : NULL,
		     known ? "" : "no value has come yet");
		return;
	}
	struct port_call *c = call_new(d, timeout_ms);

	if (c == NULL) {
		done(arg, ACK_REJECTED, NULL, "out of memory");
		return;
	}
	c->done = done;
	c->arg = arg;
	d->type->ops->read(d->instance, point, c);
}

/* ---- values for people ---- */

json_t *device_show_value(const struct device *d, unsigned point, const struct value *v,
			  unsigned *ret_quality)
{
	return point_show(view_point(d->view, point), v, wall_us(), ret_quality);
}

int device_parse_value(const struct device *d, unsigned point, const json_t *values,
		       struct value *ret, struct err *err)
{
	return point_from_odf(view_point(d->view, point), values, ret, err);
}
