#include "common/err.h"
#include "common/util.h"
#include "csm/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static int setup(void **state)
{
	*state = names_new();
	return *state == NULL;
}

static int teardown(void **state)
{
	names_free(*state);
	return 0;
}

static void expect(struct names *n, const char *model, const char *want)
{
	char name[300];
	assert_int_equal(names_make(n, model, name, sizeof(name)), 0);
	assert_string_equal(name, want);
	assert_int_equal(names_use(n, name), 0);
}

static void numbers_from_00_and_on_past_99(void **state)
{
	char want[32];
	for (int i = 0; i < 5000; i++) {
		snprintf(want, sizeof(want), "%02d.AI", i);
		expect(*state, "AI", want);
	}
	expect(*state, "Other", "00.Other");
}

static void takes_the_lowest_free_number_again(void **state)
{
	for (int i = 0; i < 300; i++) {
		char want[32];
		snprintf(want, sizeof(want), "%02d.AI", i);
		expect(*state, "AI", want);
	}
	names_release(*state, "130.AI");
	names_release(*state, "07.AI");
	expect(*state, "AI", "07.AI");
	expect(*state, "AI", "130.AI");
	expect(*state, "AI", "300.AI");
}

static void never_makes_a_name_given_by_hand(void **state)
{
	names_use(*state, "01.AI");
	names_use(*state, "4711.AI");
	names_use(*state, "9999999.AI");
	expect(*state, "AI", "00.AI");
	expect(*state, "AI", "02.AI");
	for (int i = 3; i < 4711; i++) {
		char want[32];
		snprintf(want, sizeof(want), "%02d.AI", i);
		expect(*state, "AI", want);
	}
	expect(*state, "AI", "4712.AI");
}

static void a_name_two_devices_share_is_free_after_both_leave(void **state)
{
	names_use(*state, "00.AI");
	names_use(*state, "00.AI");
	names_release(*state, "00.AI");
	expect(*state, "AI", "01.AI");
	names_release(*state, "00.AI");
	expect(*state, "AI", "00.AI");
}

static void odd_names_and_models_are_left_alone(void **state)
{
	static const char *const odd[] = {"",	 "x",	     ".AI",	  "1.AI", "001.AI",
					  "00.", "00AI", "12345678.AI", "-1.AI"};
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		assert_int_equal(names_use(*state, odd[i]), 0);
	expect(*state, "AI", "00.AI");
	expect(*state, "a.b c", "00.a.b c");
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		names_release(*state, odd[i]);
	names_release(*state, "never used");
}

static void a_model_too_long_for_the_buffer_is_refused(void **state)
{
	char name[8];
	assert_int_equal(names_make(*state, "long-model", name, sizeof(name)), ERR_RANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(numbers_from_00_and_on_past_99, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_the_lowest_free_number_again, setup, teardown),
		cmocka_unit_test_setup_teardown(never_makes_a_name_given_by_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(a_name_two_devices_share_is_free_after_both_leave,
						setup, teardown),
		cmocka_unit_test_setup_teardown(odd_names_and_models_are_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(a_model_too_long_for_the_buffer_is_refused, setup,
						teardown),
	};
	return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
