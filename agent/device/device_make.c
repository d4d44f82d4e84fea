/* device_make.c - devices are made of their configuration, and unmade. */
#include "agent/device/device_int.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static int sink_send(void *arg, enum outbox_sink sink, uint64_t token, const char *address,
		     const char *text, bool retain)
{
	struct device *d = arg;

	if (sink == OUTBOX_EVENTS)
		return d->env->send(d->owner, token, address, text, retain);
	return d->view != NULL ? view_send(d->view, token, address, text) : ERR_AGAIN;
}

static int make_names(struct device *d, const char *name, struct err *err)
{
	const char *const segments[] = {"gateway", d->env->gateway, d->type->name, name};

	d->name = strdup(name);
	if (asprintf(&d->key, "%s/%s", d->type->name, name) < 0)
		d->key = NULL;
	if (d->name == NULL || d->key == NULL)
		return err_set(err, ERR_NOMEM, "device");
	view_id(d->env->gateway, d->type->name, name, d->id);
	return event_topic(segments, ARRAY_LEN(segments), &d->prefix, err);
}

/* The policy that an object of options names; other: if it names none. */
static enum outbox_keep keep_named(const json_t *options, enum outbox_keep other)
{
	const char *name = json_string_value(json_object_get(options, "keep"));

	for (int k = KEEP_NONE; name != NULL && outbox_keep_names[k] != NULL; k++)
		if (strcmp(outbox_keep_names[k], name) == 0)
			return (enum outbox_keep)k;
	return other;
}

static int make_points(struct device *d, const json_t *conf, struct err *err)
{
	const json_t *store = json_object_get(conf, "store");
	int rc = d->type->points != NULL ? d->type->points(conf, &d->points, err) : 0;

	if (rc < 0)
		return rc;
	d->has_store = json_is_object(store);
	d->keep_default = keep_named(store, KEEP_NONE);
	d->keeps = calloc(d->points.n + 1, sizeof(*d->keeps));
	d->lasts = calloc(d->points.n + 1, sizeof(*d->lasts));
	d->said_points = said_points_new(&d->points);
	if (d->keeps == NULL || d->lasts == NULL || d->said_points == NULL)
		return err_set(err, ERR_NOMEM, "points");
	for (size_t i = 0; i < d->points.n; i++)
		d->keeps[i] = (uint8_t)keep_named(d->points.items[i].options, d->keep_default);
	return 0;
}

/* The configuration goes: what is needed of its points is copied, in one piece. */
static int own_points(struct device *d, struct err *err)
{
	size_t len = 1;

	for (size_t i = 0; i < d->points.n; i++)
		len += strlen(d->points.items[i].name) + 1;
	char *at = d->point_names = malloc(len);

	if (at == NULL)
		return err_set(err, ERR_NOMEM, "points");
	for (size_t i = 0; i < d->points.n; i++) {
		struct point_spec *p = &d->points.items[i];
		size_t n = strlen(p->name) + 1;

		p->name = memcpy(at, p->name, n);
		p->options = NULL;
		at += n;
	}
	return 0;
}

static int make_views(struct device *d, const json_t *json, struct err *err)
{
	static const struct outbox_ops ops = {.send = sink_send};
	static const struct view_events events = {.write = device_on_view_write};
	const struct device_env *env = d->env;
	const json_t *store = d->has_store ? json_object_get(json, "store") : NULL;

	int rc = outbox_new(env->loop, env->store, env->pieces, d->key, store, &ops, d, &d->outbox,
			    err);
	if (rc < 0)
		return rc;
	const struct view_conf conf = {
		.gateway = env->gateway,
		.type = d->type->name,
		.name = d->name,
		.csm_url = env->csm_url,
		.fetch = env->fetch,
		.store = env->store,
		.farewells = env->farewells,
		.points = &d->points,
		.device = json,
		.outbox = d->outbox,
	};
	rc = view_new(env->loop, &conf, &events, d, &d->view, err);
	if (rc == 0)
		view_hold(d->view, env->values_held);
	return rc;
}

int device_new(const struct device_env *env, const struct device_conf *conf, void *owner,
	       struct device **ret, struct err *err)
{
	const json_t *restart = json_object_get(conf->json, "restart_delay");
	struct device *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return err_set(err, ERR_NOMEM, "device");
	d->env = env;
	d->owner = owner;
	d->type = conf->type;
	d->conf = packed_new(conf->json);
	d->last = &d->first;
	d->restart_ms = json_is_number(restart) ? llround(json_number_value(restart) * 1000) : -1;
	d->said = map_new();
	int rc = d->said != NULL && d->conf != NULL ? 0 : err_set(err, ERR_NOMEM, "device");

	if (rc == 0)
		rc = make_names(d, conf->name, err);
	if (rc == 0)
		rc = make_points(d, conf->json, err);
	if (rc == 0)
		rc = device_make_timers(d, err);
	if (rc == 0)
		rc = states_new(env->store, d->prefix, &d->states, err);
	if (rc == 0)
		rc = make_views(d, conf->json, err);
	if (rc == 0)
		rc = own_points(d, err);
	if (rc < 0) {
		device_free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

struct device *device_free(struct device *d)
{
	if (d == NULL)
		return NULL;
	device_emit_end(d);
	if (d->instance != NULL)
		device_stop(d);
	d->view = view_free(d->view);
	d->outbox = outbox_free(d->outbox);
	device_free_emitting(d);
	device_free_tellings(d);
	d->states = states_free(d->states);
	device_forget_said(d);
	d->queue_timer = loop_remove(d->env->loop, d->queue_timer);
	d->end_timer = loop_remove(d->env->loop, d->end_timer);
	d->restart_timer = loop_remove(d->env->loop, d->restart_timer);
	d->flip_timer = loop_remove(d->env->loop, d->flip_timer);
	for (size_t i = 0; d->lasts != NULL && i < d->points.n; i++)
		if (d->lasts[i].kind == VALUE_TEXT)
			free((char *)(uintptr_t)d->lasts[i].text);
	free(d->lasts);
	free(d->keeps);
	free(d->points.items);
	free(d->point_names);
	free(d->name);
	free(d->key);
	free(d->prefix);
	free(d->conf);
	free(d);
	return NULL;
}

int device_say_gone(const char *gateway, const char *key, said_fn *fn, void *arg, struct err *err)
{
	const char *name = strchrnul(key, '/');
	json_auto_t *payload = json_false();
	int64_t at = wall_us();
	CLEANUP(freep)
	char *type = strndup(key, (size_t)(name - key));
	CLEANUP(freep)
	char *text = event_body(at, &at, payload);
	CLEANUP(freep)
	char *topic = NULL;

	if (type == NULL || text == NULL)
		return err_set(err, ERR_NOMEM, "device %s", key);
	const char *const segments[] = {"gateway", gateway,  type, name[0] == '/' ? name + 1 : name,
					"gateway", "running"};
	int rc = event_topic(segments, ARRAY_LEN(segments), &topic, err);

	if (rc == 0)
		fn(arg, topic, text);
	return rc;
}

void device_announce(struct device *d)
{
	device_emit_running(d, false);
}

struct device *device_remove(struct device *d)
{
	const struct device_env *env = d->env;
	struct err err = {0};
	char id[sizeof(d->id)];
	CLEANUP(freep)
	char *key = NULL;

	device_stop(d);
	if (states_drop(d->states, &err) < 0)
		device_state_failed(d, &err);
	memcpy(id, d->id, sizeof(id));
	key = TAKE(d->key);
	/* what waits for the broker goes to the disk, and then from there */
	d->view = view_free(d->view);
	d->outbox = outbox_free(d->outbox);
	int rc = outbox_purge(env->store, key, &err);

	if (rc == 0)
		rc = view_deregister(env->farewells, id, &err);
	if (rc < 0)
		log_error("device.remove_failed", KV("device", key), KV("why", err.text));
	return device_free(d);
}

const char *device_name(const struct device *d)
{
	return d->name;
}

const char *device_key(const struct device *d)
{
	return d->key;
}

const char *device_topic(const struct device *d)
{
	return d->prefix;
}

const char *device_id(const struct device *d)
{
	return d->id;
}

int device_has_conf(const struct device *d, const json_t *conf, struct err *err)
{
	json_auto_t *own = packed_json(d->conf);

	return own != NULL ? json_equal(own, conf) : err_set(err, ERR_NOMEM, "device %s", d->key);
}

enum device_state device_get_state(const struct device *d)
{
	return d->state;
}

void device_get_counters(const struct device *d, struct device_counters *ret)
{
	struct outbox_status waiting = {0};

	outbox_get_status(d->outbox, &waiting);
	*ret = d->counters;
	ret->backlog = waiting.waiting;
	ret->shed = waiting.dropped + waiting.expired + waiting.failed;
}
