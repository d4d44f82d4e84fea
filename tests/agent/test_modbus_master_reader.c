/* What the Modbus master reads, when, and what it tells of it (gateway-devices 2.1; 5.1 by name).
 */
#include "modbus_bench.h"

/* ---- reading ---- */

struct layout {
	const char *point, *request;
	uint16_t cells[2];
	unsigned n;
	const char *value;
};

static void test_read(void **state)
{
	static const struct layout layouts[] = {
		{POINT("p", 1, "COIL", 0, 0, 1), "1 1:0+1", {0}, 1, "0"},
		{POINT("p", 1, "COIL", 0, 0, 1), "1 1:0+1", {1}, 1, "1"},
		{POINT("p", 1, "DISCRETE_INPUT", 0, 0, 2), "1 2:0+2", {1, 1}, 2, "3"},
		{POINT("p", 1, "HOLDING_REGISTER", 0, 0, 32),
		 "1 3:0+2",
		 {0x1234, 0x5678},
		 2,
		 "305419896"},
		{POINT("p", 1, "HOLDING_REGISTER", 0, 0, 2), "1 3:0+1", {0x4000}, 1, "1"},
		{POINT("p", 1, "INPUT_REGISTER", 0, 8, 2), "1 4:0+1", {0x0080}, 1, "2"},
		{POINT("p", 1, "QUEUE", 9, 0, 16), "1 24:9", {0xbeef, 1}, 2, "48879"},
		{"{'name': 'p', 'interval': 1, 'data_type': 'HOLDING_REGISTER', 'start_address': "
		 "0, "
		 "'bit_count': 32, 'order': 'little_swap'}",
		 "1 3:0+2",
		 {0x5678, 0x1234},
		 2,
		 "305419896"},
	};
	char want[200];

	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		const struct layout *l = &layouts[i];

		start(l->point);
		assert_string_equal(wire(), l->request);
		answer(l->n, l->cells[0], l->cells[1]);
		snprintf(want, sizeof(want),
			 "remote_device/1/status \"CONNECTED\"\nremote_device/1/read/p "
			 "{\"result\":\"SUCCESS\",\"value\":%s,\"cause\":\"INTERROGATE\"} [0]=%s\n",
			 l->value, l->value);
		assert_string_equal(told(), want);
		teardown(state);
		setup(state);
	}
}

static void test_what_changes_is_told_and_nothing_else(void **state)
{
	(void)state;
	start(WORD("a", 0) "," WORD("b", 1));
	assert_string_equal(wire(), "1 3:0+2");
	answer(2, 5, 6);
	assert_string_equal(told(), STATUS("CONNECTED") READ("a", 5, "INTERROGATE", 0)
					    READ("b", 6, "INTERROGATE", 1));
	pass(1000);
	answer(2, 5, 6);
	assert_string_equal(told(), "");
	pass(1000);
	answer(2, 5, 7);
	assert_string_equal(told(), READ("b", 7, "CHANGE", 1));
}

static void test_values_from_two_to_the_63_on_are_digits(void **state)
{
	(void)state;
	start(POINT("a", 1, "HOLDING_REGISTER", 0, 0, 64));
	answer(4, 0xffff, 0xffff, 0xffff, 0xffff);
	assert_string_equal(told(),
			    STATUS("CONNECTED") "remote_device/1/read/a {\"result\":\"SUCCESS\","
						"\"value\":\"18446744073709551615\",\"cause\":"
						"\"INTERROGATE\"} [0]=18446744073709551615\n");
	assert_int_equal(event("remote_device/1/write/a",
			       "{'request_id': 1, 'value': '18446744073709551614'}"),
			 0);
	assert_string_equal(wire(), "1 16:0 ffff ffff ffff fffe");
}

static void test_errors_are_told_at_every_poll_and_then_there_is_interrogate(void **state)
{
	(void)state;
	start(WORD("a", 0) "," WORD("b", 1));
	answer(2, 5, 6);
	told();
	for (int i = 0; i < 2; i++) {
		pass(1000);
		except(2);
		assert_string_equal(told(), BAD("a", "INVALID_DATA_ADDRESS", 0)
						    BAD("b", "INVALID_DATA_ADDRESS", 1));
	}
	pass(1000);
	answer(2, 5, 6);
	assert_string_equal(told(), READ("a", 5, "INTERROGATE", 0) READ("b", 6, "INTERROGATE", 1));
}

static void test_each_exception_has_its_name_and_keeps_the_connection(void **state)
{
	static const struct {
		uint8_t code;
		const char *name;
	} codes[] = {
		{1, "INVALID_FUNCTION_CODE"},
		{2, "INVALID_DATA_ADDRESS"},
		{3, "INVALID_DATA_VALUE"},
		{4, "FUNCTION_ERROR"},
		{5, "FUNCTION_ERROR"},
		{6, "FUNCTION_ERROR"},
		{8, "FUNCTION_ERROR"},
		{10, "GATEWAY_PATH_UNAVAILABLE"},
		{11, "GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND"},
		{255, "FUNCTION_ERROR"},
	};
	char want[200];

	(void)state;
	start(WORD("a", 0));
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		except(codes[i].code);
		snprintf(want, sizeof(want), "%sremote_device/1/read/a {\"result\":\"%s\"} [0]q1\n",
			 i == 0 ? STATUS("CONNECTED") : "", codes[i].name);
		assert_string_equal(told(), want);
		assert_int_equal(event("remote_device/1/write/a", "{'request_id': 7, 'value': 1}"),
				 0);
		except(codes[i].code);
		snprintf(want, sizeof(want),
			 "remote_device/1/write/a {\"result\":\"%s\",\"request_id\":7} act\n",
			 codes[i].name);
		assert_string_equal(told(), want);
		pass(1000);
	}
}

static void test_an_empty_queue_is_no_news(void **state)
{
	(void)state;
	start(POINT("q", 1, "QUEUE", 0, 0, 16));
	answer(0);
	assert_string_equal(told(), STATUS("CONNECTED"));
	pass(1000);
	answer(1, 9u);
	assert_string_equal(told(), READ("q", 9, "INTERROGATE", 0));
}

static void test_a_timeout_skips_the_cycle_and_pauses(void **state)
{
	(void)state;
	start(WORD("a", 0) "," WORD("b", 10));
	answer(1, 5);
	answer(1, 6);
	told();
	pass(1000);
	assert_string_equal(wire(), "1 3:0+1");
	time_out();
	assert_string_equal(told(), STATUS("DISCONNECTED") "[0]q64\n[1]q64\n");
	pass(4999);
	assert_string_equal(wire(), "");
	pass(1);
	assert_string_equal(told(), STATUS("CONNECTING"));
	assert_string_equal(wire(), "1 3:0+1");
	answer(1, 5);
	assert_string_equal(wire(), "1 3:10+1");
	answer(1, 6);
	assert_string_equal(told(), STATUS("CONNECTED") READ("a", 5, "INTERROGATE", 0)
					    READ("b", 6, "INTERROGATE", 1));
}

static void test_an_exception_connects_too(void **state)
{
	(void)state;
	start(WORD("a", 0));
	time_out();
	pass(5000);
	told();
	except(4);
	assert_string_equal(told(), STATUS("CONNECTED") BAD("a", "FUNCTION_ERROR", 0));
}

/* ---- times ---- */

static void test_the_grid_does_not_drift(void **state)
{
	int64_t first;

	(void)state;
	start(WORD("a", 0));
	assert_string_equal(wire(), "1 3:0+1");
	answer(1, 5);
	first = next_poll();
	assert_true(first > 0 && first <= 1000);
	for (int i = 0; i < 5; i++) {
		the_loop.now_ms += 300; /* late */
		pass(0);
		assert_int_equal(next_poll(), 700);
	}
}

static void test_devices_that_start_together_are_not_polled_together(void **state)
{
	bool taken[11] = {false};
	unsigned tenths = 0;

	for (int i = 0; i < 50; i++) {
		char name[20];
		int64_t gap;

		snprintf(name, sizeof(name), "meter%d", i);
		the_name = name;
		start(WORD("a", 0));
		answer(1, 5); /* at once */
		gap = next_poll();
		assert_true(gap > 0 && gap <= 1000);
		tenths += !taken[gap / 100];
		taken[gap / 100] = true;
		assert_int_equal(next_poll(), 1000);
		teardown(state);
		setup(state);
	}
	the_name = "plc1";
	assert_true(tenths >= 8);
}

static void test_missed_cycles_are_counted_and_not_made_up_for(void **state)
{
	int64_t grid;

	(void)state;
	start(WORD("a", 0));
	answer(1, 5);
	grid = the_loop.now_ms + next_poll();
	assert_int_equal(figure("missed"), 0);
	pass(1000);
	pass(3500); /* the answer takes its time */
	assert_int_equal(the_client.n, 1);
	answer(1, 5);
	assert_int_equal(the_client.n, 1); /* one for all that were missed */
	answer(1, 5);
	assert_int_equal(the_client.n, 0);
	assert_int_equal(figure("missed"), 2);
	next_poll();
	assert_int_equal((the_loop.now_ms - grid) % 1000, 0);
}

static void test_groups_of_different_intervals_have_their_own_times(void **state)
{
	unsigned fast = 0, slow = 0;

	(void)state;
	start(POINT("a", 0.1, "HOLDING_REGISTER", 0, 0, 16) "," POINT("b", 1, "HOLDING_REGISTER", 1,
								      0, 16));
	answer(1, 1);
	answer(1, 1);
	for (int ms = 0; ms < 10000; ms++) {
		pass(1);
		while (the_client.n > 0) {
			fast += the_client.waiting[0].q.address == 0;
			slow += the_client.waiting[0].q.address == 1;
			answer(1, 1);
		}
	}
	assert_int_equal(fast, 100);
	assert_int_equal(slow, 10);
}

static void test_a_timeout_pauses_a_little_at_least(void **state)
{
	(void)state;
	kept("remote_device/1/enable", true);
	create("{'device_id': 1, 'timeout_poll_delay': 0, 'data': [" WORD("a", 0) "]}");
	connected();
	for (unsigned i = 0; i < 3; i++) {
		assert_string_equal(wire(), "1 3:0+1");
		time_out();
		pass(9);
		assert_string_equal(wire(), "");
		pass(1);
	}
}

/* As fast as answers come, but no busy loop where they come at once. */
static void test_an_interval_of_zero_has_a_millisecond(void **state)
{
	(void)state;
	start(POINT("a", 0, "COIL", 0, 0, 1) "," POINT("b", 0, "COIL", 9, 0, 1));
	for (unsigned i = 0; i < 10; i++) {
		assert_string_equal(wire(), "1 1:0+1");
		answer(1, i & 1);
		assert_string_equal(wire(), "1 1:9+1");
		the_loop.now_ms += i & 1; /* the time that the answer takes */
		answer(1, i & 1);
		if ((i & 1) == 0) {
			assert_string_equal(wire(), "");
			pass(1);
		}
	}
}

/* An error is told at each poll. */
static void test_an_interval_of_zero_has_a_pause_after_an_error(void **state)
{
	(void)state;
	start(POINT("a", 0, "COIL", 0, 0, 1));
	for (unsigned i = 0; i < 3; i++) {
		assert_string_equal(wire(), "1 1:0+1");
		except(2);
		pass(9);
		assert_string_equal(wire(), "");
		pass(1);
	}
}

static void test_there_was_no_room_for_a_request(void **state)
{
	(void)state;
	kept("remote_device/1/enable", true);
	create(REMOTE(1, WORD("a", 0)));
	the_client.limit = 0;
	connected();
	assert_string_equal(wire(), "");
	the_client.limit = 1;
	pass(100);
	assert_string_equal(wire(), "1 3:0+1");
}

static void test_gaps_that_are_refused_are_left_out_from_then_on(void **state)
{
	(void)state;
	kept("remote_device/1/enable", true);
	create("{'device_id': 1, 'timeout_poll_delay': 5, 'merge_gap': 4, 'data': [" WORD(
		"a", 0) "," WORD("b", 3) "]}");
	connected();
	told();
	assert_string_equal(wire(), "1 3:0+4");
	except(2);
	assert_string_equal(told(), STATUS("CONNECTED"));
	assert_string_equal(wire(), "1 3:0+1");
	answer(1, 7);
	assert_string_equal(wire(), "1 3:3+1");
	answer(1, 8);
	assert_string_equal(told(), READ("a", 7, "INTERROGATE", 0) READ("b", 8, "INTERROGATE", 1));
	assert_int_equal(figure("splits"), 1);
	lose(true);
	connected();
	assert_string_equal(wire(), "1 3:0+1");
}

static void test_gaps_that_are_not_refused_are_read_over(void **state)
{
	(void)state;
	kept("remote_device/1/enable", true);
	create("{'device_id': 1, 'timeout_poll_delay': 5, 'merge_gap': 4, 'data': [" WORD(
		"a", 0) "," WORD("b", 3) "]}");
	connected();
	told();
	answer(4, 7, 0, 0, 8);
	assert_string_equal(told(), STATUS("CONNECTED") READ("a", 7, "INTERROGATE", 0)
					    READ("b", 8, "INTERROGATE", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_read),
		TEST(test_what_changes_is_told_and_nothing_else),
		TEST(test_values_from_two_to_the_63_on_are_digits),
		TEST(test_errors_are_told_at_every_poll_and_then_there_is_interrogate),
		TEST(test_each_exception_has_its_name_and_keeps_the_connection),
		TEST(test_an_empty_queue_is_no_news),
		TEST(test_a_timeout_skips_the_cycle_and_pauses),
		TEST(test_an_exception_connects_too),
		TEST(test_the_grid_does_not_drift),
		TEST(test_devices_that_start_together_are_not_polled_together),
		TEST(test_missed_cycles_are_counted_and_not_made_up_for),
		TEST(test_groups_of_different_intervals_have_their_own_times),
		TEST(test_a_timeout_pauses_a_little_at_least),
		TEST(test_an_interval_of_zero_has_a_millisecond),
		TEST(test_an_interval_of_zero_has_a_pause_after_an_error),
		TEST(test_there_was_no_room_for_a_request),
		TEST(test_gaps_that_are_refused_are_left_out_from_then_on),
		TEST(test_gaps_that_are_not_refused_are_read_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
