/* Writes of the Modbus master, and reads on demand (gateway-devices 2.1; 5.1 by name). */
#include "modbus_bench.h"

/* ---- writing ---- */

static void test_write(void **state)
{
	static const struct {
		const char *point, *value, *wire[3];
	} layouts[] = {
		{POINT("p", null, "COIL", 0, 0, 1), "1", {"1 5:0 1"}},
		{POINT("p", null, "COIL", 0, 0, 1), "0", {"1 5:0 0"}},
		{POINT("p", null, "COIL", 0, 2, 2), "3", {"1 15:2 1 1"}},
		{POINT("p", null, "HOLDING_REGISTER", 0, 0, 16), "4660", {"1 6:0 1234"}},
		{POINT("p", null, "HOLDING_REGISTER", 0, 0, 32), "305419896", {"1 16:0 1234 5678"}},
		{POINT("p", null, "HOLDING_REGISTER", 0, 0, 2), "3", {"1 22:0 and 3fff or c000"}},
		{POINT("p", null, "HOLDING_REGISTER", 0, 2, 2), "3", {"1 22:0 and cfff or 3000"}},
		{POINT("p", null, "HOLDING_REGISTER", 0, 8, 16),
		 "65535",
		 {"1 22:0 and ff00 or 00ff", "1 22:1 and 00ff or ff00"}},
		{POINT("p", null, "HOLDING_REGISTER", 0, 8, 32),
		 "305419896",
		 {"1 22:0 and ff00 or 0012", "1 6:1 3456", "1 22:2 and 00ff or 7800"}},
	};
	char payload[100];

	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		char remote[500];

		snprintf(remote, sizeof(remote),
			 "{'device_id': 1, 'timeout_poll_delay': 5, 'data': [%s]}",
			 layouts[i].point);
		create(remote);
		connected(); /* polling is disabled */
		told();
		snprintf(payload, sizeof(payload), "{'request_id': 'r%zu', 'value': %s}", i,
			 layouts[i].value);
		assert_int_equal(event("remote_device/1/write/p", payload), 0);
		for (size_t s = 0; s < 3 && layouts[i].wire[s] != NULL; s++) {
			assert_string_equal(told(), "");
			assert_string_equal(wire(), layouts[i].wire[s]);
			answer(0);
		}
		snprintf(payload, sizeof(payload),
			 "remote_device/1/write/p {\"result\":\"SUCCESS\",\"request_id\":\"r%zu\"} "
			 "act\n",
			 i);
		assert_string_equal(told(), payload);
		assert_string_equal(wire(), "");
		teardown(state);
		setup(state);
	}
}

/* 5.2, 13 */
static void test_the_first_failure_ends_a_write(void **state)
{
	(void)state;
	start(POINT("p", null, "HOLDING_REGISTER", 0, 8, 32));
	assert_int_equal(event("remote_device/1/write/p", "{'request_id': 1.5, 'value': 1}"), 0);
	answer(0);
	except(4);
	assert_string_equal(
		told(),
		"remote_device/1/write/p {\"result\":\"FUNCTION_ERROR\",\"request_id\":1.5} "
		"act\n");
	assert_string_equal(wire(), "");
	assert_int_equal(event("remote_device/1/write/p", "{'request_id': null, 'value': 1}"), 0);
	time_out();
	assert_string_equal(
		told(),
		"remote_device/1/write/p {\"result\":\"TIMEOUT\",\"request_id\":null} act\n");
}

/* 5.2, 13 */
static void test_two_writes_to_a_point_keep_their_order_while_it_is_polled(void **state)
{
	(void)state;
	start(POINT("p", 1, "HOLDING_REGISTER", 0, 8, 16));
	assert_int_equal(event("remote_device/1/write/p", "{'request_id': 1, 'value': 1}"), 0);
	assert_int_equal(event("remote_device/1/write/p", "{'request_id': 2, 'value': 2}"), 0);
	assert_string_equal(wire(), "1 3:0+2");
	answer(2, 0, 0);
	told();
	assert_string_equal(wire(), "1 22:0 and ff00 or 0000");
	answer(0);
	assert_string_equal(wire(), "1 22:1 and 00ff or 0100");
	answer(0);
	assert_string_equal(
		told(), "remote_device/1/write/p {\"result\":\"SUCCESS\",\"request_id\":1} act\n");
	assert_string_equal(wire(), "1 22:0 and ff00 or 0000");
	answer(0);
	assert_string_equal(wire(), "1 22:1 and 00ff or 0200");
	answer(0);
	assert_string_equal(
		told(), "remote_device/1/write/p {\"result\":\"SUCCESS\",\"request_id\":2} act\n");
}

/* 5.2, 13 */
static void test_a_write_during_a_reconnection_has_no_result(void **state)
{
	static const struct value one = {.kind = VALUE_UINT, .u = 1};
	struct port_call waits = {.ack = -1}, refused = {.ack = -1};

	(void)state;
	for (int first = 0; first <= 1; first++) {
		start(WORD("p", 0));
		answer(1, 0);
		told();
		waits = refused = (struct port_call){.ack = -1};
		assert_int_equal(event("remote_device/1/write/p", "{'request_id': 1, 'value': 1}"),
				 0);
		modbus_master_type.ops->write(instance, 0, &one, &waits);
		lose(first == 1);
		assert_string_equal(told(), STATUS("DISABLED") "link 0\nstatus \"DISCONNECTED\"\n");
		assert_int_equal(waits.ack, ACK_LINK_DOWN);
		assert_int_equal(waits.answers, 1);
		assert_string_equal(waits.why, "the connection is lost");
		assert_int_equal(event("remote_device/1/write/p", "{'request_id': 2, 'value': 1}"),
				 ERR_PEER);
		modbus_master_type.ops->write(instance, 0, &one, &refused);
		assert_int_equal(refused.ack, ACK_LINK_DOWN);
		assert_string_equal(refused.why, "there is no connection");
		assert_string_equal(told(), "");
		client_state(LINK_CONNECTING);
		assert_int_equal(event("remote_device/1/write/p", "{'request_id': 3, 'value': 1}"),
				 ERR_PEER);
		client_state(LINK_CONNECTED);
		assert_int_equal(event("remote_device/1/write/p", "{'request_id': 4, 'value': 1}"),
				 0);
		answer(1, 0);
		answer(0);
		assert_non_null(strstr(told(), "{\"result\":\"SUCCESS\",\"request_id\":4} act\n"));
		teardown(state);
		setup(state);
	}
}

static void test_bad_events_are_refused(void **state)
{
	static const struct {
		const char *path, *payload;
		int rc;
	} cases[] = {
		{"remote_device/1/write/other", "{'request_id': 1, 'value': 1}", ERR_NOENT},
		{"remote_device/2/write/p", "{'request_id': 1, 'value': 1}", ERR_NOENT},
		{"remote_device/01/write/p", "{'request_id': 1, 'value': 1}", ERR_NOENT},
		{"remote_device/-1/write/p", "{'request_id': 1, 'value': 1}", ERR_NOENT},
		{"remote_device/1/write/i", "{'request_id': 1, 'value': 1}", ERR_INVAL},
		{"remote_device/1/write/p", "{'value': 1}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': {}, 'value': 1}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': 1}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': 1, 'value': -1}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': 1, 'value': 1.5}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': 1, 'value': true}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': 1, 'value': '1e3'}", ERR_SCHEMA},
		{"remote_device/1/write/p", "{'request_id': 1, 'value': 65536}", ERR_RANGE},
		{"remote_device/1/write/p", "17", ERR_SCHEMA},
		{"remote_device/1/write", "{'request_id': 1, 'value': 1}", ERR_NOENT},
		{"remote_device/1/enable", "1", ERR_SCHEMA},
		{"remote_device/1/other", "1", ERR_NOENT},
		{"remote_device", "true", ERR_NOENT},
		{"other/1/enable", "true", ERR_NOENT},
	};

	(void)state;
	create(REMOTE(1, WORD("p", 0) "," POINT("i", 1, "INPUT_REGISTER", 0, 0, 16)));
	connected();
	told();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = event(cases[i].path, cases[i].payload);

		if (rc != cases[i].rc)
			fail_msg("%s %s: %d", cases[i].path, cases[i].payload, rc);
	}
	assert_string_equal(wire(), "");
	assert_string_equal(told(), "");
}

static void test_writes_of_iottalk_have_their_codes(void **state)
{
	struct value v = {.kind = VALUE_UINT, .u = 7};
	struct port_call call = {.ack = -1};

	(void)state;
	start(POINT("p", null, "HOLDING_REGISTER", 0, 0, 16));
	modbus_master_type.ops->write(instance, 0, &v, &call);
	assert_string_equal(wire(), "1 6:0 7");
	assert_int_equal(call.ack, -1);
	answer(0);
	assert_int_equal(call.ack, ACK_OK);
	assert_string_equal(
		told(),
		"remote_device/1/write/p {\"result\":\"SUCCESS\",\"request_id\":\"odf-1\"} act\n");
	modbus_master_type.ops->write(instance, 0, &v, &call);
	except(3);
	assert_int_equal(call.ack, ACK_REJECTED);
	assert_string_equal(call.why, "INVALID_DATA_VALUE");
	modbus_master_type.ops->write(instance, 0, &v, &call);
	time_out();
	assert_int_equal(call.ack, ACK_TIMEOUT);
	assert_string_equal(call.why, "no answer in time");
	v.u = 65536;
	modbus_master_type.ops->write(instance, 0, &v, &call);
	assert_int_equal(call.ack, ACK_BAD_VALUE);
	v = (struct value){.kind = VALUE_REAL, .r = 1};
	modbus_master_type.ops->write(instance, 0, &v, &call);
	assert_int_equal(call.ack, ACK_BAD_VALUE);
	assert_int_equal(call.answers, 5);
}

static void test_points_are_read_on_demand(void **state)
{
	struct port_call call = {.ack = -1};

	(void)state;
	create(REMOTE(1, POINT("p", null, "INPUT_REGISTER", 5, 8, 16)) "," REMOTE(
		2, POINT("q", null, "QUEUE", 5, 0, 16)));
	modbus_master_type.ops->read(instance, 0, &call);
	assert_string_equal(call.why, "there is no connection");
	connected();
	modbus_master_type.ops->read(instance, 0, &call);
	assert_string_equal(wire(), "1 4:5+2");
	answer(2, 0x12, 0x3400);
	assert_int_equal(call.value, 0x1234);
	modbus_master_type.ops->read(instance, 0, &call);
	except(2);
	assert_string_equal(call.why, "INVALID_DATA_ADDRESS");
	modbus_master_type.ops->read(instance, 1, &call);
	assert_string_equal(wire(), "2 24:5");
	answer(0);
	assert_string_equal(call.why, "the queue is empty");
	modbus_master_type.ops->read(instance, 1, &call);
	time_out();
	assert_string_equal(call.why, "no answer in time");
	assert_int_equal(call.answers, 5);
}

static void test_what_waits_at_the_end_is_forgotten(void **state)
{
	static const struct value one = {.kind = VALUE_UINT, .u = 1};
	struct port_call call = {.ack = -1};

	(void)state;
	start(WORD("p", 0));
	modbus_master_type.ops->write(instance, 0, &one, &call);
	modbus_master_type.ops->write(instance, 0, &one, &call);
	modbus_master_type.ops->read(instance, 0, &call);
	modbus_master_type.ops->close(instance);
	instance = NULL;
	assert_int_equal(call.answers, 0);
	assert_string_equal(told(), STATUS("DISABLED") "link 0\nstatus \"DISCONNECTED\"\n");
}

static void test_too_many_writes_are_refused(void **state)
{
	int rc = 0;

	(void)state;
	start(POINT("p", null, "HOLDING_REGISTER", 0, 0, 16));
	for (int i = 0; i < 1024; i++)
		rc |= event("remote_device/1/write/p", "{'request_id': 1, 'value': 1}");
	assert_int_equal(rc, 0);
	assert_int_equal(event("remote_device/1/write/p", "{'request_id': 1, 'value': 1}"),
			 ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_write),
		TEST(test_the_first_failure_ends_a_write),
		TEST(test_two_writes_to_a_point_keep_their_order_while_it_is_polled),
		TEST(test_a_write_during_a_reconnection_has_no_result),
		TEST(test_bad_events_are_refused),
		TEST(test_writes_of_iottalk_have_their_codes),
		TEST(test_points_are_read_on_demand),
		TEST(test_what_waits_at_the_end_is_forgotten),
		TEST(test_too_many_writes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
