/* ops_project.c - operations of the gui API on projects and what is in them (spec ccm 4.3). They differ from REST's in names, and
 * in that features are named where REST has their ids. */
#include "ccm/gui/gui.h"
#include "ccm/ops/project.h"
#include "ccm/ops/project_fields.h"

#define P_ID	{"p_id", .type = FIELD_INT}
#define DO_ID	{"do_id", .type = FIELD_INT}
#define DFO_ID	{"dfo_id", .type = FIELD_INT}
#define NA_ID	{"na_id", .type = FIELD_INT}
#define DF_LIST {"df", FIELD_LIST, .item = FIELD_STR}
#define ALIAS	{"alias_name", .type = FIELD_STR}
/* flags of the original that change nothing */
#define NO_FLAG(name) {name, .flags = FIELD_DROPPED}

static const struct field p_name[] = {{"p_name", .type = FIELD_STR}, {0}};
static const struct field p_id[] = {P_ID, {0}};
static const struct field project_status[] = {P_ID, {"status", .type = FIELD_STR}, {0}};
static const struct field project_name[] = {P_ID, {"newname", .type = FIELD_STR}, {0}};
static const struct field simulation[] = {P_ID, {"sim", .type = FIELD_STR}, {0}};

static const struct field object_create[] = {P_ID, {"dm_id", .type = FIELD_INT}, DF_LIST, {0}};
static const struct field object_update[] = {DO_ID, P_ID, DF_LIST, {0}};
static const struct field object_id[] = {DO_ID, {0}};
static const struct field object_info[] = {DO_ID, P_ID, {0}};
static const struct field bind_device[] = {DO_ID, {"d_id", .type = FIELD_INT}, NO_FLAG("check_sim"), {0}};
static const struct field unbind_device[] = {DO_ID, NO_FLAG("check_sim"), {0}};

static const struct field feature_create[] = {DO_ID, {"df_id", .type = FIELD_INT}, ALIAS, {0}};
static const struct field feature_update[] = {DFO_ID, ALIAS, PARAMETER_LIST, {0}};
static const struct field feature_delete[] = {DFO_ID, DO_ID, NO_FLAG("check_do_valid"), {0}};
static const struct field feature_info[] = {DFO_ID, P_ID, {0}};
static const struct field alias_get[] = {{"mac_addr", .type = FIELD_STR}, {"df_name", .type = FIELD_STR}, {0}};
static const struct field alias_set[] = {{"mac_addr", .type = FIELD_STR}, {"df_name", .type = FIELD_STR}, ALIAS, {0}};

static const struct field na_create[] = {P_ID, NA_CREATE_FIELDS, {0}};
static const struct field na_update[] = {NA_ID, NA_UPDATE_FIELDS, {0}};
static const struct field na_id[] = {NA_ID, {0}};
static const struct field na_info[] = {NA_ID, P_ID, {0}};
static const struct field na_monitor[] = {NA_ID, P_ID, NO_FLAG("aa_credential_id"), {0}};
static const struct field link_create[] = {NA_ID, DFO_ID, NO_FLAG("check_tag"), {0}};
static const struct field link_delete[] = {NA_ID, DFO_ID, NO_FLAG("check_na_complete"), {0}};

const struct gui_op gui_project_ops[] = {
	{"create_project", &op_project_create, p_name},
	{"delete_project", &op_project_delete, p_id},
	{"update_project", &op_project_status, project_status},
	{"rename_project", &op_project_rename, project_name},
	{"get_project_list", &op_project_list, NULL},
	{"get_project_status", &op_project_is_on, p_id},
	{"get_project_info", &op_project_info, p_id},
	{"search_project", &op_project_search, p_name},
	{"create_device_object", &op_object_create, object_create},
	{"update_device_object", &op_object_update, object_update},
	{"delete_device_object", &op_object_delete, object_id},
	{"get_device_object_info", &op_object_info, object_info},
	{"get_device_list", &op_device_list_gui, object_id},
	{"bind_device", &op_device_bind, bind_device},
	{"unbind_device", &op_device_unbind, unbind_device},
	{"create_device_feature_object", &op_dfobject_create, feature_create},
	{"update_device_feature_object", &op_dfobject_update, feature_update},
	{"delete_device_feature_object", &op_dfobject_delete, feature_delete},
	{"get_device_feature_object_info", &op_dfobject_info, feature_info},
	{"get_alias_name", &op_alias_get, alias_get},
	{"set_alias_name", &op_alias_set, alias_set},
	{"create_na", &op_na_create, na_create},
	{"update_na", &op_na_update, na_update},
	{"delete_na", &op_na_delete, na_id},
	{"get_na_list", &op_na_list_gui, p_id},
	{"get_na_info", &op_na_info_gui, na_info},
	{"get_na_monitor", &op_na_monitor, na_monitor},
	{"create_link", &op_link_create, link_create},
	{"delete_link", &op_link_delete, link_delete},
	{"turn_on_simulation", &op_simulation_turn_on, p_id},
	{"turn_off_simulation", &op_simulation_turn_off, p_id},
	{"update_simulation", &op_simulation_set, simulation},
	{"get_simulation_status", &op_simulation_get, p_id},
	{0},
};
