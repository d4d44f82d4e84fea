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

/* More lists of units than are sought, so that where they are takes more than one byte. */
static void many_units_come_back(void **state)
{
	enum { MANY = 30000 };
	static char names[MANY][8], texts[MANY][8];
	static const char *units[MANY][2];
	static struct dan_feature idfs[MANY];
	struct features f = {0};
	struct features_lists l = {0};
	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "r%zu", i);
		snprintf(texts[i], sizeof(texts[i]), "u%zu", i);
		units[i][0] = texts[i];
		idfs[i] = (struct dan_feature){.name = names[i], .units = units[i]};
	}
	assert_int_equal(features_copy(&f, idfs, MANY, NULL, 0, NULL), 0);
	assert_int_equal(features_lists(&f, &l, NULL), 0);
	for (size_t i = 0; i < MANY; i++) {
		assert_string_equal(l.items[i].name, names[i]);
		assert_string_equal(l.items[i].units[0], texts[i]);
		assert_null(l.items[i].units[1]);
		assert_string_equal(features_find(&f, DAN_IDF, names[i]), names[i]);
	}
	features_lists_done(&l);
	features_done(&f);
}

static void a_feature_has_at_most_255_units(void **state)
{
	static const char *units[257];
	const struct dan_feature feature = {"a", units};
	struct features f = {0};
	struct features_lists l = {0};
	(void)state;
	for (size_t i = 0; i < 256; i++)
		units[i] = "u";
	assert_int_equal(features_copy(&f, &feature, 1, NULL, 0, NULL), ERR_LIMIT);
	features_done(&f);
	units[255] = NULL;
	assert_int_equal(features_copy(&f, &feature, 1, NULL, 0, NULL), 0);
	assert_int_equal(features_lists(&f, &l, NULL), 0);
	assert_string_equal(l.items[0].units[254], "u");
	assert_null(l.items[0].units[255]);
	features_lists_done(&l);
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
		cmocka_unit_test(many_units_come_back),
		cmocka_unit_test(a_feature_has_at_most_255_units),
		cmocka_unit_test(finds_each_by_its_kind_and_name),
		cmocka_unit_test(has_none_if_it_was_given_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
