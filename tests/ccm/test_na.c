/* test_na.c - network applications and links. */
#include "ccm/ops/project_fields.h"
#include "tests/ccm/project_world.h"

#define NA_FORMAT "{s:I, s:s, s:i, s:o}", "p_id"
/* into project p of that user, with features */
#define MAKE(p, name, idx, ...) NA_FORMAT, (json_int_t)(p), "na_name", name, "na_idx", idx, "dfo_ids", json_pack(__VA_ARGS__)

static json_t *na_info(struct world *w, int64_t u_id, int64_t na_id)
{
	return ok(w, op_na_info, u_id, "{s:I}", "na_id", (json_int_t)na_id);
}

/* ---- making ---- */

static void a_new_application_has_rows_for_every_parameter(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, ALICE, "home"), a = object(w, ALICE, p_id, ACCEL, CONTROL),
		   b = object(w, ALICE, p_id, SENSOR, 0);
	json_int_t accel = dfo(w, a, ACCEL), control = dfo(w, a, CONTROL), sensor = dfo(w, b, SENSOR);
	same(ok(w, op_na_create, ALICE, MAKE(p_id, "Join 1", 0, "[I, I, I]", control, sensor, accel)), "{'na_id': 1}");
	same_happened(w, "['touch 1']");
	/* her own parameters of Accel, everybody's of the others; arguments in the order of the list */
	same(na_info(w, ALICE, 1),
	     "{'na_id': 1, 'na_name': 'Join 1', 'na_idx': 0, 'p_id': 1,"
	     " 'fn_list': [{'fn_id': 1, 'fn_name': 'f_general', 'is_protect': false}],"
	     " 'multiple': [{'na_id': 1, 'param_i': 0, 'fn_id': null, 'dfo_id': 3}, {'na_id': 1, 'param_i': 1, 'fn_id': null, "
	     "'dfo_id': 1}],"
	     " 'input': [{'dfo_id': 1, 'alias_name': 'Accel', 'df_id': 3, 'df_type': 'input', 'df_name': 'Accel', 'dm_name': "
	     "'Dummy',"
	     "  'mac_addr': null, 'fn_list': [], 'dfmp': [{'na_id': 1, 'dfo_id': 1, 'param_i': 0, 'idf_type': 'variant', "
	     "'fn_id': null,"
	     "  'min': -10.0, 'max': 10.0, 'normalization': true, 'color': 'black'}, {'na_id': 1, 'dfo_id': 1, 'param_i': 1,"
	     "  'idf_type': 'sample', 'fn_id': null, 'min': -20.0, 'max': 20.0, 'normalization': false, 'color': 'black'}, "
	     "{'na_id': 1,"
	     "  'dfo_id': 1, 'param_i': 2, 'idf_type': 'sample', 'fn_id': null, 'min': -30.0, 'max': 30.0, 'normalization': "
	     "false,"
	     "  'color': 'black'}]}, {'dfo_id': 3, 'alias_name': 'Sensor', 'df_id': 1, 'df_type': 'input', 'df_name': 'Sensor',"
	     "  'dm_name': 'Dummy', 'mac_addr': null, 'fn_list': [{'fn_id': 2, 'fn_name': 'f_alice', 'is_protect': false}, "
	     "{'fn_id': 1,"
	     "  'fn_name': 'f_general', 'is_protect': false}], 'dfmp': [{'na_id': 1, 'dfo_id': 3, 'param_i': 0, 'idf_type': "
	     "'sample',"
	     "  'fn_id': 1, 'min': 0.0, 'max': 100.0, 'normalization': false, 'color': 'black'}]}],"
	     " 'output': [{'dfo_id': 2, 'alias_name': 'Control', 'df_id': 2, 'df_type': 'output', 'df_name': 'Control', "
	     "'dm_name': 'Dummy',"
	     "  'mac_addr': null, 'fn_list': [], 'dfmp': [{'na_id': 1, 'dfo_id': 2, 'param_i': 0, 'idf_type': 'sample', 'fn_id': "
	     "null,"
	     "  'min': 0.0, 'max': 10.0, 'normalization': false, 'color': 'black'}]}]}");
}

static void parameters_that_a_model_lacks_are_the_features(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, BOB, "home");
	script(w, "DELETE FROM DF_Parameter WHERE mf_id = 3 AND param_i > 0; UPDATE DF_Parameter SET max = 77 WHERE df_id = 3 "
		  "AND param_i = 1;"
		  "DELETE FROM DF_Parameter WHERE df_id = 3 AND param_i = 2");
	json_int_t a = object(w, BOB, p_id, ACCEL, CONTROL);
	ok(w, op_na_create, BOB, MAKE(p_id, "n", 0, "[I, I]", (json_int_t)dfo(w, a, ACCEL), (json_int_t)dfo(w, a, CONTROL)));
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1"), 3);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND param_i = 1 AND max = 77"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND param_i = 2 AND max = 0"), 1);
}

static void a_default_function_of_somebody_else_is_not_taken(void **state)
{
	struct world *w = *state;
	small(w, ALICE, "home", TAGGED, TAGGED_O); /* whose default is bob's */
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE fn_id IS NOT NULL"), 0);
	small(w, BOB, "home", TAGGED, TAGGED_O);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE fn_id = 3"), 1);
}

static void an_index_that_is_taken_becomes_the_next_free_one(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL); /* has 0 */
	static const struct {
		int asked, got;
	} cases[] = {{1, 1}, {3, 3}, {3, 4}, {1, 2}, {0, 5}, {5, 6}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t na_id = ok_id(w, "na_id", op_na_create, ALICE,
				      MAKE(s.p_id, "n", cases[i].asked, "[I, I]", (json_int_t)s.in, (json_int_t)s.out));
		assert_int_equal(id_of(na_info(w, ALICE, na_id), "na_idx"), cases[i].got);
	}
	/* the number of applications as an index, after a delete */
	ok(w, op_na_delete, ALICE, "{s:I}", "na_id", (json_int_t)s.na_id);
	ok(w, op_na_create, ALICE, MAKE(s.p_id, "n", 6, "[I, I]", (json_int_t)s.in, (json_int_t)s.out));
	refused(w, op_na_create, ALICE, ERR_INVAL, "na_idx",
		MAKE(s.p_id, "n", -1, "[I, I]", (json_int_t)s.in, (json_int_t)s.out));
	refused(w, op_na_create, ALICE, ERR_INVAL, "na_idx", "{s:I, s:s, s:I, s:[I, I]}", "p_id", (json_int_t)s.p_id, "na_name",
		"n", "na_idx", (json_int_t)INT64_MAX, "dfo_ids", (json_int_t)s.in, (json_int_t)s.out);
}

static void an_application_needs_both_sides_of_one_project(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	struct small other = small(w, ALICE, "other", SENSOR, CONTROL), bobs = small(w, BOB, "home", SENSOR, CONTROL);
	json_int_t in = s.in, out = s.out;
#define WRONG(code, words, ...) refused(w, op_na_create, ALICE, code, words, MAKE(s.p_id, "n", 9, __VA_ARGS__))
	WRONG(ERR_INVAL, "at least one input and one output", "[]");
	WRONG(ERR_INVAL, "at least one input and one output", "[I, I]", in, in);
	WRONG(ERR_INVAL, "at least one input and one output", "[I]", out);
	WRONG(ERR_NOENT, "not found", "[I, I, I]", in, out, (json_int_t)other.in);
	WRONG(ERR_NOENT, "not found", "[I, I, I]", in, out, (json_int_t)bobs.in);
	WRONG(ERR_NOENT, "not found", "[I, I, i]", in, out, 0);
	refused(w, op_na_create, ALICE, ERR_NOENT, "project 3 not found",
		MAKE(bobs.p_id, "n", 9, "[I, I]", (json_int_t)bobs.in, (json_int_t)bobs.out));
	/* what is given twice is linked once */
	int64_t na_id = ok_id(w, "na_id", op_na_create, ALICE, MAKE(s.p_id, "n", 9, "[I, I, I]", in, out, in));
	assert_int_equal(json_array_size(json_object_get(na_info(w, ALICE, na_id), "multiple")), 1);
}

static void links_of_one_application_have_the_same_tags(void **state)
{
	struct world *w = *state;
	static const char words[] = "NetworkApplication should use the Features with the same Tag.";
	json_int_t p_id = project(w, ALICE, "home"), a = object(w, ALICE, p_id, TAGGED, TAGGED_O),
		   b = object(w, ALICE, p_id, SENSOR, CONTROL);
	json_int_t c = object(w, ALICE, p_id, TAGGED, 0);
	json_int_t tagged = dfo(w, a, TAGGED), tagged_o = dfo(w, a, TAGGED_O), more = dfo(w, c, TAGGED),
		   sensor = dfo(w, b, SENSOR), control = dfo(w, b, CONTROL);
	refused(w, op_na_create, ALICE, ERR_INVAL, words, MAKE(p_id, "n", 0, "[I, I]", tagged, control));
	refused(w, op_na_create, ALICE, ERR_INVAL, words, MAKE(p_id, "n", 0, "[I, I, I]", tagged, tagged_o, sensor));
	/* three of the same were too many for the original */
	ok(w, op_na_create, ALICE, MAKE(p_id, "n", 0, "[I, I, I]", tagged, tagged_o, more));
	ok(w, op_na_create, ALICE, MAKE(p_id, "n", 1, "[I, I]", sensor, control));
	/* and a link was compared with itself */
	refused(w, op_link_create, ALICE, ERR_INVAL, words, "{s:i, s:I}", "na_id", 1, "dfo_id", sensor);
	refused(w, op_link_create, ALICE, ERR_INVAL, words, "{s:i, s:I}", "na_id", 2, "dfo_id", more);
	/* a subset is not the same */
	script(w, "DELETE FROM DM_DF_Tag WHERE mf_id = 6 AND tag_id = 2");
	refused(w, op_na_create, ALICE, ERR_INVAL, words, MAKE(p_id, "n", 2, "[I, I]", tagged, tagged_o));
	refused(w, op_na_create, ALICE, ERR_INVAL, words, MAKE(p_id, "n", 2, "[I, I]", tagged_o, tagged));
}

/* ---- links ---- */

static void links_come_and_go(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	json_int_t b = object(w, ALICE, s.p_id, ACCEL, 0), accel = dfo(w, b, ACCEL), na_id = s.na_id;
	same(ok(w, op_link_create, ALICE, "{s:I, s:I}", "na_id", na_id, "dfo_id", accel), "{'na_id': 1}");
	same_happened(w, "['touch 1']");
	/* again: nothing */
	same(ok(w, op_link_create, ALICE, "{s:I, s:I}", "na_id", na_id, "dfo_id", accel), "{'na_id': 1}");
	same_happened(w, "[]");
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module"), 2);
	/* a link that is not there */
	same(ok(w, op_link_delete, ALICE, "{s:I, s:I}", "na_id", na_id, "dfo_id", accel), "{'na_id': 1}");
	same(ok(w, op_link_delete, ALICE, "{s:I, s:I}", "na_id", na_id, "dfo_id", accel), "{'na_id': 1}");
	same_happened(w, "[]");
	/* the last of a side takes the application along */
	same(ok(w, op_link_delete, ALICE, "{s:I, s:I}", "na_id", na_id, "dfo_id", (json_int_t)s.out), "null");
	same_happened(w, "['touch 1']");
	assert_int_equal(number_of(w, "SELECT count(*) FROM NetworkApplication"), 0);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module"), 0);
	refused(w, op_link_delete, ALICE, ERR_NOENT, "NetworkApplication not find.", "{s:I, s:I}", "na_id", na_id, "dfo_id",
		(json_int_t)s.in);
}

static void links_stay_within_a_project_and_its_owner(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL), other = small(w, ALICE, "other", SENSOR, CONTROL);
	struct small bobs = small(w, BOB, "home", SENSOR, CONTROL);
	static const struct op *const ops[] = {&op_link_create, &op_link_delete};
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
#define LINK(na, dfo_id_) "{s:I, s:I}", "na_id", (json_int_t)(na), "dfo_id", (json_int_t)(dfo_id_)
		refused(w, *ops[i], ALICE, ERR_NOENT, "not found", LINK(s.na_id, other.in));
		refused(w, *ops[i], ALICE, ERR_NOENT, "not found", LINK(s.na_id, bobs.in));
		refused(w, *ops[i], BOB, ERR_NOENT, "not find", LINK(s.na_id, bobs.in));
	}
}

static void one_input_is_joined_with_nothing(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	/* the same feature of another object is another input, and an output is none */
	json_int_t b = object(w, ALICE, s.p_id, SENSOR, CONTROL), in = dfo(w, b, SENSOR), out = dfo(w, b, CONTROL),
		   na_id = s.na_id;
	ok(w, op_link_create, ALICE, LINK(na_id, in));
	ok(w, op_link_create, ALICE, LINK(na_id, out));
	ok(w, op_na_update, ALICE, "{s:I, s:i}", "na_id", na_id, "multiplejoin_fn_id", F_GENERAL);
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id = 1"), 2);
	ok(w, op_link_delete, ALICE, LINK(na_id, out));
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id = 1"), 2);
	/* a third one joins in; its place is after the others', also after one has left */
	json_int_t accel = dfo(w, object(w, ALICE, s.p_id, ACCEL, 0), ACCEL);
	ok(w, op_link_create, ALICE, LINK(na_id, accel));
	ok(w, op_link_delete, ALICE, LINK(na_id, accel));
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id = 1"), 2);
	ok(w, op_link_create, ALICE, LINK(na_id, accel));
	ok(w, op_link_delete, ALICE, LINK(na_id, s.in));
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id = 1"), 2);
	ok(w, op_link_create, ALICE, LINK(na_id, s.in));
	same(json_object_get(na_info(w, ALICE, na_id), "multiple"),
	     "[{'na_id': 1, 'param_i': 1, 'fn_id': 1, 'dfo_id': 3}, {'na_id': 1, 'param_i': 2, 'fn_id': 1, 'dfo_id': 5},"
	     " {'na_id': 1, 'param_i': 3, 'fn_id': 1, 'dfo_id': 1}]");
	ok(w, op_link_delete, ALICE, LINK(na_id, s.in));
	ok(w, op_link_delete, ALICE, LINK(na_id, accel));
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id IS NULL"), 1);
	/* and does not come back by itself */
	ok(w, op_link_create, ALICE, LINK(na_id, accel));
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id IS NULL"), 2);
	/* that of one input, given on purpose, does not go with an output */
	ok(w, op_link_delete, ALICE, LINK(na_id, accel));
	ok(w, op_link_create, ALICE, LINK(na_id, out));
	ok(w, op_na_update, ALICE, "{s:I, s:i}", "na_id", na_id, "multiplejoin_fn_id", F_GENERAL);
	ok(w, op_link_delete, ALICE, LINK(na_id, out));
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module WHERE fn_id = 1"), 1);
}

/* ---- changing ---- */

/* Through the table, as both APIs do: whole rows may be sent back. */
static void update(struct world *w, int64_t u_id, int64_t na_id, json_t *body)
{
	static const struct field fields[] = {NA_UPDATE_FIELDS, {0}};
	json_t *checked = NULL;
	struct err err = {0};
	if (fields_check(fields, body, false, &checked, &err) < 0)
		fail_msg("%s", err.text);
	json_decref(body);
	json_object_set_new(checked, "na_id", json_integer(na_id));
	run_args(w, &op_na_update, u_id, checked);
}

static void whole_rows_may_be_sent_back_changed(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL);
	json_auto_t *rows =
		json_deep_copy(json_object_get(json_array_get(json_object_get(na_info(w, ALICE, s.na_id), "input"), 0), "dfmp"));
	json_object_set_new(json_array_get(rows, 1), "fn_id", json_integer(F_ALICE));
	json_object_set_new(json_array_get(rows, 2), "max", json_integer(7));
	update(w, ALICE, s.na_id, json_pack("{s:[{s:I, s:O}]}", "dfm_list", "dfo_id", (json_int_t)s.in, "dfmp_list", rows));
	same(worked(w, "update"), "{'na_id': 1}");
	same_happened(w, "['touch 1']");
	assert_int_equal(
		number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND param_i = 1 AND fn_id = 2 AND min = -20"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND param_i = 2 AND max = 7"), 1);
	/* each parameter has its own flag */
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND normalization = 1 AND param_i = 0"),
			 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND normalization = 1"), 1);
	/* what is not said stays; 0, a negative number and null are no function */
	static const char *const none[] = {"0", "-1", "null"};
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		script(w, "UPDATE DF_Module SET fn_id = 2");
		update(w, ALICE, s.na_id,
		       json_pack("{s:[{s:I, s:[{s:i, s:o}, {s:i, s:s}]}]}", "dfm_list", "dfo_id", (json_int_t)s.in, "dfmp_list",
				 "param_i", 0, "fn_id", json_loads(none[i], JSON_DECODE_ANY, NULL), "param_i", 1, "idf_type",
				 "variant"));
		worked(w, "update");
		assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND fn_id IS NULL"), 1);
		assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND param_i = 1 AND fn_id = 2"),
				 1);
	}
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE dfo_id = 1 AND idf_type = 'variant'"), 2);
}

static void what_is_absent_stays_and_null_clears_the_join(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL);
#define JOIN "SELECT coalesce(max(fn_id), 0) FROM MultipleJoin_Module"
	update(w, ALICE, s.na_id, json_pack("{s:i}", "multiplejoin_fn_id", F_ALICE));
	assert_int_equal(number_of(w, JOIN), F_ALICE);
	update(w, ALICE, s.na_id, json_pack("{s:s}", "na_name", "new name"));
	assert_int_equal(number_of(w, JOIN), F_ALICE);
	update(w, ALICE, s.na_id, json_pack("{s:n, s:n}", "na_name", "multiplejoin_fn_id"));
	assert_int_equal(number_of(w, JOIN), 0);
	assert_string_equal(json_string_value(json_object_get(na_info(w, ALICE, s.na_id), "na_name")), "new name");
	update(w, ALICE, s.na_id, json_pack("{s:i}", "multiplejoin_fn_id", F_GENERAL));
	update(w, ALICE, s.na_id, json_pack("{s:i}", "multiplejoin_fn_id", 0));
	assert_int_equal(number_of(w, JOIN), 0);
}

static void an_update_is_whole_or_nothing(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL), other = small(w, ALICE, "other", ACCEL, CONTROL);
	const struct {
		const char *words;
		json_t *body;
	} cases[] = {
		{"dfm_list[1].dfmp_list[0]", json_pack("{s:s, s:[{s:I, s:[{s:i, s:i}]}, {s:I, s:[{s:i}]}]}", "na_name", "x",
						       "dfm_list", "dfo_id", (json_int_t)s.in, "dfmp_list", "param_i", 0, "max",
						       99, "dfo_id", (json_int_t)s.in, "dfmp_list", "param_i", 3)},
		{"dfm_list[0].dfmp_list[0]",
		 json_pack("{s:[{s:I, s:[{s:i}]}]}", "dfm_list", "dfo_id", (json_int_t)other.in, "dfmp_list", "param_i", 0)},
		{"Function id 3 not found", json_pack("{s:[{s:I, s:[{s:i, s:i}]}]}", "dfm_list", "dfo_id", (json_int_t)s.in,
						      "dfmp_list", "param_i", 0, "fn_id", F_BOB)},
		{"Function id 3 not found", json_pack("{s:s, s:i}", "na_name", "x", "multiplejoin_fn_id", F_BOB)},
		{"Function id 99 not found", json_pack("{s:i}", "multiplejoin_fn_id", 99)},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		update(w, ALICE, s.na_id, cases[i].body);
		assert_true(w->rc < 0);
		if (strstr(w->text, cases[i].words) == NULL)
			fail_msg("%s", w->text);
		assert_int_equal(json_array_size(w->happened), 0);
	}
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE max = 99"), 0);
	assert_int_equal(number_of(w, "SELECT count(*) FROM NetworkApplication WHERE na_name = 'x'"), 0);
	update(w, BOB, s.na_id, json_pack("{}"));
	was_refused(w, "update", ERR_NOENT, "NetworkApplication not find.");
}

static void deleting_takes_the_rows_and_tells_the_graph(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL);
	refused(w, op_na_delete, BOB, ERR_NOENT, "NetworkApplication not find.", "{s:I}", "na_id", (json_int_t)s.na_id);
	same(ok(w, op_na_delete, ALICE, "{s:I}", "na_id", (json_int_t)s.na_id), "{'na_id': 1}");
	same_happened(w, "['touch 1']");
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module"), 0);
	assert_int_equal(number_of(w, "SELECT count(*) FROM MultipleJoin_Module"), 0);
	refused(w, op_na_delete, ALICE, ERR_NOENT, "NetworkApplication not find.", "{s:I}", "na_id", (json_int_t)s.na_id);
}

/* ---- showing ---- */

static void what_is_missing_is_an_error_or_null(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL);
	refused(w, op_na_info, ALICE, ERR_NOENT, "NetworkApplication not find.", "{s:i}", "na_id", 99);
	refused(w, op_na_info, BOB, ERR_NOENT, "NetworkApplication not find.", "{s:I}", "na_id", (json_int_t)s.na_id);
	same(ok(w, op_na_info_gui, ALICE, "{s:i}", "na_id", 99), "null");
	same(ok(w, op_na_info_gui, BOB, "{s:I}", "na_id", (json_int_t)s.na_id), "null");
	assert_true(json_is_object(ok(w, op_na_info_gui, ALICE, "{s:I}", "na_id", (json_int_t)s.na_id)));
	refused(w, op_na_list, BOB, ERR_NOENT, "project 1 not found", "{s:I}", "p_id", (json_int_t)s.p_id);
}

/* The colours of all lines of a project, in the order of its applications. */
static void colours(struct world *w, int64_t p_id, const char *wanted)
{
	const json_t *list = json_object_get(ok(w, op_na_list_gui, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "na"), *na;
	json_auto_t *seen = json_array();
	size_t i;
	json_array_foreach (list, i, na)
		json_array_append(seen, json_object_get(json_array_get(json_object_get(na, "input"), 0), "color"));
	same(seen, wanted);
	/* REST says the same under another name */
	assert_true(json_equal(json_object_get(ok(w, op_na_list, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "data"), list));
}

static const char *colour_in(const json_t *info)
{
	return json_string_value(json_object_get(
		json_array_get(json_object_get(json_array_get(json_object_get(info, "output"), 0), "dfmp"), 0), "color"));
}

static void looking_at_one_turns_its_lines_red(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL), other = small(w, ALICE, "other", ACCEL, CONTROL);
	int64_t second =
		ok_id(w, "na_id", op_na_create, ALICE, MAKE(s.p_id, "n", 1, "[I, I]", (json_int_t)s.in, (json_int_t)s.out));
	colours(w, s.p_id, "['black', 'black']");
	assert_string_equal(colour_in(na_info(w, ALICE, s.na_id)), "black"); /* as it was before */
	assert_string_equal(colour_in(na_info(w, ALICE, s.na_id)), "red");
	colours(w, s.p_id, "['red', 'black']");
	na_info(w, ALICE, second);
	colours(w, s.p_id, "['black', 'red']");
	na_info(w, ALICE, other.na_id); /* another project's selection is its own */
	colours(w, s.p_id, "['black', 'red']");
	ok(w, op_dfobject_info, ALICE, "{s:I}", "dfo_id", (json_int_t)s.in);
	colours(w, s.p_id, "['black', 'black']");
	colours(w, other.p_id, "['red']");
	/* nothing of that is in the store */
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE color = 'red'"), 0);
}

static void a_monitor_is_asked_for_by_the_client_that_watches(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", ACCEL, CONTROL);
	int64_t d_id = device(w, "mac", DUMMY, ALICE, 0);
	ok(w, op_device_bind, ALICE, "{s:I, s:I}", "do_id", (json_int_t)s.do_id, "d_id", (json_int_t)d_id);
	same(ok(w, op_na_monitor, ALICE, "{s:I, s:I}", "na_id", (json_int_t)s.na_id, "p_id", (json_int_t)s.p_id),
	     "{'input': [{'dfo_id': 1, 'alias_name': 'Accel', 'df_type': 'input', 'df_name': 'Accel', 'param_no': 3, 'mac_addr': "
	     "'mac'}],"
	     " 'output': [{'dfo_id': 2, 'alias_name': 'Control', 'df_type': 'output', 'df_name': 'Control', 'param_no': 1, "
	     "'mac_addr': 'mac'}]}");
	same_happened(w, "['monitor for uuid 1']");
	refused(w, op_na_monitor, BOB, ERR_NOENT, "NetworkApplication not find.", "{s:I}", "na_id", (json_int_t)s.na_id);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(a_new_application_has_rows_for_every_parameter),
		TEST(parameters_that_a_model_lacks_are_the_features),
		TEST(a_default_function_of_somebody_else_is_not_taken),
		TEST(an_index_that_is_taken_becomes_the_next_free_one),
		TEST(an_application_needs_both_sides_of_one_project),
		TEST(links_of_one_application_have_the_same_tags),
		TEST(links_come_and_go),
		TEST(links_stay_within_a_project_and_its_owner),
		TEST(one_input_is_joined_with_nothing),
		TEST(whole_rows_may_be_sent_back_changed),
		TEST(what_is_absent_stays_and_null_clears_the_join),
		TEST(an_update_is_whole_or_nothing),
		TEST(deleting_takes_the_rows_and_tells_the_graph),
		TEST(what_is_missing_is_an_error_or_null),
		TEST(looking_at_one_turns_its_lines_red),
		TEST(a_monitor_is_asked_for_by_the_client_that_watches),
	};
	return cmocka_run_group_tests_name("na", tests, NULL, NULL);
}
