/* test_device_kept.c - one device: what is kept of it, and a broker that goes and comes
 * (gateway-devices 1.3 nr. 1, 1.5). */
#include "tests/agent/device_world.h"

/* ---- 1.3 nr. 1, 1.5: what is kept, and the broker ---- */

static void the_brokers_enable_counts_once_all_is_told(void **state)
{
	struct world *w = *state;

	make_device(w, "");
	told(w, "enable", "true", true);
	turn(w);
	assert_int_equal(fakes.created, 0);
	device_synced(w->d, true, true);
	assert_sent(w, "running=true;");
}

static void a_live_enable_wins_over_the_query(void **state)
{
	struct world *w = *state;

	make_device(w, "");
	told(w, "enable", "true", false);
	assert_int_equal(fakes.created, 1);
	told(w, "enable", "false", true);
	device_synced(w->d, true, true);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	assert_int_equal(fakes.created, 1);
}

static void remake(struct world *w, const char *options)
{
	w->d = device_free(w->d);
	w->n_tokens = 0;
	notes_clear(&w->sent);
	notes_clear(&fakes.notes);
	make_device(w, options);
}

static void a_broker_that_forgot_is_told(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	tell(w, "remote_device/1/enable", "true");
	tell(w, "data/x", "{\"value\":7}");
	remake(w, "");
	device_synced(w->d, true, true);
	turn(w);
	assert_non_null(strstr(w->sent.text, "system/enable=true;"));
	assert_non_null(strstr(w->sent.text, "system/remote_device/1/enable=true;"));
	assert_non_null(strstr(w->sent.text, "system/data/x={\"value\": 7};"));
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

static void a_broker_that_may_not_have_told_all_is_not(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	remake(w, "");
	device_synced(w->d, false, false);
	assert_sent(w, "running=true;");
}

static void the_newer_of_broker_and_store_wins(void **state)
{
	static const struct {
		const char *kept, *retained;
		bool runs;
	} rows[] = {
		/* times far ago and to come; what has none was set since */
		{"{\"timestamp\":5,\"payload\":true}", "{\"timestamp\":4,\"payload\":false}", true},
		{"{\"timestamp\":5,\"payload\":false}", "{\"timestamp\":4,\"payload\":true}",
		 false},
		{"true", "{\"timestamp\":9000000000000000,\"payload\":false}", false},
		{"false", "{\"timestamp\":9000000000000000,\"payload\":true}", true},
		{"true", "false", false},
		{"false", "true", true},
		{"true", "true", true},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (w->d == NULL)
			begin(w, "");
		tell(w, "enable", rows[i].kept);
		remake(w, "");
		told(w, "enable", rows[i].retained, true);
		device_synced(w->d, true, true);
		turn(w);
		if ((device_get_state(w->d) == DEVICE_RUNNING) != rows[i].runs)
			fail_msg("row %zu", i);
	}
}

/* A disabled device never comes back enabled because a broker forgot that it was disabled. */
static void a_broker_that_lost_its_memory_enables_nothing(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	tell(w, "enable", "false");
	notes_clear(&w->sent);
	device_lost(w->d);
	told(w, "enable", "true", true); /* of before */
	device_synced(w->d, true, false);
	turn(w);
	assert_non_null(strstr(w->sent.text, "system/enable=false;"));
	assert_null(strstr(w->sent.text, "running=true;"));
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
}

/* Nor because it did not hear of it. */
static void disabled_without_a_broker_stays_disabled(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	device_lost(w->d);
	w->away = true;
	assert_int_equal(device_set_enabled(w->d, false, &(struct err){0}), 0);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	remake(w, "");
	w->away = false;
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_non_null(strstr(w->sent.text, "system/enable=false;"));
	/* once the broker has it, what it says without a time is newer again */
	remake(w, "");
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

/* Who has seen that it ended can rely on it, whoever dies then. */
static void an_end_is_told_when_its_reason_is_kept(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	told(w, "enable", "false", false);
	assert_int_equal(fakes.n_alive, 0); /* at once */
	assert_sent(w, "status=\"DISCONNECTED\";running=false;");
	assert_false(w->early);
	/* also where another begins meanwhile: in the order of what happened, of the time it did */
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	told(w, "enable", "false", false);
	told(w, "enable", "true", false);
	assert_sent(w, "status=\"DISCONNECTED\";running=false;running=true;");
	/* the last words of a process do not wait */
	told(w, "enable", "false", false);
	device_stop(w->d);
	assert_string_equal(w->sent.text, "status=\"DISCONNECTED\";running=false;");
	assert_sent(w, "status=\"DISCONNECTED\";running=false;"); /* once */
}

static void people_enable_as_a_system_event_would(void **state)
{
	struct world *w = *state;

	begin(w, "");
	assert_int_equal(device_set_enabled(w->d, true, &(struct err){0}), 0);
	assert_sent(w, "system/enable=true;running=true;");
	assert_int_equal(device_set_enabled(w->d, false, &(struct err){0}), 0);
	assert_sent(w, "system/enable=false;status=\"DISCONNECTED\";running=false;");
}

static void bus_loss_stops_what_has_no_store(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	w->away = true;
	device_lost(w->d);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	device_hold(w->d);
	turn(w);
	assert_int_equal(fakes.n_alive, 0);
	w->away = false;
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	assert_sent(w, "status=\"DISCONNECTED\";running=false;running=true;");
	assert_int_equal(fakes.created, 2);
}

static void within_the_grace_the_instance_stays_and_states_are_said_again(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	fake_emit(fakes.alive, "status", json_string("CONNECTED"), true, -1, NULL);
	fake_emit(fakes.alive, "command", json_integer(1), false, -1, NULL);
	assert_sent(w, "running=true;status=\"CONNECTED\";command=1!;");
	w->away = true;
	device_lost(w->d);
	fake_emit(fakes.alive, "command", json_integer(2), false, -1, NULL);
	w->away = false;
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	assert_sent(w, "command=2!;running=true;status=\"CONNECTED\";");
	assert_int_equal(fakes.created, 1);
}

static void what_changes_while_the_broker_is_away_is_told_when_it_is_back(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	tell(w, "remote_device/1/enable", "true");
	notes_clear(&fakes.notes);
	device_lost(w->d);
	told(w, "enable", "true", true);
	told(w, "remote_device/1/enable", "false", true);
	device_synced(w->d, true, true);
	turn(w);
	assert_driver("fake/d1 remote_device/1/enable=false;");
	device_lost(w->d);
	told(w, "enable", "false", true);
	device_synced(w->d, true, true);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
}

static void with_a_store_it_runs_without_a_broker(void **state)
{
	static const char store[] = ",\"store\":{\"quota_bytes\":65536,\"max_age\":1000,"
				    "\"catch_up_rate\":1000,\"keep\":\"all\"}";
	struct world *w = *state;

	begin(w, store);
	tell(w, "enable", "true");
	device_lost(w->d);
	w->away = true;
	device_hold(w->d);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	remake(w, store);
	device_start_alone(w->d);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	/* one without waits */
	remake(w, "");
	device_start_alone(w->d);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	json_auto_t *row = device_tell(w->d, false);

	assert_string_equal(json_string_value(json_object_get(row, "state")), "waiting");
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(the_brokers_enable_counts_once_all_is_told),
		IN_WORLD(a_live_enable_wins_over_the_query),
		IN_WORLD(a_broker_that_forgot_is_told),
		IN_WORLD(a_broker_that_may_not_have_told_all_is_not),
		IN_WORLD(the_newer_of_broker_and_store_wins),
		IN_WORLD(a_broker_that_lost_its_memory_enables_nothing),
		IN_WORLD(disabled_without_a_broker_stays_disabled),
		IN_WORLD(an_end_is_told_when_its_reason_is_kept),
		IN_WORLD(people_enable_as_a_system_event_would),
		IN_WORLD(bus_loss_stops_what_has_no_store),
		IN_WORLD(within_the_grace_the_instance_stays_and_states_are_said_again),
		IN_WORLD(what_changes_while_the_broker_is_away_is_told_when_it_is_back),
		IN_WORLD(with_a_store_it_runs_without_a_broker),
	};

	log_init("test_device_kept", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
