/* device_queue.c - the queue of a device's events (gateway-devices 1.4). */
#include "agent/device/device_int.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

#define QUEUE_MAX   1024
#define QUEUE_SLICE 64 /* events handled in one turn */

/* An event that waits for the driver. */
struct queued {
	struct queued *next;
	struct event_path path; /* what follows `system` */
	json_t *payload;
};

static void queued_free(struct queued *q)
{
	event_path_done(&q->path);
	json_decref(q->payload);
	free(q);
}

void device_clear_queue(struct device *d)
{
	const json_t *payload;

	while (d->first != NULL) {
		struct queued *q = d->first;

		d->first = q->next;
		queued_free(q);
	}
	d->last = &d->first;
	d->n_queued = 0;
	while (states_take_missed(d->states, &payload) != NULL)
		; /* the next instance asks for all states */
	loop_arm(d->env->loop, d->queue_timer, -1);
}

static void drop(struct device *d, const char *topic, const char *why)
{
	d->counters.dropped++;
	if (log_allowed("device.event_dropped", topic))
		log_warn("device.event_dropped", KV("device", d->key), KV("topic", topic),
			 KV("why", why));
}

void device_arm_queue(struct device *d)
{
	if (d->state == DEVICE_RUNNING && (d->first != NULL || states_any_missed(d->states)))
		loop_arm(d->env->loop, d->queue_timer, 0);
}

/* Of a state that finds no room the latest counts as soon as there is. */
static void put(struct device *d, const char *topic, const json_t *payload, bool is_state)
{
	struct queued *q = d->n_queued < QUEUE_MAX ? calloc(1, sizeof(*q)) : NULL;

	if (q == NULL ||
	    event_path_parse(topic + strlen(d->prefix) + strlen("/system/"), &q->path, NULL) < 0) {
		free(q);
		if (is_state && states_miss(d->states, topic, payload))
			device_arm_queue(d);
		else
			drop(d, topic, d->n_queued < QUEUE_MAX ? "out of memory" : "too many wait");
		return;
	}
	q->payload = json_incref((json_t *)(uintptr_t)payload);
	*d->last = q;
	d->last = &q->next;
	if (d->n_queued++ == 0)
		device_arm_queue(d);
}

void device_offer(struct device *d, const char *topic, const json_t *payload, bool is_state)
{
	bool waits = d->state == DEVICE_CREATING && is_state;

	if ((d->state == DEVICE_RUNNING && !d->ending) || waits)
		put(d, topic, payload, is_state);
	else if (!is_state)
		drop(d, topic, "the device does not run");
}

static void handle(struct device *d, const struct queued *q)
{
	struct err err = {0};

	if (d->type->ops->event == NULL) {
		d->counters.dropped++;
		return;
	}
	d->counters.events++;
	if (d->type->ops->event(d->instance, q->path.segments, q->path.n, q->payload, &err) == 0)
		return;
	d->counters.failed++;
	if (log_allowed("device.event_refused", d->key))
		log_warn("device.event_refused", KV("device", d->key),
			 KV("event", q->path.segments[0]), KV("why", err.text));
}

/* ret: whether there was one. */
static bool handle_first(struct device *d)
{
	struct queued *q = d->first;

	if (q == NULL)
		return false;
	d->first = q->next;
	if (d->first == NULL)
		d->last = &d->first;
	d->n_queued--;
	handle(d, q);
	queued_free(q);
	return true;
}

/* ret: whether there was one. */
static bool handle_missed(struct device *d)
{
	const json_t *payload;
	const char *topic = states_take_missed(d->states, &payload);
	struct queued q = {.payload = (json_t *)(uintptr_t)payload};

	if (topic == NULL)
		return false;
	if (event_path_parse(topic + strlen(d->prefix) + strlen("/system/"), &q.path, NULL) < 0) {
		drop(d, topic, "out of memory");
		return true;
	}
	handle(d, &q);
	event_path_done(&q.path);
	return true;
}

/* One at a time, in the order of their arrival; the loop goes on between slices. */
void device_on_queue_timer(void *arg)
{
	struct device *d = arg;

	for (unsigned i = 0; i < QUEUE_SLICE && (handle_first(d) || handle_missed(d)); i++)
		if (d->state != DEVICE_RUNNING || d->ending)
			return;
	device_arm_queue(d);
}
