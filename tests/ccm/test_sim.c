/* test_sim.c - values of simulated devices: of the parameter's type, and in its range. What devices do is tested with daemons
 * (tests/system/test_ccm_drive.py). */
#include "ccm/sim/device.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sodium.h>

#include <cmocka.h>

static json_t *value(const char *type, double min, double max)
{
	json_auto_t *param = json_pack("{s:s, s:f, s:f}", "param_type", type, "min", min, "max", max);
	json_t *v = sim_value(param);
	assert_non_null(v);
	return v;
}

static void numbers_are_in_their_range(void **state)
{
	(void)state;
	static const struct {
		const char *type;
		double min, max, low, high;
		bool whole;
	} cases[] = {
		{"int", 3, 5, 3, 5, true},	    {"int", 5, 3, 3, 5, true},	 {"int", 0, 0, 0, 100, true},
		{"int", -1.5, 1.5, -1, 1, true},    {"int", 0.2, 0.8, 0.2, 0.8, false}, {"int", -1e300, 1e300, -1e15, 1e15, true},
		{"float", -2.5, 7.5, -2.5, 7.5, false}, {"float", 9, 9, 0, 1, false}, {"float", -1.7e308, 1.7e308, -1.7e308, 1.7e308, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (int n = 0; n < 200; n++) {
			json_auto_t *v = value(cases[i].type, cases[i].min, cases[i].max);
			double x = json_number_value(v);
			if (json_is_integer(v) != cases[i].whole || x < cases[i].low || x > cases[i].high)
				fail_msg("case %zu: %f", i, x);
		}
	}
}

static void every_whole_number_of_a_range_comes(void **state)
{
	(void)state;
	unsigned seen = 0;
	for (int n = 0; n < 1000 && seen != 7; n++) {
		json_auto_t *v = value("int", 0, 2);
		seen |= 1u << json_integer_value(v);
	}
	assert_int_equal(seen, 7);
}

static void other_types_have_values_of_theirs(void **state)
{
	(void)state;
	json_auto_t *truth = value("boolean", 0, 0), *text = value("string", 0, 0), *object = value("json", 0, 0), *nothing = value("void", 0, 0);
	json_auto_t *unknown = value("what", 0, 0);
	assert_true(json_is_boolean(truth) && json_is_string(text) && json_is_object(object) && json_is_null(nothing) && json_is_null(unknown));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_in_their_range),
		cmocka_unit_test(every_whole_number_of_a_range_comes),
		cmocka_unit_test(other_types_have_values_of_theirs),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
