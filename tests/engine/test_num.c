/* engine numbers: read and written by hand as the long ways do it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* Python.h wants to be first */
#include "engine/num.h"
#include "engine/payload.h"
#include "engine/py_priv.h"
#include "tests/engine/world.h"
#include <math.h>

/* The same numbers at each run. */
static uint64_t dice(void)
{
	static uint64_t x = 88172645463325252u;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static double from_bits(uint64_t bits)
{
	double d;
	memcpy(&d, &bits, sizeof(d));
	return d;
}

static bool same_bits(double a, double b)
{
	return memcmp(&a, &b, sizeof(a)) == 0;
}

/* ---- reading ---- */

/* Both ways must agree: in what the values are, to the bit, or in that there are none. ret: whether
 * the quick way did it. */
static bool both_ways_agree(struct world *w, const char *text, size_t len)
{
	struct vals quick = {0}, slow = {0};
	struct payload p;
	struct err err;
	(void)w;
	bool done = payload_read_quick(text, len, &quick);
	int rc = payload_read_json(&p, text, len, &slow, &err);
	if (done && rc < 0)
		fail_msg("'%.*s' is refused by the library: %s", (int)len, text, err.text);
	if (done && quick.n != slow.n)
		fail_msg("'%.*s': %zu values, not %zu", (int)len, text, quick.n, slow.n);
	for (size_t i = 0; done && i < slow.n; i++) {
		PyObject *a = obj(quick.v[i]), *b = obj(slow.v[i]);
		if (Py_TYPE(a) != Py_TYPE(b))
			fail_msg("'%.*s': value %zu has another type", (int)len, text, i);
		if (PyFloat_Check(a) ? !same_bits(PyFloat_AS_DOUBLE(a), PyFloat_AS_DOUBLE(b))
				     : PyObject_RichCompareBool(a, b, Py_EQ) != 1)
			fail_msg("'%.*s': value %zu differs", (int)len, text, i);
	}
	vals_done(&quick);
	vals_done(&slow);
	payload_done(&p);
	return done;
}

static void usual_payloads_are_read_by_hand(void **state)
{
	static const char *const texts[] = {
		"7",
		"-7",
		"0",
		"-0",
		"0.0",
		"-0.0",
		"23.5",
		"-1.5e3",
		"1E+2",
		"1e-2",
		"[]",
		" [ ] ",
		"[1, 2.5, -3]",
		"\t[ 1\n,\r2 ]\n ",
		"true",
		"[true,false,null]",
		"9223372036854775807",
		"-9223372036854775808",
		"0.30000000000000004",
		"3.141592653589793",
		"1e22",
		"1e23",
		"8.5e27",
		"123456789012345678e-27",
		"9007199254740993.0",
		"9007199254740992.5",
		"0.000000000000000000000000001",
		"0e0",
		"0.00e-9999",
		"[1.7976931348623157e10,2.2250738585072014e-10]",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (!both_ways_agree(*state, texts[i], strlen(texts[i])))
			fail_msg("'%s' is not done by hand", texts[i]);
}

static void unusual_payloads_are_left_to_the_library(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"[",
		"]",
		"[1",
		"[1,",
		"[1,]",
		"[,1]",
		"[1 2]",
		"[1]]",
		"[1] 2",
		"1 2",
		"1,2",
		"-",
		"+1",
		"01",
		"-01",
		"00",
		"1.",
		".5",
		"-.5",
		"1.e5",
		"1e",
		"1e+",
		"1ee5",
		"1.5.5",
		"0x10",
		"1f",
		"tru",
		"truex",
		"nul",
		"NaN",
		"Infinity",
		"-Infinity",
		"[1,\"a\"]",
		"[[1]]",
		"{\"a\":1}",
		"\"a\"",
		"9223372036854775808",
		"-9223372036854775809",
		"18446744073709551616",
		"99999999999999999999999",
		"1e999",
		"-1e999",
		"1e-999",
		"4.9e-324",
		"1.7976931348623157e308",
		"1.00000000000000000000",
		"123456789012345678901.5",
		"0.12345678901234567890123",
		"1e99999999999999999999",
		"0e10000",
		"1\v",
		"[1\f]",
		"\xef\xbb\xbf"
		"1",
		"1\xc2\xa0",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (both_ways_agree(*state, texts[i], strlen(texts[i])))
			fail_msg("'%s' is done by hand", texts[i]);
	assert_false(both_ways_agree(*state, "1\0", 2));
	assert_false(both_ways_agree(*state, "[1]\0", 4));
	assert_false(both_ways_agree(*state, "[1\0]", 4));
	/* an end in the middle of what would go on */
	for (size_t len = 0; len <= strlen("[-12.5e+3,true,null]"); len++)
		both_ways_agree(*state, "[-12.5e+3,true,null]", len);
}

/* A fraction of so many zeros, a 1, and an exponent. */
static void far_digits_are_read_alike(void **state)
{
	static const struct {
		int zeros;
		const char *exponent;
	} rows[] = {
		{9990, "e9991"},   {9998, "e9999"},   {9998, "e100009"},
		{9997, "e100000"}, {10000, "e9999"},  {10000, "e10001"},
		{20000, "e10010"}, {20000, "e20001"}, {20000, ""},
	};
	static char text[20020];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int n = snprintf(text, sizeof(text), "0.%0*d1%s", rows[i].zeros, 0,
				 rows[i].exponent);
		both_ways_agree(*state, text, (size_t)n);
	}
}

/* n digits after one another, a point somewhere, an exponent. */
static void random_text(char *out, size_t cap)
{
	uint64_t digits = dice() >> dice() % 64;
	int n = snprintf(out, cap, "%s%llu", dice() % 2 != 0 ? "-" : "",
			 (unsigned long long)digits);
	int point = (int)(dice() % 24);
	if (point > 0 && point < n && out[point - 1] != '-') {
		memmove(out + point + 1, out + point, (size_t)(n - point + 1));
		out[point] = '.';
		n++;
	}
	if (dice() % 2 != 0)
		snprintf(out + n, cap - (size_t)n, "e%d", (int)(dice() % 70) - 35);
}

static void random_numbers_are_read_alike(void **state)
{
	unsigned done = 0;
	for (unsigned i = 0; i < 200000; i++) {
		char text[100];
		random_text(text, sizeof(text));
		done += both_ways_agree(*state, text, strlen(text));
		/* halfway between two doubles: ties go to the even one */
		uint64_t half = (dice() >> 10 | (uint64_t)1 << 53) | 1;
		snprintf(text, sizeof(text), "[%llu.0,%llu.5,%llu1e-1]", (unsigned long long)half,
			 (unsigned long long)half >> 1, (unsigned long long)half);
		done += both_ways_agree(*state, text, strlen(text));
	}
	assert_true(done > 200000);
}

/* ---- writing ---- */

/* What is written is Python's repr, and reads back the same. ret: whether it was done by hand. */
static bool writes_its_repr(double d)
{
	char text[NUM_TEXT_MAX + 1];
	struct num back;
	size_t len = num_write_real(text, d);
	if (len == 0)
		return false;
	assert_in_range(len, 3, NUM_TEXT_MAX);
	text[len] = '\0';
	char *repr = PyOS_double_to_string(d, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
	if (strcmp(repr, text) != 0)
		fail_msg("%s was written as %s", repr, text);
	PyMem_Free(repr);
	if (num_read(text, text + len, &back) != len || !back.is_real || !same_bits(back.real, d))
		fail_msg("%s does not read back", text);
	return true;
}

static void usual_reals_are_written_by_hand(void **state)
{
	static const double usual[] = {
		0.0,
		-0.0,
		1.0,
		-1.0,
		0.1,
		0.5,
		0.0001,
		0.00012345,
		100.0,
		1e15,
		1e16,
		9999999999999998.0,
		12345678901234567.0,
		123456.789,
		23.45678901234567,
		0.30000000000000004,
		1.0 / 3,
		2.0 / 3,
		1e-5,
		1.5e-5,
		1e-10,
		0.1 + 0.7,
		4.35,
		2.675,
		1e15 + 0.3,
		9007199254740993.0,
		5e-11,
		4503599627370496.5,
		0.001,
		0.01,
		99999.99999999999,
		72057594037927928.0,
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(usual); i++)
		if (!writes_its_repr(usual[i]) || !writes_its_repr(-usual[i]))
			fail_msg("%.17g is not done by hand", usual[i]);
}

static void all_reals_are_written_as_python_does(void **state)
{
	unsigned done = 0, hand = 0;
	(void)state;
	/* the neighbourhood of each power of two and of ten, subnormals and the largest included */
	for (int e = -1074; e < 1024; e++) {
		double d = ldexp(1, e);
		writes_its_repr(d);
		writes_its_repr(nextafter(d, INFINITY));
		writes_its_repr(nextafter(d, 0));
		writes_its_repr(d * 3);
		writes_its_repr(d / 3);
	}
	for (int e = -323; e < 309; e++) {
		char text[20];
		snprintf(text, sizeof(text), "1e%d", e);
		double d = strtod(text, NULL);
		writes_its_repr(d);
		writes_its_repr(nextafter(d, INFINITY));
		writes_its_repr(nextafter(d, 0));
	}
	for (unsigned i = 0; i < 300000; i++) {
		double d = from_bits(dice());
		if (isfinite(d))
			writes_its_repr(d);
		/* sizes that measurements have, with all bits */
		d = from_bits((dice() & 0x800fffffffffffffu) | (uint64_t)(1023 - 36 + dice() % 92)
								       << 52);
		hand += writes_its_repr(d);
		/* and few digits */
		d = (double)(int64_t)(dice() >> (14 + dice() % 50)) /
		    pow(10, (double)(dice() % 12));
		hand += d < 1e-11 || writes_its_repr(d);
		done += 2;
	}
	assert_int_equal(hand, done);
}

static void whole_numbers_are_written(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		char text[NUM_TEXT_MAX + 1], want[NUM_TEXT_MAX];
		int64_t edges[] = {0, 9, 10, 99, 100, -1, -10, INT64_MAX, INT64_MIN};
		int64_t n = i < ARRAY_LEN(edges) ? edges[i] : (int64_t)dice() >> dice() % 64;
		text[num_write_whole(text, n)] = '\0';
		snprintf(want, sizeof(want), "%lld", (long long)n);
		assert_string_equal(text, want);
	}
	uint64_t ten = 1;
	for (int i = 0; i < 19; i++, ten *= 10) {
		char text[NUM_TEXT_MAX + 1], want[NUM_TEXT_MAX];
		for (int64_t n = (int64_t)ten - 1; n <= (int64_t)ten; n++) {
			text[num_write_whole(text, n)] = '\0';
			snprintf(want, sizeof(want), "%lld", (long long)n);
			assert_string_equal(text, want);
		}
	}
}

/* What is done the long way goes out as well. */
static void numbers_go_through_a_graph(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"1e300", "[1e+300]"},
		{"5e-324", "[5e-324]"},
		{"1.7976931348623157e308", "[1.7976931348623157e+308]"},
		{"[2.5e-20,0.1234567890123456789012]", "[2.5e-20,0.12345678901234568]"},
		{"[-0.0,-0]", "[-0.0,0]"},
		{"123456789012345680.0", "[1.2345678901234568e+17]"},
	};
	struct world *w = *state;
	world_must_put(w, "{\"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2}]}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[100];
		snprintf(want, sizeof(want), "2 %s\n", cases[i].out);
		world_send(w, 1, cases[i].in);
		assert_string_equal(world_log(w), want);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(usual_payloads_are_read_by_hand), T(unusual_payloads_are_left_to_the_library),
		T(far_digits_are_read_alike),       T(random_numbers_are_read_alike),
		T(usual_reals_are_written_by_hand), T(all_reals_are_written_as_python_does),
		T(whole_numbers_are_written),       T(numbers_go_through_a_graph),
	};
	return cmocka_run_group_tests_name("num", tests, NULL, NULL);
}
