/* test_device.c - one device: its life by the rules of gateway-devices 1.3, its queue (1.4). */
#include "tests/agent/device_world.h"

/* ---- 1.3: the life ---- */

static void nobody_told_it_so_it_is_disabled(void **state)
{
	struct world *w = *state;

	begin(w, "");
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_int_equal(fakes.created, 0);
	assert_sent(w, "");
}

static void enable_disable(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "false");
	assert_int_equal(fakes.created, 0);
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	struct fake *first = fake_named("fake/d1");

	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	assert_ptr_equal(fake_named("fake/d1"), first);
	tell(w, "enable", "false");
	assert_int_equal(fakes.closed, 1);
	tell(w, "enable", "false");
	assert_int_equal(fakes.closed, 1);
	tell(w, "enable", "{\"timestamp\":1,\"payload\":true}");
	assert_int_equal(fakes.created, 2);
}

static void running_event(void **state)
{
	struct world *w = *state;

	begin(w, "");
	for (int i = 0; i < 3; i++) {
		tell(w, "enable", "true");
		tell(w, "enable", "true");
		assert_sent(w, "running=true;");
		tell(w, "enable", "false");
		tell(w, "enable", "false");
		assert_sent(w, "status=\"DISCONNECTED\";running=false;");
	}
	/* the time of the transition */
	json_auto_t *body = json_loads(w->last_body, 0, NULL);

	assert_true(json_is_integer(json_object_get(body, "source_timestamp")));
	assert_true(json_integer_value(json_object_get(body, "source_timestamp")) <=
		    json_integer_value(json_object_get(body, "timestamp")));
}

static void only_true_enables(void **state)
{
	static const char *const others[] = {"false", "1", "\"true\"", "null",           "[true]",
					     "{}",    "0", "[]",       "{\"payload\":1}"};
	struct world *w = *state;

	begin(w, "");
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		tell(w, "enable", others[i]);
		assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
		tell(w, "enable", "true");
		assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
		tell(w, "enable", others[i]);
		assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	}
}

static void a_creation_that_fails_is_not_tried_again(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.fails = true;
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
	fakes.fails = false;
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	assert_sent(w, "");
	json_auto_t *row = device_tell(w->d, false);

	assert_non_null(strstr(json_string_value(json_object_get(row, "why")), "the fake fails"));
	tell(w, "enable", "false");
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_sent(w, "");
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	assert_sent(w, "running=true;");
}

static void one_that_ends_by_itself_has_failed(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	port_ended(fakes.alive->port, "the port is gone");
	assert_int_equal(fakes.closed, 0); /* not from within */
	assert_sent(w, "status=\"DISCONNECTED\";running=false;");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	tell(w, "enable", "false");
	assert_sent(w, "");
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 2);
}

static void wait_created(struct world *w, unsigned n)
{
	for (int i = 0; i < 1000 && fakes.created < n; i++) {
		loop_turn(w->loop, 100);
		turn(w);
	}
	assert_int_equal(fakes.created, n);
}

static void a_restart_delay_starts_it_again(void **state)
{
	struct world *w = *state;

	begin(w, ",\"restart_delay\":0.02");
	fakes.fails = true;
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
	wait_created(w, 2);
	fakes.fails = false;
	wait_created(w, 3);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	port_ended(fakes.alive->port, "gone");
	turn(w);
	/* false ends the waiting */
	tell(w, "enable", "false");
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
}

static void disable_cancels_a_creation(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.late = true;
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_CREATING);
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	tell(w, "enable", "false");
	assert_int_equal(fakes.n_alive, 0);
	assert_sent(w, "status=\"DISCONNECTED\";");
	/* and one that says so late enough runs */
	tell(w, "enable", "true");
	port_created(fakes.alive->port);
	assert_sent(w, "running=true;");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

/* Each word of a flood is done, but not all in one turn if it takes long. */
static void flapping_of_a_slow_one(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.slow_us = 1000;
	for (int i = 0; i < 20; i++) {
		told(w, "enable", "true", false);
		told(w, "enable", "false", false);
	}
	told(w, "enable", "true", false);
	assert_in_range(fakes.created, 1, 5);
	for (int i = 0; i < 50; i++)
		turn(w);
	assert_int_equal(fakes.created, 21);
	assert_int_equal(fakes.closed, 20);
	assert_int_equal(fakes.most_alive_of_one, 1);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	/* the word of a person is the newest */
	for (int i = 0; i < 20; i++) {
		told(w, "enable", "false", false);
		told(w, "enable", "true", false);
	}
	assert_int_equal(device_set_enabled(w->d, false, NULL), 0);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_in_range(fakes.created, 21, 30);
}

/* However many words come before it has a turn: those that wait are counted, and the last holds. */
static void a_flood_of_words_ends_in_the_last_one(void **state)
{
	enum { WORDS = 3000, WAIT_MAX = 1024 };
	struct world *w = *state;

	begin(w, "");
	for (int on = 0; on < 2; on++) {
		unsigned before = fakes.created;

		fakes.slow_us = 3000; /* the turn is used up by the first one */
		told(w, "enable", on ? "false" : "true", false);
		told(w, "enable", on ? "true" : "false", false);
		fakes.slow_us = 0;
		for (int i = 0; i < WORDS; i++)
			told(w, "enable", (i % 2 != 0) == (on != 0) ? "true" : "false", false);
		for (int i = 0; i < 200; i++)
			turn(w);
		assert_int_equal(device_get_state(w->d), on ? DEVICE_RUNNING : DEVICE_DISABLED);
		assert_in_range(fakes.created - before, 2, WAIT_MAX / 2 + 2);
	}
}

static void a_creation_may_fail_late(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.late = true;
	tell(w, "enable", "true");
	port_ended(fakes.alive->port, "it cannot");
	assert_sent(w, "status=\"DISCONNECTED\";");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
}

static void false_then_true_makes_a_new_instance(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	told(w, "enable", "false", false);
	told(w, "enable", "true", false);
	assert_int_equal(fakes.created, 2);
	assert_sent(w, "status=\"DISCONNECTED\";running=false;running=true;");
}

static void enable_flapping(void **state)
{
	struct world *w = *state;

	begin(w, "");
	for (int i = 0; i < 1000; i++) {
		told(w, "enable", "true", false);
		told(w, "enable", "false", false);
		if (i % 20 == 0)
			turn(w);
	}
	told(w, "enable", "true", false);
	turn(w);
	assert_int_equal(fakes.created, 1001);
	assert_int_equal(fakes.closed, 1000);
	assert_int_equal(fakes.most_alive_of_one, 1);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	/* they alternate */
	bool running = false;
	unsigned n = 0;

	for (const char *s = w->sent.text; (s = strstr(s, "running=")) != NULL; n++) {
		s += strlen("running=");
		assert_int_equal(*s, running ? 'f' : 't');
		running = !running;
	}
	assert_true(n > 1000);
}

/* ---- 1.4: the queue ---- */

static void process_events(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "write/x", "1"); /* it does not run: dropped */
	tell(w, "enable", "true");
	for (int i = 0; i < 3; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		told(w, "write/x", text, false);
	}
	assert_driver("");
	turn(w);
	assert_driver("fake/d1 write/x=0;fake/d1 write/x=1;fake/d1 write/x=2;");
	fakes.event_fails = true;
	tell(w, "write/x", "3");
	fakes.event_fails = false;
	tell(w, "write/x", "4");
	assert_driver("fake/d1 write/x=3;fake/d1 write/x=4;");
	struct device_counters c;

	device_get_counters(w->d, &c);
	assert_int_equal(c.dropped, 1);
	assert_int_equal(c.failed, 1);
	assert_int_equal(c.events, 5);
}

static void a_full_queue_drops_the_newest(void **state)
{
	struct world *w = *state;
	struct device_counters c;
	char text[32];

	begin(w, "");
	tell(w, "enable", "true");
	for (int i = 0; i < 1030; i++) {
		snprintf(text, sizeof(text), "%d", i);
		told(w, "write/x", text, false);
	}
	device_get_counters(w->d, &c);
	assert_int_equal(c.dropped, 6);
	for (int i = 0; i < 20; i++)
		turn(w);
	device_get_counters(w->d, &c);
	assert_int_equal(c.events, 1024);
	assert_non_null(strstr(fakes.notes.text, "x=0;"));
	assert_non_null(strstr(fakes.notes.text, "x=1023;"));
	assert_null(strstr(fakes.notes.text, "x=1024;"));
}

/* Of a state the latest counts, however many came at once. */
static void a_full_queue_loses_no_state(void **state)
{
	struct world *w = *state;
	struct device_counters c;
	char path[32], text[32];

	begin(w, "");
	tell(w, "enable", "true");
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 1500; i++) {
			snprintf(path, sizeof(path), "data/p%d", i);
			snprintf(text, sizeof(text), "%d", 10000 * round + i);
			told(w, path, text, false);
		}
	for (int i = 0; i < 20; i++)
		turn(w);
	device_get_counters(w->d, &c);
	assert_int_equal(c.dropped, 0);
	/* 1024 of the first round, then what each of all is now */
	assert_int_equal(c.events, 1024 + 1500);
	assert_non_null(strstr(fakes.notes.text, "data/p1023=1023;"));
	assert_null(strstr(fakes.notes.text, "data/p1499=1499;"));
	for (int i = 0; i < 1500; i++) {
		snprintf(text, sizeof(text), "data/p%d=%d;", i, 10000 + i);
		assert_non_null(strstr(fakes.notes.text, text));
	}
	/* those that are left when it stops are of no use to the next */
	for (int i = 0; i < 1500; i++) {
		snprintf(path, sizeof(path), "data/p%d", i);
		told(w, path, "7", false);
	}
	told(w, "enable", "false", false);
	notes_clear(&fakes.notes);
	tell(w, "data/p1499", "8");
	told(w, "enable", "true", false);
	assert_non_null(strstr(fakes.notes.text, "state data/p1400=7;"));
	assert_non_null(strstr(fakes.notes.text, "state data/p1499=8;"));
	notes_clear(&fakes.notes);
	turn(w);
	assert_driver("");
}

/* The broker forgot, is told, and repeats it to us: the driver has gone on since it was set. */
static void what_the_broker_is_told_comes_back(void **state)
{
	struct world *w = *state;

	begin(w, ",\"store\":{}");
	tell(w, "enable", "true");
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("fake/d1 data/x={\"value\": 7};");
	device_lost(w->d);
	device_synced(w->d, true, false);
	turn(w);
	assert_non_null(strstr(w->sent.text, "system/data/x={\"value\": 7};"));
	tell(w, "enable", "true");
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("");
	assert_int_equal(fakes.created, 1);
	/* once more is somebody who says so */
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("fake/d1 data/x={\"value\": 7};");
	/* and so is what others said before it was repeated */
	device_lost(w->d);
	device_synced(w->d, true, false);
	turn(w);
	tell(w, "data/x", "{\"value\":8}");
	tell(w, "data/x", "{\"value\":7}");
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("fake/d1 data/x={\"value\": 8};fake/d1 data/x={\"value\": 7};"
		      "fake/d1 data/x={\"value\": 7};");
}

/* It is the same with what was set here and has been overtaken: it switches nothing. */
static void what_was_set_here_comes_back(void **state)
{
	static const bool sets[] = {false, true, false};
	struct world *w = *state;
	struct err err = {0};
	char bodies[3][sizeof(w->last_enable)];

	begin(w, "");
	tell(w, "enable", "true");
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		assert_int_equal(device_set_enabled(w->d, sets[i], &err), 0);
		turn(w);
		snprintf(bodies[i], sizeof(bodies[i]), "%s", w->last_enable);
	}
	assert_int_equal(fakes.created, 2);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		tell(w, "enable", bodies[i]);
	assert_int_equal(fakes.created, 2);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	/* what others say in between counts, until ours that came after it */
	assert_int_equal(device_set_enabled(w->d, false, &err), 0);
	turn(w);
	snprintf(bodies[0], sizeof(bodies[0]), "%s", w->last_enable);
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	tell(w, "enable", bodies[0]);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

static void enable_passes_the_queue(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	told(w, "write/x", "1", false);
	told(w, "enable", "false", false);
	assert_int_equal(fakes.n_alive, 0);
	told(w, "enable", "true", false);
	turn(w);
	/* what was meant for the one before is not done by the next */
	assert_driver("");
}

static void states_count_whenever_they_came(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "remote_device/7/enable", "false");
	tell(w, "remote_device/7/enable", "true");
	tell(w, "data/x", "{\"value\":1}");
	tell(w, "enable", "true");
	assert_driver("state data/x={\"value\": 1};state remote_device/7/enable=true;");
	tell(w, "enable", "false");
	/* those that come while it is being made are told once it runs */
	fakes.late = true;
	tell(w, "enable", "true");
	notes_clear(&fakes.notes);
	tell(w, "remote_device/7/enable", "false");
	tell(w, "write/x", "1");
	assert_driver("");
	port_created(fakes.alive->port);
	turn(w);
	assert_driver("fake/d1 remote_device/7/enable=false;");
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(nobody_told_it_so_it_is_disabled),
		IN_WORLD(enable_disable),
		IN_WORLD(running_event),
		IN_WORLD(only_true_enables),
		IN_WORLD(a_creation_that_fails_is_not_tried_again),
		IN_WORLD(one_that_ends_by_itself_has_failed),
		IN_WORLD(a_restart_delay_starts_it_again),
		IN_WORLD(disable_cancels_a_creation),
		IN_WORLD(a_creation_may_fail_late),
		IN_WORLD(false_then_true_makes_a_new_instance),
		IN_WORLD(enable_flapping),
		IN_WORLD(flapping_of_a_slow_one),
		IN_WORLD(a_flood_of_words_ends_in_the_last_one),
		IN_WORLD(process_events),
		IN_WORLD(a_full_queue_drops_the_newest),
		IN_WORLD(a_full_queue_loses_no_state),
		IN_WORLD(what_the_broker_is_told_comes_back),
		IN_WORLD(what_was_set_here_comes_back),
		IN_WORLD(enable_passes_the_queue),
		IN_WORLD(states_count_whenever_they_came),
	};

	log_init("test_device", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
