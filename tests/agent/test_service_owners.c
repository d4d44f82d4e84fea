/* The graph service: which graph runs in which engine. */
#include "tests/agent/service_bench.h"

static void graphs_of_different_owners_never_share_an_engine(void **state)
{
	struct bench *b = *state;
	pid_t pids[8];

	open_service(b);
	run(b, "alice", "g", 1, "fine");
	run(b, "bob", "h", 1, "fine");
	run(b, "alice", "i", 1, "fine");
	assert_int_equal(n_ports(), 2);
	assert_int_equal(service_engine_pids(b->s, pids, 8), 2);
	assert_int_not_equal(pids[0], pids[1]);
	feed(b, "x"); /* three graphs, two engines */
	for (int i = 0; i < 3; i++)
		expect_result(b, "x");
}

static void a_graph_that_changes_hands_changes_engines(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "alice", "g", 5, "fine");
	char before[80];
	snprintf(before, sizeof(before), "%s", the_port()->name);
	b->settings.engine.idle_ms = 20;
	run(b, "bob", "g", 3, "fine"); /* another graph altogether: its revisions begin anew */
	UNTIL(b, n_ports() == 1);
	assert_string_not_equal(the_port()->name, before);
	assert_int_equal(status_of(b).graphs, 1);
	feed(b, "x");
	expect_result(b, "x");
}

static void graphs_of_one_owner_are_spread_over_so_many_engines(void **state)
{
	struct bench *b = *state;
	char id[8];

	b->settings.engine.per_owner = 3;
	open_service(b);
	for (int i = 0; i < 16; i++) {
		snprintf(id, sizeof(id), "g%d", i);
		run(b, "alice", id, 1, NULL);
	}
	assert_int_equal(n_ports(), 3);
	assert_int_equal(status_of(b).engines, 3);
}

static void an_engine_comes_with_its_first_graph_and_goes_after_its_last(void **state)
{
	struct bench *b = *state;

	b->settings.engine.idle_ms = 100;
	b->settings.engine.budget_ms = 60000; /* its own end only, on a machine that is busy, too */
	open_service(b);
	assert_int_equal(n_ports(), 0);
	run(b, "alice", "g", 1, "fine");
	pid_t pid = the_pid(b);
	assert_true(pid > 0);
	feed(b, "fault"); /* so that it has counted something */
	expect_result(b, "fault");
	for (int i = 0; i < 15; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(n_ports(), 1);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "g")), "ok");
	run(b, "alice", "h", 1, "fine"); /* in time */
	assert_int_equal(the_pid(b), pid);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "h")), "ok");
	UNTIL(b, n_ports() == 0);
	UNTIL(b, kill(pid, 0) < 0); /* its parent is another */
	assert_int_equal(status_of(b).engines, 0);
	run(b, "alice", "g", 2, "fine");
	feed(b, "again");
	expect_result(b, "again");
	assert_int_not_equal(the_pid(b), pid);
}

static void no_more_engines_than_allowed(void **state)
{
	struct bench *b = *state;

	b->settings.engine.max_engines = 2;
	open_service(b);
	run(b, "alice", "g", 1, "fine");
	run(b, "bob", "h", 1, "fine");
	json_int_t third = put_of(b, "carol", "i", 1, "fine");
	expect(b, third, "error");
	assert_non_null(strstr(reason_of(b, third), "2 engines"));
	assert_int_equal(status_of(b).graphs, 2);
	run(b, "bob", "j", 1, "fine");
}

static void checks_run_where_no_graph_does(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "alice", "g", 1, "fine");
	pid_t pid = the_pid(b);
	json_int_t hers =
		ask(b, "check", json_pack("{s:[s], s:s}", "codes", "die", "owner", "alice"));
	json_int_t his =
		ask(b, "check", json_pack("{s:[s], s:s}", "codes", "fine", "owner", "bob"));
	json_int_t anybodys = ask(b, "check", json_pack("{s:[s]}", "codes", "fine"));
	assert_non_null(strstr(expect_wrong(b, hers), "the engine ended"));
	expect(b, his, "ok");
	expect(b, anybodys, "ok");
	assert_int_equal(n_ports(), 4);
	feed(b, "x");
	expect_result(b, "x");
	pid_t pids[8];
	size_t n = service_engine_pids(b->s, pids, 8);
	assert_int_equal(pids[n - 1], pid); /* hers is the oldest, and has not ended */
	b->settings.engine.idle_ms = 20;
	ask(b, "check", json_pack("{s:[s], s:s}", "codes", "fine", "owner", "bob"));
	UNTIL(b, n_ports() == 3);
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		TEST(graphs_of_different_owners_never_share_an_engine),
		TEST(a_graph_that_changes_hands_changes_engines),
		TEST(graphs_of_one_owner_are_spread_over_so_many_engines),
		TEST(an_engine_comes_with_its_first_graph_and_goes_after_its_last),
		TEST(no_more_engines_than_allowed),
		TEST(checks_run_where_no_graph_does),
	};

	be_keeper_if_told(argc, argv);
	return cmocka_run_group_tests_name("graph service, owners", tests, NULL, NULL);
}
