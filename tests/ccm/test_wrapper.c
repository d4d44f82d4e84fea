/* test_wrapper.c - generated functions: their text, what they depend on, and that both can be told again after a restart. What they
 * compute is tested with engines (tests/system/test_ccm_drive.py). */
#include "ccm/drive/wrapper.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define CODE "def run(x): return x\n"

static const char *source(const struct wrapper *w)
{
	return json_string_value(json_object_get(w->sources, w->digest.s));
}

static const char *dependency(const struct wrapper *w, const char *alias)
{
	const char *digest = json_string_value(json_object_get(w->depends, alias));
	return digest != NULL ? json_string_value(json_object_get(w->sources, digest)) : NULL;
}

static void without_a_function_there_is_no_wrapper(void **state)
{
	(void)state;
	const struct user_function none = {0};
	const struct output_param params[] = {{.dfo_id = 1}, {.dfo_id = 1, .param_i = 1, .normalized = true, .min = 2, .max = 2}};
	struct wrapper w;
	assert_int_equal(wrapper_of_function(&none, &w, NULL), 0);
	assert_string_equal(w.digest.s, "");
	assert_int_equal(json_object_size(w.depends) + json_object_size(w.sources), 0);
	wrapper_done(&w);
	assert_int_equal(wrapper_of_output(params, ARRAY_LEN(params), &w, NULL), 0);
	assert_string_equal(w.digest.s, "");
	wrapper_done(&w);
}

static void one_function_gets_all_arguments_and_gives_the_one_value(void **state)
{
	(void)state;
	const struct user_function fn = {.fn_id = 7, .name = "scale", .code = CODE};
	struct wrapper w;
	assert_int_equal(wrapper_of_function(&fn, &w, NULL), 0);
	assert_string_equal(source(&w), "def run(*args):\n    result = [iot._scale(*args)]\n    return result\n");
	assert_string_equal(dependency(&w, "_scale"), CODE);
	assert_int_equal(json_object_size(w.depends), 1);
	assert_int_equal(json_object_size(w.sources), 2);
	assert_string_equal(w.digest.s, "d20073af0abd2fa1750d38b88b64c86af77ed8a1782aa70edf140e459b93612a");
	wrapper_done(&w);
}

static void the_text_does_not_depend_on_what_functions_do(void **state)
{
	(void)state;
	const struct user_function a = {.fn_id = 7, .name = "scale", .code = CODE};
	const struct user_function b = {.fn_id = 7, .name = "scale", .code = "def run(x): return 2 * x\n"};
	struct wrapper x, y;
	assert_int_equal(wrapper_of_function(&a, &x, NULL), 0);
	assert_int_equal(wrapper_of_function(&b, &y, NULL), 0);
	assert_string_equal(x.digest.s, y.digest.s);
	assert_false(json_equal(x.depends, y.depends));
	wrapper_done(&x);
	wrapper_done(&y);
}

static void names_that_are_no_identifiers_give_way_to_numbers(void **state)
{
	(void)state;
	static const struct {
		const char *name, *alias;
	} cases[] = {{"a b", "__7"}, {"_x", "__7"}, {"1st", "__7"}, {"", "__7"}, {"x\")", "__7"}, {"\xc3\xa4", "__7"}, {"x_1", "_x_1"}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct user_function fn = {.fn_id = 7, .name = cases[i].name, .code = CODE};
		struct wrapper w;
		assert_int_equal(wrapper_of_function(&fn, &w, NULL), 0);
		if (dependency(&w, cases[i].alias) == NULL)
			fail_msg("'%s' is not %s", cases[i].name, cases[i].alias);
		wrapper_done(&w);
	}
}

static void an_output_has_an_element_for_each_parameter(void **state)
{
	(void)state;
	const struct output_param params[] = {
		{.fn = {.fn_id = 1, .name = "scale", .code = CODE}, .dfo_id = 12},
		{.dfo_id = 12, .param_i = 1, .normalized = true, .min = -1.5, .max = 100},
		{.fn = {.fn_id = 1, .name = "scale", .code = CODE}, .dfo_id = 12, .param_i = 2, .normalized = true, .max = 1},
		{.dfo_id = 12, .param_i = 3},
	};
	struct wrapper w;
	assert_int_equal(wrapper_of_output(params, ARRAY_LEN(params), &w, NULL), 0);
	assert_string_equal(source(&w), "def run(*args):\n"
					"    result = [\n"
					"        iot._scale(*args),\n"
					"        iot._12_1_normalize(args[min(1, len(args) - 1)]),\n"
					"        iot._12_2_normalize(iot._scale(*args)),\n"
					"        args[min(3, len(args) - 1)],\n"
					"    ]\n"
					"    return result\n");
	assert_non_null(strstr(dependency(&w, "_12_1_normalize"), "return (100 + -1.5) / 2\n"));
	assert_non_null(strstr(dependency(&w, "_12_1_normalize"), "return -1.5 + (value - low) * (100 - -1.5) / (high - low)\n"));
	assert_int_equal(json_object_size(w.depends), 3);
	wrapper_done(&w);
}

static void a_source_that_is_no_text_is_an_error(void **state)
{
	(void)state;
	const struct user_function fn = {.fn_id = 7, .name = "bad", .code = "\xff"};
	struct wrapper w;
	struct err err;
	assert_int_equal(wrapper_of_function(&fn, &w, &err), ERR_SCHEMA);
	assert_non_null(strstr(err.text, "_bad"));
	assert_null(w.depends);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_function_there_is_no_wrapper),
		cmocka_unit_test(one_function_gets_all_arguments_and_gives_the_one_value),
		cmocka_unit_test(the_text_does_not_depend_on_what_functions_do),
		cmocka_unit_test(names_that_are_no_identifiers_give_way_to_numbers),
		cmocka_unit_test(an_output_has_an_element_for_each_parameter),
		cmocka_unit_test(a_source_that_is_no_text_is_an_error),
	};
	return cmocka_run_group_tests_name("wrapper", tests, NULL, NULL);
}
