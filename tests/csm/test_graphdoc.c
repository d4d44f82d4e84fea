#include "common/util.h"
#include "csm/graphdoc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
	*state = graphdoc_new("gui/1", "gui");
	return *state == NULL;
}

static int teardown(void **state)
{
	json_decref(*state);
	return 0;
}

static json_t *entry(const char *feature, const char *func)
{
	return json_pack("{s:s, s:s, s:s?, s:{}}", "da_id", "d0", "feature", feature, "func", func,
			 "depends");
}

static void expect_order(const json_t *doc, const char *want)
{
	char got[64] = "";
	size_t i;
	json_t *item;
	json_array_foreach (json_object_get(doc, "idf"), i, item)
		strcat(got, json_string_value(json_object_get(item, "feature")));
	assert_string_equal(got, want);
}

static void links_stand_in_order_then_as_added(void **state)
{
	static const struct {
		const char *feature;
		int order; /* -1: none */
	} adds[] = {{"a", -1}, {"b", -1}, {"c", 0}, {"d", 7}, {"e", -1}};
	for (size_t i = 0; i < ARRAY_LEN(adds); i++) {
		json_t *e = entry(adds[i].feature, NULL);
		if (adds[i].order >= 0)
			json_object_set_new(e, "order", json_integer(adds[i].order));
		assert_int_equal(graphdoc_add(*state, "idf", e), 0);
	}
	expect_order(*state, "acbed");
}

static void a_link_added_again_has_a_new_number(void **state)
{
	graphdoc_add(*state, "idf", entry("a", NULL));
	json_t *a = graphdoc_find(*state, "idf", "d0", "a");
	assert_int_equal(json_integer_value(json_object_get(a, "lid")), 1);
	graphdoc_remove(*state, "idf", a);
	assert_null(graphdoc_find(*state, "idf", "d0", "a"));
	graphdoc_add(*state, "idf", entry("a", NULL));
	assert_non_null(graphdoc_find_lid(*state, 2));
}

static void a_refused_new_link_stays_visible_but_is_not_run(void **state)
{
	json_auto_t *confirmed = json_deep_copy(*state);
	json_auto_t *where = json_pack("{s:s, s:i}", "kind", "idf", "lid", 1);
	graphdoc_add(*state, "idf", entry("a", "f1"));
	assert_true(graphdoc_mend(*state, confirmed, where, "bad"));
	json_auto_t *sent = graphdoc_for_agent(*state);
	assert_int_equal(json_array_size(json_object_get(sent, "idf")), 0);
	json_t *a = graphdoc_find(*state, "idf", "d0", "a");
	assert_string_equal(json_string_value(json_object_get(a, "error")), "bad");
}

static void a_refused_function_gives_way_to_the_confirmed_one(void **state)
{
	graphdoc_add(*state, "idf", entry("a", "old"));
	json_auto_t *confirmed = json_deep_copy(*state);
	json_object_set_new(graphdoc_find(*state, "idf", "d0", "a"), "func", json_string("new"));
	json_auto_t *where = json_pack("{s:s, s:i}", "kind", "idf", "lid", 1);
	assert_false(graphdoc_same_at(*state, confirmed, where));
	assert_true(graphdoc_mend(*state, confirmed, where, "bad"));
	assert_true(graphdoc_same_at(*state, confirmed, where));
	json_auto_t *sent = graphdoc_for_agent(*state);
	json_t *a = graphdoc_find(sent, "idf", "d0", "a");
	assert_string_equal(json_string_value(json_object_get(a, "func")), "old");
	assert_null(json_object_get(a, "error"));
}

static void a_refused_join_gives_way_and_nothing_else_can_be_mended(void **state)
{
	json_auto_t *confirmed = json_deep_copy(*state);
	json_object_set_new(json_object_get(*state, "join"), "func", json_string("j"));
	json_auto_t *where = json_pack("{s:s}", "kind", "join");
	json_auto_t *nowhere = json_pack("{s:s, s:i}", "kind", "odf", "lid", 99);
	assert_false(graphdoc_mend(*state, confirmed, nowhere, "bad"));
	assert_false(graphdoc_mend(*state, confirmed, NULL, "bad"));
	assert_true(graphdoc_mend(*state, confirmed, where, "bad"));
	assert_true(json_is_null(json_object_get(json_object_get(*state, "join"), "func")));
	/* the same again: there is nothing left to mend */
	assert_false(graphdoc_mend(*state, confirmed, where, "bad"));
}

static void count_digest(void *arg, const char *digest)
{
	char *all = arg;
	strcat(all, digest);
	strcat(all, " ");
}

static void every_digest_is_named_dependencies_too(void **state)
{
	char all[64] = "";
	json_t *e = entry("a", "f1");
	json_object_set_new(json_object_get(e, "depends"), "x", json_string("f2"));
	graphdoc_add(*state, "idf", e);
	graphdoc_add(*state, "odf", entry("b", NULL));
	json_object_set_new(json_object_get(*state, "join"), "func", json_string("f3"));
	graphdoc_each_digest(*state, count_digest, all);
	assert_string_equal(all, "f1 f2 f3 ");
}

static void what_is_told_of_a_link_is_how_it_is_run(void **state)
{
	json_auto_t *idf = json_pack("{s:s, s:s, s:{s:s}, s:i, s:i, s:[s], s:i, s:b}", "topic", "t", "func", "f", "depends", "a", "d", "param_no", 2,
				     "tag_param_no", 1, "input_type", "variant", "order", 0, "out", true);
	json_auto_t *odf = entry("b", NULL), *told_idf = json_object(), *told_odf = json_object();
	(void)state;
	json_object_set_new(odf, "order", json_integer(3));
	assert_int_equal(graphdoc_tell(idf, told_idf), 0);
	json_object_del(idf, "out");
	assert_true(json_equal(told_idf, idf));
	assert_int_equal(graphdoc_tell(odf, told_odf), 0);
	json_auto_t *expected = json_pack("{s:n, s:{}}", "func", "depends");
	assert_true(json_equal(told_odf, expected));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(links_stand_in_order_then_as_added, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_added_again_has_a_new_number, setup, teardown),
		cmocka_unit_test_setup_teardown(a_refused_new_link_stays_visible_but_is_not_run, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_refused_function_gives_way_to_the_confirmed_one,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_refused_join_gives_way_and_nothing_else_can_be_mended, setup, teardown),
		cmocka_unit_test_setup_teardown(every_digest_is_named_dependencies_too, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_told_of_a_link_is_how_it_is_run, setup, teardown),
	};
	return cmocka_run_group_tests_name("graphdoc", tests, NULL, NULL);
}
