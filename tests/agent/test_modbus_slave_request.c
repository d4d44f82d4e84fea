/* Writes of masters to a Modbus slave, and device ids (gateway-devices 2.2; 5.1 by name). */
#include "modbus_slave_bench.h"

/* ---- writing ---- */

static const struct write_case {
	enum modbus_data_type type;
	unsigned address, offset, count;
	json_int_t before;
	unsigned write_address, quantity;
	uint16_t values[5];
	const char *data; /* of the event */
} write_cases[] = {
	{MODBUS_COIL, 0, 0, 1, 0, 0, 1, {1}, "[{\"name\":\"d1\",\"value\":1}]"},
	{MODBUS_COIL, 0, 0, 1, 1, 0, 1, {0}, "[{\"name\":\"d1\",\"value\":0}]"},
	{MODBUS_COIL, 0, 0, 3, 0, 0, 3, {1, 0, 1}, "[{\"name\":\"d1\",\"value\":5}]"},
	{MODBUS_COIL, 0, 0, 3, 2, 2, 1, {1}, "[{\"name\":\"d1\",\"value\":3}]"},
	{MODBUS_COIL, 0, 4, 3, 7, 5, 1, {0}, "[{\"name\":\"d1\",\"value\":5}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 0, 0, 1, {18}, "[{\"name\":\"d1\",\"value\":18}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 1, 0, 0, 1, {0x8000}, "[{\"name\":\"d1\",\"value\":1}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 1, 0, 0, 1, {0x7fff}, "[{\"name\":\"d1\",\"value\":0}]"},
	{MODBUS_HOLDING_REGISTER, 0, 4, 8, 0, 0, 1, {0x1234}, "[{\"name\":\"d1\",\"value\":35}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 32, 0, 0, 2, {1, 2}, "[{\"name\":\"d1\",\"value\":65538}]"},
	/* a part of a point: the rest is as it was */
	{MODBUS_HOLDING_REGISTER,
	 0,
	 0,
	 32,
	 0x10002,
	 1,
	 1,
	 {7},
	 "[{\"name\":\"d1\",\"value\":65543}]"},
	{MODBUS_HOLDING_REGISTER,
	 0,
	 8,
	 32,
	 0x11223344,
	 0,
	 1,
	 {0xabcd},
	 "[{\"name\":\"d1\",\"value\":3441570628}]"}, /* 0xcd223344 */
	{MODBUS_HOLDING_REGISTER,
	 0,
	 8,
	 32,
	 0x11223344,
	 2,
	 1,
	 {0xabcd},
	 "[{\"name\":\"d1\",\"value\":287454123}]"}, /* 0x112233ab */
	{MODBUS_HOLDING_REGISTER,
	 0,
	 0,
	 64,
	 0,
	 0,
	 4,
	 {0xffff, 0xffff, 0xffff, 0xffff},
	 "[{\"name\":\"d1\",\"value\":\"18446744073709551615\"}]"},
};

static void test_write(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(write_cases); i++) {
		const struct write_case *r = &write_cases[i];
		struct modbus_request q =
			write_of(r->type, r->write_address, r->quantity, r->values);

		json_array_clear(json_object_get(w->conf, "data"));
		set_framing(w, framings[i % 3]);
		add(w, "d1", r->type, r->address, r->offset, r->count);
		restart_with_client(w);
		assert_int_equal(tell(w, "d1", value_of(r->before)), 0);
		check_write(w, &q, r->data, true);
		check_write(w, &q, r->data, false);
		/* the value has not changed: only an event changes it */
		unsigned size = modbus_cell_bits(r->type), first = r->address + r->offset / size;
		struct modbus_bits b = {.type = (uint8_t)r->type,
					.address = (uint16_t)first,
					.offset = r->offset % size,
					.count = (uint8_t)r->count};
		assert_int_equal(
			read_cells(w, &w->clients[0], r->type, first, modbus_bits_cells(&b)), 0);
		assert_true(modbus_bits_get(&b, w->answer.values) == (uint64_t)r->before);
	}
}

static void test_write_multiple(void **state)
{
	static const uint16_t values[] = {0x1234, 0x5678}, coils[] = {1, 0, 1};
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 2, values);

	add(w, "z", MODBUS_HOLDING_REGISTER, 0, 0, 8);
	add(w, "a", MODBUS_HOLDING_REGISTER, 1, 8, 8);
	add(w, "in", MODBUS_INPUT_REGISTER, 0, 0, 16);
	add(w, "m", MODBUS_HOLDING_REGISTER, 0, 8, 16);
	add(w, "other", MODBUS_HOLDING_REGISTER, 2, 0, 16);
	for (unsigned i = 0; i < 3; i++)
		add(w, i == 0 ? "c0" : i == 1 ? "c1" : "c2", MODBUS_COIL, i, 0, 1);
	add_of(w, UNIT + 1, "far", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	check_write(w, &q,
		    "[{\"name\":\"z\",\"value\":18},{\"name\":\"a\",\"value\":120},"
		    "{\"name\":\"m\",\"value\":13398}]",
		    true);
	q = write_of(MODBUS_COIL, 0, 3, coils);
	check_write(w, &q,
		    "[{\"name\":\"c0\",\"value\":1},{\"name\":\"c1\",\"value\":0},"
		    "{\"name\":\"c2\",\"value\":1}]",
		    true);
}

static void test_write_error(void **state)
{
	static const struct {
		enum modbus_data_type type;
		unsigned address, quantity;
	} cases[] = {
		{MODBUS_COIL, 1, 1},             /* beside it */
		{MODBUS_COIL, 0, 2},             /* begins in it */
		{MODBUS_COIL, 4, 3},             /* a hole */
		{MODBUS_HOLDING_REGISTER, 1, 1}, /* beside it */
		{MODBUS_HOLDING_REGISTER, 3, 3}, /* all beside it */
		{MODBUS_HOLDING_REGISTER, 1, 2}, /* ends in it */
		{MODBUS_HOLDING_REGISTER, 4, 1}, /* an input register */
	};
	static const uint16_t values[] = {1, 0, 1};
	struct world *w = *state;

	add(w, "c0", MODBUS_COIL, 0, 0, 1);
	add(w, "c4", MODBUS_COIL, 4, 0, 1);
	add(w, "c6", MODBUS_COIL, 6, 0, 1);
	add(w, "r2", MODBUS_HOLDING_REGISTER, 2, 0, 16);
	add(w, "i4", MODBUS_INPUT_REGISTER, 4, 0, 16);
	restart_with_client(w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q =
			write_of(cases[i].type, cases[i].address, cases[i].quantity, values);

		assert_int_equal(exchange(w, &w->clients[0], UNIT, &q), BAD_ADDRESS);
	}
	ASSERT_SILENT(w);
}

/* One bit after the other, as the standard says it (6.16). */
static uint64_t masked(unsigned offset, unsigned count, uint64_t old, unsigned and_mask,
		       unsigned or_mask)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned place = 15 - offset - i;
		unsigned bit = old >> (count - 1 - i) & 1;
		unsigned a = and_mask >> place & 1, o = or_mask >> place & 1;

		v = v << 1 | ((bit & a) | (o & (a ^ 1)));
	}
	return v;
}

/* Places, old values and masks, each with each: 176 cases. */
static void test_write_mask(void **state)
{
	static const struct {
		unsigned offset, count;
		json_int_t old[4];
		size_t n;
	} places[] = {
		{0, 1, {0, 1}, 2},
		{15, 1, {0, 1}, 2},
		{7, 2, {0, 1, 2, 3}, 4},
		{0, 16, {0, 0xffff, 0x1234}, 3},
	};
	struct world *w = *state;

	for (size_t p = 0; p < ARRAY_LEN(places); p++) {
		unsigned count = places[p].count;
		unsigned bits = ((1U << count) - 1) << (16 - places[p].offset - count);
		const unsigned masks[] = {0, bits, ~bits & 0xffff, 0xffff};

		json_array_clear(json_object_get(w->conf, "data"));
		add(w, "d1", MODBUS_HOLDING_REGISTER, 0, places[p].offset, count);
		restart_with_client(w);
		for (size_t i = 0; i < places[p].n * 16; i++) {
			json_int_t old = places[p].old[i / 16];
			unsigned and_mask = masks[i / 4 % 4], or_mask = masks[i % 4];
			struct modbus_request q = mask_of(0, and_mask, or_mask);
			char data[80];

			assert_int_equal(tell(w, "d1", value_of(old)), 0);
			if ((~and_mask & bits) == 0) { /* all protected: no event */
				assert_int_equal(exchange(w, &w->clients[0], UNIT, &q), 0);
				ASSERT_SILENT(w);
				continue;
			}
			snprintf(data, sizeof(data), "[{\"name\":\"d1\",\"value\":%u}]",
				 (unsigned)masked(places[p].offset, count, (uint64_t)old, and_mask,
						  or_mask));
			check_write(w, &q, data, i % 2 == 0);
		}
	}
}

/* By hand, the first from the standard: 0x12 AND 0xF2 OR 0x25 is 0x17. */
static void test_write_mask_values(void **state)
{
	static const struct {
		unsigned and_mask, or_mask;
		json_int_t old;
		const char *data;
	} cases[] = {
		{0xf2, 0x25, 0x12, "[{\"name\":\"d1\",\"value\":23}]"},
		{0x1234, 0, 0xffff, "[{\"name\":\"d1\",\"value\":4660}]"},
		{0, 0x4321, 0x1234, "[{\"name\":\"d1\",\"value\":17185}]"},
		{0x1234, 0, 0, "[{\"name\":\"d1\",\"value\":0}]"},
		{0xff00, 0xffff, 0xabcd, "[{\"name\":\"d1\",\"value\":44031}]"},
	};
	struct world *w = *state;

	add(w, "d1", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q = mask_of(0, cases[i].and_mask, cases[i].or_mask);

		assert_int_equal(tell(w, "d1", value_of(cases[i].old)), 0);
		check_write(w, &q, cases[i].data, true);
	}
}

static void test_write_mask_multiple(void **state)
{
	struct world *w = *state;
	struct modbus_request q = mask_of(0, 0x55ff, 0x88ff);
	static const char *const names[] = {"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"};

	for (unsigned i = 0; i < 8; i++)
		add(w, names[i], MODBUS_HOLDING_REGISTER, 0, i, 1);
	add(w, "x", MODBUS_HOLDING_REGISTER, 1, 8, 16);
	add(w, "y", MODBUS_HOLDING_REGISTER, 2, 8, 16);
	restart_with_client(w);
	check_write(w, &q,
		    "[{\"name\":\"b0\",\"value\":1},{\"name\":\"b2\",\"value\":0},"
		    "{\"name\":\"b4\",\"value\":1},{\"name\":\"b6\",\"value\":0}]",
		    true);
	q = mask_of(2, 0xff00, 0x00ff); /* of the second register only y */
	check_write(w, &q, "[{\"name\":\"y\",\"value\":65280}]", true);
	q = mask_of(2, 0x00ff, 0xab00); /* and only x */
	check_write(w, &q, "[{\"name\":\"x\",\"value\":171}]", true);
	q = mask_of(3, 0, 0xffff);
	check_write(w, &q, "[{\"name\":\"y\",\"value\":255}]", true);
}

static void test_write_mask_error(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 1, 0, 16);
	add(w, "b", MODBUS_INPUT_REGISTER, 2, 0, 16);
	add(w, "c", MODBUS_COIL, 0, 0, 16);
	restart_with_client(w);
	for (unsigned address = 0; address < 4; address++) {
		struct modbus_request q = mask_of(address, 0, 1);

		if (address != 1)
			assert_int_equal(exchange(w, &w->clients[0], UNIT, &q), BAD_ADDRESS);
	}
	ASSERT_SILENT(w);
}

static void test_write_response_invalid_request_id(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);
	const char *const path[] = {"write"};
	json_auto_t *bad = json_pack("{s:i, s:b}", "request_id", 7, "success", 1);
	struct err err;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	ask(w, &w->clients[0], UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	assert_true(respond(w, "x", true) < 0);
	assert_true(modbus_slave_type.ops->event(w->instance, path, 1, bad, &err) < 0);
	assert_no_answer(w, &w->clients[0]);
	assert_int_equal(respond(w, request_id(e), true), 0);
	assert_int_equal(answered(w, &w->clients[0], UNIT, &q), 0);
	assert_true(respond(w, request_id(e), true) < 0); /* it has been answered */
	assert_no_answer(w, &w->clients[0]);
}

static void test_write_response_timeout(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);
	int64_t begin = now_ms();

	json_object_set_new(transport(w), "response_timeout", json_real(0.2));
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	ask(w, &w->clients[0], UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	assert_int_equal(answered(w, &w->clients[0], UNIT, &q), MODBUS_SERVER_FAILURE);
	assert_true(now_ms() - begin >= 200);
	assert_true(respond(w, request_id(e), true) < 0);
	assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 0, 1), 0);
}

/* Several wait, on as many connections; on each the next request is read after the answer. */
static void test_writes_pending_on_several_connections(void **state)
{
	struct world *w = *state;
	struct modbus_request q[3], r = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	const struct fake_event *e[3];

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	dial_and_wait(w, 2);
	dial_and_wait(w, 3);
	for (uint16_t i = 0; i < 3; i++) {
		char data[80];

		q[i] = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &i);
		snprintf(data, sizeof(data), "[{\"name\":\"a\",\"value\":%u}]", i);
		ask(w, &w->clients[i], UNIT, &q[i]);
		e[i] = await_write(w, data);
		assert_int_equal(
			json_integer_value(json_object_get(e[i]->payload, "connection_id")), i + 1);
		ask(w, &w->clients[i], UNIT, &r);
		w->clients[i].transaction--; /* of the answer that comes first */
	}
	assert_no_answer(w, &w->clients[0]);
	closep(&w->clients[0].fd);
	await_connections(w, 2);
	for (size_t i = 2; i > 0; i--) {
		struct client *c = &w->clients[i];

		assert_int_equal(respond(w, request_id(e[i]), true), 0);
		assert_int_equal(answered(w, c, UNIT, &q[i]), 0);
		c->transaction++;
		assert_int_equal(answered(w, c, UNIT, &r), 0);
	}
	assert_true(respond(w, request_id(e[0]), true) < 0); /* nobody waits any more */
	ASSERT_SILENT(w);
}

/* What comes behind a write is kept, up to a limit. */
static void test_requests_behind_a_write(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value),
			      r = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	struct client *c;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	c = &w->clients[0];
	ask(w, c, UNIT, &q);
	for (unsigned i = 0; i < 1000; i++)
		ask(w, c, UNIT, &r);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	assert_int_equal(respond(w, request_id(e), true), 0);
	c->transaction = 1;
	assert_int_equal(answered(w, c, UNIT, &q), 0);
	for (unsigned i = 0; i < 1000; i++) {
		c->transaction++;
		assert_int_equal(answered(w, c, UNIT, &r), 0);
	}
	/* one that never stops is closed */
	ask(w, c, UNIT, &q);
	await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	uint8_t bytes[MODBUS_FRAME_MAX];
	size_t n = frame_of(w, c, UNIT, &r, bytes);
	int64_t end = now_ms() + PATIENCE_MS;
	while (w->port->n == w->port->read && now_ms() < end) {
		(void)send(c->fd, bytes, n, MSG_NOSIGNAL);
		loop_turn(w->loop, 0);
	}
	await_connections(w, 0);
}

/* ---- device ids ---- */

static void check_no_device(struct world *w, struct client *c, unsigned unit, unsigned exception)
{
	static const uint16_t value = 5;
	struct modbus_request q[] = {read_of(MODBUS_HOLDING_REGISTER, 0, 1),
				     write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value),
				     mask_of(0, 0, 1)};

	for (size_t i = 0; i < ARRAY_LEN(q); i++) {
		if (exception != 0) {
			assert_int_equal(exchange(w, c, unit, &q[i]), exception);
			continue;
		}
		ask(w, c, unit, &q[i]);
		assert_no_answer(w, c);
	}
	ASSERT_SILENT(w);
}

static void check_no_device_serial(struct world *w, unsigned unit)
{
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		struct err err;

		set_framing(w, framings[i]);
		use_line(w, 60);
		assert_int_equal(create(w, &err), 0);
		w->port->read = w->port->n;
		w->n = 0;
		struct client *c = on_line(w);
		check_no_device(w, c, unit, 0);
		assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 1), 0);
		assert_int_equal(w->answer.values[0], 0); /* nor had it an effect */
		stop(w);
		closep(&c->fd);
		closep(&w->master_fd);
		closep(&w->slave_fd);
	}
	w->n = 0;
}

static void check_no_device_tcp(struct world *w, unsigned unit)
{
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		restart_with_client(w);
		check_no_device(w, &w->clients[0], unit, BAD_ADDRESS);
	}
	stop(w);
	closep(&w->clients[0].fd);
}

static void test_invalid_device_id(void **state)
{
	check_no_device_tcp(*state, 13);
	check_no_device_serial(*state, 13);
}

static void test_broadcast_device_id(void **state)
{
	check_no_device_tcp(*state, 0);
	check_no_device_serial(*state, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_write),
		TEST(test_write_multiple),
		TEST(test_write_error),
		TEST(test_write_mask),
		TEST(test_write_mask_values),
		TEST(test_write_mask_multiple),
		TEST(test_write_mask_error),
		TEST(test_write_response_invalid_request_id),
		TEST(test_write_response_timeout),
		TEST(test_writes_pending_on_several_connections),
		TEST(test_requests_behind_a_write),
		TEST(test_invalid_device_id),
		TEST(test_broadcast_device_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
