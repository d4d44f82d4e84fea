/* test_packed.c - JSON values that are packed come back as they were, and take little memory. */
#include "agent/device/packed.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

/* The members of objects in their order, numbers to their last digit. */
static void check_same(const char *text)
{
	json_auto_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
	CLEANUP(freep)
	struct packed *p = packed_new(value);

	assert_non_null(value);
	assert_non_null(p);
	json_auto_t *back = packed_json(p);
	assert_true(json_equal(back, value));
	CLEANUP(freep)
	char *before = json_dumps(value, JSON_ENCODE_ANY);
	CLEANUP(freep)
	char *after = json_dumps(back, JSON_ENCODE_ANY);
	assert_string_equal(after, before);
}

static void test_back_again(void **state)
{
	(void)state;
	check_same("{\"b\": 1, \"a\": {\"z\": [], \"y\": {}, \"x\": [1, [2, {}]]}, \"0\": null}");
	check_same("[0.1, 1.0, -0.0, 1e300, 2.2250738585072014e-308, 0.30000000000000004]");
	check_same("[9223372036854775807, -9223372036854775808, 0, true, false, null]");
	check_same("[\"\", \"\\u00b0C \\u4e2d \\ud83d\\ude00\", \"\\\"\\\\/\\n\\u0001\"]");
	check_same("\"text\"");
	check_same("null");
}

static json_t *points(size_t n)
{
	json_t *list = json_array();
	char name[40];

	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "boiler_%zu_register_%zu", i / 10, i);
		json_array_append_new(
			list, json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:s, s:i, s:i, s:b, "
					"s:s, s:b}",
					"name", name, "interval", 1, "data_type",
					"HOLDING_REGISTER", "start_address", (int)i, "bit_count",
					16, "bit_offset", 0, "order", "big", "scale", 1, "offset",
					0, "signed", 0, "dims", "value", "on_change", 0));
	}
	return list;
}

static void test_many_objects(void **state)
{
	(void)state;
	for (size_t n = 1; n <= 10000; n *= 10) {
		json_auto_t *list = points(n);
		CLEANUP(freep)
		struct packed *p = packed_new(list);

		assert_non_null(p);
		json_auto_t *back = packed_json(p);
		assert_true(json_equal(back, list));
		/* 250 bytes of text each */
		assert_in_range(malloc_usable_size(p), 1, 300 + 25 * n);
	}
}

/* What does not get smaller: no two bytes in a row are like any before. */
static void test_no_repetitions(void **state)
{
	char text[20000];
	unsigned x = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		x = x * 1103515245 + 12345;
		text[i] = (char)(' ' + (x >> 16) % 95);
	}
	text[sizeof(text) - 1] = '\0';
	json_auto_t *value = json_string(text);
	CLEANUP(freep)
	struct packed *p = packed_new(value);
	assert_non_null(p);
	json_auto_t *back = packed_json(p);
	assert_string_equal(json_string_value(back), text);
}

static void test_no_value(void **state)
{
	(void)state;
	assert_null(packed_new(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_back_again),
		cmocka_unit_test(test_many_objects),
		cmocka_unit_test(test_no_repetitions),
		cmocka_unit_test(test_no_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
