/* port.c - the driver's side of a device: what it emits. */
#include "agent/device/device_int.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define SAY_AGAIN_WAITING 256 /* in the outbox at a time, when states are said again */

/* An emission whose sender wants to know: done is called when both views have answered. */
struct emitting {
	struct emitting *next, **at; /* of the device's */
	emitted_fn *done;            /* NULL: nobody asks any more */
	void *arg;
	unsigned open;
	int rc;
};

/* A state as we said it last. */
struct said {
	char *topic, *text; /* topic: the key */
	enum outbox_keep keep;
	unsigned connection; /* how many there had been */
};

/* ---- who asked ---- */

static struct emitting *emitting_new(struct device *d, emitted_fn *done, void *arg)
{
	struct emitting *e = malloc(sizeof(*e));

	if (e == NULL)
		return NULL;
	*e = (struct emitting){
		.next = d->emitting, .at = &d->emitting, .done = done, .arg = arg, .open = 1};
	if (e->next != NULL)
		e->next->at = &e->next;
	d->emitting = e;
	return e;
}

static void emitting_free(struct emitting *e)
{
	*e->at = e->next;
	if (e->next != NULL)
		e->next->at = e->at;
	free(e);
}

static void on_part(void *arg, int rc)
{
	struct emitting *e = arg;

	if (rc < 0)
		e->rc = rc;
	if (--e->open > 0)
		return;
	emitted_fn *done = e->done;
	void *asker = e->arg;

	rc = e->rc;
	emitting_free(e);
	if (done != NULL)
		done(asker, rc);
}

void device_forget_emitting(struct device *d)
{
	for (struct emitting *e = d->emitting; e != NULL; e = e->next)
		e->done = NULL;
}

void device_free_emitting(struct device *d)
{
	while (d->emitting != NULL)
		emitting_free(d->emitting);
}

/* ---- states, to say again to a broker that may have forgotten them ---- */

static void said_free(void *value)
{
	struct said *s = value;

	if (s == NULL)
		return;
	free(s->topic);
	free(s->text);
	free(s);
}

/* Without memory the broker is not reminded of this one. */
static void remember_said(struct device *d, const char *topic, const char *text,
			  enum outbox_keep keep, unsigned connection)
{
	struct said *s = map_find(d->said, topic);
	char *copy = strdup(text);

	if (copy == NULL)
		return;
	if (s == NULL) {
		s = calloc(1, sizeof(*s));
		if (s != NULL)
			s->topic = strdup(topic);
		if (s == NULL || s->topic == NULL || map_add(d->said, s->topic, s) < 0) {
			said_free(s);
			free(copy);
			return;
		}
	}
	free(s->text);
	s->text = copy;
	s->keep = keep;
	s->connection = connection;
}

void device_said_before(struct device *d, const char *topic, const char *text, bool told)
{
	remember_said(d, topic, text, d->has_store ? KEEP_LATEST : KEEP_NONE,
		      told ? d->connections : d->connections - 1);
}

void device_each_said(const struct device *d, said_fn *fn, void *arg)
{
	CLEANUP(freep)
	void **all = map_values(d->said);

	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		const struct said *s = all[i];

		fn(arg, s->topic, s->text);
	}
}

void device_forget_said(struct device *d)
{
	free(TAKE(d->again));
	d->said = map_free(d->said, said_free);
	d->said_points = said_points_free(d->said_points);
}

void device_begin_say_again(struct device *d)
{
	free(TAKE(d->again));
	d->again = map_values(d->said);
	d->again_at = d->again_point = 0;
	device_say_again(d);
}

/* In memory, which is bounded; what is on the disk does not count. */
static size_t in_memory(const struct device *d)
{
	struct outbox_status s = {0};

	outbox_get_status(d->outbox, &s);
	return s.waiting > s.disk_items ? s.waiting - s.disk_items : 0;
}

static void say(struct device *d, const char *topic, const char *text, enum outbox_keep keep)
{
	outbox_put(d->outbox,
		   &(struct outbox_item){.sink = OUTBOX_EVENTS,
					 .address = topic,
					 .text = text,
					 .retain = true,
					 .state = true,
					 .keep = keep},
		   NULL); /* counted by the outbox */
}

/* What was said since the connection was lost is on its way. */
static void say_point(struct device *d, unsigned point)
{
	CLEANUP(said_text_done)
	struct said_text s;
	CLEANUP(freep)
	char *topic = NULL;

	if (said_points_get(d->said_points, point, d->connections, &s) <= 0)
		return;
	if (asprintf(&topic, "%s/gateway/%s", d->prefix, s.suffix) < 0)
		topic = NULL;
	else
		say(d, topic, s.body, d->has_store ? d->keeps[point] : KEEP_NONE);
}

void device_say_again(struct device *d)
{
	while (d->again != NULL) {
		const struct said *s = d->again[d->again_at];

		if (s == NULL && d->again_point == d->points.n) {
			free(TAKE(d->again));
			return;
		}
		if (in_memory(d) >= SAY_AGAIN_WAITING)
			return; /* device_sent() goes on */
		if (s == NULL) {
			say_point(d, (unsigned)d->again_point++);
			continue;
		}
		d->again_at++;
		if (s->connection != d->connections)
			say(d, s->topic, s->text, s->keep);
	}
}

/* ---- emitting ---- */

static void last_put(struct value *last, const struct value *v)
{
	char *text = NULL;

	if (v->kind == VALUE_NONE) {
		last->quality = v->quality;
		return;
	}
	if (v->kind == VALUE_TEXT)
		text = strdup(v->text);
	if (v->kind == VALUE_TEXT && text == NULL)
		return; /* the one before stays */
	if (last->kind == VALUE_TEXT)
		free((char *)(uintptr_t)last->text);
	*last = *v;
	if (v->kind == VALUE_TEXT)
		last->text = text;
	if (last->time_us == 0)
		last->time_us = wall_us();
}

static enum outbox_keep keep_of(const struct device *d, const struct emission *e)
{
	if (!d->has_store)
		return KEEP_NONE;
	if (e->point >= 0 && (size_t)e->point < d->points.n)
		return d->keeps[e->point];
	if (e->retain)
		return KEEP_LATEST;
	return d->keep_default == KEEP_ALL ? KEEP_ALL : KEEP_NONE;
}

/* ret: 0; negative: nobody will hear of it. */
static int put_event(struct device *d, const struct emission *e, struct emitting *asked,
		     struct err *err)
{
	CLEANUP(freep)
	char *suffix = NULL;
	CLEANUP(freep)
	char *topic = NULL;
	enum outbox_keep keep = keep_of(d, e);
	/* each change of it is told: none takes the place of another */
	bool is_running = e->n_path == 1 && strcmp(e->path[0], "running") == 0;

	int rc = event_topic(e->path, e->n_path, &suffix, err);
	if (rc < 0)
		return rc;
	int64_t at = wall_us();
	CLEANUP(freep)
	char *payload = shortage_dumps(e->payload);
	CLEANUP(freep)
	char *text = payload != NULL ? event_body_text(at, e->source_us, payload) : NULL;

	if (asprintf(&topic, "%s/gateway/%s", d->prefix, suffix) < 0)
		topic = NULL;
	if (text == NULL || topic == NULL)
		return err_set(err, ERR_NOMEM, "event");
	bool of_point = e->point >= 0 && (size_t)e->point < d->points.n;

	const struct said_event said = {.suffix = suffix,
					.timestamp_us = at,
					.source_us = e->source_us,
					.payload = payload,
					.connection = d->connections};

	if (e->retain && !(of_point && said_points_put(d->said_points, (unsigned)e->point, &said)))
		remember_said(d, topic, text, keep, d->connections);
	if (asked != NULL)
		asked->open++;
	rc = outbox_put(d->outbox,
			&(struct outbox_item){.sink = OUTBOX_EVENTS,
					      .address = topic,
					      .text = text,
					      .retain = e->retain,
					      .state = e->retain && !is_running,
					      .keep = keep,
					      .done = asked != NULL ? on_part : NULL,
					      .arg = asked},
			err);
	if (rc < 0 && asked != NULL)
		asked->open--;
	return rc;
}

static void tell_value(struct device *d, unsigned point, const struct value *v,
		       struct emitting *asked)
{
	if (point >= d->points.n)
		return;
	last_put(&d->lasts[point], v);
	if (!d->points.items[point].input)
		return;
	if (asked != NULL)
		asked->open++;
	view_value(d->view, point, v, asked != NULL ? on_part : NULL, asked);
}

static void emit(struct device *d, const struct emission *e)
{
	struct emitting *asked = NULL;
	struct err err = {0};

	if (e->done != NULL && (asked = emitting_new(d, e->done, e->arg)) == NULL) {
		e->done(e->arg, ERR_NOMEM);
		json_decref(e->payload);
		d->counters.lost++;
		return;
	}
	d->counters.emitted++;
	int rc = put_event(d, e, asked, &err);
	json_decref(e->payload);
	if (rc < 0) {
		d->counters.lost++;
		if (log_allowed("event.lost", d->key))
			log_error("event.lost", KV("device", d->key), KV("why", err.text));
	}
	if (e->point >= 0)
		tell_value(d, (unsigned)e->point, &e->value, asked);
	if (asked != NULL)
		on_part(asked, rc);
}

void port_emit(struct port *p, const struct emission *e)
{
	emit(p->device, e);
}

static void emit_running(struct device *d, bool running, int64_t at)
{
	emit(d, &(struct emission){.path = (const char *const[]){"running"},
				   .n_path = 1,
				   .payload = json_boolean(running),
				   .retain = true,
				   .source_us = &at,
				   .point = -1});
}

void device_emit_running(struct device *d, bool running)
{
	emit_running(d, running, wall_us());
}

void device_emit_end(struct device *d)
{
	int64_t at = d->ended_us;

	if (at == 0)
		return;
	d->ended_us = 0;
	store_forget(d->env->store, d);
	emit_running(d, false, at);
}

/* A reason that the disk refuses counts all the same. */
static void on_reason_kept(void *arg, int rc)
{
	(void)rc;
	device_emit_end(arg);
}

void device_emit_end_when_kept(struct device *d)
{
	d->ended_us = wall_us();
	if (store_on_commit(d->env->store, on_reason_kept, d, NULL) < 0)
		device_emit_end(d);
}

void port_value(struct port *p, unsigned point, const struct value *v)
{
	tell_value(p->device, point, v, NULL);
}

void port_link(struct port *p, enum link_state state, unsigned count)
{
	struct device *d = p->device;

	d->link = state;
	d->link_count = count;
	view_link(d->view, state, count);
}

/* ---- the rest of the port ---- */

struct loop *port_loop(const struct port *p)
{
	return p->device->env->loop;
}

const char *port_name(const struct port *p)
{
	return p->device->key;
}

const char *port_point_name(const struct port *p, unsigned point)
{
	return p->device->points.items[point].name;
}

void port_created(struct port *p)
{
	device_created(p->device);
}

void port_ended(struct port *p, const char *why)
{
	device_fail_soon(p->device, why);
}

struct state_walk {
	const struct device *device;
	port_state_fn *fn;
	void *arg;
};

static void on_state(void *arg, const char *topic, const char *text, const json_t *payload)
{
	const struct state_walk *w = arg;
	struct event_path path = {0};

	(void)text;
	/* what follows "<prefix>/system/" */
	if (event_path_parse(topic + strlen(w->device->prefix) + strlen("/system/"), &path, NULL) <
	    0)
		return;
	if (path.n > 1) /* `enable` is the device's own */
		w->fn(w->arg, path.segments, path.n, payload);
	event_path_done(&path);
}

void port_each_state(struct port *p, port_state_fn *fn, void *arg)
{
	struct state_walk w = {.device = p->device, .fn = fn, .arg = arg};

	states_each(p->device->states, on_state, &w);
}
