#include "world.h"

#define CODE "def run(x): return x"

/* Ann's function 1 "twice", version 1; everybody's protected function 2 "mean", version 2; feature 1 "Temp". */
static int with_functions(void **state)
{
	if (setup(state) < 0)
		return -1;
	ok(ANN, "create_function", "{'fn_name':'twice','code':'" CODE "'}");
	is("{'fn_id':1,'fnvt_idx':1}");
	sql("INSERT INTO Function (fn_name, is_protect) VALUES ('mean', 1);"
	    "INSERT INTO FunctionVersion (fn_id, date, code) VALUES (2, '2026-01-02', 'x');"
	    "INSERT INTO FunctionSDF (fn_id) VALUES (2)");
	ok(ANN, "create_device_feature", "{'df_name':'Temp','df_type':'input','df_parameter':[{}]}");
	touched[0] = '\0';
	return 0;
}

/* A project of Ann with a link (NA 1, DF object 1 of feature 1), whose function and whose join's function are given. */
static void with_link(const char *function, const char *join)
{
	char text[900];
	snprintf(text, sizeof(text),
		 "INSERT INTO DeviceModel (dm_name) VALUES ('m'); INSERT INTO DM_DF (dm_id, df_id) VALUES (1, 1);"
		 "INSERT INTO Project (p_name, u_id) VALUES ('p', 1); INSERT INTO NetworkApplication (na_name, na_idx, p_id) "
		 "VALUES ('a', 0, 1);"
		 "INSERT INTO DeviceObject (dm_id, p_id) VALUES (1, 1); INSERT INTO DFObject (do_id, df_id, alias_name) VALUES "
		 "(1, 1, 't');"
		 "INSERT INTO DF_Module (na_id, dfo_id, param_i, fn_id) VALUES (1, 1, 0, %s), (1, 1, 1, NULL);"
		 "INSERT INTO MultipleJoin_Module (na_id, param_i, dfo_id, fn_id) VALUES (1, 0, 1, %s)",
		 function, join);
	sql(text);
}

static void versions_belong_to_who_made_them(void **state)
{
	(void)state;
	char today[16];
	snprintf(today, sizeof(today), "%.10s", utc_text(time(NULL)).s);
	ok(BOB, "create_function", "{'fn_name':'twice','code':'" CODE "+1','df_id':'1'}");
	is("{'fn_id':1,'fnvt_idx':3}");
	assert_string_equal(touched, "function 1, ");
	ok(ANN, "get_function_info", "{'fn_id':'1'}");
	is_at("name", "'twice'");
	is_at("fnvt_idx", "1");
	is_at("code", "'" CODE "'");
	assert_string_equal(json_string_value(at("date")), today);
	ok(BOB, "get_function_info", "{'fn_id':1,'fnvt_idx':null}");
	is_at("fnvt_idx", "3");
	refused(ERR_NOENT, "Function Version id 1 not found", BOB, "get_function_info", "{'fnvt_idx':1}");
	ok(BOB, "get_function_version_list", "{'fn_id':1}");
	assert_int_equal(json_array_size(at("fnvt_list")), 1);
	is_at("fnvt_list.0.u_id", "2");
	is_at("fnvt_list.0.completeness", "true");
	is_at("fnvt_list.0.is_switch", "false");
	is_at("fnvt_list.0.non_df_args", "''");
	assert_string_equal(json_string_value(at("fnvt_list.0.date")), today);
	refused(ERR_NOENT, "Function id 1 not found", EVE, "get_function_info", "{'fn_id':1}");
	refused(ERR_NOENT, "Function id 1 not found", EVE, "get_function_version_list", "{'fn_id':1}");
	refused(ERR_NOENT, "Function id 9 not found", ANN, "get_function_version_list", "{'fn_id':9}");
	ok(ANN, "get_function_version_list", "{'fn_id':0}"); /* no function has none */
	is("{'fnvt_list':[]}");
	ok(EVE, "get_function_list", "{}");
	is("{'fn_list':[{'fn_id':2,'fn_name':'mean','is_protect':true}]}");
	ok(BOB, "get_function_list", "{}");
	is("{'fn_list':[{'fn_id':2,'fn_name':'mean','is_protect':true},{'fn_id':1,'fn_name':'twice','is_protect':false}]}");
}

static void no_function_is_all_null(void **state)
{
	static const char *const none[] = {"{}", "{'fn_id':0}", "{'fn_id':'-1'}", "{'fn_id':null,'fnvt_idx':null}"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		ok(ANN, "get_function_info", "%s", none[i]);
		is("{'name':null,'fnvt_idx':null,'code':null,'date':null}");
	}
}

static void code_is_compiled_elsewhere_before_it_is_stored(void **state)
{
	(void)state;
	refused(ERR_INVAL, "Compile Error: SyntaxError: not a function", ANN, "create_function",
		"{'fn_name':'f','code':'run = 1'}");
	refused(ERR_INVAL, "Compile Error: SyntaxError: not a function", ANN, "update_function", "{'fn_id':1,'code':'run = 1'}");
	compiler_is_away = true;
	refused(ERR_AGAIN, "no agent is connected", ANN, "create_function", "{'fn_name':'f','code':'" CODE "'}");
	assert_int_equal(number("SELECT count(*) FROM Function"), 2);
	assert_int_equal(number("SELECT count(*) FROM FunctionVersion"), 2);
	assert_string_equal(touched, "");
}

static void names_are_identifiers(void **state)
{
	static const char *const bad[] = {"1x", "_x", "a-b", "a b", "\\u00e4", "a\\n", "a.b", "a\\u0027"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(ERR_INVAL, "Function name must start with a letter", ANN, "create_function",
			"{'fn_name':'%s','code':'" CODE "'}", bad[i]);
	ok(ANN, "create_function", "{'fn_name':'a_B9','code':'" CODE "'}");
	refused(ERR_SCHEMA, "fn_name", ANN, "create_function", "{'fn_name':'','code':'" CODE "'}");
	refused(ERR_SCHEMA, "code", ANN, "create_function", "{'fn_name':'b','code':''}");
	refused(ERR_SCHEMA, "is_protect", ANN, "create_function", "{'fn_name':'b','code':'" CODE "','is_protect':true}");
}

static void only_the_owner_changes_a_version(void **state)
{
	(void)state;
	ok(ANN, "update_function", "{'fn_id':1,'fnvt_idx':'1','code':'" CODE "#2'}");
	is("{'fn_id':1,'fnvt_idx':1}");
	assert_string_equal(touched, "function 1, ");
	ok(ANN, "update_function", "{'fn_id':1,'code':'" CODE "#3'}");
	is("{'fn_id':1,'fnvt_idx':3}");
	ok(BOB, "create_function", "{'fn_name':'twice','code':'" CODE "'}");
	refused(ERR_NOENT, "Function Version not find, or you are not owner.", BOB, "update_function",
		"{'fn_id':1,'fnvt_idx':1,'code':'" CODE "'}");
	refused(ERR_NOENT, "Function Version not find, or you are not owner.", ANN, "update_function",
		"{'fn_id':1,'fnvt_idx':2,'code':'" CODE "'}");
	refused(ERR_NOENT, "Function id 9 not found", ANN, "update_function", "{'fn_id':9,'code':'" CODE "'}");
	refused(ERR_NOENT, "Function id 1 not found", EVE, "update_function", "{'fn_id':1,'code':'" CODE "'}");
	ok(ANN, "get_function_info", "{'fnvt_idx':1}");
	is_at("code", "'" CODE "#2'");
}

static void protected_functions_stay(void **state)
{
	(void)state;
	refused(ERR_ACCES, "protected", ANN, "create_function", "{'fn_name':'mean','code':'" CODE "'}");
	refused(ERR_ACCES, "protected", ANN, "update_function", "{'fn_id':2,'code':'" CODE "'}");
	refused(ERR_ACCES, "protected", EVE, "delete_function", "{'fn_id':2}");
	ok(ANN, "create_functionSDF", "{'fn_id':2,'df_id':1}");
}

/* Ann deletes hers, Bob's stays; the last version takes the function with it. */
static void everybody_deletes_its_own_versions(void **state)
{
	(void)state;
	ok(BOB, "create_function", "{'fn_name':'twice','code':'" CODE "'}");
	refused(ERR_NOENT, "Function id 1 not found", EVE, "delete_function", "{'fn_id':1}");
	ok(ANN, "delete_function", "{'fn_id':1}");
	is("{'fn_id':1}");
	assert_int_equal(number("SELECT count(*) FROM FunctionVersion WHERE fn_id = 1"), 1);
	assert_int_equal(number("SELECT count(*) FROM FunctionSDF WHERE fn_id = 1"), 1);
	refused(ERR_NOENT, "Function id 1 not found", ANN, "delete_function", "{'fn_id':1}");
	ok(BOB, "delete_function", "{'fn_id':1}");
	assert_int_equal(number("SELECT count(*) FROM Function WHERE fn_id = 1"), 0);
	refused(ERR_NOENT, "Function id 1 not found", BOB, "delete_function", "{'fn_id':1}");
}

static void a_general_version_is_nobodys_to_delete(void **state)
{
	(void)state;
	sql("INSERT INTO FunctionVersion (fn_id, date, code) VALUES (1, '2026-01-02', 'x')");
	refused(ERR_NOENT, "Function Version not find, or you are not owner.", BOB, "delete_function", "{'fn_id':1}");
	ok(ANN, "delete_function", "{'fn_id':1}");
	assert_int_equal(number("SELECT count(*) FROM FunctionVersion WHERE fn_id = 1"), 1);
}

static void what_is_used_is_not_deleted(void **state)
{
	static const char *const uses[] = {
		"UPDATE DF_Parameter SET fn_id = 1 WHERE dfp_id = 1",
		"UPDATE DF_Module SET fn_id = 1 WHERE param_i = 1",
		"UPDATE MultipleJoin_Module SET fn_id = 1",
		"INSERT INTO FunctionSDF (fn_id, u_id) VALUES (1, 2)",
	};
	static const char *const ends[] = {"UPDATE DF_Parameter SET fn_id = NULL", "UPDATE DF_Module SET fn_id = NULL",
					   "UPDATE MultipleJoin_Module SET fn_id = NULL",
					   "DELETE FROM FunctionSDF WHERE u_id = 2"};
	(void)state;
	with_link("NULL", "NULL");
	for (size_t i = 0; i < ARRAY_LEN(uses); i++) {
		sql(uses[i]);
		refused(ERR_CONFLICT, "This function is used, can not delete.", ANN, "delete_function", "{'fn_id':1}");
		sql(ends[i]);
	}
	ok(ANN, "delete_function", "{'fn_id':1}");
}

/* Nobody keeps a function that is not theirs to see; what was shown may be sent back. */
static void a_function_of_anothers_is_no_parameters(void **state)
{
	static const char *const missing = "Function id 1 not found";
	(void)state;
	refused(ERR_NOENT, missing, BOB, "create_device_feature", "{'df_name':'x','df_type':'input','df_parameter':[{'fn_id':1}]}");
	refused(ERR_NOENT, missing, BOB, "update_device_feature",
		"{'df_id':1,'df_type':'input','df_parameter':[{'fn_id':1}]}");
	refused(ERR_NOENT, missing, BOB, "update_device_feature_parameter", "{'df_id':1,'df_parameter':[{'fn_id':1}]}");
	refused(ERR_NOENT, missing, BOB, "create_device_model",
		"{'dm_name':'m','df_list':[{'df_id':1,'df_parameter':[{'fn_id':1}]}]}");
	ok(BOB, "create_device_model", "{'dm_name':'m','df_list':[{'df_id':1,'df_parameter':[{}]}]}");
	refused(ERR_NOENT, missing, BOB, "update_device_feature_parameter", "{'mf_id':1,'df_parameter':[{'fn_id':1}]}");
	assert_int_equal(number("SELECT count(*) FROM DF_Parameter WHERE fn_id = 1"), 0);
	ok(ANN, "create_device_feature", "{'df_name':'y','df_type':'input','df_parameter':[{'fn_id':1}]}");
	ok(BOB, "create_device_model", "{'dm_name':'n','df_list':[{'df_id':2,'df_parameter':[{'fn_id':1}]}]}");
	assert_int_equal(number("SELECT count(*) FROM DF_Parameter WHERE fn_id = 1"), 2);
}

/* Bob's version is what stays for those who are not Ann; her project is no reason to keep it. */
static void others_use_does_not_keep_ones_own_version_when_theirs_stay(void **state)
{
	(void)state;
	ok(BOB, "create_function", "{'fn_name':'twice','code':'" CODE "'}");
	with_link("1", "NULL");
	refused(ERR_CONFLICT, "This function is used, can not delete.", ANN, "delete_function", "{'fn_id':1}");
	ok(BOB, "delete_function", "{'fn_id':1}");
}

static void functions_are_offered_where_it_was_said(void **state)
{
	(void)state;
	ok(ANN, "get_na_function_list", "{}"); /* made without a feature: for joins */
	is("{'fn_list':[{'fn_id':2,'fn_name':'mean','is_protect':true},{'fn_id':1,'fn_name':'twice','is_protect':false}]}");
	ok(BOB, "get_na_function_list", "{}");
	is("{'fn_list':[{'fn_id':2,'fn_name':'mean','is_protect':true}]}");
	ok(ANN, "get_device_feature_function_list", "{'df_id':1}");
	is("{'fn_list':[]}");
	ok(ANN, "update_function", "{'fn_id':1,'df_id':'1','code':'" CODE "'}");
	ok(ANN, "create_functionSDF", "{'fn_id':1,'df_id':1}"); /* twice is once */
	is("{'fn_id':1,'df_id':1}");
	ok(ANN, "get_device_feature_function_list", "{'df_id':1}");
	is("{'fn_list':[{'fn_id':1,'fn_name':'twice','is_protect':false}]}");
	ok(BOB, "get_device_feature_function_list", "{'df_id':1}");
	is("{'fn_list':[]}");
	ok(BOB, "create_functionSDF", "{'fn_id':2,'df_id':null}");
	is("{'fn_id':2,'df_id':null}");
	ok(BOB, "get_na_function_list", "{}"); /* in two rows, once in the list */
	assert_int_equal(json_array_size(at("fn_list")), 1);
	refused(ERR_NOENT, "Device Feature id 7 not found", ANN, "create_functionSDF", "{'fn_id':1,'df_id':7}");
	refused(ERR_NOENT, "Function id 1 not found", BOB, "create_functionSDF", "{'fn_id':1}");
	ok(ANN, "delete_functionSDF", "{'fn_id':1,'df_id':1}");
	is("{'fn_id':1,'df_id':1}");
	refused(ERR_NOENT, "FunctionSDF not find.", ANN, "delete_functionSDF", "{'fn_id':1,'df_id':1}");
	refused(ERR_NOENT, "FunctionSDF not find.", ANN, "delete_functionSDF", "{'fn_id':2}"); /* that one is everybody's */
	refused(ERR_NOENT, "Device Feature id 7 not found", ANN, "create_function",
		"{'fn_name':'f','code':'" CODE "','df_id':7}");
	assert_int_equal(number("SELECT count(*) FROM Function WHERE fn_name = 'f'"), 0);
}

static void an_offer_that_is_used_stays(void **state)
{
	(void)state;
	with_link("1", "1");
	ok(ANN, "create_functionSDF", "{'fn_id':1,'df_id':1}");
	refused(ERR_CONFLICT, "This function is used, can not delete.", ANN, "delete_functionSDF", "{'fn_id':1,'df_id':1}");
	refused(ERR_CONFLICT, "This function is used, can not delete.", ANN, "delete_functionSDF", "{'fn_id':1}");
	sql("UPDATE DF_Module SET fn_id = NULL");
	ok(ANN, "delete_functionSDF", "{'fn_id':1,'df_id':1}");
	sql("UPDATE MultipleJoin_Module SET fn_id = NULL");
	ok(ANN, "delete_functionSDF", "{'fn_id':1}");
	ok(ANN, "create_functionSDF", "{'fn_id':1,'df_id':1}");
	sql("INSERT INTO DF_Parameter (mf_id, param_i, fn_id) VALUES (1, 0, 1)");
	refused(ERR_CONFLICT, "This function is used, can not delete.", ANN, "delete_functionSDF", "{'fn_id':1,'df_id':1}");
}

static void an_editor_sees_what_a_link_and_a_join_have(void **state)
{
	(void)state;
	with_link("1", "2");
	ok(ANN, "create_functionSDF", "{'fn_id':1,'df_id':1}");
	ok(ANN, "get_dfo_function_info", "{'dfo_id':'1'}");
	is("{'df_id':1,'dfo_id':1,'df_name':'Temp','dfm_fn_list':[1,null],"
	   "'fn_list':[{'fn_id':1,'fn_name':'twice','is_protect':false}],'other_fn_list':[{'fn_id':2,'fn_name':'mean','is_"
	   "protect':true}]}");
	ok(ANN, "get_dfo_function_info", "{'na_id':1}");
	is_at("df_name", "'Join'");
	is_at("df_id", "null");
	is_at("dfo_id", "null");
	is_at("multiplejoin_fn_id", "2");
	is_at("other_fn_list", "[]");
	assert_int_equal(json_array_size(at("fn_list")), 2);
	sql("UPDATE MultipleJoin_Module SET fn_id = NULL");
	ok(ANN, "get_dfo_function_info", "{'na_id':1}");
	is_at("multiplejoin_fn_id", "null");
	refused(ERR_NOENT, "Device Feature Object id 1 not found", BOB, "get_dfo_function_info", "{'dfo_id':1}");
	refused(ERR_NOENT, "NetworkApplication not find.", BOB, "get_dfo_function_info", "{'na_id':1}");
	refused(ERR_NOENT, "not find", BOB, "get_dfo_function_info", "{}");
}

int main(void)
{
#define F(name) cmocka_unit_test_setup_teardown(name, with_functions, teardown)
	const struct CMUnitTest tests[] = {
		F(versions_belong_to_who_made_them),
		F(no_function_is_all_null),
		F(code_is_compiled_elsewhere_before_it_is_stored),
		F(names_are_identifiers),
		F(only_the_owner_changes_a_version),
		F(protected_functions_stay),
		F(everybody_deletes_its_own_versions),
		F(a_general_version_is_nobodys_to_delete),
		F(what_is_used_is_not_deleted),
		F(a_function_of_anothers_is_no_parameters),
		F(others_use_does_not_keep_ones_own_version_when_theirs_stay),
		F(functions_are_offered_where_it_was_said),
		F(an_offer_that_is_used_stays),
		F(an_editor_sees_what_a_link_and_a_join_have),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
