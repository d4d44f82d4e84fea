/* The Modbus master against a connection that the test answers (gateway-devices 2.1, and the tests
 * of 5.1 by name). */
#include "modbus_bench.h"

static void *instance;
static json_t *conf;

static int setup(void **state)
{
	(void)state;
	the_loop.now_ms = 100000;
	the_port = (struct port){.states = json_object()};
	the_client = (struct modbus_client){0};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (instance != NULL)
		modbus_master_type.ops->close(instance);
	instance = NULL;
	json_decref(conf);
	conf = NULL;
	json_decref(the_port.states);
	assert_int_equal(the_loop.n, 0);
	return 0;
}

static void on_problem(void *arg, bool is_error, const char *text)
{
	(void)is_error;
	snprintf(arg, 300, "%s", text);
}

/* Check a configuration. ret: the last thing that is wrong with it; "". */
static const char *check(const char *remotes)
{
	static char text[300];
	struct problems *p = problems_new();
	char whole[2000];

	json_decref(conf);
	snprintf(whole, sizeof(whole),
		 "{'connection': {'modbus_type': 'TCP'}, 'remote_devices': [%s]}", remotes);
	for (char *c = whole; *c != '\0'; c++)
		if (*c == '\'')
			*c = '"';
	conf = json_loads(whole, 0, NULL);
	assert_non_null(conf);
	if (fields_check(modbus_master_type.fields, conf, p) == 0)
		modbus_master_type.check(conf, p);
	text[0] = '\0';
	problems_each(p, on_problem, text);
	problems_free(p);
	return text;
}

static void create(const char *remotes)
{
	assert_string_equal(check(remotes), "");
	assert_int_equal(modbus_master_type.ops->create(&the_port, conf, &instance, NULL), 0);
	assert_true(the_port.created);
}

#define REMOTE(id, points) "{'device_id': " #id ", 'timeout_poll_delay': 5, 'data': [" points "]}"
#define POINT(name, interval, type, address, offset, count)                   \
	"{'name': '" name "', 'interval': " #interval ", 'data_type': '" type \
	"', 'start_address': " #address ", 'bit_offset': " #offset ", 'bit_count': " #count "}"

static void kept(const char *path, bool enabled)
{
	json_object_set_new(the_port.states, path, json_boolean(enabled));
}

static int event(const char *path, const char *payload)
{
	char copy[200], *rest = copy, *part, text[200];
	const char *parts[8];
	size_t n = 0;
	struct err err;
	json_t *json;
	int rc;

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(text, sizeof(text), "%s", payload);
	for (char *c = text; *c != '\0'; c++)
		if (*c == '\'')
			*c = '"';
	while ((part = strsep(&rest, "/")) != NULL)
		parts[n++] = part;
	json = json_loads(text, JSON_DECODE_ANY, NULL);
	rc = modbus_master_type.ops->event(instance, parts, n, json, &err);
	json_decref(json);
	return rc;
}

/* One enabled remote device, connected; what is told so far is forgotten. */
static void start(const char *points)
{
	char remote[1500];

	snprintf(remote, sizeof(remote),
		 "{'device_id': 1, 'timeout_poll_delay': 5, 'merge_gap': 0, 'data': [%s]}", points);
	kept("remote_device/1/enable", true);
	create(remote);
	connected();
	told();
}

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
	struct err err;

	(void)state;
	conf = json_loads(modbus_master_type.example, 0, NULL);
	assert_non_null(conf);
	assert_int_equal(fields_check(modbus_master_type.fields, conf, p), 0);
	modbus_master_type.check(conf, p);
	if (problems_errors(p) > 0)
		problems_each(p, on_problem, wrong);
	assert_string_equal(wrong, "");
	problems_free(p);
	assert_int_equal(modbus_master_type.ops->create(&the_port, conf, &instance, &err), 0);
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

#define READ(name, value, cause, index)                                           \
	"remote_device/1/read/" name " {\"result\":\"SUCCESS\",\"value\":" #value \
	",\"cause\":\"" cause "\"} [" #index "]=" #value "\n"
#define BAD(name, result, index) \
	"remote_device/1/read/" name " {\"result\":\"" result "\"} [" #index "]q1\n"
#define STATUS(status)      "remote_device/1/status \"" status "\"\n"
#define WORD(name, address) POINT(name, 1, "HOLDING_REGISTER", address, 0, 16)

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

/* ---- times ---- */

/* When the next request comes, from now; it is answered. */
static int64_t next_poll(void)
{
	int64_t from = the_loop.now_ms;

	for (int i = 0; i < 100000 && the_client.n == 0; i++)
		pass(1);
	answer(1, 5);
	return the_loop.now_ms - from;
}

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

static json_int_t figure(const char *name)
{
	json_t *s = modbus_master_type.ops->status(instance);
	json_t *r = json_array_get(json_object_get(s, "remote_devices"), 0);
	json_int_t n = json_integer_value(json_object_get(r, name));

	assert_non_null(s);
	json_decref(s);
	return n;
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

static void test_an_interval_of_zero_polls_without_a_pause(void **state)
{
	(void)state;
	start(POINT("a", 0, "COIL", 0, 0, 1));
	for (unsigned i = 0; i < 10; i++) {
		assert_string_equal(wire(), "1 1:0+1");
		answer(1, i & 1);
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
		assert_int_equal(event("remote_device/1/write/p", "{'request_id': 2, 'value': 1}"),
				 ERR_PEER);
		modbus_master_type.ops->write(instance, 0, &one, &refused);
		assert_int_equal(refused.ack, ACK_LINK_DOWN);
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
	modbus_master_type.ops->write(instance, 0, &v, &call);
	time_out();
	assert_int_equal(call.ack, ACK_TIMEOUT);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_valid_conf),
		TEST(test_what_tables_cannot_say_is_checked),
		TEST(test_points_are_features_as_the_mapping_says),
		TEST(test_the_example_is_right),
		TEST(test_status),
		TEST(test_remote_device_status),
		TEST(test_read),
		TEST(test_what_changes_is_told_and_nothing_else),
		TEST(test_values_from_two_to_the_63_on_are_digits),
		TEST(test_errors_are_told_at_every_poll_and_then_there_is_interrogate),
		TEST(test_each_exception_has_its_name_and_keeps_the_connection),
		TEST(test_an_empty_queue_is_no_news),
		TEST(test_a_timeout_skips_the_cycle_and_pauses),
		TEST(test_an_exception_connects_too),
		TEST(test_disabling_stops_what_is_asked),
		TEST(test_flapping_ends_where_it_should),
		TEST(test_what_was_enabled_is_after_a_reconnection),
		TEST(test_the_configuration_enables_until_an_event_says),
		TEST(test_the_grid_does_not_drift),
		TEST(test_devices_that_start_together_are_not_polled_together),
		TEST(test_missed_cycles_are_counted_and_not_made_up_for),
		TEST(test_groups_of_different_intervals_have_their_own_times),
		TEST(test_an_interval_of_zero_polls_without_a_pause),
		TEST(test_there_was_no_room_for_a_request),
		TEST(test_gaps_that_are_refused_are_left_out_from_then_on),
		TEST(test_gaps_that_are_not_refused_are_read_over),
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
