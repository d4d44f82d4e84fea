/* The Modbus slave: its configuration, what masters read, and the view of IoTtalk (gateway-devices
 * 2.2; 5.1 by name). */
#include "modbus_slave_bench.h"

/* ---- configuration ---- */

static void note_problem(void *arg, bool is_error, const char *text)
{
	size_t len = strlen(arg);

	snprintf((char *)arg + len, 1000 - len, "%s%s\n", is_error ? "" : "warning: ", text);
}

static const char *problems_of(json_t *conf)
{
	static char told[1000];
	struct problems *p = problems_new();

	told[0] = '\0';
	if (fields_check(modbus_slave_type.fields, conf, p) == 0)
		modbus_slave_type.check(conf, p);
	problems_each(p, note_problem, told);
	problems_free(p);
	return told;
}

static void test_valid_conf(void **state)
{
	struct world *w = *state;
	json_auto_t *example = json_loads(modbus_slave_type.example, 0, NULL);
	struct point_list points;
	struct err err;

	assert_non_null(example);
	json_object_del(example, "type");
	json_object_del(example, "name");
	assert_string_equal(problems_of(example), "");
	add(w, "a", MODBUS_HOLDING_REGISTER, 1, 2, 3);
	add(w, "b", MODBUS_INPUT_REGISTER, 1, 2, 30);
	add(w, "c", MODBUS_COIL, 1, 2, 64);
	add(w, "d", MODBUS_DISCRETE_INPUT, 1, 2, 1);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		assert_string_equal(problems_of(w->conf), "");
	}
	assert_int_equal(modbus_slave_type.points(w->conf, &points, &err), 0);
	assert_int_equal(points.n, 4);
	for (size_t i = 0; i < points.n; i++) {
		assert_true(points.items[i].output);
		assert_int_equal(points.items[i].input, i == 0 || i == 2);
	}
	assert_int_equal(points.items[1].bits, 30);
	free(points.items);
	use_line(w, 1);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		assert_string_equal(problems_of(w->conf), "");
	}
}

static void test_invalid_conf(void **state)
{
	struct world *w = *state;
	json_t *data = json_object_get(w->conf, "data");

	add(w, "a", MODBUS_QUEUE, 1, 0, 16);
	add(w, "a", MODBUS_COIL, 65535, 0, 2);
	add_of(w, 248, "b", MODBUS_COIL, 1, 0, 1);
	add_of(w, 0, "c", MODBUS_COIL, 1, 0, 1);
	assert_string_equal(problems_of(w->conf),
			    "data[3].device_id: must be an integer from 1 to 255\n");
	json_array_remove(data, 3);
	json_object_set_new(transport(w), "remote_hosts", json_pack("[s, s]", "::1", "localhost"));
	set_framing(w, MODBUS_RTU);
	assert_string_equal(problems_of(w->conf),
			    "transport.remote_hosts[1]: no IP address\n"
			    "data[0].data_type: a slave has no QUEUE\n"
			    "data[1].name: 'a' is there twice\n"
			    "data[1].bit_count: the value ends beyond address 65535\n"
			    "data[2].device_id: more than 247 is only for modbus_type TCP\n");
}

/* A line whose characters cannot hold the framing's. */
static void test_invalid_line(void **state)
{
	static const struct {
		enum modbus_framing framing;
		const char *bytesize, *wrong;
	} cases[] = {
		{MODBUS_TCP, "SEVENBITS", "transport.bytesize: TCP needs characters of 8 bits\n"},
		{MODBUS_RTU, "SEVENBITS", "transport.bytesize: RTU needs characters of 8 bits\n"},
		{MODBUS_ASCII, "SEVENBITS", ""},
		{MODBUS_ASCII, "SIXBITS",
		 "transport.bytesize: ASCII needs characters of 7 or 8 bits\n"},
	};
	struct world *w = *state;

	use_line(w, 1);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		set_framing(w, cases[i].framing);
		json_object_set_new(transport(w), "bytesize", json_string(cases[i].bytesize));
		assert_string_equal(problems_of(w->conf), cases[i].wrong);
	}
}

/* ---- reading ---- */

static void test_query(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	assert_int_equal(w->port->asked_states, 1);
}

static void test_read_query_data(void **state)
{
	struct world *w = *state;
	struct client *c;

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	add(w, "b", MODBUS_INPUT_REGISTER, 1, 0, 8);
	add(w, "c", MODBUS_INPUT_REGISTER, 2, 0, 64);
	store(w, "a", value_of(0x1234));
	store(w, "b", value_of(0x100)); /* too wide: as if not there */
	store(w, "c", json_pack("{s:s}", "value", "18446744073709551615"));
	store(w, "gone", value_of(1));
	start(w);
	c = dial_and_wait(w, 1);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 6), 0);
	assert_int_equal(w->answer.values[0], 0x1234);
	assert_int_equal(w->answer.values[1], 0);
	for (unsigned i = 2; i < 6; i++)
		assert_int_equal(w->answer.values[i], 0xffff);
}

static void test_read_no_data(void **state)
{
	struct world *w = *state;
	struct client *c;

	for (unsigned t = MODBUS_COIL; t <= MODBUS_INPUT_REGISTER; t++)
		add(w, modbus_data_type_names[t], t, 5, 0, 7);
	start(w);
	c = dial_and_wait(w, 1);
	for (unsigned t = MODBUS_COIL; t <= MODBUS_INPUT_REGISTER; t++) {
		assert_int_equal(read_cells(w, c, t, 5, 1), 0);
		assert_int_equal(w->answer.values[0], 0);
	}
}

#define NONE      \
	{         \
		0 \
	}

static const struct read_case {
	enum modbus_data_type type; /* of the point */
	unsigned address, offset, count;
	json_int_t value;
	enum modbus_data_type read_type;
	unsigned read_address, quantity, exception;
	uint16_t values[8];
} read_cases[] = {
	/* bits */
	{MODBUS_COIL, 0, 0, 1, 0, MODBUS_COIL, 0, 1, 0, {0}},
	{MODBUS_COIL, 0, 0, 1, 1, MODBUS_COIL, 0, 1, 0, {1}},
	{MODBUS_COIL, 3, 2, 1, 1, MODBUS_COIL, 5, 1, 0, {1}},
	{MODBUS_COIL, 3, 2, 1, 1, MODBUS_COIL, 3, 1, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 3, 2, 1, 1, MODBUS_COIL, 6, 1, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 0, 0, 4, 0xa, MODBUS_COIL, 0, 4, 0, {1, 0, 1, 0}},
	{MODBUS_COIL, 0, 0, 4, 0xa, MODBUS_COIL, 1, 2, 0, {0, 1}},
	{MODBUS_COIL, 0, 0, 4, 0xa, MODBUS_COIL, 0, 5, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 0, 0, 4, 0x10, MODBUS_COIL, 0, 4, 0, {0, 0, 0, 0}}, /* too wide */
	{MODBUS_COIL, 65535, 0, 1, 1, MODBUS_COIL, 65535, 1, 0, {1}},
	{MODBUS_COIL, 0, 0, 1, 1, MODBUS_DISCRETE_INPUT, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 0, 0, 1, 1, MODBUS_HOLDING_REGISTER, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_DISCRETE_INPUT, 7, 0, 3, 6, MODBUS_DISCRETE_INPUT, 7, 3, 0, {1, 1, 0}},
	{MODBUS_DISCRETE_INPUT, 7, 0, 3, 6, MODBUS_COIL, 7, 1, BAD_ADDRESS, NONE},
	{MODBUS_DISCRETE_INPUT, 7, 0, 3, 8, MODBUS_DISCRETE_INPUT, 7, 3, 0, {0, 0, 0}},
	/* registers */
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 0x1234, MODBUS_HOLDING_REGISTER, 0, 1, 0, {0x1234}},
	{MODBUS_HOLDING_REGISTER, 9, 0, 1, 1, MODBUS_HOLDING_REGISTER, 9, 1, 0, {0x8000}},
	{MODBUS_HOLDING_REGISTER, 9, 15, 1, 1, MODBUS_HOLDING_REGISTER, 9, 1, 0, {1}},
	{MODBUS_HOLDING_REGISTER, 9, 7, 2, 3, MODBUS_HOLDING_REGISTER, 9, 1, 0, {0x0180}},
	{MODBUS_HOLDING_REGISTER, 9, 7, 2, 4, MODBUS_HOLDING_REGISTER, 9, 1, 0, {0}},
	{MODBUS_HOLDING_REGISTER,
	 0,
	 8,
	 32,
	 0x3456789a,
	 MODBUS_HOLDING_REGISTER,
	 0,
	 3,
	 0,
	 {0x0034, 0x5678, 0x9a00}},
	{MODBUS_HOLDING_REGISTER, 0, 8, 16, 0x1234, MODBUS_HOLDING_REGISTER, 1, 1, 0, {0x3400}},
	{MODBUS_HOLDING_REGISTER, 0, 8, 16, 0x1234, MODBUS_HOLDING_REGISTER, 0, 3, BAD_ADDRESS,
	 NONE},
	{MODBUS_HOLDING_REGISTER, 0, 16, 8, 0x12, MODBUS_HOLDING_REGISTER, 1, 1, 0, {0x1200}},
	{MODBUS_HOLDING_REGISTER, 0, 16, 8, 0x12, MODBUS_HOLDING_REGISTER, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 0x10000, MODBUS_HOLDING_REGISTER, 0, 1, 0, {0}},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, -1, MODBUS_HOLDING_REGISTER, 0, 1, 0, {0}},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 1, MODBUS_INPUT_REGISTER, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_INPUT_REGISTER,
	 100,
	 0,
	 63,
	 INT64_MAX,
	 MODBUS_INPUT_REGISTER,
	 100,
	 4,
	 0,
	 {0xffff, 0xffff, 0xffff, 0xfffe}},
	{MODBUS_INPUT_REGISTER, 65535, 0, 16, 7, MODBUS_INPUT_REGISTER, 65535, 1, 0, {7}},
	{MODBUS_INPUT_REGISTER, 0, 0, 16, 1, MODBUS_HOLDING_REGISTER, 0, 1, BAD_ADDRESS, NONE},
};

static void test_read(void **state)
{
	struct world *w = *state;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(read_cases); i++) {
		const struct read_case *r = &read_cases[i];
		bool fits = r->value >= 0 && (r->count >= 63 || r->value >> r->count == 0);

		json_array_clear(json_object_get(w->conf, "data"));
		set_framing(w, framings[i % 3]);
		add(w, "d1", r->type, r->address, r->offset, r->count);
		assert_int_equal(create(w, &err), 0);
		w->n = 0;
		struct client *c = dial(w);
		assert_int_equal(tell(w, "d1", value_of(r->value)) == 0, fits);
		assert_int_equal(read_cells(w, c, r->read_type, r->read_address, r->quantity),
				 r->exception);
		for (unsigned k = 0; r->exception == 0 && k < r->quantity; k++)
			assert_int_equal(w->answer.values[k], r->values[k]);
		stop(w);
		closep(&c->fd);
	}
	w->n = 0;
}

static void test_process_unconfigured_data(void **state)
{
	const char *const nested[] = {"data", "a", "b"}, *const command[] = {"command"};
	struct world *w = *state;
	json_auto_t *payload = value_of(1);
	struct client *c;
	struct err err;

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	start(w);
	c = dial_and_wait(w, 1);
	assert_true(tell(w, "b", value_of(1)) < 0);
	assert_true(tell(w, "a", json_integer(1)) < 0);
	assert_true(tell(w, "a", json_pack("{s:f}", "value", 1.5)) < 0);
	assert_true(tell(w, "a", json_pack("{s:n}", "value")) < 0);
	assert_true(tell(w, "a", json_pack("{s:[]}", "value")) < 0);
	assert_true(tell(w, "a", json_object()) < 0);
	assert_true(modbus_slave_type.ops->event(w->instance, nested, 3, payload, &err) < 0);
	assert_true(modbus_slave_type.ops->event(w->instance, command, 1, payload, &err) < 0);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 1), 0);
	assert_int_equal(w->answer.values[0], 0);
	ASSERT_SILENT(w);
}

/* ---- the view of IoTtalk ---- */

static void emitted(const struct fake_event *e, int rc)
{
	assert_non_null(e->done);
	e->done(e->arg, rc);
}

static void test_automatic_acknowledgement(void **state)
{
	static const uint16_t values[] = {18, 19};
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 2, values);
	struct client *c;

	json_object_set_new(w->conf, "manual_ack", json_false());
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	add(w, "b", MODBUS_HOLDING_REGISTER, 1, 0, 16);
	restart_with_client(w);
	c = &w->clients[0];
	ask(w, c, UNIT, &q);
	const struct fake_event *e =
		await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	assert_int_equal(json_integer_value(w->port->values[0]), 18);
	assert_true(e->point == 1 && e->value.kind == VALUE_UINT && e->value.u == 19);
	assert_true(respond(w, request_id(e), true) < 0); /* it is not asked */
	assert_no_answer(w, c);                           /* not safe yet */
	emitted(e, 0);
	assert_int_equal(answered(w, c, UNIT, &q), 0);
	assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 2), 0);
	assert_int_equal(w->answer.values[0], 18);
	assert_int_equal(w->answer.values[1], 19);
	/* it was given up */
	ask(w, c, UNIT, &q);
	e = await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	emitted(e, ERR_LIMIT);
	assert_int_equal(answered(w, c, UNIT, &q), MODBUS_SERVER_FAILURE);
	/* the master goes away before it is safe */
	ask(w, c, UNIT, &q);
	e = await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	closep(&c->fd);
	await_connections(w, 0);
	emitted(e, 0);
	/* so does the device, and nobody calls any more */
	w->n = 0;
	c = dial_and_wait(w, 1);
	ask(w, c, UNIT, &q);
	await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	stop(w);
}

static void test_automatic_acknowledgement_timeout(void **state)
{
	static const uint16_t value = 18;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);

	json_object_set_new(w->conf, "manual_ack", json_false());
	json_object_set_new(transport(w), "response_timeout", json_real(0.2));
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	ask(w, &w->clients[0], UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":18}]");
	assert_int_equal(answered(w, &w->clients[0], UNIT, &q), MODBUS_SERVER_FAILURE);
	emitted(e, 0); /* late */
	assert_no_answer(w, &w->clients[0]);
}

/* A point may have its own mind; a request waits if one of its points wants it to. */
static void test_manual_acknowledgement_of_a_point(void **state)
{
	static const uint16_t values[] = {18, 19};
	struct world *w = *state;
	struct modbus_request one = write_of(MODBUS_HOLDING_REGISTER, 0, 1, values),
			      both = write_of(MODBUS_HOLDING_REGISTER, 0, 2, values);
	struct client *c;

	json_object_set_new(w->conf, "manual_ack", json_false());
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	add(w, "b", MODBUS_HOLDING_REGISTER, 1, 0, 16);
	json_object_set_new(json_array_get(json_object_get(w->conf, "data"), 1), "manual_ack",
			    json_true());
	restart_with_client(w);
	c = &w->clients[0];
	ask(w, c, UNIT, &one);
	emitted(await_write(w, "[{\"name\":\"a\",\"value\":18}]"), 0);
	assert_int_equal(answered(w, c, UNIT, &one), 0);
	assert_int_equal(tell(w, "a", value_of(0)), 0);
	ask(w, c, UNIT, &both);
	const struct fake_event *e =
		await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	assert_null(e->done);
	assert_int_equal(respond(w, request_id(e), true), 0);
	assert_int_equal(answered(w, c, UNIT, &both), 0);
	assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 2), 0);
	assert_int_equal(w->answer.values[0], 18);
	assert_int_equal(w->answer.values[1], 0);
}

static void test_points_are_set(void **state)
{
	struct world *w = *state;
	struct port_call call = {0};
	struct value v = {.kind = VALUE_UINT, .u = 0x1234};

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	restart_with_client(w);
	modbus_slave_type.ops->write(w->instance, 0, &v, &call);
	assert_true(call.answers == 1 && call.ack == ACK_OK);
	assert_int_equal(read_cells(w, &w->clients[0], MODBUS_INPUT_REGISTER, 0, 1), 0);
	assert_int_equal(w->answer.values[0], 0x1234);
	v.u = 0x10000;
	modbus_slave_type.ops->write(w->instance, 0, &v, &call);
	assert_true(call.answers == 2 && call.ack == ACK_BAD_VALUE);
	json_auto_t *status = modbus_slave_type.ops->status(w->instance);
	assert_int_equal(json_integer_value(json_object_get(status, "connections")), 1);
	assert_int_equal(json_integer_value(json_object_get(status, "requests")), 1);
	ASSERT_SILENT(w);
}

static void test_orders(void **state)
{
	static const uint16_t expected[][2] = {
		{0x1122, 0x3344}, {0x4433, 0x2211}, {0x2211, 0x4433}, {0x3344, 0x1122}};
	struct world *w = *state;

	for (unsigned i = 0; modbus_order_names[i] != NULL; i++) {
		add(w, modbus_order_names[i], MODBUS_HOLDING_REGISTER, 2 * i, 0, 32);
		json_object_set_new(json_array_get(json_object_get(w->conf, "data"), i), "order",
				    json_string(modbus_order_names[i]));
	}
	restart_with_client(w);
	for (unsigned i = 0; modbus_order_names[i] != NULL; i++) {
		struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 2 * i, 2, expected[i]);
		char data[80];

		assert_int_equal(tell(w, modbus_order_names[i], value_of(0x11223344)), 0);
		assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 2 * i, 2),
				 0);
		assert_memory_equal(w->answer.values, expected[i], sizeof(expected[i]));
		snprintf(data, sizeof(data), "[{\"name\":\"%s\",\"value\":%u}]",
			 modbus_order_names[i], 0x11223344U);
		check_write(w, &q, data, true);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_valid_conf),
		TEST(test_invalid_conf),
		TEST(test_invalid_line),
		TEST(test_query),
		TEST(test_read_query_data),
		TEST(test_read_no_data),
		TEST(test_read),
		TEST(test_process_unconfigured_data),
		TEST(test_automatic_acknowledgement),
		TEST(test_automatic_acknowledgement_timeout),
		TEST(test_manual_acknowledgement_of_a_point),
		TEST(test_points_are_set),
		TEST(test_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
