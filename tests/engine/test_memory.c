/* engine: memory is counted for the function that takes it, and has a limit. */
#include "tests/engine/world.h"
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static const char *say(struct world *w, const char *payload)
{
	world_send(w, 1, payload);
	return world_log(w);
}

/* A function that keeps x MiB of a kind, one more on top of what it has; 0 gives all back. */
#define KEEPER(more)                                                                         \
	"{\"idf\": [{\"slot\": 1, \"func\": \"kept = []\\ndef run(x):\\n  if x == 0:\\n    " \
	"kept.clear()\\n"                                                                    \
	"  for i in range(x): kept.append(" more ")\\n  return len(kept)\\n\"}], \"odf\": "  \
	"[{\"slot\": 2}]}"
#define LARGE KEEPER("bytearray(1 << 20)")
#define SMALL KEEPER("tuple([str(i + j) for j in range(1 << 13)])") /* half a MiB and more */

static size_t held(struct world *w)
{
	return graph_memory(graphs_find(&w->graphs, "test/1"));
}

static void memory_is_counted_until_it_is_given_back(void **state)
{
	static const struct {
		const char *name, *doc;
		size_t least, most; /* KiB for each */
	} cases[] = {
		{"large blocks", LARGE, 1024, 1100},
		{"small objects", SMALL, 400, 1300},
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		graphs_drop(&w->graphs, "test/1");
		world_must_put(w, cases[i].doc);
		size_t before = held(w);
		assert_in_range(before, 0, 2 * MIB);
		assert_string_equal(say(w, "20"), "2 20\n");
		size_t each = (held(w) - before) / 20 / 1024;
		if (each < cases[i].least || each > cases[i].most)
			fail_msg("%s: %zu KiB", cases[i].name, each);
		assert_string_equal(say(w, "0"), "2 0\n");
		if (held(w) > before + 2 * MIB)
			fail_msg("%s: %zu bytes stay", cases[i].name, held(w));
		assert_string_equal(say(w, "5"), "2 5\n");
	}
}

static void each_use_has_an_account_of_its_own(void **state)
{
	struct world *w = *state;
	struct graph_user most;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"lid\": 4, \"func\": \"a = []\\ndef run(x): "
			  "a.append(b'1' * (x "
			  "<< 20)); return x\\n\"}], \"join\": {\"func\": \"a = []\\ndef run(x): "
			  "a.append(b'1' * "
			  "(2 * x << 20)); return x\\n\"}, \"odf\": [{\"slot\": 2, \"lid\": 5, "
			  "\"func\": \"a = "
			  "[]\\ndef run(x): a.append(iot.make(x << 22)); return x\\n\", "
			  "\"depends\": {\"make\": "
			  "\"def run(n): return b'1' * n\\n\"}}]}");
	assert_string_equal(say(w, "2"), "2 2\n");
	const struct graph *g = graphs_find(&w->graphs, "test/1");
	assert_in_range(pyfn_memory(g->idf[0].use.fn), 2 * MIB, 3 * MIB + MIB / 2);
	assert_in_range(pyfn_memory(g->join.fn), 4 * MIB, 5 * MIB + MIB / 2);
	/* what a dependency takes is its caller's */
	assert_in_range(pyfn_memory(g->odf[0].use.fn), 8 * MIB, 9 * MIB + MIB / 2);
	assert_true(graphs_heaviest(&w->graphs, &most));
	assert_ptr_equal(most.graph, g);
	assert_int_equal(most.kind, TAP_ODF);
	assert_ptr_equal(most.link, &g->odf[0]);
	graphs_drop(&w->graphs, "test/1");
	assert_false(graphs_heaviest(&w->graphs, &most));
}

static void a_function_over_its_quota_fails_and_gets_a_strike(void **state)
{
	static const char *const hungry[] = {
		LARGE,
		SMALL,
		KEEPER("[0] * (1 << 17)"),
		KEEPER("{j: j for j in range(1 << 15)}"),
		KEEPER("'x' * (1 << 20)"),
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(hungry); i++) {
		graphs_drop(&w->graphs, "test/1");
		world_must_put(w, hungry[i]);
		world_must_put(w, hungry[i]); /* whatever the revision */
		py_set_function_quota(16 * MIB);
		assert_string_equal(say(w, "4"), "2 4\n");
		unsigned strikes = w->strikes;
		uint64_t failed = w->eval.stats.failed;
		assert_string_equal(say(w, "100"), "");
		if (w->strikes != strikes + 1)
			fail_msg("case %zu: no strike", i);
		assert_int_equal(w->eval.stats.failed, failed + 1);
		if (strstr(w->fault, "test/1 1 1 memory quota of 16 MiB exceeded\n") == NULL ||
		    strstr(w->fault, "MemoryError") == NULL)
			fail_msg("case %zu: %s", i, w->fault);
		assert_in_range(held(w), MIB, 16 * MIB);
		/* the process has enough */
		assert_false(w->eval.out_of_memory);
		/* it can help itself */
		assert_string_equal(say(w, "0"), "2 0\n");
		assert_string_equal(say(w, "4"), "2 4\n");
		py_set_function_quota(0);
		assert_string_equal(say(w, "0"), "2 0\n");
		assert_string_equal(say(w, "40"), "2 40\n");
	}
}

static void who_copes_with_its_quota_gets_no_strike(void **state)
{
	struct world *w = *state;
	world_must_put(w,
		       "{\"idf\": [{\"slot\": 1, \"func\": \"def run(x):\\n  try:\\n    "
		       "bytearray(x << 20)\\n "
		       "   return 'fits'\\n  except MemoryError:\\n    return 'too much'\\n\"}], "
		       "\"odf\": [{\"slot\": 2}]}");
	py_set_function_quota(16 * MIB);
	assert_string_equal(say(w, "8"), "2 \"fits\"\n");
	assert_string_equal(say(w, "32"), "2 \"too much\"\n");
	assert_int_equal(w->strikes, 0);
	/* an exception later on has nothing to do with it */
	assert_string_equal(say(w, "\"x\""), "");
	assert_int_equal(w->faults, 1);
	assert_int_equal(w->strikes, 0);
	assert_null(strstr(w->fault, "quota"));
	py_set_function_quota(0);
}

static void others_are_not_touched_by_one_at_its_quota(void **state)
{
	struct world *w = *state;
	py_set_function_quota(16 * MIB);
	world_must_put(w, LARGE);
	world_must_put(w,
		       "{\"id\": \"other\", \"idf\": [{\"slot\": 7, \"func\": \"def run(x): return "
		       "len(bytearray(x << 20))\\n\"}], \"odf\": [{\"slot\": 8}]}");
	assert_string_equal(say(w, "100"), "");
	assert_int_equal(w->strikes, 1);
	world_send(w, 7, "12");
	assert_string_equal(world_log(w), "8 12582912\n");
	py_set_function_quota(0);
}

static void loading_has_the_same_quota(void **state)
{
	struct world *w = *state;
	py_set_function_quota(16 * MIB);
	assert_int_equal(world_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"a = bytearray(1 << "
				      "25)\\ndef run(x): return x\\n\"}]}"),
			 ERR_LIMIT);
	assert_non_null(strstr(text_str(&w->why), "memory quota of 16 MiB exceeded\nTraceback"));
	assert_int_equal(
		world_put(
			w,
			"{\"idf\": [{\"slot\": 1, \"func\": \"def run(x): return x\\n\", "
			"\"depends\": {\"d\": \"a = bytearray(1 << 25)\\ndef run(): pass\\n\"}}]}"),
		ERR_LIMIT);
	assert_non_null(strstr(text_str(&w->why),
			       "dependency d: memory quota of 16 MiB exceeded\nTraceback"));
	py_set_function_quota(0);
}

/* Numbers are used again; what an earlier one left behind does not count for the next. */
static void accounts_are_recycled(void **state)
{
	struct world *w = *state;
	for (unsigned i = 0; i < 300; i++) {
		/* it leaves a MiB to a module, which nobody gives back before the next one has come
		 */
		world_must_put(
			w, "{\"idf\": [{\"slot\": 1, \"func\": \"import string\\nstring.left = "
			   "bytearray(1 << 20)\\ndef run(x): string.left = None; return x\\n\"}], "
			   "\"odf\": [{\"slot\": 2}]}");
		assert_in_range(held(w), MIB, 3 * MIB);
		graphs_drop(&w->graphs, "test/1");
		world_must_put(w,
			       "{\"idf\": [{\"slot\": 1, \"func\": \"import string\\ndef run(x): "
			       "string.left = None; return x\\n\"}], \"odf\": [{\"slot\": 2}]}");
		assert_in_range(held(w), 0, 2 * MIB);
		assert_string_equal(say(w, "1"), "2 1\n");
		assert_in_range(held(w), 0, 2 * MIB);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(memory_is_counted_until_it_is_given_back),
		T(each_use_has_an_account_of_its_own),
		T(a_function_over_its_quota_fails_and_gets_a_strike),
		T(who_copes_with_its_quota_gets_no_strike),
		T(others_are_not_touched_by_one_at_its_quota),
		T(loading_has_the_same_quota),
		T(accounts_are_recycled),
	};
	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
