/* routes_catalogue.c - models, features, functions over REST (spec ccm 3.7, 3.8, 3.10). */
#include "ccm/ops/catalogue.h"
#include "ccm/ops/param.h"
#include "ccm/web/web.h"

static const char *const model_types[] = {"smartphone", "wearable", "other", NULL};

static const struct field model_body[] = {
	{"dm_name", FIELD_STR, .help = "its name, for good: changing a model leaves it as it is"},
	{"df_list", FIELD_LIST, .item = FIELD_OBJECT, .inner = model_feature_fields, .help = "the features that it has"},
	{"dm_type", FIELD_STR, .flags = FIELD_OPTIONAL, .names = model_types,
	 .help = "what kind of thing it is; other if it is not given"},
	{"plural", FIELD_BOOL, .flags = FIELD_OPTIONAL, .help = "whether an editor asks how many of each feature"},
	{"device_only", FIELD_BOOL, .flags = FIELD_OPTIONAL, .help = "whether an editor asks for a device instead of features"},
	{0},
};

static const struct field feature_body[] = {
	{"df_name", FIELD_STR, .help = "its name, for good: changing a feature leaves it as it is"},
	{"df_type", FIELD_STR, .help = "input: data comes from a device; output: data goes to one"},
	{"df_parameter", FIELD_LIST, .item = FIELD_OBJECT, .inner = param_fields, .help = "its values, one or more"},
	{"comment", FIELD_TEXT, .flags = FIELD_OPTIONAL},
	{"df_category", FIELD_STR, .flags = FIELD_OPTIONAL, .help = "made if it is not there; None if it is not given"},
	{0},
};

static const struct field function_body[] = {
	{"fn_name", FIELD_STR, .help = "a letter, then letters, digits and underscores"},
	{"code", FIELD_TEXT, .help = "Python source that defines `run`"},
	{"df_id", FIELD_INT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE, .help = "the feature that it is offered for; null: joins"},
	{0},
};

static const struct field version_body[] = {
	{"code", FIELD_TEXT, .help = "Python source that defines `run`"},
	{"df_id", FIELD_INT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE, .help = "a feature that it is offered for from now on"},
	{"fnvt_idx", FIELD_INT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE,
	 .help = "a version of the caller's own, to be changed in place; null: a new version"},
	{0},
};

#define USER .auth = WEB_USER
const struct web_route web_catalogue_routes[] = {
	{"PUT", "/devicemodel", USER, &op_model_create, model_body, .ok = 201, .error = 400, .help = "make a device model"},
	{"GET", "/devicemodel", USER, &op_model_list, .ok = 200, .error = 400, .wrap = "data",
	 .help = "the device models, by name"},
	{"GET", "/devicemodel/{dm_id:int}", USER, &op_model_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "a device model with its features, their parameters and tags"},
	{"GET", "/devicemodel/{dm_name}", USER, &op_model_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "the same by its name"},
	{"GET", "/devicemodel/name/{dm_name}", USER, &op_model_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "the same by its name, digits or not"},
	{"POST", "/devicemodel/{dm_id:int}", USER, &op_model_update, model_body, .ok = 200, .error = 400,
	 .help = "give a device model that no project uses other features; parameters are the caller's own"},
	{"DELETE", "/devicemodel/{dm_id:int}", USER, &op_model_delete, .ok = 200, .error = 404,
	 .help = "delete a device model that nobody uses"},
	{"DELETE", "/devicemodel/{dm_name}", USER, &op_model_delete, .ok = 200, .error = 404, .help = "the same by its name"},

	{"PUT", "/devicefeature", USER, &op_feature_create, feature_body, .ok = 201, .error = 400,
	 .help = "make a device feature"},
	{"GET", "/devicefeature", USER, &op_feature_list, .ok = 200, .error = 400, .wrap = "data",
	 .help = "the device features, by name"},
	{"GET", "/devicefeature/{df_id:int}", USER, &op_feature_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "a device feature with its parameters"},
	{"GET", "/devicefeature/{df_name}", USER, &op_feature_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "the same by its name"},
	{"POST", "/devicefeature/{df_id:int}", USER, &op_feature_update, feature_body, .ok = 200, .error = 404,
	 .help = "change a device feature; parameters are the caller's own"},
	{"DELETE", "/devicefeature/{df_id:int}", USER, &op_feature_delete, .ok = 200, .error = 404,
	 .help = "delete a device feature that nobody uses"},
	{"DELETE", "/devicefeature/{df_name}", USER, &op_feature_delete, .ok = 200, .error = 404, .help = "the same by its name"},

	{"PUT", "/function", USER, &op_function_create, function_body, .ok = 201, .error = 400,
	 .help = "make a function, or, if there is one of this name, a version of the caller's own"},
	{"GET", "/function", USER, &op_function_list, .ok = 200, .error = 400,
	 .help = "the functions that the caller may use, by name"},
	{"GET", "/function/devicefeature/{df_id:int}", USER, &op_function_of_feature, .ok = 200, .error = 400,
	 .help = "the functions that are offered for a feature"},
	{"GET", "/function/networkapplication", USER, &op_function_of_joins, .ok = 200, .error = 400,
	 .help = "the functions that are offered for joins"},
	{"GET", "/function/version/{fnvt_idx:int}", USER, &op_function_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "a version of a function"},
	{"GET", "/function/{fn_id:int}", USER, &op_function_info, .ok = 200, .error = 404, .wrap = "data",
	 .help = "the version of a function that the caller's graphs run"},
	{"GET", "/function/{fn_id:int}/a", USER, &op_function_versions, .ok = 200, .error = 404,
	 .help = "the versions of a function that the caller may see, oldest first"},
	{"POST", "/function/{fn_id:int}", USER, &op_function_update, version_body, .ok = 200, .error = 404,
	 .help = "give a function other code, for the caller alone"},
	{"DELETE", "/function/{fn_id:int}", USER, &op_function_delete, .ok = 200, .error = 404,
	 .help = "delete the caller's versions of a function, and the function with the last of them"},
	{"PUT", "/function/{fn_id:int}/SDF", USER, &op_offer_add, .ok = 201, .error = 400, .wrap = "data",
	 .help = "offer a function for joins"},
	{"PUT", "/function/{fn_id:int}/SDF/{df_id:int}", USER, &op_offer_add, .ok = 201, .error = 400, .wrap = "data",
	 .help = "offer a function for a feature"},
	{"DELETE", "/function/{fn_id:int}/SDF", USER, &op_offer_remove, .ok = 200, .error = 404, .wrap = "data",
	 .help = "offer a function for joins no longer"},
	{"DELETE", "/function/{fn_id:int}/SDF/{df_id:int}", USER, &op_offer_remove, .ok = 200, .error = 404, .wrap = "data",
	 .help = "offer a function for a feature no longer"},
	{0},
};
