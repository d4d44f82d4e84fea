/* engine evaluation: spec iottalk-core 6, step by step. */
#include "tests/engine/world.h"

/* A document, messages ("slot payload" lines), and what must be published ("slot payload" lines).
 */
struct way {
	const char *name, *doc, *messages, *results;
};

static void send_lines(struct world *w, const char *lines)
{
	CLEANUP(freep)
	char *copy = strdup(lines);
	char *at = NULL;
	for (char *line = strtok_r(copy, "\n", &at); line != NULL;
	     line = strtok_r(NULL, "\n", &at)) {
		char *payload;
		unsigned long slot = strtoul(line, &payload, 10);
		world_send(w, (uint32_t)slot, payload + 1);
	}
}

static void run_ways(struct world *w, const struct way *ways, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		graphs_drop(&w->graphs, "test/1");
		if (world_put(w, ways[i].doc) < 0)
			fail_msg("%s: refused: %s", ways[i].name, text_str(&w->why));
		send_lines(w, ways[i].messages);
		const char *got = world_log(w);
		if (strcmp(got, ways[i].results) != 0)
			fail_msg("%s: got\n%s", ways[i].name, got);
	}
}

#define LINKS(idf, join, odf) "{\"idf\": [" idf "], \"join\": {" join "}, \"odf\": [" odf "]}"
#define F(source)             "\"func\": \"" source "\""
#define DEF(args, body)       "def run(" args "): return " body "\\n"

static void values_go_through_the_stages(void **state)
{
	static const struct way ways[] = {
		{"walk-through",
		 LINKS("{\"slot\": 1, " F(DEF("x", "int(x)")) "}", F(DEF("x", "x ** 2")),
		       "{\"slot\": 2}"),
		 "1 7\n1 [7]\n1 \"7\"\n", "2 49\n2 49\n2 49\n"},
		{"no functions", LINKS("{\"slot\": 1}", "", "{\"slot\": 2}"),
		 "1 7\n1 [1, 2]\n1 \"a\"\n1 {\"k\": [1]}\n1 []\n1 null\n",
		 "2 [7]\n2 [1,2]\n2 [\"a\"]\n2 [{\"k\":[1]}]\n2 []\n2 [null]\n"},
		{"no idf: nothing comes, no odf: nothing goes", LINKS("{\"slot\": 1}", "", ""),
		 "1 7\n", ""},
		{"all values to the function",
		 LINKS("{\"slot\": 1, " F(DEF("a, b, c", "a + b * c")) "}", "", "{\"slot\": 2}"),
		 "1 [1, 2, 3]\n", "2 7\n"},
		{"two odf, own functions",
		 LINKS("{\"slot\": 1}", "",
		       "{\"slot\": 2, " F(DEF("x, y", "x + y")) "}, {\"slot\": 3, " F(
			       DEF("*v", "v")) "}, {\"slot\": 4}"),
		 "1 [1, 2]\n", "2 3\n3 [1,2]\n4 [1,2]\n"},
		{"scalar join result is a sequence of one for an odf function",
		 LINKS("{\"slot\": 1}", F(DEF("x", "x + 1")),
		       "{\"slot\": 2, " F(DEF("*v", "list(v)")) "}"),
		 "1 [1]\n", "2 [2]\n"},
		{"a string is one value",
		 LINKS("{\"slot\": 1}", F(DEF("x", "'ab'")),
		       "{\"slot\": 2, " F(
			       DEF("*v", "list(v)")) "}, {\"slot\": 3, \"param_no\": 2}"),
		 "1 [1]\n", "2 [\"ab\"]\n3 [\"ab\",\"ab\"]\n"},
		{"a dict is one value",
		 LINKS("{\"slot\": 1}", F(DEF("x", "{'k': x}")),
		       "{\"slot\": 2, " F(DEF("v", "v")) "}"),
		 "1 [1]\n", "2 {\"k\":1}\n"},
		{"dependencies",
		 LINKS("{\"slot\": 1, " F(DEF(
			       "x",
			       "iot.twice(x) + iot.one()")) ", \"depends\": {\"twice\": "
							    "\"" DEF("x",
								     "2 * x") "\", \"one\": "
									      "\"" DEF("",
										       "1") "\"}}",
		       "", "{\"slot\": 2}"),
		 "1 [5]\n", "2 11\n"},
		{"globals count",
		 LINKS("{\"slot\": 1, " F(
			       "n = 0\\ndef run(x):\\n  global n\\n  n += 1\\n  return n\\n") "}",
		       "", "{\"slot\": 2}"),
		 "1 0\n1 0\n1 0\n", "2 1\n2 2\n2 3\n"},
		{"same source, own globals",
		 LINKS("{\"slot\": 1, " F(
			       "n = 0\\ndef run(x):\\n  global n\\n  n += 1\\n  return "
			       "n\\n") "}, {\"slot\": 3, " F("n = 0\\ndef run(x):\\n  global n\\n  "
							     "n += 1\\n  return n\\n") "}",
		       "", "{\"slot\": 2}"),
		 "1 0\n1 0\n3 0\n", "2 [1,null]\n2 [2,null]\n2 [2,1]\n"},
	};
	run_ways(*state, ways, ARRAY_LEN(ways));
}

static void the_join_sees_the_latest_of_all_links(void **state)
{
	static const struct way ways[] = {
		{"no function: list of slots, None before the first",
		 LINKS("{\"slot\": 1}, {\"slot\": 2}", "", "{\"slot\": 9}"),
		 "2 [5]\n1 [1, 2]\n2 6\n", "9 [null,[5]]\n9 [[1,2],[5]]\n9 [[1,2],[6]]\n"},
		{"function: one value unwrapped, None stays None",
		 LINKS("{\"slot\": 1}, {\"slot\": 2}", F(DEF("a, b", "[a, b]")), "{\"slot\": 9}"),
		 "2 [5]\n1 [1, 2]\n1 [[3]]\n1 []\n",
		 "9 [null,5]\n9 [[1,2],5]\n9 [[3],5]\n9 [[],5]\n"},
		{"tuples count as sequences",
		 LINKS("{\"slot\": 1, " F(DEF("x", "(x,)")) "}", F(DEF("a", "a + 1")),
		       "{\"slot\": 9}"),
		 "1 [1]\n", "9 2\n"},
		{"order of the document",
		 LINKS("{\"slot\": 2, \"lid\": 8}, {\"slot\": 1, \"lid\": 3}",
		       F(DEF("a, b", "[a, b]")), "{\"slot\": 9}"),
		 "1 1\n2 2\n", "9 [null,1]\n9 [2,1]\n"},
		{"one topic, twice in a graph",
		 LINKS("{\"slot\": 1, \"lid\": 1}, {\"slot\": 1, \"lid\": 2}",
		       F(DEF("a, b", "[a, b]")), "{\"slot\": 9}"),
		 "1 1\n", "9 [1,null]\n9 [1,1]\n"},
	};
	run_ways(*state, ways, ARRAY_LEN(ways));
}

static void none_filters_at_every_stage(void **state)
{
	static const struct way ways[] = {
		{"idf: the slot stays",
		 LINKS("{\"slot\": 1, " F(DEF("x", "x if x > 0 else None")) "}, {\"slot\": 2}",
		       F(DEF("a, b", "[a, b]")), "{\"slot\": 9}"),
		 "1 5\n1 -1\n2 7\n", "9 [5,null]\n9 [5,7]\n"},
		{"join",
		 LINKS("{\"slot\": 1}", F(DEF("x", "x if x > 0 else None")), "{\"slot\": 9}"),
		 "1 5\n1 -1\n", "9 5\n"},
		{"odf: only this one",
		 LINKS("{\"slot\": 1}", "",
		       "{\"slot\": 8, " F(DEF("x", "x if x > 0 else None")) "}, {\"slot\": 9}"),
		 "1 5\n1 -1\n", "8 5\n9 [5]\n9 [-1]\n"},
		{"falsy is not None",
		 LINKS("{\"slot\": 1, " F(DEF("x", "0")) "}", F(DEF("x", "False")),
		       "{\"slot\": 9, " F(DEF("x", "''")) "}"),
		 "1 5\n", "9 \"\"\n"},
	};
	run_ways(*state, ways, ARRAY_LEN(ways));
}

static void param_no_sets_the_length_of_both_ends(void **state)
{
	static const struct way ways[] = {
		{"wrong length dropped",
		 LINKS("{\"slot\": 1, \"param_no\": 2}", "", "{\"slot\": 9}"),
		 "1 [1]\n1 [1, 2]\n1 [1, 2, 3]\n1 1\n", "9 [1,2]\n"},
		{"tag is not the function's",
		 LINKS("{\"slot\": 1, \"param_no\": 1, \"tag_param_no\": 2, " F(
			       DEF("*v", "len(v)")) "}",
		       "", "{\"slot\": 9}"),
		 "1 [1, \"t\", 2]\n1 [1]\n", "9 1\n"},
		{"tag goes to the output",
		 LINKS("{\"slot\": 1, \"param_no\": 1, \"tag_param_no\": 2}", "",
		       "{\"slot\": 9, \"param_no\": 1, \"tag_param_no\": 2}, {\"slot\": 8, "
		       "\"param_no\": 1, \"tag_param_no\": 1}, {\"slot\": 7, \"param_no\": 1, "
		       "\"tag_param_no\": 3}, {\"slot\": 6, \"tag_param_no\": 3}"),
		 "1 [1, \"t\", [2]]\n",
		 "9 [1,\"t\",[2]]\n8 [1,\"t\"]\n7 [1,\"t\",[2],null]\n6 [1]\n"},
		{"tag of the message that came last",
		 LINKS("{\"slot\": 1, \"param_no\": 1, \"tag_param_no\": 1}, {\"slot\": 2}",
		       F(DEF("a, b", "[a, b]")),
		       "{\"slot\": 9, \"param_no\": 2, \"tag_param_no\": 1}"),
		 "1 [1, \"t\"]\n2 5\n", "9 [1,null,\"t\"]\n9 [1,5,null]\n"},
		{"the last value fills up",
		 LINKS("{\"slot\": 1}", "",
		       "{\"slot\": 9, \"param_no\": 3}, {\"slot\": 8, \"param_no\": 1}"),
		 "1 [1, 2]\n1 5\n", "9 [1,2,2]\n8 [1]\n9 [5,5,5]\n8 [5]\n"},
		{"a scalar is a sequence of one",
		 LINKS("{\"slot\": 1, " F(DEF("x", "x")) "}", "",
		       "{\"slot\": 9, \"param_no\": 1}, {\"slot\": 8}"),
		 "1 5\n", "9 [5]\n8 5\n"},
		{"no values at all",
		 LINKS("{\"slot\": 1, \"param_no\": 0, " F(DEF("", "[]")) "}", "",
		       "{\"slot\": 9, \"param_no\": 0}"),
		 "1 []\n1 [1]\n", "9 []\n"},
	};
	struct world *w = *state;
	run_ways(w, ways, ARRAY_LEN(ways));
	assert_int_equal(w->eval.stats.drops[DROP_WRONG_LENGTH], 5);
	assert_int_equal(w->eval.stats.failed, 0);
}

static void variants_are_differences(void **state)
{
	static const struct way ways[] = {
		{"the last type holds on",
		 LINKS("{\"slot\": 1, \"input_type\": [\"sample\", \"variant\"]}", "",
		       "{\"slot\": 9}"),
		 "1 [1, 10, 100]\n1 [2, 13, 50]\n1 [3, 13.5, 50]\n",
		 "9 [1,10,100]\n9 [2,3,-50]\n9 [3,0.5,0]\n"},
		{"what cannot be subtracted passes",
		 LINKS("{\"slot\": 1, \"input_type\": [\"variant\"]}", "", "{\"slot\": 9}"),
		 "1 5\n1 \"a\"\n1 \"b\"\n1 null\n1 7\n1 9\n",
		 "9 [5]\n9 [\"a\"]\n9 [\"b\"]\n9 [null]\n9 [7]\n9 [2]\n"},
		{"lengths may change",
		 LINKS("{\"slot\": 1, \"input_type\": [\"variant\"]}", "", "{\"slot\": 9}"),
		 "1 [1]\n1 [2, 5]\n1 []\n1 [7]\n1 [9, 9]\n",
		 "9 [1]\n9 [1,5]\n9 []\n9 [7]\n9 [2,9]\n"},
		{"the tag is none",
		 LINKS("{\"slot\": 1, \"param_no\": 1, \"tag_param_no\": 1, \"input_type\": "
		       "[\"variant\"]}",
		       "", "{\"slot\": 9, \"param_no\": 1, \"tag_param_no\": 1}"),
		 "1 [1, 1]\n1 [3, 1]\n", "9 [1,1]\n9 [2,1]\n"},
		{"samples",
		 LINKS("{\"slot\": 1, \"input_type\": [\"sample\"]}, {\"slot\": 2, \"input_type\": "
		       "[]}",
		       "", "{\"slot\": 9}"),
		 "1 5\n1 5\n2 1\n2 1\n", "9 [[5],null]\n9 [[5],null]\n9 [[5],[1]]\n9 [[5],[1]]\n"},
	};
	run_ways(*state, ways, ARRAY_LEN(ways));
}

static void results_go_out_no_higher_than_they_came(void **state)
{
	struct world *w = *state;
	w->show_qos = true;
	world_must_put(w, "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"param_no\": 1}], "
			  "\"odf\": [{\"slot\": 2}]}");
	for (uint8_t qos = 0; qos <= 2; qos++) {
		char want[20];
		world_send_bytes(w, 1, qos, "[1]", 3);
		snprintf(want, sizeof(want), "2/%u [1]\n5/%u {", qos, qos);
		assert_int_equal(strncmp(world_log(w), want, strlen(want)), 0);
	}
	w->eval.qos = 1;
	world_send_bytes(w, 1, 2, "[1]", 3);
	assert_int_equal(strncmp(world_log(w), "2/1 [1]\n5/1 {", 13), 0);
}

static void an_exception_ends_only_its_own_path(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"id\": \"test/1\", \"idf\": [{\"slot\": 1, \"func\": \"def run(x): "
			  "return 1 // x\\n\"}],"
			  " \"odf\": [{\"slot\": 2, \"func\": \"def run(x): raise "
			  "SystemExit(3)\\n\"}, {\"slot\": 3}]}");
	world_must_put(w,
		       "{\"id\": \"test/2\", \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 4}]}");
	world_send(w, 1, "1");
	assert_string_equal(world_log(w), "3 1\n4 [1]\n");
	world_send(w, 1, "0");
	assert_string_equal(world_log(w), "4 [0]\n");
	assert_int_equal(w->eval.stats.failed, 2);
	assert_int_equal(w->eval.stats.evaluated, 4);
}

static void whatever_is_raised_is_told_with_its_traceback(void **state)
{
	static const struct {
		const char *body, *words[3];
	} cases[] = {
		{"raise ValueError('w\\u00e4re')",
		 {"Traceback", "raise ValueError('w", "ValueError: w\xc3\xa4re"}},
		{"raise SystemExit(1)", {"raise SystemExit(1)", "SystemExit: 1"}},
		{"raise KeyboardInterrupt", {"KeyboardInterrupt"}},
		{"raise BaseException('b')", {"BaseException: b"}},
		{"raise GeneratorExit", {"GeneratorExit"}},
		{"return run(x)", {"RecursionError", "maximum recursion depth"}},
		{"return eval('(' * 1000)", {"SyntaxError"}},
		{"return undefined_name", {"NameError", "undefined_name"}},
		{"raise ValueError('\\\\ud800')", {"ValueError: \\ud800"}},
		{"raise Odd()", {"Odd"}},
		{"raise ValueError('x' * 100000)", {"Traceback", "ValueError: xxxx", "\n...\n"}},
		{"raise MemoryError", {"MemoryError"}},
		{"return bytearray(1 << 60)", {"MemoryError"}},
		{"import subprocess",
		 {"ImportError",
		  "'subprocess' may not be imported; a function may import: base64, "}},
		{"return open('/nonexistent')", {"FileNotFoundError", "nonexistent"}},
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char doc[1000];
		uint64_t failed = w->eval.stats.failed;
		snprintf(doc, sizeof(doc),
			 "{\"monitor_slot\": 9, \"idf\": [{\"slot\": 1, \"func\": \"class "
			 "Odd(Exception):\\n  def __str__(self): raise SystemExit\\n"
			 "def run(x):\\n  %s\\n  return 5\\n\"}], \"odf\": [{\"slot\": 2}]}",
			 cases[i].body);
		world_must_put(w, doc);
		world_send(w, 1, "1");
		const char *got = world_log(w);
		if (strncmp(got, "9 ", 2) != 0 || strlen(got) > 2 * WORLD_PAYLOAD)
			fail_msg("%s: got %s", cases[i].body, got);
		json_auto_t *message = json_loads(got + 2, 0, NULL);
		const char *msg = NULL, *src = NULL;
		if (json_unpack(message, "{s:{s:s, s:s}}", "data", "msg", &msg, "src", &src) < 0)
			fail_msg("%s: got %s", cases[i].body, got);
		assert_ptr_equal(strstr(msg, "idf function failure:\n"), msg);
		assert_int_equal(strncmp(src, "class Odd", 9), 0);
		for (size_t k = 0; k < 3 && cases[i].words[k] != NULL; k++)
			if (strstr(msg, cases[i].words[k]) == NULL)
				fail_msg("%s: no '%s' in %s", cases[i].body, cases[i].words[k],
					 msg);
		assert_int_equal(w->eval.stats.failed, failed + 1);
	}
}

static void faults_are_reported_once_a_second(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"lid\": 7, \"func\": \"def run(x): return "
			  "x.nothing\\n\"}]}");
	for (int i = 0; i < 100; i++)
		world_send(w, 1, "1");
	assert_in_range(w->faults, 1, 2);
	assert_int_equal(strncmp(w->fault, "test/1 1 7 Traceback", 20), 0);
	assert_int_equal(w->eval.stats.failed, 100);
	assert_string_equal(world_log(w), "");
}

static void empty_results_and_full_rings_are_told(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2, "
			  "\"param_no\": 1}]}");
	world_send(w, 1, "[]");
	assert_non_null(strstr(world_log(w), "odf function failure:\\nthe result is empty"));
	assert_int_equal(w->eval.stats.failed, 1);
	w->ring_max = 200;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"def run(n): return 'x' * n\\n\"}], "
			  "\"odf\": [{\"slot\": 2}, {\"slot\": 3, \"param_no\": 1}]}");
	world_send(w, 1, "300");
	assert_string_equal(world_log(w), "");
	assert_int_equal(w->eval.stats.failed, 3);
	assert_non_null(strstr(
		w->fault, "the result is empty")); /* the second within a second is not reported */
	world_send(w, 1, "1");
	assert_string_equal(world_log(w), "2 \"x\"\n3 [\"x\"]\n");
}

static void monitors_see_every_stage(void **state)
{
	static const struct way ways[] = {
		{"all of it",
		 "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def run(x): return x + "
		 "1\\n\"}, {\"slot\": 2}], \"join\": {\"func\": \"def run(a, b): return a, "
		 "b\\n\"}, "
		 "\"odf\": [{\"slot\": 3, \"param_no\": 1}, {\"slot\": 4, \"func\": \"def run(a, "
		 "b): return a\\n\"}]}",
		 "1 [1]\n",
		 "3 [2]\n4 2\n5 "
		 "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":[\"da\",\"f1\"],\"input\":[1],"
		 "\"output\":2},"
		 "\"join\":{\"input\":[2,null],\"output\":[2,null]},\"odf\":[{\"id\":[\"da\","
		 "\"f3\"],\"output\":[2]},{\"id\":[\"da\",\"f4\"],\"output\":[2]}]}}\n"},
		{"filtered at the start",
		 "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def run(x): return "
		 "None\\n\"}], \"odf\": [{\"slot\": 3}]}",
		 "1 [1]\n",
		 "5 "
		 "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":[\"da\",\"f1\"],\"input\":[1],"
		 "\"output\":null},\"join\":{\"input\":[],\"output\":null},\"odf\":[]}}\n"},
		{"filtered at the end",
		 "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 3, "
		 "\"func\": \"def run(x): return None\\n\"}]}",
		 "1 [1]\n",
		 "5 "
		 "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":[\"da\",\"f1\"],\"input\":[1],"
		 "\"output\":[1]},\"join\":{\"input\":[[1]],\"output\":[1]},\"odf\":[{\"id\":["
		 "\"da\",\"f3\"],\"output\":[]}]}}\n"},
		{"what has no JSON is shown",
		 "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def run(x): return "
		 "{1j: 2, 'k': [{1, 2}]}\\n\"}], \"join\": {\"func\": \"def run(x): return "
		 "len(x)\\n\"}, \"odf\": [{\"slot\": 3}]}",
		 "1 [1]\n",
		 "3 2\n5 "
		 "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":[\"da\",\"f1\"],\"input\":[1],"
		 "\"output\":{\"<complex>\":2,\"k\":[\"<set>\"]}},\"join\":{\"input\":[{\"<complex>"
		 "\":2,\"k\":[\"<set>\"]}],\"output\":2},\"odf\":[{\"id\":[\"da\",\"f3\"],"
		 "\"output\":[2]}]}}\n"},
	};
	run_ways(*state, ways, ARRAY_LEN(ways));
}

static void monitors_get_what_functions_print(void **state)
{
	static const struct way ways[] = {
		{"each stage, in the order of the message's way",
		 "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def run(x):\\n "
		 "print('in', x)\\n "
		 "print('a\\\\tb', end='')\\n return None if x else 1\\n\"}], "
		 "\"join\": {\"func\": \"def run(x):\\n print('joined')\\n return x\\n\"}, "
		 "\"odf\": [{\"slot\": 3, \"func\": \"def run(x):\\n print('\\u2192 out')\\n "
		 "return x\\n\"}]}",
		 "1 [0]\n1 [2]\n",
		 "5 "
		 "{\"op\":\"esm_print\",\"data\":{\"id\":[\"da\",\"f1\"],\"mode\":\"idf\",\"text\":"
		 "\"in 0\\na\\tb\"}}\n"
		 "5 "
		 "{\"op\":\"esm_print\",\"data\":{\"id\":null,\"mode\":\"join\",\"text\":"
		 "\"joined\\n\"}}\n"
		 "5 "
		 "{\"op\":\"esm_print\",\"data\":{\"id\":[\"da\",\"f3\"],\"mode\":\"odf\",\"text\":"
		 "\"\u2192 out\\n\"}}\n"
		 "3 1\n5 "
		 "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":[\"da\",\"f1\"],\"input\":[0],"
		 "\"output\":1},"
		 "\"join\":{\"input\":[1],\"output\":1},\"odf\":[{\"id\":[\"da\",\"f3\"],"
		 "\"output\":[1]}]}}\n"
		 "5 "
		 "{\"op\":\"esm_print\",\"data\":{\"id\":[\"da\",\"f1\"],\"mode\":\"idf\",\"text\":"
		 "\"in 2\\na\\tb\"}}\n5 "
		 "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":[\"da\",\"f1\"],\"input\":[2],"
		 "\"output\":null},\"join\":{\"input\":[],\"output\":null},\"odf\":[]}}\n"},
		{"nobody listens",
		 "{\"idf\": [{\"slot\": 1, \"func\": \"def run(x):\\n print(x)\\n return x\\n\"}], "
		 "\"odf\": "
		 "[{\"slot\": 3}]}",
		 "1 [1]\n", "3 1\n"},
	};
	run_ways(*state, ways, ARRAY_LEN(ways));
}

static void what_is_printed_before_a_failure_is_told(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def "
			  "run(x):\\n print('so "
			  "far')\\n return 1 / x\\n\"}], \"odf\": [{\"slot\": 2}]}");
	world_send(w, 1, "0");
	const char *log = world_log(w), *print = strstr(log, "\"text\":\"so far\\n\"}}"),
		   *error = strstr(log, "ZeroDivisionError");
	assert_true(print != NULL && error != NULL && print < error);
}

/* What is printed cannot grow the engine, nor stop the message. */
static void a_monitor_gets_the_beginning_of_what_is_too_long(void **state)
{
	static const char *const prints[] = {"print('\\u00e4' * 10 ** 6)",
					     "for i in range(10 ** 5): print('\\u00e4')",
					     "print(chr(0xdc80) * 10 ** 5)"};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(prints); i++) {
		char doc[400];
		snprintf(doc, sizeof(doc),
			 "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def run(x):\\n "
			 "%s\\n return x\\n\"}], "
			 "\"odf\": [{\"slot\": 2}]}",
			 prints[i]);
		world_must_put(w, doc);
		world_send(w, 1, "[1]");
		const char *log = world_log(w), *end = strstr(log, "\\n...\"}}\n2 1\n");
		assert_non_null(end);
		assert_true(strncmp(log, "5 {\"op\":\"esm_print\"", 19) == 0);
		assert_true(end - log < 2 * (ptrdiff_t)PY_REASON_MAX);
	}
}

/* Six bytes of JSON for each. */
static void a_monitor_gets_as_much_of_control_characters_as_fits(void **state)
{
	struct world *w = *state;
	world_must_put(w, "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def "
			  "run(x):\\n print(chr(1) * 10 ** 4)\\n "
			  "return x\\n\"}], \"odf\": [{\"slot\": 2}]}");
	world_send(w, 1, "[1]");
	assert_non_null(strstr(world_log(w), "\\u0001\"}}\n2 1\n"));
}

/* About 64 KiB in a second. */
static void who_prints_much_is_told_in_part(void **state)
{
	struct world *w = *state;
	size_t sent = 0;
	bool all = true, told = false;
	world_must_put(w, "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1, \"func\": \"def "
			  "run(x):\\n print('x' * 1000)\\n "
			  "return None\\n\"}], \"odf\": [{\"slot\": 2}]}");
	while (!told &&
	       sent < 100000000) { /* until some are left out, and then until that is told */
		world_send(w, 1, "[1]");
		const char *log = world_log(w);
		all = all && strstr(log, "esm_print") != NULL;
		told = strstr(log, "\"left_out\":") != NULL;
		sent++;
	}
	assert_false(all);
	assert_true(told);
	assert_in_range(sent, 66, SIZE_MAX);
}

static void functions_of_one_graph_do_not_see_changes_by_another(void **state)
{
	struct world *w = *state;
	static const char doc[] =
		"{\"id\": \"test/%d\", \"idf\": [{\"slot\": 1, \"func\": \"def run(x):\\n  "
		"x.append(0)\\n  return len(x)\\n\"}], \"odf\": [{\"slot\": 2}]}";
	for (int i = 1; i <= 3; i++) {
		char text[400];
		snprintf(text, sizeof(text), doc, i);
		world_must_put(w, text);
	}
	world_send(w, 1, "[[1]]");
	assert_string_equal(world_log(w), "2 2\n2 2\n2 2\n");
}

static void messages_for_nobody_are_counted(void **state)
{
	struct world *w = *state;
	world_send(w, 0, "1");
	world_send(w, 123456789, "1");
	world_must_put(w,
		       "{\"monitor_slot\": 5, \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2}]}");
	world_send(w, 2, "1");
	assert_int_equal(w->eval.stats.drops[DROP_NO_LINK], 3);
	struct tap_rec rec = {.slot = 1, .len = 1 << 30};
	assert_int_equal(eval_message(&w->eval, &rec, NULL), 0);
	assert_int_equal(w->eval.stats.drops[DROP_TOO_LARGE], 1);
	assert_non_null(strstr(world_log(w), "too long"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(values_go_through_the_stages),
		T(the_join_sees_the_latest_of_all_links),
		T(none_filters_at_every_stage),
		T(param_no_sets_the_length_of_both_ends),
		T(variants_are_differences),
		T(results_go_out_no_higher_than_they_came),
		T(an_exception_ends_only_its_own_path),
		T(whatever_is_raised_is_told_with_its_traceback),
		T(faults_are_reported_once_a_second),
		T(empty_results_and_full_rings_are_told),
		T(monitors_see_every_stage),
		T(monitors_get_what_functions_print),
		T(what_is_printed_before_a_failure_is_told),
		T(a_monitor_gets_the_beginning_of_what_is_too_long),
		T(a_monitor_gets_as_much_of_control_characters_as_fits),
		T(who_prints_much_is_told_in_part),
		T(functions_of_one_graph_do_not_see_changes_by_another),
		T(messages_for_nobody_are_counted),
	};
	return cmocka_run_group_tests_name("eval", tests, NULL, NULL);
}
