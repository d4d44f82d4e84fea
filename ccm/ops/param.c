/* param.c - parameters of features. */
#include "ccm/ops/param.h"

#include "ccm/ops/catalogue.h"
#include "ccm/ops/feature.h"
#include "ccm/ops/model.h"
#include "ccm/ops/rows.h"
#include "common/util.h"

const char *const param_types[] = {"int", "float", "boolean", "void", "string", "json", NULL};
const char *const idf_types[] = {"variant", "sample", NULL};

#define MAY (FIELD_OPTIONAL | FIELD_NULLABLE)
const struct field param_fields[] = {
	{"param_type", FIELD_STR, MAY, .names = param_types, .help = "type of the value; int if it is not given"},
	{"min", FIELD_NUMBER, MAY, .help = "smallest value; equal to max: no range"},
	{"max", FIELD_NUMBER, MAY, .help = "largest value"},
	{"idf_type", FIELD_STR, MAY, .names = idf_types,
	 .help = "the value, or its change since the last one; sample if it is not given"},
	{"fn_id", FIELD_INT, MAY, .help = "default function; null or 0: none"},
	{"unit_id", FIELD_INT, MAY, .help = "unit; 1 (None) if it is not given"},
	{"normalization", FIELD_BOOL, MAY, .help = "whether values are mapped to min ... max"},
	{"dfp_id", FIELD_ANY, .flags = FIELD_DROPPED},
	{"df_id", FIELD_ANY, .flags = FIELD_DROPPED},
	{"mf_id", FIELD_ANY, .flags = FIELD_DROPPED},
	{"param_i", FIELD_ANY, .flags = FIELD_DROPPED},
	{"u_id", FIELD_ANY, .flags = FIELD_DROPPED},
	{0},
};

static const char *text_of(const json_t *param, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(param, name));
	return text != NULL ? text : otherwise;
}

static int check_unit(struct db *db, struct err *err, int64_t unit_id)
{
	int64_t there;
	int rc = q_int(db, err, &there, "SELECT unit_id FROM Unit WHERE unit_id = $1", DB_V_INT(unit_id));
	return rc == 0 ? err_set(err, ERR_NOENT, "Unit id %lld not found", (long long)unit_id) : rc < 0 ? rc : 0;
}

static int64_t function_of(const json_t *param)
{
	return json_integer_value(json_object_get(param, "fn_id"));
}

/* Whoever could name a function that is not to be seen would keep its owner from deleting it. */
int params_check_functions(struct op_call *c, int64_t df_id, const json_t *list)
{
	size_t i;
	const json_t *param;
	json_array_foreach (list, i, param) {
		int64_t fn_id = function_of(param), one;
		if (fn_id <= 0)
			continue;
		int rc = q_int(c->db, &c->err, &one,
			       "SELECT 1 WHERE EXISTS (SELECT 1 FROM FunctionVersion WHERE fn_id = $1 AND (u_id IS NULL OR u_id = $2))"
			       " OR EXISTS (SELECT 1 FROM DF_Parameter p LEFT JOIN DM_DF x ON x.mf_id = p.mf_id WHERE p.fn_id = $1"
			       " AND $3 IN (p.df_id, x.df_id))",
			       DB_V_INT(fn_id), DB_V_INT(c->who.u_id), DB_V_INT(df_id));
		if (rc <= 0)
			return rc < 0 ? rc : err_set(&c->err, ERR_NOENT, "Function id %lld not found", (long long)fn_id);
	}
	return 0;
}

static int insert(struct db *db, struct err *err, struct param_level level, size_t at, const json_t *param)
{
	int64_t fn_id = function_of(param);
	const json_t *unit = json_object_get(param, "unit_id");
	int64_t unit_id = json_is_integer(unit) ? json_integer_value(unit) : 1;
	int rc = check_unit(db, err, unit_id);
	if (rc < 0)
		return rc;
	return q_exec(db, err,
		      "INSERT INTO DF_Parameter (df_id, mf_id, u_id, param_i, param_type, idf_type, fn_id, min, max, "
		      "normalization, unit_id)"
		      " VALUES (nullif($1, 0), nullif($2, 0), nullif($3, 0), $4, $5, $6, nullif($7, 0), $8, $9, $10, $11)",
		      DB_V_INT(level.df_id), DB_V_INT(level.mf_id), DB_V_INT(level.u_id), DB_V_INT((int64_t)at),
		      DB_V_TEXT(text_of(param, "param_type", "int")), DB_V_TEXT(text_of(param, "idf_type", "sample")),
		      DB_V_INT(fn_id > 0 ? fn_id : 0), DB_V_REAL(json_number_value(json_object_get(param, "min"))),
		      DB_V_REAL(json_number_value(json_object_get(param, "max"))),
		      DB_V_INT(json_is_true(json_object_get(param, "normalization"))), DB_V_INT(unit_id));
}

int params_replace(struct db *db, struct err *err, struct param_level level, const json_t *list)
{
	size_t i;
	const json_t *param;
	if (json_array_size(list) > PARAMS_MAX)
		return err_set(err, ERR_INVAL, "a feature has at most %d parameters", PARAMS_MAX);
	int rc = q_exec(db, err,
			"DELETE FROM DF_Parameter WHERE ifnull(df_id, 0) = $1 AND ifnull(mf_id, 0) = $2 AND ifnull(u_id, 0) = $3",
			DB_V_INT(level.df_id), DB_V_INT(level.mf_id), DB_V_INT(level.u_id));
	json_array_foreach (list, i, param)
		if (rc == 0)
			rc = insert(db, err, level, i, param);
	return rc;
}

/* What a model's feature has for a user; a new one: what its feature has. ret_rows: yours */
static int rows_so_far(struct db *db, struct err *err, struct param_level level, int64_t df_id, json_t **ret_rows)
{
	json_auto_t *rows = NULL;
	int rc = rows_params(db, err, 0, level.mf_id, level.u_id, &rows);
	if (rc < 0 || json_array_size(rows) == 0)
		return rc < 0 ? rc : rows_params(db, err, df_id, 0, level.u_id, ret_rows);
	*ret_rows = TAKE(rows);
	return 0;
}

int params_replace_of_model(struct op_call *c, struct param_level level, int64_t df_id, const json_t *list)
{
	json_auto_t *all = json_array();
	json_auto_t *so_far = NULL;
	if (list != NULL && json_array_extend(all, (json_t *)list) < 0)
		return err_set(&c->err, ERR_NOMEM, "parameters");
	int rc = params_check_functions(c, df_id, list);
	if (rc == 0)
		rc = rows_so_far(c->db, &c->err, level, df_id, &so_far);
	if (rc == 0 && json_array_size(list) > json_array_size(so_far))
		return err_set(&c->err, ERR_INVAL, "Device Feature id %lld has %zu parameters, not %zu", (long long)df_id,
			       json_array_size(so_far), json_array_size(list));
	for (size_t i = json_array_size(list); rc == 0 && i < json_array_size(so_far); i++)
		if (json_array_append(all, json_array_get(so_far, i)) < 0)
			rc = err_set(&c->err, ERR_NOMEM, "parameters");
	return rc == 0 ? params_replace(c->db, &c->err, level, all) : rc;
}

/* ---- operations ---- */

/* What the arguments name: a model's feature, with its feature in ret_df_id, or a feature. */
static int level_of(struct op_call *c, struct param_level *ret, int64_t *ret_df_id)
{
	*ret = (struct param_level){.u_id = c->who.u_id};
	if (op_has(c, "mf_id") || op_has(c, "dm_id"))
		return model_find_feature(c, &ret->mf_id, ret_df_id);
	int rc = feature_find(c, &ret->df_id);
	*ret_df_id = ret->df_id;
	return rc;
}

static int named(struct op_call *c, struct param_level level)
{
	return level.mf_id != 0 ? op_result_int(c, "mf_id", level.mf_id) : op_result_int(c, "df_id", level.df_id);
}

static int set(struct op_call *c)
{
	const json_t *list = json_object_get(c->args, "df_parameter");
	struct param_level level;
	int64_t df_id = 0;
	int rc = level_of(c, &level, &df_id);
	if (rc == 0 && json_array_size(list) == 0)
		rc = err_set(&c->err, ERR_INVAL, "df_parameter is empty");
	if (rc == 0)
		rc = level.mf_id != 0 ? params_replace_of_model(c, level, df_id, list)
				      : feature_write_params(c, df_id, list);
	return rc == 0 ? named(c, level) : rc;
}

/* The user's own; everybody's show again. */
static int delete (struct op_call *c)
{
	struct param_level level;
	int64_t df_id = 0;
	int rc = level_of(c, &level, &df_id);
	if (rc == 0)
		rc = params_replace(c->db, &c->err, level, NULL);
	return rc == 0 ? named(c, level) : rc;
}

static int get(struct op_call *c)
{
	struct param_level level;
	int64_t df_id = 0;
	json_t *rows = NULL;
	int rc = level_of(c, &level, &df_id);
	if (rc == 0)
		rc = rows_params(c->db, &c->err, level.df_id, level.mf_id, level.u_id, &rows);
	return rc == 0 ? op_result(c, json_pack("{s:o}", "df_parameter", rows)) : rc;
}

const struct op op_param_set = {"parameter.set", .run = set};
const struct op op_param_delete = {"parameter.delete", .run = delete};
const struct op op_param_get = {"parameter.get", .run = get, .reads = true};
