/* Connections of a Modbus slave, and the frames that come over them (gateway-devices 2.2; 5.1 by
 * name). */
#include "modbus_slave_bench.h"

#define HALF_OPEN 1000

/* ---- connections ---- */

static void test_create(void **state)
{
	struct world *w = *state;
	struct world other;
	struct err err = {0};

	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	/* a port that is taken is none */
	other = *w;
	other.port = fake_port_new(w->loop);
	assert_true(create(&other, &err) < 0);
	assert_int_equal(other.port->created, 0);
	fake_port_free(other.port);
	stop(w);
	ASSERT_SILENT(w);
}

static void check_connections(struct world *w, size_t max)
{
	start(w);
	for (size_t i = 1; i <= max; i++) {
		dial_and_wait(w, i);
		const json_t *last =
			json_array_get(w->port->events[w->port->read - 1].payload, i - 1);
		const char *type, *local, *remote;
		int id, local_port, remote_port;

		assert_int_equal(json_unpack((json_t *)(uintptr_t)last,
					     "{s:s, s:i, s:{s:s, s:i!}, s:{s:s, s:i!}!}", "type",
					     &type, "connection_id", &id, "local", "host", &local,
					     "port", &local_port, "remote", "host", &remote, "port",
					     &remote_port),
				 0);
		assert_string_equal(type, "TCP");
		assert_int_equal(id, i);
		assert_string_equal(local, "127.0.0.1");
		assert_int_equal(local_port, w->tcp_port);
		assert_string_equal(remote, "127.0.0.1");
		assert_true(remote_port > 0);
	}
	closep(&w->clients[0].fd);
	await_connections(w, max - 1);
	assert_int_equal(connection_id(w, 0), 2);
	dial_and_wait(w, max);
	assert_int_equal(connection_id(w, max - 1), max + 1); /* never one that was used */
	stop(w);
	await_connections(w, 0);
	ASSERT_SILENT(w);
}

static void test_connections_tcp_tcp(void **state)
{
	check_connections(*state, 3);
}

static void test_connections_tcp_rtu(void **state)
{
	set_framing(*state, MODBUS_RTU);
	check_connections(*state, 3);
}

static void test_connections_tcp_ascii(void **state)
{
	set_framing(*state, MODBUS_ASCII);
	check_connections(*state, 3);
}

static void check_line(struct world *w, enum modbus_framing framing)
{
	struct client *c;

	set_framing(w, framing);
	use_line(w, 0.3);
	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	c = on_line(w);
	for (json_int_t id = 1; id <= 2; id++) {
		assert_no_answer(w, c);
		ASSERT_SILENT(w); /* an open line is no connection */
		struct modbus_request q = read_of(MODBUS_COIL, 0, 1);
		ask(w, c, UNIT + 1, &q); /* nor does a request to others make one */
		assert_no_answer(w, c);
		ASSERT_SILENT(w);
		assert_int_equal(exchange(w, c, UNIT, &q), 0);
		await_connections(w, 1);
		assert_int_equal(connection_id(w, 0), id);
		assert_string_equal(
			json_string_value(json_object_get(
				json_array_get(w->port->events[w->port->read - 1].payload, 0),
				"type")),
			"SERIAL");
		await_connections(w, 0); /* keep_alive_timeout; the port is opened anew */
	}
	assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
	await_connections(w, 1);
	stop(w);
	await_connections(w, 0);
	assert_int_equal(w->port->ended, 0);
}

static void test_connection_serial_tcp(void **state)
{
	check_line(*state, MODBUS_TCP);
}

static void test_connection_serial_rtu(void **state)
{
	check_line(*state, MODBUS_RTU);
}

static void test_connection_serial_ascii(void **state)
{
	check_line(*state, MODBUS_ASCII);
}

static void test_serial_port_unplugged(void **state)
{
	struct world *w = *state;
	struct err err;
	struct client *c;

	set_framing(w, MODBUS_RTU);
	use_line(w, 60);
	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	c = on_line(w);
	assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
	await_connections(w, 1);
	closep(&c->fd);
	closep(&w->master_fd);
	closep(&w->slave_fd);
	await_connections(w, 0);
	assert_int_equal(w->port->ended, 1);
	stop(w);
	ASSERT_SILENT(w);
	/* it is not back yet */
	assert_true(create(w, &err) < 0);
	assert_int_equal(w->port->created, 1);
	w->port->read = w->port->n;
	/* it is */
	use_line(w, 60);
	assert_int_equal(create(w, &err), 0);
	w->port->read = w->port->n;
	w->n = 0;
	c = on_line(w);
	assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
	await_connections(w, 1);
}

/* Only requests for a device id that is ours keep a connection. */
static void test_keep_alive_timeout(void **state)
{
	struct world *w = *state;
	struct client *c;
	int64_t begin;

	json_object_set_new(transport(w), "keep_alive_timeout", json_real(0.4));
	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	begin = now_ms();
	dial_and_wait(w, 1);
	await_connections(w, 0);
	assert_true(now_ms() - begin >= 400);
	c = dial_and_wait(w, 1);
	begin = now_ms();
	while (now_ms() - begin < 1000) {
		assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
		turn_for(w, 50);
		ASSERT_SILENT(w);
	}
	begin = now_ms();
	while (w->port->n == w->port->read) {
		struct modbus_request q = read_of(MODBUS_COIL, 0, 1);
		struct modbus_frame f;

		assert_true(now_ms() - begin < PATIENCE_MS);
		(void)take_frame(c, &f);
		ask(w, c, UNIT + 1, &q);
		turn_for(w, 50);
	}
	await_connections(w, 0);
}

static void assert_closed_at_once(struct world *w, int fd)
{
	char byte;
	ssize_t n;

	UNTIL(w, (n = read(fd, &byte, 1)) >= 0 || errno != EAGAIN);
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	close(fd);
	ASSERT_SILENT(w);
}

static void test_max_connections(void **state)
{
	struct world *w = *state;

	json_object_set_new(transport(w), "max_connections", json_integer(3));
	json_object_set_new(transport(w), "remote_hosts", json_pack("[s]", "127.0.0.1"));
	start(w);
	for (size_t i = 1; i <= 3; i++)
		dial_and_wait(w, i);
	assert_closed_at_once(w, dial_from(w, "127.0.0.1"));
	closep(&w->clients[1].fd);
	await_connections(w, 2);
	/* those that are refused take no place */
	for (size_t i = 0; i < 10; i++)
		assert_closed_at_once(w, dial_from(w, "127.0.0.2"));
	dial_and_wait(w, 3);
	assert_int_equal(connection_id(w, 2), 4);
	assert_closed_at_once(w, dial_from(w, "127.0.0.1"));
}

static void test_remote_hosts(void **state)
{
	static const struct {
		const char *hosts; /* JSON */
		bool first, second;
	} cases[] = {
		{"[]", false, false},
		{"[\"127.0.0.3\"]", false, false},
		{"[\"127.0.0.1\"]", true, false},
		{"[\"127.0.0.4\", \"127.0.0.2\", \"127.0.0.1\"]", true, true},
		{"null", true, true},
	};
	struct world *w = *state;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_object_set_new(transport(w), "remote_hosts",
				    json_loads(cases[i].hosts, JSON_DECODE_ANY, NULL));
		assert_int_equal(create(w, &err), 0);
		w->port->read = w->port->n;
		for (unsigned k = 0; k < 2; k++) {
			int fd = dial_from(w, k == 0 ? "127.0.0.1" : "127.0.0.2");

			if (k == 0 ? cases[i].first : cases[i].second) {
				await_connections(w, 1);
				close(fd);
				await_connections(w, 0);
			} else {
				assert_closed_at_once(w, fd);
			}
		}
		stop(w);
	}
}

/* They send half a request, or nothing, and stay. */
static void test_half_open_connections(void **state)
{
	struct world *w = *state;
	static int fds[HALF_OPEN];
	struct rlimit files = {0};
	struct client *c;

	/* both ends are ours, and as many are left to others */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_true(files.rlim_max >= 4 * HALF_OPEN);
	files.rlim_cur = 4 * HALF_OPEN;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	start(w);
	for (size_t i = 0; i < HALF_OPEN; i++) {
		fds[i] = dial_from(w, "127.0.0.1");
		if (i % 2 == 0)
			assert_int_equal(write(fds[i], "\0\1\0\0\0\6", 6), 6);
		if (i % 16 == 0)
			loop_turn(w->loop, 0);
	}
	UNTIL(w, w->port->count == HALF_OPEN);
	c = dial(w);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 1), 0);
	for (size_t i = 0; i < HALF_OPEN; i++) {
		closep(&fds[i]);
		if (i % 16 == 0)
			loop_turn(w->loop, 0);
	}
	UNTIL(w, w->port->count == 1);
	w->port->read = w->port->n;
	assert_int_equal(connection_id(w, 0), HALF_OPEN + 1);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 1), 0);
}

/* ---- functions, frames ---- */

static void test_functions(void **state)
{
	struct world *w = *state;
	struct modbus_request fifo = {.function = 24};

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		restart_with_client(w);
		assert_int_equal(exchange(w, &w->clients[0], UNIT, &fifo), BAD_ADDRESS);
		for (unsigned f = 1; f < 128; f += f == 6 ? 8 : 1) {
			struct modbus_request q = {.function = (uint8_t)f};
			uint8_t pdu[] = {(uint8_t)f}, bytes[MODBUS_FRAME_MAX];
			struct client *c = &w->clients[0];

			if (f < 7 || (f >= 15 && f <= 17) || f == 22 || f == 24)
				continue;
			size_t n = modbus_frame_encode(
				w->framing,
				&(struct modbus_frame){.transaction = w->framing == MODBUS_TCP
									      ? ++c->transaction
									      : 0,
						       .unit = UNIT,
						       .pdu = pdu,
						       .len = 1},
				bytes);
			if (w->framing == MODBUS_RTU)
				continue; /* their length is not known: see the serial line */
			put(c, bytes, n);
			assert_int_equal(answered(w, c, UNIT, &q), MODBUS_ILLEGAL_FUNCTION);
		}
		assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 0, 1), 0);
	}
}

static void test_unknown_function_serial(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 1; i < ARRAY_LEN(framings); i++) {
		const uint8_t pdu[] = {0x2b, 0x0e, 0x01, 0x00}; /* device identification */
		struct modbus_request q = {.function = 0x2b};
		uint8_t bytes[MODBUS_FRAME_MAX];
		struct err err;

		set_framing(w, framings[i]);
		use_line(w, 60);
		assert_int_equal(create(w, &err), 0);
		w->n = 0;
		struct client *c = on_line(w);
		put(c, bytes,
		    modbus_frame_encode(w->framing,
					&(struct modbus_frame){.unit = UNIT, .pdu = pdu, .len = 4},
					bytes));
		assert_int_equal(answered(w, c, UNIT, &q), MODBUS_ILLEGAL_FUNCTION);
		assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 1), 0);
		stop(w);
		closep(&c->fd);
		closep(&w->master_fd);
		closep(&w->slave_fd);
	}
	w->n = 0;
}

/* The same octets one at a time and in one piece: the same answers. */
static void test_byte_dribble(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q[] = {read_of(MODBUS_HOLDING_REGISTER, 0, 2),
				     write_of(MODBUS_HOLDING_REGISTER, 9, 1, &value),
				     mask_of(1, 0xffff, 0), read_of(MODBUS_COIL, 0, 1)};
	static const unsigned exceptions[] = {0, BAD_ADDRESS, 0, BAD_ADDRESS};

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 32);
	for (size_t i = 0; i < 2 * ARRAY_LEN(framings); i++) {
		uint8_t bytes[4 * MODBUS_FRAME_MAX];
		size_t n = 0;

		set_framing(w, framings[i / 2]);
		restart_with_client(w);
		struct client *c = &w->clients[0];
		for (size_t k = 0; k < ARRAY_LEN(q); k++)
			n += frame_of(w, c, UNIT, &q[k], bytes + n);
		if (i % 2 == 0)
			put(c, bytes, n);
		for (size_t k = 0; i % 2 == 1 && k < n; k++) {
			put(c, &bytes[k], 1);
			loop_turn(w->loop, 0);
		}
		c->transaction = 0;
		for (size_t k = 0; k < ARRAY_LEN(q); k++) {
			c->transaction = w->framing == MODBUS_TCP ? (uint16_t)(k + 1) : 0;
			assert_int_equal(answered(w, c, UNIT, &q[k]), exceptions[k]);
		}
	}
}

static void test_garbage_tcp(void **state)
{
	static const char *const streams[] = {
		"\0\1\0\1\0\6\1\3\0\0\0\1", /* protocol id 1 */
		"\0\1\0\0\0\0\1\3\0\0\0\1", /* length 0 */
		"\0\1\0\0\0\1\1\3\0\0\0\1", /* length 1 */
		"\0\1\0\0\377\377\1\3\0\0\0\1",
	};
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		struct client *c;

		w->n = 1;
		c = dial_and_wait(w, 2);
		put(c, streams[i], 12);
		await_connections(w, 1);
		closep(&c->fd);
	}
	assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 0, 1), 0);
}

static void test_garbage_serial(void **state)
{
	struct world *w = *state;
	struct modbus_request q = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	struct err err;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 1; i < ARRAY_LEN(framings); i++) {
		uint8_t bytes[MODBUS_FRAME_MAX];

		set_framing(w, framings[i]);
		use_line(w, 60);
		assert_int_equal(create(w, &err), 0);
		w->n = 0;
		struct client *c = on_line(w);
		size_t n = frame_of(w, c, UNIT, &q, bytes);
		/* a wrong check: no answer, and a good frame right behind it is taken */
		bytes[n - 3] ^= 1;
		put(c, bytes, n);
		assert_no_answer(w, c);
		put(c, bytes, n);
		turn_for(w, 1200);
		assert_int_equal(exchange(w, c, UNIT, &q), 0);
		/* a frame that stops in the middle */
		bytes[n - 3] ^= 1;
		put(c, bytes, n / 2);
		turn_for(w, 1200);
		assert_int_equal(exchange(w, c, UNIT, &q), 0);
		stop(w);
		closep(&c->fd);
		closep(&w->master_fd);
		closep(&w->slave_fd);
	}
	w->n = 0;
}

/* A request in two halves over a line: turns_ms pass between them, and for held_ms nobody looks. */
static void ask_in_halves(struct world *w, int64_t turns_ms, unsigned held_ms)
{
	struct modbus_request q = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	uint8_t bytes[MODBUS_FRAME_MAX];
	struct err err;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	set_framing(w, MODBUS_RTU);
	use_line(w, 60);
	assert_int_equal(create(w, &err), 0);
	struct client *c = on_line(w);
	size_t n = frame_of(w, c, UNIT, &q, bytes);

	put(c, bytes, n / 2);
	turn_for(w, turns_ms);
	put(c, bytes + n / 2, n - n / 2);
	usleep(held_ms * 1000);
	assert_int_equal(answered(w, c, UNIT, &q), 0);
}

/* The second half was there in time; the slave was held up and looks late. */
static void test_held_up(void **state)
{
	ask_in_halves(*state, 5, 200);
}

/* Adapters hand bytes on in pieces, some 16 ms apart. */
static void test_pieces_of_an_adapter(void **state)
{
	ask_in_halves(*state, 20, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_create),
		TEST(test_connections_tcp_tcp),
		TEST(test_connections_tcp_rtu),
		TEST(test_connections_tcp_ascii),
		TEST(test_connection_serial_tcp),
		TEST(test_connection_serial_rtu),
		TEST(test_connection_serial_ascii),
		TEST(test_serial_port_unplugged),
		TEST(test_keep_alive_timeout),
		TEST(test_max_connections),
		TEST(test_remote_hosts),
		TEST(test_half_open_connections),
		TEST(test_functions),
		TEST(test_unknown_function_serial),
		TEST(test_byte_dribble),
		TEST(test_garbage_tcp),
		TEST(test_garbage_serial),
		TEST(test_held_up),
		TEST(test_pieces_of_an_adapter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
