/* The IoTtalk view of a device: registered, and its values where they are wanted. */
#include "tests/agent/view_bench.h"

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
	unsigned quality = 99;
	json_auto_t *last = view_last(f->view, TEMP, &quality);
	assert_int_equal(quality, 0);
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

static void a_reason_ends_with_what_it_was_for(void **state)
{
	struct fixture *f = *state;
	struct view_status s = {0};

	start_online(f);
	connect_idf(f, "level");
	lose_broker(f);
	view_get_status(f->view, &s);
	assert_string_equal(s.why, "connection lost");
	find_broker(f, "level");
	view_get_status(f->view, &s);
	assert_string_equal(s.why, "");
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

static void values_wait_for_whom_they_are_for(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	forget_log();
	view_hold(f->view, true);
	expect(""); /* who listens now goes on listening */
	lose_broker(f);
	find_broker(f, "temp");
	connect_idf(f, "temp");
	expect("down\nclose temp\nopen temp\n");
	view_hold(f->view, false);
	expect("up\n");
	view_hold(f->view, false);
	expect("");
	lose_broker(f);
	view_hold(f->view, true);
	view_hold(f->view, false); /* there is nobody at all */
	expect("down\nclose temp\n");
	find_broker(f, "temp");
	expect("up\n");
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

static void points_are_found_by_their_names(void **state)
{
	struct fixture *f = *state;
	char buf[VIEW_FEATURE_MAX];

	assert_string_equal(view_feature(f->view, TEMP, false, buf), "temp");
	assert_null(view_feature(f->view, TEMP, true, buf));
	assert_string_equal(view_feature(f->view, PUMP, true, buf), "pump_set");
	assert_null(view_feature(f->view, VALVE, false, buf));
	assert_string_equal(view_feature(f->view, VALVE, true, buf), "valve_1_set");
	assert_null(view_feature(f->view, POINTS, false, buf));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers_with_the_features_of_its_points),
		cmocka_unit_test_setup_teardown(a_slave_tells_its_masters, setup_slave, teardown),
		TEST(link_is_told_once_for_each_change),
		TEST(values_go_out_between_connect_and_disconnect),
		TEST(suspended_is_as_disconnected),
		TEST(a_reason_ends_with_what_it_was_for),
		TEST(what_is_suspended_stays_so_over_a_lost_broker),
		TEST(what_is_connected_stays_wanted_while_the_broker_is_away),
		TEST(values_wait_for_whom_they_are_for),
		TEST(what_is_not_connected_again_within_30_s_is_dropped),
		TEST(a_connection_that_is_lost_again_waits_anew),
		TEST(early_words_of_a_connection_are_no_disconnect),
		TEST(what_is_kept_on_disk_is_wanted_by_the_next_process),
		TEST(points_are_kept_as_they_or_the_store_say),
		cmocka_unit_test_setup_teardown(without_a_store_nothing_is_kept, setup_storeless,
						teardown),
		TEST(stale_values_are_told_when_the_link_goes_down),
		TEST(points_are_found_by_their_names),
		TEST(the_login_of_csm_is_kept_for_the_next_time),
		TEST(a_device_that_stops_has_no_link),
	};
	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
