/* test_modbus_client.c - what a Modbus master's connection makes of requests: their order, retries,
 * limits in time. */
#include "tests/agent/modbus_client_bench.h"

/* ---- requests ---- */

static void every_framing_goes_over_every_transport(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		begin(w, ways[i].framing, ways[i].serial, "{}");
		ask_and_hear(w, 5);
		say(w, "01 03 02 004D");
		results(w, "1=77");
		ask_write(w, 5, 77);
		hear(w, "01 06 0005 004D");
		say(w, "01 06 0005 004D");
		results(w, "1=77 2=OK");
		drop(w);
	}
}

/* Nr. 1 */
static void answers_may_come_byte_by_byte(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		uint8_t answer[700];

		begin(w, ways[i].framing, ways[i].serial, "{}");
		const struct modbus_request q = {
			.function = MODBUS_READ_INPUT_REGISTERS, .address = 9, .quantity = 3};
		ask(w, UNIT, &q);
		hear(w, "01 04 0009 0003");
		size_t n = frame_of(w, "01 04 06 0001 0203 FFFE", answer);
		for (size_t at = 0; at < n; at++) {
			assert_string_equal(w->results, "");
			say_bytes(w, answer + at, 1);
			turns(w, 2);
		}
		results(w, "1=1,515,65534");
		drop(w);
	}
}

static void requests_go_out_one_at_a_time_in_their_order(void **state)
{
	struct world *w = *state;
	char body[32];

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 5; i++)
		ask_word(w, (uint16_t)i);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(body, sizeof(body), "01 03 %04X 0001", i);
		hear(w, body);
		turns(w, 3);
		assert_int_equal(read_more(w), 0);
		say(w, "01 03 02 0007");
	}
	results(w, "1=7 2=7 3=7 4=7 5=7");
}

static void requests_that_cannot_be_are_refused(void **state)
{
	struct world *w = *state;
	struct modbus_request q = {.function = MODBUS_READ_COILS, .quantity = 2001};

	begin(w, "TCP", false, "{}");
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_RANGE);
	q.function = 7;
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_INVAL);
	closep(&w->fd);
	UNTIL(w, w->link != LINK_CONNECTED);
	q = (struct modbus_request){.function = MODBUS_READ_COILS, .quantity = 1};
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_PEER);
	turns(w, 5);
	assert_string_equal(w->results, "");
}

static void no_more_than_1024_wait(void **state)
{
	struct world *w = *state;
	const struct modbus_request q = {.function = MODBUS_READ_COILS, .quantity = 1};
	struct modbus_client_stats s;

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < CALLS_MAX + 1; i++) /* one is on the wire */
		ask(w, UNIT, &q);
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_LIMIT);
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.waiting, CALLS_MAX);
	hear(w, "01 01 0000 0001");
	say(w, "01 01 01 01");
	results(w, "1=1");
	ask(w, UNIT, &q);
	/* all of them are told that the connection is lost, in their order */
	closep(&w->fd);
	UNTIL(w, strstr(w->states, "D") != NULL);
	assert_memory_equal(w->results, "1=1 2=LOST 3=LOST ", 18);
	assert_non_null(strstr(w->results, " 1025=LOST 1026=LOST"));
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.waiting, 0);
}

static void a_forgotten_request_is_not_told(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 4; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	modbus_client_forget(w->c, &w->askers[1]); /* on the wire */
	modbus_client_forget(w->c, &w->askers[3]);
	say(w, "01 03 02 0001");
	hear(w, "01 03 0001 0001");
	say(w, "01 03 02 0002");
	hear(w, "01 03 0003 0001");
	say(w, "01 03 02 0004");
	results(w, "2=2 4=4");
}

static void the_pause_between_answer_and_request_is_kept(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{\"request_delay\": 0.06}");
	ask_word(w, 0);
	ask_word(w, 1);
	hear(w, "01 03 0000 0001");
	int64_t from_ms = now_ms();
	say(w, "01 03 02 0001");
	hear(w, "01 03 0001 0001");
	assert_true(now_ms() - from_ms >= 60);
	say(w, "01 03 02 0002");
	results(w, "1=1 2=2");
}

static void attempts_are_immediate_times_delayed(void **state)
{
	struct world *w = *state;
	struct modbus_client_stats s;

	begin(w, "TCP", false,
	      "{\"request_timeout\": 0.02, \"request_retry_immediate_count\": 1, "
	      "\"request_retry_delayed_count\": 2, \"request_retry_delay\": 0.05}");
	ask_and_hear(w, 0);
	ask_word(w, 1); /* goes when the first waits for its delayed retry */
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0001 0001");
	say(w, "01 03 02 0008");
	int64_t from_ms = now_ms();
	hear(w, "01 03 0000 0001");
	assert_true(now_ms() - from_ms >= 20);
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0000 0001");
	results(w, "2=8 1=TIMEOUT");
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.requests, 7);
	assert_int_equal(s.retries, 5);
	assert_int_equal(s.timeouts, 1);
	assert_int_equal(s.answers, 1);
	assert_string_equal(w->states, "CU"); /* a timeout ends no connection */
}

static void a_delayed_retry_goes_to_the_end_of_the_queue(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false,
	      "{\"request_timeout\": 0.1, \"request_retry_delayed_count\": 1, "
	      "\"request_retry_delay\": 0}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0001 0001"); /* the first had no answer */
	say(w, "01 03 02 0001");
	hear(w, "01 03 0002 0001");
	say(w, "01 03 02 0002");
	hear(w, "01 03 0000 0001");
	say(w, "01 03 02 0003");
	results(w, "2=1 3=2 1=3");
}

/* A limit of 0 is a millisecond: a silent peer is no busy loop. */
static void no_time_for_an_answer_is_a_millisecond(void **state)
{
	struct world *w = *state;
	struct modbus_client_stats s;
	int64_t from_ms = now_ms();

	begin(w, "TCP", false, "{\"request_timeout\": 0, \"request_retry_immediate_count\": 1000}");
	ask_word(w, 0);
	for (unsigned i = 0; i < 200; i++)
		loop_turn(w->loop, 5);
	modbus_client_get_stats(w->c, &s);
	assert_in_range(s.requests, 1, now_ms() - from_ms + 1);
}

/* ---- time ---- */

static void an_answer_that_waits_in_the_kernel_is_in_time(void **state)
{
	struct world *w = *state;
	const struct timespec stall = {.tv_nsec = 150000000};

	begin(w, "TCP", false, "{\"request_timeout\": 0.1}");
	ask_and_hear(w, 5);
	say(w, "01 03 02 004D");
	nanosleep(&stall, NULL); /* the loop is held up */
	results(w, "1=77");
}

static void a_peer_that_never_stops_holds_no_request(void **state)
{
	struct world *w = *state;
	int64_t end_ms = now_ms() + PATIENCE_MS;

	begin(w, "RTU", false, "{\"request_timeout\": 0.1}");
	ask_and_hear(w, 5);
	while (w->results[0] == '\0' && now_ms() < end_ms) {
		(void)!write(w->fd, "\x55\xaa\x01\x03", 4);
		loop_turn(w->loop, 0);
	}
	assert_string_equal(w->results, "1=TIMEOUT");
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(every_framing_goes_over_every_transport),
		TEST(answers_may_come_byte_by_byte),
		TEST(requests_go_out_one_at_a_time_in_their_order),
		TEST(requests_that_cannot_be_are_refused),
		TEST(no_more_than_1024_wait),
		TEST(a_forgotten_request_is_not_told),
		TEST(the_pause_between_answer_and_request_is_kept),
		TEST(attempts_are_immediate_times_delayed),
		TEST(a_delayed_retry_goes_to_the_end_of_the_queue),
		TEST(no_time_for_an_answer_is_a_millisecond),
		TEST(an_answer_that_waits_in_the_kernel_is_in_time),
		TEST(a_peer_that_never_stops_holds_no_request),
	};
	return cmocka_run_group_tests_name("modbus_client", tests, NULL, NULL);
}
