#include "world.h"

#include "ccm/ops/import.h"

static struct imported made;

/* text: JSON with ' for ". In a transaction of its own, as a program would. */
static int import(const char *text, struct err *err)
{
	CLEANUP(freep) char *copy = strdup(text);
	json_auto_t *doc = NULL;
	for (char *p = copy; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	int rc = import_parse(copy, strlen(copy), &doc, err);
	if (rc < 0)
		return rc;
	sql("BEGIN");
	rc = import_run(ccm.db, doc, &made, err);
	sql(rc < 0 ? "ROLLBACK" : "COMMIT");
	return rc;
}

static void imports(const char *text)
{
	struct err err;
	if (import(text, &err) < 0)
		fail_msg("%s", err.text);
}

static unsigned changes(void)
{
	return made.categories + made.units + made.tags + made.functions + made.versions + made.features + made.offers +
	       made.models;
}

static const char whole[] =
	"{'DeviceModel':[{'dm_name':'Stove','dm_type':'wearable','plural':true,'df_list':['Temp',{'df_name':'Lamp','df_type':'"
	"output',"
	"'df_parameter':[{'param_type':'boolean'}],'tags':['place','place']},{'df_name':'Wind','df_parameter':[{'max':5},{'unit':"
	"null}]}]}],"
	"'FunctionSDF':[{'fn_list':[{'fn_name':'one'}]},{'df_name':'Temp','fn_list':[{'fn_name':'one'},{'fn_name':'two'}]}],"
	"'DeviceFeature':[{'df_name':'Temp','df_type':'input','comment':'c','df_parameter':[{'param_type':'float','min':-1,'max':"
	"1.5,"
	"'unit':'K','fn_name':'two','idf_type':'variant','normalization':true}]},{'df_name':'Wind','df_type':'input','df_"
	"category':'Air',"
	"'df_parameter':[{'param_type':'int','max':9,'unit':'m/s'},{'param_type':'string','unit':'m/s'}]}],"
	"'Function':[{'fn_name':'one','code':'1','is_protect':true},{'fn_name':'two','code':'2'}],"
	"'Tag':[{'tag_name':'place','param_no':2}],'Unit':[{'unit_name':'None'}],'DeviceFeatureCategory':[{'dfc_name':'None'}]}";

static void everything_comes_in_whatever_its_order_in_the_file(void **state)
{
	(void)state;
	imports(whole);
	assert_int_equal(made.categories, 2); /* Air, and Other */
	assert_int_equal(made.units, 2);
	assert_int_equal(made.tags, 1);
	assert_int_equal(made.functions, 2);
	assert_int_equal(made.versions, 2);
	assert_int_equal(made.features, 3);
	assert_int_equal(made.offers, 3);
	assert_int_equal(made.models, 1);
	ok(BOB, "get_device_feature_info", "{'df_name':'Temp'}");
	is_at("df_category", "'Other'");
	is_at("comment", "'c'");
	is_at("df_parameter",
	      "[{'dfp_id':1,'df_id':1,'mf_id':null,'param_i':0,'param_type':'float','u_id':null,'idf_type':'variant',"
	      "'fn_id':2,'min':-1.0,'max':1.5,'normalization':true,'unit_id':2}]");
	ok(BOB, "get_device_model_info", "{'dm_name':'Stove'}");
	is_at("dm_type", "'wearable'");
	is_at("plural", "true");
	is_at("df_list.0.df_name", "'Lamp'");
	is_at("df_list.0.tags", "[{'tag_id':1,'tag_name':'place','param_no':2}]");
	is_at("df_list.1.df_parameter.0.fn_id", "2"); /* Temp's, as the feature has it */
	is_at("df_list.2.df_parameter.0.max", "5.0"); /* Wind's, overridden */
	is_at("df_list.2.df_parameter.0.unit_id", "3");
	is_at("df_list.2.df_parameter.1.param_type", "'string'");
	is_at("df_list.2.df_parameter.1.unit_id", "1");
	ok(BOB, "get_na_function_list", "{}");
	is("{'fn_list':[{'fn_id':1,'fn_name':'one','is_protect':true}]}");
	assert_int_equal(number("SELECT count(*) FROM FunctionVersion WHERE u_id IS NULL AND length(date) = 10"), 2);
}

static void the_same_again_changes_nothing(void **state)
{
	(void)state;
	imports(whole);
	int64_t rows = number("SELECT (SELECT count(*) FROM DF_Parameter) * 1000 + (SELECT count(*) FROM DM_DF_Tag)");
	imports(whole);
	assert_int_equal(changes(), 0);
	assert_int_equal(number("SELECT (SELECT count(*) FROM DF_Parameter) * 1000 + (SELECT count(*) FROM DM_DF_Tag)"), rows);
	imports("{'Function':[{'fn_name':'one','code':'1b'}],'DeviceFeature':[{'df_name':'Temp','df_type':'output','df_parameter'"
		":["
		"{'param_type':'int'}]}],'DeviceModel':[{'dm_name':'Stove','df_list':['Wind']}]}");
	assert_int_equal(changes(), 1); /* other code is a new version; what is there stays */
	assert_int_equal(made.versions, 1);
	assert_int_equal(number("SELECT is_protect FROM Function WHERE fn_name = 'one'"), 1);
	assert_int_equal(number("SELECT count(*) FROM DeviceFeature WHERE df_name = 'Temp' AND df_type = 'input'"), 1);
	imports("{'Function':[{'fn_name':'one','code':'1b','is_protect':false}]}");
	assert_int_equal(number("SELECT is_protect FROM Function WHERE fn_name = 'one'"), 0);
	imports("{}");
	assert_int_equal(changes(), 0);
}

/* A user's newer version is the user's; everybody's is compared with everybody's. */
static void users_versions_are_no_matter(void **state)
{
	(void)state;
	imports("{'Function':[{'fn_name':'f','code':'1'}]}");
	sql("INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, 1, '2026-01-01', '2')");
	imports("{'Function':[{'fn_name':'f','code':'1','df_id':null}]}");
	assert_int_equal(changes(), 0);
}

static void a_function_has_at_most_256_kib(void **state)
{
	(void)state;
	for (int more = 0; more < 2; more++) {
		struct err err = {0};
		CLEANUP(freep) char *code = calloc(1, 256 * 1024 + 2), *text = NULL;
		memset(code, '#', 256 * 1024 + (size_t)more);
		assert_true(asprintf(&text, "{'Function':[{'fn_name':'f%d','code':'%s'}]}", more, code) > 0);
		assert_int_equal(import(text, &err), more == 0 ? 0 : ERR_RANGE);
		assert_string_equal(err.text, more == 0 ? "" : "Function[0]: `code` is longer than 256 KiB");
	}
	assert_int_equal(number("SELECT count(*) FROM Function"), 1);
}

static void a_mistake_is_named_by_its_path_and_nothing_comes_in(void **state)
{
	static const struct {
		int code;
		const char *text, *why;
	} cases[] = {
		{ERR_PARSE, "{'Unit':[", "line 1, column 9"},
		{ERR_PARSE, "{'Unit':[],\n'Unit':[]}", "line 2"},
		{ERR_PARSE, "", "line "},
		{ERR_SCHEMA, "[]", "it must be a JSON object"},
		{ERR_SCHEMA, "{'Units':[]}", "`Units` is not a known field"},
		{ERR_SCHEMA, "{'Unit':{}}", "`Unit` must be a list"},
		{ERR_SCHEMA, "{'Unit':[{'unit_name':'a'},{'unit_name':''}]}", "`Unit[1].unit_name` must not be empty"},
		{ERR_SCHEMA, "{'Unit':[{'unit_name':'a','u_id':1}]}", "`Unit[0].u_id` is not a known field"},
		{ERR_SCHEMA, "{'Tag':[{'tag_name':'a','param_no':-1}]}", "`Tag[0]` has a `param_no`"},
		{ERR_SCHEMA, "{'Function':[{'fn_name':'1a','code':'x'}]}", "`Function[0]` has the name '1a'"},
		{ERR_SCHEMA, "{'Function':[{'fn_name':'a'}]}", "`Function[0].code` is missing"},
		{ERR_SCHEMA, "{'Function':[{'fn_name':'a','code':'x'},{'fn_name':'a','code':'y'}]}",
		 "`Function[1]` has the name 'a', as another one in this file"},
		{ERR_SCHEMA, "{'Function':[{'fn_name':'a','code':'x','df_id':7}]}",
		 "`Function[0]` names feature 7, which is not there"},
		{ERR_SCHEMA, "{'Unit':[{'unit_name':'a'}],'DeviceFeature':[{'df_name':'a','df_type':'idf','df_parameter':[]}]}",
		 "`DeviceFeature[0].df_type`"},
		{ERR_SCHEMA, "{'Unit':[{'unit_name':'a'}],'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[]}]}",
		 "`DeviceFeature[0]` has no parameters"},
		{ERR_SCHEMA,
		 "{'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[{'param_type':'int'},{'max':1}]}]}",
		 "`DeviceFeature[0].df_parameter[1]` has no `param_type`"},
		{ERR_SCHEMA, "{'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[{'param_type':'number'}]}]}",
		 "`DeviceFeature[0].df_parameter[0].param_type`"},
		{ERR_SCHEMA,
		 "{'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[{'param_type':'int','fn_name':'f'}]}]}",
		 "`DeviceFeature[0].df_parameter[0]` names function 'f'"},
		{ERR_SCHEMA, "{'FunctionSDF':[{'df_name':'a','fn_list':[]}]}", "`FunctionSDF[0]` names feature 'a'"},
		{ERR_SCHEMA, "{'FunctionSDF':[{'fn_list':[{'fn_name':'f'}]}]}", "`FunctionSDF[0].fn_list[0]` names function 'f'"},
		{ERR_SCHEMA, "{'DeviceModel':[{'dm_name':'m','df_list':[]}]}", "`DeviceModel[0]` has no features"},
		{ERR_SCHEMA, "{'DeviceModel':[{'dm_name':'m','df_list':[7]}]}",
		 "`DeviceModel[0].df_list[0]` must be the name of a feature"},
		{ERR_SCHEMA, "{'DeviceModel':[{'dm_name':'m','df_list':['']}]}",
		 "`DeviceModel[0].df_list[0]` must be the name of a feature"},
		{ERR_SCHEMA, "{'DeviceModel':[{'dm_name':'m','df_list':['x']}]}",
		 "`DeviceModel[0].df_list[0]` names feature 'x'"},
		{ERR_SCHEMA, "{'DeviceModel':[{'dm_name':'m','df_list':[{'df_name':'x'}]}]}",
		 "`DeviceModel[0].df_list[0]` names feature 'x'"},
		{ERR_SCHEMA, "{'DeviceModel':[{'dm_name':'m','df_list':[{'df_name':'x','df_parameter':[{'min':'a'}]}]}]}",
		 "`DeviceModel[0].df_list[0].df_parameter[0].min` must be a number"},
		{ERR_SCHEMA,
		 "{'DeviceModel':[{'dm_name':'m','df_list':[{'df_name':'x','df_parameter':[{'param_type':'int'}]}]}]}",
		 "`DeviceModel[0].df_list[0]` is a new feature without `df_type`"},
		{ERR_SCHEMA,
		 "{'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[{'param_type':'int'}]}],"
		 "'DeviceModel':[{'dm_name':'m','df_list':['a','a']}]}",
		 "`DeviceModel[0].df_list[1]` is a feature that the model has already"},
		{ERR_SCHEMA,
		 "{'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[{'param_type':'int'}]}],"
		 "'DeviceModel':[{'dm_name':'m','df_list':[{'df_name':'a','df_parameter':[{},{}]}]}]}",
		 "`DeviceModel[0].df_list[0]` has 2 parameters, its feature has 1"},
		{ERR_SCHEMA,
		 "{'DeviceFeature':[{'df_name':'a','df_type':'input','df_parameter':[{'param_type':'int'}]}],"
		 "'DeviceModel':[{'dm_name':'m','df_list':[{'df_name':'a','tags':['t']}]}]}",
		 "`DeviceModel[0].df_list[0]` names tag 't'"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = {0};
		int rc = import(cases[i].text, &err);
		if (rc != cases[i].code || strstr(err.text, cases[i].why) == NULL)
			fail_msg("%s: got %s '%s', not '%s'", cases[i].text, err_name(rc), err.text, cases[i].why);
	}
	assert_int_equal(import_is_empty(ccm.db, NULL), 1);
	assert_int_equal(number("SELECT count(*) FROM Unit"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(everything_comes_in_whatever_its_order_in_the_file),
		T(the_same_again_changes_nothing),
		T(users_versions_are_no_matter),
		T(a_function_has_at_most_256_kib),
		T(a_mistake_is_named_by_its_path_and_nothing_comes_in),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
