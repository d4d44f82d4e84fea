/* device_tell.c - a device, for people. */
#include "agent/device/device_int.h"
#include "common/shortage.h"
#include "common/util.h"
#include <string.h>

struct row {
	const char *name;
	json_t *value; /* taken */
};

/* ret: whether all are in. */
static bool put_rows(json_t *object, const struct row *rows, size_t n)
{
	bool complete = object != NULL;

	for (size_t i = 0; i < n; i++)
		complete &= json_object_set_new(object, rows[i].name, rows[i].value) == 0;
	return complete;
}

static const char *state_name(const struct device *d)
{
	static const char *const names[] = {
		[DEVICE_DISABLED] = "disabled",
		[DEVICE_CREATING] = "creating",
		[DEVICE_RUNNING] = "running",
		[DEVICE_FAILED] = "failed",
	};

	if (d->state == DEVICE_DISABLED && !d->synced)
		return "waiting"; /* for the broker */
	return names[d->state];
}

static json_t *link_told(const struct device *d)
{
	static const char *const names[] = {
		[LINK_DISCONNECTED] = "disconnected",
		[LINK_CONNECTING] = "connecting",
		[LINK_CONNECTED] = "connected",
	};

	return json_string(names[d->link]);
}

/* Why it failed; of one that runs and is not connected, what its driver says. */
static json_t *why_told(const struct device *d)
{
	bool ask = d->why[0] == '\0' && d->state == DEVICE_RUNNING && d->link != LINK_CONNECTED &&
		   d->instance != NULL && d->type->ops->status != NULL;
	json_auto_t *status = ask ? d->type->ops->status(d->instance) : NULL;
	const char *why = json_string_value(json_object_get(status, "why"));

	return json_string(why != NULL ? why : d->why);
}

static json_t *outbox_told(const struct outbox_status *s)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "waiting", (json_int_t)s->waiting,
			 "disk_items", (json_int_t)s->disk_items, "disk_bytes",
			 (json_int_t)s->disk_bytes, "oldest_us", (json_int_t)s->oldest_us,
			 "dropped", (json_int_t)s->dropped, "expired", (json_int_t)s->expired,
			 "failed", (json_int_t)s->failed);
}

static json_t *view_told(const struct device *d)
{
	struct view_status s = {0};

	view_get_status(d->view, &s);
	return json_pack("{s:b, s:b, s:s, s:s?, s:I, s:I, s:I, s:s?}", "registered", s.registered,
			 "online", s.online, "id", d->id, "app", s.app, "pushed",
			 (json_int_t)s.pushed, "writes", (json_int_t)s.writes, "refused",
			 (json_int_t)s.refused, "why", s.why);
}

static json_t *counters_told(const struct device_counters *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "events", (json_int_t)c->events,
			 "dropped", (json_int_t)c->dropped, "failed", (json_int_t)c->failed,
			 "emitted", (json_int_t)c->emitted, "lost", (json_int_t)c->lost,
			 "creations", (json_int_t)c->creations);
}

/* A feature's name, or null. */
static json_t *feature_told(const struct device *d, unsigned point, bool output)
{
	char buf[VIEW_FEATURE_MAX];
	const char *name = view_feature(d->view, point, output, buf);

	return name != NULL ? json_string(name) : json_null();
}

static json_t *point_told(const struct device *d, unsigned i)
{
	const struct value *last = &d->lasts[i];
	bool known = last->kind != VALUE_NONE;
	unsigned quality = last->quality;
	json_t *value = view_last(d->view, i, &quality);

	if (value == NULL && known)
		value = device_show_value(d, i, last, &quality);
	const struct row rows[] = {
		{"name", json_string(d->points.items[i].name)},
		{"idf", feature_told(d, i, false)},
		{"odf", feature_told(d, i, true)},
		{"keep", json_string(outbox_keep_names[d->has_store ? d->keeps[i] : KEEP_NONE])},
		{"value", value != NULL ? value : json_null()},
		{"quality", known ? json_integer(quality) : json_null()},
		{"time_us", known ? json_integer(last->time_us) : json_null()},
	};
	json_t *told = json_object();

	if (put_rows(told, rows, ARRAY_LEN(rows)))
		return told;
	json_decref(told);
	return NULL;
}

static json_t *points_told(const struct device *d)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < d->points.n; i++)
		if (json_array_append_new(list, point_told(d, i)) < 0)
			break; /* out of memory: device_tell() sees it */
	return list;
}

static bool put_all(const struct device *d, const struct outbox_status *waiting, json_t *told)
{
	json_t *driver = d->instance != NULL && d->type->ops->status != NULL
				 ? d->type->ops->status(d->instance)
				 : json_null();
	const struct row rows[] = {
		{"topic", json_string(d->prefix)},
		{"points_list", points_told(d)},
		{"driver", driver},
		{"outbox", outbox_told(waiting)},
		{"iottalk", view_told(d)},
		{"counters", counters_told(&d->counters)},
	};

	return put_rows(told, rows, ARRAY_LEN(rows));
}

json_t *device_tell(const struct device *d, bool all)
{
	unsigned long before = shortage_count();
	struct outbox_status waiting = {0};

	outbox_get_status(d->outbox, &waiting);
	const struct row rows[] = {
		{"name", json_string(d->name)},
		{"type", json_string(d->type->name)},
		{"enabled", json_boolean(d->want)},
		{"state", json_string(state_name(d))},
		{"link", link_told(d)},
		{"links", json_integer(d->link_count)},
		{"points", json_integer((json_int_t)d->points.n)},
		{"backlog", json_integer((json_int_t)waiting.waiting)},
		{"why", why_told(d)},
	};
	json_t *told = json_object();

	if (put_rows(told, rows, ARRAY_LEN(rows)) && (!all || put_all(d, &waiting, told)) &&
	    shortage_count() == before)
		return told;
	json_decref(told);
	return NULL;
}

int device_find_point(const struct device *d, const char *name, struct err *err)
{
	int point = view_find(d->view, name);

	if (point >= 0)
		return point;
	return err_set(err, ERR_NOENT, "the device %s has no point '%.100s'", d->key, name);
}
