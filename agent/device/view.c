#include "agent/device/view.h"

#include "agent/device/view_int.h"
#include "common/clock.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* What makes the id of a device application out of names. */
#define ID_SPACE "aeab57c9-c8ae-4664-bd09-12c4dec124ed"
#define ID_NAMES 1024 /* three names of 255 bytes at most */

#define READY_MS     1000
#define SLAVE_SUFFIX "_slave"

void view_id(const char *gateway, const char *type, const char *name, char *buf)
{
	char names[ID_NAMES];

	snprintf(names, sizeof(names), "%s/%s/%s", gateway, type, name);
	struct uuid_text id = uuid5(ID_SPACE, names);
	memcpy(buf, id.s, sizeof(id.s));
}

/* ---- values ---- */

static void answer(emitted_fn *done, void *arg, int rc)
{
	if (done != NULL)
		done(arg, rc);
}

void view_put(struct view *v, const struct idf *idf, json_t *values, emitted_fn *done, void *arg)
{
	json_auto_t *list = values;
	struct err err = {0};

	if (list == NULL || (*idf->bits & IDF_WANTED) == 0) {
		answer(done, arg, 0);
		return;
	}
	CLEANUP(freep)
	char *text = shortage_dumps(list);
	int rc = ERR_NOMEM;
	if (text != NULL)
		rc = outbox_put(v->conf.outbox,
				&(struct outbox_item){.sink = OUTBOX_VALUES,
						      .address = idf->name,
						      .text = text,
						      .state = idf->point < 0,
						      .keep = idf->keep,
						      .done = done,
						      .arg = arg},
				&err);
	if (rc == 0) {
		*idf->bits |= IDF_PUT;
		return;
	}
	view_set_why(v, text != NULL ? err.text : "a value: out of memory");
	answer(done, arg, rc);
}

/* Of a slave: whether it has masters, and how many. */
static json_t *link_values(const struct view *v)
{
	if (v->slave)
		return json_pack("[i, I]", v->link_count > 0, (json_int_t)v->link_count);
	return json_pack("[i]", (int)v->link);
}

void view_put_last(struct view *v, const struct idf *idf)
{
	if (idf->point < 0)
		view_put(v, idf, link_values(v), NULL, NULL);
	else if (!idf->ack) /* what came of a write is no state */
		view_put(v, idf, point_last(points_at(v->conversions, (size_t)idf->point)), NULL,
			 NULL);
}

void view_value(struct view *v, unsigned point, const struct value *value, emitted_fn *done,
		void *arg)
{
	struct idf idf;
	json_auto_t *values = point_to_idf(points_at(v->conversions, point), value, wall_us());

	view_idf_point(v, point, &idf);
	view_put(v, &idf, TAKE(values), done, arg);
}

/* Say of each value that it may not be true any more, with its own time. */
static void mark_stale(struct view *v)
{
	for (size_t i = 0; i < v->conf.points->n; i++) {
		const struct point *p = points_at(v->conversions, i);
		const struct value *last = point_last_value(p);
		if (last == NULL || !point_tells_quality(p) || (last->quality & QUALITY_STALE) != 0)
			continue;
		const struct value stale = {.kind = VALUE_NONE,
					    .quality = last->quality | QUALITY_STALE,
					    .time_us = last->time_us};
		view_value(v, (unsigned)i, &stale, NULL, NULL);
	}
}

void view_link(struct view *v, enum link_state state, unsigned count)
{
	struct idf idf;
	bool went_down = v->link == LINK_CONNECTED && state != LINK_CONNECTED;

	if (v->link == state && v->link_count == count)
		return;
	v->link = state;
	v->link_count = count;
	view_idf_link(v, &idf);
	view_put_last(v, &idf);
	/* a slave has its values itself: they are as true without a master */
	if (went_down && !v->slave)
		mark_stale(v);
}

/* ---- to the broker ---- */

static void push_unlink(struct push *p)
{
	if (p->prev != NULL)
		p->prev->next = p->next;
	else
		p->view->pushes = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
}

static void unblock(struct view *v)
{
	if (!v->blocked)
		return;
	v->blocked = false;
	loop_arm(v->loop, v->ready_timer, -1);
	outbox_ready(v->conf.outbox, OUTBOX_VALUES);
}

static void on_ready(void *arg)
{
	unblock(arg);
}

static void on_pushed(void *arg, int rc)
{
	struct push *p = arg;
	struct view *v = p->view;
	uint64_t token = p->token;

	push_unlink(p);
	free(p);
	outbox_sent(v->conf.outbox, token, rc);
	unblock(v);
}

/* Room comes with the next acknowledgement, or in a while. */
static int not_now(struct view *v)
{
	v->blocked = true;
	loop_arm(v->loop, v->ready_timer, READY_MS);
	return ERR_AGAIN;
}

int view_send(struct view *v, uint64_t token, const char *feature, const char *text)
{
	struct idf idf;
	struct err err = {0};

	if (!view_find_idf(v, feature, &idf))
		return ERR_NOENT; /* of a configuration of before */
	if (v->dan == NULL || !dan_is_online(v->dan) || (*idf.bits & IDF_CONNECTED) == 0)
		return not_now(v);
	struct push *p = malloc(sizeof(*p));
	if (p == NULL)
		return not_now(v);
	*p = (struct push){.view = v, .token = token, .next = v->pushes};
	int rc = dan_push_text(v->dan, feature, text, on_pushed, p, &err);
	if (rc < 0) {
		free(p);
		view_set_why(v, err.text);
		return rc == ERR_AGAIN || rc == ERR_LIMIT || rc == ERR_NOMEM ? not_now(v) : rc;
	}
	if (p->next != NULL)
		p->next->prev = p;
	v->pushes = p;
	v->pushed++;
	return 0;
}

void view_drop_pushes(struct view *v)
{
	while (v->pushes != NULL) {
		struct push *p = v->pushes;
		uint64_t token = p->token;
		push_unlink(p);
		free(p);
		outbox_sent(v->conf.outbox, token, ERR_AGAIN);
	}
}

/* ---- the whole ---- */

static uint8_t keep_named(const json_t *options, uint8_t missing)
{
	const char *name = json_string_value(json_object_get(options, "keep"));

	for (uint8_t k = 0; name != NULL && outbox_keep_names[k] != NULL; k++)
		if (strcmp(outbox_keep_names[k], name) == 0)
			return k;
	return missing;
}

/* Without a store nothing is kept, whatever its points say. */
static void set_keep(struct view *v)
{
	const json_t *store = json_object_get(v->conf.device, "store");
	uint8_t missing = keep_named(store, KEEP_NONE);

	for (size_t i = 0; i < v->conf.points->n && json_is_object(store); i++)
		v->points[i].keep = keep_named(v->conf.points->items[i].options, missing);
}

static int prepare(struct view *v, struct err *err)
{
	size_t n = v->conf.points->n;
	int rc = 0;

	v->points = calloc(n + 1, sizeof(*v->points));
	if (v->points == NULL)
		return err_set(err, ERR_NOMEM, "points");
	rc = points_new(v->conf.points->items, n, &v->conversions, err);
	if (rc < 0)
		return rc;
	set_keep(v);
	rc = view_name_points(v, err);
	if (rc == 0)
		rc = loop_add_timer(v->loop, -1, 0, on_ready, v, &v->ready_timer, err);
	if (rc == 0)
		rc = view_wanted_load(v, err);
	return rc;
}

int view_new(struct loop *l, const struct view_conf *conf, const struct view_events *e, void *arg,
	     struct view **ret, struct err *err)
{
	struct view *v = calloc(1, sizeof(*v));
	size_t len = strlen(conf->type), suffix = strlen(SLAVE_SUFFIX);

	if (v == NULL)
		return err_set(err, ERR_NOMEM, "device '%s'", conf->name);
	v->loop = l;
	v->conf = *conf;
	v->events = *e;
	v->arg = arg;
	v->slave = len > suffix && strcmp(conf->type + len - suffix, SLAVE_SUFFIX) == 0;
	view_id(conf->gateway, conf->type, conf->name, v->id.s);
	int rc = prepare(v, err);
	if (rc < 0) {
		view_free(v);
		return err_wrap(err, rc, "device '%s' in IoTtalk", conf->name);
	}
	*ret = v;
	return 0;
}

struct view *view_free(struct view *v)
{
	if (v == NULL)
		return NULL;
	if (v->wanted_timer != NULL)
		view_stop(v);
	dan_free(v->parted);
	loop_remove(v->loop, v->ready_timer);
	loop_remove(v->loop, v->wanted_timer);
	points_free(v->conversions);
	free(v->points);
	free(v->by_name);
	free(v->names);
	free(v->writing);
	free(v->why);
	free(v);
	return NULL;
}

void view_set_why(struct view *v, const char *why)
{
	char *copy = strdup(why);

	if (copy == NULL)
		return;
	free(v->why);
	v->why = copy;
}

void view_get_status(const struct view *v, struct view_status *ret)
{
	*ret = (struct view_status){
		.registered = v->registered,
		.online = v->dan != NULL && dan_is_online(v->dan),
		.id = v->id.s,
		.app = v->dan != NULL ? dan_name(v->dan) : "",
		.pushed = v->pushed,
		.writes = v->writes,
		.refused = v->refused,
		.why = v->why != NULL ? v->why : "",
	};
}

const struct point *view_point(const struct view *v, unsigned point)
{
	return points_at(v->conversions, point);
}

json_t *view_last(const struct view *v, unsigned point, unsigned *ret_quality)
{
	if (point >= v->conf.points->n)
		return NULL;
	const struct point *p = points_at(v->conversions, point);

	*ret_quality = point_last_quality(p);
	return point_last(p);
}
