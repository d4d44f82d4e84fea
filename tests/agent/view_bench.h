/* view_bench.h - the IoTtalk view of a device against a fake device client, outbox, store and HTTP
 * client, all defined here: the archive's own are then not linked. What the view does with them is
 * written to a transcript, one word group a line. */
#pragma once

#include "agent/device/store.h"
#include "agent/device/view.h"
#include "common/util.h"
#include "dan/dan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#define ID                                                                                       \
	"8afe4606-4d82-59b7-855c-b62f8b6f2ee6" /* Python: uuid5(space, "gw1/modbus_master/plc1") \
						*/
#define SLAVE  "915df58d-0a41-5dcd-974f-60d741f31c6e" /* of "gw1/modbus_slave/srv" */
#define POINTS 4
#define STATES 16

enum { TEMP, PUMP, LEVEL, VALVE }; /* points of the device */

struct state {
	char topic[200], body[200];
};

struct fixture {
	struct loop *loop;
	json_t *device;
	struct point_list list;
	struct view_conf conf;
	struct view *view;
	char log[16384];
	size_t len;
	uint64_t number;  /* of the last write */
	enum ack *answer; /* NULL: writes are answered later */
	unsigned done, done_failed;
	/* the fake device client */
	struct dan_handlers dan;
	void *dan_arg;
	bool online;
	int push_rc;
	dan_pushed_fn *pushed;
	void *pushed_arg;
	const char *username;
	/* the fake store */
	struct state states[STATES];
	/* the fake HTTP client */
	fetch_done_fn *http_done;
	void *http_arg;
};

static struct fixture *here; /* the fakes have no argument of ours */
static int64_t ahead_ms;     /* of the real clock */

/* The loop's clock, which a test can turn on. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);

	if (id == CLOCK_MONOTONIC) {
		ts->tv_sec += ahead_ms / 1000;
		ts->tv_nsec += ahead_ms % 1000 * 1000000;
		ts->tv_sec += ts->tv_nsec / 1000000000;
		ts->tv_nsec %= 1000000000;
	}
	return rc;
}

MAYBE_UNUSED static void pass_ms(int64_t ms)
{
	ahead_ms += ms;
	assert_int_equal(loop_turn(here->loop, 0), 0);
}

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(here->log + here->len, sizeof(here->log) - here->len, fmt, ap);
	va_end(ap);
	assert_true(n >= 0 && here->len + (size_t)n + 1 < sizeof(here->log));
	here->len += (size_t)n;
	here->log[here->len++] = '\n';
	here->log[here->len] = '\0';
}

/* What happened since the last look. */
static void expect(const char *transcript)
{
	assert_string_equal(here->log, transcript);
	here->len = 0;
	here->log[0] = '\0';
}

/* ---- fake device client ---- */

struct dan_client {
	int dummy;
};

static void note_features(const char *list, const struct dan_feature *f, size_t n)
{
	char text[1000] = "";

	for (size_t i = 0; i < n; i++) {
		char *at = text + strlen(text);
		size_t room = sizeof(text) - strlen(text);
		at += snprintf(at, room, " %s(", f[i].name);
		for (size_t k = 0; f[i].units != NULL && f[i].units[k] != NULL; k++)
			at += snprintf(at, room, "%s%s", k > 0 ? "," : "", f[i].units[k]);
		snprintf(at, room, "%s)", f[i].units == NULL ? "-" : "");
	}
	note("%s%s", list, text);
}

int dan_new(struct loop *l, const struct dan_conf *conf, const struct dan_handlers *handlers,
	    void *arg, struct dan_client **ret, struct err *err)
{
	static struct dan_client client;
	char *profile = json_dumps(conf->profile, JSON_COMPACT | JSON_SORT_KEYS);

	(void)l, (void)err;
	note("register %s %s %s qos %d every %u to %u ms%s%s", conf->csm_url, conf->id, conf->name,
	     conf->qos, conf->retry_min_ms, conf->retry_max_ms,
	     conf->username != NULL ? " as " : "", conf->username != NULL ? conf->username : "");
	note("profile %s", profile);
	free(profile);
	note_features("idfs", conf->idfs, conf->n_idfs);
	note_features("odfs", conf->odfs, conf->n_odfs);
	assert_ptr_equal(conf->fetch, here->conf.fetch);
	here->dan = *handlers;
	here->dan_arg = arg;
	*ret = &client;
	return 0;
}

void dan_part(struct dan_client *c)
{
	assert_non_null(c);
	note("leave");
	here->online = false;
	here->pushed = NULL;
}

struct dan_client *dan_free(struct dan_client *c)
{
	(void)c;
	return NULL;
}

int dan_push_text(struct dan_client *c, const char *idf, const char *text, dan_pushed_fn *done,
		  void *arg, struct err *err)
{
	assert_non_null(c);
	if (here->push_rc < 0)
		return err_set(err, here->push_rc, "no push");
	note("push %s %s", idf, text);
	here->pushed = done;
	here->pushed_arg = arg;
	return 0;
}

bool dan_is_online(const struct dan_client *c)
{
	assert_non_null(c);
	return here->online;
}

const char *dan_name(const struct dan_client *c)
{
	assert_non_null(c);
	return "plc1";
}

const char *dan_username(const struct dan_client *c)
{
	assert_non_null(c);
	return here->username;
}

const char *dan_password(const struct dan_client *c)
{
	assert_non_null(c);
	return here->username != NULL ? "secret" : NULL;
}

/* ---- fake outbox ---- */

const char *const outbox_keep_names[] = {"none", "latest", "all", NULL};

int outbox_put(struct outbox *o, const struct outbox_item *item, struct err *err)
{
	(void)o, (void)err;
	assert_int_equal(item->sink, OUTBOX_VALUES);
	note("put %s %s %s%s", item->address, item->text, outbox_keep_names[item->keep],
	     item->state ? " state" : "");
	if (item->done != NULL)
		item->done(item->arg, 0);
	return 0;
}

void outbox_up(struct outbox *o, enum outbox_sink sink, bool up)
{
	(void)o;
	assert_int_equal(sink, OUTBOX_VALUES);
	note(up ? "up" : "down");
}

void outbox_open(struct outbox *o, enum outbox_sink sink, const char *address, bool open)
{
	(void)o, (void)sink;
	note("%s %s", open ? "open" : "close", address);
}

void outbox_drop(struct outbox *o, enum outbox_sink sink, const char *address)
{
	(void)o, (void)sink;
	note("drop %s", address);
}

void outbox_ready(struct outbox *o, enum outbox_sink sink)
{
	(void)o, (void)sink;
	note("ready");
}

void outbox_sent(struct outbox *o, uint64_t token, int rc)
{
	(void)o;
	note("sent %d %s", (int)token, err_name(rc));
}

/* ---- fake store ---- */

int store_begin(struct store *s, struct err *err)
{
	(void)s, (void)err;
	return 0;
}

int store_keep_state(struct store *s, const char *topic, const char *body, int64_t changed_us,
		     struct err *err)
{
	(void)s, (void)err;
	assert_true(changed_us > 0);
	for (size_t i = 0; i < STATES; i++) {
		struct state *state = &here->states[i];
		if (state->topic[0] != '\0')
			continue;
		snprintf(state->topic, sizeof(state->topic), "%s", topic);
		snprintf(state->body, sizeof(state->body), "%s", body);
		note("keep %s", topic);
		return 1;
	}
	fail();
	return 0;
}

static bool begins(const char *topic, const char *prefix)
{
	return topic[0] != '\0' && strncmp(topic, prefix, strlen(prefix)) == 0;
}

int store_drop_states(struct store *s, const char *prefix, struct err *err)
{
	(void)s, (void)err;
	for (size_t i = 0; i < STATES; i++) {
		if (!begins(here->states[i].topic, prefix))
			continue;
		note("forget %s", here->states[i].topic);
		here->states[i].topic[0] = '\0';
	}
	return 0;
}

int store_each_state(struct store *s, const char *prefix, store_state_fn *fn, void *arg,
		     struct err *err)
{
	(void)s, (void)err;
	for (size_t i = 0; i < STATES; i++)
		if (begins(here->states[i].topic, prefix))
			fn(arg, here->states[i].topic, here->states[i].body, 1);
	return 0;
}

int store_add_registration(struct store *s, const char *id, const char *device, struct err *err)
{
	(void)s, (void)err;
	note("remember %s %s", id, device);
	return 0;
}

int store_drop_registration(struct store *s, const char *id, struct err *err)
{
	(void)s, (void)err;
	note("forget %s", id);
	return 0;
}

/* ---- fake HTTP ---- */

struct fetch_call {
	int dummy;
};

int fetch_start(struct fetch *f, const struct fetch_request *q, fetch_done_fn *done, void *arg,
		struct fetch_call **ret, struct err *err)
{
	static struct fetch_call call;

	(void)f, (void)err;
	assert_null(here->http_done); /* one at a time */
	note("http %s %s %s%s%s", q->method, q->url, q->body, q->username != NULL ? " as " : "",
	     q->username != NULL ? q->username : "");
	here->http_done = done;
	here->http_arg = arg;
	*ret = &call;
	return 0;
}

struct fetch_call *fetch_cancel(struct fetch_call *call)
{
	if (call != NULL)
		here->http_done = NULL;
	return NULL;
}

MAYBE_UNUSED static void http_answer(int rc, long status, const char *body)
{
	const struct fetch_answer a = {
		.rc = rc, .why = "refused", .status = status, .body = body, .len = strlen(body)};
	fetch_done_fn *done = here->http_done;

	assert_non_null(done);
	here->http_done = NULL;
	done(here->http_arg, &a);
}

/* ---- the device ---- */

static void on_write(void *arg, unsigned point, const struct value *v, uint64_t number)
{
	struct fixture *f = arg;

	f->number = number;
	note("write %u %llu", point, (unsigned long long)v->u);
	if (f->answer != NULL)
		view_written(f->view, number, *f->answer);
}

static const struct view_events events = {.write = on_write};

static void on_done(void *arg, int rc)
{
	struct fixture *f = arg;

	f->done++;
	f->done_failed += rc < 0;
}

/* temp: value alone; pump: 1 bit, both ways; level: full; valve: only written */
static const char *const device_text =
	"{\"store\": {\"keep\": \"latest\"}, \"data\": ["
	"{\"name\": \"Temp\", \"unit\": \"C\", \"scale\": 0.5, \"keep\": \"all\"},"
	"{\"name\": \"pump\", \"dims\": \"value_quality\"},"
	"{\"name\": \"level\", \"unit\": \"m\", \"dims\": \"full\", \"keep\": \"none\"},"
	"{\"name\": \"valve 1\", \"unit\": \"%\"}]}";

MAYBE_UNUSED static void make_view(struct fixture *f)
{
	struct err err = {0};

	if (view_new(f->loop, &f->conf, &events, f, &f->view, &err) < 0)
		fail_msg("%s", err.text);
}

static void fill(struct fixture *f, const char *type, const char *name, const char *text)
{
	static const struct {
		bool input, output;
		unsigned bits;
	} kinds[POINTS] = {
		{true, false, 16}, {true, true, 1}, {true, false, 16}, {false, true, 16}};

	f->device = json_loads(text, 0, NULL);
	assert_non_null(f->device);
	const json_t *data = json_object_get(f->device, "data");
	f->list.items = calloc(POINTS, sizeof(*f->list.items));
	f->list.n = POINTS;
	for (size_t i = 0; i < POINTS; i++) {
		const json_t *options = json_array_get(data, i);
		f->list.items[i] = (struct point_spec){
			.name = json_string_value(json_object_get(options, "name")),
			.options = options,
			.input = kinds[i].input,
			.output = kinds[i].output,
			.bits = kinds[i].bits};
	}
	f->conf = (struct view_conf){
		.gateway = "gw1",
		.type = type,
		.name = name,
		.csm_url = "http://csm:9992/",
		.fetch = (struct fetch *)f,
		.store = (struct store *)f,
		.points = &f->list,
		.device = f->device,
		.outbox = (struct outbox *)f,
	};
}

static int setup_with(void **state, const char *type, const char *name, const char *text)
{
	struct fixture *f = calloc(1, sizeof(*f));

	here = f;
	*state = f;
	if (f == NULL || loop_new(&f->loop, NULL) < 0)
		return -1;
	fill(f, type, name, text);
	make_view(f);
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, "modbus_master", "plc1", device_text);
}

MAYBE_UNUSED static int setup_slave(void **state)
{
	return setup_with(state, "modbus_slave", "srv", device_text);
}

MAYBE_UNUSED static int setup_storeless(void **state)
{
	return setup_with(
		state, "modbus_master", "plc1",
		"{\"store\": null, \"data\": [{\"name\": \"temp\", \"keep\": \"all\"}, {\"name\": "
		"\"b\"}, {\"name\": \"c\"}, {\"name\": \"d\"}]}");
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->view = view_free(f->view);
	loop_free(f->loop);
	free(f->list.items);
	json_decref(f->device);
	free(f);
	return 0;
}

/* ---- what csm and the field do ---- */

MAYBE_UNUSED static void forget_log(void)
{
	here->len = 0;
	here->log[0] = '\0';
}

static void go_online(struct fixture *f)
{
	f->online = true;
	f->dan.on_online(f->dan_arg);
}

MAYBE_UNUSED static void start_online(struct fixture *f)
{
	view_start(f->view);
	f->dan.on_registered(f->dan_arg, "plc1");
	go_online(f);
	forget_log();
}

MAYBE_UNUSED static void lose_broker(struct fixture *f)
{
	f->online = false;
	f->dan.on_offline(f->dan_arg, "connection lost");
}

/* As dan does when it is back: what was connected is forgotten first. */
MAYBE_UNUSED static void find_broker(struct fixture *f, const char *feature)
{
	f->dan.on_disconnect(f->dan_arg, DAN_IDF, feature);
	go_online(f);
}

MAYBE_UNUSED static void connect_idf(struct fixture *f, const char *feature)
{
	f->dan.on_connect(f->dan_arg, DAN_IDF, feature);
}

MAYBE_UNUSED static void tell(struct fixture *f, unsigned point, uint64_t u, unsigned quality)
{
	const struct value v = {.kind = VALUE_UINT, .u = u, .quality = quality, .time_us = 1000000};

	view_value(f->view, point, &v, on_done, f);
}

MAYBE_UNUSED static void odf(struct fixture *f, const char *feature, const char *values)
{
	json_auto_t *json = json_loads(values, JSON_DECODE_ANY, NULL);

	assert_non_null(json);
	f->dan.on_data(f->dan_arg, feature, json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
