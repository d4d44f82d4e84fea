/* test_device_service.c - the engine: devices, the broker that goes away, people. */
#include "tests/agent/service_world.h"

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
		IN_WORLD(a_flood_of_states_hides_no_enable),
		IN_WORLD(a_wrong_file_has_no_devices_until_it_is_right),
		IN_WORLD(a_missing_file_is_told),
	};

	log_init("test_device_service", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
