/* The graph service, when functions, engines and documents fail. */
#include "tests/agent/service_bench.h"

static void expect_blame(struct bench *b, const char *why)
{
	UNTIL(b, json_array_size(b->reports) > 0);
	json_t *report = json_array_get(b->reports, 0);
	assert_string_equal(json_string_value(json_object_get(report, "graph")), "g");
	assert_string_equal(json_string_value(json_object_get(report, "kind")), "idf");
	assert_int_equal(json_integer_value(json_object_get(report, "lid")), 1);
	assert_non_null(strstr(json_string_value(json_object_get(report, "reason")), why));
	json_auto_t *said = json_loads(the_port()->said, 0, NULL);
	json_t *data = json_object_get(said, "data");
	assert_string_equal(json_string_value(json_object_get(said, "op")), "esm_error");
	assert_string_equal(json_string_value(json_object_get(data, "src")), "fine");
	assert_non_null(
		strstr(json_string_value(json_object_get(data, "msg")), "idf function failure:\n"));
	assert_int_equal(the_port()->said_slot,
			 topic_slot(the_port()->out, "iottalk/monitor/m", 0));
}

static void a_document_that_hangs_is_refused_and_the_rest_goes_on(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	json_int_t bad = put(b, "h", 1, "hang"), behind = put(b, "i", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_non_null(strstr(reason_of(b, bad), "time budget of 150 ms exceeded while loading"));
	expect(b, behind, "ok"); /* asked again of the next engine */
	assert_int_equal(status_of(b).engine_restarts, 1);
	feed(b, "on");
	expect_result(b, "on");
}

static void a_document_that_kills_is_refused_and_not_loaded_again(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	json_int_t bad = put(b, "g", 2, "die");
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_non_null(strstr(reason_of(b, bad), "killed by signal 9"));
	UNTIL(b, all_ready(b));
	feed(b, "one");
	expect_result(b, "one");
	assert_int_equal(status_of(b).engine_restarts, 1);
}

static void a_check_that_hangs_is_answered(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t hangs = ask(b, "check", json_pack("{s:[s]}", "codes", "hang"));
	json_int_t fine = ask(b, "check", json_pack("{s:[s], s:{}}", "codes", "fine", "depends"));
	assert_non_null(strstr(expect_wrong(b, hangs), "time budget"));
	expect(b, fine, "ok");
	assert_int_equal(json_array_size(json_object_get(answer_of(b, fine), "results")), 1);
}

static void a_message_that_hangs_is_skipped_and_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	feed(b, "before");
	feed(b, "stuck");
	feed(b, "after");
	expect_result(b, "before");
	expect_blame(b, "time budget of 150 ms exceeded");
	expect_result(b, "after");
	assert_int_equal(status_of(b).engine_restarts, 1);
}

static void an_engine_that_gets_no_processor_is_not_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	feed(b, "kept waiting");
	feed(b, "after");
	expect_result(b, "kept waiting");
	expect_result(b, "after");
	assert_int_equal(status_of(b).engine_restarts, 0);
}

static void an_exit_in_a_function_is_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	feed(b, "exit");
	feed(b, "after");
	expect_result(b, "after");
	expect_blame(b, "exit status 3");
	assert_int_equal(status_of(b).engine_restarts, 1);
}

static void an_engine_killed_idle_is_replaced_and_nobody_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	pid_t pid = the_pid(b);
	assert_int_equal(kill(pid, SIGKILL), 0);
	UNTIL(b, status_of(b).engine_restarts == 1);
	feed(b, "new"); /* while there is no engine */
	expect_result(b, "new");
	assert_int_not_equal(the_pid(b), pid);
	assert_int_equal(json_array_size(b->reports), 0);
}

static void a_fault_is_reported_once_a_second(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	for (int i = 0; i < 20; i++)
		feed(b, "fault");
	for (int i = 0; i < 20; i++)
		expect_result(b, "fault");
	UNTIL(b, json_array_size(b->reports) > 0);
	assert_in_range(json_array_size(b->reports), 1, 2);
}

static void an_engine_that_breaks_the_ring_is_replaced(void **state)
{
	struct bench *b = *state;

	open_service(b);
	put(b, "g", 1, "fine");
	UNTIL(b, all_ready(b));
	the_transport(NULL)->ev.on_port_broken(the_transport(NULL)->arg, the_port());
	UNTIL(b, status_of(b).engine_restarts == 1);
	UNTIL(b, all_ready(b));
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		TEST(a_document_that_hangs_is_refused_and_the_rest_goes_on),
		TEST(a_document_that_kills_is_refused_and_not_loaded_again),
		TEST(a_check_that_hangs_is_answered),
		TEST(a_message_that_hangs_is_skipped_and_blamed),
		TEST(an_engine_that_gets_no_processor_is_not_blamed),
		TEST(an_exit_in_a_function_is_blamed),
		TEST(an_engine_killed_idle_is_replaced_and_nobody_blamed),
		TEST(a_fault_is_reported_once_a_second),
		TEST(an_engine_that_breaks_the_ring_is_replaced),
	};

	be_keeper_if_told(argc, argv);
	return cmocka_run_group_tests_name("graph service, faults", tests, NULL, NULL);
}
