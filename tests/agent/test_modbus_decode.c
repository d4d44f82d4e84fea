#include "agent/device/modbus/decode.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ret: borrowed; NULL: no such row. order NULL: none. */
static const json_t *row_of(const json_t *rows, int address, const char *type, const char *order)
{
	const json_t *row;
	size_t i;

	json_array_foreach (rows, i, row) {
		const char *has = json_string_value(json_object_get(row, "order"));

		if (json_integer_value(json_object_get(row, "address")) == address &&
		    strcmp(json_string_value(json_object_get(row, "type")), type) == 0 &&
		    (order == NULL ? has == NULL : has != NULL && strcmp(has, order) == 0))
			return json_object_get(row, "value");
	}
	return NULL;
}

static void every_type_and_order_is_shown(void **state)
{
	/* "AB", and 123456.75 and -1234.5 as floats, and a number beyond 53 bits */
	static const uint16_t words[] = {0x4142, 0x47f1, 0x2060, 0xc093, 0x4a00,
					 0x0000, 0x0000, 0xffff, 0xfffe};
	static const struct {
		int address;
		const char *type, *order, *value; /* JSON */
	} cases[] = {
		{100, "uint16", "AB", "16706"},
		{100, "uint16", "BA", "16961"},
		{103, "int16", "AB", "-16237"},
		{100, "bits", NULL, "\"0100000101000010\""},
		{100, "ascii", "AB", "\"AB\""},
		{101, "uint32", "ABCD", "1206984800"},
		{101, "uint32", "CDAB", "543180785"},
		{101, "uint32", "BADC", "4047986720"},
		{101, "uint32", "DCBA", "1612771655"},
		{101, "float32", "ABCD", "123456.75"},
		{103, "float64", "ABCD", "-1234.5"},
		{103, "int32", "ABCD", "-1064089088"},
		{103, "uint64", "ABCD", "\"13876516240719085568\""},
		{105, "uint64", "ABCD", "4294967294"},
		{105, "int64", "CDAB", "-281479271677952"},
		{103, "int64", "ABCD", "\"-4570227832990466048\""},
		{107, "int32", "ABCD", "-2"},
		{107, "float32", "ABCD", "null"},
	};

	(void)state;
	json_auto_t *rows = modbus_decode(100, words, ARRAY_LEN(words));
	assert_non_null(rows);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const json_t *value = row_of(rows, cases[i].address, cases[i].type, cases[i].order);
		json_auto_t *expected = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);

		assert_non_null(expected);
		if (value == NULL || !json_equal(value, expected)) {
			char *text = value != NULL ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
			fail_msg("%d %s %s: %s", cases[i].address, cases[i].type,
				 cases[i].order != NULL ? cases[i].order : "", text);
		}
	}
	/* nothing that would need what is behind the block */
	assert_null(row_of(rows, 108, "uint32", "ABCD"));
	assert_null(row_of(rows, 106, "uint64", "ABCD"));
	assert_non_null(row_of(rows, 108, "uint16", "AB"));
}

static void text_is_shown_in_both_orders(void **state)
{
	static const uint16_t words[] = {0x6548, 0x6c6c, 0x006f};

	(void)state;
	json_auto_t *rows = modbus_decode(0, words, ARRAY_LEN(words));
	const json_t *last = json_array_get(rows, json_array_size(rows) - 1);
	assert_string_equal(json_string_value(json_object_get(last, "value")), "Hello.");
	last = json_array_get(rows, json_array_size(rows) - 2);
	assert_string_equal(json_string_value(json_object_get(last, "value")), "eHll.o");
}

static void one_register_and_none_are_blocks_too(void **state)
{
	const uint16_t word = 0x8000;

	(void)state;
	json_auto_t *one = modbus_decode(65535, &word, 1);
	assert_int_equal(json_array_size(one), 6);
	assert_int_equal(json_integer_value(row_of(one, 65535, "int16", "AB")), -32768);
	json_auto_t *none = modbus_decode(0, &word, 0);
	assert_int_equal(json_array_size(none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_and_order_is_shown),
		cmocka_unit_test(text_is_shown_in_both_orders),
		cmocka_unit_test(one_register_and_none_are_blocks_too),
	};
	return cmocka_run_group_tests_name("modbus_decode", tests, NULL, NULL);
}
