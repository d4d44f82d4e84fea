/* export.c - the catalogue as a bulk-import file. */
#include "ccm/ops/export.h"

#include "ccm/query.h"
#include "common/util.h"

/* A function that everybody has a version of. */
#define GENERAL "EXISTS (SELECT 1 FROM FunctionVersion v WHERE v.fn_id = f.fn_id AND v.u_id IS NULL)"
/* A feature that everybody has parameters of. */
#define DESCRIBED "EXISTS (SELECT 1 FROM DF_Parameter p WHERE p.df_id = d.df_id AND p.u_id IS NULL)"

/* ---- parameters ---- */

static int parameters(struct db *db, int64_t df_id, int64_t mf_id, json_t **ret, struct err *err)
{
	static const struct column columns[] = {
		{"param_type", COL_TEXT}, {"idf_type", COL_TEXT}, {"min", COL_REAL},           {"max", COL_REAL},
		{"unit", COL_TEXT},       {"fn_name", COL_TEXT},  {"normalization", COL_BOOL}, {0},
	};
	return q_rows(db, err, columns, ret,
		      "SELECT param_type, idf_type, min, max, unit_name, (SELECT fn_name FROM Function f WHERE f.fn_id = p.fn_id "
		      "AND " GENERAL "), normalization FROM DF_Parameter p JOIN Unit USING (unit_id) "
		      "WHERE ifnull(df_id, 0) = $1 AND ifnull(mf_id, 0) = $2 AND ifnull(u_id, 0) = 0 ORDER BY param_i",
		      DB_V_INT(df_id), DB_V_INT(mf_id));
}

/* Take a number out of a row. */
static int64_t take_id(json_t *row, const char *name)
{
	int64_t id = json_integer_value(json_object_get(row, name));
	json_object_del(row, name);
	return id;
}

static int put(json_t *object, const char *name, json_t *value, struct err *err)
{
	return json_object_set_new(object, name, value) < 0 ? err_set(err, ERR_NOMEM, "export") : 0;
}

/* ---- sections ---- */

static int categories(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"dfc_name", COL_TEXT}, {0}};
	return q_rows(db, err, columns, ret, "SELECT dfc_name FROM DeviceFeatureCategory ORDER BY dfc_id");
}

static int units(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"unit_name", COL_TEXT}, {0}};
	return q_rows(db, err, columns, ret, "SELECT unit_name FROM Unit ORDER BY unit_id");
}

/* Of those with the same name the first one, which is the one that a name stands for. */
static int tags(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"tag_name", COL_TEXT}, {"param_no", COL_INT}, {0}};
	return q_rows(db, err, columns, ret,
		      "SELECT tag_name, param_no FROM Tag WHERE tag_id IN (SELECT min(tag_id) FROM Tag GROUP BY tag_name) ORDER "
		      "BY tag_id");
}

static int functions(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"fn_name", COL_TEXT}, {"is_protect", COL_BOOL}, {"code", COL_TEXT}, {0}};
	return q_rows(
		db, err, columns, ret,
		"SELECT fn_name, is_protect, code FROM Function f JOIN FunctionVersion n ON fnvt_idx = "
		"(SELECT max(fnvt_idx) FROM FunctionVersion v WHERE v.fn_id = f.fn_id AND v.u_id IS NULL) ORDER BY f.fn_id");
}

static int features(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"df_id", COL_INT},        {"df_name", COL_TEXT}, {"df_type", COL_TEXT},
						{"df_category", COL_TEXT}, {"comment", COL_TEXT}, {0}};
	json_t *row, *list;
	size_t i;
	int rc = q_rows(db, err, columns, ret,
			"SELECT df_id, df_name, df_type, df_category, comment FROM DeviceFeature d WHERE " DESCRIBED
			" ORDER BY df_id");
	json_array_foreach (*ret, i, row)
		if (rc == 0 && (rc = parameters(db, take_id(row, "df_id"), 0, &list, err)) == 0)
			rc = put(row, "df_parameter", list, err);
	return rc;
}

/* First those for joins, then those for each feature. */
static int offers(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"df_id", COL_INT}, {"df_name", COL_TEXT}, {0}};
	static const struct column names[] = {{"fn_name", COL_TEXT}, {0}};
	json_t *row, *list;
	size_t i;
	int rc = q_rows(db, err, columns, ret,
			"SELECT DISTINCT df_id, df_name FROM FunctionSDF s LEFT JOIN DeviceFeature d USING (df_id) JOIN Function "
			"f USING (fn_id) "
			"WHERE s.u_id IS NULL AND (s.df_id IS NULL OR " DESCRIBED ") AND " GENERAL
			" ORDER BY df_id IS NOT NULL, df_id");
	json_array_foreach (*ret, i, row) {
		if (rc < 0)
			break;
		rc = q_rows(db, err, names, &list,
			    "SELECT fn_name FROM FunctionSDF s JOIN Function f USING (fn_id) WHERE s.u_id IS NULL AND "
			    "ifnull(df_id, 0) = $1 AND " GENERAL " ORDER BY fnsdf_id",
			    DB_V_INT(take_id(row, "df_id")));
		if (rc == 0)
			rc = put(row, "fn_list", list, err);
		if (json_is_null(json_object_get(row, "df_name")))
			json_object_del(row, "df_name"); /* the list of joins */
	}
	return rc;
}

/* Names, instead of rows with a name. */
static int tags_of(struct db *db, int64_t mf_id, json_t *feature, struct err *err)
{
	static const struct column columns[] = {{"tag_name", COL_TEXT}, {0}};
	json_auto_t *rows = NULL, *list = json_array();
	json_t *row;
	size_t i;
	int rc = q_rows(db, err, columns, &rows,
			"SELECT DISTINCT tag_name FROM DM_DF_Tag JOIN Tag USING (tag_id) WHERE mf_id = $1 ORDER BY tag_name",
			DB_V_INT(mf_id));
	json_array_foreach (rows, i, row)
		json_array_append(list, json_object_get(row, "tag_name"));
	if (rc < 0 || json_array_size(rows) == 0)
		return rc;
	return put(feature, "tags", TAKE(list), err);
}

static int features_of(struct db *db, int64_t dm_id, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"mf_id", COL_INT}, {"df_name", COL_TEXT}, {0}};
	json_t *row, *list;
	size_t i;
	int rc = q_rows(db, err, columns, ret,
			"SELECT mf_id, df_name FROM DM_DF JOIN DeviceFeature d USING (df_id) WHERE dm_id = $1 AND " DESCRIBED
			" ORDER BY mf_id",
			DB_V_INT(dm_id));
	json_array_foreach (*ret, i, row) {
		int64_t mf_id = take_id(row, "mf_id");
		if (rc == 0)
			rc = parameters(db, 0, mf_id, &list, err);
		if (rc == 0)
			rc = put(row, "df_parameter", list, err);
		if (rc == 0)
			rc = tags_of(db, mf_id, row, err);
	}
	return rc;
}

static int models(struct db *db, json_t **ret, struct err *err)
{
	static const struct column columns[] = {{"dm_id", COL_INT},   {"dm_name", COL_TEXT},     {"dm_type", COL_TEXT},
						{"plural", COL_BOOL}, {"device_only", COL_BOOL}, {0}};
	json_t *row, *list = NULL;
	size_t i;
	int rc = q_rows(db, err, columns, ret,
			"SELECT dm_id, dm_name, dm_type, plural, device_only FROM DeviceModel m WHERE EXISTS "
			"(SELECT 1 FROM DM_DF JOIN DeviceFeature d USING (df_id) WHERE DM_DF.dm_id = m.dm_id AND " DESCRIBED
			") ORDER BY dm_id");
	json_array_foreach (*ret, i, row) {
		if (rc < 0)
			break;
		rc = features_of(db, take_id(row, "dm_id"), &list, err);
		if (json_object_set_new(row, "df_list", list) < 0 && rc == 0)
			rc = err_set(err, ERR_NOMEM, "export");
	}
	return rc;
}

int export_catalogue(struct db *db, json_t **ret_doc, struct err *err)
{
	static const struct {
		const char *name;
		int (*rows)(struct db *db, json_t **ret, struct err *err);
	} sections[] = {
		{"DeviceFeatureCategory", categories}, {"Unit", units},         {"Tag", tags},           {"Function", functions},
		{"DeviceFeature", features},           {"FunctionSDF", offers}, {"DeviceModel", models},
	};
	json_auto_t *doc = json_object();
	int rc = doc != NULL ? 0 : err_set(err, ERR_NOMEM, "export");
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(sections); i++) {
		json_t *rows = NULL;
		rc = sections[i].rows(db, &rows, err);
		if (json_object_set_new(doc, sections[i].name, rows) < 0 && rc == 0)
			rc = err_set(err, ERR_NOMEM, "export");
	}
	if (rc == 0)
		*ret_doc = TAKE(doc);
	return rc;
}
