/* The Modbus master: its configuration, and the states of its link and remote devices
 * (gateway-devices 2.1; 5.1 by name). */
#include "modbus_bench.h"

/* ---- configuration ---- */

static void test_valid_conf(void **state)
{
	(void)state;
	assert_string_equal(check(""), "");
	assert_string_equal(check(REMOTE(1, POINT("a", 1, "COIL", 0, 0, 1)) "," REMOTE(
				    255, POINT("a", null, "QUEUE", 0, 0, 16))),
			    "");
}

static void test_what_tables_cannot_say_is_checked(void **state)
{
	static const struct {
		const char *remotes, *wrong;
	} cases[] = {
		{REMOTE(1, "") "," REMOTE(1, ""),
		 "remote_devices[1].device_id: there is another remote device 1"},
		{REMOTE(1, POINT("a", 1, "COIL", 0, 0, 1) "," POINT("a", 1, "COIL", 1, 0, 1)),
		 "remote_devices[0].data[1].name: there is another 'a' in this remote device"},
		{REMOTE(1, POINT("a", 1, "QUEUE", 0, 8, 16)),
		 "remote_devices[0].data[0].bit_count: a queue's point is in its first register, "
		 "16 "
		 "bits"},
		{REMOTE(1, POINT("a", 1, "HOLDING_REGISTER", 65535, 0, 17)),
		 "remote_devices[0].data[0].bit_count: the value ends beyond address 65535"},
		{REMOTE(1, POINT("a", 1, "HOLDING_REGISTER", 0, 2000, 16)),
		 "remote_devices[0].data[0].bit_offset: no request reads more than 125 from "
		 "start_address on"},
		{REMOTE(1, "{'name': 'a', 'interval': 1, 'data_type': 'COIL', 'start_address': 0, "
			   "'bit_count': 16, 'order': 'little'}"),
		 "remote_devices[0].data[0].order: only a value of whole registers has an order: "
		 "bit_offset 0, bit_count 16, 32, 48 or 64"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(check(cases[i].remotes), cases[i].wrong);
}

static void test_points_are_features_as_the_mapping_says(void **state)
{
	struct point_list list;

	(void)state;
	check(REMOTE(1, POINT("a", 1, "COIL", 0, 0, 1) "," POINT(
				"b", 1, "INPUT_REGISTER", 0, 0,
				16)) "," REMOTE(2, POINT("c", null, "HOLDING_REGISTER", 0, 0, 32)));
	assert_int_equal(modbus_master_type.points(conf, &list, NULL), 0);
	assert_int_equal(list.n, 3);
	assert_string_equal(list.items[0].name, "a");
	assert_true(list.items[0].input && list.items[0].output);
	assert_true(list.items[1].input && !list.items[1].output);
	assert_int_equal(list.items[1].bits, 16);
	assert_true(!list.items[2].input && list.items[2].output);
	assert_int_equal(list.items[2].bits, 32);
	free(list.items);
}

static void test_the_example_is_right(void **state)
{
	struct problems *p = problems_new();
	char wrong[300] = "";

	(void)state;
	conf = json_loads(modbus_master_type.example, 0, NULL);
	assert_non_null(conf);
	assert_int_equal(fields_check(modbus_master_type.fields, conf, p), 0);
	modbus_master_type.check(conf, p);
	if (problems_errors(p) > 0)
		problems_each(p, on_problem, wrong);
	assert_string_equal(wrong, "");
	problems_free(p);
	create_of_conf();
}

/* ---- statuses ---- */

static void test_status(void **state)
{
	(void)state;
	create("");
	connected();
	assert_string_equal(told(),
			    "link 1\nstatus \"CONNECTING\"\nlink 2\nstatus \"CONNECTED\"\n");
	lose(true);
	connected();
	assert_string_equal(told(),
			    "link 0\nstatus \"DISCONNECTED\"\nlink 1\nstatus \"CONNECTING\"\n"
			    "link 2\nstatus \"CONNECTED\"\n");
	modbus_master_type.ops->close(instance);
	instance = NULL;
	assert_string_equal(told(), "link 0\nstatus \"DISCONNECTED\"\n");
}

static void test_remote_device_status(void **state)
{
	(void)state;
	create(REMOTE(3, ""));
	connected();
	assert_string_equal(told(), "link 1\nstatus \"CONNECTING\"\nlink 2\nstatus \"CONNECTED\"\n"
				    "remote_device/3/status \"DISABLED\"\n");
	assert_int_equal(event("remote_device/3/enable", "true"), 0);
	assert_int_equal(event("remote_device/3/enable", "true"), 0);
	assert_string_equal(told(), "remote_device/3/status \"CONNECTED\"\n");
	assert_int_equal(event("remote_device/3/enable", "false"), 0);
	assert_string_equal(told(), "remote_device/3/status \"DISABLED\"\n");
	assert_int_equal(event("remote_device/3/enable", "true"), 0);
	told();
	modbus_master_type.ops->close(instance);
	instance = NULL;
	assert_string_equal(told(), "remote_device/3/status \"DISABLED\"\nlink 0\n"
				    "status \"DISCONNECTED\"\n");
}

static void test_disabling_stops_what_is_asked(void **state)
{
	(void)state;
	start(WORD("a", 0));
	answer(1, 5);
	pass(1000);
	told();
	assert_string_equal(wire(), "1 3:0+1");
	assert_int_equal(event("remote_device/1/enable", "false"), 0);
	assert_string_equal(wire(), "");
	assert_string_equal(told(), "[0]q64\n" STATUS("DISABLED"));
	pass(5000);
	assert_string_equal(wire(), "");
	assert_int_equal(event("remote_device/1/enable", "true"), 0);
	answer(1, 5);
	assert_string_equal(told(), STATUS("CONNECTING") STATUS("CONNECTED")
					    READ("a", 5, "INTERROGATE", 0));
}

/* 5.2, 14 */
static void test_flapping_ends_where_it_should(void **state)
{
	const char *log;
	unsigned connecting = 0, disabled = 0;

	(void)state;
	start(WORD("a", 0));
	for (int i = 0; i < 101; i++) {
		assert_int_equal(event("remote_device/1/enable", "false"), 0);
		assert_string_equal(wire(), "");
		assert_int_equal(event("remote_device/1/enable", "true"), 0);
		assert_int_equal(the_client.n, 1);
	}
	log = told();
	for (const char *at = log; (at = strstr(at, "CONNECTING")) != NULL; at++)
		connecting++;
	for (const char *at = log; (at = strstr(at, "DISABLED")) != NULL; at++)
		disabled++;
	assert_int_equal(connecting, 101);
	assert_int_equal(disabled, 101);
	answer(1, 5);
	assert_string_equal(told(), STATUS("CONNECTED") READ("a", 5, "INTERROGATE", 0));
}

static void test_what_was_enabled_is_after_a_reconnection(void **state)
{
	(void)state;
	create(REMOTE(1, WORD("a", 0)) "," REMOTE(2, WORD("b", 0)));
	connected();
	assert_int_equal(event("remote_device/1/enable", "true"), 0);
	answer(1, 5);
	pass(1000);
	told();
	lose(false);
	assert_string_equal(told(), STATUS("DISABLED") "link 0\nstatus \"DISCONNECTED\"\n");
	pass(3000);
	assert_string_equal(wire(), "");
	assert_int_equal(event("remote_device/2/enable", "true"), 0);
	assert_string_equal(told(), "");
	connected();
	assert_string_equal(told(),
			    "link 1\nstatus \"CONNECTING\"\nlink 2\nstatus \"CONNECTED\"\n" STATUS(
				    "CONNECTING") "remote_device/2/status \"CONNECTING\"\n");
	assert_string_equal(wire(), "1 3:0+1");
	answer(1, 5);
	assert_string_equal(wire(), "2 3:0+1");
	assert_string_equal(told(), STATUS("CONNECTED") READ("a", 5, "INTERROGATE", 0));
}

static void test_the_configuration_enables_until_an_event_says(void **state)
{
	(void)state;
	create("{'device_id': 1, 'timeout_poll_delay': 5, 'enabled': true, 'data': []},"
	       "{'device_id': 2, 'timeout_poll_delay': 5, 'enabled': true, 'data': []}");
	teardown(state);
	setup(state);
	kept("remote_device/2/enable", false);
	create("{'device_id': 1, 'timeout_poll_delay': 5, 'enabled': true, 'data': []},"
	       "{'device_id': 2, 'timeout_poll_delay': 5, 'enabled': true, 'data': []}");
	connected();
	assert_non_null(strstr(told(), "remote_device/1/status \"CONNECTED\"\n"
				       "remote_device/2/status \"DISABLED\"\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_valid_conf),
		TEST(test_what_tables_cannot_say_is_checked),
		TEST(test_points_are_features_as_the_mapping_says),
		TEST(test_the_example_is_right),
		TEST(test_status),
		TEST(test_remote_device_status),
		TEST(test_disabling_stops_what_is_asked),
		TEST(test_flapping_ends_where_it_should),
		TEST(test_what_was_enabled_is_after_a_reconnection),
		TEST(test_the_configuration_enables_until_an_event_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
