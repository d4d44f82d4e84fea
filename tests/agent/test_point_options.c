/* Points: their options, units, and the names of their features. */
#include "common/map.h"
#include "tests/agent/point_bench.h"

/* ---- options ---- */

static void note(void *arg, bool is_error, const char *text)
{
	char *all = arg;
	size_t len = strlen(all);

	snprintf(all + len, 400 - len, "%s%s;", is_error ? "" : "warning ", text);
}

static void contradicting_options_are_told(void **state)
{
	static const struct {
		unsigned bits;
		const char *options, *told, *first;
	} cases[] = {
		{16, "{\"signed\": true, \"format\": \"uint\"}",
		 "signed: contradicts the format, which is not int;",
		 "point 'p': signed: contradicts the format, which is not int"},
		{32, "{\"signed\": true, \"format\": \"float32\"}",
		 "signed: contradicts the format, which is not int;",
		 "point 'p': signed: contradicts the format, which is not int"},
		{16, "{\"format\": \"float32\"}", "format: float32 needs a point of 32 bits;",
		 "point 'p': format: float32 needs a point of 32 bits"},
		{64, "{\"format\": \"float32\"}", "format: float32 needs a point of 32 bits;",
		 "point 'p': format: float32 needs a point of 32 bits"},
		{32, "{\"format\": \"float64\", \"signed\": true}",
		 "signed: contradicts the format, which is not int;"
		 "format: float64 needs a point of 64 bits;",
		 "point 'p': signed: contradicts the format, which is not int"},
		{0, "{\"signed\": true}",
		 "signed: this point is a number already, not bits that could be signed;",
		 "point 'p': signed: this point is a number already, not bits that could be "
		 "signed"},
		{0, "{\"format\": \"int\"}",
		 "format: this point is a number already, not bits that need a format;",
		 "point 'p': format: this point is a number already, not bits that need a format"},
		{16, "{\"scale\": 0}", "scale: a scale of 0 makes every value the same;",
		 "point 'p': scale: a scale of 0 makes every value the same"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char told[400] = "";
		struct err err = {0};
		struct points *p = NULL;
		struct problems *problems = problems_new();
		json_auto_t *options = options_of(cases[i].options);
		const struct point_spec spec = {
			.name = "p", .options = options, .bits = cases[i].bits};
		point_check(&spec, problems);
		problems_each(problems, note, told);
		assert_string_equal(told, cases[i].told);
		assert_int_equal(points_new(&spec, 1, &p, &err), ERR_SCHEMA);
		assert_string_equal(err.text, cases[i].first);
		assert_null(p);
		problems_free(problems);
	}
}

static void the_table_checks_and_completes_options(void **state)
{
	static const struct {
		const char *options;
		bool right;
	} cases[] = {
		{"{}", true},
		{"{\"feature\": \"feeder1_i\", \"unit\": \"A\", \"keep\": \"all\"}", true},
		{"{\"unit\": null, \"dims\": \"full\", \"on_change\": true}", true},
		{"{\"scale\": -0.1, \"offset\": 7, \"format\": \"int\", \"signed\": true}", true},
		{"{\"feature\": \"Feeder\"}", false},
		{"{\"feature\": \"1a\"}", false},
		{"{\"feature\": \"a__b\"}", false},
		{"{\"feature\": \"a_\"}", false},
		{"{\"feature\": \"a-b\"}", false},
		{"{\"feature\": \"\"}", false},
		{"{\"scale\": 0}", false},
		{"{\"scale\": \"1\"}", false},
		{"{\"offset\": null}", false},
		{"{\"signed\": 1}", false},
		{"{\"format\": \"float16\"}", false},
		{"{\"dims\": \"all\"}", false},
		{"{\"keep\": \"some\"}", false},
		{"{\"unit\": 7}", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct problems *problems = problems_new();
		json_auto_t *options = options_of(cases[i].options);
		int rc = fields_check(point_fields, options, problems);
		if ((rc == 0) != cases[i].right)
			fail_msg("%s: %d", cases[i].options, rc);
		problems_free(problems);
	}
	json_auto_t *filled = json_object(),
		    *want = options_of("{\"scale\": 1, \"offset\": 0, \"signed\": false, "
				       "\"dims\": \"value\", \"on_change\": false}");
	struct problems *none = problems_new();
	assert_int_equal(fields_check(point_fields, filled, none), 0);
	assert_true(json_equal(filled, want));
	problems_free(none);
}

static void units_are_those_of_the_dimensions(void **state)
{
	static const struct {
		const char *options, *idf, *odf;
	} cases[] = {
		{"{}", "-", "-"},
		{"{\"unit\": null}", "-", "-"},
		{"{\"unit\": \"A\"}", "A;", "A;"},
		{"{\"unit\": \"A\", \"dims\": \"value_quality\"}", "A;quality;", "A;"},
		{"{\"unit\": \"A\", \"dims\": \"full\"}", "A;quality;us;", "A;"},
		{"{\"dims\": \"full\"}", ";quality;us;", "-"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct held h;
		hold(&h, 16, cases[i].options);
		for (int output = 0; output < 2; output++) {
			const char *buf[POINT_UNITS_MAX];
			char all[64] = "";
			const char *const *units = point_units(h.point, output, buf);
			for (size_t k = 0; units != NULL && units[k] != NULL; k++)
				snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s;",
					 units[k]);
			assert_string_equal(units != NULL ? all : "-",
					    output ? cases[i].odf : cases[i].idf);
		}
		drop(&h);
	}
}

/* ---- names ---- */

static const char *name_in(struct map *used, const char *name, bool output)
{
	static char buf[FEATURE_NAME_MAX + 1];

	assert_int_equal(feature_name(name, output, used, buf, NULL), 0);
	return buf;
}

static void names_become_slugs(void **state)
{
	char longest[FEATURE_NAME_MAX + 1], longer[300], cut[300];
	static const struct {
		const char *name, *slug;
	} cases[] = {
		{"temp", "temp"},
		{"Outdoor Temp", "outdoor_temp"},
		{"a--b__c..d", "a_b_c_d"},
		{"trailing!!", "trailing"},
		{"1st", "p_1st"},
		{"_x", "p_x"},
		{"-x-", "p_x"},
		{"x_", "x"},
		{"___", "p"},
		{"\xe6\xba\xab\xe5\xba\xa6", "p"},
		{"\xe6\xba\xab 1", "p_1"},
		{"caf\xc3\xa9 2", "caf_2"},
		{"1.3.6.1", "p_1_3_6_1"},
		{"LINK1", "link1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct map *used = map_new();
		assert_string_equal(name_in(used, cases[i].name, false), cases[i].slug);
		map_free(used, free);
	}
	struct map *used = map_new();
	memset(longest, 'a', FEATURE_NAME_MAX);
	longest[FEATURE_NAME_MAX] = '\0';
	memset(longer, 'A', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_string_equal(name_in(used, longer, false), longest);
	/* the number has room too */
	memcpy(longest + FEATURE_NAME_MAX - 2, "_2", 3);
	assert_string_equal(name_in(used, longer, false), longest);
	memcpy(longest + FEATURE_NAME_MAX - 2, "_3", 3);
	assert_string_equal(name_in(used, longer, false), longest);
	map_free(used, free);
	/* cut where there is a '_' */
	used = map_new();
	memset(cut, 'b', sizeof(cut));
	cut[FEATURE_NAME_MAX - 1] = ' ';
	cut[sizeof(cut) - 1] = '\0';
	assert_int_equal(strlen(name_in(used, cut, false)), FEATURE_NAME_MAX - 1);
	map_free(used, free);
}

static void names_that_collide_are_numbered_in_order(void **state)
{
	static const struct {
		const char *name;
		bool output;
		const char *feature;
	} cases[] = {
		{"link", false, "link"}, /* as a view takes it first */
		{"Link", false, "link_2"},
		{"temp", false, "temp"},
		{"Temp", false, "temp_2"},
		{"TEMP", true, "temp_3"},
		{"temp_3", false, "temp_3_2"},
		{"temp!", false, "temp_4"},
		/* what an ODF and its outcome are called is taken as well */
		{"pump", true, "pump"},
		{"pump_set", false, "pump_set_2"},
		{"pump_ack", false, "pump_ack_2"},
		{"valve_ack", false, "valve_ack"},
		{"valve", true, "valve_2"},
		{"valve", false, "valve"},
		{"x_set", true, "x_set"},
		{"x", true, "x_2"},
	};
	struct map *used = map_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *feature = name_in(used, cases[i].name, cases[i].output);
		if (strcmp(feature, cases[i].feature) != 0)
			fail_msg("%s: %s, not %s", cases[i].name, feature, cases[i].feature);
	}
	map_free(used, free);
}

static void many_equal_names_all_get_one(void **state)
{
	struct map *used = map_new();
	char want[32];

	(void)state;
	name_in(used, "\xe6\xba\xab", true);
	for (unsigned i = 2; i < 20000; i++) {
		snprintf(want, sizeof(want), "p_%u", i);
		assert_string_equal(name_in(used, "\xe6\xba\xab", true), want);
	}
	map_free(used, free);
}

static void a_feature_of_the_options_names_it(void **state)
{
	json_auto_t *options = options_of("{\"feature\": \"feeder1_i\"}");
	json_auto_t *none = json_object();
	const struct point_spec named = {.name = "I 1", .options = options},
				plain = {.name = "I 1", .options = none};

	(void)state;
	assert_string_equal(point_feature(&named), "feeder1_i");
	assert_string_equal(point_feature(&plain), "I 1");
}

/* Whatever they have in common: each is converted as its own options say, and has its own last
 * value. */
static void many_points_keep_their_own_options_and_values(void **state)
{
	enum { MANY = 60 };
	struct point_spec specs[MANY];
	struct points *all = NULL;
	(void)state;
	for (size_t i = 0; i < MANY; i++)
		specs[i] = (struct point_spec){.name = "p",
					       .options = json_pack("{s:i, s:s}", "scale",
								    (int)(i % 20 + 1), "unit",
								    i % 2 ? "V" : "A"),
					       .bits = 16};
	assert_int_equal(points_new(specs, MANY, &all, NULL), 0);
	for (size_t i = 0; i < MANY; i++) {
		const struct value v = {.kind = VALUE_UINT, .u = i, .time_us = 1};
		json_decref(point_to_idf(points_at(all, i), &v, 1));
	}
	for (size_t i = 0; i < MANY; i++) {
		const char *buf[POINT_UNITS_MAX];
		json_auto_t *last = point_last(points_at(all, i));
		assert_true(json_number_value(json_array_get(last, 0)) ==
			    (double)(i * (i % 20 + 1)));
		assert_string_equal(point_units(points_at(all, i), false, buf)[0],
				    i % 2 ? "V" : "A");
		json_decref((json_t *)(uintptr_t)specs[i].options);
	}
	points_free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_points_keep_their_own_options_and_values),
		cmocka_unit_test(contradicting_options_are_told),
		cmocka_unit_test(the_table_checks_and_completes_options),
		cmocka_unit_test(units_are_those_of_the_dimensions),
		cmocka_unit_test(names_become_slugs),
		cmocka_unit_test(names_that_collide_are_numbered_in_order),
		cmocka_unit_test(many_equal_names_all_get_one),
		cmocka_unit_test(a_feature_of_the_options_names_it),
	};
	return cmocka_run_group_tests_name("point_options", tests, NULL, NULL);
}
