#include "world.h"

/* Features 1 "Temp" (input, 2 parameters) and 2 "Lamp" (output, 1), model 1 "Stove" with both. */
static int with_stove(void **state)
{
	if (setup(state) < 0)
		return -1;
	ok(ANN, "create_device_feature", "{'df_name':'Temp','df_type':'input','df_parameter':[{'max':5},{'max':6}]}");
	ok(ANN, "create_device_feature", "{'df_name':'Lamp','df_type':'output','df_parameter':[{'param_type':'boolean'}]}");
	ok(ANN, "create_tag", "{'tag_name':'place','param_no':1}");
	ok(ANN, "create_tag", "{'tag_name':'time','param_no':2}");
	ok(ANN, "create_device_model",
	   "{'dm_name':'Stove','dm_type':'wearable','plural':true,'df_list':[{'df_id':1,'df_parameter':[{'max':7}],'tags':[{'tag_"
	   "id':2}],"
	   "'df_name':1,'comment':null},{'df_id':'2','df_parameter':[{}]}]}");
	is("{'dm_id':1}");
	return 0;
}

static void a_model_shows_its_features_by_name(void **state)
{
	(void)state;
	ok(BOB, "get_device_model_info", "{'dm_id':1}");
	is("{'dm_id':1,'dm_name':'Stove','dm_type':'wearable','plural':true,'device_only':false,'df_list':["
	   "{'df_id':2,'df_name':'Lamp','df_type':'output','df_category':'None','param_no':1,'comment':'','tags':[],'df_"
	   "parameter':["
	   "{'dfp_id':6,'df_id':null,'mf_id':2,'param_i':0,'param_type':'int','u_id':null,'idf_type':'sample','fn_id':null,'min':"
	   "0.0,"
	   "'max':0.0,'normalization':false,'unit_id':1}]},"
	   "{'df_id':1,'df_name':'Temp','df_type':'input','df_category':'None','param_no':2,'comment':'',"
	   "'tags':[{'tag_id':2,'tag_name':'time','param_no':2}],'df_parameter':["
	   "{'dfp_id':4,'df_id':null,'mf_id':1,'param_i':0,'param_type':'int','u_id':null,'idf_type':'sample','fn_id':null,'min':"
	   "0.0,"
	   "'max':7.0,'normalization':false,'unit_id':1},"
	   "{'dfp_id':5,'df_id':null,'mf_id':1,'param_i':1,'param_type':'int','u_id':null,'idf_type':'sample','fn_id':null,'min':"
	   "0.0,"
	   "'max':6.0,'normalization':false,'unit_id':1}]}]}");
	ok(BOB, "get_device_model_list", "{}");
	is("{'dm_list':[{'dm_id':1,'dm_name':'Stove','dm_type':'wearable','plural':true,'device_only':false}]}");
	ok(BOB, "search_device_model", "{'dm_name':'Stove'}");
	is("1");
	ok(BOB, "search_device_model", "{'dm_name':'stove'}");
	is("null");
}

static void what_is_wrong_with_a_model_is_said_and_nothing_of_it_stays(void **state)
{
	(void)state;
	static const struct {
		int code;
		const char *words, *args;
	} cases[] = {
		{ERR_EXIST, "Device Model \"Stove\" already exists",
		 "{'dm_name':'Stove','df_list':[{'df_id':1,'df_parameter':[]}]}"},
		{ERR_INVAL, "Feature list cannot be empty", "{'dm_name':'x','df_list':[]}"},
		{ERR_NOENT, "Device Feature id 9 not found",
		 "{'dm_name':'x','df_list':[{'df_id':1,'df_parameter':[]},{'df_id':9,'df_parameter':[]}]}"},
		{ERR_INVAL, "Device Feature id 1 is in the list twice",
		 "{'dm_name':'x','df_list':[{'df_id':1,'df_parameter':[]},{'df_id':'1','df_parameter':[]}]}"},
		{ERR_INVAL, "has 1 parameters, not 2", "{'dm_name':'x','df_list':[{'df_id':2,'df_parameter':[{},{}]}]}"},
		{ERR_NOENT, "Tag id 5 not found",
		 "{'dm_name':'x','df_list':[{'df_id':2,'df_parameter':[{}],'tags':[{'tag_id':5}]}]}"},
		{ERR_SCHEMA, "df_list[0].df_parameter", "{'dm_name':'x','df_list':[{'df_id':2}]}"},
		{ERR_SCHEMA, "dm_type", "{'dm_name':'x','dm_type':'car','df_list':[{'df_id':2,'df_parameter':[{}]}]}"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		refused(cases[i].code, cases[i].words, ANN, "create_device_model", "%s", cases[i].args);
	assert_int_equal(number("SELECT count(*) FROM DeviceModel"), 1);
	assert_int_equal(number("SELECT count(*) FROM DM_DF"), 2);
	refused(ERR_NOENT, "Device Model id \"9\" not found", ANN, "get_device_model_info", "{'dm_id':9}");
	refused(ERR_NOENT, "Device Model id \"9\" not found", ANN, "update_device_model", "{'dm_id':9,'df_list':[]}");
	refused(ERR_NOENT, "Device Model id \"x\" not found", ANN, "delete_device_model", "{'dm_name':'x'}");
}

static void changing_a_model_is_private_in_its_parameters_and_public_in_its_features(void **state)
{
	(void)state;
	ok(ANN, "create_device_feature", "{'df_name':'New','df_type':'input','df_parameter':[{'max':1}]}");
	ok(BOB, "update_device_model",
	   "{'dm_id':1,'dm_name':'Other','plural':false,'device_only':1,'df_list':[{'df_id':1,'df_parameter':[{'max':8}]},"
	   "{'df_id':3,'df_parameter':[{'max':9}]}]}");
	ok(BOB, "get_device_model_info", "{'dm_name':'Stove'}");
	is_at("plural", "false");
	is_at("device_only", "true");
	is_at("dm_type", "'wearable'");
	assert_int_equal(json_array_size(at("df_list")), 2);
	is_at("df_list.0.df_name", "'New'");
	is_at("df_list.0.df_parameter.0.max", "9.0");
	is_at("df_list.1.df_parameter.0.max", "8.0");
	is_at("df_list.1.df_parameter.1.max", "6.0");
	is_at("df_list.1.tags.0.tag_id", "2"); /* they were not spoken of */
	ok(ANN, "get_device_model_info", "{'dm_id':1}");
	is_at("df_list.0.df_parameter.0.max", "9.0");
	is_at("df_list.1.df_parameter.0.max", "7.0");
	ok(BOB, "update_device_model", "{'dm_name':'Stove','df_list':[{'df_id':1,'df_parameter':[],'tags':[]}]}");
	ok(BOB, "get_device_model_info", "{'dm_id':1}");
	is_at("df_list.0.tags", "[]");
	is_at("df_list.0.df_parameter.0.max", "8.0"); /* as Bob has it */
	assert_int_equal(json_array_size(at("df_list")), 1);
}

static void a_model_in_use_stays_as_it_is(void **state)
{
	(void)state;
	sql("INSERT INTO Device (mac_addr, d_name, dm_id, register_time) VALUES ('m', 'd', 1, '2026-01-01 00:00:00')");
	refused(ERR_CONFLICT, "Device Model is in use.", ANN, "delete_device_model", "{'dm_id':1}");
	ok(ANN, "update_device_model",
	   "{'dm_id':1,'df_list':[{'df_id':1,'df_parameter':[]}]}"); /* a device alone does not mind */
	sql("DELETE FROM Device; INSERT INTO Project (p_name, u_id) VALUES ('p', 2); INSERT INTO DeviceObject (dm_id, p_id) "
	    "VALUES (1, 1)");
	refused(ERR_CONFLICT, "Device Model is in use.", ANN, "delete_device_model", "{'dm_id':1}");
	refused(ERR_CONFLICT, "Device Model is in use.", ANN, "update_device_model",
		"{'dm_id':1,'df_list':[{'df_id':2,'df_parameter':[]}]}");
	sql("DELETE FROM DeviceObject");
	ok(ANN, "delete_device_model", "{'dm_id':1}");
	is("{'dm_id':1}");
	assert_int_equal(number("SELECT count(*) FROM DF_Parameter WHERE mf_id IS NOT NULL"), 0);
	assert_int_equal(number("SELECT count(*) FROM DM_DF_Tag"), 0);
}

static void a_list_of_models_has_those_whose_parameters_show(void **state)
{
	(void)state;
	ok(ANN, "create_device_model", "{'dm_name':'Arm','df_list':[{'df_id':1,'df_parameter':[{},{}]}]}");
	sql("UPDATE DF_Parameter SET u_id = 1 WHERE mf_id = 3");
	ok(ANN, "get_device_model_list", "{}");
	is_at("dm_list.0.dm_name", "'Arm'");
	is_at("dm_list.1.dm_name", "'Stove'");
	ok(BOB, "get_device_model_list", "{}");
	is_at("dm_list.0.dm_name", "'Stove'");
	assert_int_equal(json_array_size(at("dm_list")), 1);
}

static void parameters_are_set_by_pair(void **state)
{
	(void)state;
	ok(BOB, "create_device_feature_parameter", "{'dm_id':1,'df_id':1,'df_parameter':[{'max':'2.5'},{'normalization':1}]}");
	is("{'mf_id':1}");
	ok(BOB, "get_device_feature_parameter", "{'mf_id':1}");
	is_at("df_parameter.0.max", "2.5");
	is_at("df_parameter.0.mf_id", "1");
	is_at("df_parameter.0.df_id", "null");
	is_at("df_parameter.1.normalization", "true");
	ok(ANN, "get_device_feature_parameter", "{'dm_id':1,'df_id':1}");
	is_at("df_parameter.0.max", "7.0");
	ok(BOB, "delete_device_feature_parameter", "{'mf_id':1}");
	is("{'mf_id':1}");
	ok(BOB, "get_device_feature_parameter", "{'mf_id':1}");
	is_at("df_parameter.0.max", "7.0");
	refused(ERR_NOENT, "Device Model has no such Device Feature", BOB, "get_device_feature_parameter",
		"{'dm_id':1,'df_id':7}");
	refused(ERR_INVAL, "df_parameter is empty", BOB, "update_device_feature_parameter", "{'mf_id':1,'df_parameter':[]}");
	refused(ERR_SCHEMA, "df_parameter", BOB, "update_device_feature_parameter", "{'mf_id':1}");
}

static void tags_are_saved_listed_and_deleted_and_graphs_hear_of_it(void **state)
{
	(void)state;
	sql("INSERT INTO Project (p_name, u_id) VALUES ('p', 1); INSERT INTO NetworkApplication (na_name, na_idx, p_id) VALUES "
	    "('a', 0, 1);"
	    "INSERT INTO DeviceObject (dm_id, p_id) VALUES (1, 1); INSERT INTO DFObject (do_id, df_id, alias_name) VALUES (1, 1, "
	    "'t');"
	    "INSERT INTO DF_Module (na_id, dfo_id, param_i) VALUES (1, 1, 0), (1, 1, 1)");
	ok(ANN, "save_dm_df_tag", "{'df_id':1,'dm_id':1,'tags':[{'tag_id':1},{'tag_id':'2','tag_name':'time'},{'tag_id':1}]}");
	is("{'mf_id':1}");
	assert_string_equal(touched, "na 1, ");
	ok(BOB, "get_dm_df_tag", "{'mf_id':1}");
	is("{'tags':[{'tag_id':1,'tag_name':'place','param_no':1},{'tag_id':2,'tag_name':'time','param_no':2}]}");
	ok(ANN, "delete_dm_df_tag", "{'mf_id':1,'tags':[{'tag_id':1}]}");
	ok(BOB, "get_dm_df_tag", "{'mf_id':1}");
	is("{'tags':[{'tag_id':2,'tag_name':'time','param_no':2}]}");
	ok(ANN, "delete_dm_df_tag", "{'mf_id':1}");
	ok(BOB, "get_dm_df_tag", "{'mf_id':1}");
	is("{'tags':[]}");
	refused(ERR_NOENT, "Tag id 9 not found", ANN, "save_dm_df_tag", "{'mf_id':1,'tags':[{'tag_id':9}]}");
	refused(ERR_NOENT, "no such Device Feature", ANN, "save_dm_df_tag", "{'mf_id':9,'tags':[]}");
}

int main(void)
{
#define STOVE(name) cmocka_unit_test_setup_teardown(name, with_stove, teardown)
	const struct CMUnitTest tests[] = {
		STOVE(a_model_shows_its_features_by_name),
		STOVE(what_is_wrong_with_a_model_is_said_and_nothing_of_it_stays),
		STOVE(changing_a_model_is_private_in_its_parameters_and_public_in_its_features),
		STOVE(a_model_in_use_stays_as_it_is),
		STOVE(a_list_of_models_has_those_whose_parameters_show),
		STOVE(parameters_are_set_by_pair),
		STOVE(tags_are_saved_listed_and_deleted_and_graphs_hear_of_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
