/* routes_project.c - REST API v0 of projects and what is in them (spec ccm 3.3 to 3.6, 3.9, 3.11). */
#include "ccm/ops/project.h"
#include "ccm/ops/project_fields.h"
#include "ccm/web/web.h"

static const struct field project_create[] = {{"p_name", FIELD_STR, .help = "unique among the user's projects"}, {0}};
static const struct field project_status[] = {{"status", FIELD_STR, .help = "on or off"}, FIELD_OTHERS, {0}};
static const struct field object_create[] = {{"dm_id", FIELD_INT, .help = "device model"},
					     {"df", FIELD_LIST, .item = FIELD_INT, .help = "df_id of features of that model"},
					     {0}};
static const struct field object_update[] = {
	{"df", FIELD_LIST, .item = FIELD_INT, .help = "df_id of all features that it shall have; none: the object is deleted"},
	{0}};
static const struct field feature_update[] = {
	{"alias_name", FIELD_STR, .help = "name of the feature in this object"}, PARAMETER_LIST, {0}};
static const struct field na_create[] = {NA_CREATE_FIELDS, {0}};
static const struct field na_update[] = {NA_UPDATE_FIELDS, {0}};
static const struct field alias_set[] = {{"alias_name", FIELD_STR, .help = "new name"}, {0}};
static const struct field simulation[] = {{"sim", FIELD_STR, .help = "on or off"}, {0}};

#define PROJECT	    "/project/{p_id:int}"
#define OBJECT	    PROJECT "/deviceobject"
#define ONE_OBJECT  OBJECT "/{do_id:int}"
#define DEVICE	    ONE_OBJECT "/device"
#define ONE_FEATURE ONE_OBJECT "/devicefeatureobject/{dfo_id:int}"
#define NA	    PROJECT "/na"
#define ONE_NA	    NA "/{na_id:int}"
#define ALIAS	    "/alias/{mac_addr}/{df_name}"
#define SIMULATION  "/simulation/{p_id:int}"

const struct web_route web_project_routes[] = {
	/* method, path, auth, operation, body, ok, error, not found, wrap, help */
	{"PUT", "/project", WEB_USER, &op_project_create, project_create, 201, 400, 0, NULL, "make a project"},
	{"GET", "/project", WEB_USER, &op_project_list, NULL, 200, 400, 0, "data", "the user's projects"},
	{"GET", PROJECT, WEB_USER, &op_project_info, NULL, 200, 404, 0, "data", "a project with all that is in it"},
	{"GET", "/project/{p_name}", WEB_USER, &op_project_info, NULL, 200, 404, 0, "data", "the same by its name"},
	{"GET", "/project/prj_name/{p_name}", WEB_USER, &op_project_info, NULL, 200, 404, 0, "data", "the same by any name"},
	{"POST", PROJECT, WEB_USER, &op_project_status, project_status, 200, 400, 404, NULL, "switch a project on or off"},
	{"DELETE", PROJECT, WEB_USER, &op_project_delete, NULL, 200, 404, 0, NULL, "delete a project; its graphs stop"},

	{"PUT", OBJECT, WEB_USER, &op_object_create, object_create, 201, 400, 404, NULL, "place a device model in a project"},
	{"GET", ONE_OBJECT, WEB_USER, &op_object_info, NULL, 200, 404, 0, "data", "a device object, and what its model has"},
	{"POST", ONE_OBJECT, WEB_USER, &op_object_update, object_update, 200, 404, 0, NULL,
	 "choose the features of a device object"},
	{"DELETE", ONE_OBJECT, WEB_USER, &op_object_delete, NULL, 200, 404, 0, NULL, "delete a device object with its links"},

	{"GET", DEVICE, WEB_USER, &op_device_list, NULL, 200, 404, 0, NULL, "devices that can be bound to a device object"},
	{"POST", DEVICE "/bind/{device}", WEB_USER, &op_device_bind, NULL, 200, 400, 404, NULL,
	 "bind a device, named by its d_id or address"},
	{"POST", DEVICE "/unbind", WEB_USER, &op_device_unbind, NULL, 200, 404, 0, NULL, "unbind what is bound, if anything is"},

	{"GET", ONE_FEATURE, WEB_USER, &op_dfobject_info, NULL, 200, 404, 0, "data", "a feature of a device object"},
	{"POST", ONE_FEATURE, WEB_USER, &op_dfobject_update, feature_update, 200, 404, 0, NULL,
	 "name a feature, and set the user's own parameters of it; links that are there keep theirs"},

	{"PUT", NA, WEB_USER, &op_na_create, na_create, 200, 400, 0, NULL, "join features"},
	{"GET", NA, WEB_USER, &op_na_list, NULL, 200, 404, 0, NULL, "the network applications of a project"},
	{"GET", ONE_NA, WEB_USER, &op_na_info, NULL, 200, 404, 0, "data",
	 "a network application; its lines become red, the others black"},
	{"POST", ONE_NA, WEB_USER, &op_na_update, na_update, 200, 400, 0, NULL, "change what is given; the rest stays"},
	{"DELETE", ONE_NA, WEB_USER, &op_na_delete, NULL, 200, 404, 0, NULL, "delete a network application"},

	{"GET", ALIAS, WEB_USER, &op_alias_get, NULL, 200, 404, 0, NULL, "the name of a bound device's feature"},
	{"POST", ALIAS, WEB_USER, &op_alias_set, alias_set, 200, 404, 0, NULL, "set it"},
	{"GET", SIMULATION, WEB_USER, &op_simulation_get, NULL, 200, 404, 0, "data", "whether a project is simulated"},
	{"POST", SIMULATION, WEB_USER, &op_simulation_set, simulation, 200, 400, 404, NULL, "switch it on or off"},
	{0},
};
