/* Points: values to IDFs and back from ODFs. */
#include "tests/agent/point_bench.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>

#define NOW 1709214330250000

/* What is pushed, as text; "-": nothing. */
static const char *pushed(struct point *p, const struct value *v)
{
	static char text[400];
	json_auto_t *values = point_to_idf(p, v, NOW);
	char *dumped = values != NULL ? json_dumps(values, JSON_COMPACT) : NULL;

	snprintf(text, sizeof(text), "%s", dumped != NULL ? dumped : "-");
	free(dumped);
	return text;
}

static const char *last(const struct point *p)
{
	static char text[400];
	json_auto_t *values = point_last(p);
	char *dumped = values != NULL ? json_dumps(values, JSON_COMPACT) : NULL;

	snprintf(text, sizeof(text), "%s", dumped != NULL ? dumped : "-");
	free(dumped);
	return text;
}

static int from(const struct point *p, const char *odf, struct value *ret, struct err *err)
{
	json_auto_t *values = json_loads(odf, JSON_DECODE_ANY, NULL);

	assert_non_null(values);
	return point_from_odf(p, values, ret, err);
}

static struct value bits(uint64_t u)
{
	return (struct value){.kind = VALUE_UINT, .u = u};
}

/* ---- values to IDFs ---- */

static void bit_strings_are_pushed_as_their_numbers(void **state)
{
	static const struct {
		unsigned bits;
		const char *options;
		uint64_t u;
		const char *idf;
	} cases[] = {
		{1, "{}", 0, "[0]"},
		{1, "{}", 1, "[1]"},
		{1, "{\"signed\": true}", 1, "[-1]"},
		{16, "{}", 0xffff, "[65535]"},
		{16, "{\"signed\": true}", 0xffff, "[-1]"},
		{16, "{\"format\": \"int\"}", 0x8000, "[-32768]"},
		{16, "{\"format\": \"int\", \"signed\": true}", 0x7fff, "[32767]"},
		{16, "{\"format\": \"int\", \"signed\": false}", 0xfffe, "[-2]"},
		{16, "{\"format\": \"uint\"}", 0x8000, "[32768]"},
		/* bits above those of the point say nothing */
		{12, "{\"signed\": true}", 0xf7ff, "[2047]"},
		{12, "{\"signed\": true}", 0x0800, "[-2048]"},
		{32, "{}", 0x3456789a, "[878082202]"},
		{32, "{\"signed\": true}", 0x80000000, "[-2147483648]"},
		{53, "{}", 0x1fffffffffffff, "[9007199254740991]"},
		{53, "{\"signed\": true}", 0x10000000000000, "[-4503599627370496]"},
		/* wider than 53 bits */
		{54, "{}", 0x20000000000000, "[\"9007199254740992\"]"},
		{54, "{}", 0x1fffffffffffff, "[9007199254740991]"},
		{55, "{\"signed\": true}", 0x60000000000000, "[\"-9007199254740992\"]"},
		{55, "{\"signed\": true}", 0x60000000000001, "[-9007199254740991]"},
		{64, "{}", UINT64_MAX, "[\"18446744073709551615\"]"},
		{64, "{\"signed\": true}", UINT64_MAX, "[-1]"},
		{64, "{\"signed\": true}", (uint64_t)1 << 63, "[\"-9223372036854775808\"]"},
		{64, "{\"signed\": true}", INT64_MAX, "[\"9223372036854775807\"]"},
		/* scale and offset */
		{16, "{\"scale\": 0.1}", 235, "[23.5]"},
		/* the number that is written 1.2, not the one after it */
		{16, "{\"scale\": 0.1}", 12, "[1.2]"},
		{16, "{\"scale\": 0.001}", 4101, "[4.101]"},
		{16, "{\"scale\": 0.3}", 3, "[0.89999999999999991]"},
		{16, "{\"scale\": 2, \"offset\": -10}", 5, "[0.0]"},
		{16, "{\"offset\": 0.5}", 1, "[1.5]"},
		{16, "{\"scale\": -1}", 7, "[-7.0]"},
		{16, "{\"scale\": 1.0, \"offset\": 0.0}", 7, "[7]"},
		{16, "{\"scale\": 0.5, \"signed\": true}", 0xfffd, "[-1.5]"},
		{64, "{\"scale\": 2}", UINT64_MAX, "[3.6893488147419103e19]"},
		/* floats */
		{32, "{\"format\": \"float32\"}", 0x3fc00000, "[1.5]"},
		{32, "{\"format\": \"float32\"}", 0xc2f6e979, "[-123.45600128173828]"},
		{32, "{\"format\": \"float32\"}", 0x80000000, "[-0.0]"},
		{32, "{\"format\": \"float32\"}", 0x00000001, "[1.4012984643248171e-45]"},
		{32, "{\"format\": \"float32\"}", 0x7f7fffff, "[3.4028234663852886e38]"},
		{32, "{\"format\": \"float32\"}", 0x7f800000, "-"},
		{32, "{\"format\": \"float32\"}", 0xff800000, "-"},
		{32, "{\"format\": \"float32\"}", 0x7fc00000, "-"},
		{32, "{\"format\": \"float32\", \"scale\": 2, \"offset\": 1}", 0x3fc00000, "[4.0]"},
		{64, "{\"format\": \"float64\"}", 0x3ff8000000000000, "[1.5]"},
		{64, "{\"format\": \"float64\"}", 0x3fb999999999999a, "[0.10000000000000001]"},
		{64, "{\"format\": \"float64\"}", 0x7ff0000000000000, "-"},
		{64, "{\"format\": \"float64\", \"scale\": 10}", 0x7fefffffffffffff, "-"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		struct value v = bits(cases[i].u);
		hold(&h, cases[i].bits, cases[i].options);
		const char *idf = pushed(h.point, &v);
		if (strcmp(idf, cases[i].idf) != 0)
			fail_msg("%u bits %s of %" PRIx64 ": %s, not %s", cases[i].bits,
				 cases[i].options, cases[i].u, idf, cases[i].idf);
		drop(&h);
	}
}

static void numbers_and_texts_are_pushed_as_they_are(void **state)
{
	static const struct {
		struct value v;
		const char *options, *idf;
	} cases[] = {
		{{.kind = VALUE_INT, .i = -7}, "{}", "[-7]"},
		{{.kind = VALUE_INT, .i = INT64_MIN}, "{}", "[\"-9223372036854775808\"]"},
		{{.kind = VALUE_UINT, .u = UINT64_MAX}, "{}", "[\"18446744073709551615\"]"},
		{{.kind = VALUE_REAL, .r = 12.5}, "{}", "[12.5]"},
		{{.kind = VALUE_REAL, .r = 0.5}, "{\"scale\": 1200}", "[600.0]"},
		{{.kind = VALUE_REAL, .r = NAN}, "{}", "-"},
		{{.kind = VALUE_REAL, .r = -INFINITY}, "{}", "-"},
		{{.kind = VALUE_REAL, .r = NAN}, "{\"dims\": \"value_quality\"}", "[0,1]"},
		{{.kind = VALUE_REAL, .r = INFINITY, .quality = QUALITY_BLOCKED},
		 "{\"dims\": \"full\"}",
		 "[0,9,1709214330250000]"},
		{{.kind = VALUE_REAL, .r = DBL_MAX},
		 "{\"dims\": \"value_quality\", \"scale\": 2}",
		 "[0,1]"},
		{{.kind = VALUE_TEXT, .text = "on \"line\""}, "{}", "[\"on \\\"line\\\"\"]"},
		{{.kind = VALUE_TEXT, .text = "7"}, "{\"scale\": 2}", "[\"7\"]"},
		{{.kind = VALUE_TEXT, .text = "\xff"}, "{\"dims\": \"value_quality\"}", "[0,1]"},
		{{.kind = VALUE_TEXT, .text = ""}, "{}", "[\"\"]"},
		{{.kind = VALUE_NONE}, "{\"dims\": \"full\"}", "-"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		hold(&h, 0, cases[i].options);
		const char *idf = pushed(h.point, &cases[i].v);
		if (strcmp(idf, cases[i].idf) != 0)
			fail_msg("case %zu: %s, not %s", i, idf, cases[i].idf);
		drop(&h);
	}
}

static void quality_and_time_are_told_as_dims_say(void **state)
{
	static const struct {
		const char *dims;
		unsigned quality;
		int64_t time_us;
		const char *idf;
	} cases[] = {
		{"value", 0, 0, "[5]"},
		{"value", QUALITY_INVALID, 0, "-"},
		{"value", QUALITY_TEST, 0, "-"},
		{"value", QUALITY_TEST | QUALITY_BLOCKED, 0, "-"},
		{"value", QUALITY_NOT_TOPICAL, 0, "[5]"},
		{"value", QUALITY_SUBSTITUTED | QUALITY_BLOCKED, 0, "[5]"},
		{"value", QUALITY_OVERFLOW | QUALITY_ADJUSTED, 0, "[5]"},
		{"value", QUALITY_STALE, 0, "[5]"},
		{"value_quality", 0, 0, "[5,0]"},
		{"value_quality", QUALITY_INVALID, 0, "[5,1]"},
		{"value_quality", QUALITY_TEST | QUALITY_STALE, 0, "[5,192]"},
		{"full", 0, 0, "[5,0,1709214330250000]"},
		{"full", 255, 1234567, "[5,255,1234567]"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		char options[64];
		snprintf(options, sizeof(options), "{\"dims\": \"%s\"}", cases[i].dims);
		hold(&h, 16, options);
		struct value v = bits(5);
		v.quality = cases[i].quality;
		v.time_us = cases[i].time_us;
		const char *idf = pushed(h.point, &v);
		if (strcmp(idf, cases[i].idf) != 0)
			fail_msg("%s with %u: %s, not %s", cases[i].dims, cases[i].quality, idf,
				 cases[i].idf);
		assert_int_equal(point_tells_quality(h.point), i >= 8);
		drop(&h);
	}
}

static void no_value_is_the_last_one_with_another_quality(void **state)
{
	struct held h;
	struct value v = bits(5), none = {.kind = VALUE_NONE, .quality = QUALITY_INVALID};

	(void)state;
	hold(&h, 16, "{\"dims\": \"full\"}");
	v.time_us = 1;
	assert_string_equal(last(h.point), "-");
	assert_null(point_last_value(h.point));
	pushed(h.point, &v);
	assert_string_equal(pushed(h.point, &none), "[5,1,1709214330250000]");
	assert_string_equal(last(h.point), "[5,1,1709214330250000]");
	none.time_us = 3;
	none.quality = QUALITY_STALE;
	assert_string_equal(pushed(h.point, &none), "[5,64,3]");
	assert_int_equal(point_last_value(h.point)->quality, QUALITY_STALE);
	assert_int_equal(point_last_value(h.point)->u, 5);
	drop(&h);
}

static void invalid_values_do_not_become_the_last_one_of_dims_value(void **state)
{
	struct held h;
	struct value good = bits(5), bad = bits(6), none = {.kind = VALUE_NONE};

	(void)state;
	hold(&h, 16, "{}");
	bad.quality = QUALITY_INVALID;
	assert_string_equal(pushed(h.point, &bad), "-");
	assert_null(point_last_value(h.point));
	pushed(h.point, &good);
	assert_string_equal(pushed(h.point, &bad), "-");
	assert_string_equal(last(h.point), "[5]");
	assert_int_equal(point_last_value(h.point)->u, 5);
	assert_int_equal(point_last_value(h.point)->quality, QUALITY_INVALID);
	assert_string_equal(pushed(h.point, &none), "[5]");
	assert_int_equal(point_last_value(h.point)->quality, 0);
	drop(&h);
}

static void what_is_not_finite_is_told_to_be_invalid(void **state)
{
	static const char *const options[] = {"{\"format\": \"float32\"}",
					      "{\"format\": \"float32\", \"dims\": \"full\"}"};
	struct held h;
	struct value nan_bits = bits(0x7fc00000), one = bits(0x3f800000);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		hold(&h, 32, options[i]);
		assert_int_equal(point_last_quality(h.point), 0);
		pushed(h.point, &nan_bits);
		assert_int_equal(point_last_quality(h.point), QUALITY_INVALID);
		pushed(h.point, &one);
		assert_int_equal(point_last_quality(h.point), 0);
		pushed(h.point, &nan_bits);
		assert_int_equal(point_last_quality(h.point), QUALITY_INVALID);
		drop(&h);
	}
}

static void on_change_holds_back_periodic_values_that_are_the_same(void **state)
{
	static const struct {
		const char *options;
		bool periodic, other, bad;
		bool told;
	} cases[] = {
		{"{\"dims\": \"value_quality\"}", true, false, false, true},
		{"{\"dims\": \"value_quality\"}", false, false, false, true},
		{"{\"dims\": \"value_quality\", \"on_change\": true}", true, false, false, false},
		{"{\"dims\": \"value_quality\", \"on_change\": true}", true, true, false, true},
		{"{\"dims\": \"value_quality\", \"on_change\": true}", true, false, true, true},
		{"{\"dims\": \"value_quality\", \"on_change\": true}", false, false, false, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		struct value v = bits(5);
		hold(&h, 16, cases[i].options);
		pushed(h.point, &v);
		v.periodic = cases[i].periodic;
		v.u += cases[i].other;
		v.quality = cases[i].bad ? QUALITY_BLOCKED : 0;
		if ((strcmp(pushed(h.point, &v), "-") != 0) != cases[i].told)
			fail_msg("case %zu", i);
		drop(&h);
	}
}

static void texts_are_remembered_not_borrowed(void **state)
{
	struct held h;
	char text[] = "first";
	struct value v = {.kind = VALUE_TEXT, .text = text, .periodic = true};

	(void)state;
	hold(&h, 0, "{\"on_change\": true}");
	assert_string_equal(pushed(h.point, &v), "[\"first\"]");
	assert_string_equal(pushed(h.point, &v), "-");
	memcpy(text, "other", sizeof(text));
	assert_string_equal(last(h.point), "[\"first\"]");
	assert_string_equal(pushed(h.point, &v), "[\"other\"]");
	assert_string_equal(point_last_value(h.point)->text, "other");
	drop(&h);
}

/* ---- from ODFs ---- */

static void odf_values_become_bits(void **state)
{
	static const struct {
		unsigned bits;
		const char *options, *odf;
		uint64_t u;
	} cases[] = {
		{1, "{}", "[1]", 1},
		{1, "{}", "[true]", 1},
		{1, "{}", "[false]", 0},
		{1, "{}", "[0.4]", 0},
		{1, "{}", "[-0.4]", 0},
		{16, "{}", "[65535]", 65535},
		{16, "{}", "[65535.4]", 65535},
		{16, "{}", "[2.5]", 3},
		{16, "{}", "[2.4999]", 2},
		{16, "{}", "[\"77\"]", 77},
		{16, "{}", "[\"-0\"]", 0},
		{16, "{\"signed\": true}", "[-1]", 0xffff},
		{16, "{\"signed\": true}", "[-32768]", 0x8000},
		{16, "{\"signed\": true}", "[-2.5]", 0xfffd},
		{16, "{\"signed\": true}", "[\"-5\"]", 0xfffb},
		{1, "{\"signed\": true}", "[-1]", 1},
		{16, "{\"scale\": 0.1}", "[23.5]", 235},
		{16, "{\"scale\": 0.1}", "[23.54]", 235},
		{64, "{\"format\": \"float64\", \"scale\": 0.1}", "[1.2]", 0x4028000000000000},
		{16, "{\"scale\": 0.1}", "[23.55001]", 236},
		{16, "{\"scale\": 2, \"offset\": -10}", "[0]", 5},
		{16, "{\"scale\": -1}", "[-7]", 7},
		{16, "{\"scale\": 0.5, \"signed\": true}", "[-1.5]", 0xfffd},
		{53, "{}", "[9007199254740991]", 0x1fffffffffffff},
		{64, "{}", "[\"18446744073709551615\"]", UINT64_MAX},
		{64, "{}", "[9223372036854775807]", INT64_MAX},
		{64, "{}", "[9223372036854775808.0]", (uint64_t)1 << 63},
		{64, "{\"signed\": true}", "[\"-9223372036854775808\"]", (uint64_t)1 << 63},
		{64, "{\"signed\": true}", "[-9223372036854775808.0]", (uint64_t)1 << 63},
		{64, "{\"scale\": 0.5}", "[\"9007199254740992\"]", (uint64_t)1 << 54},
		{32, "{\"format\": \"float32\"}", "[1.5]", 0x3fc00000},
		{32, "{\"format\": \"float32\"}", "[0.1]", 0x3dcccccd},
		{32, "{\"format\": \"float32\"}", "[-0.0]", 0x80000000},
		{32, "{\"format\": \"float32\"}", "[3]", 0x40400000},
		{32, "{\"format\": \"float32\"}", "[\"16777217\"]", 0x4b800000},
		{32, "{\"format\": \"float32\"}", "[3.4028234663852886e38]", 0x7f7fffff},
		{32, "{\"format\": \"float32\", \"scale\": 2, \"offset\": 1}", "[4]", 0x3fc00000},
		{64, "{\"format\": \"float64\"}", "[0.1]", 0x3fb999999999999a},
		{64, "{\"format\": \"float64\"}", "[true]", 0x3ff0000000000000},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		struct value v = {0};
		struct err err = {0};
		hold(&h, cases[i].bits, cases[i].options);
		int rc = from(h.point, cases[i].odf, &v, &err);
		if (rc < 0 || v.kind != VALUE_UINT || v.u != cases[i].u || v.quality != 0)
			fail_msg("%u bits %s of %s: %" PRIx64 " %s", cases[i].bits,
				 cases[i].options, cases[i].odf, v.u, err.text);
		drop(&h);
	}
}

static void wrong_odf_values_are_refused_with_the_reason(void **state)
{
	static const char number[] = "a number is needed, not null",
			  list[] = "a list of one value is needed",
			  deep[] = "a number is needed, not a list or an object",
			  digits[] = "a number is needed; a text must be decimal digits";
	static const struct {
		unsigned bits;
		const char *options, *odf;
		int code;
		const char *why;
	} cases[] = {
		{16, "{}", "[null]", ERR_SCHEMA, number},
		{0, "{}", "[null]", ERR_SCHEMA, number},
		{16, "{}", "[]", ERR_SCHEMA, list},
		{16, "{}", "[1, 2]", ERR_SCHEMA, list},
		{16, "{}", "1", ERR_SCHEMA, list},
		{16, "{}", "null", ERR_SCHEMA, list},
		{16, "{}", "{\"0\": 1}", ERR_SCHEMA, list},
		{16, "{\"dims\": \"full\"}", "[1, 0, 0]", ERR_SCHEMA, list},
		{16, "{}", "[[1]]", ERR_SCHEMA, deep},
		{16, "{}", "[{}]", ERR_SCHEMA, deep},
		{0, "{}", "[{}]", ERR_SCHEMA, deep},
		{16, "{}", "[\"\"]", ERR_SCHEMA, digits},
		{16, "{}", "[\"-\"]", ERR_SCHEMA, digits},
		{16, "{}", "[\"1.5\"]", ERR_SCHEMA, digits},
		{16, "{}", "[\"+1\"]", ERR_SCHEMA, digits},
		{16, "{}", "[\" 1\"]", ERR_SCHEMA, digits},
		{16, "{}", "[\"0x10\"]", ERR_SCHEMA, digits},
		{1, "{}", "[2]", ERR_RANGE, "2 is not in 0 to 1"},
		{1, "{\"signed\": true}", "[1]", ERR_RANGE, "1 is not in -1 to 0"},
		{16, "{}", "[65536]", ERR_RANGE, "65536 is not in 0 to 65535"},
		{16, "{}", "[65535.5]", ERR_RANGE, "65535.5 is not in 0 to 65535"},
		{16, "{}", "[-1]", ERR_RANGE, "-1 is not in 0 to 65535"},
		{16, "{}", "[-0.5]", ERR_RANGE, "-0.5 is not in 0 to 65535"},
		{16, "{}", "[1e300]", ERR_RANGE, "1e+300 is not in 0 to 65535"},
		{16, "{\"signed\": true}", "[32768]", ERR_RANGE, "32768 is not in -32768 to 32767"},
		{16, "{\"signed\": true}", "[-32769]", ERR_RANGE,
		 "-32769 is not in -32768 to 32767"},
		{16, "{\"scale\": 0.1}", "[7000]", ERR_RANGE, "7000 is not in 0 to 6553.5"},
		{16, "{\"scale\": -0.5, \"offset\": 10}", "[11]", ERR_RANGE,
		 "11 is not in -32757.5 to 10"},
		{8, "{\"scale\": 2, \"signed\": true, \"offset\": 1}", "[300]", ERR_RANGE,
		 "300 is not in -255 to 255"},
		{64, "{}", "[\"18446744073709551616\"]", ERR_RANGE,
		 "1.84467440737096e+19 is not in 0 to 18446744073709551615"},
		{64, "{\"signed\": true}", "[\"9223372036854775808\"]", ERR_RANGE,
		 "9223372036854775808 is not in -9223372036854775808 to 9223372036854775807"},
		{64, "{\"signed\": true}", "[\"-9223372036854775809\"]", ERR_RANGE,
		 "-9223372036854775809 is not in -9223372036854775808 to 9223372036854775807"},
		{64, "{\"signed\": true}", "[9223372036854775808.0]", ERR_RANGE,
		 "9.22337203685478e+18 is not in -9223372036854775808 to 9223372036854775807"},
		{32, "{\"format\": \"float32\"}", "[1e39]", ERR_RANGE,
		 "1e+39 is not in -3.40282346638529e+38 to 3.40282346638529e+38"},
		{64, "{\"format\": \"float64\", \"scale\": 0.1}", "[1.7e308]", ERR_RANGE,
		 "1.7e+308 is not in -1.79769313486232e+308 to 1.79769313486232e+308"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		struct value v = {0};
		struct err err = {0};
		hold(&h, cases[i].bits, cases[i].options);
		int rc = from(h.point, cases[i].odf, &v, &err);
		if (rc != cases[i].code || strcmp(err.text, cases[i].why) != 0)
			fail_msg("%u bits %s of %s: %d %s", cases[i].bits, cases[i].options,
				 cases[i].odf, rc, err.text);
		drop(&h);
	}
}

static void points_that_are_no_bits_take_numbers_and_texts(void **state)
{
	struct held h;
	struct value v;

	(void)state;
	hold(&h, 0, "{}");
	json_auto_t *text = json_loads("[\"pump on\"]", 0, NULL);
	assert_int_equal(point_from_odf(h.point, text, &v, NULL), 0);
	assert_int_equal(v.kind, VALUE_TEXT);
	assert_string_equal(v.text, "pump on");
	assert_int_equal(from(h.point, "[-5]", &v, NULL), 0);
	assert_true(v.kind == VALUE_INT && v.i == -5);
	assert_int_equal(from(h.point, "[2.5]", &v, NULL), 0);
	assert_true(v.kind == VALUE_REAL && v.r == 2.5);
	assert_int_equal(from(h.point, "[true]", &v, NULL), 0);
	assert_true(v.kind == VALUE_INT && v.i == 1);
	drop(&h);
	hold(&h, 0, "{\"scale\": 2}");
	assert_int_equal(from(h.point, "[5]", &v, NULL), 0);
	assert_true(v.kind == VALUE_REAL && v.r == 2.5);
	drop(&h);
}

/* ---- there and back ---- */

static uint64_t chance(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15; /* the same in every run */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* The ends of the range, powers of two and their neighbours, and what comes by chance. */
static uint64_t sample(size_t i, unsigned width)
{
	uint64_t top = width < 64 ? ((uint64_t)1 << width) - 1 : UINT64_MAX;

	if (i < 3 * (size_t)width)
		return (((uint64_t)1 << (i / 3)) + (i % 3) - 1) & top;
	return (i % 2 == 0 ? chance() : top - (chance() >> (chance() % 64))) & top;
}

static void check_way(struct held *h, uint64_t u, uint64_t tolerance)
{
	struct value v = bits(u), back = {0};
	struct err err = {0};
	json_auto_t *idf = point_to_idf(h->point, &v, NOW);

	assert_non_null(idf);
	/* as it goes over the wire */
	char *wire = json_dumps(idf, JSON_COMPACT);
	json_auto_t *odf = json_loads(wire, 0, NULL);
	int rc = point_from_odf(h->point, odf, &back, &err);
	uint64_t off = back.u > u ? back.u - u : u - back.u;
	if (rc < 0 || back.kind != VALUE_UINT || off > tolerance)
		fail_msg("%" PRIx64 " is %s and comes back as %" PRIx64 " %s", u, wire, back.u,
			 err.text);
	free(wire);
}

static void integers_come_back_as_they_went(void **state)
{
	static const char *const formats[] = {"{}", "{\"signed\": true}", "{\"format\": \"uint\"}",
					      "{\"format\": \"int\"}"};

	(void)state;
	for (size_t f = 0; f < ARRAY_LEN(formats); f++)
		for (unsigned width = 1; width <= 64; width++) {
			struct held h;
			hold(&h, width, formats[f]);
			for (size_t i = 0; i < 3 * (size_t)width + 100; i++)
				check_way(&h, sample(i, width), 0);
			drop(&h);
		}
}

static void what_is_shown_is_not_remembered(void **state)
{
	struct value text = {.kind = VALUE_TEXT, .text = "on"}, none = {0}, seven = bits(7);
	unsigned quality = 99;
	struct held h;

	(void)state;
	hold(&h, 16, "{\"scale\": 0.5, \"dims\": \"value_quality\"}");
	json_auto_t *shown = point_show(h.point, &seven, NOW, &quality);
	json_auto_t *wanted = json_pack("[f, i]", 3.5, 0);
	assert_true(json_equal(shown, wanted));
	assert_int_equal(quality, 0);
	json_auto_t *shown_text = point_show(h.point, &text, NOW, &quality);
	assert_string_equal(json_string_value(json_array_get(shown_text, 0)), "on");
	assert_null(point_show(h.point, &none, NOW, &quality));
	assert_null(point_last(h.point));
	drop(&h);
}

/* A double has 53 bits for the product, and adding takes some of them: up to 40 bits are exact
 * with these. */
static void scaled_integers_come_back_within_rounding(void **state)
{
	static const char *const formats[] = {
		"{\"scale\": 0.1}",
		"{\"scale\": 0.001, \"offset\": -40}",
		"{\"scale\": -3.7, \"offset\": 1e3, \"signed\": true}",
		"{\"scale\": 1000}",
		"{\"offset\": 273.15, \"format\": \"int\"}",
	};

	(void)state;
	for (size_t f = 0; f < ARRAY_LEN(formats); f++)
		for (unsigned width = 1; width <= 40; width++) {
			struct held h;
			hold(&h, width, formats[f]);
			for (size_t i = 0; i < 3 * (size_t)width + 100; i++)
				check_way(&h, sample(i, width), 0);
			drop(&h);
		}
}

static void wide_scaled_integers_come_back_as_near_as_doubles_are(void **state)
{
	(void)state;
	for (unsigned width = 41; width <= 63; width++) {
		struct held h;
		hold(&h, width, "{\"scale\": 0.1}");
		for (size_t i = 0; i < 300; i++)
			check_way(&h, sample(i, width) / 2,
				  width < 51 ? 0 : (uint64_t)1 << (width - 50));
		drop(&h);
	}
}

static void floats_come_back_bit_for_bit(void **state)
{
	struct held f32, f64;

	(void)state;
	hold(&f32, 32, "{\"format\": \"float32\"}");
	hold(&f64, 64, "{\"format\": \"float64\"}");
	for (size_t i = 0; i < 20000; i++) {
		uint64_t u = sample(i, 64);
		uint32_t half = (uint32_t)u;
		float f;
		double r;
		memcpy(&f, &half, sizeof(f));
		memcpy(&r, &u, sizeof(r));
		if (isfinite(f))
			check_way(&f32, half, 0);
		if (isfinite(r))
			check_way(&f64, u, 0);
	}
	drop(&f32);
	drop(&f64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bit_strings_are_pushed_as_their_numbers),
		cmocka_unit_test(numbers_and_texts_are_pushed_as_they_are),
		cmocka_unit_test(quality_and_time_are_told_as_dims_say),
		cmocka_unit_test(no_value_is_the_last_one_with_another_quality),
		cmocka_unit_test(invalid_values_do_not_become_the_last_one_of_dims_value),
		cmocka_unit_test(what_is_not_finite_is_told_to_be_invalid),
		cmocka_unit_test(on_change_holds_back_periodic_values_that_are_the_same),
		cmocka_unit_test(texts_are_remembered_not_borrowed),
		cmocka_unit_test(odf_values_become_bits),
		cmocka_unit_test(wrong_odf_values_are_refused_with_the_reason),
		cmocka_unit_test(points_that_are_no_bits_take_numbers_and_texts),
		cmocka_unit_test(what_is_shown_is_not_remembered),
		cmocka_unit_test(integers_come_back_as_they_went),
		cmocka_unit_test(scaled_integers_come_back_within_rounding),
		cmocka_unit_test(wide_scaled_integers_come_back_as_near_as_doubles_are),
		cmocka_unit_test(floats_come_back_bit_for_bit),
	};
	return cmocka_run_group_tests_name("point", tests, NULL, NULL);
}
