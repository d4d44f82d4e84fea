/* The graph service: engines of an earlier agent. */
#include "tests/agent/service_bench.h"

static int make_adopted(void *arg, const char *name, const struct host_events *events,
			void *host_arg, struct host **ret, struct err *err)
{
	struct bench *b = arg;

	const struct host_conf conf = service_host_conf(b->s);

	return host_new(&conf, name, events, host_arg, ret, err);
}

static void graphs_find_the_engines_they_had_and_the_rest_goes(void **state)
{
	struct bench *b = *state;
	char shared[80], apart[80], other[80];
	struct err err = {0};

	b->settings.engine.idle_ms = 50;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	run_elsewhere(b, "other", "x", 1);
	snprintf(other, sizeof(other), "%s", the_transport(NULL)->ports->name);
	run_elsewhere(b, "o", "h", 1);
	two_falls(b);
	UNTIL(b, port_named("o-") != NULL);
	snprintf(apart, sizeof(apart), "%s", port_named("g-")->name);
	end(b);

	begin(b);
	open_service(b);
	run_elsewhere(b, "o", "h", 1);
	snprintf(shared, sizeof(shared), "%s", the_port()->name);
	end(b);

	begin(b);
	assert_int_equal(pool_adopt(b->s, shared, make_adopted, b, &err), 0);
	assert_int_equal(pool_adopt(b->s, apart, make_adopted, b, &err), 0);
	assert_int_equal(pool_adopt(b->s, other, make_adopted, b, &err), 0);
	assert_int_equal(pool_adopt(b->s, other, make_adopted, b, &err), ERR_EXIST);
	for (int i = 0; i < 20; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(n_ports(), 3); /* csm is not there yet: they wait */
	json_int_t g = put_of(b, "o", "g", 1, "fine"),
		   h = ask(b, "put",
			   owned_doc("o", "h", 1, "iottalk/esm/elsewhere", "iottalk/esm/out",
				     NULL));
	expect(b, sync_to(b, json_pack("[s, s]", "g", "h")), "ok");
	acknowledge_taps(b, 0);
	expect(b, g, "ok");
	expect(b, h, "ok");
	assert_int_equal(refs_of(port_named(apart)->in, "iottalk/esm/in") +
				 refs_of(port_named(shared)->in, "iottalk/esm/elsewhere"),
			 2);
	UNTIL(b, n_ports() == 2); /* nobody's: it has ended */
	assert_null(port_named(other));
	json_t *counters = NULL;
	UNTIL(b, (json_decref(counters), counters = service_counters(b->s),
		  json_integer_value(json_object_get(counters, "dropped.kept")) == 2));
	json_decref(counters);
	feed(b, "one");
	expect_result(b, "one");
	feed_to(b, "iottalk/esm/elsewhere", "two");
	expect_result(b, "two");
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		TEST(graphs_find_the_engines_they_had_and_the_rest_goes),
	};

	be_keeper_if_told(argc, argv);
	return cmocka_run_group_tests_name("graph service, adoption", tests, NULL, NULL);
}
