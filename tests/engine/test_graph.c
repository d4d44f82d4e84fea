/* engine graphs: revisions replace each other and keep what the contract says they keep. */
#include "tests/engine/world.h"

#define COUNT "n = 0\\ndef run(*x):\\n  global n\\n  n += 1\\n  return n\\n"
/* says on standard output's place, a list in a module, when its globals go */
#define MOURN                                                                       \
	"import string\\nclass Last:\\n  def __del__(self, "                        \
	"log=string.__dict__.setdefault('gone', [])): log.append(1)\\n"             \
	"last = Last()\\ndef helper(): return last\\ndef run(*x): return helper() and 1\\n"

static void expect(struct world *w, uint32_t slot, const char *payload, const char *want)
{
	world_send(w, slot, payload);
	assert_string_equal(world_log(w), want);
}

/* Turn the crank of the counting function and compare. */
static void functions_live_as_long_as_lid_func_and_depends(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"lid\": 1, \"func\": \"" COUNT
			  "\"}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 1\n");
	expect(w, 1, "0", "2 2\n");
	/* all else changes: slots, join, other links */
	world_must_put(
		w,
		"{\"idf\": [{\"slot\": 7, \"lid\": 5}, {\"slot\": 3, \"lid\": 1, \"func\": \"" COUNT
		"\"}], "
		"\"join\": {\"func\": \"def run(a, b): return b\\n\"}, \"odf\": [{\"slot\": 9}, "
		"{\"slot\": 8}]}");
	expect(w, 1, "0", "");
	expect(w, 3, "0", "9 3\n8 3\n");
	/* another lid */
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"lid\": 2, \"func\": \"" COUNT
			  "\"}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 1\n");
	/* another source, and back: begins again */
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"lid\": 2, \"func\": \"" COUNT
			  " \"}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 1\n");
	/* dependencies */
	world_must_put(
		w,
		"{\"idf\": [{\"slot\": 1, \"lid\": 2, \"func\": \"" COUNT
		" \", \"depends\": {\"a\": \"def run(): pass\\n\"}}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 1\n");
	expect(w, 1, "0", "2 2\n");
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"lid\": 2, \"func\": \"" COUNT
			  " \", \"depends\": {\"a\": \"def run(): pass\\n\"}}], \"odf\": []}");
	world_must_put(
		w,
		"{\"idf\": [{\"slot\": 1, \"lid\": 2, \"func\": \"" COUNT
		" \", \"depends\": {\"a\": \"def run(): pass\\n\"}}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 3\n");
	world_must_put(
		w,
		"{\"idf\": [{\"slot\": 1, \"lid\": 2, \"func\": \"" COUNT
		" \", \"depends\": {\"b\": \"def run(): pass\\n\"}}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 1\n");
	/* join and ODF alike */
	world_must_put(w, "{\"idf\": [{\"slot\": 1}], \"join\": {\"func\": \"" COUNT
			  "\"}, \"odf\": [{\"slot\": 2, \"func\": \"" COUNT "\"}, {\"slot\": 3}]}");
	expect(w, 1, "0", "2 1\n3 1\n");
	world_must_put(w, "{\"idf\": [{\"slot\": 4}], \"join\": {\"func\": \"" COUNT
			  "\"}, \"odf\": [{\"slot\": 3}, {\"slot\": 2, \"func\": \"" COUNT "\"}]}");
	expect(w, 4, "0", "3 2\n2 2\n");
}

static void slots_and_differences_live_as_long_as_the_lid(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"input_type\": [\"variant\"]}, {\"slot\": "
			  "2}], \"odf\": [{\"slot\": 9}]}");
	expect(w, 1, "10", "9 [[10],null]\n");
	/* a function for the link, and its place among the links: the slot and the value before
	 * stay */
	world_must_put(w,
		       "{\"idf\": [{\"slot\": 2}, {\"slot\": 1, \"input_type\": [\"variant\"], "
		       "\"func\": \"def run(x): return ['f', x]\\n\"}], \"odf\": [{\"slot\": 9}]}");
	expect(w, 2, "5", "9 [[5],[10]]\n");
	expect(w, 1, "13", "9 [[5],[\"f\",3]]\n");
	/* without the link, and with a new one of the same topic: afresh */
	world_must_put(w, "{\"idf\": [{\"slot\": 2}], \"odf\": [{\"slot\": 9}]}");
	expect(w, 2, "6", "9 [6]\n");
	world_must_put(w, "{\"idf\": [{\"slot\": 2}, {\"slot\": 1, \"lid\": 3, \"input_type\": "
			  "[\"variant\"]}], \"odf\": [{\"slot\": 9}]}");
	expect(w, 2, "7", "9 [[7],null]\n");
	expect(w, 1, "20", "9 [[7],[20]]\n");
}

static void a_refused_revision_changes_nothing(void **state)
{
	static const struct {
		const char *doc, *kind;
		int64_t lid;
	} cases[] = {
		{"{\"idf\": [{\"slot\": 1, \"func\": \"" COUNT
		 "\"}, {\"slot\": 5, \"lid\": 5, \"func\": \"def run(\"}], \"odf\": [{\"slot\": "
		 "3}]}",
		 "idf", 5},
		{"{\"idf\": [{\"slot\": 1}], \"join\": {\"func\": \"x\"}, \"odf\": [{\"slot\": "
		 "3}]}",
		 "join", -1},
		{"{\"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 3, \"lid\": 8, \"func\": \"run = "
		 "1\"}]}",
		 "odf", 8},
		{"{\"idf\": [{\"slot\": -1}], \"odf\": []}", "idf", 0},
		{"{\"idf\": [{\"slot\": 1, \"param_no\": -1}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"param_no\": 1e3}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"tag_param_no\": 100000}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"input_type\": \"variant\"}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"input_type\": [\"other\"]}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"input_type\": [1]}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"func\": 5}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"depends\": []}], \"odf\": []}", "idf", 1},
		{"{\"idf\": [{\"slot\": 1, \"depends\": {\"a\": 1}}], \"odf\": []}", "idf", 1},
		{"{\"idf\": {}, \"odf\": []}", "idf", -1},
		{"{\"idf\": [], \"odf\": {}}", "odf", -1},
		{"{\"idf\": [], \"join\": []}", "join", -1},
		{"{\"id\": \"\"}", NULL, -1},
		{"{\"monitor_slot\": \"x\"}", NULL, -1},
	};
	struct world *w = *state;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"" COUNT
			  "\"}], \"odf\": [{\"slot\": 2}]}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[20];
		if (world_put(w, cases[i].doc) != ERR_SCHEMA)
			fail_msg("case %zu: taken", i);
		assert_true(w->why.len > 0);
		if (cases[i].kind == NULL)
			assert_null(w->where.kind);
		else if (w->where.kind == NULL || strcmp(w->where.kind, cases[i].kind) != 0 ||
			 (cases[i].lid != 0 && w->where.lid != cases[i].lid))
			fail_msg("case %zu: at %s %d: %s", i, w->where.kind, (int)w->where.lid,
				 text_str(&w->why));
		snprintf(want, sizeof(want), "2 %zu\n", i + 1);
		expect(w, 1, "0", want);
		assert_int_equal(graphs_count(&w->graphs), 1);
	}
	/* a new graph that is refused leaves no trace */
	assert_int_equal(
		world_put(w, "{\"id\": \"other\", \"idf\": [{\"slot\": 1, \"func\": \"1/0\"}]}"),
		ERR_SCHEMA);
	assert_int_equal(graphs_count(&w->graphs), 1);
}

/* How many globals with a mourner have been released. */
static unsigned gone(struct world *w)
{
	world_must_put(w, "{\"id\": \"gone\", \"idf\": [{\"slot\": 90, \"func\": \"import "
			  "string\\ndef run(x): return len(string.__dict__.get('gone', "
			  "[]))\\n\"}], \"odf\": [{\"slot\": 91}]}");
	world_send(w, 90, "0");
	unsigned n = 0;
	assert_int_equal(sscanf(world_log(w), "91 %u", &n), 1);
	return n;
}

static void what_is_replaced_is_released_at_once(void **state)
{
	struct world *w = *state;
	unsigned before = gone(w);
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"" MOURN
			  "\"}], \"odf\": [{\"slot\": 2}]}");
	expect(w, 1, "0", "2 1\n");
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"" MOURN "\"}], \"odf\": []}");
	assert_int_equal(gone(w), before);
	world_must_put(w, "{\"idf\": [{\"slot\": 1}], \"odf\": []}");
	assert_int_equal(gone(w), before + 1);
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"depends\": {\"d\": \"" MOURN
			  "\"}, \"func\": \"" MOURN "\"}], \"odf\": []}");
	graphs_drop(&w->graphs, "test/1");
	assert_int_equal(gone(w), before + 3);
	/* half a revision too */
	assert_int_equal(world_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"" MOURN
				      "\"}, {\"slot\": 2, \"func\": \"1/0\"}], \"odf\": []}"),
			 ERR_SCHEMA);
	assert_int_equal(gone(w), before + 4);
}

static void numbers_are_kept_and_used_again(void **state)
{
	struct world *w = *state;
	char doc[200];
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 1; i <= 100; i++) {
			snprintf(doc, sizeof(doc),
				 "{\"id\": \"g/%u\", \"idf\": [{\"slot\": %u}], \"odf\": "
				 "[{\"slot\": %u}]}",
				 i, i, 1000 + i);
			world_must_put(w, doc);
			assert_int_equal(w->number, i);
		}
	}
	assert_int_equal(graphs_count(&w->graphs), 100);
	for (unsigned i = 1; i <= 100; i++) {
		char want[40];
		snprintf(want, sizeof(want), "%u [5]\n", 1000 + i);
		expect(w, i, "5", want);
	}
	graphs_drop(&w->graphs, "g/50");
	graphs_drop(&w->graphs, "g/50");
	graphs_drop(&w->graphs, "g/7");
	expect(w, 7, "5", "");
	world_must_put(w, "{\"id\": \"new\", \"idf\": [{\"slot\": 7}]}");
	assert_int_equal(w->number, 7);
	world_must_put(w, "{\"id\": \"newer\", \"idf\": [{\"slot\": 7}]}");
	assert_int_equal(w->number, 50);
}

static void a_shared_link_feeds_all_its_graphs(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"id\": \"a\", \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2}]}");
	world_must_put(w, "{\"id\": \"b\", \"idf\": [{\"slot\": 1, \"func\": \"def run(x): return "
			  "x + 1\\n\"}], \"odf\": [{\"slot\": 3}]}");
	expect(w, 1, "1", "2 [1]\n3 2\n");
	world_must_put(w, "{\"id\": \"a\", \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 4}]}");
	expect(w, 1, "1", "3 2\n4 [1]\n");
	graphs_drop(&w->graphs, "b");
	expect(w, 1, "1", "4 [1]\n");
	graphs_drop(&w->graphs, "a");
	expect(w, 1, "1", "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(functions_live_as_long_as_lid_func_and_depends),
		T(slots_and_differences_live_as_long_as_the_lid),
		T(a_refused_revision_changes_nothing),
		T(what_is_replaced_is_released_at_once),
		T(numbers_are_kept_and_used_again),
		T(a_shared_link_feeds_all_its_graphs),
	};
	return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
