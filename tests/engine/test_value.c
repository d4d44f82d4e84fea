/* engine values: JSON in, Python objects, JSON out. */
#include "tests/engine/world.h"

/* What a function that returns `expression` sends. */
static const char *result_of(struct world *w, const char *expression)
{
	static char doc[4096];
	json_auto_t *source = json_sprintf("import math, collections, decimal, fractions, enum\n"
					   "class Index:\n"
					   "    def __index__(self): return 41\n"
					   "class Real:\n"
					   "    def __float__(self): return 2.5\n"
					   "class Liar:\n"
					   "    def __index__(self): raise KeyError('no')\n"
					   "class Big:\n"
					   "    def __index__(self): return 1 << 70\n"
					   "class Grower(list):\n"
					   "    def __float__(self): return 1.0\n"
					   "class Color(enum.IntEnum):\n"
					   "    RED = 3\n"
					   "Point = collections.namedtuple('Point', 'x y')\n"
					   "def nest(n):\n"
					   "    v = []\n"
					   "    for i in range(n - 1): v = [v]\n"
					   "    return v\n"
					   "def cycle():\n"
					   "    v = [1]; v.append({'again': v}); return v\n"
					   "def run(*args):\n"
					   "    return %s\n",
					   expression);
	CLEANUP(freep)
	char *text = json_dumps(source, JSON_ENCODE_ANY);
	snprintf(doc, sizeof(doc),
		 "{\"monitor_slot\": 99, \"idf\": [{\"slot\": 1, \"func\": null}], \"odf\": "
		 "[{\"slot\": 2, \"func\": %s}]}",
		 text);
	world_must_put(w, doc);
	world_send(w, 1, "[1]");
	return world_log(w);
}

static void python_values_are_written_as_json(void **state)
{
	static const struct {
		const char *expression, *json;
	} cases[] = {
		{"1", "1"},
		{"-9223372036854775808", "-9223372036854775808"},
		{"9223372036854775807", "9223372036854775807"},
		{"1.0", "1.0"},
		{"0.1", "0.1"},
		{"1e16", "1e+16"},
		{"-0.0", "-0.0"},
		{"5e-324", "5e-324"},
		{"1/3", "0.3333333333333333"},
		{"True", "true"},
		{"[None, False]", "[null,false]"},
		{"(1, 2)", "[1,2]"},
		{"Point(1, 2)", "[1,2]"},
		{"[]", "[]"},
		{"{}", "{}"},
		{"{'a': 1, 'b': [2]}", "{\"a\":1,\"b\":[2]}"},
		{"{1: 2, 1.5: 3, True: 4, None: 5}", "{\"1\":4,\"1.5\":3,\"null\":5}"},
		{"{False: 0}", "{\"false\":0}"},
		{"collections.OrderedDict(a=1)", "{\"a\":1}"},
		{"collections.Counter('aab')", "{\"a\":2,\"b\":1}"},
		{"'a\"b\\\\c\\n\\x00\\x1f\\x7f'", "\"a\\\"b\\\\c\\n\\u0000\\u001f\x7f\""},
		{"'\\u4f60\\U0001f600'", "\"\xe4\xbd\xa0\xf0\x9f\x98\x80\""},
		{"Index()", "41"},
		{"Real()", "2.5"},
		{"decimal.Decimal('1.5')", "1.5"},
		{"fractions.Fraction(1, 4)", "0.25"},
		{"Color.RED", "3"},
		{"nest(100)[0] == nest(99)", "true"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[200];
		snprintf(want, sizeof(want), "2 %s\n", cases[i].json);
		const char *got = result_of(*state, cases[i].expression);
		if (strncmp(got, want, strlen(want)) != 0)
			fail_msg("%s: got %s", cases[i].expression, got);
	}
}

static void what_has_no_json_is_an_error_that_says_why(void **state)
{
	static const struct {
		const char *expression, *reason;
	} cases[] = {
		{"float('nan')", "NaN"},
		{"[1, float('inf')]", "Infinity"},
		{"-math.inf", "Infinity"},
		{"1 << 63", "64 bits"},
		{"-(1 << 63) - 1", "64 bits"},
		{"1 << 100000", "64 bits"},
		{"Big()", "64 bits"},
		{"'\\ud800'", "surrogate"},
		{"{'\\udfff': 1}", "surrogate"},
		{"{(1, 2): 3}", "key"},
		{"{math.nan: 3}", "NaN"},
		{"{b'a': 3}", "key"},
		{"set()", "set"},
		{"b'bytes'", "bytes"},
		{"object()", "object"},
		{"1j", "complex"},
		{"run", "function"},
		{"range(3)", "range"},
		{"(x for x in [1])", "generator"},
		{"Liar()", "KeyError: 'no'"},
		{"cycle()", "contains itself"},
		{"nest(101)", "100 deep"},
		{"nest(100000)", "100 deep"},
		{"'x' * 4095", "longer than 4096"},
		{"[1] * 3000", "longer than 4096"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct world *w = *state;
		uint64_t failed = w->eval.stats.failed;
		const char *got = result_of(w, cases[i].expression);
		if (strstr(got, "99 {\"op\":\"esm_error\",\"data\":{\"msg\":\"odf function "
				"failure:\\n") != got ||
		    strstr(got, cases[i].reason) == NULL || strstr(got, "\n2 ") != NULL)
			fail_msg("%s: got %s", cases[i].expression, got);
		assert_int_equal(w->eval.stats.failed, failed + 1);
	}
}

static void json_values_survive_the_way_through(void **state)
{
	static const char *const same[] = {
		"42",
		"-1",
		"1.5",
		"1e+300",
		"true",
		"false",
		"\"text\"",
		"\"\"",
		"[]",
		"{}",
		"[1,2.5,\"x\",null,true]",
		"{\"a\":{\"b\":[1,{\"c\":null}]}}",
		"9223372036854775807",
		"-9223372036854775808",
		"\"\xe4\xbd\xa0\\u0000\"",
		"[[[]],{}]",
	};
	struct world *w = *state;
	world_must_put(w, "{\"idf\": [{\"slot\": 1, \"func\": \"def run(*v): return v[0] if len(v) "
			  "== 1 else list(v)\"}],"
			  " \"odf\": [{\"slot\": 2}]}");
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		char want[200];
		snprintf(want, sizeof(want), "2 %s\n", same[i]);
		world_send(w, 1, same[i]);
		assert_string_equal(world_log(w), want);
	}
}

static void what_is_not_json_is_dropped_and_told(void **state)
{
	static const struct {
		const char *payload;
		size_t len;
	} cases[] = {
#define P(s) {s, sizeof(s) - 1}
		P(""),
		P(" "),
		P("{"),
		P("[1"),
		P("nan"),
		P("NaN"),
		P("Infinity"),
		P("[1]]"),
		P("1 2"),
		P("'a'"),
		P("tru"),
		P("9223372036854775808"),
		P("-9223372036854775809"),
		P("1e999"),
		P("\"\\ud800\""),
		P("\"\xff\""),
		P("\xff"),
		P("\"\xed\xa0\x80\""),
		P("\"\x01\""),
		P("[1,]"),
		P("{\"a\"}"),
		P("{\"\\u0000\":1}"),
		P("1\0"),
		P("\0"),
		P("\"\xe4\xbd"),
		P("+1"),
		P("01"),
		P(".5"),
		P("0x10"),
	};
	struct world *w = *state;
	world_must_put(
		w, "{\"monitor_slot\": 99, \"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2}]}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		world_send_bytes(w, 1, 0, cases[i].payload, cases[i].len);
		char *got = (char *)(uintptr_t)world_log(w);
		json_auto_t *message =
			json_loads(strncmp(got, "99 ", 3) == 0 ? got + 3 : "", 0, NULL);
		const char *msg = NULL, *src = NULL;
		if (json_unpack(message, "{s:{s:s, s:s}}", "data", "msg", &msg, "src", &src) < 0 ||
		    strstr(msg, "not JSON") == NULL)
			fail_msg("case %zu: %s", i, got);
		assert_int_equal(w->eval.stats.drops[DROP_NOT_JSON], i + 1);
	}
	assert_int_equal(w->eval.stats.evaluated, 0);
}

static void deep_nesting_is_refused_at_any_depth(void **state)
{
	struct world *w = *state;
	static char deep[100001];
	static const size_t depths[] = {101, 500, 3000, 50000};
	world_must_put(w, "{\"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2}]}");
	for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
		memset(deep, '[', depths[i]);
		memset(deep + depths[i], ']', depths[i]);
		world_send_bytes(w, 1, 0, deep, 2 * depths[i]);
		assert_int_equal(w->eval.stats.drops[DROP_NOT_JSON], i + 1);
	}
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	world_send_bytes(w, 1, 0, deep, 200);
	assert_int_equal(w->eval.stats.evaluated, 1);
	assert_int_equal(strncmp(world_log(w), "2 [[[[", 6), 0);
}

static void long_text_is_cut_between_characters(void **state)
{
	(void)state;
	struct text t;
	assert_int_equal(text_init(&t, 20, NULL), 0);
	text_set_bounded(&t, "short", 5, 0);
	assert_string_equal(text_str(&t), "short");
	text_set_bounded(&t,
			 "\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0"
			 "\xe4\xbd\xa0\xe4\xbd\xa0",
			 24, 0);
	assert_string_equal(text_str(&t),
			    "\xe4\xbd\xa0\xe4\xbd\xa0\n...\n\xe4\xbd\xa0\xe4\xbd\xa0");
	text_prepend(&t, "front: ");
	assert_string_equal(text_str(&t), "front: \xe4\xbd\xa0\xe4\xbd\xa0\n...\n");
	text_clear(&t);
	assert_false(text_put_json(&t, "much too long for that", 22));
	assert_int_equal(t.len, 0);
	assert_true(text_put_json(&t, "\x01\"", 2));
	assert_string_equal(text_str(&t), "\"\\u0001\\\"\"");
	text_done(&t);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(python_values_are_written_as_json),
		T(what_has_no_json_is_an_error_that_says_why),
		T(json_values_survive_the_way_through),
		T(what_is_not_json_is_dropped_and_told),
		T(deep_nesting_is_refused_at_any_depth),
		cmocka_unit_test(long_text_is_cut_between_characters),
	};
	return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}
