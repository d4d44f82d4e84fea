/* model.c - device models. */
#include "ccm/ops/model.h"

#include "ccm/ops/catalogue.h"
#include "ccm/ops/label.h"
#include "ccm/ops/param.h"
#include "ccm/ops/rows.h"
#include "common/util.h"
#include <stdio.h>

const struct field model_feature_fields[] = {
	{"df_id", FIELD_INT, .help = "a device feature"},
	{"df_parameter", FIELD_LIST, .item = FIELD_OBJECT, .inner = param_fields,
	 .help = "its parameters in this model; those that are missing at the end are as before, or the feature's"},
	{"tags", FIELD_LIST, .flags = FIELD_OPTIONAL, .item = FIELD_OBJECT, .inner = tag_ref_fields},
	{"df_category", FIELD_ANY, .flags = FIELD_DROPPED},
	{"df_name", FIELD_ANY, .flags = FIELD_DROPPED},
	{"df_type", FIELD_ANY, .flags = FIELD_DROPPED},
	{"comment", FIELD_ANY, .flags = FIELD_DROPPED},
	{"param_no", FIELD_ANY, .flags = FIELD_DROPPED},
	{0},
};

/* The one that dm_id or dm_name of the arguments names. */
static int find(struct op_call *c, int64_t *ret_dm_id)
{
	const char *name = op_str(c, "dm_name");
	int64_t id = op_int(c, "dm_id");
	bool by_id = op_has(c, "dm_id") || name == NULL;
	int rc = by_id ? q_int(c->db, &c->err, ret_dm_id, "SELECT dm_id FROM DeviceModel WHERE dm_id = $1", DB_V_INT(id))
		       : q_int(c->db, &c->err, ret_dm_id, "SELECT dm_id FROM DeviceModel WHERE dm_name = $1", DB_V_TEXT(name));
	if (rc != 0)
		return rc < 0 ? rc : 0;
	return by_id ? err_set(&c->err, ERR_NOENT, "Device Model id \"%lld\" not found", (long long)id)
		     : err_set(&c->err, ERR_NOENT, "Device Model id \"%s\" not found", name);
}

static const struct column pair_columns[] = {{"mf_id", COL_INT}, {"df_id", COL_INT}, {0}};

int model_find_feature(struct op_call *c, int64_t *ret_mf_id, int64_t *ret_df_id)
{
	json_auto_t *pair = NULL;
	int rc = op_has(c, "mf_id") ? q_row(c->db, &c->err, pair_columns, &pair,
					    "SELECT mf_id, df_id FROM DM_DF WHERE mf_id = $1", DB_V_INT(op_int(c, "mf_id")))
				    : q_row(c->db, &c->err, pair_columns, &pair,
					    "SELECT mf_id, df_id FROM DM_DF WHERE dm_id = $1 AND df_id = $2",
					    DB_V_INT(op_int(c, "dm_id")), DB_V_INT(op_int(c, "df_id")));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Device Model has no such Device Feature");
	if (rc < 0)
		return rc;
	*ret_mf_id = json_integer_value(json_object_get(pair, "mf_id"));
	*ret_df_id = json_integer_value(json_object_get(pair, "df_id"));
	return 0;
}

/* ---- writing ---- */

/* The pair of a model and a feature, made if it is not there. ret: 1 made, 0 or negative */
static int pair_up(struct op_call *c, int64_t dm_id, int64_t df_id, int64_t *ret_mf_id)
{
	int64_t there;
	int rc = q_int(c->db, &c->err, ret_mf_id, "SELECT mf_id FROM DM_DF WHERE dm_id = $1 AND df_id = $2", DB_V_INT(dm_id),
		       DB_V_INT(df_id));
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = q_int(c->db, &c->err, &there, "SELECT df_id FROM DeviceFeature WHERE df_id = $1", DB_V_INT(df_id));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Device Feature id %lld not found", (long long)df_id);
	return rc < 0 ? rc
		      : q_int(c->db, &c->err, ret_mf_id, "INSERT INTO DM_DF (dm_id, df_id) VALUES ($1, $2) RETURNING mf_id",
			      DB_V_INT(dm_id), DB_V_INT(df_id));
}

/* A new pair's parameters are everybody's, or nobody else could use it; changes are the caller's own. */
static int write_feature(struct op_call *c, int64_t dm_id, const json_t *item, bool own)
{
	const json_t *params = json_object_get(item, "df_parameter"), *tags = json_object_get(item, "tags");
	int64_t df_id = json_integer_value(json_object_get(item, "df_id")), mf_id = 0;
	int rc = pair_up(c, dm_id, df_id, &mf_id);
	if (rc > 0)
		rc = params_replace_of_model(c, (struct param_level){.mf_id = mf_id}, df_id, params);
	if (rc == 0 && own)
		rc = params_replace_of_model(c, (struct param_level){.mf_id = mf_id, .u_id = c->who.u_id}, df_id, params);
	return rc == 0 && tags != NULL ? tags_replace(c->db, &c->err, mf_id, tags) : rc;
}

static int write_features(struct op_call *c, int64_t dm_id, bool own)
{
	const json_t *list = json_object_get(c->args, "df_list"), *item;
	size_t i;
	json_array_foreach (list, i, item) {
		int rc = write_feature(c, dm_id, item, own);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The ids of df_list as {"id": true}. ret: yours; NULL: failed */
static json_t *listed(struct op_call *c)
{
	const json_t *list = json_object_get(c->args, "df_list"), *item;
	json_auto_t *ids = json_object();
	size_t i;
	if (json_array_size(list) == 0) {
		err_set(&c->err, ERR_INVAL, "Feature list cannot be empty");
		return NULL;
	}
	json_array_foreach (list, i, item) {
		char key[24];
		snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(json_object_get(item, "df_id")));
		if (json_object_get(ids, key) != NULL) {
			err_set(&c->err, ERR_INVAL, "Device Feature id %s is in the list twice", key);
			return NULL;
		}
		if (json_object_set_new(ids, key, json_true()) < 0) {
			err_set(&c->err, ERR_NOMEM, "features");
			return NULL;
		}
	}
	return TAKE(ids);
}

static int create(struct op_call *c)
{
	const char *name = op_str(c, "dm_name"), *type = op_str(c, "dm_type");
	json_auto_t *ids = listed(c);
	int64_t dm_id = 0;
	if (ids == NULL)
		return c->err.code;
	int rc = q_int(c->db, &c->err, &dm_id, "SELECT dm_id FROM DeviceModel WHERE dm_name = $1", DB_V_TEXT(name));
	if (rc != 0)
		return rc > 0 ? err_set(&c->err, ERR_EXIST, "Device Model \"%s\" already exists", name) : rc;
	rc = q_int(c->db, &c->err, &dm_id,
		   "INSERT INTO DeviceModel (dm_name, dm_type, plural, device_only) VALUES ($1, $2, $3, $4) RETURNING dm_id",
		   DB_V_TEXT(name), DB_V_TEXT(type != NULL ? type : "other"),
		   DB_V_INT(json_is_true(json_object_get(c->args, "plural"))),
		   DB_V_INT(json_is_true(json_object_get(c->args, "device_only"))));
	if (rc >= 0)
		rc = write_features(c, dm_id, false);
	return rc == 0 ? op_result_int(c, "dm_id", dm_id) : rc;
}

static int refuse_used(struct op_call *c, int64_t dm_id, bool by_devices)
{
	int64_t one;
	int rc = q_int(c->db, &c->err, &one,
		       "SELECT 1 WHERE EXISTS (SELECT 1 FROM DeviceObject WHERE dm_id = $1)"
		       " OR ($2 AND EXISTS (SELECT 1 FROM Device WHERE dm_id = $1))",
		       DB_V_INT(dm_id), DB_V_INT(by_devices));
	return rc > 0 ? err_set(&c->err, ERR_CONFLICT, "Device Model is in use.") : rc;
}

static int detach_unlisted(struct op_call *c, int64_t dm_id, const json_t *ids)
{
	json_auto_t *pairs = NULL;
	const json_t *pair;
	size_t i;
	int rc = q_rows(c->db, &c->err, pair_columns, &pairs, "SELECT mf_id, df_id FROM DM_DF WHERE dm_id = $1", DB_V_INT(dm_id));
	json_array_foreach (pairs, i, pair) {
		char key[24];
		snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(json_object_get(pair, "df_id")));
		if (rc == 0 && json_object_get(ids, key) == NULL)
			rc = q_exec(c->db, &c->err, "DELETE FROM DM_DF WHERE mf_id = $1",
				    DB_V_INT(json_integer_value(json_object_get(pair, "mf_id"))));
	}
	return rc;
}

/* A boolean of the arguments for ifnull(): absent is NULL. */
static struct db_value flag(const struct op_call *c, const char *name)
{
	return op_has(c, name) ? DB_V_INT(json_is_true(json_object_get(c->args, name))) : DB_V_NULL;
}

static int update(struct op_call *c)
{
	int64_t dm_id = 0;
	int rc = find(c, &dm_id);
	if (rc < 0)
		return rc;
	json_auto_t *ids = listed(c);
	if (ids == NULL)
		return c->err.code;
	if ((rc = refuse_used(c, dm_id, false)) < 0 || (rc = detach_unlisted(c, dm_id, ids)) < 0)
		return rc;
	rc = q_exec(c->db, &c->err,
		    "UPDATE DeviceModel SET dm_type = ifnull($1, dm_type), plural = ifnull($2, plural), device_only = ifnull($3, "
		    "device_only)"
		    " WHERE dm_id = $4",
		    DB_V_TEXT(op_str(c, "dm_type")), flag(c, "plural"), flag(c, "device_only"), DB_V_INT(dm_id));
	if (rc == 0)
		rc = write_features(c, dm_id, true);
	return rc == 0 ? op_result_int(c, "dm_id", dm_id) : rc;
}

static int delete (struct op_call *c)
{
	int64_t dm_id = 0;
	int rc = find(c, &dm_id);
	if (rc == 0)
		rc = refuse_used(c, dm_id, true);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM DeviceModel WHERE dm_id = $1", DB_V_INT(dm_id));
	return rc == 0 ? op_result_int(c, "dm_id", dm_id) : rc;
}

/* ---- reading ---- */

/* feature: a row with the mf_id besides, which does not stay. */
static int complete(struct db *db, struct err *err, json_t *feature, int64_t u_id)
{
	int64_t mf_id = json_integer_value(json_object_get(feature, "mf_id"));
	json_t *params = NULL, *tags = NULL;
	json_object_del(feature, "mf_id");
	int rc = rows_params(db, err, 0, mf_id, u_id, &params);
	if (rc == 0 && json_object_set_new(feature, "df_parameter", params) < 0)
		rc = err_set(err, ERR_NOMEM, "result");
	if (rc == 0)
		rc = tags_of(db, err, mf_id, &tags);
	return rc == 0 && json_object_set_new(feature, "tags", tags) < 0 ? err_set(err, ERR_NOMEM, "result") : rc;
}

int model_info(struct db *db, struct err *err, int64_t dm_id, int64_t u_id, json_t **ret_info)
{
	static const struct column columns[] = {
		{"df_id", COL_INT},    {"df_name", COL_TEXT}, {"df_type", COL_TEXT}, {"df_category", COL_TEXT},
		{"param_no", COL_INT}, {"comment", COL_TEXT}, {"mf_id", COL_INT},    {0}};
	json_auto_t *info = NULL;
	json_auto_t *list = NULL;
	json_t *feature;
	size_t i;
	int rc = q_row(db, err, row_model, &info, "SELECT " ROW_MODEL " FROM DeviceModel WHERE dm_id = $1", DB_V_INT(dm_id));
	if (rc <= 0)
		return rc;
	rc = q_rows(db, err, columns, &list,
		    "SELECT " ROW_FEATURE ", mf_id FROM DM_DF JOIN DeviceFeature USING (df_id) WHERE dm_id = $1 ORDER BY df_name",
		    DB_V_INT(dm_id));
	json_array_foreach (list, i, feature)
		if (rc == 0)
			rc = complete(db, err, feature, u_id);
	if (rc == 0 && json_object_set(info, "df_list", list) < 0)
		rc = err_set(err, ERR_NOMEM, "result");
	if (rc < 0)
		return rc;
	*ret_info = TAKE(info);
	return 1;
}

static int info(struct op_call *c)
{
	int64_t dm_id = 0;
	json_t *data = NULL;
	int rc = find(c, &dm_id);
	if (rc == 0)
		rc = model_info(c->db, &c->err, dm_id, c->who.u_id, &data);
	return rc < 0 ? rc : op_result(c, data);
}

static int models(struct op_call *c, json_t **ret)
{
	return q_rows(c->db, &c->err, row_model, ret,
		      "SELECT " ROW_MODEL " FROM DeviceModel WHERE EXISTS (SELECT 1 FROM DM_DF JOIN DF_Parameter USING (mf_id)"
		      " WHERE DM_DF.dm_id = DeviceModel.dm_id AND (u_id IS NULL OR u_id = $1)) ORDER BY dm_name",
		      DB_V_INT(c->who.u_id));
}

static int list(struct op_call *c)
{
	json_t *rows = NULL;
	int rc = models(c, &rows);
	return rc == 0 ? op_result(c, rows) : rc;
}

static int dm_list(struct op_call *c)
{
	json_t *rows = NULL;
	int rc = models(c, &rows);
	return rc == 0 ? op_result(c, json_pack("{s:o}", "dm_list", rows)) : rc;
}

static int search(struct op_call *c)
{
	int64_t dm_id = 0;
	int rc = q_int(c->db, &c->err, &dm_id, "SELECT dm_id FROM DeviceModel WHERE dm_name = $1",
		       DB_V_TEXT(op_str(c, "dm_name")));
	return rc < 0 ? rc : op_result(c, rc > 0 ? json_integer(dm_id) : json_null());
}

const struct op op_model_create = {"model.create", .run = create};
const struct op op_model_update = {"model.update", .run = update};
const struct op op_model_delete = {"model.delete", .run = delete};
const struct op op_model_info = {"model.info", .run = info, .reads = true};
const struct op op_model_list = {"model.list", .run = list, .reads = true};
const struct op op_model_dm_list = {"model.list", .run = dm_list, .reads = true};
const struct op op_model_search = {"model.search", .run = search, .reads = true};
