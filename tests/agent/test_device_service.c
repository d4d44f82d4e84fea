/* test_device_service.c - the engine: device file, broker and devices together; a real broker,
 * drivers that do as they are told.
 */
#include "agent/device/service.h"
#include "agent/device/store.h"
#include "common/log.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "tests/agent/bad_disk.h"
#include "tests/agent/fake_device.h"
#include "tests/agent/real_broker.h"

#define TOPIC_MAX 256

struct world {
	struct broker broker;
	struct loop *loop;
	struct settings settings;
	struct watcher watcher;
	struct devices *devices;
	struct ctl *ctl;
	char path[128], socket[108]; /* socket: as long as an address may be */
	struct notes heard;          /* what we publish: <type>/<name>/<word>=<payload>; */
};

/* ---- what the service says ---- */

static void on_heard(void *arg, const char *topic, const char *payload, bool retained)
{
	struct world *w = arg;
	json_auto_t *body = json_loads(payload, 0, NULL);
	char *text = json_dumps(json_object_get(body, "payload"), JSON_ENCODE_ANY);

	(void)retained;
	note(&w->heard, "%s=%s;", topic + strlen("gateway/gw1/"), text != NULL ? text : payload);
	free(text);
}

static bool heard(const struct world *w, const char *text)
{
	return strstr(w->heard.text, text) != NULL;
}

/* The broker has all, and what was heard last of the topic is the text. What was under way when the
 * broker went comes before, again. */
static bool heard_last(const struct world *w, const char *topic, const char *text)
{
	struct devices_status status;
	const char *last = NULL;

	devices_get_status(w->devices, &status);
	for (const char *at = w->heard.text; (at = strstr(at, topic)) != NULL; at++)
		last = at + strlen(topic);
	return status.backlog == 0 && last != NULL && strncmp(last, text, strlen(text)) == 0;
}

static void say(struct world *w, const char *device, const char *path, const char *text,
		bool retain)
{
	char topic[TOPIC_MAX];

	snprintf(topic, sizeof(topic), "gateway/gw1/%s/system/%s", device, path);
	watcher_say(&w->watcher, w->loop, topic, text, strlen(text), retain);
}

/* ---- the world ---- */

/* devices: JSON of the list's items. */
static void write_file(struct world *w, const char *devices)
{
	char text[4096];

	snprintf(text, sizeof(text),
		 "{\"name\":\"gw1\",\"mqtt\":{\"host\":\"127.0.0.1\",\"port\":%u},"
		 "\"csm\":{\"url\":\"http://127.0.0.1:1\"},\"bus_loss_grace\":1.5,"
		 "\"sync_timeout\":2,\"devices\":[%s]}",
		 w->broker.port, devices);
	broker_write(&w->broker, "devices.json", text);
}

static void start(struct world *w)
{
	struct err err = {0};

	if (devices_new(w->loop, &w->settings, w->path, &w->devices, &err) < 0)
		fail_msg("%s", err.text);
}

static bool is_synced(const struct world *w)
{
	struct devices_status s;

	devices_get_status(w->devices, &s);
	return s.bus;
}

static size_t running(const struct world *w)
{
	struct devices_status s;

	devices_get_status(w->devices, &s);
	return s.running;
}

static void begin(struct world *w, const char *devices)
{
	write_file(w, devices);
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
}

/* n devices d0, d1 ... */
static void n_devices(char *buf, size_t size, unsigned n)
{
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(buf + len, size - len,
					"%s{\"type\":\"fake\",\"name\":\"d%u\"}", i > 0 ? "," : "",
					i);
}

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	(void)is_error;
	(void)text;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	memset(&fakes, 0, sizeof(fakes));
	memset(&views, 0, sizeof(views));
	bad_disk_begin();
	broker_init(&w->broker, "");
	broker_start(&w->broker);
	assert_int_equal(settings_load(NULL, &w->settings, on_note, NULL, NULL), 0);
	free(w->settings.devices_db.url);
	assert_true(asprintf(&w->settings.devices_db.url, "%s/devices.db", w->broker.dir) > 0);
	snprintf(w->path, sizeof(w->path), "%s/devices.json", w->broker.dir);
	snprintf(w->socket, sizeof(w->socket), "%s/sock", w->broker.dir);
	w->watcher.on_message = on_heard;
	w->watcher.arg = w;
	*state = w;
	return loop_new(&w->loop, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;

	bad_disk_recover();
	ctl_close(w->ctl);
	devices_free(w->devices);
	bus_free(w->watcher.bus);
	loop_free(w->loop);
	settings_done(&w->settings);
	unlink(w->socket);
	broker_done(&w->broker);
	free(w);
	return fakes.n_alive == 0 ? 0 : -1;
}

/* ---- the engine ---- */

static void empty_engine(void **state)
{
	struct world *w = *state;
	struct devices_status s;

	begin(w, "");
	devices_get_status(w->devices, &s);
	assert_int_equal(s.devices, 0);
	assert_string_equal(s.why, "");
	for (int i = 0; i < 20; i++)
		loop_turn(w->loop, 5);
	assert_true(is_synced(w));
	json_auto_t *counters = devices_counters(w->devices);

	assert_int_equal(json_integer_value(json_object_get(counters, "devices")), 0);
	assert_int_equal(json_integer_value(json_object_get(counters, "device_bus")), 1);
}

static void create_engine_with_disabled_devices(void **state)
{
	static const unsigned counts[] = {1, 2, 5};
	struct world *w = *state;
	char devices[1024];

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		n_devices(devices, sizeof(devices), counts[i]);
		write_file(w, devices);
		start(w);
		AWAIT(w->loop, is_synced(w));
		assert_int_equal(fakes.created, 0);
		w->devices = devices_free(w->devices);
	}
}

static void create_engine_with_enabled_devices(void **state)
{
	static const unsigned counts[] = {1, 2, 5};
	struct world *w = *state;
	char devices[1024], word[64];

	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	for (unsigned i = 0; i < 5; i++) {
		snprintf(word, sizeof(word), "fake/d%u", i);
		say(w, word, "enable", "true", true);
	}
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		fakes.created = fakes.closed = 0;
		notes_clear(&w->heard);
		n_devices(devices, sizeof(devices), counts[i]);
		write_file(w, devices);
		start(w);
		AWAIT(w->loop, running(w) == counts[i]);
		assert_int_equal(fakes.created, counts[i]);
		for (unsigned k = 0; k < counts[i]; k++) {
			snprintf(word, sizeof(word), "fake/d%u/gateway/running=true;", k);
			AWAIT(w->loop, heard(w, word));
		}
		notes_clear(&w->heard);
		w->devices = devices_free(w->devices);
		assert_int_equal(fakes.closed, counts[i]);
		for (unsigned k = 0; k < counts[i]; k++) {
			/* its own last words come first */
			snprintf(word, sizeof(word), "fake/d%u/gateway/running=false;", k);
			AWAIT(w->loop, heard(w, word));
			char *at = strstr(w->heard.text, word);

			snprintf(word, sizeof(word), "fake/d%u/gateway/status=\"DISCONNECTED\";",
				 k);
			assert_non_null(strstr(w->heard.text, word));
			assert_true(strstr(w->heard.text, word) < at);
		}
	}
}

static void running_false_is_announced_at_the_start(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"other\",\"name\":\"d0\"}");
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=false;") &&
			       heard(w, "other/d0/gateway/running=false;"));
}

static void process_events(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"other\",\"name\":\"d0\"},"
		 "{\"type\":\"fake\",\"name\":\"a/b\"}");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/a%2Fb", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2);
	for (int i = 0; i < 10; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		say(w, "fake/d0", "write/x", text, false);
		say(w, "other/d0", "write/x", text, false);
		say(w, "fake/d1", "write/x", text, false);
	}
	say(w, "fake/a%2Fb", "write/x", "99", false);
	AWAIT(w->loop, strstr(fakes.notes.text, "=99;") != NULL);
	assert_string_equal(fakes.notes.text,
			    "fake/d0 write/x=0;fake/d0 write/x=1;fake/d0 write/x=2;"
			    "fake/d0 write/x=3;fake/d0 write/x=4;fake/d0 write/x=5;"
			    "fake/d0 write/x=6;fake/d0 write/x=7;fake/d0 write/x=8;"
			    "fake/d0 write/x=9;fake/a/b write/x=99;");
	json_auto_t *counters = devices_counters(w->devices);

	assert_int_equal(json_integer_value(json_object_get(counters, "device_events_unknown")),
			 10);
	assert_int_equal(json_integer_value(json_object_get(counters, "device_events_handled")),
			 11);
	assert_int_equal(json_integer_value(json_object_get(counters, "device_events_dropped")),
			 10); /* of the one that does not run */
}

static void a_retained_command_from_before_the_start_is_not_done(void **state)
{
	struct world *w = *state;

	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d0", "command/single/1/6", "{\"value\":\"ON\"}", true);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	start(w);
	AWAIT(w->loop, running(w) == 1);
	say(w, "fake/d0", "write/x", "1", false);
	AWAIT(w->loop, strstr(fakes.notes.text, "write/x=1") != NULL);
	assert_string_equal(fakes.notes.text, "fake/d0 write/x=1;");
}

/* ---- the broker goes away ---- */

static void lose_broker(struct world *w)
{
	broker_kill(&w->broker);
	AWAIT(w->loop, !is_synced(w));
}

static void find_broker(struct world *w)
{
	notes_clear(&w->heard);
	broker_start(&w->broker);
	AWAIT(w->loop, is_synced(w) && w->watcher.up);
}

static void a_short_loss_closes_nothing(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	say(w, "fake/d0", "enable", "true", true);
	AWAIT(w->loop, running(w) == 1);
	fake_emit(fakes.alive, "status", json_string("CONNECTED"), true, -1, NULL);
	AWAIT(w->loop, heard(w, "status=\"CONNECTED\";"));
	lose_broker(w);
	fake_emit(fakes.alive, "write", json_integer(1), false, -1, NULL);
	fake_emit(fakes.alive, "write", json_integer(2), false, -1, NULL);
	broker_start(&w->broker);
	AWAIT(w->loop, is_synced(w));
	assert_int_equal(fakes.created, 1);
	assert_int_equal(fakes.closed, 0);
	/* the broker forgot all; who comes now finds what is true, and the enable too */
	char path[TOPIC_MAX];
	struct watcher late = {.on_message = on_heard, .arg = w};

	notes_clear(&w->heard);
	snprintf(path, sizeof(path), "gateway/gw1/#");
	w->watcher.bus = bus_free(w->watcher.bus);
	watcher_start(&late, w->loop, &w->broker, path);
	AWAIT(w->loop, heard(w, "running=true;") && heard(w, "status=\"CONNECTED\";") &&
			       heard(w, "fake/d0/system/enable=true;"));
	bus_free(late.bus);
}

static bool heard_in(struct loop *l, const struct world *w, const char *text)
{
	loop_turn(l, 0);
	return heard(w, text);
}

static void a_long_loss_closes_what_has_no_store(void **state)
{
	struct world *w = *state;
	struct watcher early = {.on_message = on_heard, .arg = w};
	struct loop *its_own;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},"
		 "{\"type\":\"fake\",\"name\":\"d1\",\"store\":{}}");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2);
	lose_broker(w);
	assert_int_equal(running(w), 2);
	AWAIT(w->loop, running(w) == 1);
	assert_non_null(fake_named("fake/d1"));
	fake_emit(fake_named("fake/d1"), "write", json_integer(1), false, -1, NULL);
	fake_emit(fake_named("fake/d1"), "write", json_integer(2), false, -1, NULL);
	/* what is not retained is said once: who listens is there before the devices are */
	notes_clear(&w->heard);
	w->watcher.bus = bus_free(w->watcher.bus);
	broker_start(&w->broker);
	assert_int_equal(loop_new(&its_own, NULL), 0);
	watcher_start(&early, its_own, &w->broker, "gateway/gw1/+/+/gateway/#");
	/* by what is kept, as the broker forgot */
	AWAIT(w->loop, running(w) == 2);
	AWAIT(w->loop,
	      heard_in(its_own, w, "fake/d0/gateway/running=true;") &&
		      heard_in(its_own, w, "fake/d1/gateway/write=1;fake/d1/gateway/write=2;"));
	bus_free(early.bus);
	loop_free(its_own);
	assert_int_equal(fakes.most_alive_of_one, 1);
	assert_int_equal(fakes.created, 3);
	assert_false(heard(w, "fake/d1/gateway/running=false;"));
}

static void a_device_with_a_store_starts_without_a_broker(void **state)
{
	static const char devices[] = "{\"type\":\"fake\",\"name\":\"d0\"},"
				      "{\"type\":\"fake\",\"name\":\"d1\",\"store\":{}}";
	struct world *w = *state;

	begin(w, devices);
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2);
	w->devices = devices_free(w->devices);
	broker_kill(&w->broker);
	start(w);
	assert_int_equal(running(w), 0);
	AWAIT(w->loop, running(w) == 1);
	assert_non_null(fake_named("fake/d1"));
	find_broker(w);
	AWAIT(w->loop, running(w) == 2);
}

static void what_is_set_while_we_are_away_counts(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	say(w, "fake/d0", "enable", "true", true);
	AWAIT(w->loop, running(w) == 1);
	w->devices = devices_free(w->devices);
	say(w, "fake/d0", "enable", "false", true);
	start(w);
	AWAIT(w->loop, is_synced(w));
	assert_int_equal(running(w), 0);
	w->devices = devices_free(w->devices);
	say(w, "fake/d0", "enable", "true", true);
	start(w);
	AWAIT(w->loop, running(w) == 1);
}

static void a_broker_of_before_enables_nothing(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	say(w, "fake/d0", "enable", "true", true);
	AWAIT(w->loop, running(w) == 1);
	say(w, "fake/d0", "enable", "false", true);
	AWAIT(w->loop, running(w) == 0);
	w->devices = devices_free(w->devices);
	/* it dies, and has again what it had written before */
	broker_kill(&w->broker);
	AWAIT(w->loop, !w->watcher.up);
	broker_start(&w->broker);
	AWAIT(w->loop, w->watcher.up);
	say(w, "fake/d0", "enable", "true", true);
	start(w);
	AWAIT(w->loop, is_synced(w));
	assert_int_equal(running(w), 0);
	/* and it is told */
	char topic[] = "gateway/gw1/fake/d0/system/enable";

	assert_int_equal(bus_subscribe(w->watcher.bus, topic, 1, NULL, NULL, NULL), 0);
	AWAIT(w->loop,
	      heard(w, "fake/d0/system/enable=false;") || heard(w, "fake/d0/system/enable=null;"));
}

/* Time in which the machine runs: a halt of it is one tick. */
struct ticks {
	struct loop *loop;
	struct loop_src *timer;
	unsigned n;
};

static void on_tick(void *arg)
{
	struct ticks *t = arg;

	t->n++;
	loop_arm(t->loop, t->timer, 100);
}

/* An agent that dies soon after it has connected, too, sees what was set while it was dead. */
static void a_broker_that_forgot_is_marked_when_it_has_been_told(void **state)
{
	struct world *w = *state;
	struct ticks ticks = {.loop = w->loop};

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	say(w, "fake/d0", "enable", "true", true);
	AWAIT(w->loop, running(w) == 1);
	lose_broker(w);
	assert_int_equal(bus_subscribe(w->watcher.bus, "gateway/gw1/mark", 1, NULL, NULL, NULL), 0);
	assert_int_equal(
		bus_subscribe(w->watcher.bus, "gateway/gw1/+/+/system/enable", 1, NULL, NULL, NULL),
		0);
	assert_int_equal(loop_add_timer(w->loop, -1, 0, on_tick, &ticks, &ticks.timer, NULL), 0);
	find_broker(w);
	loop_arm(w->loop, ticks.timer, 100);
	AWAIT(w->loop, heard(w, ";mark=") || ticks.n == 9);
	assert_true(ticks.n < 9);
	assert_true(strstr(w->heard.text, "fake/d0/system/enable=true;") <
		    strstr(w->heard.text, ";mark="));
	loop_remove(w->loop, ticks.timer);
}

/* ---- the control socket ---- */

#define OP(name)                                                                 \
	static void op_##name(void *arg, json_t *request, struct ctl_call *call) \
	{                                                                        \
		struct world *w = arg;                                           \
		devices_on_##name(w->devices, request, call);                    \
	}
OP(list)
OP(show)
OP(enable)
OP(disable)
OP(read)
OP(write)
OP(reload)

static const struct ctl_op ops[] = {
	{"list", "", op_list},       {"show", "", op_show}, {"enable", "", op_enable},
	{"disable", "", op_disable}, {"read", "", op_read}, {"write", "", op_write},
	{"reload", "", op_reload},
};

struct asking {
	const char *socket;
	json_t *request, *answer;
	struct err err;
	int rc;
	atomic_bool done;
};

static void *ask_there(void *arg)
{
	struct asking *a = arg;

	a->rc = ctl_request(a->socket, a->request, WAIT_MS, &a->answer, &a->err);
	atomic_store(&a->done, true);
	return NULL;
}

/* ret: yours, of state ok; NULL: an error, whose reason is in *reason if that is wanted. */
static json_t *ask(struct world *w, json_t *request, char **reason)
{
	struct asking a = {.socket = w->socket, .request = request};
	pthread_t thread;

	if (w->ctl == NULL)
		assert_int_equal(
			ctl_listen(w->loop, w->socket, ops, ARRAY_LEN(ops), w, &w->ctl, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, ask_there, &a), 0);
	while (!atomic_load(&a.done)) {
		loop_turn(w->loop, 10);
		/* the field answers */
		for (; fakes.n_calls > 0; fakes.n_calls--)
			port_was_read(fakes.calls[fakes.n_calls - 1],
				      &(struct value){.kind = VALUE_UINT, .u = 1234}, NULL);
	}
	pthread_join(thread, NULL);
	json_decref(request);
	if (reason != NULL)
		*reason = a.rc < 0 ? strdup(a.err.text) : NULL;
	else if (a.rc < 0)
		fail_msg("%s", a.err.text);
	return a.rc < 0 ? NULL : a.answer;
}

static void assert_reason(struct world *w, json_t *request, const char *part)
{
	CLEANUP(freep)
	char *reason = NULL;
	json_auto_t *answer = ask(w, request, &reason);

	assert_null(answer);
	if (strstr(reason, part) == NULL)
		fail_msg("%s", reason);
}

static void people_see_and_switch_devices(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\",\"data\":[{\"name\":\"p\"}]},"
		 "{\"type\":\"other\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"}");
	fakes.answers = true;
	json_auto_t *list = ask(w, json_pack("{s:s}", "op", "list"), NULL);

	assert_int_equal(json_array_size(json_object_get(list, "devices")), 3);
	assert_reason(w, json_pack("{s:s}", "op", "show"), "name is missing");
	assert_reason(w, json_pack("{s:s, s:s}", "op", "show", "name", "d0"), "several");
	assert_reason(w, json_pack("{s:s, s:s}", "op", "show", "name", "x"), "no device 'x'");
	json_auto_t *one = ask(w, json_pack("{s:s, s:s}", "op", "enable", "name", "fake/d0"), NULL);

	assert_string_equal(
		json_string_value(json_object_get(json_object_get(one, "device"), "state")),
		"running");
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=true;"));
	json_auto_t *read =
		ask(w, json_pack("{s:s, s:s, s:s}", "op", "read", "name", "fake/d0", "point", "p"),
		    NULL);

	assert_int_equal(json_integer_value(json_array_get(json_object_get(read, "value"), 0)),
			 1234);
	json_auto_t *wrote = ask(w,
				 json_pack("{s:s, s:s, s:s, s:i}", "op", "write", "name", "fake/d0",
					   "point", "p", "value", 7),
				 NULL);

	assert_string_equal(json_string_value(json_object_get(wrote, "ack")), "ok");
	assert_string_equal(fakes.notes.text, "read 0;write 0=7;");
	assert_reason(w,
		      json_pack("{s:s, s:s, s:s, s:s}", "op", "write", "name", "fake/d0", "point",
				"p", "value", "seven"),
		      "");
	assert_reason(w,
		      json_pack("{s:s, s:s, s:s, s:i}", "op", "write", "name", "fake/d0", "point",
				"p", "value", 65536),
		      "");
	assert_reason(w,
		      json_pack("{s:s, s:s, s:s}", "op", "read", "name", "fake/d0", "point", "q"),
		      "no point 'q'");
	json_auto_t *shown = ask(w, json_pack("{s:s, s:s}", "op", "show", "name", "fake/d0"), NULL);

	assert_string_equal(
		json_string_value(json_object_get(json_object_get(shown, "device"), "topic")),
		"gateway/gw1/fake/d0");
	json_auto_t *off =
		ask(w, json_pack("{s:s, s:s}", "op", "disable", "name", "fake/d0"), NULL);

	assert_string_equal(
		json_string_value(json_object_get(json_object_get(off, "device"), "state")),
		"disabled");
	/* who comes later finds what people said */
	struct watcher late = {.on_message = on_heard, .arg = w};

	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=false;"));
	w->watcher.bus = bus_free(w->watcher.bus);
	watcher_start(&late, w->loop, &w->broker, "gateway/gw1/+/+/system/enable");
	AWAIT(w->loop, heard(w, "fake/d0/system/enable=false;"));
	bus_free(late.bus);
}

/* An error means that nothing has happened, now and later. */
static void what_cannot_be_kept_switches_nothing(void **state)
{
	struct world *w = *state;
	int *const faults[] = {&bad_disk_write, &bad_disk_sync};

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	json_decref(ask(w, json_pack("{s:s, s:s}", "op", "enable", "name", "d0"), NULL));
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=true;"));
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		*faults[i] = ENOSPC;
		assert_reason(w, json_pack("{s:s, s:s}", "op", "disable", "name", "d0"),
			      "nothing is changed");
		/* and not a moment later either, when what was written before has been tried */
		assert_reason(w, json_pack("{s:s, s:s}", "op", "disable", "name", "d0"),
			      "nothing is changed");
		json_auto_t *shown =
			ask(w, json_pack("{s:s, s:s}", "op", "show", "name", "d0"), NULL);
		const json_t *device = json_object_get(shown, "device");

		assert_true(json_is_true(json_object_get(device, "enabled")));
		assert_string_equal(json_string_value(json_object_get(device, "state")), "running");
		assert_int_equal(fakes.closed, (int)i);
		bad_disk_recover();
		/* neither the store nor the broker has heard of it */
		w->devices = devices_free(w->devices);
		start(w);
		AWAIT(w->loop, running(w) == 1);
	}
	json_decref(ask(w, json_pack("{s:s, s:s}", "op", "disable", "name", "d0"), NULL));
	assert_int_equal(running(w), 0);
	w->devices = devices_free(w->devices);
	start(w);
	AWAIT(w->loop, is_synced(w));
	assert_int_equal(running(w), 0);
}

static size_t n_of(const json_t *answer, const char *key)
{
	return json_array_size(json_object_get(answer, key));
}

static void reload_changes_one_device_and_leaves_the_others(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"},"
		 "{\"type\":\"fake\",\"name\":\"d2\"}");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	say(w, "fake/d2", "enable", "true", true);
	say(w, "fake/d3", "enable", "true", true); /* it is to come */
	AWAIT(w->loop, running(w) == 3);
	struct fake *d0 = fake_named("fake/d0"), *d1 = fake_named("fake/d1");

	json_auto_t *same = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(same, "changed") + n_of(same, "added") + n_of(same, "removed"), 0);
	assert_false(json_is_true(json_object_get(same, "restart_needed")));
	/* wrong somewhere: nothing is changed */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"nothing\",\"name\":\"d1\"}");
	assert_reason(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), "devices[1]");
	assert_int_equal(fakes.closed, 0);
	/* d0 changed, d1 the same, d2 gone, d3 new; only d0 is asked for */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"fake\",\"name\":\"d1\"},{\"type\":\"fake\",\"name\":\"d3\"}");
	json_auto_t *one = ask(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), NULL);

	assert_int_equal(n_of(one, "changed"), 1);
	assert_int_equal(n_of(one, "added") + n_of(one, "removed"), 0);
	AWAIT(w->loop, running(w) == 3);
	assert_int_equal(fakes.closed, 1);
	assert_ptr_equal(fake_named("fake/d1"), d1);
	assert_true(fakes.created == 4 && d0 != NULL);
	assert_reason(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d9"), "no device 'd9'");
	assert_reason(w, json_pack("{s:s, s:[]}", "op", "reload", "name"), "name must be a text");
	json_auto_t *rest = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(rest, "changed"), 0);
	assert_int_equal(n_of(rest, "added"), 1);
	assert_int_equal(n_of(rest, "removed"), 1);
	/* the broker had told that d3 is enabled */
	AWAIT(w->loop, fake_named("fake/d3") != NULL);
	assert_null(fake_named("fake/d2"));
	assert_ptr_equal(fake_named("fake/d1"), d1);
	assert_non_null(strstr(views.notes.text, "deregister gw1-fake-d2;"));
	/* what comes back is as it was */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d1\"},{\"type\":\"fake\",\"name\":\"d2\"}");
	json_auto_t *back = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(back, "removed"), 2);
	AWAIT(w->loop, fake_named("fake/d2") != NULL && running(w) == 2);
	AWAIT(w->loop, heard(w, "fake/d3/gateway/running=false;"));
}

/* Names may look like others' TYPE/NAME. */
static void type_and_name_mean_one_device(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"other\",\"name\":\"fake/d0\"},"
		 "{\"type\":\"other\",\"name\":\"d0\"}");
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"other\",\"name\":\"fake/d0\",\"restart_delay\":5},"
		      "{\"type\":\"fake\",\"name\":\"d1\"},"
		      "{\"type\":\"other\",\"name\":\"fake/d1\"}");
	assert_reason(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), "several devices");
	static const struct {
		const char *name, *done, *key;
	} rows[] = {
		{"fake/d0", "changed", "fake/d0"},
		{"fake/d1", "added", "fake/d1"},
		{"other/d0", "removed", "other/d0"},
		{"other/fake/d0", "changed", "other/fake/d0"},
		{"other/fake/d1", "added", "other/fake/d1"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		json_auto_t *answer =
			ask(w, json_pack("{s:s, s:s}", "op", "reload", "name", rows[i].name), NULL);
		const json_t *done = json_object_get(answer, rows[i].done);

		assert_int_equal(n_of(answer, "changed") + n_of(answer, "added") +
					 n_of(answer, "removed"),
				 1);
		assert_string_equal(json_string_value(json_array_get(done, 0)), rows[i].key);
	}
}

/* What they said last before the broker went is not what they are. */
static void last_words_without_a_broker_are_said_when_it_is_back(void **state)
{
	static const char *const words[] = {
		"fake/d0/gateway/status=\"DISCONNECTED\";", "fake/d0/gateway/running=false;",
		"fake/d1/gateway/status=\"DISCONNECTED\";", "fake/d1/gateway/running=false;",
		"fake/d2/gateway/status=\"DISCONNECTED\";", "fake/d2/gateway/running=false;",
		"fake/d3/gateway/status=\"DISCONNECTED\";", "fake/d3/gateway/running=true;",
	};
	struct world *w = *state;
	char name[16];

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"},"
		 "{\"type\":\"fake\",\"name\":\"d2\",\"store\":{}},"
		 "{\"type\":\"fake\",\"name\":\"d3\"}");
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "fake/d%u", i);
		say(w, name, "enable", "true", true);
	}
	AWAIT(w->loop, running(w) == 4);
	lose_broker(w);
	/* d0 and d3 are made anew, one of them to be disabled; d1 and d2 are gone */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"fake\",\"name\":\"d3\",\"restart_delay\":5}");
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(answer, "changed"), 2);
	assert_int_equal(n_of(answer, "removed"), 2);
	json_auto_t *off = ask(w, json_pack("{s:s, s:s}", "op", "disable", "name", "d0"), NULL);

	assert_string_equal(json_string_value(json_object_get(off, "state")), "ok");
	find_broker(w);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		AWAIT(w->loop, heard(w, words[i]));
	assert_false(heard(w, "fake/d0/gateway/running=true;"));
	/* the last word is that of the one that runs */
	AWAIT(w->loop, heard_last(w, "fake/d3/gateway/running=", "true;"));
}

/* It may have again what they said long before. */
static void last_words_are_said_again_to_a_broker_that_forgot(void **state)
{
	static const char *const words[] = {
		"fake/d0/gateway/status=\"DISCONNECTED\";",
		"fake/d0/gateway/running=false;",
		"fake/d1/gateway/status=\"DISCONNECTED\";",
		"fake/d1/gateway/running=false;",
	};
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"}");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2);
	say(w, "fake/d0", "enable", "false", true);
	AWAIT(w->loop, running(w) == 1);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5}");
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(answer, "changed"), 1);
	assert_int_equal(n_of(answer, "removed"), 1);
	for (size_t times = 0; times < 2; times++) {
		lose_broker(w);
		find_broker(w);
		for (size_t i = 0; i < ARRAY_LEN(words); i++)
			AWAIT(w->loop, heard(w, words[i]));
	}
	/* what comes back speaks for itself */
	say(w, "fake/d1", "enable", "true", true);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d1\"}");
	json_auto_t *back = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(back, "added"), 1);
	AWAIT(w->loop, running(w) == 1);
	lose_broker(w);
	find_broker(w);
	AWAIT(w->loop, heard_last(w, "fake/d1/gateway/running=", "true;"));
}

static void a_device_that_left_while_we_were_away_does_not_run(void **state)
{
	struct world *w = *state;
	struct store *store;

	assert_int_equal(store_open(w->loop, &w->settings, &store, NULL), 0);
	assert_int_equal(store_begin(store, NULL), 0);
	assert_int_equal(store_add_registration(store, "id-0", "fake/d 0/#", NULL), 0);
	store_close(store);
	begin(w, "{\"type\":\"fake\",\"name\":\"d1\"}");
	AWAIT(w->loop, heard(w, "fake/d 0%2F%23/gateway/running=false;"));
}

/* ---- a reload that takes many turns ---- */

enum { MANY = 400, POINTS = 100 };

static const char whole[] = "{\"op\":\"reload\"}\n", list_all[] = "{\"op\":\"list\"}\n";

/* A file of many devices with many points of their own. space: in each of them; first: what the
 * first one has beside its points; last: behind the list's last one. */
static void write_many(struct world *w, const char *space, const char *first, const char *last)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	fprintf(f,
		"{\"name\":\"gw1\",\"mqtt\":{\"host\":\"127.0.0.1\",\"port\":%u},"
		"\"csm\":{\"url\":\"http://127.0.0.1:1\"},\"devices\":[",
		w->broker.port);
	for (unsigned i = 0; i < MANY; i++) {
		fprintf(f, "%s{\"type\":\"fake\",\"name\":\"d%u\",%s%s\"data\":[", i > 0 ? "," : "",
			i, space, i == 0 ? first : "");
		for (unsigned k = 0; k < POINTS; k++)
			fprintf(f, "%s{\"name\":\"p%u_%u\"}", k > 0 ? "," : "", i, k);
		fputs("]}", f);
	}
	fprintf(f, "%s]}", last);
	assert_int_equal(fclose(f), 0);
	broker_write(&w->broker, "devices.json", text);
	free(text);
}

/* A new connection that asks, and does not wait. ret: its socket. */
static int begin_asking(struct world *w, const char *request)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (w->ctl == NULL)
		assert_int_equal(
			ctl_listen(w->loop, w->socket, ops, ARRAY_LEN(ops), w, &w->ctl, NULL), 0);
	assert_true(fd >= 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", w->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	return fd;
}

static bool is_answered(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* ret: yours; the socket is closed. */
static json_t *end_asking(struct world *w, int fd)
{
	AWAIT(w->loop, is_answered(fd));
	size_t len = 0, room = 1 << 20;
	char *text = malloc(room);
	ssize_t n = 1;

	assert_non_null(text);
	while (n > 0 && memchr(text, '\n', len) == NULL) {
		loop_turn(w->loop, 0);
		n = recv(fd, text + len, room - len, 0);
		len += n > 0 ? (size_t)n : 0;
	}
	json_t *answer = json_loadb(text, len, 0, NULL);

	assert_non_null(answer);
	free(text);
	close(fd);
	return answer;
}

/* Reading and changing devices goes on in many turns, and what others ask is answered in between.
 */
static void a_reload_does_not_hold_the_others(void **state)
{
	static const struct {
		const char *space, *first, *last, *state;
		size_t changed;
	} rows[] = {
		/* all texts are others, all devices are the same */
		{" ", "", "", "ok", 0},
		/* one is not */
		{"", "\"restart_delay\":7,", "", "ok", 1},
		/* wrong behind all that is right */
		{" ", "", ",{}", "error", 0},
	};
	struct world *w = *state;

	write_many(w, "", "", "");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		write_many(w, rows[i].space, rows[i].first, rows[i].last);
		int reloading = begin_asking(w, whole);

		for (int turn = 0; turn < 5; turn++)
			loop_turn(w->loop, 0);
		int listing = begin_asking(w, list_all);

		AWAIT(w->loop, is_answered(listing));
		assert_false(is_answered(reloading));
		json_auto_t *list = end_asking(w, listing);
		json_auto_t *answer = end_asking(w, reloading);

		assert_int_equal(n_of(list, "devices"), MANY);
		assert_string_equal(json_string_value(json_object_get(answer, "state")),
				    rows[i].state);
		assert_int_equal(n_of(answer, "changed"), rows[i].changed);
		assert_int_equal(n_of(answer, "added") + n_of(answer, "removed"), 0);
	}
}

/* Each answers for the file as it is when the one before is done. */
static void reloads_go_one_after_the_other(void **state)
{
	struct world *w = *state;

	write_many(w, "", "", "");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
	write_many(w, " ", "\"restart_delay\":7,", "");
	int first = begin_asking(w, whole);

	for (int turn = 0; turn < 5; turn++)
		loop_turn(w->loop, 0);
	int second = begin_asking(w, whole), third = begin_asking(w, list_all);

	AWAIT(w->loop, is_answered(third));
	assert_false(is_answered(first) || is_answered(second));
	write_many(w, "", "\"restart_delay\":8,", "");
	AWAIT(w->loop, is_answered(first));
	assert_false(is_answered(second));
	json_auto_t *one = end_asking(w, first), *two = end_asking(w, second),
		    *listed = end_asking(w, third);

	assert_int_equal(n_of(one, "changed"), 1);
	assert_int_equal(n_of(two, "changed"), 1);
	assert_int_equal(n_of(listed, "devices"), MANY);
	json_auto_t *same = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(same, "changed"), 0);
}

/* Who waits is told; what is half read is given up. */
static void the_end_does_not_wait_for_a_reload(void **state)
{
	struct world *w = *state;

	write_many(w, "", "", "");
	start(w);
	write_many(w, " ", "\"restart_delay\":7,", "");
	int first = begin_asking(w, whole), second = begin_asking(w, whole);

	for (int turn = 0; turn < 8; turn++)
		loop_turn(w->loop, 0);
	assert_false(is_answered(first) || is_answered(second));
	w->devices = devices_free(w->devices);
	json_auto_t *one = end_asking(w, first), *two = end_asking(w, second);

	assert_string_equal(json_string_value(json_object_get(one, "state")), "error");
	assert_string_equal(json_string_value(json_object_get(two, "state")), "error");
}

static void write_template(struct world *w, unsigned delay)
{
	char text[200];

	snprintf(text, sizeof(text),
		 "{\"template\":\"t\",\"version\":1,\"title\":\"T\",\"type\":\"fake\","
		 "\"device\":{\"restart_delay\":%u}}",
		 delay);
	broker_write(&w->broker, "templates/t.json", text);
}

/* The text of a device is the same, what it names is not. */
static void a_reload_sees_that_a_template_has_changed(void **state)
{
	struct world *w = *state;
	char dir[200], path[220];

	snprintf(dir, sizeof(dir), "%s/templates", w->broker.dir);
	snprintf(path, sizeof(path), "%s/t.json", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	write_template(w, 5);
	begin(w, "{\"template\":\"t\",\"name\":\"d0\"},{\"template\":\"t\",\"name\":\"d1\"}");
	json_auto_t *same = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(same, "changed"), 0);
	write_template(w, 6);
	json_auto_t *one = ask(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), NULL);

	assert_int_equal(n_of(one, "changed"), 1);
	/* the other one still runs with what the template was */
	json_auto_t *other = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_string_equal(json_string_value(json_array_get(json_object_get(other, "changed"), 0)),
			    "fake/d1");
	assert_int_equal(n_of(other, "changed"), 1);
	assert_int_equal(unlink(path), 0);
	assert_reason(w, json_pack("{s:s}", "op", "reload"), "there is no template t");
	write_template(w, 6);
	json_auto_t *again = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(again, "changed"), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* What is odd is told each time. */
static void a_reload_repeats_its_warnings(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},"
		 "{\"type\":\"fake\",\"name\":\"d1\",\"restart_dalay\":1}");
	for (int i = 0; i < 3; i++) {
		json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

		assert_int_equal(n_of(answer, "warnings"), 1);
		assert_int_equal(n_of(answer, "changed"), 0);
	}
	/* twice the text of one that is known */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d0\"}");
	assert_reason(w, json_pack("{s:s}", "op", "reload"),
		      "devices[1].name: there is another fake 'd0'");
}

static json_int_t counter(const struct world *w, const char *name)
{
	json_auto_t *all = devices_counters(w->devices);

	return json_integer_value(json_object_get(all, name));
}

/* What was retained of a device would stay as it was for ever. */
static void who_is_removed_has_said_all_before(void **state)
{
	enum { MORE = 5000 }; /* than the broker is given before it answers */
	struct world *w = *state;

	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"}");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/fake/d1/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2 && heard(w, "fake/d1/gateway/running=true;"));
	notes_clear(&w->heard);
	kill(w->broker.pid, SIGSTOP);
	for (unsigned i = 0; i < MORE; i++)
		fake_emit(fake_named("fake/d0"), "write", json_integer(1), false, -1, NULL);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	int reloading = begin_asking(w, whole);

	AWAIT(w->loop, fake_named("fake/d1") == NULL);
	for (int turn = 0; turn < 20; turn++)
		loop_turn(w->loop, 10);
	assert_false(is_answered(reloading));
	kill(w->broker.pid, SIGCONT);
	json_auto_t *answer = end_asking(w, reloading);

	assert_int_equal(n_of(answer, "removed"), 1);
	AWAIT(w->loop, heard(w, "fake/d1/gateway/status=\"DISCONNECTED\";"
				"fake/d1/gateway/running=false;"));
}

/* A broker that forgets is told of it all the same, and one that missed the end of what ran before.
 */
static void who_is_changed_has_said_that_it_does_not_run(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=false;"));
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5}");
	json_auto_t *changed = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(changed, "changed"), 1);
	lose_broker(w);
	find_broker(w);
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=false;"));
}

/* What is counted only grows, whoever goes. */
static void who_is_removed_has_counted(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	say(w, "fake/d0", "write/x", "1", false);
	say(w, "fake/d0", "enable", "true", true);
	AWAIT(w->loop, running(w) == 1);
	fakes.event_fails = true;
	say(w, "fake/d0", "write/x", "2", false);
	AWAIT(w->loop, counter(w, "device_events_refused") == 1);
	write_file(w, "");
	json_decref(ask(w, json_pack("{s:s}", "op", "reload"), NULL));
	assert_int_equal(counter(w, "devices"), 0);
	assert_int_equal(counter(w, "device_events_dropped"), 1);
	assert_int_equal(counter(w, "device_events_handled"), 1);
	assert_int_equal(counter(w, "device_events_refused"), 1);
	/* running: false, true and false again; status, when it was closed */
	assert_int_equal(counter(w, "device_emitted"), 4);
}

/* Whoever floods the topics of devices that are not there does not keep one from being enabled. */
static void a_flood_of_states_hides_no_enable(void **state)
{
	enum { LARGE = 200 * 1024, SMALL = 20 };
	struct world *w = *state;
	CLEANUP(freep)
	char *text = calloc(1, LARGE + 1);
	char path[32];
	json_int_t n = 0;

	assert_non_null(text);
	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	/* until nothing more has room */
	for (size_t size = LARGE; size > SMALL; size /= 2) {
		memset(text, '1', size);
		text[0] = text[size - 1] = '"';
		text[size] = '\0';
		for (unsigned i = 0; i < (size == LARGE ? 100 : 4); i++) {
			snprintf(path, sizeof(path), "data/p%lld", (long long)n);
			say(w, "fake/d2", path, text, false);
			n++;
			AWAIT(w->loop, counter(w, "device_events_unknown") == n);
		}
	}
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, counter(w, "device_events_unknown") == n + 1);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"}");
	json_auto_t *added = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(added, "added"), 1);
	AWAIT(w->loop, fake_named("fake/d1") != NULL);
}

static void what_holds_for_the_gateway_needs_a_restart(void **state)
{
	struct world *w = *state;
	char text[512];

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	snprintf(text, sizeof(text),
		 "{\"name\":\"gw2\",\"mqtt\":{\"host\":\"127.0.0.1\",\"port\":%u},"
		 "\"csm\":{\"url\":\"http://127.0.0.1:1\"},\"devices\":[]}",
		 w->broker.port);
	broker_write(&w->broker, "devices.json", text);
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_true(json_is_true(json_object_get(answer, "restart_needed")));
	assert_non_null(json_object_get(answer, "note"));
	assert_int_equal(n_of(answer, "removed"), 1);
}

static void a_wrong_file_has_no_devices_until_it_is_right(void **state)
{
	struct world *w = *state;
	struct devices_status s;

	write_file(w, "{\"type\":\"fake\"},{\"type\":\"x\",\"name\":\"d\"}");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	devices_get_status(w->devices, &s);
	assert_non_null(strstr(s.why, "devices[0]"));
	assert_int_equal(s.devices, 0);
	assert_reason(w, json_pack("{s:s}", "op", "reload"), "devices[0]");
	json_auto_t *list = ask(w, json_pack("{s:s}", "op", "list"), NULL);

	assert_non_null(strstr(json_string_value(json_object_get(list, "why")), "devices[0]"));
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"x\",\"name\":\"d\"}");
	assert_reason(w, json_pack("{s:s}", "op", "reload"), "devices[1]");
	devices_get_status(w->devices, &s);
	assert_non_null(strstr(s.why, "devices[1]"));
	/* the file is good, the disk is not */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	bad_disk_write = ENOSPC;
	assert_reason(w, json_pack("{s:s}", "op", "reload"), "opening store");
	devices_get_status(w->devices, &s);
	assert_non_null(strstr(s.why, "opening store"));
	bad_disk_recover();
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(answer, "added"), 1);
	AWAIT(w->loop, is_synced(w));
	devices_get_status(w->devices, &s);
	assert_string_equal(s.why, "");
	assert_int_equal(s.devices, 1);
}

static void a_missing_file_is_told(void **state)
{
	struct world *w = *state;
	struct devices_status s;

	start(w);
	devices_get_status(w->devices, &s);
	assert_non_null(strstr(s.why, "devices.json"));
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(empty_engine),
		IN_WORLD(create_engine_with_disabled_devices),
		IN_WORLD(create_engine_with_enabled_devices),
		IN_WORLD(running_false_is_announced_at_the_start),
		IN_WORLD(process_events),
		IN_WORLD(a_retained_command_from_before_the_start_is_not_done),
		IN_WORLD(a_short_loss_closes_nothing),
		IN_WORLD(a_long_loss_closes_what_has_no_store),
		IN_WORLD(a_device_with_a_store_starts_without_a_broker),
		IN_WORLD(what_is_set_while_we_are_away_counts),
		IN_WORLD(a_broker_of_before_enables_nothing),
		IN_WORLD(a_broker_that_forgot_is_marked_when_it_has_been_told),
		IN_WORLD(people_see_and_switch_devices),
		IN_WORLD(what_cannot_be_kept_switches_nothing),
		IN_WORLD(reload_changes_one_device_and_leaves_the_others),
		IN_WORLD(type_and_name_mean_one_device),
		IN_WORLD(last_words_without_a_broker_are_said_when_it_is_back),
		IN_WORLD(last_words_are_said_again_to_a_broker_that_forgot),
		IN_WORLD(a_device_that_left_while_we_were_away_does_not_run),
		IN_WORLD(a_reload_does_not_hold_the_others),
		IN_WORLD(reloads_go_one_after_the_other),
		IN_WORLD(the_end_does_not_wait_for_a_reload),
		IN_WORLD(a_reload_sees_that_a_template_has_changed),
		IN_WORLD(a_reload_repeats_its_warnings),
		IN_WORLD(who_is_removed_has_said_all_before),
		IN_WORLD(who_is_changed_has_said_that_it_does_not_run),
		IN_WORLD(who_is_removed_has_counted),
		IN_WORLD(a_flood_of_states_hides_no_enable),
		IN_WORLD(what_holds_for_the_gateway_needs_a_restart),
		IN_WORLD(a_wrong_file_has_no_devices_until_it_is_right),
		IN_WORLD(a_missing_file_is_told),
	};

	log_init("test_device_service", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
