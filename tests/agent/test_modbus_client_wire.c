/* test_modbus_client_wire.c - which bytes are an answer to a Modbus master's request, and which are
 * not: late, foreign, stale, broken, an echo. */
#include "tests/agent/modbus_client_bench.h"

/* ---- nr. 11: Modbus TCP ---- */

static void answers_of_others_are_passed_over(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	ask_and_hear(w, 5);
	say_raw(w, "0000 0000 0005 01 03 02 0001"); /* an old transaction */
	say_raw(w, "0001 0000 0005 02 03 02 0002"); /* another unit */
	say_raw(w, "0001 0000 0005 01 04 02 0003"); /* another function */
	say_raw(w, "0001 0000 0003 01 84 02");
	say_raw(w, "0001 0000 0005 01 03 02 0004");
	results(w, "1=4");
	assert_int_equal(discarded(w), 4);
	assert_string_equal(w->states, "CU");
}

static void every_exception_is_an_answer(void **state)
{
	static const unsigned codes[] = {1, 2, 3, 4, 5, 6, 8, 10, 11, 200};
	struct world *w = *state;
	char expected[200] = "", body[32];

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
		ask_and_hear(w, 5);
		snprintf(body, sizeof(body), "01 83 %02X", codes[i]);
		say(w, body);
		size_t len = strlen(expected);
		snprintf(expected + len, sizeof(expected) - len, "%s%u=E%u", i > 0 ? " " : "",
			 i + 1, codes[i]);
		results(w, expected);
	}
	assert_string_equal(w->states, "CU");
}

static void what_is_no_modbus_ends_the_connection(void **state)
{
	static const char *const answers[] = {
		"0001 0001 0005 01 03 02 004D", /* protocol id */
		"0001 0000 0000 01 03 02 004D", /* length 0, 1, 65535 */
		"0001 0000 0001 01 03 02 004D",
		"0001 0000 FFFF 01 03 02 004D",
		"0001 0000 0007 01 03 04 004D 0000", /* not as many as were asked for */
		"0001 0000 0005 01 03 04 004D",
		"0001 0000 0004 01 03 02 00",
		"0001 0000 0002 01 83",
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		begin(w, "TCP", false, "{}");
		ask_word(w, 5);
		ask_word(w, 6);
		hear(w, "01 03 0005 0001");
		say_raw(w, answers[i]);
		results(w, "1=LOST 2=LOST");
		UNTIL(w, strlen(w->states) >= 3);
		assert_memory_equal(w->states, "CUD", 3);
		closep(&w->fd);
		UNTIL(w, accepted(w));
		UNTIL(w, strcmp(w->states, "CUDCU") == 0);
		drop(w);
	}
}

static void a_write_is_answered_by_its_echo_alone(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	ask_write(w, 5, 77);
	hear(w, "01 06 0005 004D");
	say(w, "01 06 0005 004E");
	results(w, "1=LOST");
	drop(w);
	begin(w, "RTU", true, "{\"request_timeout\": 0.15}");
	ask_word(w, 0); /* so that it is known that nothing is echoed */
	hear(w, "01 03 0000 0001");
	say(w, "01 03 02 0001");
	results(w, "1=1");
	ask_write(w, 5, 77);
	hear(w, "01 06 0005 004D");
	say(w, "01 06 0005 004E");
	results(w, "1=1 2=TIMEOUT");
}

static void half_an_answer_is_none(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	ask_and_hear(w, 5);
	say_raw(w, "0001 0000 0005 01 03");
	turns(w, 3);
	closep(&w->fd);
	results(w, "1=LOST");
}

static void a_late_answer_is_not_the_next_ones(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{\"request_timeout\": 0.1}");
	ask_and_hear(w, 5);
	say_raw(w, "0001 0000 0005"); /* and the rest when it is over */
	results(w, "1=TIMEOUT");
	ask_and_hear(w, 6);
	say_raw(w, "01 03 02 0055");
	say(w, "01 03 02 0066");
	results(w, "1=TIMEOUT 2=102");
	assert_int_equal(discarded(w), 1);
}

/* RTU and ASCII have no transaction ids. */
static void a_late_answer_on_a_line_is_waited_for(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (strcmp(ways[i].framing, "TCP") == 0)
			continue;
		begin(w, ways[i].framing, ways[i].serial, "{\"request_timeout\": 0.5}");
		ask_word(w, 5);
		ask_word(w, 6);
		hear(w, "01 03 0005 0001");
		results(w, "1=TIMEOUT");
		turns(w, 3);
		assert_int_equal(read_more(w), 0); /* an answer to this would look just the same */
		say(w, "01 03 02 0055");
		hear(w, "01 03 0006 0001");
		say(w, "01 03 02 0066");
		results(w, "1=TIMEOUT 2=102");
		drop(w);
	}
}

static void the_answers_to_all_attempts_are_waited_for(void **state)
{
	struct world *w = *state;

	begin(w, "RTU", true, "{\"request_timeout\": 0.5, \"request_retry_immediate_count\": 1}");
	ask_word(w, 5);
	ask_word(w, 6);
	hear(w, "01 03 0005 0001");
	hear(w, "01 03 0005 0001");
	say(w, "01 03 02 0055"); /* to the first attempt */
	results(w, "1=85");
	turns(w, 3);
	assert_int_equal(read_more(w), 0);
	say(w, "01 03 02 0056"); /* to the second one */
	hear(w, "01 03 0006 0001");
	say(w, "01 03 02 0066");
	results(w, "1=85 2=102");
}

static void requests_that_no_late_answer_fits_need_not_wait(void **state)
{
	struct world *w = *state;
	const struct modbus_request two = {
		.function = MODBUS_READ_HOLDING_REGISTERS, .address = 5, .quantity = 2};
	const struct modbus_request other = {
		.function = MODBUS_READ_HOLDING_REGISTERS, .address = 5, .quantity = 1};

	begin(w, "RTU", true, "{\"request_timeout\": 0.5}");
	ask_and_hear(w, 5);
	results(w, "1=TIMEOUT");
	ask(w, 2, &other);
	hear(w, "02 03 0005 0001");
	say(w, "02 03 02 0007");
	ask(w, UNIT, &two);
	hear(w, "01 03 0005 0002");
	say(w, "01 03 02 0055"); /* the late one is too short for this */
	say(w, "01 03 04 0001 0002");
	results(w, "1=TIMEOUT 2=7 3=1,2");
}

/* ---- nr. 12: RTU and ASCII ---- */

static void stale_input_is_thrown_away(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (strcmp(ways[i].framing, "TCP") == 0)
			continue;
		begin(w, ways[i].framing, ways[i].serial, "{}");
		say(w, "01 03 02 0001");
		ask_and_hear(w, 5);
		say(w, "01 03 02 0002");
		results(w, "1=2");
		drop(w);
	}
}

static void a_broken_frame_is_no_answer(void **state)
{
	static const struct {
		const char *framing, *broken, *text;
	} cases[] = {
		{"RTU", "01 03 02 004D 7872", NULL}, /* CRC */
		{"RTU", "55 AA", NULL},
		{"RTU", "01 03 04 004D 0000 0000", NULL},
		{"ASCII", NULL, ":010302004DAE\r\n"}, /* LRC */
		{"ASCII", NULL, ":010302004DA\r\n"},  /* odd digits */
		{"ASCII", NULL, ":010302004DAD\n"},   /* no CR */
		{"ASCII", NULL, ":010302004"},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin(w, cases[i].framing, true, "{\"request_retry_immediate_count\": 1}");
		ask_and_hear(w, 5);
		/* and the right one behind it, at once */
		if (cases[i].text != NULL)
			say_text(w, cases[i].text);
		else
			say_raw(w, cases[i].broken);
		say(w, "01 03 02 004D");
		results(w, "1=77");
		drop(w);
		/* alone, it is no response: the next attempt follows */
		begin(w, cases[i].framing, true,
		      "{\"request_timeout\": 0.1, \"request_retry_immediate_count\": 1}");
		ask_and_hear(w, 5);
		if (cases[i].text != NULL)
			say_text(w, cases[i].text);
		else
			say_raw(w, cases[i].broken);
		hear(w, "01 03 0005 0001");
		say(w, "01 03 02 004D");
		results(w, "1=77");
		assert_string_equal(w->states, "CU");
		drop(w);
	}
}

static void ascii_in_lower_case_and_begun_anew_is_understood(void **state)
{
	static const char *const answers[] = {":010302004dad\r\n", ":0103:010302004DAD\r\n",
					      "noise:010302004DAD\r\n"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		begin(w, "ASCII", true, "{}");
		ask_and_hear(w, 5);
		say_text(w, answers[i]);
		results(w, "1=77");
		drop(w);
	}
}

static void a_frame_split_by_silence_is_no_answer(void **state)
{
	struct world *w = *state;
	unsigned before;

	begin(w, "RTU", true, "{\"request_retry_immediate_count\": 1, \"request_timeout\": 1}");
	ask_and_hear(w, 5);
	before = discarded(w);
	say_raw(w, "01 03 02 00");
	UNTIL(w, discarded(w) == before + 1);
	say_raw(w, "4D 7871");
	turns(w, 3);
	assert_string_equal(w->results, "");
	/* what comes behind is fine */
	UNTIL(w, discarded(w) == before + 2);
	say(w, "01 03 02 004D");
	results(w, "1=77");
}

static void an_adapters_echo_is_no_answer(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (!ways[i].serial && strcmp(ways[i].framing, "TCP") == 0)
			continue;
		begin(w, ways[i].framing, ways[i].serial, "{\"request_timeout\": 1}");
		ask_word(w, 5);
		hear_echoing(w, "01 03 0005 0001");
		say(w, "01 03 02 004D");
		results(w, "1=77");
		/* a write that is only echoed was not answered; one that is refused was */
		ask_write(w, 5, 77);
		hear_echoing(w, "01 06 0005 004D");
		turns(w, 5);
		assert_string_equal(w->results, "1=77");
		say(w, "01 06 0005 004D");
		results(w, "1=77 2=OK");
		ask_write(w, 5, 78);
		hear_echoing(w, "01 06 0005 004E");
		say(w, "01 86 04");
		results(w, "1=77 2=OK 3=E4");
		ask_write(w, 5, 79);
		hear_echoing(w, "01 06 0005 004F");
		results(w, "1=77 2=OK 3=E4 4=TIMEOUT");
		drop(w);
	}
}

/* The first request is a write, whose echo looks like its answer: a read of the same place goes
 * first. */
static void a_write_waits_until_it_is_known_whether_there_is_an_echo(void **state)
{
	const struct modbus_request coil = {
		.function = MODBUS_WRITE_COIL, .address = 9, .quantity = 1, .values = {1}};
	struct world *w = *state;

	begin(w, "RTU", true, "{\"request_timeout\": 0.2}");
	ask_write(w, 5, 77);
	hear_echoing(w, "01 03 0005 0001");
	say(w, "01 03 02 0001");
	hear_echoing(w, "01 06 0005 004D");
	say(w, "01 86 02");
	results(w, "1=E2");
	ask_write(w, 5, 78);
	hear_echoing(w, "01 06 0005 004E");
	results(w, "1=E2 2=TIMEOUT");
	drop(w);
	/* no echo; an exception tells as well */
	begin(w, "ASCII", true, "{}");
	ask(w, UNIT, &coil);
	hear(w, "01 01 0009 0001");
	say(w, "01 81 01");
	hear(w, "01 05 0009 FF00");
	say(w, "01 05 0009 FF00");
	results(w, "1=OK");
	ask_write(w, 5, 78);
	hear(w, "01 06 0005 004E");
	say(w, "01 06 0005 004E");
	results(w, "1=OK 2=OK");
	drop(w);
	/* an echo, and a device that is not there */
	begin(w, "RTU", true, "{\"request_timeout\": 0.1}");
	ask_write(w, 5, 77);
	hear_echoing(w, "01 03 0005 0001");
	hear_echoing(w, "01 06 0005 004D");
	results(w, "1=TIMEOUT");
	drop(w);
	/* no word at all on the read: what looks like an answer to the write is one if nothing else
	 * comes */
	begin(w, "RTU", true, "{\"request_timeout\": 0.15}");
	ask_write(w, 5, 77);
	ask_write(w, 5, 78);
	hear(w, "01 03 0005 0001");
	hear(w, "01 06 0005 004D");
	say(w, "01 06 0005 004D");
	turns(w, 3);
	assert_string_equal(w->results, "");
	results(w, "1=OK");
	hear(w, "01 06 0005 004E");
	say(w, "01 06 0005 004E");
	results(w, "1=OK 2=OK");
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(answers_of_others_are_passed_over),
		TEST(every_exception_is_an_answer),
		TEST(what_is_no_modbus_ends_the_connection),
		TEST(a_write_is_answered_by_its_echo_alone),
		TEST(half_an_answer_is_none),
		TEST(a_late_answer_is_not_the_next_ones),
		TEST(a_late_answer_on_a_line_is_waited_for),
		TEST(the_answers_to_all_attempts_are_waited_for),
		TEST(requests_that_no_late_answer_fits_need_not_wait),
		TEST(stale_input_is_thrown_away),
		TEST(a_broken_frame_is_no_answer),
		TEST(ascii_in_lower_case_and_begun_anew_is_understood),
		TEST(a_frame_split_by_silence_is_no_answer),
		TEST(an_adapters_echo_is_no_answer),
		TEST(a_write_waits_until_it_is_known_whether_there_is_an_echo),
	};
	return cmocka_run_group_tests_name("modbus_client_wire", tests, NULL, NULL);
}
