/* test_features.c - many features in little memory: found by name, and given back as they came. */
#include "common/util.h"
#include "dan/features.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const none[] = {NULL}, *const volts[] = {"V", NULL},
			 *const pair[] = {"", "quality", NULL};

static void gives_back_what_it_was_given(void **state)
{
	static const struct dan_feature idfs[] = {{"z", volts}, {"link", pair}, {"a", NULL},
						  {"b", volts}, {"c", none},    {"d", pair}};
	static const struct dan_feature odfs[] = {{"z", none}, {"y", volts}};
	struct features f = {0};
	struct features_lists l = {0};
	(void)state;
	assert_int_equal(features_copy(&f, idfs, ARRAY_LEN(idfs), odfs, ARRAY_LEN(odfs), NULL), 0);
	assert_int_equal(features_lists(&f, &l, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(idfs) + ARRAY_LEN(odfs); i++) {
		const struct dan_feature *want =
			i < ARRAY_LEN(idfs) ? &idfs[i] : &odfs[i - ARRAY_LEN(idfs)];
		assert_string_equal(l.items[i].name, want->name);
		assert_int_equal(l.items[i].units == NULL, want->units == NULL);
		size_t k = 0;
		for (; want->units != NULL && want->units[k] != NULL; k++)
			assert_string_equal(l.items[i].units[k], want->units[k]);
		if (want->units != NULL)
			assert_null(l.items[i].units[k]);
	}
	features_lists_done(&l);
	features_done(&f);
}

static void finds_each_by_its_kind_and_name(void **state)
{
	enum { MANY = 1000 };
	static char names[MANY][8];
	static struct dan_feature idfs[MANY], odfs[MANY / 2];
	struct features f = {0};
	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "r%zu", i);
		idfs[i] = (struct dan_feature){.name = names[i]};
		if (i % 2 == 0)
			odfs[i / 2] = idfs[i];
	}
	assert_int_equal(features_copy(&f, idfs, MANY, odfs, MANY / 2, NULL), 0);
	for (size_t i = 0; i < MANY; i++) {
		assert_string_equal(features_find(&f, DAN_IDF, names[i]), names[i]);
		const char *odf = features_find(&f, DAN_ODF, names[i]);
		assert_int_equal(odf != NULL, i % 2 == 0);
	}
	assert_null(features_find(&f, DAN_IDF, "r"));
	assert_null(features_find(&f, DAN_IDF, "r1000"));
	assert_null(features_find(&f, DAN_ODF, ""));
	features_done(&f);
}

static void has_none_if_it_was_given_none(void **state)
{
	struct features f = {0};
	struct features_lists l = {0};
	(void)state;
	assert_int_equal(features_copy(&f, NULL, 0, NULL, 0, NULL), 0);
	assert_null(features_find(&f, DAN_IDF, "a"));
	assert_int_equal(features_lists(&f, &l, NULL), 0);
	features_lists_done(&l);
	features_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_what_it_was_given),
		cmocka_unit_test(finds_each_by_its_kind_and_name),
		cmocka_unit_test(has_none_if_it_was_given_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
