/* import.c - the bulk-import file. */
#include "ccm/ops/import.h"

#include "ccm/ops/function.h"
#include "ccm/ops/label.h"
#include "ccm/ops/param.h"
#include "ccm/ops/rows.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* ---- the shape ---- */

static const char *const feature_types[] = {"input", "output", NULL};
static const char *const model_types[] = {"smartphone", "wearable", "other", NULL};

static const struct field category_fields[] = {{"dfc_name", .type = FIELD_STR}, {0}};
static const struct field unit_fields[] = {{"unit_name", .type = FIELD_STR}, {0}};
static const struct field tag_fields[] = {{"tag_name", .type = FIELD_STR}, {"param_no", FIELD_INT, .flags = FIELD_OPTIONAL}, {0}};
static const struct field function_fields[] = {{"fn_name", .type = FIELD_STR},
					       {"code", .type = FIELD_TEXT},
					       {"is_protect", FIELD_BOOL, .flags = FIELD_OPTIONAL},
					       {"df_id", FIELD_INT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
					       {0}};
static const struct field parameter_fields[] = {{"param_type", FIELD_STR, FIELD_OPTIONAL, .names = param_types},
						{"min", FIELD_NUMBER, .flags = FIELD_OPTIONAL},
						{"max", FIELD_NUMBER, .flags = FIELD_OPTIONAL},
						{"unit", FIELD_STR, .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
						{"idf_type", FIELD_STR, FIELD_OPTIONAL, .names = idf_types},
						{"fn_name", FIELD_STR, .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
						{"normalization", FIELD_BOOL, .flags = FIELD_OPTIONAL},
						{0}};
#define CATEGORY {"df_category", FIELD_STR, .flags = FIELD_OPTIONAL}
#define COMMENT	 {"comment", FIELD_TEXT, .flags = FIELD_OPTIONAL}
static const struct field feature_fields[] = {{"df_name", .type = FIELD_STR},
					      {"df_type", FIELD_STR, .names = feature_types},
					      CATEGORY, COMMENT,
					      {"df_parameter", FIELD_LIST, .item = FIELD_OBJECT, .inner = parameter_fields},
					      {0}};
static const struct field offered_fields[] = {{"fn_name", .type = FIELD_STR}, {0}};
static const struct field offer_fields[] = {{"df_name", FIELD_STR, .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
					    {"fn_list", FIELD_LIST, .item = FIELD_OBJECT, .inner = offered_fields},
					    {0}};
static const struct field model_fields[] = {{"dm_name", .type = FIELD_STR},
					    {"dm_type", FIELD_STR, FIELD_OPTIONAL, .names = model_types},
					    {"plural", FIELD_BOOL, .flags = FIELD_OPTIONAL},
					    {"device_only", FIELD_BOOL, .flags = FIELD_OPTIONAL},
					    {"df_list", .type = FIELD_LIST}, /* of names, or of objects: model_feature_fields */
					    {0}};
static const struct field model_feature_fields[] = {
	{"df_name", .type = FIELD_STR},
	{"df_type", FIELD_STR, FIELD_OPTIONAL, .names = feature_types},
	CATEGORY, COMMENT,
	{"df_parameter", FIELD_LIST, FIELD_OPTIONAL, FIELD_OBJECT, .inner = parameter_fields},
	{"tags", FIELD_LIST, FIELD_OPTIONAL, .item = FIELD_STR},
	{0}};

#define SECTION(name, fields) {name, FIELD_LIST, FIELD_OPTIONAL, FIELD_OBJECT, .inner = (fields)}
const struct field import_fields[] = {
	SECTION("DeviceFeatureCategory", category_fields),
	SECTION("Unit", unit_fields),
	SECTION("Tag", tag_fields),
	SECTION("Function", function_fields),
	SECTION("DeviceFeature", feature_fields),
	SECTION("FunctionSDF", offer_fields),
	SECTION("DeviceModel", model_fields),
	{0},
};

/* Names stay as they are; objects become what was checked of them. */
static int check_model(json_t *model, size_t at, struct err *err)
{
	json_t *list = json_object_get(model, "df_list"), *one;
	size_t i;
	json_array_foreach (list, i, one) {
		char path[64];
		json_t *checked;
		if (json_is_string(one) && json_string_length(one) > 0)
			continue;
		snprintf(path, sizeof(path), "DeviceModel[%zu].df_list[%zu]", at, i);
		if (!json_is_object(one))
			return err_set(err, ERR_SCHEMA, "`%s` must be the name of a feature, or an object", path);
		int rc = fields_check_at(model_feature_fields, one, path, false, &checked, err);
		if (rc < 0)
			return rc;
		if (json_array_set_new(list, i, checked) < 0)
			return err_set(err, ERR_NOMEM, "import");
	}
	return 0;
}

int import_parse(const char *text, size_t len, json_t **ret_doc, struct err *err)
{
	json_error_t why;
	json_auto_t *given = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	json_auto_t *doc = NULL;
	json_t *model;
	size_t i;
	if (given == NULL)
		return json_error_code(&why) == json_error_out_of_memory || why.line < 0
			       ? err_set(err, ERR_NOMEM, "import")
			       : err_set(err, ERR_PARSE, "line %d, column %d: %s", why.line, why.column, why.text);
	int rc = fields_check(import_fields, given, false, &doc, err);
	json_array_foreach (json_object_get(doc, "DeviceModel"), i, model)
		if (rc == 0)
			rc = check_model(model, i, err);
	if (rc == 0)
		*ret_doc = TAKE(doc);
	return rc;
}

/* ---- into the store ---- */

struct import {
	struct db *db;
	struct imported *made;
	struct err *err;
	json_t *functions; /* names of those that were in the file: {name: true} */
	char path[96];     /* of what is looked at */
};

#define wrong(im, fmt, ...) err_set((im)->err, ERR_SCHEMA, "`%s` " fmt, (im)->path, ##__VA_ARGS__)

static const char *text_of(const json_t *object, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text != NULL && text[0] != '\0' ? text : otherwise;
}

/* made: how many there are of its kind; counted up if rc says that one was made. ret: 0 or negative */
static int count(unsigned *made, int rc)
{
	*made += rc > 0;
	return rc < 0 ? rc : 0;
}

static int add_category(struct import *im, const json_t *item)
{
	return count(&im->made->categories, label_category(im->db, im->err, text_of(item, "dfc_name", ""), NULL));
}

static int add_unit(struct import *im, const json_t *item)
{
	return count(&im->made->units, label_unit(im->db, im->err, text_of(item, "unit_name", ""), NULL));
}

static int add_tag(struct import *im, const json_t *item)
{
	const char *name = text_of(item, "tag_name", "");
	int64_t param_no = json_integer_value(json_object_get(item, "param_no")), id;
	if (param_no < 0 || param_no > PARAMS_MAX)
		return wrong(im, "has a `param_no` that is not 0 to %d", PARAMS_MAX);
	int rc = q_int(im->db, im->err, &id, "SELECT tag_id FROM Tag WHERE tag_name = $1", DB_V_TEXT(name));
	if (rc != 0)
		return rc < 0 ? rc : 0;
	im->made->tags++;
	return q_exec(im->db, im->err, "INSERT INTO Tag (tag_name, param_no) VALUES ($1, $2)", DB_V_TEXT(name),
		      DB_V_INT(param_no));
}

/* ret: 0, ERR_SCHEMA: there is none of this name */
static int find_function(struct import *im, const char *name, int64_t *ret)
{
	int rc = q_int(im->db, im->err, ret, "SELECT fn_id FROM Function WHERE fn_name = $1", DB_V_TEXT(name));
	return rc == 0 ? wrong(im, "names function '%s', which is not there", name) : rc < 0 ? rc : 0;
}

static int find_feature(struct import *im, const char *name, int64_t *ret)
{
	int rc = q_int(im->db, im->err, ret, "SELECT df_id FROM DeviceFeature WHERE df_name = $1", DB_V_TEXT(name));
	return rc == 0 ? wrong(im, "names feature '%s', which is not there", name) : rc < 0 ? rc : 0;
}

/* As function_offer(). */
static int offer(struct import *im, int64_t fn_id, int64_t df_id)
{
	return count(&im->made->offers, function_offer(im->db, im->err, fn_id, 0, df_id));
}

static int add_version(struct import *im, int64_t fn_id, const char *code)
{
	CLEANUP(freep) char *newest = NULL;
	int rc = q_text(im->db, im->err, &newest,
			"SELECT code FROM FunctionVersion WHERE fn_id = $1 AND u_id IS NULL ORDER BY fnvt_idx DESC LIMIT 1",
			DB_V_INT(fn_id));
	if (rc < 0 || (rc > 0 && strcmp(newest, code) == 0))
		return rc < 0 ? rc : 0;
	im->made->versions++;
	return function_add_version(im->db, im->err, fn_id, 0, code, NULL);
}

static int add_function(struct import *im, const json_t *item)
{
	const char *name = text_of(item, "fn_name", "");
	const json_t *protect = json_object_get(item, "is_protect");
	int64_t fn_id = 0, df_id = json_integer_value(json_object_get(item, "df_id")), there;
	if (!function_name_valid(name))
		return wrong(im, "has the name '%s'. %s", name, FUNCTION_NAME_RULE);
	int rc = function_check_length(text_of(item, "code", ""), im->err);
	if (rc < 0)
		return err_wrap(im->err, rc, "%s", im->path);
	/* each would be a new version again the next time */
	if (json_object_get(im->functions, name) != NULL)
		return wrong(im, "has the name '%s', as another one in this file", name);
	if (json_object_set_new(im->functions, name, json_true()) < 0)
		return err_set(im->err, ERR_NOMEM, "import");
	rc = q_int(im->db, im->err, &fn_id, "SELECT fn_id FROM Function WHERE fn_name = $1", DB_V_TEXT(name));
	if (rc == 0) {
		rc = q_int(im->db, im->err, &fn_id, "INSERT INTO Function (fn_name) VALUES ($1) RETURNING fn_id",
			   DB_V_TEXT(name));
		im->made->functions++;
	}
	if (rc >= 0 && protect != NULL)
		rc = q_exec(im->db, im->err, "UPDATE Function SET is_protect = $1 WHERE is_protect <> $1 AND fn_id = $2",
			    DB_V_INT(json_is_true(protect)), DB_V_INT(fn_id));
	if (rc >= 0)
		rc = add_version(im, fn_id, text_of(item, "code", ""));
	if (rc < 0 || df_id == 0)
		return rc;
	rc = q_int(im->db, im->err, &there, "SELECT df_id FROM DeviceFeature WHERE df_id = $1", DB_V_INT(df_id));
	return rc == 0  ? wrong(im, "names feature %lld, which is not there", (long long)df_id)
	       : rc < 0 ? rc
			: offer(im, fn_id, df_id);
}

/* ---- features ---- */

/* Names of units and functions become ids; null: the default. */
static int resolve_parameter(struct import *im, json_t *param)
{
	const json_t *unit = json_object_get(param, "unit"), *function = json_object_get(param, "fn_name");
	int64_t unit_id = 1, fn_id = 0;
	int rc = json_string_length(unit) > 0
			 ? count(&im->made->units, label_unit(im->db, im->err, json_string_value(unit), &unit_id))
			 : 0;
	if (rc == 0 && json_string_length(function) > 0)
		rc = find_function(im, json_string_value(function), &fn_id);
	if (rc == 0 && ((unit != NULL && json_object_set_new(param, "unit_id", json_integer(unit_id)) < 0) ||
			(function != NULL && json_object_set_new(param, "fn_id", json_integer(fn_id)) < 0)))
		rc = err_set(im->err, ERR_NOMEM, "import");
	return rc;
}

static int resolve_parameters(struct import *im, json_t *list, bool is_new)
{
	size_t i, at = strlen(im->path);
	json_t *param;
	int rc = json_array_size(list) == 0           ? wrong(im, "has no parameters in its `df_parameter`")
		 : json_array_size(list) > PARAMS_MAX ? wrong(im, "has more than %d parameters", PARAMS_MAX)
						      : 0;
	json_array_foreach (list, i, param) {
		if (rc < 0)
			break;
		snprintf(im->path + at, sizeof(im->path) - at, ".df_parameter[%zu]", i);
		rc = is_new && json_object_get(param, "param_type") == NULL ? wrong(im, "has no `param_type`")
									    : resolve_parameter(im, param);
	}
	if (rc == 0)
		im->path[at] = '\0';
	return rc;
}

static int new_feature(struct import *im, const json_t *item, int64_t *ret_id)
{
	const char *category = text_of(item, "df_category", "Other"), *type = text_of(item, "df_type", NULL);
	json_t *params = json_object_get(item, "df_parameter");
	if (type == NULL)
		return wrong(im, "is a new feature without `df_type`");
	int rc = resolve_parameters(im, params, true);
	if (rc == 0)
		rc = count(&im->made->categories, label_category(im->db, im->err, category, NULL));
	if (rc == 0)
		rc = q_int(
			im->db, im->err, ret_id,
			"INSERT INTO DeviceFeature (df_name, df_type, df_category, param_no, comment) VALUES ($1, $2, $3, $4, $5)"
			" RETURNING df_id",
			DB_V_TEXT(text_of(item, "df_name", "")), DB_V_TEXT(type), DB_V_TEXT(category),
			DB_V_INT((int64_t)json_array_size(params)), DB_V_TEXT(text_of(item, "comment", "")));
	if (rc < 0)
		return rc;
	im->made->features++;
	return params_replace(im->db, im->err, (struct param_level){.df_id = *ret_id}, params);
}

static int add_feature(struct import *im, const json_t *item)
{
	int64_t df_id = 0;
	int rc = q_int(im->db, im->err, &df_id, "SELECT df_id FROM DeviceFeature WHERE df_name = $1",
		       DB_V_TEXT(text_of(item, "df_name", "")));
	return rc == 0 ? new_feature(im, item, &df_id) : rc < 0 ? rc : 0;
}

static int add_offers(struct import *im, const json_t *item)
{
	const char *feature = text_of(item, "df_name", NULL);
	const json_t *list = json_object_get(item, "fn_list"), *one;
	size_t i, at = strlen(im->path);
	int64_t df_id = 0, fn_id = 0;
	int rc = feature != NULL ? find_feature(im, feature, &df_id) : 0;
	json_array_foreach (list, i, one) {
		if (rc < 0)
			break;
		snprintf(im->path + at, sizeof(im->path) - at, ".fn_list[%zu]", i);
		rc = find_function(im, text_of(one, "fn_name", ""), &fn_id);
		if (rc == 0)
			rc = offer(im, fn_id, df_id);
	}
	return rc;
}

/* ---- models ---- */

/* A feature's parameters as a model has them: the feature's, and over them what is given. ret: yours */
static int overridden(struct import *im, int64_t df_id, const json_t *given, json_t **ret)
{
	json_auto_t *params = NULL;
	size_t i;
	json_t *one;
	int rc = rows_params(im->db, im->err, df_id, 0, 0, &params);
	if (rc == 0 && json_array_size(given) > json_array_size(params))
		rc = wrong(im, "has %zu parameters, its feature has %zu", json_array_size(given), json_array_size(params));
	json_array_foreach (given, i, one)
		if (rc == 0 && json_object_update(json_array_get(params, i), one) < 0)
			rc = err_set(im->err, ERR_NOMEM, "import");
	if (rc == 0)
		*ret = TAKE(params);
	return rc;
}

static int add_tags_of(struct import *im, int64_t mf_id, const json_t *tags)
{
	size_t i;
	const json_t *name;
	json_array_foreach (tags, i, name) {
		int64_t tag_id;
		int rc = q_int(im->db, im->err, &tag_id, "SELECT tag_id FROM Tag WHERE tag_name = $1 ORDER BY tag_id LIMIT 1",
			       DB_V_TEXT(json_string_value(name)));
		if (rc == 0)
			return wrong(im, "names tag '%s', which is not there", json_string_value(name));
		if (rc > 0)
			rc = q_exec(
				im->db, im->err,
				"INSERT INTO DM_DF_Tag (mf_id, tag_id) VALUES ($1, $2) ON CONFLICT (mf_id, tag_id) DO NOTHING",
				DB_V_INT(mf_id), DB_V_INT(tag_id));
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* one: a name, or an object that overrides its parameters, or that defines a feature that is not there */
static int find_or_define(struct import *im, const json_t *one, int64_t *ret_id, json_t **ret_params)
{
	const char *name = json_is_string(one) ? json_string_value(one) : text_of(one, "df_name", "");
	json_t *given = json_object_get(one, "df_parameter");
	int rc = q_int(im->db, im->err, ret_id, "SELECT df_id FROM DeviceFeature WHERE df_name = $1", DB_V_TEXT(name));
	if (rc == 0)
		rc = given == NULL ? wrong(im, "names feature '%s', which is not there", name) : new_feature(im, one, ret_id);
	else if (rc > 0)
		rc = given != NULL ? resolve_parameters(im, given, false) : 0;
	return rc < 0 ? rc : overridden(im, *ret_id, given, ret_params);
}

static int add_to_model(struct import *im, int64_t dm_id, const json_t *one)
{
	json_auto_t *params = NULL;
	int64_t df_id = 0, mf_id = 0;
	int rc = find_or_define(im, one, &df_id, &params);
	if (rc == 0)
		rc = q_int(im->db, im->err, &mf_id, "SELECT mf_id FROM DM_DF WHERE dm_id = $1 AND df_id = $2", DB_V_INT(dm_id),
			   DB_V_INT(df_id));
	if (rc > 0)
		return wrong(im, "is a feature that the model has already");
	if (rc == 0)
		rc = q_int(im->db, im->err, &mf_id, "INSERT INTO DM_DF (dm_id, df_id) VALUES ($1, $2) RETURNING mf_id",
			   DB_V_INT(dm_id), DB_V_INT(df_id));
	if (rc >= 0)
		rc = params_replace(im->db, im->err, (struct param_level){.mf_id = mf_id}, params);
	return rc < 0 ? rc : add_tags_of(im, mf_id, json_object_get(one, "tags"));
}

static int add_model(struct import *im, const json_t *item)
{
	const char *name = text_of(item, "dm_name", "");
	const json_t *list = json_object_get(item, "df_list"), *one;
	size_t i, at = strlen(im->path);
	int64_t dm_id = 0;
	int rc = q_int(im->db, im->err, &dm_id, "SELECT dm_id FROM DeviceModel WHERE dm_name = $1", DB_V_TEXT(name));
	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (json_array_size(list) == 0)
		return wrong(im, "has no features in its `df_list`");
	rc = q_int(im->db, im->err, &dm_id,
		   "INSERT INTO DeviceModel (dm_name, dm_type, plural, device_only) VALUES ($1, $2, $3, $4) RETURNING dm_id",
		   DB_V_TEXT(name), DB_V_TEXT(text_of(item, "dm_type", "other")),
		   DB_V_INT(json_is_true(json_object_get(item, "plural"))),
		   DB_V_INT(json_is_true(json_object_get(item, "device_only"))));
	im->made->models++;
	json_array_foreach (list, i, one) {
		if (rc < 0)
			break;
		snprintf(im->path + at, sizeof(im->path) - at, ".df_list[%zu]", i);
		rc = add_to_model(im, dm_id, one);
	}
	return rc < 0 ? rc : 0;
}

/* ---- all of it ---- */

int import_run(struct db *db, json_t *doc, struct imported *ret_made, struct err *err)
{
	static int (*const add[])(struct import *, const json_t *) = {add_category, add_unit,   add_tag,  add_function,
								      add_feature,  add_offers, add_model};
	json_auto_t *functions = json_object();
	struct import im = {.db = db, .made = ret_made, .err = err, .functions = functions};
	*ret_made = (struct imported){0};
	for (size_t section = 0; section < ARRAY_LEN(add); section++) { /* in the order of import_fields */
		const char *name = import_fields[section].name;
		const json_t *item;
		size_t i;
		json_array_foreach (json_object_get(doc, name), i, item) {
			snprintf(im.path, sizeof(im.path), "%s[%zu]", name, i);
			int rc = add[section](&im, item);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

int import_is_empty(struct db *db, struct err *err)
{
	int64_t n = 0;
	int rc = q_int(db, err, &n,
		       "SELECT (SELECT count(*) FROM DeviceFeature) + (SELECT count(*) FROM DeviceModel) + (SELECT count(*) FROM "
		       "Function)");
	return rc < 0 ? rc : n == 0;
}
