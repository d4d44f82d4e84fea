/* test_wanted.c - what a graph should be, as the store has it; and what has to be said so that it becomes that. */
#include "tests/ccm/drive_world.h"

#include "ccm/drive/diff.h"

static void read_it(struct world *w, struct wanted *ret)
{
	struct err err = {0};
	if (wanted_read(w->ccm.db, 1, ret, &err) < 0)
		fail_msg("%s", err.text);
}

/* mode and feature of each link, with some member of it as text */
static void expect_links(struct world *w, const char *member, const char *expected)
{
	struct wanted is;
	char got[400] = "";
	size_t i;
	json_t *link;
	read_it(w, &is);
	json_array_foreach (is.links, i, link) {
		CLEANUP(freep) char *text = json_dumps(json_object_get(link, member), JSON_ENCODE_ANY | JSON_COMPACT);
		size_t at = strlen(got);
		snprintf(got + at, sizeof(got) - at, "%s%s=%s", at > 0 ? " " : "", json_string_value(json_object_get(link, "feature")),
			 text != NULL ? text : "absent");
	}
	wanted_done(&is);
	assert_string_equal(got, expected);
}

static void bind_both(struct world *w)
{
	script(w, "INSERT INTO Device (d_id, mac_addr, d_name, dm_id, register_time) VALUES"
		  " (1, '" DEVICE_1 "', 'one', 1, ''), (2, '" DEVICE_2 "', 'two', 1, '');"
		  "UPDATE DeviceObject SET d_id = do_id");
}

static void only_bound_objects_have_links(void **state)
{
	struct world *w = *state;
	struct wanted is;
	read_it(w, &is);
	assert_true(is.on);
	assert_string_equal(is.owner, "alice");
	assert_int_equal(is.p_id, 1);
	assert_int_equal(json_array_size(is.links), 0);
	wanted_done(&is);
	bind_both(w);
	expect_links(w, "mode", "O=\"odf\" W=\"odf\" I=\"idf\"");
	expect_links(w, "da_id", "O=\"" DEVICE_2 "\" W=\"" DEVICE_2 "\" I=\"" DEVICE_1 "\"");
	expect_links(w, "param_no", "O=1 W=2 I=1");
	expect_links(w, "order", "O=absent W=absent I=4");
	expect_links(w, "input_type", "O=absent W=absent I=[\"sample\"]");
	expect_links(w, "func", "O=null W=null I=null");
}

static void one_device_in_two_objects_has_one_link(void **state)
{
	struct world *w = *state;
	bind_both(w);
	script(w, "INSERT INTO DeviceObject (do_id, dm_id, p_id, d_id) VALUES (3, 1, 1, 2);"
		  "INSERT INTO DFObject (dfo_id, do_id, df_id, alias_name) VALUES (4, 3, 2, 'O');"
		  "INSERT INTO DF_Module (na_id, dfo_id, param_i) VALUES (1, 4, 0)");
	expect_links(w, "mode", "O=\"odf\" W=\"odf\" I=\"idf\"");
}

static void what_does_not_run_wants_nothing(void **state)
{
	struct world *w = *state;
	struct wanted is;
	bind_both(w);
	script(w, "UPDATE Project SET status = 'off'");
	read_it(w, &is);
	assert_false(is.on);
	assert_int_equal(is.p_id, 1);
	assert_null(is.links);
	wanted_done(&is);
	assert_int_equal(wanted_read(w->ccm.db, 99, &is, NULL), 0);
	assert_false(is.on);
	assert_int_equal(is.p_id, 0);
	wanted_done(&is);
}

static void tags_are_summed(void **state)
{
	struct world *w = *state;
	bind_both(w);
	script(w, "INSERT INTO Tag (tag_id, tag_name, param_no) VALUES (1, 'a', 2), (2, 'b', 3);"
		  "INSERT INTO DM_DF_Tag (mf_id, tag_id) VALUES (1, 1), (1, 2), (2, 2)");
	expect_links(w, "tag_param_no", "O=3 W=0 I=5");
}

static const char *source_of(const struct wanted *is, const char *alias)
{
	size_t i;
	json_t *link;
	json_array_foreach (is->links, i, link) {
		const char *digest = json_string_value(json_object_get(json_object_get(link, "depends"), alias));
		if (digest != NULL)
			return json_string_value(json_object_get(is->sources, digest));
	}
	return NULL;
}

static void the_owners_newest_visible_version_counts(void **state)
{
	struct world *w = *state;
	struct wanted is;
	bind_both(w);
	script(w, "UPDATE DF_Module SET fn_id = 1 WHERE dfo_id = 1;"
		  "INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, 1, '', 'hers'), (1, 2, '', 'not hers')");
	read_it(w, &is);
	assert_string_equal(source_of(&is, "_twice"), "hers");
	wanted_done(&is);
	script(w, "INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, NULL, '', 'everybodys')");
	read_it(w, &is);
	assert_string_equal(source_of(&is, "_twice"), "everybodys");
	wanted_done(&is);
	/* one of which there is nothing to see is none */
	script(w, "UPDATE FunctionVersion SET u_id = 2");
	expect_links(w, "func", "O=null W=null I=null");
}

static void the_joins_function_is_that_of_its_rows(void **state)
{
	struct world *w = *state;
	struct wanted is;
	script(w, "UPDATE MultipleJoin_Module SET fn_id = 2");
	read_it(w, &is);
	assert_true(json_is_string(is.join));
	assert_non_null(json_object_get(is.join_depends, "_sum"));
	assert_int_equal(json_object_size(is.sources), 2);
	wanted_done(&is);
}

static void a_long_name_of_an_owner_is_made_short(void **state)
{
	struct world *w = *state;
	struct wanted is;
	/* 255 characters may be 1020 bytes; csm takes 255 */
	script(w, "UPDATE User SET u_name = replace(hex(zeroblob(127)), '00', char(128169)) WHERE u_id = 1");
	read_it(w, &is);
	assert_int_equal(strlen(is.owner), 64);
	wanted_done(&is);
}

/* ---- differences ---- */

/* The ops that lead from `state` (text, or NULL) to what the store wants. */
static void expect_diff(struct world *w, const char *state, const char *expected)
{
	struct wanted is;
	struct diff diff;
	char got[400] = "";
	size_t i;
	json_t *request;
	json_auto_t *was = state != NULL ? json_loads(state, 0, NULL) : NULL;
	assert_true(state == NULL || was != NULL);
	read_it(w, &is);
	assert_int_equal(diff_graph(&is, was, &diff, NULL), 0);
	json_array_foreach (diff.requests, i, request) {
		const json_t *idf = json_object_get(request, "idf"), *odf = json_object_get(request, "odf");
		const char *feature = json_string_value(idf != NULL ? idf : odf);
		size_t at = strlen(got);
		snprintf(got + at, sizeof(got) - at, "%s%s%s%s", at > 0 ? " " : "", json_string_value(json_object_get(request, "op")),
			 feature != NULL ? ":" : "", feature != NULL ? feature : "");
	}
	diff_done(&diff);
	wanted_done(&is);
	assert_string_equal(got, expected);
}

#define LINK(mode, device, feature, no, rest)                                                                                     \
	"{\"da_id\": \"" device "\", \"mode\": \"" mode "\", \"feature\": \"" feature "\", \"func\": null, \"depends\": {},"       \
	" \"tag_param_no\": 0, \"param_no\": " no rest ", \"topic\": \"t\", \"state\": \"waiting\", \"reason\": null}"
#define I_LINK(rest) LINK("idf", DEVICE_1, "I", "1", ", \"input_type\": [\"sample\"], \"order\": 4" rest)
#define O_LINK	     LINK("odf", DEVICE_2, "O", "1", "")
#define W_LINK	     LINK("odf", DEVICE_2, "W", "2", "")
#define STATE(join, links) "{\"rev\": 3, \"join\": " join ", \"join_depends\": {}, \"links\": [" links "]}"

static void what_is_equal_is_left_alone(void **state)
{
	struct world *w = *state;
	bind_both(w);
	expect_diff(w, STATE("null", I_LINK("") ", " O_LINK ", " W_LINK), "");
}

static void a_new_graph_is_wired_from_its_end(void **state)
{
	struct world *w = *state;
	bind_both(w);
	script(w, "UPDATE MultipleJoin_Module SET fn_id = 2");
	expect_diff(w, NULL, "add_link:O add_link:W set_join add_link:I");
}

static void what_is_not_wanted_goes_first(void **state)
{
	struct world *w = *state;
	bind_both(w);
	expect_diff(w, STATE("\"other\"", I_LINK("") ", " LINK("odf", DEVICE_1, "O", "1", "") ", " LINK("idf", DEVICE_2, "X", "1", "")),
		    "rm_link:X rm_link:O add_link:O add_link:W set_join");
}

static void functions_are_set_in_place_and_places_made_anew(void **state)
{
	struct world *w = *state;
	bind_both(w);
	script(w, "UPDATE DF_Module SET idf_type = 'variant' WHERE dfo_id = 1; UPDATE DF_Module SET fn_id = 1 WHERE dfo_id = 2");
	expect_diff(w, STATE("null", I_LINK("") ", " O_LINK ", " W_LINK), "set_df_func:O set_df_func:I");
	script(w, "UPDATE MultipleJoin_Module SET param_i = 0");
	expect_diff(w, STATE("null", I_LINK("") ", " O_LINK ", " W_LINK), "rm_link:I set_df_func:O add_link:I");
}

static void a_state_that_lacks_everything_is_no_harm(void **state)
{
	struct world *w = *state;
	bind_both(w);
	expect_diff(w, "{}", "add_link:O add_link:W add_link:I");
	expect_diff(w, "{\"links\": [1, {}, null, {\"mode\": 3}], \"join\": 7}", "add_link:O add_link:W set_join add_link:I");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_bound_objects_have_links),
		TEST(one_device_in_two_objects_has_one_link),
		TEST(what_does_not_run_wants_nothing),
		TEST(tags_are_summed),
		TEST(the_owners_newest_visible_version_counts),
		TEST(the_joins_function_is_that_of_its_rows),
		TEST(a_long_name_of_an_owner_is_made_short),
		TEST(what_is_equal_is_left_alone),
		TEST(a_new_graph_is_wired_from_its_end),
		TEST(what_is_not_wanted_goes_first),
		TEST(functions_are_set_in_place_and_places_made_anew),
		TEST(a_state_that_lacks_everything_is_no_harm),
	};
	return cmocka_run_group_tests_name("wanted", tests, NULL, NULL);
}
