#include "agent/device/field.h"
#include "common/util.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *even(const json_t *value)
{
	return json_integer_value(value) % 2 == 0 ? NULL : "must be even";
}

static const char *const sizes[] = {"SMALL", "LARGE", NULL};

static const struct field flat_fields[] = {
	{.name = "speed", .type = FIELD_INT, .min = 50, .max = 4000000, .def = "9600"},
	{0},
};

static const struct field tcp_fields[] = {
	{.name = "host", .type = FIELD_STR},
	{.name = "port", .type = FIELD_INT, .min = 1, .max = 65535, .def = "502"},
	{0},
};

static const struct field serial_port_fields[] = {
	{.name = "port", .type = FIELD_STR},
	{.name = "", .type = FIELD_ROWS, .inner = flat_fields},
	{0},
};

static const struct field_variant transports[] = {
	{.name = "TCP", .fields = tcp_fields},
	{.name = "SERIAL", .fields = serial_port_fields},
	{0},
};

static const struct field shared_fields[] = {
	{.name = "timeout", .type = FIELD_NUMBER, .max = INFINITY, .def = "1.5"},
	{0},
};

static const struct field limits_fields[] = {
	{.name = "low", .type = FIELD_NUMBER, .def = "-0.5"},
	{.name = "high", .type = FIELD_NUMBER, .flags = FIELD_NULLABLE, .def = "null"},
	{0},
};

static const struct field point_rows[] = {
	{.name = "name", .type = FIELD_STR},
	{.name = "count", .type = FIELD_INT, .min = 1, .max = 64, .check = even, .def = "16"},
	{.name = "size", .type = FIELD_ENUM, .names = sizes, .def = "\"SMALL\""},
	{.name = "limits", .type = FIELD_OBJECT, .inner = limits_fields, .def = "{}"},
	{0},
};

static const struct field rows[] = {
	{.name = "name", .type = FIELD_STR},
	{.name = "on", .type = FIELD_BOOL, .flags = FIELD_OPTIONAL},
	{.name = "transport",
	 .type = FIELD_OBJECT,
	 .flags = FIELD_OPTIONAL,
	 .inner = shared_fields,
	 .variant = "type",
	 .variants = transports},
	{.name = "data",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .inner = point_rows,
	 .flags = FIELD_OPTIONAL},
	{.name = "hosts",
	 .type = FIELD_LIST,
	 .item = FIELD_STR,
	 .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
	{.name = "levels",
	 .type = FIELD_MAP,
	 .item = FIELD_INT,
	 .min = -1,
	 .max = 9,
	 .flags = FIELD_OPTIONAL},
	{.name = "extra", .type = FIELD_ANY, .flags = FIELD_OPTIONAL},
	{0},
};

static void append(void *arg, bool is_error, const char *text)
{
	char *all = arg;
	size_t len = strlen(all);

	snprintf(all + len, 4096 - len, "%s%s\n", is_error ? "" : "warning: ", text);
}

/* Check a text. object: yours. told: all that was told, a line each; 4096 bytes. */
static int check(const char *text, json_t **object, char *told)
{
	struct problems *p = problems_new();
	json_error_t why;

	assert_non_null(p);
	*object = json_loads(text, JSON_DECODE_ANY, &why);
	if (*object == NULL)
		fail_msg("%s: %s", text, why.text);
	int rc = fields_check(rows, *object, p);

	told[0] = '\0';
	problems_each(p, append, told);
	assert_true((rc == ERR_SCHEMA) == (problems_errors(p) > 0));
	problems_free(p);
	return rc;
}

static void assert_checked(const char *text, const char *filled)
{
	char told[4096];
	json_auto_t *object = NULL, *expected = json_loads(filled, 0, NULL);
	int rc = check(text, &object, told);

	assert_string_equal(told, "");
	assert_int_equal(rc, 0);
	assert_non_null(expected);
	assert_true(json_equal(object, expected));
}

static void assert_told(const char *text, const char *expected)
{
	char told[4096];
	json_auto_t *object = NULL;

	check(text, &object, told);
	assert_string_equal(told, expected);
}

static void what_is_missing_gets_its_default(void **state)
{
	(void)state;
	assert_checked("{\"name\": \"a\"}", "{\"name\": \"a\"}");
	assert_checked(
		"{\"name\": \"a\", \"data\": [{\"name\": \"p\"}, {\"name\": \"q\", \"count\": 2}]}",
		"{\"name\": \"a\", \"data\": ["
		"{\"name\": \"p\", \"count\": 16, \"size\": \"SMALL\","
		" \"limits\": {\"low\": -0.5, \"high\": null}},"
		"{\"name\": \"q\", \"count\": 2, \"size\": \"SMALL\","
		" \"limits\": {\"low\": -0.5, \"high\": null}}]}");
}

static void an_object_may_be_of_several_kinds(void **state)
{
	(void)state;
	assert_checked("{\"name\": \"a\", \"transport\": {\"type\": \"TCP\", \"host\": \"h\"}}",
		       "{\"name\": \"a\", \"transport\": {\"type\": \"TCP\", \"host\": \"h\","
		       " \"port\": 502, \"timeout\": 1.5}}");
	assert_checked(
		"{\"name\": \"a\", \"transport\": {\"type\": \"SERIAL\", \"port\": \"/dev/x\"}}",
		"{\"name\": \"a\", \"transport\": {\"type\": \"SERIAL\", \"port\": \"/dev/x\","
		" \"speed\": 9600, \"timeout\": 1.5}}");
	assert_told("{\"name\": \"a\", \"transport\": {\"type\": \"SERIAL\", \"port\": 502,"
		    " \"speed\": 1, \"host\": \"h\"}}",
		    "transport.port: must be a text of 1 to 255 bytes\n"
		    "transport.speed: must be an integer from 50 to 4000000\n"
		    "warning: transport.host: is not known (did you mean port?)\n");
	assert_told("{\"name\": \"a\", \"transport\": {\"type\": \"tcp\", \"odd\": 1}}",
		    "transport.type: must be one of TCP, SERIAL (did you mean TCP?)\n");
	assert_told("{\"name\": \"a\", \"transport\": {}}",
		    "transport.type: is missing; it is one of TCP, SERIAL\n");
}

static void everything_that_is_wrong_is_told_with_its_path(void **state)
{
	(void)state;
	assert_told("{\"on\": 1, \"data\": [{\"name\": \"p\"},"
		    " {\"name\": \"\", \"count\": 65, \"size\": \"LARG\", \"limits\": {\"low\": "
		    "\"x\"}},"
		    " 7, {\"name\": \"q\", \"count\": 3}], \"levels\": {\"a\": 9, \"b\": 10}}",
		    "name: is missing; it is a text of 1 to 255 bytes\n"
		    "on: must be true or false\n"
		    "data[1].name: must be a text of 1 to 255 bytes\n"
		    "data[1].count: must be an integer from 1 to 64\n"
		    "data[1].size: must be one of SMALL, LARGE (did you mean LARGE?)\n"
		    "data[1].limits.low: must be a number\n"
		    "data[2]: must be an object\n"
		    "data[3].count: must be even\n"
		    "levels.b: must be an integer from -1 to 9\n");
	assert_told("7", "must be an object\n");
}

static void null_is_taken_where_the_table_says_so(void **state)
{
	(void)state;
	assert_checked("{\"name\": \"a\", \"hosts\": null}", "{\"name\": \"a\", \"hosts\": null}");
	assert_told("{\"name\": null, \"hosts\": [null, \"b\"], \"on\": null}",
		    "name: must be a text of 1 to 255 bytes\n"
		    "on: must be true or false\n"
		    "hosts[0]: must be a text of 1 to 255 bytes\n");
	assert_told("{\"name\": \"a\", \"hosts\": 1}", "hosts: must be a list or null\n");
}

static void texts_have_a_length_and_no_nul(void **state)
{
	char text[400];

	(void)state;
	snprintf(text, sizeof(text), "{\"name\": \"%0255d\"}", 0);
	assert_told(text, "");
	snprintf(text, sizeof(text), "{\"name\": \"%0256d\"}", 0);
	assert_told(text, "name: must be a text of 1 to 255 bytes\n");

	struct problems *p = problems_new();
	json_auto_t *object = json_loads("{\"name\": \"a\\u0000b\"}", JSON_ALLOW_NUL, NULL);

	assert_non_null(object);
	assert_int_equal(fields_check(rows, object, p), ERR_SCHEMA);
	problems_free(p);
}

static void unknown_keys_are_a_warning_with_the_nearest_name(void **state)
{
	(void)state;
	assert_told("{\"name\": \"a\", \"host\": [], \"zzzzzzzz\": 1,"
		    " \"data\": [{\"name\": \"b\", \"cuont\": 2}]}",
		    "warning: data[0].cuont: is not known (did you mean count?)\n"
		    "warning: host: is not known (did you mean hosts?)\n"
		    "warning: zzzzzzzz: is not known\n");
}

static void any_value_is_left_alone(void **state)
{
	(void)state;
	assert_checked("{\"name\": \"a\", \"extra\": {\"b\": [1, null]}}",
		       "{\"name\": \"a\", \"extra\": {\"b\": [1, null]}}");
}

static void what_is_told_can_be_shown_on_a_terminal(void **state)
{
	(void)state;
	assert_told("{\"name\": \"a\", \"\\u001b[31m\\n\": 1}", "warning: ?[31m?: is not known\n");
}

static void count(void *arg, bool is_error, const char *text)
{
	(void)is_error;
	(void)text;
	(*(size_t *)arg)++;
}

static void last_text(void *arg, bool is_error, const char *text)
{
	(void)is_error;
	snprintf(arg, 100, "%s", text);
}

static void a_file_that_is_all_wrong_takes_no_more_memory_than_that(void **state)
{
	struct problems *p = problems_new();
	json_auto_t *object = json_pack("{s:s}", "name", "a");
	json_t *list = json_array();
	size_t told = 0;
	char last[100];

	(void)state;
	for (size_t i = 0; i < 100000; i++)
		json_array_append_new(list, json_integer(1));
	json_object_set_new(object, "data", list);
	assert_int_equal(fields_check(rows, object, p), ERR_SCHEMA);
	assert_int_equal(problems_errors(p), 100000);
	problems_each(p, count, &told);
	assert_in_range(told, 100, 2000);
	problems_each(p, last_text, last);
	assert_int_equal(atol(last) + (long)told - 1, 100000);
	assert_non_null(strstr(last, "more"));
	/* warnings take no error's place, nor the other way round */
	problem_warn(p, "", "odd");
	problems_each(p, last_text, last);
	assert_non_null(strstr(last, "more"));
	told = 0;
	problems_each(p, count, &told);
	assert_int_equal(atol(last) + (long)told - 2, 100000);
	problems_free(p);
}

static void paths_go_in_and_out(void **state)
{
	struct problems *p = problems_new();
	char told[4096] = "";

	(void)state;
	problem_enter(p, "devices[%d]", 3);
	problem_add(p, "data[7].name", "is %s", "twice");
	problem_enter(p, "%0500d", 0); /* longer than a path may be */
	problem_add(p, "x", "y");
	problem_leave(p);
	problem_add(p, "", "is odd");
	problem_leave(p);
	problem_warn(p, "", "all in all");
	problems_each(p, append, told);
	assert_ptr_equal(strstr(told, "devices[3].data[7].name: is twice\ndevices[3].000"), told);
	assert_non_null(strstr(told, "\ndevices[3]: is odd\nwarning: all in all\n"));
	assert_int_equal(problems_errors(p), 3);
	problems_free(p);
}

static void rows_are_found_and_told_in_words(void **state)
{
	char words[FIELD_WORDS_MAX];

	(void)state;
	assert_ptr_equal(fields_find(serial_port_fields, "speed"), &flat_fields[0]);
	assert_null(fields_find(serial_port_fields, "host"));
	field_words(&shared_fields[0], words, sizeof(words));
	assert_string_equal(words, "a number of at least 0");
	field_words(&rows[4], words, sizeof(words));
	assert_string_equal(words, "a list or null");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_missing_gets_its_default),
		cmocka_unit_test(an_object_may_be_of_several_kinds),
		cmocka_unit_test(everything_that_is_wrong_is_told_with_its_path),
		cmocka_unit_test(null_is_taken_where_the_table_says_so),
		cmocka_unit_test(texts_have_a_length_and_no_nul),
		cmocka_unit_test(unknown_keys_are_a_warning_with_the_nearest_name),
		cmocka_unit_test(any_value_is_left_alone),
		cmocka_unit_test(what_is_told_can_be_shown_on_a_terminal),
		cmocka_unit_test(a_file_that_is_all_wrong_takes_no_more_memory_than_that),
		cmocka_unit_test(paths_go_in_and_out),
		cmocka_unit_test(rows_are_found_and_told_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
