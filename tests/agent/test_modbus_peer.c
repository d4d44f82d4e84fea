/* Our side of Modbus against libmodbus, which shares no code with it: our master against its server
 * over TCP and RTU, and its master against answers that our frames and PDUs are made into. What is
 * asked for is drawn by chance; a model says what must come of it. */
#include "agent/device/modbus/client.h"
#include "agent/device/stream.h"
#include "common/util.h"
#include "tests/common/free_port.h"
#include "tests/common/until.h"
#include <errno.h>
#include <fcntl.h>
#include <modbus/modbus.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define UNIT     17
#define CELLS    600 /* of each table */
#define REQUESTS 1500

struct world {
	struct loop *loop;
	pid_t child;
	unsigned seed;
	int masters[2]; /* of two pseudo terminals that are one line */
	struct loop_src *bridges[2];
	char lines[2][64];
	unsigned port;
	json_t *conf;
	struct modbus_client *c;
	bool done;
	enum { NOTHING, ANSWER, EXCEPTION } kind;
	struct modbus_answer answer;
	struct stream_listener *listener;
	struct stream *peer;
	struct modbus_framer framer;
	enum link_state link; /* as was told last */
};

/* All tables, as they must be. */
static struct model {
	uint16_t cells[5][CELLS]; /* by the function that reads them */
} model;

static unsigned chance(struct world *w, unsigned n)
{
	return (unsigned)rand_r(&w->seed) % n;
}

static bool are_bits(unsigned function)
{
	return function == MODBUS_READ_COILS || function == MODBUS_READ_DISCRETE_INPUTS;
}

static void fill_model(struct world *w)
{
	for (unsigned function = 1; function <= 4; function++)
		for (unsigned i = 0; i < CELLS; i++)
			model.cells[function][i] =
				(uint16_t)(are_bits(function) ? chance(w, 2) : chance(w, 65536));
}

/* ---- requests by chance, and what the model says ---- */

static struct modbus_request draw(struct world *w)
{
	static const uint8_t functions[] = {1, 2, 3, 4, 5, 6, 15, 16, 22};
	struct modbus_request q = {.function = functions[chance(w, sizeof(functions))],
				   .address = (uint16_t)chance(w, CELLS),
				   .quantity = 1};

	switch (q.function) {
	case MODBUS_READ_COILS:
	case MODBUS_READ_DISCRETE_INPUTS:
	case MODBUS_WRITE_COILS:
		q.quantity = (uint16_t)(1 + chance(w, CELLS - q.address + CELLS / 8));
		break;
	case MODBUS_READ_HOLDING_REGISTERS:
	case MODBUS_READ_INPUT_REGISTERS:
	case MODBUS_WRITE_REGISTERS:
		q.quantity = (uint16_t)(1 + chance(w, 123));
		break;
	case MODBUS_MASK_WRITE_REGISTER:
		q.quantity = 0;
		q.and_mask = (uint16_t)chance(w, 65536);
		q.or_mask = (uint16_t)chance(w, 65536);
		break;
	default:
		break;
	}
	for (unsigned i = 0; i < q.quantity && i < ARRAY_LEN(q.values); i++)
		q.values[i] = (uint16_t)(q.function == 5 || q.function == 15 ? chance(w, 2)
									     : chance(w, 65536));
	return q;
}

/* ret: exception, or 0; the model is changed, values are what is read. */
static unsigned apply(const struct modbus_request *q, struct modbus_answer *a)
{
	unsigned n = q->function == MODBUS_MASK_WRITE_REGISTER ? 1 : q->quantity;
	uint16_t *coils = &model.cells[1][q->address], *words = &model.cells[3][q->address];

	a->quantity = 0;
	a->exception = q->address + n > CELLS ? MODBUS_ILLEGAL_DATA_ADDRESS : 0;
	if (a->exception != 0)
		return a->exception;
	switch (q->function) {
	case MODBUS_WRITE_COIL:
	case MODBUS_WRITE_COILS:
		memcpy(coils, q->values, n * sizeof(*coils));
		break;
	case MODBUS_WRITE_REGISTER:
	case MODBUS_WRITE_REGISTERS:
		memcpy(words, q->values, n * sizeof(*words));
		break;
	case MODBUS_MASK_WRITE_REGISTER:
		*words = (uint16_t)((*words & q->and_mask) | (q->or_mask & ~q->and_mask));
		break;
	default:
		a->quantity = q->quantity;
		memcpy(a->values, &model.cells[q->function][q->address], n * sizeof(a->values[0]));
		break;
	}
	return 0;
}

/* ---- the world ---- */

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (w == NULL || loop_new(&w->loop, NULL) < 0)
		return -1;
	w->masters[0] = w->masters[1] = -1;
	w->seed = 20240229;
	fill_model(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	modbus_client_free(w->c);
	stream_free(w->peer);
	stream_listener_free(w->listener);
	if (w->child > 0) {
		kill(w->child, SIGKILL);
		waitpid(w->child, NULL, 0);
	}
	closep(&w->masters[0]);
	closep(&w->masters[1]);
	loop_free(w->loop);
	json_decref(w->conf);
	free(w);
	return 0;
}

static void carry(struct world *w, unsigned from)
{
	uint8_t buf[1024];
	ssize_t n = read(w->masters[from], buf, sizeof(buf));

	if (n > 0)
		assert_int_equal(write(w->masters[1 - from], buf, (size_t)n), n);
}

static void on_first(void *arg, uint32_t events)
{
	(void)events;
	carry(arg, 0);
}

static void on_second(void *arg, uint32_t events)
{
	(void)events;
	carry(arg, 1);
}

/* Both ends stay open here, so that neither sees the other one hang up. */
static void make_line(struct world *w, int slaves[2])
{
	struct termios raw;

	memset(&raw, 0, sizeof(raw));
	cfmakeraw(&raw);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(openpty(&w->masters[i], &slaves[i], w->lines[i], &raw, NULL), 0);
		assert_int_equal(fcntl(w->masters[i], F_SETFL, O_NONBLOCK), 0);
		assert_int_equal(loop_add_fd(w->loop, w->masters[i], EPOLLIN,
					     i == 0 ? on_first : on_second, w, &w->bridges[i],
					     NULL),
				 0);
	}
}

/* ---- libmodbus in a process of its own ---- */

static modbus_t *their_context(const struct world *w, bool serial)
{
	modbus_t *m = serial ? modbus_new_rtu(w->lines[1], 115200, 'N', 8, 1)
			     : modbus_new_tcp("127.0.0.1", (int)w->port);

	if (m == NULL || modbus_set_slave(m, UNIT) < 0)
		_exit(3);
	modbus_set_response_timeout(m, 10, 0);
	modbus_set_byte_timeout(m, 5, 0);
	return m;
}

static void their_tables(modbus_mapping_t *t)
{
	for (unsigned i = 0; i < CELLS; i++) {
		t->tab_bits[i] = (uint8_t)model.cells[1][i];
		t->tab_input_bits[i] = (uint8_t)model.cells[2][i];
		t->tab_registers[i] = model.cells[3][i];
		t->tab_input_registers[i] = model.cells[4][i];
	}
}

static void serve(const struct world *w, bool serial, int ready_fd)
{
	modbus_t *m = their_context(w, serial);
	modbus_mapping_t *tables = modbus_mapping_new(CELLS, CELLS, CELLS, CELLS);
	uint8_t query[MODBUS_MAX_ADU_LENGTH];
	int listener = -1;

	if (tables == NULL)
		_exit(3);
	their_tables(tables);
	if (serial ? modbus_connect(m) < 0 : (listener = modbus_tcp_listen(m, 1)) < 0)
		_exit(4);
	if (write(ready_fd, "r", 1) != 1)
		_exit(5);
	if (!serial && modbus_tcp_accept(m, &listener) < 0)
		_exit(6);
	for (;;) {
		int n = modbus_receive(m, query);

		if (n < 0)
			_exit(0);
		if (n > 0 && modbus_reply(m, query, n, tables) < 0)
			_exit(0);
	}
}

static void start_server(struct world *w, bool serial)
{
	int ready[2];
	char r;

	assert_int_equal(pipe(ready), 0);
	w->child = fork();
	assert_true(w->child >= 0);
	if (w->child == 0)
		serve(w, serial, ready[1]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &r, 1), 1);
	close(ready[0]);
}

/* ---- our master, their server ---- */

static void on_state(void *arg, enum link_state state)
{
	struct world *w = arg;

	w->link = state;
}

static void on_done(void *arg, const struct modbus_result *r)
{
	struct world *w = arg;

	w->done = true;
	w->kind = r->kind != MODBUS_DONE ? NOTHING : r->answer->exception != 0 ? EXCEPTION : ANSWER;
	if (r->kind == MODBUS_DONE)
		w->answer = *r->answer;
}

static void connect_master(struct world *w, bool serial)
{
	static const struct modbus_client_handlers handlers = {on_state};
	char text[800], transport[200];

	if (serial)
		snprintf(transport, sizeof(transport),
			 "{\"type\": \"SERIAL\", \"port\": \"%s\", \"baudrate\": 115200, "
			 "\"silent_interval\": 0}",
			 w->lines[0]);
	else
		snprintf(transport, sizeof(transport),
			 "{\"type\": \"TCP\", \"host\": \"127.0.0.1\", \"port\": %u}", w->port);
	snprintf(text, sizeof(text),
		 "{\"modbus_type\": \"%s\", \"transport\": %s, \"connect_timeout\": 5, "
		 "\"connect_delay\": 0.1, \"request_timeout\": 2, \"request_delay\": 0, "
		 "\"request_retry_immediate_count\": 0, \"request_retry_delayed_count\": 0, "
		 "\"request_retry_delay\": 0}",
		 serial ? "RTU" : "TCP", transport);
	w->conf = json_loads(text, 0, NULL);
	assert_non_null(w->conf);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	UNTIL(w, w->link == LINK_CONNECTED);
}

static void our_master_agrees(struct world *w, bool serial, unsigned requests)
{
	static struct modbus_answer expected;
	struct modbus_client_stats s;

	start_server(w, serial);
	connect_master(w, serial);
	for (unsigned i = 0; i < requests; i++) {
		struct modbus_request q = draw(w);
		unsigned exception = apply(&q, &expected);

		w->done = false;
		assert_int_equal(modbus_client_request(w->c, UNIT, &q, on_done, w, NULL), 0);
		UNTIL(w, w->done);
		if (w->kind != (exception != 0 ? EXCEPTION : ANSWER) ||
		    w->answer.exception != exception)
			fail_msg("request %u, function %u at %u, %u: %d, exception %u", i,
				 q.function, q.address, q.quantity, (int)w->kind,
				 w->answer.exception);
		if (exception != 0)
			continue;
		assert_int_equal(w->answer.quantity, expected.quantity);
		assert_memory_equal(w->answer.values, expected.values,
				    expected.quantity * sizeof(expected.values[0]));
	}
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.answers, s.requests);
	assert_int_equal(s.retries, 0);
	assert_int_equal(s.discarded, 0);
}

static void our_master_agrees_with_their_tcp_server(void **state)
{
	struct world *w = *state;

	w->port = free_port();
	our_master_agrees(w, false, REQUESTS);
}

static void our_master_agrees_with_their_rtu_server(void **state)
{
	struct world *w = *state;
	int slaves[2];

	make_line(w, slaves);
	our_master_agrees(w, true, REQUESTS / 3);
	closep(&slaves[0]);
	closep(&slaves[1]);
}

/* ---- their master, our frames ---- */

static int their_request(modbus_t *m, const struct modbus_request *q, uint16_t *values)
{
	static uint8_t bits[MODBUS_READ_BITS_MAX];
	int n = q->quantity, rc;

	for (int i = 0; i < n; i++)
		bits[i] = (uint8_t)(q->values[i] != 0);
	switch (q->function) {
	case MODBUS_READ_COILS:
	case MODBUS_READ_DISCRETE_INPUTS:
		rc = q->function == MODBUS_READ_COILS
			     ? modbus_read_bits(m, q->address, n, bits)
			     : modbus_read_input_bits(m, q->address, n, bits);
		for (int i = 0; i < n && rc > 0; i++)
			values[i] = bits[i];
		return rc;
	case MODBUS_READ_HOLDING_REGISTERS:
		return modbus_read_registers(m, q->address, n, values);
	case MODBUS_READ_INPUT_REGISTERS:
		return modbus_read_input_registers(m, q->address, n, values);
	case MODBUS_WRITE_COIL:
		return modbus_write_bit(m, q->address, bits[0]);
	case MODBUS_WRITE_REGISTER:
		return modbus_write_register(m, q->address, q->values[0]);
	case MODBUS_WRITE_COILS:
		return modbus_write_bits(m, q->address, n, bits);
	case MODBUS_WRITE_REGISTERS:
		return modbus_write_registers(m, q->address, n, q->values);
	default:
		return modbus_mask_write_register(m, q->address, q->and_mask, q->or_mask);
	}
}

/* Exit status: 0, or what is wrong. */
static void ask_us(struct world *w, bool serial, unsigned requests)
{
	static struct modbus_answer expected;
	static uint16_t values[MODBUS_READ_BITS_MAX];
	modbus_t *m = their_context(w, serial);

	if (modbus_connect(m) < 0)
		_exit(4);
	for (unsigned i = 0; i < requests; i++) {
		struct modbus_request q = draw(w);
		unsigned exception = apply(&q, &expected);
		int rc = their_request(m, &q, values);

		if (exception != 0 && (rc >= 0 || errno != EMBXILADD))
			_exit(7);
		if (exception == 0 && rc < 0)
			_exit(8);
		if (exception == 0 &&
		    memcmp(values, expected.values, expected.quantity * sizeof(values[0])) != 0)
			_exit(9);
	}
	modbus_close(m);
	_exit(0);
}

static void on_bytes(void *arg, const uint8_t *bytes, size_t n)
{
	static struct modbus_request q;
	static struct modbus_answer a;
	struct world *w = arg;
	struct modbus_frame f;
	struct modbus_pdu p;
	uint8_t buf[MODBUS_FRAME_MAX];

	assert_int_equal(modbus_framer_push(&w->framer, bytes, n), n);
	while (modbus_framer_next(&w->framer, &f, NULL) == 1) {
		struct modbus_frame back = {.transaction = f.transaction, .unit = f.unit};

		assert_int_equal(f.unit, UNIT);
		assert_int_equal(modbus_request_parse(f.pdu, f.len, &q), 0);
		(void)apply(&q, &a);
		modbus_answer_encode(&q, &a, &p);
		back.pdu = p.bytes;
		back.len = p.len;
		n = modbus_frame_encode(w->framer.framing, &back, buf);
		assert_int_equal(stream_write(w->peer, buf, n, NULL), 0);
	}
}

static void on_close(void *arg, const char *why)
{
	struct world *w = arg;

	(void)why;
	w->done = true;
}

static const struct stream_handlers our_handlers = {.on_data = on_bytes, .on_close = on_close};

static void on_accept(void *arg, struct stream *s, const struct stream_address *local,
		      const struct stream_address *remote)
{
	struct world *w = arg;

	(void)local;
	(void)remote;
	w->peer = s;
	assert_int_equal(stream_start(s, &our_handlers, w, NULL), 0);
}

static bool child_is_over(struct world *w, int *status)
{
	if (waitpid(w->child, status, WNOHANG) != w->child)
		return false;
	w->child = 0;
	return true;
}

static void their_master_agrees(struct world *w, bool serial, unsigned requests)
{
	int status = 0;

	modbus_framer_init(&w->framer, serial ? MODBUS_RTU : MODBUS_TCP, true);
	w->child = fork();
	assert_true(w->child >= 0);
	if (w->child == 0)
		ask_us(w, serial, requests);
	UNTIL(w, child_is_over(w, &status));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("their master ended with %x", (unsigned)status);
	assert_int_equal(w->framer.garbage, 0);
}

static void their_tcp_master_agrees_with_our_answers(void **state)
{
	struct world *w = *state;

	w->port = free_port();
	assert_int_equal(
		stream_listen(w->loop, "127.0.0.1", w->port, on_accept, w, &w->listener, NULL), 0);
	their_master_agrees(w, false, REQUESTS);
}

static void their_rtu_master_agrees_with_our_answers(void **state)
{
	struct world *w = *state;
	int slaves[2];
	json_auto_t *block = NULL;

	make_line(w, slaves);
	block = json_pack("{s:s, s:i, s:f}", "port", w->lines[0], "baudrate", 115200,
			  "silent_interval", 0.0);
	assert_int_equal(stream_open_serial(w->loop, block, &our_handlers, w, &w->peer, NULL), 0);
	their_master_agrees(w, true, REQUESTS / 3);
	closep(&slaves[0]);
	closep(&slaves[1]);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(our_master_agrees_with_their_tcp_server),
		TEST(our_master_agrees_with_their_rtu_server),
		TEST(their_tcp_master_agrees_with_our_answers),
		TEST(their_rtu_master_agrees_with_our_answers),
	};
	return cmocka_run_group_tests_name("modbus_peer", tests, NULL, NULL);
}
