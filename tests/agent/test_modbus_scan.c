/* Scans of a peer whose units and tables the test chooses. */
#include "agent/device/modbus/scan.h"
#include "agent/device/stream.h"
#include "common/util.h"
#include "tests/common/free_port.h"
#include "tests/common/until.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct span {
	unsigned first, last;
};

/* What the peer lets read; MODBUS_ILLEGAL_FUNCTION for a table that has none. */
struct unit {
	unsigned unit;
	struct span spans[5]
			 [4]; /* of the functions 1 to 4; ends with {0, 0}: so no span is 0 to 0 */
	unsigned most;        /* registers at once; 0: all that the standard allows */
};

struct world {
	struct loop *loop;
	struct stream_listener *listener;
	struct stream *peer;
	struct modbus_framer framer;
	unsigned port;
	const struct unit *units;
	size_t n_units;
	unsigned busy;       /* answers that say so first */
	bool gateway;        /* answers for units that are not there */
	unsigned hang_up_at; /* unit at whose request it closes; 0: none */
	unsigned requests, accepts;
	unsigned most_asked; /* registers in one request */
	json_t *conf;
	struct modbus_scan *scan;
	char found[2000];
	char why[100];
	unsigned dones, progresses;
	uint64_t last_done, last_total;
	bool free_at_range;
	enum link_state link; /* as was told last */
};

/* ---- the peer ---- */

static const struct unit *find_unit(const struct world *w, unsigned unit)
{
	for (size_t i = 0; i < w->n_units; i++)
		if (w->units[i].unit == unit)
			return &w->units[i];
	return NULL;
}

static uint8_t exception_of(struct world *w, const struct unit *u, const struct modbus_request *q)
{
	const struct span *s = u->spans[q->function];

	if (w->busy > 0) {
		w->busy--;
		return MODBUS_SERVER_BUSY;
	}
	if (s->last == 0)
		return MODBUS_ILLEGAL_FUNCTION;
	if (u->most > 0 && q->quantity > u->most)
		return MODBUS_ILLEGAL_DATA_VALUE;
	for (; s->last > 0; s++)
		if (q->address >= s->first && q->address + q->quantity - 1U <= s->last)
			return 0;
	return MODBUS_ILLEGAL_DATA_ADDRESS;
}

static void answer(struct world *w, const struct modbus_frame *f)
{
	static struct modbus_request q;
	static struct modbus_answer a;
	struct modbus_frame back = {.transaction = f->transaction, .unit = f->unit};
	struct modbus_pdu p;
	uint8_t buf[MODBUS_FRAME_MAX];
	const struct unit *u = find_unit(w, f->unit);

	assert_int_equal(modbus_request_parse(f->pdu, f->len, &q), 0);
	w->requests++;
	if (q.function >= MODBUS_READ_HOLDING_REGISTERS && q.quantity > w->most_asked)
		w->most_asked = q.quantity;
	if (u == NULL && !w->gateway)
		return;
	a.exception = u != NULL ? exception_of(w, u, &q) : MODBUS_GATEWAY_TARGET_FAILED;
	a.quantity = q.quantity;
	modbus_answer_encode(&q, &a, &p);
	back.pdu = p.bytes;
	back.len = p.len;
	assert_int_equal(
		stream_write(w->peer, buf, modbus_frame_encode(MODBUS_TCP, &back, buf), NULL), 0);
}

static void on_peer_data(void *arg, const uint8_t *bytes, size_t n)
{
	struct world *w = arg;
	struct modbus_frame f;

	assert_int_equal(modbus_framer_push(&w->framer, bytes, n), n);
	while (modbus_framer_next(&w->framer, &f, NULL) == 1) {
		if (w->hang_up_at == f.unit && f.unit > 0) {
			w->peer = stream_free(w->peer);
			return;
		}
		answer(w, &f);
	}
}

static void on_peer_close(void *arg, const char *why)
{
	struct world *w = arg;

	(void)why;
	w->peer = stream_free(w->peer);
}

static void on_accept(void *arg, struct stream *s, const struct stream_address *local,
		      const struct stream_address *remote)
{
	static const struct stream_handlers handlers = {.on_data = on_peer_data,
							.on_close = on_peer_close};
	struct world *w = arg;

	(void)local;
	(void)remote;
	stream_free(w->peer);
	w->peer = s;
	w->accepts++;
	modbus_framer_init(&w->framer, MODBUS_TCP, true);
	assert_int_equal(stream_start(s, &handlers, w, NULL), 0);
}

/* ---- what the scan tells ---- */

static void on_unit(void *arg, unsigned unit)
{
	struct world *w = arg;
	sprintf(w->found + strlen(w->found), "%u; ", unit);
}

static void on_range(void *arg, unsigned unit, uint8_t function, unsigned first, unsigned last)
{
	struct world *w = arg;

	sprintf(w->found + strlen(w->found), "%u/%u %u-%u; ", unit, function, first, last);
	if (w->free_at_range)
		w->scan = modbus_scan_free(w->scan);
}

static void on_progress(void *arg, bool units, uint64_t done, uint64_t total)
{
	struct world *w = arg;

	(void)units;
	assert_true(done <= total);
	w->progresses++;
	w->last_done = done;
	w->last_total = total;
}

static void on_done(void *arg, const char *why)
{
	struct world *w = arg;

	w->dones++;
	snprintf(w->why, sizeof(w->why), "%s", why != NULL ? why : "");
}

static const struct modbus_scan_events events = {on_unit, on_range, on_progress, on_done};

/* ---- the world ---- */

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char text[400];

	if (w == NULL || loop_new(&w->loop, NULL) < 0)
		return -1;
	w->port = free_port();
	snprintf(text, sizeof(text),
		 "{\"modbus_type\": \"TCP\", \"transport\": {\"type\": \"TCP\", \"host\": "
		 "\"127.0.0.1\", \"port\": %u}, \"connect_timeout\": 5, \"connect_delay\": 0.1, "
		 "\"request_timeout\": 5, \"request_delay\": 0, "
		 "\"request_retry_immediate_count\": 0, \"request_retry_delayed_count\": 0, "
		 "\"request_retry_delay\": 0}",
		 w->port);
	w->conf = json_loads(text, 0, NULL);
	*state = w;
	return w->conf != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	modbus_scan_free(w->scan);
	stream_free(w->peer);
	stream_listener_free(w->listener);
	loop_free(w->loop);
	json_decref(w->conf);
	free(w);
	return 0;
}

static void peer_is_there(struct world *w)
{
	assert_int_equal(
		stream_listen(w->loop, "127.0.0.1", w->port, on_accept, w, &w->listener, NULL), 0);
}

static void wait_for_answers(struct world *w, double seconds)
{
	json_object_set_new(w->conf, "request_timeout", json_real(seconds));
}

static void scan(struct world *w, unsigned first_unit, unsigned last_unit, unsigned tables,
		 unsigned last_address)
{
	const struct modbus_scan_conf conf = {.connection = w->conf,
					      .first_unit = first_unit,
					      .last_unit = last_unit,
					      .tables = tables,
					      .last_address = last_address};

	assert_int_equal(modbus_scan_new(w->loop, &conf, &events, w, &w->scan, NULL), 0);
}

#define HOLDING (1U << MODBUS_READ_HOLDING_REGISTERS)
#define INPUT   (1U << MODBUS_READ_INPUT_REGISTERS)
#define COILS   (1U << MODBUS_READ_COILS)
#define BITS    (1U << MODBUS_READ_DISCRETE_INPUTS)

static void units_that_answer_are_found(void **state)
{
	static const struct unit units[] = {{.unit = 3, .spans = {[3] = {{0, 9}}}}, {.unit = 7}};
	struct world *w = *state;

	w->units = units;
	w->n_units = ARRAY_LEN(units);
	wait_for_answers(w, 0.3);
	peer_is_there(w);
	scan(w, 1, 8, 0, 65535);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->found, "3; 7; "); /* the second by an exception */
	assert_string_equal(w->why, "");
	assert_int_equal(w->requests, 8);
	assert_int_equal(w->last_done, 8);
	assert_int_equal(w->last_total, 8);
	/* and a gateway's answer is none of the unit */
	w->scan = modbus_scan_free(w->scan);
	w->gateway = true;
	w->found[0] = '\0';
	scan(w, 0, 255, 0, 65535);
	UNTIL(w, w->dones == 2);
	assert_string_equal(w->found, "3; 7; ");
}

static void ranges_are_found_to_the_address(void **state)
{
	static const struct unit units[] = {
		{.unit = 1,
		 .spans = {[1] = {{0, 4999}},
			   [3] = {{10, 10}, {100, 350}, {998, 999}},
			   [4] = {{0, 124}, {126, 1000}}}},
		{.unit = 2, .spans = {[2] = {{77, 78}}, [3] = {{0, 999}}}, .most = 20},
	};
	struct world *w = *state;

	w->units = units;
	w->n_units = ARRAY_LEN(units);
	w->gateway = true;
	peer_is_there(w);
	scan(w, 1, 3, HOLDING | INPUT | COILS | BITS, 999);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->found,
			    "1; 2; 1/1 0-999; 1/3 10-10; 1/3 100-350; 1/3 998-999; 1/4 0-124; "
			    "1/4 126-999; 2/2 77-78; 2/3 0-999; ");
	assert_int_equal(w->last_done, 8000);
	assert_int_equal(w->last_total, 8000);
	assert_int_equal(w->most_asked, MODBUS_READ_WORDS_MAX);
}

static void a_readable_table_needs_the_least_requests(void **state)
{
	static const struct unit units[] = {{.unit = 1, .spans = {[3] = {{0, 65535}}}}};
	struct world *w = *state;

	w->units = units;
	w->n_units = 1;
	peer_is_there(w);
	scan(w, 1, 1, HOLDING, 65535);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->found, "1; 1/3 0-65535; ");
	assert_int_equal(w->requests, 1 + (65536 + 124) / 125);
}

static void a_busy_device_is_asked_again(void **state)
{
	static const struct unit units[] = {{.unit = 1, .spans = {[3] = {{0, 99}}}}};
	struct world *w = *state;

	w->units = units;
	w->n_units = 1;
	w->busy = 3; /* the first is the answer of the unit */
	peer_is_there(w);
	scan(w, 1, 1, HOLDING, 99);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->found, "1; 1/3 0-99; ");
	assert_int_equal(w->requests, 4);
}

static void a_device_that_hangs_up_lets_the_scan_go_on(void **state)
{
	static const struct unit units[] = {{.unit = 1, .spans = {[3] = {{0, 9}}}},
					    {.unit = 3, .spans = {[3] = {{0, 9}}}}};
	struct world *w = *state;

	w->units = units;
	w->n_units = 2;
	w->hang_up_at = 2;
	peer_is_there(w);
	scan(w, 1, 3, HOLDING, 9);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->found, "1; 3; 1/3 0-9; 3/3 0-9; ");
	assert_int_equal(w->accepts, 2);
}

static void without_a_peer_the_scan_ends(void **state)
{
	struct world *w = *state;

	scan(w, 1, 8, 0, 65535);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->why, "connecting: Connection refused");
	assert_string_equal(w->found, "");
	for (unsigned i = 0; i < 20; i++)
		loop_turn(w->loop, 10);
	assert_int_equal(w->dones, 1);
}

static void a_pause_is_kept_between_requests(void **state)
{
	static const struct unit units[] = {{.unit = 1, .spans = {[3] = {{0, 499}}}}};
	struct world *w = *state;
	const struct modbus_scan_conf conf = {.connection = w->conf,
					      .first_unit = 1,
					      .last_unit = 1,
					      .tables = HOLDING,
					      .last_address = 499,
					      .pause_ms = 20};

	w->units = units;
	w->n_units = 1;
	peer_is_there(w);
	int64_t from_ms = now_ms();
	assert_int_equal(modbus_scan_new(w->loop, &conf, &events, w, &w->scan, NULL), 0);
	UNTIL(w, w->dones == 1);
	assert_int_equal(w->requests, 5);
	assert_true(now_ms() - from_ms >= 5 * 20);
}

static void a_scan_can_be_given_up(void **state)
{
	static const struct unit units[] = {{.unit = 1, .spans = {[3] = {{10, 19}, {30, 39}}}}};
	struct world *w = *state;

	w->units = units;
	w->n_units = 1;
	peer_is_there(w);
	scan(w, 1, 1, HOLDING, 65535);
	UNTIL(w, w->requests == 3);
	w->scan = modbus_scan_free(w->scan);
	w->free_at_range = true;
	scan(w, 1, 1, HOLDING, 65535);
	UNTIL(w, w->scan == NULL);
	unsigned requests = w->requests;
	for (unsigned i = 0; i < 20; i++)
		loop_turn(w->loop, 1);
	assert_int_equal(w->requests, requests);
	assert_int_equal(w->dones, 0);
}

static void on_state(void *arg, enum link_state state)
{
	struct world *w = arg;

	w->link = state;
}

static void a_connection_that_is_there_can_be_used(void **state)
{
	static const struct modbus_client_handlers handlers = {on_state};
	static const struct unit units[] = {{.unit = 1, .spans = {[4] = {{5, 6}}}}};
	struct world *w = *state;
	struct modbus_client *c = NULL;

	wait_for_answers(w, 0.5);
	w->units = units;
	w->n_units = 1;
	peer_is_there(w);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &c, NULL), 0);
	UNTIL(w, w->link == LINK_CONNECTED);
	const struct modbus_scan_conf conf = {
		.client = c, .first_unit = 1, .last_unit = 2, .tables = INPUT, .last_address = 20};
	assert_int_equal(modbus_scan_new(w->loop, &conf, &events, w, &w->scan, NULL), 0);
	UNTIL(w, w->dones == 1);
	assert_string_equal(w->found, "1; 1/4 5-6; ");
	assert_int_equal(w->accepts, 1);
	w->scan = modbus_scan_free(w->scan);
	/* it goes away: that is the end */
	assert_int_equal(modbus_scan_new(w->loop, &conf, &events, w, &w->scan, NULL), 0);
	w->listener = stream_listener_free(w->listener);
	w->peer = stream_free(w->peer);
	UNTIL(w, w->dones == 2);
	assert_string_not_equal(w->why, "");
	w->scan = modbus_scan_free(w->scan);
	modbus_client_free(c);
}

static void nonsense_is_refused(void **state)
{
	struct world *w = *state;
	const struct modbus_scan_conf confs[] = {
		{.connection = w->conf, .first_unit = 2, .last_unit = 1},
		{.connection = w->conf, .last_unit = 256},
		{.connection = w->conf, .first_address = 2, .last_address = 1},
		{.connection = w->conf, .last_address = 65536},
		{.connection = w->conf, .tables = 1U << MODBUS_WRITE_COIL},
		{.connection = w->conf, .tables = 1},
	};

	for (size_t i = 0; i < ARRAY_LEN(confs); i++)
		assert_int_equal(modbus_scan_new(w->loop, &confs[i], &events, w, &w->scan, NULL),
				 ERR_INVAL);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(units_that_answer_are_found),
		TEST(ranges_are_found_to_the_address),
		TEST(a_readable_table_needs_the_least_requests),
		TEST(a_busy_device_is_asked_again),
		TEST(a_device_that_hangs_up_lets_the_scan_go_on),
		TEST(without_a_peer_the_scan_ends),
		TEST(a_pause_is_kept_between_requests),
		TEST(a_scan_can_be_given_up),
		TEST(a_connection_that_is_there_can_be_used),
		TEST(nonsense_is_refused),
	};
	return cmocka_run_group_tests_name("modbus_scan", tests, NULL, NULL);
}
