/* test_modbus_client_link.c - a Modbus master's connection comes and goes, and is configured. */
#include "tests/agent/modbus_client_bench.h"

/* Nr. 10 */
static void a_peer_that_accepts_and_closes_is_not_stormed(void **state)
{
	struct world *w = *state;
	int64_t last_ms = 0;

	listen_here(w);
	make_conf(w, "TCP", false,
		  "{\"connect_delay\": 5}"); /* the guard waits no longer than 1 s */
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		UNTIL(w, accepted(w));
		if (i > 0)
			assert_true(now_ms() - last_ms >= 950);
		last_ms = now_ms();
		closep(&w->fd);
	}
	UNTIL(w, strlen(w->states) == 9);
	assert_string_equal(w->states, "CUDCUDCUD");
}

static void a_connection_that_lasted_is_made_again_at_once(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{\"connect_delay\": 3600}");
	int64_t end_ms = now_ms() + 1100;
	UNTIL(w, now_ms() > end_ms);
	closep(&w->fd);
	UNTIL(w, accepted(w));
	UNTIL(w, strcmp(w->states, "CUDCU") == 0);
}

static void failed_attempts_are_repeated_after_the_delay(void **state)
{
	struct world *w = *state;

	listen_here(w);
	make_conf(w, "TCP", false, "{\"connect_delay\": 0.15}");
	closep(&w->listen_fd);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	UNTIL(w, strlen(w->states) >= 2);
	int64_t from_ms = now_ms();
	UNTIL(w, strlen(w->states) >= 4);
	assert_true(now_ms() - from_ms >= 150);
	assert_memory_equal(w->states, "CDCD", 4);
}

/* Nr. 18 */
static void a_line_that_is_unplugged_comes_back(void **state)
{
	struct world *w = *state;

	begin(w, "RTU", true, "{}");
	ask_and_hear(w, 5);
	closep(&w->fd);
	results(w, "1=LOST");
	UNTIL(w, strlen(w->states) >= 5);
	assert_memory_equal(w->states, "CUDCD", 5); /* it is away, and tried again and again */
	plug_line(w);
	UNTIL(w, w->link == LINK_CONNECTED);
	ask_and_hear(w, 5);
	say(w, "01 03 02 004D");
	results(w, "1=LOST 2=77");
}

/* Nr. 10: a client ends at once, whatever it does. */
static void a_client_may_be_freed_in_any_state(void **state)
{
	struct world *w = *state;

	/* before its first turn, after it, while it looks up a name */
	listen_here(w);
	make_conf(w, "TCP", false, "{}");
	json_t *transport = json_object_get(w->conf, "transport");
	for (unsigned n = 0; n < 3; n++) {
		if (n == 2)
			json_object_set_new(transport, "host", json_string("no-host.invalid"));
		assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
		turns(w, n);
		w->c = modbus_client_free(w->c);
	}
	assert_string_equal(w->states, "CDCD");
	drop(w);
	/* with a request on the wire, one in the queue and one delayed: no done is called */
	begin(w, "TCP", false,
	      "{\"request_timeout\": 0.05, \"request_retry_delayed_count\": 1, "
	      "\"request_retry_delay\": 60}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0001 0001");
	w->c = modbus_client_free(w->c);
	assert_string_equal(w->states, "CUD");
	assert_string_equal(w->results, "");
	drop(w);
	/* while it waits to connect again */
	listen_here(w);
	make_conf(w, "TCP", false, "{\"connect_delay\": 60}");
	closep(&w->listen_fd);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	UNTIL(w, strcmp(w->states, "CD") == 0);
	w->c = modbus_client_free(w->c);
	assert_string_equal(w->states, "CD");
}

static void who_is_told_may_free_the_client(void **state)
{
	struct world *w = *state;

	/* of an answer, with more of them waiting */
	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	w->free_when_told = true;
	say(w, "01 03 02 0001");
	UNTIL(w, w->c == NULL);
	w->free_when_told = false;
	assert_string_equal(w->results, "1=1");
	drop(w);
	/* of the end of a connection */
	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	w->free_when_told = true;
	closep(&w->fd);
	UNTIL(w, w->c == NULL);
	w->free_when_told = false;
	assert_string_equal(w->results, "1=LOST");
	drop(w);
	/* of a timeout */
	begin(w, "RTU", true, "{\"request_timeout\": 0.02}");
	ask_word(w, 0);
	w->free_when_told = true;
	UNTIL(w, w->c == NULL);
	w->free_when_told = false;
	drop(w);
	/* of a state */
	listen_here(w);
	make_conf(w, "TCP", false, "{}");
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	w->free_when_told = true;
	UNTIL(w, w->c == NULL);
}

static void the_block_of_a_connection_is_checked(void **state)
{
	static const struct {
		const char *more;
		unsigned errors;
	} cases[] = {
		{"{}", 0},
		{"{\"modbus_type\": \"UDP\"}", 1},
		{"{\"request_timeout\": -1}", 1},
		{"{\"request_retry_immediate_count\": 1.5}", 1},
		{"{\"transport\": {\"type\": \"UDP\"}}", 1},
		{"{\"transport\": {\"type\": \"TCP\"}}", 1},
		{"{\"transport\": {\"type\": \"SERIAL\", \"port\": \"/x\", \"baudrate\": 9601}}",
		 1},
		{"{\"transport\": {\"type\": \"SERIAL\", \"port\": \"/x\", \"bytesize\": "
		 "\"SEVENBITS\"}}",
		 1},
		{"{\"modbus_type\": \"ASCII\", \"transport\": {\"type\": \"SERIAL\", \"port\": "
		 "\"/x\", \"bytesize\": \"SEVENBITS\"}}",
		 0},
	};
	struct world *w = *state;

	w->port = 502;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make_conf(w, "RTU", false, "{}");
		json_t *more = json_loads(cases[i].more, 0, NULL);
		struct problems *p = problems_new();

		json_object_set_new(w->conf, "transport",
				    json_loads("{\"type\": \"TCP\", \"host\": \"h\"}", 0, NULL));
		json_object_update(w->conf, more);
		json_decref(more);
		if (fields_check(modbus_connection_fields, w->conf, p) == 0)
			modbus_connection_check(w->conf, p);
		if (problems_errors(p) != cases[i].errors)
			fail_msg("%s: %zu errors", cases[i].more, problems_errors(p));
		if (i == 0)
			assert_int_equal(json_integer_value(json_object_get(
						 json_object_get(w->conf, "transport"), "port")),
					 502);
		problems_free(p);
		json_decref(TAKE(w->conf));
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_peer_that_accepts_and_closes_is_not_stormed),
		TEST(a_connection_that_lasted_is_made_again_at_once),
		TEST(failed_attempts_are_repeated_after_the_delay),
		TEST(a_line_that_is_unplugged_comes_back),
		TEST(a_client_may_be_freed_in_any_state),
		TEST(who_is_told_may_free_the_client),
		TEST(the_block_of_a_connection_is_checked),
	};
	return cmocka_run_group_tests_name("modbus_client_link", tests, NULL, NULL);
}
