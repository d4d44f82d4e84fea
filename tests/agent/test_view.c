/* The IoTtalk view of a device, against a fake device client, outbox, store and HTTP client, all
 * defined here: the archive's own are then not linked. What the view does with them is written to a
 * transcript, one word group a line. */
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

static void pass_ms(int64_t ms)
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

struct dan_client *dan_free(struct dan_client *c)
{
	if (c != NULL)
		note("leave");
	here->online = false;
	here->pushed = NULL;
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

static void http_answer(int rc, long status, const char *body)
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

static void make_view(struct fixture *f)
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

static int setup_slave(void **state)
{
	return setup_with(state, "modbus_slave", "srv", device_text);
}

static int setup_storeless(void **state)
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

static void forget_log(void)
{
	here->len = 0;
	here->log[0] = '\0';
}

static void go_online(struct fixture *f)
{
	f->online = true;
	f->dan.on_online(f->dan_arg);
}

static void start_online(struct fixture *f)
{
	view_start(f->view);
	f->dan.on_registered(f->dan_arg, "plc1");
	go_online(f);
	forget_log();
}

static void lose_broker(struct fixture *f)
{
	f->online = false;
	f->dan.on_offline(f->dan_arg, "connection lost");
}

/* As dan does when it is back: what was connected is forgotten first. */
static void find_broker(struct fixture *f, const char *feature)
{
	f->dan.on_disconnect(f->dan_arg, DAN_IDF, feature);
	go_online(f);
}

static void connect_idf(struct fixture *f, const char *feature)
{
	f->dan.on_connect(f->dan_arg, DAN_IDF, feature);
}

static void tell(struct fixture *f, unsigned point, uint64_t u, unsigned quality)
{
	const struct value v = {.kind = VALUE_UINT, .u = u, .quality = quality, .time_us = 1000000};

	view_value(f->view, point, &v, on_done, f);
}

static void odf(struct fixture *f, const char *feature, const char *values)
{
	json_auto_t *json = json_loads(values, JSON_DECODE_ANY, NULL);

	assert_non_null(json);
	f->dan.on_data(f->dan_arg, feature, json);
}

/* ---- tests ---- */

static void registers_with_the_features_of_its_points(void **state)
{
	struct fixture *f = *state;
	struct view_status s;

	view_get_status(f->view, &s);
	assert_false(s.registered || s.online);
	assert_string_equal(s.id, ID);
	assert_string_equal(s.app, "");
	view_start(f->view);
	expect("remember " ID " modbus_master/plc1\n"
	       "register http://csm:9992/ " ID " plc1 qos 1 every 2000 to 60000 ms\n"
	       "profile {\"device\":\"plc1\",\"event_prefix\":\"gateway/gw1/modbus_master/"
	       "plc1\",\"gateway\":\"gw1\",\"model\":\"gateway_modbus_master\"}\n"
	       "idfs link(status) temp(C) pump(,quality) pump_ack(code,value) level(m,quality,us) "
	       "valve_1_ack(code,value)\n"
	       "odfs pump_set(-) valve_1_set(%)\n");
	f->dan.on_registered(f->dan_arg, "plc1");
	go_online(f);
	expect("up\n");
	view_get_status(f->view, &s);
	assert_true(s.registered && s.online);
	assert_string_equal(s.app, "plc1");
	view_start(f->view); /* runs already */
	expect("");
	view_stop(f->view);
	expect("leave\ndown\n");
	view_get_status(f->view, &s);
	assert_true(s.registered && !s.online);
}

static void a_slave_tells_its_masters(void **state)
{
	struct fixture *f = *state;

	view_start(f->view);
	assert_non_null(strstr(f->log, "register http://csm:9992/ " SLAVE " srv"));
	assert_non_null(strstr(f->log, "idfs link(status,count) temp(C)"));
	go_online(f);
	forget_log();
	connect_idf(f, "link");
	view_link(f->view, LINK_CONNECTED, 0);
	view_link(f->view, LINK_CONNECTED, 1);
	view_link(f->view, LINK_CONNECTED, 2);
	view_link(f->view, LINK_CONNECTED, 2);
	view_link(f->view, LINK_DISCONNECTED, 0);
	expect("put link [0,0] none state\nopen link\n"
	       "put link [0,0] none state\nput link [1,1] none state\n"
	       "put link [1,2] none state\nput link [0,0] none state\n");
	/* it has no link that its values need */
	view_link(f->view, LINK_CONNECTED, 1);
	tell(f, LEVEL, 3, 0);
	connect_idf(f, "level");
	forget_log();
	view_link(f->view, LINK_DISCONNECTED, 0);
	expect("put link [0,0] none state\n");
	odf(f, "pump_set", "[1]");
	expect("write 1 1\n");
}

static void link_is_told_once_for_each_change(void **state)
{
	struct fixture *f = *state;

	view_link(f->view, LINK_CONNECTING, 0);
	start_online(f);
	connect_idf(f, "link");
	expect("put link [1] none state\nopen link\n");
	view_link(f->view, LINK_CONNECTING, 0);
	view_link(f->view, LINK_CONNECTED, 0);
	view_link(f->view, LINK_DISCONNECTED, 0);
	expect("put link [2] none state\nput link [0] none state\n");
}

static void values_go_out_between_connect_and_disconnect(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	tell(f, TEMP, 40, 0);
	tell(f, TEMP, 41, 0);
	expect("");
	assert_int_equal(f->done, 2);
	connect_idf(f, "temp");
	expect("keep view/" ID "/temp/\nput temp [20.5] all\nopen temp\n");
	tell(f, TEMP, 42, 0);
	tell(f, TEMP, 43, QUALITY_INVALID);
	expect("put temp [21.0] all\n");
	assert_int_equal(f->done, 4);
	assert_int_equal(f->done_failed, 0);
	f->dan.on_disconnect(f->dan_arg, DAN_IDF, "temp");
	expect("forget view/" ID "/temp/\ndrop temp\nopen temp\n");
	tell(f, TEMP, 44, 0);
	expect("");
	json_auto_t *last = view_last(f->view, TEMP);
	assert_true(json_real_value(json_array_get(last, 0)) == 22);
	connect_idf(f, "temp");
	expect("keep view/" ID "/temp/\nput temp [22.0] all\nopen temp\n");
}

static void suspended_is_as_disconnected(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "level");
	tell(f, LEVEL, 1, 0);
	f->dan.on_suspend(f->dan_arg, DAN_IDF, "level", true);
	tell(f, LEVEL, 2, 0);
	expect("open level\nput level [1,0,1000000] none\ndrop level\nopen level\n");
	f->dan.on_suspend(f->dan_arg, DAN_IDF, "level", false);
	tell(f, LEVEL, 3, 0);
	expect("put level [2,0,1000000] none\nopen level\nput level [3,0,1000000] none\n");
}

static void what_is_suspended_stays_so_over_a_lost_broker(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "level");
	tell(f, LEVEL, 1, 0);
	f->dan.on_suspend(f->dan_arg, DAN_IDF, "level", true);
	lose_broker(f);
	forget_log();
	find_broker(f, "level");
	connect_idf(f, "level"); /* csm says both, one after the other */
	f->dan.on_suspend(f->dan_arg, DAN_IDF, "level", true);
	expect("up\nopen level\ndrop level\nopen level\n");
	/* resumed meanwhile: then nothing follows */
	lose_broker(f);
	forget_log();
	find_broker(f, "level");
	connect_idf(f, "level");
	expect("up\nopen level\n");
	pass_ms(31000);
	expect("put level [1,0,1000000] none\n");
	/* not in a graph any more, and in one again */
	f->dan.on_suspend(f->dan_arg, DAN_IDF, "level", true);
	f->dan.on_disconnect(f->dan_arg, DAN_IDF, "level");
	forget_log();
	connect_idf(f, "level");
	expect("put level [1,0,1000000] none\nopen level\n");
}

static void what_is_connected_stays_wanted_while_the_broker_is_away(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	tell(f, TEMP, 2, 0);
	forget_log();
	lose_broker(f);
	expect("down\nclose temp\n");
	tell(f, TEMP, 4, 0);
	tell(f, LEVEL, 4, 0); /* was not connected */
	expect("put temp [2.0] all\n");
	find_broker(f, "temp");
	tell(f, TEMP, 6, 0);
	expect("up\nput temp [3.0] all\n");
	connect_idf(f, "temp");
	expect("open temp\n"); /* its last value is on its way already */
	pass_ms(40000);
	expect("");
	/* nothing new while it was away: then it comes once more */
	lose_broker(f);
	find_broker(f, "temp");
	connect_idf(f, "temp");
	expect("down\nclose temp\nup\nput temp [3.0] all\nopen temp\n");
}

static void what_is_not_connected_again_within_30_s_is_dropped(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	connect_idf(f, "link");
	lose_broker(f);
	pass_ms(100000); /* as long as it takes: the broker is away */
	forget_log();
	find_broker(f, "temp");
	connect_idf(f, "link");
	forget_log();
	pass_ms(29000);
	tell(f, TEMP, 2, 0);
	expect("put temp [1.0] all\n");
	pass_ms(2000);
	expect("forget view/" ID "/temp/\ndrop temp\nopen temp\n");
	tell(f, TEMP, 4, 0);
	expect("");
}

static void a_connection_that_is_lost_again_waits_anew(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	lose_broker(f);
	find_broker(f, "temp");
	pass_ms(29000);
	lose_broker(f);
	forget_log();
	pass_ms(60000);
	expect("");
	tell(f, TEMP, 4, 0);
	expect("put temp [2.0] all\n");
}

static void early_words_of_a_connection_are_no_disconnect(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	lose_broker(f);
	forget_log();
	connect_idf(f, "temp"); /* before dan says it is online */
	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), ERR_AGAIN);
	find_broker(f, "temp");
	expect("open temp\nclose temp\nup\n");
	connect_idf(f, "temp");
	expect("open temp\n");
}

static void what_is_kept_on_disk_is_wanted_by_the_next_process(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	connect_idf(f, "pump");
	connect_idf(f, "level");
	connect_idf(f, "pump_ack");
	view_free(f->view);
	forget_log();
	make_view(f);
	expect("close temp\nclose pump\n");
	tell(f, TEMP, 4, 0);
	tell(f, LEVEL, 4, 0);
	expect("put temp [2.0] all\n");
	start_online(f);
	connect_idf(f, "temp");
	expect("open temp\n");
	pass_ms(31000);
	expect("forget view/" ID "/pump/\ndrop pump\nopen pump\n");
}

static void points_are_kept_as_they_or_the_store_say(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	connect_idf(f, "pump");
	connect_idf(f, "level");
	forget_log();
	tell(f, TEMP, 2, 0);
	tell(f, PUMP, 1, 0);
	tell(f, LEVEL, 2, 0);
	expect("put temp [1.0] all\nput pump [1,0] latest\nput level [2,0,1000000] none\n");
}

static void without_a_store_nothing_is_kept(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	tell(f, TEMP, 2, 0);
	expect("open temp\nput temp [2] none\n");
}

static void stale_values_are_told_when_the_link_goes_down(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "temp");
	connect_idf(f, "pump");
	connect_idf(f, "level");
	tell(f, TEMP, 2, 0);
	tell(f, LEVEL, 3, QUALITY_NOT_TOPICAL);
	forget_log();
	view_link(f->view, LINK_DISCONNECTED, 0);
	view_link(f->view, LINK_CONNECTING, 0);
	view_link(f->view, LINK_DISCONNECTED, 0);
	/* pump has no value yet, and temp does not tell quality */
	expect("put level [3,66,1000000] none\n");
	view_link(f->view, LINK_CONNECTED, 0);
	tell(f, LEVEL, 3, 0);
	expect("put level [3,0,1000000] none\n");
	/* the device has said it already */
	const struct value stale = {
		.kind = VALUE_NONE, .quality = QUALITY_STALE, .time_us = 2000000};
	view_value(f->view, LEVEL, &stale, NULL, NULL);
	view_link(f->view, LINK_DISCONNECTED, 0);
	expect("put level [3,64,2000000] none\n");
}

static void writes_are_acknowledged_with_their_outcome(void **state)
{
	static const enum ack acks[] = {ACK_OK,        ACK_REJECTED,       ACK_TIMEOUT,
					ACK_LINK_DOWN, ACK_SELECT_REFUSED, ACK_CANCELLED};
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "pump_ack");
	forget_log();
	for (size_t i = 0; i < ARRAY_LEN(acks); i++) {
		char want[64];
		odf(f, "pump_set", "[true]");
		expect("write 1 1\n");
		view_written(f->view, f->number, acks[i]);
		view_written(f->view, f->number, acks[i]); /* once is enough */
		snprintf(want, sizeof(want), "put pump_ack [%d,true] none\n", (int)acks[i]);
		expect(want);
	}
}

static void writes_may_be_answered_at_once(void **state)
{
	struct fixture *f = *state;
	enum ack ok = ACK_OK;

	f->answer = &ok;
	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	odf(f, "valve_1_set", "[7]");
	odf(f, "valve_1_set", "[\"8\"]");
	expect("open valve_1_ack\nwrite 3 7\nput valve_1_ack [0,7] none\n"
	       "write 3 8\nput valve_1_ack [0,\"8\"] none\n");
}

static void only_the_newest_value_waits(void **state)
{
	struct fixture *f = *state;
	struct view_status s;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	forget_log();
	odf(f, "valve_1_set", "[1]");
	odf(f, "pump_set", "[1]"); /* another ODF does not wait */
	odf(f, "valve_1_set", "[2]");
	expect("write 3 1\nwrite 1 1\n");
	odf(f, "valve_1_set", "[3]");
	odf(f, "valve_1_set", "[null]"); /* takes nobody's place */
	expect("put valve_1_ack [6,2] none\nput valve_1_ack [4,null] none\n");
	view_written(f->view, f->number, ACK_OK); /* pump's */
	odf(f, "pump_set", "[0]");
	uint64_t pump = f->number;
	view_written(f->view, pump, ACK_OK);
	expect("write 1 0\n");
	view_written(f->view, (uint64_t)1 << 32 | VALVE, ACK_TIMEOUT);
	expect("put valve_1_ack [2,1] none\nwrite 3 3\n");
	view_written(f->view, f->number, ACK_OK);
	expect("put valve_1_ack [0,3] none\n");
	view_get_status(f->view, &s);
	assert_int_equal(s.writes, 6);
	assert_int_equal(s.refused, 2);
}

static void a_waiting_write_fails_when_the_link_has_gone(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	odf(f, "valve_1_set", "[1]");
	odf(f, "valve_1_set", "[2]");
	forget_log();
	view_link(f->view, LINK_DISCONNECTED, 0);
	view_written(f->view, f->number, ACK_LINK_DOWN);
	odf(f, "valve_1_set", "[3]");
	expect("put valve_1_ack [3,1] none\nput valve_1_ack [3,2] none\n"
	       "put valve_1_ack [3,3] none\n");
}

static void bad_values_are_refused(void **state)
{
	static const struct {
		const char *odf, *ack;
	} cases[] = {
		{"[null]", "[4,null]"},     {"[]", "[4,null]"},           {"[1,2]", "[4,1]"},
		{"7", "[4,null]"},          {"[65536]", "[4,65536]"},     {"[\"x\"]", "[4,\"x\"]"},
		{"[[1]]", "[4,null]"},      {"[{\"a\": 1}]", "[4,null]"}, {"[-1.5]", "[4,-1.5]"},
		{"{\"a\": 1}", "[4,null]"},
	};
	struct fixture *f = *state;
	struct view_status s;
	char longer[400];

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	forget_log();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[100];
		odf(f, "valve_1_set", cases[i].odf);
		snprintf(want, sizeof(want), "put valve_1_ack %s none\n", cases[i].ack);
		expect(want);
	}
	view_get_status(f->view, &s);
	assert_int_equal(s.refused, ARRAY_LEN(cases));
	assert_string_equal(s.why, "a list of one value is needed");
	/* a long text is not repeated */
	snprintf(longer, sizeof(longer), "[\"%0300d\"]", 7);
	odf(f, "valve_1_set", longer);
	expect("write 3 7\n");
	view_written(f->view, f->number, ACK_OK);
	expect("put valve_1_ack [0,null] none\n");
	odf(f, "no_such_set", "[1]");
	odf(f, "temp_set", "[1]"); /* an IDF only */
	expect("");
}

static void writes_end_with_the_device(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "pump_ack");
	odf(f, "pump_set", "[1]");
	odf(f, "pump_set", "[0]");
	uint64_t old = f->number;
	view_stop(f->view);
	view_written(f->view, old, ACK_OK);
	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "pump_ack");
	odf(f, "pump_set", "[0]");
	view_written(f->view, old, ACK_OK); /* of the instance before */
	expect("open pump_ack\nwrite 1 0\n");
}

static void what_is_sent_is_acknowledged_to_the_outbox(void **state)
{
	struct fixture *f = *state;
	struct view_status s;

	start_online(f);
	connect_idf(f, "temp");
	forget_log();
	assert_int_equal(view_send(f->view, 7, "temp", "[1]"), 0);
	f->pushed(f->pushed_arg, 0);
	assert_int_equal(view_send(f->view, 8, "temp", "[2]"), 0);
	f->pushed(f->pushed_arg, ERR_AGAIN);
	expect("push temp [1]\nsent 7 OK\npush temp [2]\nsent 8 AGAIN\n");
	view_get_status(f->view, &s);
	assert_int_equal(s.pushed, 2);
	/* of a configuration of before: never */
	assert_int_equal(view_send(f->view, 9, "old", "[2]"), ERR_NOENT);
	assert_int_equal(view_send(f->view, 9, "valve_1", "[2]"), ERR_NOENT);
	f->push_rc = ERR_BUS;
	assert_int_equal(view_send(f->view, 9, "temp", "[2]"), ERR_BUS);
	pass_ms(5000);
	expect("");
}

static void what_cannot_be_sent_now_is_asked_for_again(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), ERR_AGAIN);
	pass_ms(1100);
	expect("ready\n");
	start_online(f);
	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), ERR_AGAIN);
	pass_ms(1100);
	expect("ready\n");
	connect_idf(f, "temp");
	forget_log();
	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), 0);
	f->push_rc = ERR_LIMIT;
	assert_int_equal(view_send(f->view, 2, "temp", "[2]"), ERR_AGAIN);
	f->pushed(f->pushed_arg, 0);
	expect("push temp [1]\nsent 1 OK\nready\n");
	pass_ms(5000);
	expect(""); /* once */
}

static void what_is_under_way_goes_back_when_the_device_stops(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	view_send(f->view, 1, "temp", "[1]");
	view_send(f->view, 2, "temp", "[2]");
	forget_log();
	view_stop(f->view);
	expect("leave\ndown\nclose temp\nsent 2 AGAIN\nsent 1 AGAIN\n");
	/* the same when it is registered anew: that connection is gone */
	start_online(f);
	connect_idf(f, "temp");
	view_send(f->view, 3, "temp", "[3]");
	lose_broker(f);
	forget_log();
	f->dan.on_registered(f->dan_arg, "plc1");
	expect("sent 3 AGAIN\n");
}

static void points_are_found_by_their_names(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(view_feature(f->view, TEMP, false), "temp");
	assert_null(view_feature(f->view, TEMP, true));
	assert_string_equal(view_feature(f->view, PUMP, true), "pump_set");
	assert_null(view_feature(f->view, VALVE, false));
	assert_string_equal(view_feature(f->view, VALVE, true), "valve_1_set");
	assert_null(view_feature(f->view, POINTS, false));
	static const struct {
		const char *name;
		int point;
	} cases[] = {
		{"Temp", TEMP},     {"temp", TEMP},     {"pump_set", PUMP},
		{"valve 1", VALVE}, {"valve_1", VALVE}, {"valve_1_set", VALVE},
		{"temp_set", -1},   {"link", -1},       {"", -1},
		{"tem", -1},        {"temp2", -1},      {"_set", -1},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (view_find(f->view, cases[i].name) != cases[i].point)
			fail_msg("%s", cases[i].name);
}

static void the_login_of_csm_is_kept_for_the_next_time(void **state)
{
	struct fixture *f = *state;

	f->username = "u1";
	view_start(f->view);
	forget_log();
	f->dan.on_registered(f->dan_arg, "plc1");
	f->username = "u2";
	f->dan.on_registered(f->dan_arg, "plc1");
	expect("keep view/" ID "/@login/\nforget view/" ID "/@login/\nkeep view/" ID "/@login/\n");
	view_stop(f->view);
	forget_log();
	view_start(f->view);
	assert_non_null(strstr(f->log, "2000 to 60000 ms as u2\n"));
}

static void a_device_that_stops_has_no_link(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "link");
	connect_idf(f, "level");
	tell(f, LEVEL, 3, 0);
	forget_log();
	view_stop(f->view);
	expect("put link [0] none state\nput level [3,64,1000000] none\n"
	       "leave\ndown\nclose link\nclose level\n");
	view_stop(f->view);
	expect("");
}

/* ---- farewells ---- */

#define PUT(id)                        \
	"http PUT http://csm:9992/" id \
	" {\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"gateway_removed\"}}"
#define DELETE(id) "http DELETE http://csm:9992/" id " {\"rev\":\"R1\"}"
#define ANSWER(more)                                                                       \
	"{\"rev\":\"R1\",\"url\":{\"scheme\":\"mqtt\",\"host\":\"broker\",\"port\":1883}," \
	"\"ctrl_chans\":[\"a\",\"b\"]" more "}"

static struct view_farewells *farewells(struct fixture *f)
{
	struct view_farewells *all = NULL;

	assert_int_equal(view_farewells_new(f->loop, f->conf.store, f->conf.fetch, f->conf.csm_url,
					    &all, NULL),
			 0);
	return all;
}

static void a_removed_device_is_deregistered_and_forgotten(void **state)
{
	struct fixture *f = *state;
	struct view_farewells *all = farewells(f);

	start_online(f);
	connect_idf(f, "temp");
	forget_log();
	view_deregister(all, ID, NULL);
	view_deregister(all, ID, NULL);
	view_deregister(all, SLAVE, NULL);
	assert_int_equal(view_farewells_count(all), 2);
	pass_ms(0);
	expect(PUT(ID) "\n");
	http_answer(0, 200, ANSWER(",\"username\":\"u1\",\"password\":\"p\""));
	expect("keep view/" ID "/@login/\n" DELETE(ID) " as u1\n");
	http_answer(0, 200, "{}");
	expect("forget view/" ID "/temp/\nforget view/" ID "/@login/\nforget " ID "\n");
	pass_ms(1);
	expect(PUT(SLAVE) "\n");
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 404, "{}"); /* somebody was faster */
	expect(DELETE(SLAVE) "\nforget " SLAVE "\n");
	assert_int_equal(view_farewells_count(all), 0);
	pass_ms(100000);
	expect("");
	view_farewells_free(all);
}

static void deregistering_is_tried_until_it_is_done(void **state)
{
	static const struct {
		int rc;
		long status;
		const char *body;
	} failures[] = {
		{ERR_PEER, 0, ""},
		{0, 503, "{}"},
		{0, 200, "{}"},
		{0, 403, "{\"reason\": \"x\"}"},
	};
	struct fixture *f = *state;
	struct view_farewells *all = farewells(f);

	view_deregister(all, ID, NULL);
	view_deregister(all, SLAVE, NULL);
	pass_ms(0);
	expect(PUT(ID) "\n");
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		http_answer(failures[i].rc, failures[i].status, failures[i].body);
		pass_ms(900);
		expect(""); /* a second at least */
		pass_ms(60000);
		expect(i % 2 == 0 ? PUT(SLAVE) "\n" : PUT(ID) "\n"); /* the others first */
	}
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 400, "{}"); /* its revision is old */
	pass_ms(60000);
	expect(DELETE(ID) "\n" PUT(SLAVE) "\n");
	view_farewells_free(all); /* under way */
	assert_null(f->http_done);
}

static void a_device_that_is_back_is_not_deregistered(void **state)
{
	struct fixture *f = *state;
	struct view_farewells *all = farewells(f);

	view_deregister(all, ID, NULL);
	view_deregister(all, SLAVE, NULL);
	pass_ms(0);
	view_free(f->view);
	f->conf.farewells = all;
	make_view(f);
	view_start(f->view);
	assert_null(f->http_done);
	forget_log();
	pass_ms(1);
	expect(PUT(SLAVE) "\n");
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 200, "{}");
	view_deregister(all, SLAVE, NULL);
	view_deregister(all, "another", NULL);
	assert_int_equal(view_farewells_count(all), 2);
	view_farewells_free(all);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers_with_the_features_of_its_points),
		cmocka_unit_test_setup_teardown(a_slave_tells_its_masters, setup_slave, teardown),
		TEST(link_is_told_once_for_each_change),
		TEST(values_go_out_between_connect_and_disconnect),
		TEST(suspended_is_as_disconnected),
		TEST(what_is_suspended_stays_so_over_a_lost_broker),
		TEST(what_is_connected_stays_wanted_while_the_broker_is_away),
		TEST(what_is_not_connected_again_within_30_s_is_dropped),
		TEST(a_connection_that_is_lost_again_waits_anew),
		TEST(early_words_of_a_connection_are_no_disconnect),
		TEST(what_is_kept_on_disk_is_wanted_by_the_next_process),
		TEST(points_are_kept_as_they_or_the_store_say),
		cmocka_unit_test_setup_teardown(without_a_store_nothing_is_kept, setup_storeless,
						teardown),
		TEST(stale_values_are_told_when_the_link_goes_down),
		TEST(writes_are_acknowledged_with_their_outcome),
		TEST(writes_may_be_answered_at_once),
		TEST(only_the_newest_value_waits),
		TEST(a_waiting_write_fails_when_the_link_has_gone),
		TEST(bad_values_are_refused),
		TEST(writes_end_with_the_device),
		TEST(what_is_sent_is_acknowledged_to_the_outbox),
		TEST(what_cannot_be_sent_now_is_asked_for_again),
		TEST(what_is_under_way_goes_back_when_the_device_stops),
		TEST(points_are_found_by_their_names),
		TEST(the_login_of_csm_is_kept_for_the_next_time),
		TEST(a_device_that_stops_has_no_link),
		TEST(a_removed_device_is_deregistered_and_forgotten),
		TEST(deregistering_is_tried_until_it_is_done),
		TEST(a_device_that_is_back_is_not_deregistered),
	};
	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
