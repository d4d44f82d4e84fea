#include "common/trace.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LONGEST "0123456789012345678901234567890123456789012345678901234567890123"

static void ids_that_need_quotes_somewhere_are_not_taken(void **state)
{
	static const char *const good[] = {"a", "req-1", "2026:11:29.5", LONGEST};
	static const char *const bad[] = {"",     "a b",  "a,b",      "a+b",
					  "a\"b", "a\nb", "\xc3\xa4", LONGEST "4"};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(trace_valid(good[i]));
		assert_string_equal(trace_of(good[i]).s, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(trace_valid(bad[i]));
		assert_string_not_equal(trace_of(bad[i]).s, bad[i]);
	}
}

static void ids_of_ours_are_12_hex_digits_and_differ(void **state)
{
	struct trace_text a = trace_of(NULL), b = trace_of("");
	(void)state;
	assert_int_equal(strspn(a.s, "0123456789abcdef"), 12);
	assert_int_equal(strlen(a.s), 12);
	assert_int_equal(strlen(b.s), 12);
	assert_string_not_equal(a.s, b.s);
}

static void lists_name_as_many_as_fit_and_count_the_others(void **state)
{
	struct traces t = {.s = ""};
	(void)state;
	traces_add(&t, "one");
	traces_add(&t, "two");
	assert_string_equal(t.s, "one,two");
	for (int i = 0; i < 1000; i++)
		traces_add(&t, LONGEST);
	assert_true(strlen(t.s) < TRACES_MAX);
	assert_string_equal(t.s, "one,two," LONGEST "," LONGEST "+998");
	traces_add(&t, "x"); /* no room once is no room: they are in order */
	assert_string_equal(t.s, "one,two," LONGEST "," LONGEST "+999");
	assert_string_equal(traces_parse(t.s).s, t.s);
}

static void lists_of_others_are_not_believed(void **state)
{
	char too_long[TRACES_MAX + 1];
	static const char *const bad[] = {"", "a b", "a\nb", "\"", "a;b"};
	(void)state;
	memset(too_long, 'a', TRACES_MAX);
	too_long[TRACES_MAX] = '\0';
	assert_string_equal(traces_parse(NULL).s, "");
	assert_string_equal(traces_parse(too_long).s, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_string_equal(traces_parse(bad[i]).s, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_that_need_quotes_somewhere_are_not_taken),
		cmocka_unit_test(ids_of_ours_are_12_hex_digits_and_differ),
		cmocka_unit_test(lists_name_as_many_as_fit_and_count_the_others),
		cmocka_unit_test(lists_of_others_are_not_believed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
