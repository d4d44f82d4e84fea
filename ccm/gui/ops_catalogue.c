/* ops_catalogue.c - models, features, parameters, units, tags, functions in the gui API (spec ccm 4.3). */
#include "ccm/gui/gui.h"
#include "ccm/ops/catalogue.h"
#include "ccm/ops/param.h"

/* clang-format off */
#define MAY .flags = FIELD_OPTIONAL | FIELD_NULLABLE
/* by id or by name, or one of several ids */
#define ID(name) {name, FIELD_INT, MAY}
#define NAME(name) {name, FIELD_STR, MAY}
#define LIST(name, of, more) {name, FIELD_LIST, .flags = (more), .item = FIELD_OBJECT, .inner = (of)}
#define MODEL_REST \
	LIST("df_list", model_feature_fields, 0), {"dm_type", FIELD_STR, MAY, .names = model_types}, \
	{"plural", FIELD_BOOL, MAY}, {"device_only", FIELD_BOOL, MAY}
#define FEATURE_REST \
	{"df_type", .type = FIELD_STR}, LIST("df_parameter", param_fields, 0), {"comment", FIELD_TEXT, MAY}, NAME("df_category")
#define PAIR ID("mf_id"), ID("df_id"), ID("dm_id")
/* clang-format on */

/* ---- models and features ---- */

static const char *const model_types[] = {"smartphone", "wearable", "other", NULL};
static const struct field new_model[] = {{"dm_name", .type = FIELD_STR}, MODEL_REST, {0}};
static const struct field changed_model[] = {ID("dm_id"), NAME("dm_name"), MODEL_REST, {0}};
static const struct field model[] = {ID("dm_id"), NAME("dm_name"), {0}};
static const struct field model_name[] = {{"dm_name", .type = FIELD_STR}, {0}};

static const struct field new_feature[] = {{"df_name", .type = FIELD_STR}, FEATURE_REST, {0}};
static const struct field changed_feature[] = {ID("df_id"), NAME("df_name"), FEATURE_REST, {0}};
static const struct field feature[] = {ID("df_id"), NAME("df_name"), {0}};
static const struct field feature_name[] = {{"df_name", .type = FIELD_STR}, {0}};
static const struct field category_wanted[] = {NAME("df_category"), {0}};

/* ---- parameters, categories, units, tags ---- */

static const struct field pair[] = {PAIR, {0}};
static const struct field parameters[] = {PAIR, LIST("df_parameter", param_fields, 0), {0}};
static const struct field deleted_parameters[] = {PAIR, {"df_parameter", FIELD_ANY, .flags = FIELD_DROPPED}, {0}};
static const struct field tags[] = {PAIR, LIST("tags", tag_ref_fields, 0), {0}};
static const struct field some_tags[] = {PAIR, LIST("tags", tag_ref_fields, FIELD_OPTIONAL | FIELD_NULLABLE), {0}};
static const struct field category[] = {{"dfc_name", .type = FIELD_STR}, {0}};
static const struct field unit[] = {{"unit_name", .type = FIELD_STR}, {0}};
static const struct field tag[] = {{"tag_name", .type = FIELD_STR}, {"param_no", .type = FIELD_INT}, {0}};

/* ---- functions ---- */

static const struct field new_function[] = {{"fn_name", .type = FIELD_STR}, {"code", .type = FIELD_TEXT}, ID("df_id"), {0}};
static const struct field changed_function[] = {
	{"fn_id", .type = FIELD_INT}, {"code", .type = FIELD_TEXT}, ID("df_id"), ID("fnvt_idx"), {0}};
static const struct field function[] = {{"fn_id", .type = FIELD_INT}, {0}};
static const struct field function_or_version[] = {ID("fn_id"), ID("fnvt_idx"), {0}};
static const struct field of_feature[] = {{"df_id", .type = FIELD_INT}, {0}};
static const struct field of_object[] = {ID("dfo_id"), ID("na_id"), {0}};
static const struct field offer[] = {{"fn_id", .type = FIELD_INT}, ID("df_id"), {0}};

const struct gui_op gui_catalogue_ops[] = {
	{"create_device_model", &op_model_create, new_model},
	{"update_device_model", &op_model_update, changed_model},
	{"delete_device_model", &op_model_delete, model},
	{"search_device_model", &op_model_search, model_name},
	{"get_device_model_list", &op_model_dm_list, .args = NULL},
	{"get_device_model_info", &op_model_info, model},

	{"create_device_feature", &op_feature_create, new_feature},
	{"update_device_feature", &op_feature_update, changed_feature},
	{"delete_device_feature", &op_feature_delete, feature},
	{"search_device_feature", &op_feature_search, feature_name},
	{"get_device_feature_list", &op_feature_list, category_wanted},
	{"get_device_feature_info", &op_feature_info, feature},

	{"create_device_feature_parameter", &op_param_set, parameters},
	{"update_device_feature_parameter", &op_param_set, parameters},
	{"delete_device_feature_parameter", &op_param_delete, deleted_parameters},
	{"get_device_feature_parameter", &op_param_get, pair},
	{"create_device_feature_category", &op_category_create, category},
	{"get_device_feature_category_list", &op_category_list, .args = NULL},
	{"create_unit", &op_unit_create, unit},
	{"get_unit_list", &op_unit_list, .args = NULL},
	{"create_tag", &op_tag_create, tag},
	{"get_tag_list", &op_tag_list, .args = NULL},
	{"save_dm_df_tag", &op_tags_save, tags},
	{"delete_dm_df_tag", &op_tags_delete, some_tags},
	{"get_dm_df_tag", &op_tags_get, pair},

	{"create_function", &op_function_create, new_function},
	{"update_function", &op_function_update, changed_function},
	{"delete_function", &op_function_delete, function},
	{"get_function_list", &op_function_list, .args = NULL},
	{"get_device_feature_function_list", &op_function_of_feature, of_feature},
	{"get_na_function_list", &op_function_of_joins, .args = NULL},
	{"get_function_version_list", &op_function_versions, function},
	{"get_function_info", &op_function_info, function_or_version},
	{"get_dfo_function_info", &op_function_of_object, of_object},
	{"create_functionSDF", &op_offer_add, offer},
	{"delete_functionSDF", &op_offer_remove, offer},
	{0},
};
