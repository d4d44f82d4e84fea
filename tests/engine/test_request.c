/* engine requests: statistics of graphs, what is to stay, functions in quarantine. */
#include "engine/request.h"
#include "tests/engine/world.h"
#include <stdlib.h>

struct bench {
	struct world *w;
	struct requests requests;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	assert_int_equal(world_setup((void **)&b->w), 0);
	assert_int_equal(requests_init(&b->requests, &b->w->graphs, NULL), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	requests_done(&b->requests);
	world_teardown((void **)&b->w);
	free(b);
	return 0;
}

/* Borrowed until the next call. */
static json_t *ask(struct bench *b, const char *frame)
{
	static json_t *answer;
	json_auto_t *json = json_loads(frame, 0, NULL);
	assert_non_null(json);
	json_decref(answer);
	answer = requests_handle(&b->requests, json);
	assert_non_null(answer);
	assert_true(json_equal(json_object_get(answer, "op"), json_object_get(json, "op")));
	assert_int_equal(json_integer_value(json_object_get(answer, "seq")),
			 json_integer_value(json_object_get(json, "seq")));
	return answer;
}

static const char *state_of(json_t *answer)
{
	return json_string_value(json_object_get(answer, "state"));
}

static json_t *stats_of(struct bench *b, const char *id)
{
	json_t *answer = ask(b, "{\"op\":\"graph_stats\",\"seq\":7,\"ids\":null}");
	assert_string_equal(state_of(answer), "ok");
	return json_object_get(json_object_get(answer, "graphs"), id);
}

static json_int_t number(json_t *o, const char *key)
{
	json_t *n = json_object_get(o, key);
	assert_true(json_is_integer(n));
	return json_integer_value(n);
}

static void put(struct bench *b, const char *id, unsigned slot, const char *rest)
{
	char doc[500];
	snprintf(doc, sizeof(doc),
		 "{\"id\": \"%s\", \"idf\": [{\"slot\": %u, \"param_no\": 1, \"func\": \"def "
		 "run(x): return "
		 "1 / x\\n\"}], \"odf\": [{\"slot\": %u}]%s}",
		 id, slot, slot + 1, rest);
	world_must_put(b->w, doc);
}

static void each_graph_has_numbers_of_its_own(void **state)
{
	struct bench *b = *state;
	put(b, "a", 10, "");
	put(b, "b", 20, "");
	for (int i = 0; i < 5; i++)
		world_send(b->w, 10, "[2]");
	world_send(b->w, 10, "[0]");
	world_send(b->w, 10, "[1,2]");
	world_send(b->w, 10, "[");
	world_send(b->w, 10, "[");
	world_send(b->w, 20, "[4]");
	json_t *a = stats_of(b, "a");
	assert_int_equal(number(a, "evaluated"), 6);
	assert_int_equal(number(a, "failed"), 1);
	assert_int_equal(number(json_object_get(a, "drops"), "wrong_length"), 1);
	assert_int_equal(number(json_object_get(a, "drops"), "not_json"), 2);
	assert_int_equal(json_object_size(json_object_get(a, "drops")), 2);
	assert_true(json_real_value(json_object_get(a, "p50_us")) > 0);
	assert_true(json_real_value(json_object_get(a, "p99_us")) >=
		    json_real_value(json_object_get(a, "p50_us")));
	json_t *other = stats_of(b, "b");
	assert_int_equal(number(other, "evaluated"), 1);
	assert_int_equal(number(other, "failed"), 0);
	assert_int_equal(json_object_size(json_object_get(other, "drops")), 0);
	/* a change of the graph keeps them, a new one begins at nothing */
	put(b, "a", 10, ", \"join\": {\"func\": \"def run(x): return x\\n\"}");
	assert_int_equal(number(stats_of(b, "a"), "evaluated"), 6);
	graphs_drop(&b->w->graphs, "a");
	assert_null(stats_of(b, "a"));
	put(b, "a", 10, "");
	assert_int_equal(number(stats_of(b, "a"), "evaluated"), 0);
	assert_true(json_is_null(json_object_get(stats_of(b, "a"), "p50_us")));
	graphs_drop(&b->w->graphs, "a");
	graphs_drop(&b->w->graphs, "b");
}

static void memory_is_that_of_the_functions(void **state)
{
	struct bench *b = *state;
	world_must_put(b->w, "{\"id\": \"a\", \"idf\": [{\"slot\": 1, \"func\": \"a = b'1' * (3 << "
			     "20)\\ndef run(x): return x\\n\"}]}");
	assert_in_range(number(stats_of(b, "a"), "memory_bytes"), 3 << 20, 5 << 20);
}

static void statistics_of_some(void **state)
{
	struct bench *b = *state;
	put(b, "a", 10, "");
	put(b, "b", 20, "");
	put(b, "c", 30, "");
	json_t *graphs = json_object_get(
		ask(b, "{\"op\":\"graph_stats\",\"ids\":[\"a\",\"c\",\"unknown\",5]}"), "graphs");
	assert_int_equal(json_object_size(graphs), 2);
	assert_non_null(json_object_get(graphs, "a"));
	assert_non_null(json_object_get(graphs, "c"));
	assert_int_equal(json_object_size(json_object_get(
				 ask(b, "{\"op\":\"graph_stats\",\"ids\":[]}"), "graphs")),
			 0);
	assert_int_equal(
		json_object_size(json_object_get(ask(b, "{\"op\":\"graph_stats\"}"), "graphs")), 3);
	assert_string_equal(state_of(ask(b, "{\"op\":\"graph_stats\",\"ids\":\"a\"}")), "error");
}

static void times_are_told_to_a_fifth(void **state)
{
	static struct graph_stats s;
	(void)state;
	assert_true(stats_time_us(&s, 0.5) < 0);
	for (int64_t ns = 64; ns < (int64_t)200 * 1000000000; ns += ns / 7 + 1) {
		s = (struct graph_stats){0};
		stats_add_time(&s, ns);
		double told = stats_time_us(&s, 0.5) * 1000;
		if (told < (double)ns * 0.85 || told > (double)ns * 1.2)
			fail_msg("%lld ns are told as %f", (long long)ns, told);
	}
	/* what is beyond counts as the ends */
	s = (struct graph_stats){0};
	stats_add_time(&s, -5);
	stats_add_time(&s, 0);
	stats_add_time(&s, INT64_MAX);
	assert_true(stats_time_us(&s, 0) < 0.1);
	assert_true(stats_time_us(&s, 1) > 1e8);
	/* shares */
	s = (struct graph_stats){0};
	for (int i = 0; i < 98; i++)
		stats_add_time(&s, 1000);
	stats_add_time(&s, 100000);
	stats_add_time(&s, 100000);
	assert_true(stats_time_us(&s, 0.5) < 1.3);
	assert_true(stats_time_us(&s, 0.98) < 1.3);
	assert_true(stats_time_us(&s, 0.99) > 80);
	/* old times fade */
	for (unsigned i = 0; i < 3 * STATS_TIMES_MAX; i++)
		stats_add_time(&s, 1000000);
	assert_true(s.n_times < STATS_TIMES_MAX);
	assert_true(stats_time_us(&s, 0.001) > 800);
}

static void keep_drops_the_others(void **state)
{
	struct bench *b = *state;
	put(b, "a", 10, "");
	put(b, "b", 20, "");
	put(b, "c", 30, "");
	json_t *answer = ask(b, "{\"op\":\"keep\",\"seq\":3,\"ids\":[\"b\",\"unknown\"]}");
	assert_string_equal(state_of(answer), "ok");
	assert_int_equal(number(answer, "dropped"), 2);
	assert_int_equal(graphs_count(&b->w->graphs), 1);
	world_send(b->w, 10, "[1]");
	world_send(b->w, 20, "[2]");
	assert_string_equal(world_log(b->w), "21 0.5\n");
	assert_string_equal(state_of(ask(b, "{\"op\":\"keep\"}")), "error");
	assert_string_equal(state_of(ask(b, "{\"op\":\"keep\",\"ids\":[7]}")), "error");
	assert_int_equal(graphs_count(&b->w->graphs), 1);
	assert_int_equal(number(ask(b, "{\"op\":\"keep\",\"ids\":[\"b\"]}"), "dropped"), 0);
	assert_int_equal(number(ask(b, "{\"op\":\"keep\",\"ids\":[]}"), "dropped"), 1);
	assert_int_equal(graphs_count(&b->w->graphs), 0);
}

/* ---- quarantine ---- */

#define BAD "\"blocked\": true, \"func\": \"not even Python\""

static void a_message_ends_at_a_function_in_quarantine(void **state)
{
	static const struct {
		const char *name, *doc, *results, *told;
		unsigned drops;
	} cases[] = {
		{"idf",
		 "{\"id\": \"g\", \"monitor_slot\": 9, \"idf\": [{\"slot\": 1, " BAD
		 "}, {\"slot\": 3}], \"odf\": [{\"slot\": 2}]}",
		 "2 [null,[6]]\n",
		 "idf function failure:\\nmessage dropped: the function is in quarantine", 1},
		{"join",
		 "{\"id\": \"g\", \"monitor_slot\": 9, \"idf\": [{\"slot\": 1}, {\"slot\": 3}], "
		 "\"join\": {" BAD "}, \"odf\": [{\"slot\": 2}]}",
		 "", "join function failure:\\nmessage dropped: the function is in quarantine", 2},
		{"odf",
		 "{\"id\": \"g\", \"monitor_slot\": 9, \"idf\": [{\"slot\": 1}, {\"slot\": 3}], "
		 "\"odf\": "
		 "[{\"slot\": 4, " BAD "}, {\"slot\": 2}]}",
		 "2 [[5],null]\n2 [[5],[6]]\n",
		 "odf function failure:\\nmessage dropped: the function is in quarantine", 2},
		{"no function of its own",
		 "{\"id\": \"g\", \"monitor_slot\": 9, \"idf\": [{\"slot\": 1}, {\"slot\": 3}], "
		 "\"odf\": "
		 "[{\"slot\": 4, \"blocked\": true}, {\"slot\": 2, \"blocked\": false}]}",
		 "2 [[5],null]\n2 [[5],[6]]\n", "quarantine", 2},
	};
	struct bench *b = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char results[500] = "", *got, *line, *at = NULL;
		bool told = false;
		uint64_t before = b->w->eval.stats.drops[DROP_QUARANTINED];
		graphs_drop(&b->w->graphs, "g");
		world_must_put(b->w, cases[i].doc);
		world_send(b->w, 1, "5");
		world_send(b->w, 3, "6");
		got = (char *)(uintptr_t)world_log(b->w);
		for (line = strtok_r(got, "\n", &at); line != NULL;
		     line = strtok_r(NULL, "\n", &at)) {
			told = told ||
			       (strncmp(line, "9 ", 2) == 0 && strstr(line, cases[i].told) != NULL);
			if (strncmp(line, "9 ", 2) != 0)
				strcat(strcat(results, line), "\n");
		}
		if (strcmp(results, cases[i].results) != 0 || !told)
			fail_msg("%s: %s, told %d", cases[i].name, results, told);
		assert_int_equal(b->w->eval.stats.drops[DROP_QUARANTINED] - before, cases[i].drops);
		assert_int_equal(number(json_object_get(stats_of(b, "g"), "drops"), "quarantined"),
				 cases[i].drops);
		assert_int_equal(number(stats_of(b, "g"), "failed"), 0);
	}
	assert_int_equal(b->w->faults, 0);
}

/* A function that comes out again begins afresh; the others never noticed. */
static void quarantine_comes_and_goes_with_revisions(void **state)
{
#define COUNT "\"func\": \"n = 0\\ndef run(*x):\\n  global n\\n  n += 1\\n  return n\\n\""
#define DOC(blocked)                              \
	"{\"idf\": [{\"slot\": 1, " blocked COUNT \
	"}], \"odf\": [{\"slot\": 2}, {\"slot\": 3, " COUNT "}]}"
	struct bench *b = *state;
	world_must_put(b->w, DOC(""));
	world_send(b->w, 1, "0");
	world_send(b->w, 1, "0");
	assert_string_equal(world_log(b->w), "2 1\n3 1\n2 2\n3 2\n");
	world_must_put(b->w, DOC("\"blocked\": true, "));
	world_send(b->w, 1, "0");
	assert_string_equal(world_log(b->w), "");
	world_must_put(b->w, DOC("\"blocked\": null, "));
	world_send(b->w, 1, "0");
	assert_string_equal(world_log(b->w), "2 1\n3 3\n");
	assert_int_equal(world_put(b->w, DOC("\"blocked\": 1, ")), ERR_SCHEMA);
	assert_non_null(strstr(text_str(&b->w->why), "`blocked`"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(each_graph_has_numbers_of_its_own),
		T(memory_is_that_of_the_functions),
		T(statistics_of_some),
		T(times_are_told_to_a_fifth),
		T(keep_drops_the_others),
		T(a_message_ends_at_a_function_in_quarantine),
		T(quarantine_comes_and_goes_with_revisions),
	};
	return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
