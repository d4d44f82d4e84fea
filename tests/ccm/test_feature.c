#include "world.h"

static int64_t sensor(void)
{
	ok(ANN, "create_device_feature",
	   "{'df_name':'Temp','df_type':'input','df_parameter':[{'param_type':'float','min':'-20','max':50},{}]}");
	return id_at("df_id");
}

static void a_feature_is_made_with_defaults(void **state)
{
	(void)state;
	int64_t df_id = sensor();
	ok(BOB, "get_device_feature_info", "{'df_id':'%lld'}", (long long)df_id);
	is("{'df_id':1,'df_name':'Temp','df_type':'input','df_category':'None','param_no':2,'comment':'','df_parameter':["
	   "{'dfp_id':1,'df_id':1,'mf_id':null,'param_i':0,'param_type':'float','u_id':null,'idf_type':'sample','fn_id':null,"
	   "'min':-20.0,'max':50.0,'normalization':false,'unit_id':1},"
	   "{'dfp_id':2,'df_id':1,'mf_id':null,'param_i':1,'param_type':'int','u_id':null,'idf_type':'sample','fn_id':null,"
	   "'min':0.0,'max':0.0,'normalization':false,'unit_id':1}]}");
	ok(BOB, "get_device_feature_info", "{'df_name':'Temp'}");
	is_at("df_id", "1");
}

static void what_is_wrong_with_a_feature_is_said(void **state)
{
	(void)state;
	sensor();
	refused(ERR_EXIST, "Device Feature \"Temp\" already exists", ANN, "create_device_feature",
		"{'df_name':'Temp','df_type':'input','df_parameter':[{}]}");
	refused(ERR_INVAL, "Invalid feature type \"idf\"", ANN, "create_device_feature",
		"{'df_name':'x','df_type':'idf','df_parameter':[{}]}");
	refused(ERR_INVAL, "df_parameter is empty", ANN, "create_device_feature",
		"{'df_name':'x','df_type':'input','df_parameter':[]}");
	refused(ERR_NOENT, "Unit id 77 not found", ANN, "create_device_feature",
		"{'df_name':'x','df_type':'input','df_parameter':[{'unit_id':77}]}");
	refused(ERR_NOENT, "Function id 5 not found", ANN, "create_device_feature",
		"{'df_name':'x','df_type':'input','df_parameter':[{'fn_id':5}]}");
	refused(ERR_SCHEMA, "df_parameter[0].param_type", ANN, "create_device_feature",
		"{'df_name':'x','df_type':'input','df_parameter':[{'param_type':'number'}]}");
	refused(ERR_SCHEMA, "df_parameter[0].drop table", ANN, "create_device_feature",
		"{'df_name':'x','df_type':'input','df_parameter':[{'drop table':1}]}");
	refused(ERR_NOENT, "Device Feature id 99 not found", ANN, "get_device_feature_info", "{'df_id':99}");
	refused(ERR_NOENT, "Device Feature id 99 not found", ANN, "delete_device_feature", "{'df_id':99}");
	refused(ERR_NOENT, "Device Feature id Nope not found", ANN, "get_device_feature_info", "{'df_name':'Nope'}");
	refused(ERR_NOENT, "not found", ANN, "get_device_feature_info", "{}");
	assert_int_equal(number("SELECT count(*) FROM DeviceFeature"), 1);
}

/* Quotes and other words of SQL are text. */
static void names_are_text(void **state)
{
	(void)state;
	ok(ANN, "create_device_feature",
	   "{'df_name':'a\\u0027); DROP TABLE User; --','df_type':'output','df_parameter':[{}],'comment':'\\u0022%%s\\u0022'}");
	ok(ANN, "search_device_feature", "{'df_name':'a\\u0027); DROP TABLE User; --'}");
	is("1");
	ok(ANN, "search_device_feature", "{'df_name':'a%%'}");
	is("null");
	assert_int_equal(number("SELECT count(*) FROM User"), 3);
}

static void a_user_has_parameters_of_its_own(void **state)
{
	(void)state;
	sensor();
	ok(BOB, "update_device_feature",
	   "{'df_id':1,'df_name':'ignored','df_type':'input','comment':'warm','df_parameter':[{'param_type':'float','max':1},{'u_"
	   "id':7,'df_id':'x'}]}");
	is("{'df_id':1}");
	ok(BOB, "get_device_feature_info", "{'df_id':1}");
	is_at("df_parameter.0.max", "1.0");
	is_at("df_parameter.0.u_id", "2");
	is_at("df_parameter.1.df_id", "1");
	is_at("comment", "'warm'");
	is_at("df_name", "'Temp'");
	ok(ANN, "get_device_feature_info", "{'df_id':1}");
	is_at("df_parameter.0.max", "50.0");
	ok(BOB, "delete_device_feature_parameter", "{'df_id':1}");
	is("{'df_id':1}");
	ok(BOB, "get_device_feature_parameter", "{'df_id':1}");
	is_at("df_parameter.0.max", "50.0");
	assert_int_equal(json_array_size(at("df_parameter")), 2);
}

static void another_number_of_parameters_is_for_everybody_and_only_for_what_nobody_uses(void **state)
{
	(void)state;
	sensor();
	ok(BOB, "update_device_feature", "{'df_id':1,'df_type':'input','df_parameter':[{'max':1},{'max':2}]}");
	ok(ANN, "update_device_feature", "{'df_id':1,'df_type':'output','df_parameter':[{'max':3}]}");
	ok(BOB, "get_device_feature_info", "{'df_id':1}");
	is_at("param_no", "1");
	is_at("df_type", "'output'");
	is_at("df_parameter.0.max", "3.0");
	ok(ANN, "create_device_model", "{'dm_name':'m','df_list':[{'df_id':1,'df_parameter':[{}]}]}");
	refused(ERR_CONFLICT, "Device Feature is in use.", ANN, "update_device_feature",
		"{'df_id':1,'df_type':'output','df_parameter':[{},{}]}");
	refused(ERR_CONFLICT, "Device Feature is in use.", ANN, "update_device_feature",
		"{'df_id':1,'df_type':'input','df_parameter':[{}]}");
	ok(ANN, "update_device_feature", "{'df_id':1,'df_type':'output','df_parameter':[{'max':9}]}");
	refused(ERR_CONFLICT, "Device Feature is in use.", ANN, "delete_device_feature", "{'df_id':1}");
	ok(ANN, "delete_device_model", "{'dm_name':'m'}");
	ok(ANN, "delete_device_feature", "{'df_name':'Temp'}");
	is("{'df_id':1}");
	assert_int_equal(number("SELECT count(*) FROM DF_Parameter"), 0);
}

static void features_are_listed_by_name_and_category(void **state)
{
	(void)state;
	static const char *const rows[][3] = {
		{"b", "input", "Motion"}, {"a", "input", ""}, {"d", "output", "Sight"}, {"c", "output", "Motion"}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ok(ANN, "create_device_feature", "{'df_name':'%s','df_type':'%s','df_category':'%s','df_parameter':[{}]}",
		   rows[i][0], rows[i][1], rows[i][2]);
	ok(BOB, "get_device_feature_list", "{}");
	is_at("input.0.df_name", "'a'");
	is_at("input.0.df_category", "'None'");
	is_at("input.1.df_name", "'b'");
	is_at("output.0", "{'df_id':4,'df_name':'c','df_type':'output','df_category':'Motion','param_no':1,'comment':''}");
	ok(BOB, "get_device_feature_list", "{'df_category':'Motion','ctx':{}}");
	assert_int_equal(json_array_size(at("input")), 1);
	assert_int_equal(json_array_size(at("output")), 1);
	ok(BOB, "get_device_feature_category_list", "{}");
	is("[{'dfc_id':1,'dfc_name':'None'},{'dfc_id':2,'dfc_name':'Motion'},{'dfc_id':3,'dfc_name':'Sight'}]");
}

static void units_categories_and_tags_are_made_once(void **state)
{
	(void)state;
	ok(ANN, "create_unit", "{'unit_name':'K'}");
	is("{'unit_id':2,'unit_name':'K'}");
	ok(BOB, "create_unit", "{'unit_name':'K'}");
	is("{'unit_id':2,'unit_name':'K'}");
	ok(BOB, "get_unit_list", "{}");
	is("[{'unit_id':1,'unit_name':'None'},{'unit_id':2,'unit_name':'K'}]");
	ok(ANN, "create_device_feature_category", "{'dfc_name':'Smell'}");
	is("{'dfc_name':'Smell'}");
	ok(ANN, "create_device_feature_category", "{'dfc_name':'Smell'}");
	assert_int_equal(number("SELECT count(*) FROM DeviceFeatureCategory"), 2);
	ok(ANN, "create_tag", "{'tag_name':'place','param_no':'2'}");
	is("{'tag_id':1}");
	ok(ANN, "get_tag_list", "{}");
	is("[{'tag_id':1,'tag_name':'place','param_no':2}]");
	refused(ERR_INVAL, "param_no", ANN, "create_tag", "{'tag_name':'x','param_no':-1}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_feature_is_made_with_defaults),
		T(what_is_wrong_with_a_feature_is_said),
		T(names_are_text),
		T(a_user_has_parameters_of_its_own),
		T(another_number_of_parameters_is_for_everybody_and_only_for_what_nobody_uses),
		T(features_are_listed_by_name_and_category),
		T(units_categories_and_tags_are_made_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
