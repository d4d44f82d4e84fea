/* The graph service: requests, revisions, figures. */
#include "tests/agent/service_bench.h"

static void a_put_is_answered_when_it_is_in_force(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t id = put(b, "g", 1, "fine");
	for (int i = 0; i < 5; i++)
		loop_turn(b->loop, 10);
	assert_null(answer_of(b, id)); /* its topic is not there yet */
	acknowledge_taps(b, 0);
	expect(b, id, "ok");
	assert_int_equal(json_integer_value(json_object_get(answer_of(b, id), "rev")), 1);
	feed(b, "hello");
	expect_result(b, "hello");
	assert_int_equal(status_of(b).graphs, 1);
}

static void what_comes_before_the_first_sync_is_loaded_before_messages_flow(void **state)
{
	struct bench *b = *state;
	json_int_t id = put(b, "g", 1, "fine");
	json_int_t sync = sync_to(b, json_pack("[s]", "g"));

	assert_int_equal(the_transport(NULL)->opened, 0); /* the engine has not even started */
	assert_null(answer_of(b, sync));
	expect(b, sync, "ok");
	assert_int_equal(the_transport(NULL)->opened, 1);
	assert_null(answer_of(b, id)); /* the broker has not acknowledged */
	acknowledge_taps(b, 0);
	expect(b, id, "ok");
	feed(b, "x");
	expect_result(b, "x");
}

static void a_refusal_leaves_the_old_revision_in_force(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	give_func(b, "bad");
	json_int_t bad = ask(b, "put", doc("g", 2, "iottalk/esm/new", "iottalk/esm/out", "bad"));
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/new"), 1);
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_string_equal(reason_of(b, bad), "SyntaxError: bad");
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(answer_of(b, bad), "where"), "lid")),
			 1);
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/new"), 0);
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 1);
	assert_int_equal(refs_of(the_port()->out, "iottalk/esm/out"), 1);
	feed(b, "still");
	expect_result(b, "still");
}

static void a_refused_topic_refuses_the_put(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t id = put(b, "g", 1, "fine");
	acknowledge_taps(b, ERR_ACCES);
	expect(b, id, "error");
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 0);
	assert_int_equal(refs_of(the_port()->out, "iottalk/esm/out"), 0);
	assert_int_equal(status_of(b).graphs, 0);
}

static void missing_sources_are_asked_for(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t id = ask(b, "put", doc("g", 1, "iottalk/esm/in", "iottalk/esm/out", "fine"));
	expect(b, id, "need");
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(answer_of(b, id), "digests"), 0)),
		sha256_hex("fine", 4).s);
	json_int_t again = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, again, "ok");
}

static void revisions_only_rise(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t first = put(b, "g", 5, "fine");
	acknowledge_taps(b, 0);
	expect(b, first, "ok");
	json_int_t same = put(b, "g", 5, "fine");
	expect(b, same, "ok");
	json_int_t old = put(b, "g", 4, "fine");
	expect(b, old, "error");
	assert_string_equal(reason_of(b, old), "stale revision");
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 1);
}

static void requests_of_one_graph_are_done_in_order_those_of_others_meanwhile(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t first = put(b, "g", 1, "fine"), drop, second, other;
	struct tap_wait held = the_transport(NULL)->waits[0];
	the_transport(NULL)->n_waits = 0;
	drop = ask(b, "drop", json_pack("{s:s}", "graph", "g"));
	second = put(b, "g", 2, "fine");
	other = put(b, "h", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, other, "ok");
	assert_null(answer_of(b, first));
	assert_null(answer_of(b, drop));
	held.fn(held.arg, 0);
	expect(b, first, "ok");
	expect(b, drop, "ok");
	assert_null(answer_of(b, second));
	acknowledge_taps(b, 0);
	expect(b, second, "ok");
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 2);
}

static void sync_drops_what_is_not_listed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t g = put(b, "g", 1, "fine"), h = put(b, "h", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, g, "ok");
	expect(b, h, "ok");
	expect(b, sync_to(b, json_pack("[s]", "h")), "ok");
	assert_int_equal(status_of(b).graphs, 1);
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 1);
	assert_int_equal(the_transport(NULL)->opened, 1);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "unknown")), "ok");
}

static void malformed_requests_are_refused_with_a_reason(void **state)
{
	static const char *const puts[] = {
		"{}",
		"{\"graph\":7}",
		"{\"graph\":{\"id\":\"g\"}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":0,\"idf\":[],\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":{},\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[7],\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[{\"lid\":1,\"topic\":\"#\"}],\"odf\":["
		"]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[{\"lid\":1,\"topic\":\"x/ctrl/"
		"i\"}],\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[{\"lid\":1,\"topic\":"
		"\"iottalk/esm/+\"}]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[],\"monitor\":\"iottalk/"
		"esm/x\"}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[],\"join\":{\"func\":\"x\"}"
		"}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[],\"join\":{\"func\":null,"
		"\"depends\":{\"a\":1}}}}",
	};
	struct bench *b = *state;

	open_service(b);
	for (size_t i = 0; i < ARRAY_LEN(puts); i++) {
		json_int_t id = ask(b, "put", json_loads(puts[i], 0, NULL));
		if (answer_of(b, id) == NULL || strcmp(state_of(b, id), "error") != 0 ||
		    reason_of(b, id)[0] == '\0')
			fail_msg("%s", puts[i]);
	}
	expect(b, ask(b, "sync", json_pack("{s:[i]}", "graphs", 1)), "error");
	expect(b, ask(b, "sync", json_object()), "error");
	expect(b, ask(b, "drop", json_object()), "error");
	expect(b, ask(b, "check", json_pack("{s:[i]}", "codes", 1)), "error");
	ask(b, "func", json_object());
	ask(b, "func", json_pack("{s:s, s:s}", "digest", sha256_hex("a", 1).s, "code", "b"));
	assert_int_equal(status_of(b).graphs, 0);
}

static void take_told(void *arg, json_t *answer)
{
	json_t **told = arg;

	*told = answer;
}

static void figures_are_gathered_from_engines_and_transport(void **state)
{
	struct bench *b = *state;
	json_t *told = NULL;
	struct err err = {0};

	open_service(b);
	run(b, "o", "g", 1, "fine");
	run(b, "p", "h", 1, "fine");
	feed(b, "x");
	expect_result(b, "x");
	expect_result(b, "x");
	int64_t before = loop_now_ms(b->loop);
	UNTIL(b, loop_now_ms(b->loop) > before); /* a rate needs time */
	service_list(b->s, take_told, &told);
	UNTIL(b, told != NULL);
	assert_int_equal(json_array_size(told), 2);
	for (size_t i = 0; i < 2; i++) {
		json_t *row = json_array_get(told, i);
		assert_string_equal(json_string_value(json_object_get(row, "state")), "running");
		assert_int_equal(json_integer_value(json_object_get(row, "evaluated")), 1);
		assert_int_equal(json_integer_value(json_object_get(row, "p99_us")), 99);
		assert_int_equal(json_integer_value(json_object_get(row, "dropped")), 5);
		assert_true(json_real_value(json_object_get(row, "per_s")) > 0);
	}
	json_decref(told);
	told = NULL;
	assert_int_equal(service_show(b->s, "g", take_told, &told, &err), 0);
	UNTIL(b, told != NULL);
	json_t *link = json_array_get(json_object_get(told, "links"), 0);
	assert_string_equal(json_string_value(json_object_get(link, "mode")), "idf");
	assert_int_equal(json_integer_value(json_object_get(link, "received")), 10);
	assert_int_equal(json_integer_value(json_object_get(link, "dropped_full")), 3);
	assert_int_equal(json_integer_value(json_object_get(told, "memory_bytes")), 4096);
	assert_int_equal(json_array_size(json_object_get(told, "strikes")), 0);
	json_decref(told);
	assert_int_equal(service_show(b->s, "unknown", take_told, &told, &err), ERR_NOENT);
}

static void figures_do_not_wait_for_an_engine_that_does_not_answer(void **state)
{
	struct bench *b = *state;
	json_t *told = NULL;

	b->settings.engine.budget_ms = 60000;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	feed(b, "stuck");
	UNTIL(b, tap_doing_kind(tap_doing(the_port()->tap)) == TAP_IDF);
	service_list(b->s, take_told, &told);
	UNTIL(b, told != NULL);
	json_t *row = json_array_get(told, 0);
	assert_string_equal(json_string_value(json_object_get(row, "id")), "g");
	assert_null(json_object_get(row, "evaluated"));
	assert_int_equal(json_integer_value(json_object_get(row, "dropped")), 3);
	json_decref(told);
	service_list(b->s, take_told, &told); /* and if the service goes while somebody waits */
	told = NULL;
	b->s = service_free(b->s);
	assert_non_null(told);
	json_decref(told);
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		TEST(a_put_is_answered_when_it_is_in_force),
		TEST(what_comes_before_the_first_sync_is_loaded_before_messages_flow),
		TEST(a_refusal_leaves_the_old_revision_in_force),
		TEST(a_refused_topic_refuses_the_put),
		TEST(missing_sources_are_asked_for),
		TEST(revisions_only_rise),
		TEST(requests_of_one_graph_are_done_in_order_those_of_others_meanwhile),
		TEST(sync_drops_what_is_not_listed),
		TEST(malformed_requests_are_refused_with_a_reason),
		TEST(figures_are_gathered_from_engines_and_transport),
		TEST(figures_do_not_wait_for_an_engine_that_does_not_answer),
	};

	be_keeper_if_told(argc, argv);
	return cmocka_run_group_tests_name("graph service", tests, NULL, NULL);
}
