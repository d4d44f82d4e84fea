/* feature.c - device features. */
#include "ccm/ops/feature.h"

#include "ccm/ops/catalogue.h"
#include "ccm/ops/label.h"
#include "ccm/ops/param.h"
#include "ccm/ops/rows.h"
#include "common/util.h"
#include <string.h>

int feature_find(struct op_call *c, int64_t *ret_df_id)
{
	const char *name = op_str(c, "df_name");
	int64_t id = op_int(c, "df_id");
	bool by_id = op_has(c, "df_id") || name == NULL;
	int rc = by_id ? q_int(c->db, &c->err, ret_df_id, "SELECT df_id FROM DeviceFeature WHERE df_id = $1", DB_V_INT(id))
		       : q_int(c->db, &c->err, ret_df_id, "SELECT df_id FROM DeviceFeature WHERE df_name = $1", DB_V_TEXT(name));
	if (rc != 0)
		return rc < 0 ? rc : 0;
	return by_id ? err_set(&c->err, ERR_NOENT, "Device Feature id %lld not found", (long long)id)
		     : err_set(&c->err, ERR_NOENT, "Device Feature id %s not found", name);
}

static int check_type(struct op_call *c)
{
	const char *type = op_str(c, "df_type");
	return strcmp(type, "input") == 0 || strcmp(type, "output") == 0
		       ? 0
		       : err_set(&c->err, ERR_INVAL, "Invalid feature type \"%s\"", type);
}

static int refuse_used(struct op_call *c, int64_t df_id)
{
	int64_t one;
	int rc = q_int(c->db, &c->err, &one,
		       "SELECT 1 WHERE EXISTS (SELECT 1 FROM DM_DF WHERE df_id = $1) OR EXISTS (SELECT 1 FROM DFObject WHERE "
		       "df_id = $1)",
		       DB_V_INT(df_id));
	return rc > 0 ? err_set(&c->err, ERR_CONFLICT, "Device Feature is in use.") : rc;
}

int feature_write_params(struct op_call *c, int64_t df_id, const json_t *list)
{
	int64_t have = 0, n = (int64_t)json_array_size(list);
	int rc = params_check_functions(c, df_id, list);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &have, "SELECT param_no FROM DeviceFeature WHERE df_id = $1", DB_V_INT(df_id));
	if (rc < 0 || n == have)
		return rc < 0 ? rc
			      : params_replace(c->db, &c->err, (struct param_level){.df_id = df_id, .u_id = c->who.u_id}, list);
	rc = refuse_used(c, df_id);
	/* what other users have of their own would be too few or too many */
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM DF_Parameter WHERE df_id = $1", DB_V_INT(df_id));
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "UPDATE DeviceFeature SET param_no = $1 WHERE df_id = $2", DB_V_INT(n),
			    DB_V_INT(df_id));
	return rc == 0 ? params_replace(c->db, &c->err, (struct param_level){.df_id = df_id}, list) : rc;
}

/* The category of the arguments; made if it is not there. ret: borrowed; NULL: failed */
static const char *category(struct op_call *c, const char *otherwise)
{
	const char *name = op_str(c, "df_category");
	if (name == NULL || name[0] == '\0')
		return otherwise;
	return label_category(c->db, &c->err, name, NULL) < 0 ? NULL : name;
}

static int create(struct op_call *c)
{
	const char *name = op_str(c, "df_name"), *comment = op_str(c, "comment"), *of;
	const json_t *list = json_object_get(c->args, "df_parameter");
	int64_t df_id = 0;
	int rc = check_type(c);
	if (rc == 0 && json_array_size(list) == 0)
		rc = err_set(&c->err, ERR_INVAL, "df_parameter is empty");
	if (rc == 0)
		rc = params_check_functions(c, 0, list);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &df_id, "SELECT df_id FROM DeviceFeature WHERE df_name = $1", DB_V_TEXT(name));
	if (rc != 0)
		return rc > 0 ? err_set(&c->err, ERR_EXIST, "Device Feature \"%s\" already exists", name) : rc;
	if ((of = category(c, "None")) == NULL)
		return c->err.code;
	rc = q_int(c->db, &c->err, &df_id,
		   "INSERT INTO DeviceFeature (df_name, df_type, df_category, param_no, comment) VALUES ($1, $2, $3, $4, $5) "
		   "RETURNING df_id",
		   DB_V_TEXT(name), DB_V_TEXT(op_str(c, "df_type")), DB_V_TEXT(of), DB_V_INT((int64_t)json_array_size(list)),
		   DB_V_TEXT(comment != NULL ? comment : ""));
	if (rc >= 0)
		rc = params_replace(c->db, &c->err, (struct param_level){.df_id = df_id}, list);
	return rc == 0 ? op_result_int(c, "df_id", df_id) : rc;
}

/* Its direction is what models and links rely on. */
static int update_row(struct op_call *c, int64_t df_id)
{
	int64_t same;
	int rc = q_int(c->db, &c->err, &same, "SELECT 1 FROM DeviceFeature WHERE df_id = $1 AND df_type = $2", DB_V_INT(df_id),
		       DB_V_TEXT(op_str(c, "df_type")));
	if (rc == 0)
		rc = refuse_used(c, df_id);
	const char *of = rc < 0 ? NULL : category(c, "");
	if (of == NULL)
		return c->err.code;
	return q_exec(c->db, &c->err,
		      "UPDATE DeviceFeature SET df_type = $1, df_category = ifnull(nullif($2, ''), df_category), comment = "
		      "ifnull($3, comment)"
		      " WHERE df_id = $4",
		      DB_V_TEXT(op_str(c, "df_type")), DB_V_TEXT(of), DB_V_TEXT(op_str(c, "comment")), DB_V_INT(df_id));
}

static int update(struct op_call *c)
{
	const json_t *list = json_object_get(c->args, "df_parameter");
	int64_t df_id = 0;
	int rc = feature_find(c, &df_id);
	if (rc == 0)
		rc = check_type(c);
	if (rc == 0 && json_array_size(list) == 0)
		rc = err_set(&c->err, ERR_INVAL, "df_parameter is empty");
	if (rc == 0)
		rc = update_row(c, df_id);
	if (rc == 0)
		rc = feature_write_params(c, df_id, list);
	return rc == 0 ? op_result_int(c, "df_id", df_id) : rc;
}

static int delete (struct op_call *c)
{
	int64_t df_id = 0;
	int rc = feature_find(c, &df_id);
	if (rc == 0)
		rc = refuse_used(c, df_id);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM DeviceFeature WHERE df_id = $1", DB_V_INT(df_id));
	return rc == 0 ? op_result_int(c, "df_id", df_id) : rc;
}

static int info(struct op_call *c)
{
	json_auto_t *row = NULL;
	json_t *params = NULL;
	int64_t df_id = 0;
	int rc = feature_find(c, &df_id);
	if (rc == 0)
		rc = q_row(c->db, &c->err, row_feature, &row, "SELECT " ROW_FEATURE " FROM DeviceFeature WHERE df_id = $1",
			   DB_V_INT(df_id));
	if (rc >= 0)
		rc = rows_params(c->db, &c->err, df_id, 0, c->who.u_id, &params);
	if (rc < 0)
		return rc;
	return json_object_set_new(row, "df_parameter", params) < 0 ? err_set(&c->err, ERR_NOMEM, "result")
								    : op_result(c, TAKE(row));
}

static int of_type(struct op_call *c, const char *type, json_t **ret)
{
	const char *category_wanted = op_str(c, "df_category");
	return q_rows(c->db, &c->err, row_feature, ret,
		      "SELECT " ROW_FEATURE
		      " FROM DeviceFeature WHERE df_type = $1 AND ($2 IS NULL OR $2 = '' OR df_category = $2)"
		      " ORDER BY df_name",
		      DB_V_TEXT(type), DB_V_TEXT(category_wanted));
}

static int list(struct op_call *c)
{
	json_auto_t *input = NULL;
	json_t *output = NULL;
	int rc = of_type(c, "input", &input);
	if (rc == 0)
		rc = of_type(c, "output", &output);
	return rc == 0 ? op_result(c, json_pack("{s:O, s:o}", "input", input, "output", output)) : rc;
}

static int search(struct op_call *c)
{
	int64_t df_id = 0;
	int rc = q_int(c->db, &c->err, &df_id, "SELECT df_id FROM DeviceFeature WHERE df_name = $1",
		       DB_V_TEXT(op_str(c, "df_name")));
	return rc < 0 ? rc : op_result(c, rc > 0 ? json_integer(df_id) : json_null());
}

const struct op op_feature_create = {"feature.create", .run = create};
const struct op op_feature_update = {"feature.update", .run = update};
const struct op op_feature_delete = {"feature.delete", .run = delete};
const struct op op_feature_info = {"feature.info", .run = info, .reads = true};
const struct op op_feature_list = {"feature.list", .run = list, .reads = true};
const struct op op_feature_search = {"feature.search", .run = search, .reads = true};
