/* The graph service: who is blamed, moved to an engine of its own, quarantined and released. */
#include "tests/agent/service_bench.h"

/* Is the engine at a message so long? */
static bool stands_at(uint32_t len)
{
	struct tap_rec rec;

	return tap_current(the_port()->tap, &rec) == 1 && rec.len == len;
}

static bool is_drained(struct transport_port *p)
{
	uint64_t done, waiting;

	return tap_progress(p->tap, &done, &waiting) == 0 && waiting == 0;
}

static void quarantine_g(struct bench *b)
{
	two_falls(b);
	feed(b, "exit");
	UNTIL(b, reports_of(b, "error", "g") == 1);
}

static json_t *last_report(struct bench *b)
{
	return json_array_get(b->reports, json_array_size(b->reports) - 1);
}

static void the_second_fall_brings_an_engine_of_its_own_and_loses_nothing(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	pid_t pid = the_pid(b);
	feed(b, "exit");
	feed(b, "a");
	expect_result(b, "a");
	assert_int_equal(n_ports(), 1); /* once is nothing */
	feed(b, "b");
	feed(b, "exit");
	for (int i = 0; i < 20; i++)
		feed(b, "queued");
	UNTIL(b, port_named("g-") != NULL && refs_of(port_named("g-")->in, "iottalk/esm/in") == 1);
	feed(b, "late"); /* goes to the new one already */
	acknowledge_taps(b, 0);
	expect_result(b, "b");
	for (int i = 0; i < 20; i++)
		expect_result(b, "queued");
	expect_result(b, "late");
	assert_int_equal(refs_of(port_named("o-")->in, "iottalk/esm/in"), 0);
	UNTIL(b, refs_of(port_named("o-")->out, "iottalk/esm/out") == 0);
	feed(b, "on");
	expect_result(b, "on");
	assert_int_not_equal(the_pid(b), pid);
	assert_int_equal(status_of(b).graphs, 1);
	/* what csm wants of it goes on there */
	run(b, "o", "g", 2, "fine");
	feed(b, "two");
	expect_result(b, "two");
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "g")), "ok");
	assert_int_equal(refs_of(port_named("g-")->in, "iottalk/esm/in"), 0);
}

static void the_third_fall_within_a_minute_is_the_last(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	run_elsewhere(b, "o", "n", 1);
	two_falls(b);
	uint64_t restarts = status_of(b).engine_restarts;
	unsigned renewals = port_named("o-")->renewals;
	feed(b, "exit");
	feed(b, "not any more");
	UNTIL(b, reports_of(b, "error", "g") == 1);
	json_t *report = last_report(b);
	static const char why[] =
		"quarantined: the engine ended (exit status 3), 3 times within a minute";
	assert_string_equal(json_string_value(json_object_get(report, "reason")), why);
	assert_int_equal(json_integer_value(json_object_get(report, "lid")), 1);
	assert_string_equal(json_string_value(json_object_get(report, "kind")), "idf");
	json_auto_t *said = json_loads(port_named("g-")->said, 0, NULL);
	assert_non_null(strstr(
		json_string_value(json_object_get(json_object_get(said, "data"), "msg")), why));
	UNTIL(b, all_ready(b));
	feed(b, "exit");
	feed(b, "exit");
	feed_to(b, "iottalk/esm/elsewhere", "neighbour");
	expect_result(b, "neighbour");
	/* its neighbour's engine has had no part in it since */
	assert_int_equal(port_named("o-")->renewals, renewals);
	assert_int_equal(status_of(b).engine_restarts, restarts + 1);
	assert_int_equal(reports_of(b, "error", "g"), 1);
	assert_int_equal(reports_of(b, "error", "n"), 0);
}

static void another_function_ends_the_quarantine(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	quarantine_g(b);
	run(b, "o", "g", 2, "fine"); /* the same one does not */
	feed(b, "silence");
	UNTIL(b, is_drained(port_named("g-")));
	assert_int_equal(reports_of(b, "ok", "g"), 0);
	json_int_t change = put_of(b, "o", "g", 3, "better");
	acknowledge_taps(b, 0);
	UNTIL(b, reports_of(b, "ok", "g") == 1);
	assert_int_equal(json_integer_value(json_object_get(last_report(b), "lid")), 1);
	acknowledge_taps(b, 0);
	expect(b, change, "ok");
	feed(b, "better");
	expect_result(b, "better");
}

static void a_persons_word_ends_the_quarantine(void **state)
{
	struct bench *b = *state;
	struct err err = {0};

	open_service(b);
	run(b, "o", "g", 1, "fine");
	quarantine_g(b);
	UNTIL(b, all_ready(b));
	assert_int_equal(service_release(b->s, "unknown", &err), ERR_NOENT);
	assert_int_equal(service_release(b->s, "g", &err), 1);
	assert_int_equal(reports_of(b, "ok", "g"), 1);
	for (int64_t end = loop_now_ms(b->loop) + PATIENCE_MS;;) {
		char payload[256];

		feed(b, "again");
		loop_turn(b->loop, 10);
		if (pulled(payload))
			break;
		assert_true(loop_now_ms(b->loop) < end);
	}
	assert_int_equal(service_release(b->s, "g", &err), 0);
}

static void a_limit_broken_three_times_is_a_quarantine_without_a_fall(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	feed(b, "fat");
	feed(b, "fat");
	UNTIL(b, port_named("g-") != NULL);
	acknowledge_taps(b, 0);
	expect_result(b, "fat");
	expect_result(b, "fat");
	UNTIL(b, refs_of(port_named("o-")->out, "iottalk/esm/out") == 0);
	feed(b, "fat");
	expect_result(b, "fat");
	UNTIL(b, reports_of(b, "error", "g") == 1);
	assert_string_equal(json_string_value(json_object_get(last_report(b), "reason")),
			    "quarantined: memory limit exceeded, 3 times within a minute");
	assert_int_equal(status_of(b).engine_restarts, 0);
	for (int64_t end = loop_now_ms(b->loop) + PATIENCE_MS;
	     ;) { /* blocked in the engine that lives */
		char payload[256];

		feed(b, "silence");
		for (int i = 0; i < 5; i++)
			loop_turn(b->loop, 10);
		if (!pulled(payload))
			break;
		assert_true(loop_now_ms(b->loop) < end);
	}
	assert_int_equal(status_of(b).engine_restarts, 0);
}

static void an_engine_cannot_accuse_graphs_of_others(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "mallory", "g", 1, "fine");
	json_int_t victim = ask(b, "put",
				owned_doc("alice", "victim", 1, "iottalk/esm/elsewhere",
					  "iottalk/esm/out", "fine"));
	acknowledge_taps(b, 0);
	expect(b, victim, "ok");
	for (int i = 0; i < 4; i++) {
		feed(b, "lie");
		expect_result(b, "lie");
	}
	for (int i = 0; i < 10; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(json_array_size(b->reports), 0);
	assert_int_equal(n_ports(), 2);
}

static void whoever_hides_what_it_does_is_found_by_elimination(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	for (int i = 0; i < 3; i++) {
		feed(b, "sly exit"); /* says that it does nothing, twice for each message */
		UNTIL(b, (acknowledge_taps(b, 0),
			  status_of(b).engine_restarts == 2u * (unsigned)i + 2));
	}
	UNTIL(b, reports_of(b, "error", "g") == 1);
}

static void who_is_killed_from_outside_has_done_nothing(void **state)
{
	struct bench *b = *state;

	b->settings.engine.budget_ms = 60000;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	for (unsigned i = 1; i <= 4; i++) {
		feed(b, "before it");
		expect_result(b, "before it");
		feed(b, "stuck");
		feed(b, "after");
		UNTIL(b, tap_doing_kind(tap_doing(the_port()->tap)) == TAP_IDF && stands_at(5));
		kill(the_pid(b), SIGKILL);
		UNTIL(b, status_of(b).engine_restarts == i);
		expect_result(b, "after");
	}
	assert_int_equal(n_ports(), 1);
	assert_int_equal(reports_of(b, "error", "g"), 0);
}

/* Killed between a message's end and the word that it is done: the next one had not begun. */
static void who_is_killed_between_two_messages_loses_neither(void **state)
{
	struct bench *b = *state;

	b->settings.engine.budget_ms = 60000;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	feed(b, "die when done");
	feed(b, "after");
	expect_result(b, "die when done");
	UNTIL(b, status_of(b).engine_restarts == 1);
	expect_result(b, "after");
}

static void a_quarantine_outlives_the_agent(void **state)
{
	struct bench *b = *state;
	char path[80];

	snprintf(path, sizeof(path), "%s/quarantine.json", b->userdir);
	open_service(b);
	run(b, "o", "g", 1, "fine");
	run_elsewhere(b, "o", "gone", 1);
	quarantine_g(b);
	end(b);
	assert_int_equal(access(path, R_OK), 0);

	begin(b);
	json_int_t again = put_of(b, "o", "g", 1, "fine");
	json_int_t sync = sync_to(b, json_pack("[s]", "g"));
	expect(b, sync, "ok");
	acknowledge_taps(b, 0);
	expect(b, again, "ok");
	assert_non_null(port_named("g-")); /* at once in its own engine */
	assert_int_equal(n_ports(), 1);
	assert_int_equal(reports_of(b, "error", "g"), 1);
	feed(b, "silence");
	for (int i = 0; i < 10; i++)
		loop_turn(b->loop, 10);
	char payload[256];
	assert_false(pulled(payload));
	/* the next csm hears of it, too */
	expect(b, sync_to(b, json_pack("[s]", "g")), "ok");
	assert_int_equal(reports_of(b, "error", "g"), 2);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "g")), "ok");
	end(b);

	begin(b);
	open_service(b);
	run(b, "o", "g", 1, "fine"); /* attached anew */
	feed(b, "heard");
	expect_result(b, "heard");
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		TEST(the_second_fall_brings_an_engine_of_its_own_and_loses_nothing),
		TEST(the_third_fall_within_a_minute_is_the_last),
		TEST(another_function_ends_the_quarantine),
		TEST(a_persons_word_ends_the_quarantine),
		TEST(a_limit_broken_three_times_is_a_quarantine_without_a_fall),
		TEST(an_engine_cannot_accuse_graphs_of_others),
		TEST(whoever_hides_what_it_does_is_found_by_elimination),
		TEST(who_is_killed_from_outside_has_done_nothing),
		TEST(who_is_killed_between_two_messages_loses_neither),
		TEST(a_quarantine_outlives_the_agent),
	};

	be_keeper_if_told(argc, argv);
	return cmocka_run_group_tests_name("graph service, strikes", tests, NULL, NULL);
}
