/* test_project_import.c - projects as documents: out, in again, and what is wrong with them. */
#include "tests/ccm/project_world.h"

static json_t *exported(struct world *w, int64_t u_id, int64_t p_id, bool functions)
{
	return ok(w, op_project_export, u_id, "{s:I, s:b}", "p_id", (json_int_t)p_id, "functions", functions);
}

static int64_t import(struct world *w, int64_t u_id, const char *name, json_t *document)
{
	return ok_id(w, "p_id", op_project_import, u_id, "{s:s, s:O}", "p_name", name, "document", document);
}

/* Alice's, with a join of two inputs, functions, an alias and a device. */
static int64_t rich(struct world *w)
{
	json_int_t p_id = project(w, ALICE, "home"), a = object(w, ALICE, p_id, ACCEL, CONTROL),
		   b = object(w, ALICE, p_id, SENSOR, 0);
	json_int_t accel = dfo(w, a, ACCEL), control = dfo(w, a, CONTROL), sensor = dfo(w, b, SENSOR);
	script(w, "UPDATE DFObject SET alias_name = 'tilt' WHERE dfo_id = 1; UPDATE DeviceObject SET do_idx = 7 WHERE do_id = 2");
	device(w, "mac", DUMMY, ALICE, 0);
	ok(w, op_device_bind, ALICE, "{s:I, s:i}", "do_id", a, "d_id", 1);
	ok(w, op_na_create, ALICE, "{s:I, s:s, s:i, s:[I, I, I]}", "p_id", p_id, "na_name", "Join 1", "na_idx", 3, "dfo_ids",
	   control, sensor, accel);
	ok(w, op_na_update, ALICE, "{s:i, s:i, s:[{s:I, s:[{s:i, s:i}]}]}", "na_id", 1, "multiplejoin_fn_id", F_GENERAL,
	   "dfm_list", "dfo_id", control, "dfmp_list", "param_i", 0, "fn_id", F_ALICE);
	ok(w, op_project_status, ALICE, "{s:I, s:s}", "p_id", p_id, "status", "on");
	return p_id;
}

#define FUNCTIONS                                                                                                        \
	", 'Function': [{'fn_name': 'f_alice', 'code': 'def run(*a): return 2'}, {'fn_name': 'f_general', 'code': 'def " \
	"run(*a): return 1'}]"
#define RICH(extra)                                                                                                             \
	"{'project': {'p_name': 'home', 'DeviceObject': {"                                                                      \
	"  '1': {'dm_name': 'Dummy', 'do_idx': 0, 'dfo': {'1': {'df_name': 'Accel', 'alias_name': 'tilt'},"                     \
	"   '2': {'df_name': 'Control', 'alias_name': 'Control'}}},"                                                            \
	"  '2': {'dm_name': 'Dummy', 'do_idx': 7, 'dfo': {'3': {'df_name': 'Sensor', 'alias_name': 'Sensor'}}}},"               \
	" 'NetworkApplication': [{'na_name': 'Join 1', 'na_idx': 3, 'DF_Module': ["                                             \
	"  {'dfo_id': 1, 'param_i': 0, 'idf_type': 'variant', 'min': -10.0, 'max': 10.0, 'normalization': true, 'fn_name': "    \
	"null},"                                                                                                                \
	"  {'dfo_id': 1, 'param_i': 1, 'idf_type': 'sample', 'min': -20.0, 'max': 20.0, 'normalization': false, 'fn_name': "    \
	"null},"                                                                                                                \
	"  {'dfo_id': 1, 'param_i': 2, 'idf_type': 'sample', 'min': -30.0, 'max': 30.0, 'normalization': false, 'fn_name': "    \
	"null},"                                                                                                                \
	"  {'dfo_id': 2, 'param_i': 0, 'idf_type': 'sample', 'min': 0.0, 'max': 10.0, 'normalization': false, 'fn_name': "      \
	"'f_alice'},"                                                                                                           \
	"  {'dfo_id': 3, 'param_i': 0, 'idf_type': 'sample', 'min': 0.0, 'max': 100.0, 'normalization': false, 'fn_name': "     \
	"'f_general'}],"                                                                                                        \
	" 'MultipleJoin_Module': [{'param_i': 0, 'dfo_id': 3, 'fn_name': 'f_general'}, {'param_i': 1, 'dfo_id': 1, 'fn_name': " \
	"'f_general'}]}]}" extra "}"

static void a_document_has_all_but_what_is_of_the_moment(void **state)
{
	struct world *w = *state;
	int64_t p_id = rich(w);
	same(exported(w, ALICE, p_id, false), RICH(""));
	same(exported(w, ALICE, p_id, true), RICH(FUNCTIONS));
	same(ok(w, op_project_export, ALICE, "{s:I}", "p_id", (json_int_t)p_id), RICH(""));
	refused(w, op_project_export, BOB, ERR_NOENT, "project 1 not found", "{s:I}", "p_id", (json_int_t)p_id);
}

/* The same document but for ids and the name. */
static void same_project(const json_t *a, const json_t *b)
{
	json_auto_t *x = json_deep_copy(a), *y = json_deep_copy(b);
	json_t *both[] = {x, y};
	for (size_t i = 0; i < 2; i++) {
		json_t *p = json_object_get(both[i], "project"), *o, *objects = json_array();
		json_t *nas = json_object_get(p, "NetworkApplication"), *na, *row;
		const char *id;
		size_t k, m;
		json_object_set_new(p, "p_name", json_null());
		/* objects in order, their features in order; references as the place of a feature among all */
		json_auto_t *places = json_object();
		json_object_foreach (json_object_get(p, "DeviceObject"), id, o) {
			json_t *features = json_array(), *f;
			const char *dfo_id;
			json_object_foreach (json_object_get(o, "dfo"), dfo_id, f) {
				json_object_set_new(places, dfo_id, json_integer((json_int_t)json_object_size(places)));
				json_array_append(features, f);
			}
			json_object_set_new(o, "dfo", features);
			json_array_append(objects, o);
		}
		json_object_set_new(p, "DeviceObject", objects);
		json_array_foreach (nas, k, na) {
			static const char *const keys[] = {"DF_Module", "MultipleJoin_Module"};
			for (size_t n = 0; n < ARRAY_LEN(keys); n++) {
				json_array_foreach (json_object_get(na, keys[n]), m, row) {
					char text[24];
					snprintf(text, sizeof(text), "%lld", (long long)id_of(row, "dfo_id"));
					json_object_set(row, "dfo_id", json_object_get(places, text));
				}
			}
		}
	}
	CLEANUP(freep) char *text = json_dumps(y, 0);
	for (char *p = text; *p != '\0'; p++)
		*p = *p == '"' ? '\'' : *p;
	same(x, text);
}

static void what_comes_in_is_what_went_out(void **state)
{
	struct world *w = *state;
	int64_t p_id = rich(w);
	json_t *document = exported(w, ALICE, p_id, false);
	int64_t copy = import(w, ALICE, "copy", document);
	same_happened(w, "['touch 2']");
	assert_int_not_equal(copy, p_id);
	same_project(exported(w, ALICE, copy, false), document);
	/* off, not simulated, nothing bound, ids of its own */
	assert_int_equal(number_of(w, "SELECT count(*) FROM Project WHERE p_id = 2 AND status = 'off' AND sim = 'off'"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject WHERE p_id = 2 AND d_id IS NULL"), 2);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module WHERE na_id = 1"), 5);
}

static void names_are_free_for_each_user(void **state)
{
	struct world *w = *state;
	json_t *document = exported(w, ALICE, rich(w), true);
	refused(w, op_project_import, ALICE, ERR_EXIST, "Project name already exists", "{s:s, s:O}", "p_name", "home", "document",
		document);
	refused(w, op_project_import, ALICE, ERR_INVAL, "Please select a new project name", "{s:s, s:O}", "p_name", "",
		"document", document);
	import(w, BOB, "home", document);
}

static void functions_that_come_along_are_made_for_the_caller_alone(void **state)
{
	struct world *w = *state;
	json_t *document = exported(w, ALICE, rich(w), true), *bare = exported(w, ALICE, 1, false);
	/* bob does not see alice's function, and has none of that name */
	refused(w, op_project_import, BOB, ERR_INVAL,
		"project.NetworkApplication[0]: DF_Module[3]: there is no function \"f_alice\"", "{s:s, s:O}", "p_name", "home",
		"document", bare);
	assert_int_equal(number_of(w, "SELECT count(*) FROM Project"), 1);
	int64_t copy = import(w, BOB, "home", document);
	assert_int_equal(w->checks, 1);
	same_project(exported(w, BOB, copy, true), document);
	assert_int_equal(number_of(w, "SELECT count(*) FROM FunctionVersion WHERE fn_id = 2"), 2);
	assert_int_equal(number_of(w, "SELECT count(*) FROM FunctionVersion WHERE fn_id = 2 AND u_id = 2 AND date >= '2026'"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM FunctionVersion WHERE fn_id = 1"), 1);
	/* offered to him where it is used, and to nobody else */
	assert_int_equal(number_of(w, "SELECT count(*) FROM FunctionSDF WHERE fn_id = 2 AND df_id = 2 AND u_id = 2"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM FunctionSDF WHERE fn_id = 2"), 2);
	/* f_general was offered to everybody */
	assert_int_equal(number_of(w, "SELECT count(*) FROM FunctionSDF WHERE fn_id = 1"), 2);
	/* a new name, to carol; once is enough */
	json_auto_t *renamed = json_deep_copy(document);
	json_t *f = json_array_get(json_object_get(renamed, "Function"), 0);
	json_t *na = json_array_get(json_object_get(json_object_get(renamed, "project"), "NetworkApplication"), 0);
	json_object_set_new(f, "fn_name", json_string("f_new"));
	json_object_set_new(json_array_get(json_object_get(na, "DF_Module"), 3), "fn_name", json_string("f_new"));
	import(w, CAROL, "one", renamed);
	import(w, CAROL, "two", renamed);
	assert_int_equal(number_of(w, "SELECT count(*) FROM Function f JOIN FunctionVersion USING (fn_id) WHERE fn_name = "
				      "'f_new' AND u_id = 3"),
			 1);
	assert_int_equal(w->checks, 2);
	/* which is compiled first, by an engine that may be away */
	json_object_set_new(f, "fn_name", json_string("f_bad"));
	w->no_agent = true;
	refused(w, op_project_import, CAROL, ERR_AGAIN, "Function[0]: no agent", "{s:s, s:O}", "p_name", "three", "document",
		renamed);
	w->no_agent = false;
	json_object_set_new(f, "code", json_string("import os"));
	refused(w, op_project_import, CAROL, ERR_INVAL, "Function[0]: Compile Error: there is no run", "{s:s, s:O}", "p_name",
		"three", "document", renamed);
	char *code = calloc(1, 256 * 1024 + 2);
	json_object_set_new(f, "code", json_string(memset(code, '#', 256 * 1024 + 1)));
	free(code);
	refused(w, op_project_import, CAROL, ERR_RANGE, "Function[0]: `code` is longer than 256 KiB", "{s:s, s:O}", "p_name", "three",
		"document", renamed);
	json_object_set_new(f, "fn_name", json_string("a b"));
	refused(w, op_project_import, CAROL, ERR_INVAL, "Function[0]: Function name must", "{s:s, s:O}", "p_name", "three",
		"document", renamed);
	assert_int_equal(number_of(w, "SELECT count(*) FROM Function"), 4);
}

static void arguments_keep_their_order_and_gaps_are_closed(void **state)
{
	struct world *w = *state;
	json_auto_t *document = json_deep_copy(exported(w, ALICE, rich(w), false));
	json_t *na = json_array_get(json_object_get(json_object_get(document, "project"), "NetworkApplication"), 0);
	json_t *joins = json_object_get(na, "MultipleJoin_Module");
	json_object_set_new(json_array_get(joins, 0), "param_i", json_integer(9));
	json_object_set_new(json_array_get(joins, 1), "param_i", json_integer(4));
	import(w, ALICE, "copy", document);
	assert_int_equal(
		number_of(w,
			  "SELECT df_id FROM MultipleJoin_Module JOIN DFObject USING (dfo_id) WHERE na_id = 2 AND param_i = 0"),
		ACCEL);
	assert_int_equal(
		number_of(w,
			  "SELECT df_id FROM MultipleJoin_Module JOIN DFObject USING (dfo_id) WHERE na_id = 2 AND param_i = 1"),
		SENSOR);
	/* an input that is no argument becomes the last one */
	json_array_remove(joins, 1);
	import(w, ALICE, "again", document);
	assert_int_equal(
		number_of(w,
			  "SELECT df_id FROM MultipleJoin_Module JOIN DFObject USING (dfo_id) WHERE na_id = 3 AND param_i = 1"),
		ACCEL);
}

/* ---- what is wrong ---- */

static const char good[] =
	"{'project': {'DeviceObject': {'1': {'dm_name': 'Dummy', 'dfo': {'10': {'df_name': 'Sensor', 'alias_name': ''},"
	" '11': {'df_name': 'Control', 'alias_name': ''}, '12': {'df_name': 'Tagged', 'alias_name': ''}}}, '2': {'dm_name': "
	"'Dummy', 'dfo': {}}},"
	" 'NetworkApplication': [{'na_name': '', 'na_idx': 0, 'DF_Module': [{'dfo_id': 10, 'param_i': 0}, {'dfo_id': 11, "
	"'param_i': 0}],"
	" 'MultipleJoin_Module': []}], 'later': 1}, 'also': {}}";

/* The good one with `from` replaced by `to`, both with ' for ". ret: yours */
static json_t *altered(const char *from, const char *to)
{
	char text[2000];
	const char *at = from != NULL ? strstr(good, from) : good;
	json_error_t why;
	assert_non_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to, at + (from != NULL ? strlen(from) : 0));
	for (char *p = text; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	json_t *document = json_loads(text, 0, &why);
	if (document == NULL)
		fail_msg("%s: %s", why.text, text);
	return document;
}

static void what_is_wrong_is_named_by_its_path_and_leaves_nothing(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *from, *to, *words;
	} cases[] = {
		{"'project'", "'projekt'", "Invalid format: `project` is missing"},
		{"'DeviceObject'", "'x'", "Invalid format: `project.DeviceObject` is missing"},
		{"'NetworkApplication': [", "'NetworkApplication': [7, ",
		 "Invalid format: `project.NetworkApplication[0]` must be an object"},
		{"'na_name': ''", "'na_name': 5", "Invalid format: `project.NetworkApplication[0].na_name` must be a string"},
		{"{'dfo_id': 11, 'param_i': 0}", "{'dfo_id': 11}",
		 "Invalid format: `project.NetworkApplication[0].DF_Module[1].param_i` is missing"},
		{"'param_i': 0}", "'param_i': 0, 'idf_type': 'x'}", "project.NetworkApplication[0].DF_Module[0].idf_type"},
		{"'also': {}", "'Function': [{'fn_name': 'x'}]", "Invalid format: `Function[0].code` is missing"},
		{"'dm_name': 'Dummy'", "'dm_name': 'Nothing'", "project.DeviceObject.1: there is no device model \"Nothing\""},
		{"'dm_name': 'Dummy', 'dfo'", "'dm_name': 'Dummy', 'dfi'", "project.DeviceObject.1: `dfo` is missing"},
		{"'Sensor', 'alias_name': ''", "'Stray', 'alias_name': ''",
		 "project.DeviceObject.1: dfo.10: the device model has no feature \"Stray\""},
		{"'Sensor', 'alias_name': ''", "'Sensor'", "project.DeviceObject.1: dfo.10: `alias_name` is missing"},
		{"'Sensor'", "'Control'", "project.DeviceObject.1: dfo.11: feature \"Control\" is given twice"},
		{"'10': {", "'x': {", "project.DeviceObject.1: dfo.x: the name must be a number"},
		{"'10': {", "'010': {", "project.DeviceObject.1: dfo.010: the name must be a number"},
		{"'dfo': {}", "'dfo': {'10': {'df_name': 'Sensor', 'alias_name': ''}}",
		 "project.DeviceObject.2: dfo.10: this number is given twice"},
		{"{'dfo_id': 10, 'param_i': 0}", "{'dfo_id': 99, 'param_i': 0}",
		 "project.NetworkApplication[0]: DF_Module[0]: there is no dfo 99"},
		{"{'dfo_id': 10, 'param_i': 0}", "{'dfo_id': 10, 'param_i': 1}",
		 "project.NetworkApplication[0]: DF_Module[0]: the feature has no such parameter"},
		{", {'dfo_id': 11, 'param_i': 0}", "",
		 "project.NetworkApplication[0]: NetworkApplication needs at least one input"},
		{"{'dfo_id': 10, 'param_i': 0}", "{'dfo_id': 12, 'param_i': 0}",
		 "project.NetworkApplication[0]: NetworkApplication should use"},
		{"'MultipleJoin_Module': []", "'MultipleJoin_Module': [{'param_i': 0, 'dfo_id': 98}]",
		 "MultipleJoin_Module: there is no dfo 98"},
		{"'MultipleJoin_Module': []", "'MultipleJoin_Module': [{'param_i': 0, 'dfo_id': 10, 'fn_name': 'x'}]",
		 "MultipleJoin_Module[0]: there is no function \"x\""},
		{"'na_idx': 0", "'na_idx': -5", "project.NetworkApplication[0]: na_idx"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *document = altered(cases[i].from, cases[i].to);
		refused(w, op_project_import, ALICE, ERR_INVAL, cases[i].words, "{s:s, s:o}", "p_name", "new", "document",
			document);
	}
	refused(w, op_project_import, ALICE, ERR_INVAL, "Invalid format", "{s:s, s:[]}", "p_name", "new", "document");
	refused(w, op_project_import, ALICE, ERR_INVAL, "Invalid format", "{s:s}", "p_name", "new");
	static const char *const tables[] = {
		"SELECT count(*) FROM Project",	 "SELECT count(*) FROM DeviceObject", "SELECT count(*) FROM DFObject",
		"SELECT count(*) FROM NetworkApplication", "SELECT count(*) FROM DF_Module",
	};
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		assert_int_equal(number_of(w, tables[i]), 0);
	/* the good one is; an object without features is nothing, and what is not known is not looked at */
	json_auto_t *document = altered(NULL, "");
	import(w, ALICE, "new", document);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DFObject"), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(a_document_has_all_but_what_is_of_the_moment),
		TEST(what_comes_in_is_what_went_out),
		TEST(names_are_free_for_each_user),
		TEST(functions_that_come_along_are_made_for_the_caller_alone),
		TEST(arguments_keep_their_order_and_gaps_are_closed),
		TEST(what_is_wrong_is_named_by_its_path_and_leaves_nothing),
	};
	return cmocka_run_group_tests_name("project_import", tests, NULL, NULL);
}
