/* param.c - parameters of features. */
#include "ccm/ops/param.h"

#include "ccm/ops/rows.h"

const char *const param_types[] = {"int", "float", "boolean", "void", "string", "json", NULL};
const char *const idf_types[] = {"variant", "sample", NULL};

#define MAY (FIELD_OPTIONAL | FIELD_NULLABLE)
const struct field param_fields[] = {
	{"param_type", FIELD_STR, MAY, .names = param_types, .help = "type of the value; int if it is not given"},
	{"min", FIELD_NUMBER, MAY, .help = "smallest value; equal to max: no range"},
	{"max", FIELD_NUMBER, MAY, .help = "largest value"},
	{"idf_type", FIELD_STR, MAY, .names = idf_types, .help = "the value, or its change since the last one; sample if it is not given"},
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

static int check_references(struct db *db, struct err *err, int64_t fn_id, int64_t unit_id)
{
	int64_t there;
	int rc = fn_id > 0 ? q_int(db, err, &there, "SELECT fn_id FROM Function WHERE fn_id = $1", DB_V_INT(fn_id)) : 1;
	if (rc == 0)
		return err_set(err, ERR_NOENT, "Function id %lld not found", (long long)fn_id);
	if (rc > 0)
		rc = q_int(db, err, &there, "SELECT unit_id FROM Unit WHERE unit_id = $1", DB_V_INT(unit_id));
	return rc == 0 ? err_set(err, ERR_NOENT, "Unit id %lld not found", (long long)unit_id) : rc < 0 ? rc : 0;
}

static int insert(struct db *db, struct err *err, struct param_level level, size_t at, const json_t *param)
{
	int64_t fn_id = json_integer_value(json_object_get(param, "fn_id"));
	const json_t *unit = json_object_get(param, "unit_id");
	int64_t unit_id = json_is_integer(unit) ? json_integer_value(unit) : 1;
	int rc = check_references(db, err, fn_id, unit_id);
	if (rc < 0)
		return rc;
	return q_exec(db, err,
		      "INSERT INTO DF_Parameter (df_id, mf_id, u_id, param_i, param_type, idf_type, fn_id, min, max, normalization, unit_id)"
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
