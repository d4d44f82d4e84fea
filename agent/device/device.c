/* device.c - the life of a device (gateway-devices 1.3). */
#include "agent/device/device_int.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define SHORT_LIFE_MS    1000 /* an instance that lives shorter is not restarted at once */
#define RESTART_LEAST_MS 1000
#define SELDOM_MS        1000 /* beginnings and ends that follow sooner are not all logged */

/* ---- the life of an instance ---- */

static void note_why(struct device *d, const char *why)
{
	snprintf(d->why, sizeof(d->why), "%.199s", why);
}

static void failed(struct device *d)
{
	d->state = DEVICE_FAILED;
	device_clear_queue(d);
	if (d->restart_ms < 0)
		return;
	int64_t lived_ms = loop_now_ms(d->env->loop) - d->created_ms;
	bool storm = lived_ms < SHORT_LIFE_MS && d->restart_ms < RESTART_LEAST_MS;

	loop_arm(d->env->loop, d->restart_timer, storm ? RESTART_LEAST_MS : d->restart_ms);
}

void device_create(struct device *d)
{
	struct err err = {0};

	device_emit_end(d); /* of the one before */
	d->state = DEVICE_CREATING;
	d->created_ms = loop_now_ms(d->env->loop);
	d->ending = false;
	d->link = LINK_DISCONNECTED;
	d->link_count = 0;
	d->counters.creations++;
	loop_arm(d->env->loop, d->restart_timer, -1);
	d->port = (struct port){.device = d};
	json_auto_t *conf = packed_json(d->conf);
	int rc = conf != NULL ? d->type->ops->create(&d->port, conf, &d->instance, &err)
			      : err_set(&err, ERR_NOMEM, "its configuration");
	if (rc == 0)
		return;
	d->instance = NULL;
	loop_arm(d->env->loop, d->end_timer, -1);
	device_forget_emitting(d);
	device_end_calls(d);
	note_why(d, err.text);
	if (log_allowed("device.failed", d->key))
		log_error("device.failed", KV("device", d->key), KV("why", err.text));
	failed(d);
}

/* Who may enable it may do so a thousand times a second. */
static bool may_log(struct device *d, const char *event)
{
	int64_t now_ms = loop_now_ms(d->env->loop);
	bool seldom = d->logged_ms == 0 || now_ms - d->logged_ms >= SELDOM_MS;

	if (seldom)
		d->logged_ms = now_ms;
	return seldom || log_allowed(event, d->key);
}

void device_created(struct device *d)
{
	if (d->state != DEVICE_CREATING || d->closing)
		return;
	d->state = DEVICE_RUNNING;
	d->why[0] = '\0';
	if (may_log(d, "device.running"))
		log_info("device.running", KV("device", d->key));
	device_emit_running(d, true);
	view_start(d->view);
	device_arm_queue(d);
}

/* Close the instance: its own last words, then ours. */
static void close_instance(struct device *d, bool when_kept)
{
	bool was_running = d->state == DEVICE_RUNNING;

	d->closing = true;
	loop_arm(d->env->loop, d->end_timer, -1);
	device_forget_emitting(d);
	d->type->ops->close(d->instance);
	device_forget_emitting(d); /* of its last words */
	d->instance = NULL;
	device_end_calls(d);
	device_clear_queue(d);
	d->link = LINK_DISCONNECTED;
	d->link_count = 0;
	d->state = DEVICE_DISABLED;
	d->ending = false;
	if (was_running) {
		if (when_kept)
			device_emit_end_when_kept(d);
		else
			device_emit_running(d, false);
		view_stop(d->view);
	}
	if (may_log(d, "device.closed"))
		log_info("device.closed", KV("device", d->key));
	d->closing = false;
}

void device_fail_soon(struct device *d, const char *why)
{
	if (d->ending || d->closing || d->state == DEVICE_DISABLED || d->state == DEVICE_FAILED)
		return;
	d->ending = true;
	note_why(d, why);
	if (log_allowed("device.ended", d->key))
		log_error("device.ended", KV("device", d->key), KV("why", why));
	loop_arm(d->env->loop, d->queue_timer, -1);
	loop_arm(d->env->loop, d->end_timer, 0);
}

static void on_end_timer(void *arg)
{
	struct device *d = arg;

	close_instance(d, false);
	failed(d);
}

static void on_restart_timer(void *arg)
{
	struct device *d = arg;

	if (d->state == DEVICE_FAILED && d->want)
		device_create(d);
}

void device_close(struct device *d, bool when_kept)
{
	loop_arm(d->env->loop, d->restart_timer, -1);
	if (d->state == DEVICE_CREATING || d->state == DEVICE_RUNNING)
		close_instance(d, when_kept);
	d->state = DEVICE_DISABLED;
}

void device_stop(struct device *d)
{
	device_forget_flips(d);
	device_emit_end(d);
	device_close(d, false);
}

/* ---- the broker ---- */

static char *enable_topic(const struct device *d)
{
	char *topic = NULL;

	return asprintf(&topic, "%s/system/enable", d->prefix) < 0 ? NULL : topic;
}

void device_state_failed(const struct device *d, const struct err *err)
{
	if (log_allowed("device.state_failed", d->key))
		log_error("device.state_failed", KV("device", d->key), KV("why", err->text));
}

void device_event(struct device *d, const char *const *path, size_t n, const char *topic,
		  const struct event_body *body, const char *text, bool retained)
{
	bool is_state = event_is_state(path, n),
	     is_enable = n == 1 && strcmp(path[0], "enable") == 0;
	struct err err = {0};
	int news = 1;

	if (is_state && retained)
		news = states_retained(d->states, topic, body, text, &err);
	else if (is_state)
		news = states_live(d->states, topic, body, text, &err);
	if (news < 0)
		device_state_failed(d, &err);
	if (news == 0)
		return;
	if (is_enable && !retained) {
		/* one that is told now does not wait for the others */
		d->synced = true;
		device_flip(d, json_is_true(body->payload));
	}
	if (is_enable)
		return; /* device_synced() looks at it */
	device_offer(d, topic, body->payload, is_state);
}

/* By what is kept: nobody told it: disabled. */
static void enable_as_kept(struct device *d)
{
	CLEANUP(freep)
	char *topic = enable_topic(d);

	if (topic == NULL) {
		log_error("device.failed", KV("device", d->key), KV("why", "out of memory"));
		return;
	}
	d->synced = true;
	device_enable(d, json_is_true(states_find(d->states, topic)));
}

/* A state that the broker is being told. */
struct telling {
	struct device *device;
	struct telling *next, **at;
	char *topic, *text;
};

static void telling_free(struct telling *t)
{
	*t->at = t->next;
	if (t->next != NULL)
		t->next->at = t->at;
	free(t->topic);
	free(t->text);
	free(t);
}

void device_free_tellings(struct device *d)
{
	while (d->tellings != NULL)
		telling_free(d->tellings);
}

/* The broker has what we told it. */
static void on_told(void *arg, int rc)
{
	struct telling *t = arg;

	if (rc == 0 && t->device->up)
		states_told(t->device->states, t->topic, t->text);
	else
		states_not_told(t->device->states, t->topic, t->text);
	telling_free(t);
}

/* A broker that forgot, or was away, learns what is kept. */
static void tell_broker(void *arg, const char *topic, const char *text, const json_t *payload)
{
	struct device *d = arg;
	struct telling *t = calloc(1, sizeof(*t));
	struct err err = {0};

	(void)payload;
	if (t == NULL) {
		device_state_failed(d, &(struct err){.text = "out of memory"});
		return;
	}
	*t = (struct telling){.device = d,
			      .next = d->tellings,
			      .at = &d->tellings,
			      .topic = strdup(topic),
			      .text = strdup(text)};
	if (t->next != NULL)
		t->next->at = &t->next;
	d->tellings = t;
	if (t->topic == NULL || t->text == NULL) {
		telling_free(t);
		device_state_failed(d, &(struct err){.text = "out of memory"});
		return;
	}
	states_telling(d->states, topic, text);
	int rc = outbox_put(d->outbox,
			    &(struct outbox_item){.sink = OUTBOX_EVENTS,
						  .address = topic,
						  .text = text,
						  .retain = true,
						  .state = true,
						  .keep = KEEP_NONE, /* the states are kept */
						  .done = on_told,
						  .arg = t},
			    &err);
	if (rc == 0)
		return;
	states_not_told(d->states, topic, text);
	telling_free(t);
	device_state_failed(d, &err);
}

/* One that was set while we were away; device_synced() looks at `enable`. */
static void on_state_news(void *arg, const char *topic, const char *text, const json_t *payload)
{
	struct device *d = arg;

	(void)text;
	if (strcmp(topic + strlen(d->prefix), "/system/enable") != 0)
		device_offer(d, topic, payload, true);
}

void device_synced(struct device *d, bool complete, bool trusted)
{
	d->up = true;
	states_end_sync(d->states, trusted, on_state_news, d);
	outbox_up(d->outbox, OUTBOX_EVENTS, true);
	device_begin_say_again(d);
	if (complete)
		states_each_untold(d->states, tell_broker, d);
	enable_as_kept(d);
}

void device_lost(struct device *d)
{
	d->up = false;
	d->connections++;
	outbox_up(d->outbox, OUTBOX_EVENTS, false);
	states_begin_sync(d->states);
}

void device_hold(struct device *d)
{
	if (d->has_store)
		return;
	d->synced = false;
	device_stop(d);
}

void device_hold_values(struct device *d, bool held)
{
	view_hold(d->view, held);
}

void device_start_alone(struct device *d)
{
	if (d->has_store && !d->synced)
		enable_as_kept(d);
}

void device_sent(struct device *d, uint64_t token, int rc)
{
	outbox_sent(d->outbox, token, rc);
	device_say_again(d);
}

void device_ready(struct device *d)
{
	outbox_ready(d->outbox, OUTBOX_EVENTS);
}

bool device_is_telling(const struct device *d)
{
	return d->tellings != NULL;
}

void device_each_state(const struct device *d, states_fn *fn, void *arg)
{
	states_each(d->states, fn, arg);
}

int device_set_enabled(struct device *d, bool enabled, struct err *err)
{
	CLEANUP(freep)
	char *topic = enable_topic(d);
	struct event_body body = {.payload = json_boolean(enabled)};
	CLEANUP(freep)
	char *text = event_body(wall_us(), NULL, body.payload);

	if (topic == NULL || text == NULL)
		return err_set(err, ERR_NOMEM, "device %s", d->key);
	int rc = states_set(d->states, topic, &body, text, err);

	if (rc < 0)
		return err_wrap(err, rc, "%s: nothing is changed, as it cannot be kept", d->key);
	tell_broker(d, topic, text, NULL);
	device_enable(d, enabled);
	return 0;
}

int device_make_timers(struct device *d, struct err *err)
{
	const struct {
		loop_fn *fn;
		struct loop_src **at;
	} timers[] = {
		{device_on_queue_timer, &d->queue_timer},
		{on_end_timer, &d->end_timer},
		{on_restart_timer, &d->restart_timer},
		{device_on_flip_timer, &d->flip_timer},
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(timers); i++)
		rc = loop_add_timer(d->env->loop, -1, 0, timers[i].fn, d, timers[i].at, err);
	return rc;
}
