/* A Modbus slave whose masters ask for more than a turn of the loop has: what it does in a turn is
 * bounded, and all is answered in the end. */
#include "modbus_slave_bench.h"

#define MASTERS       100
#define REQUESTS      300 /* of each, at once */
#define IN_A_TURN     (MASTERS * REQUESTS / 10)
#define BEHIND        5000 /* requests behind a write */
#define COMINGS       200
#define TELL_PAUSE_MS 100 /* between lists of so many */
#define FEW           40  /* masters */
#define DESCRIPTORS   1024

struct master {
	int fd;
	size_t got; /* bytes of answers */
};

static json_int_t count(const struct world *w, const char *of)
{
	json_auto_t *status = modbus_slave_type.ops->status(w->instance);

	return json_integer_value(json_object_get(status, of));
}

static json_int_t requests(const struct world *w)
{
	return count(w, "requests");
}

static size_t read_all(int fd)
{
	uint8_t bytes[4096];
	size_t got = 0;
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		got += (size_t)n;
	assert_true(n < 0 && errno == EAGAIN);
	return got;
}

/* ret: requests that this turn has taken */
static json_int_t turn(struct world *w)
{
	json_int_t before = requests(w);

	loop_turn(w->loop, 5);
	return requests(w) - before;
}

static void put_all(int fd, const uint8_t *bytes, size_t n, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		assert_int_equal(write(fd, bytes, n), (ssize_t)n);
}

static void check_flood(struct world *w, enum modbus_framing framing)
{
	struct modbus_request q = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	struct master masters[MASTERS];
	uint8_t bytes[MODBUS_FRAME_MAX];
	struct client encoder = {.fd = -1};
	size_t got = 0, answer;
	json_int_t most = 0;
	int64_t end = now_ms() + PATIENCE_MS;

	set_framing(w, framing);
	start(w);
	for (size_t i = 0; i < MASTERS; i++)
		masters[i] = (struct master){.fd = dial_from(w, "127.0.0.1")};
	UNTIL(w, w->port->count == MASTERS);
	size_t n = frame_of(w, &encoder, UNIT, &q, bytes);
	for (size_t i = 0; i < MASTERS; i++)
		put_all(masters[i].fd, bytes, n, REQUESTS);
	answer = framing == MODBUS_TCP ? 11 : framing == MODBUS_RTU ? 7 : 15;
	while (got < answer * MASTERS * REQUESTS) {
		json_int_t taken = turn(w);

		most = taken > most ? taken : most;
		for (size_t i = 0; i < MASTERS; i++)
			got += read_all(masters[i].fd);
		assert_true(now_ms() < end);
	}
	assert_int_equal(got, answer * MASTERS * REQUESTS);
	assert_in_range(most, 1, IN_A_TURN);
	for (size_t i = 0; i < MASTERS; i++)
		close(masters[i].fd);
}

static void test_flood_of_requests(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	check_flood(w, MODBUS_TCP);
}

static void test_flood_of_requests_rtu(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	check_flood(w, MODBUS_RTU);
}

/* What waits behind a write is not done in the one turn in which that has its answer. */
static void test_flood_behind_a_write(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);
	uint8_t bytes[MODBUS_FRAME_MAX];
	size_t got = 0;
	json_int_t most = 0;
	int64_t end = now_ms() + PATIENCE_MS;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	start(w);
	struct client *c = dial_and_wait(w, 1);
	ask(w, c, UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	q = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	size_t n = frame_of(w, c, UNIT, &q, bytes);
	for (unsigned i = 0; i < BEHIND; i += 100) {
		put_all(c->fd, bytes, n, 100);
		loop_turn(w->loop, 5);
	}
	turn_for(w, QUIET_MS); /* all of it is with the slave */
	json_int_t before = requests(w);
	assert_int_equal(respond(w, request_id(e), true), 0);
	assert_in_range(requests(w) - before, 0, BEHIND / 10);
	while (got < 12 + BEHIND * 11) {
		json_int_t taken = turn(w);

		most = taken > most ? taken : most;
		got += read_all(c->fd);
		assert_true(now_ms() < end);
	}
	assert_int_equal(got, 12 + BEHIND * 11);
	assert_in_range(most, 1, BEHIND / 10);
}

/* Who comes to a slave that is flooded has his turn before the flood is over. */
static void test_a_newcomer_in_a_flood(void **state)
{
	struct world *w = *state;
	struct modbus_request q = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	uint8_t bytes[MODBUS_FRAME_MAX];
	struct client encoder = {.fd = -1};
	int fds[MASTERS];

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	start(w);
	for (size_t i = 0; i < MASTERS; i++)
		fds[i] = dial_from(w, "127.0.0.1");
	struct client *c = dial(w);
	UNTIL(w, w->port->count == MASTERS + 1);
	w->port->read = w->port->n;
	size_t n = frame_of(w, &encoder, UNIT, &q, bytes);
	for (size_t i = 0; i < MASTERS; i++)
		put_all(fds[i], bytes, n, REQUESTS);
	loop_turn(w->loop, 5);
	assert_int_equal(exchange(w, c, UNIT, &q), 0);
	assert_true(requests(w) < MASTERS * REQUESTS);
	for (size_t i = 0; i < MASTERS; i++)
		close(fds[i]);
	UNTIL(w, w->port->count == 1);
}

/* A list of many is long: it is not told each time that one of them comes or goes. */
static void test_comings_and_goings(void **state)
{
	struct world *w = *state;
	int fds[MASTERS];

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	start(w);
	for (size_t i = 0; i < MASTERS; i++)
		fds[i] = dial_from(w, "127.0.0.1");
	UNTIL(w, w->port->count == MASTERS);
	size_t before = w->port->n;
	int64_t began_ms = now_ms();
	for (unsigned i = 0; i < COMINGS; i++) {
		int fd = dial_from(w, "127.0.0.1");

		loop_turn(w->loop, 5);
		close(fd);
		loop_turn(w->loop, 5);
	}
	assert_in_range(w->port->n - before, 0, 2 + (now_ms() - began_ms) / TELL_PAUSE_MS);
	close(fds[0]);
	UNTIL(w, w->port->count == MASTERS - 1);
	w->port->read = w->port->n;
	assert_int_equal(connection_id(w, MASTERS - 2), MASTERS);
	for (size_t i = 1; i < MASTERS; i++)
		close(fds[i]);
}

/* Descriptors are everybody's: of those that are free a slave leaves as many as it has. */
static void test_descriptors_are_left(void **state)
{
	struct world *w = *state;
	int fds[FEW];
	struct rlimit was, few;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	start(w);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	fds[0] = dial_from(w, "127.0.0.1");
	few.rlim_cur = (rlim_t)fds[0] + 5 * FEW / 2; /* both ends are ours */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (size_t i = 1; i < FEW; i++)
		fds[i] = dial_from(w, "127.0.0.1");
	UNTIL(w, count(w, "connections") + count(w, "refused") == FEW);
	assert_true(count(w, "connections") >= FEW / 2);
	assert_true(count(w, "refused") > 0);
	for (size_t i = 0; i < FEW; i++)
		close(fds[i]);
	UNTIL(w, count(w, "connections") == 0);
	w->port->read = w->port->n;
	(void)dial_and_wait(w, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_flood_of_requests),    TEST(test_flood_of_requests_rtu),
		TEST(test_flood_behind_a_write), TEST(test_a_newcomer_in_a_flood),
		TEST(test_comings_and_goings),   TEST(test_descriptors_are_left),
	};
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = l.rlim_max < DESCRIPTORS ? l.rlim_max : DESCRIPTORS;
	setrlimit(RLIMIT_NOFILE, &l);
	return cmocka_run_group_tests_name("modbus_slave_flood", tests, NULL, NULL);
}
