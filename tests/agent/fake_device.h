/* fake_device.h - for tests of devices and their service: a driver that does as it is told, and a
 * view that only notes. The types `fake` and `other` are the only ones.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/point.h"
#include "agent/device/view.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* ---- notes: words in the order they were told ---- */

struct notes {
	char text[65536];
	size_t len;
};

static void note(struct notes *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct notes *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	n->len += (size_t)vsnprintf(n->text + n->len, sizeof(n->text) - n->len, fmt, ap);
	va_end(ap);
	if (n->len >= sizeof(n->text))
		n->len = sizeof(n->text) - 1;
}

static void MAYBE_UNUSED notes_clear(struct notes *n)
{
	n->text[n->len = 0] = '\0';
}

/* ---- the driver ---- */

struct fake {
	struct port *port;
	char name[64];
	struct fake *next;
};

static struct {
	struct fake *alive;
	unsigned n_alive, most_alive_of_one, created, closed;
	bool fails, late; /* create() does */
	unsigned slow_us; /* that it takes */
	bool event_fails;
	struct notes notes;         /* of the driver: created, events, states */
	struct port_call *calls[8]; /* writes and reads that are open */
	size_t n_calls;
	bool answers; /* writes are acknowledged at once */
} fakes;

static MAYBE_UNUSED struct fake *fake_named(const char *name)
{
	struct fake *f = fakes.alive;

	while (f != NULL && strcmp(f->name, name) != 0)
		f = f->next;
	return f;
}

static void fake_on_state(void *arg, const char *const *path, size_t n, const json_t *payload)
{
	char *text = json_dumps(payload, JSON_ENCODE_ANY);

	(void)arg;
	note(&fakes.notes, "state ");
	for (size_t i = 0; i < n; i++)
		note(&fakes.notes, "%s%s", i > 0 ? "/" : "", path[i]);
	note(&fakes.notes, "=%s;", text);
	free(text);
}

static int fake_create(struct port *p, const json_t *conf, void **ret, struct err *err)
{
	struct fake *f = calloc(1, sizeof(*f));
	unsigned same = 1;

	(void)conf;
	fakes.created++;
	if (fakes.slow_us > 0)
		usleep(fakes.slow_us);
	if (fakes.fails) {
		free(f);
		return err_set(err, ERR_SYS, "the fake fails");
	}
	f->port = p;
	snprintf(f->name, sizeof(f->name), "%s", port_name(p));
	for (struct fake *o = fakes.alive; o != NULL; o = o->next)
		same += strcmp(o->name, f->name) == 0;
	if (same > fakes.most_alive_of_one)
		fakes.most_alive_of_one = same;
	f->next = fakes.alive;
	fakes.alive = f;
	fakes.n_alive++;
	*ret = f;
	port_each_state(p, fake_on_state, NULL);
	if (!fakes.late)
		port_created(p);
	return 0;
}

static void fake_emit(struct fake *f, const char *word, json_t *payload, bool retain, int point,
		      const struct value *v)
{
	port_emit(f->port, &(struct emission){.path = &word,
					      .n_path = 1,
					      .payload = payload,
					      .retain = retain,
					      .point = point,
					      .value = v != NULL ? *v : (struct value){0}});
}

static void fake_close(void *instance)
{
	struct fake *f = instance, **at = &fakes.alive;

	fake_emit(f, "status", json_string("DISCONNECTED"), true, -1, NULL);
	port_link(f->port, LINK_DISCONNECTED, 0);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	fakes.n_alive--;
	fakes.closed++;
	fakes.n_calls = 0;
	free(f);
}

static int fake_event(void *instance, const char *const *path, size_t n, const json_t *payload,
		      struct err *err)
{
	const struct fake *f = instance;
	char *text = json_dumps(payload, JSON_ENCODE_ANY);

	note(&fakes.notes, "%s ", f->name);
	for (size_t i = 0; i < n; i++)
		note(&fakes.notes, "%s%s", i > 0 ? "/" : "", path[i]);
	note(&fakes.notes, "=%s;", text);
	free(text);
	return fakes.event_fails ? err_set(err, ERR_INVAL, "the fake does not like it") : 0;
}

static void fake_write(void *instance, unsigned point, const struct value *v,
		       struct port_call *call)
{
	(void)instance;
	note(&fakes.notes, "write %u=%llu;", point, (unsigned long long)v->u);
	if (fakes.answers)
		port_written(call, ACK_OK, NULL);
	else
		fakes.calls[fakes.n_calls++] = call;
}

static void fake_read(void *instance, unsigned point, struct port_call *call)
{
	(void)instance;
	note(&fakes.notes, "read %u;", point);
	fakes.calls[fakes.n_calls++] = call;
}

static const struct field fake_data_fields[] = {
	{.name = "name", .type = FIELD_STR},
	{.name = "keep", .type = FIELD_STR, .flags = FIELD_OPTIONAL},
	{0},
};
static const struct field fake_fields[] = {
	{.name = "data",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .inner = fake_data_fields,
	 .def = "[]"},
	{0},
};

static int fake_points(const json_t *conf, struct point_list *ret, struct err *err)
{
	const json_t *data = json_object_get(conf, "data");

	ret->n = json_array_size(data);
	ret->items = calloc(ret->n + 1, sizeof(*ret->items));
	if (ret->items == NULL)
		return err_set(err, ERR_NOMEM, "points");
	for (size_t i = 0; i < ret->n; i++) {
		const json_t *one = json_array_get(data, i);

		ret->items[i] =
			(struct point_spec){.name = json_string_value(json_object_get(one, "name")),
					    .options = one,
					    .input = true,
					    .output = true,
					    .bits = 16};
	}
	return 0;
}

static const struct driver_ops fake_ops = {
	.create = fake_create,
	.close = fake_close,
	.event = fake_event,
	.write = fake_write,
	.read = fake_read,
};
static const struct device_type fake_type = {
	.name = "fake",
	.module = "fake",
	.title = "a fake",
	.help = "",
	.example = "{}",
	.fields = fake_fields,
	.points = fake_points,
	.ops = &fake_ops,
};
static const struct device_type other_type = {
	.name = "other",
	.module = "other",
	.title = "another",
	.help = "",
	.example = "{}",
	.fields = fake_fields,
	.points = fake_points,
	.ops = &fake_ops,
};
static const struct device_type *const fake_types[] = {&fake_type, &other_type};

const struct device_type *const *device_types(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(fake_types);
	return fake_types;
}

const struct device_type *device_type_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(fake_types); i++)
		if (strcmp(fake_types[i]->name, name) == 0)
			return fake_types[i];
	return NULL;
}

/* ---- the view ---- */

struct view {
	struct view_conf conf;
	struct view_events events;
	void *arg;
	struct points *conversions;
	bool started;
	/* a value that waits for its acknowledgement */
	emitted_fn *done;
	void *done_arg;
};

static struct {
	struct notes notes;
	struct view *last; /* the one made last */
	bool holds;        /* values are not acknowledged at once */
} views;

int view_new(struct loop *l, const struct view_conf *conf, const struct view_events *e, void *arg,
	     struct view **ret, struct err *err)
{
	struct view *v = calloc(1, sizeof(*v));

	(void)l;
	if (v == NULL)
		return err_set(err, ERR_NOMEM, "view");
	*v = (struct view){.conf = *conf, .events = *e, .arg = arg};
	int rc = points_new(conf->points->items, conf->points->n, &v->conversions, err);
	if (rc < 0) {
		free(v);
		return rc;
	}
	*ret = views.last = v;
	return 0;
}

struct view *view_free(struct view *v)
{
	if (views.last == v)
		views.last = NULL;
	if (v != NULL)
		points_free(v->conversions);
	free(v);
	return NULL;
}

void view_start(struct view *v)
{
	v->started = true;
	note(&views.notes, "start;");
}

void view_stop(struct view *v)
{
	v->started = false;
	note(&views.notes, "stop;");
}

void view_value(struct view *v, unsigned point, const struct value *value, emitted_fn *done,
		void *arg)
{
	note(&views.notes, "value %u=%llu;", point, (unsigned long long)value->u);
	if (done != NULL && views.holds) {
		v->done = done;
		v->done_arg = arg;
	} else if (done != NULL) {
		done(arg, 0);
	}
}

void view_link(struct view *v, enum link_state state, unsigned count)
{
	(void)v;
	note(&views.notes, "link %d %u;", state, count);
}

void view_hold(struct view *v, bool held)
{
	(void)v, (void)held;
}

void view_written(struct view *v, uint64_t number, enum ack ack)
{
	(void)v;
	note(&views.notes, "written %llu %d;", (unsigned long long)number, ack);
}

int view_send(struct view *v, uint64_t token, const char *feature, const char *text)
{
	(void)v;
	(void)token;
	(void)feature;
	(void)text;
	return ERR_AGAIN;
}

void view_get_status(const struct view *v, struct view_status *ret)
{
	*ret = (struct view_status){.online = v->started, .id = "", .app = "", .why = ""};
}

const struct point *view_point(const struct view *v, unsigned point)
{
	return points_at(v->conversions, point);
}

json_t *view_last(const struct view *v, unsigned point, unsigned *ret_quality)
{
	(void)v;
	(void)point;
	(void)ret_quality;
	return NULL;
}

const char *view_feature(const struct view *v, unsigned point, bool output, char *buf)
{
	(void)buf;
	return output ? NULL : v->conf.points->items[point].name;
}

int view_find(const struct view *v, const char *name)
{
	for (size_t i = 0; i < v->conf.points->n; i++)
		if (strcmp(v->conf.points->items[i].name, name) == 0)
			return (int)i;
	return -1;
}

int view_farewells_new(struct loop *l, struct store *store, struct fetch *fetch,
		       const char *csm_url, struct view_farewells **ret, struct err *err)
{
	(void)l;
	(void)store;
	(void)fetch;
	(void)csm_url;
	(void)err;
	*ret = NULL;
	return 0;
}

struct view_farewells *view_farewells_free(struct view_farewells *f)
{
	(void)f;
	return NULL;
}

int view_deregister(struct view_farewells *f, const char *id, struct err *err)
{
	(void)f;
	(void)err;
	note(&views.notes, "deregister %s;", id);
	return 0;
}

void view_id(const char *gateway, const char *type, const char *name, char *buf)
{
	snprintf(buf, 37, "%.10s-%.10s-%.10s", gateway, type, name);
}
