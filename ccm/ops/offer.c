/* offer.c - which functions there are for a user, what is in them, and where they are offered. */
#include "ccm/ops/catalogue.h"
#include "ccm/ops/function.h"
#include "ccm/ops/rows.h"
#include "common/util.h"
#include <string.h>

/* ---- lists ---- */

int functions_offered(struct db *db, struct err *err, int64_t df_id, int64_t u_id, json_t **ret_rows)
{
	return q_rows(db, err, row_function, ret_rows,
		      "SELECT " ROW_FUNCTION
		      " FROM Function WHERE fn_id IN (SELECT fn_id FROM FunctionSDF WHERE (df_id = $1 OR ($1 = 0 AND"
		      " df_id IS NULL)) AND (u_id IS NULL OR u_id = $2) AND display = 1) ORDER BY fn_name",
		      DB_V_INT(df_id), DB_V_INT(u_id));
}

/* Those with a version that the user may see. */
static int visible(struct op_call *c, json_t **ret_rows)
{
	return q_rows(c->db, &c->err, row_function, ret_rows,
		      "SELECT " ROW_FUNCTION
		      " FROM Function WHERE EXISTS (SELECT 1 FROM FunctionVersion WHERE FunctionVersion.fn_id ="
		      " Function.fn_id AND (u_id IS NULL OR u_id = $1)) ORDER BY fn_name",
		      DB_V_INT(c->who.u_id));
}

static int result_list(struct op_call *c, int rc, const char *name, json_t *rows)
{
	return rc == 0 ? op_result(c, json_pack("{s:o}", name, rows)) : rc;
}

static int list(struct op_call *c)
{
	json_t *rows = NULL;
	int rc = visible(c, &rows);
	return result_list(c, rc, "fn_list", rows);
}

static int of_feature(struct op_call *c)
{
	json_t *rows = NULL;
	int64_t df_id = op_int(c, "df_id");
	int rc = functions_offered(c->db, &c->err, df_id > 0 ? df_id : -1, c->who.u_id, &rows);
	return result_list(c, rc, "fn_list", rows);
}

static int of_joins(struct op_call *c)
{
	json_t *rows = NULL;
	int rc = functions_offered(c->db, &c->err, 0, c->who.u_id, &rows);
	return result_list(c, rc, "fn_list", rows);
}

static int versions(struct op_call *c)
{
	json_t *rows = NULL;
	int64_t fn_id = op_int(c, "fn_id");
	int rc = q_rows(c->db, &c->err, row_version, &rows,
			"SELECT " ROW_VERSION
			" FROM FunctionVersion WHERE fn_id = $1 AND (u_id IS NULL OR u_id = $2) ORDER BY fnvt_idx",
			DB_V_INT(fn_id), DB_V_INT(c->who.u_id));
	if (rc == 0 && fn_id > 0 && json_array_size(rows) == 0) {
		json_decref(rows);
		return err_set(&c->err, ERR_NOENT, "Function id %lld not found", (long long)fn_id);
	}
	return result_list(c, rc, "fnvt_list", rows);
}

/* ---- one function ---- */

/* A version by its index, or the newest that the user's graphs run; no function is all null. */
static int info(struct op_call *c)
{
	static const struct column columns[] = {
		{"name", COL_TEXT}, {"fnvt_idx", COL_INT}, {"code", COL_TEXT}, {"date", COL_TEXT}, {0}};
	int64_t fn_id = op_int(c, "fn_id"), idx = op_int(c, "fnvt_idx");
	bool by_version = op_has(c, "fnvt_idx") && idx > 0;
	json_t *row = NULL;
	int rc = 1;
	if (!by_version && fn_id <= 0)
		return op_result(c, json_pack("{s:n, s:n, s:n, s:n}", "name", "fnvt_idx", "code", "date"));
	if (!by_version)
		rc = function_newest(c->db, &c->err, fn_id, c->who.u_id, &idx);
	if (rc > 0)
		rc = q_row(c->db, &c->err, columns, &row,
			   "SELECT fn_name, fnvt_idx, code, date FROM FunctionVersion JOIN Function USING (fn_id)"
			   " WHERE fnvt_idx = $1 AND (u_id IS NULL OR u_id = $2)",
			   DB_V_INT(idx), DB_V_INT(c->who.u_id));
	if (rc == 0)
		return by_version ? err_set(&c->err, ERR_NOENT, "Function Version id %lld not found", (long long)idx)
				  : err_set(&c->err, ERR_NOENT, "Function id %lld not found", (long long)fn_id);
	return rc < 0 ? rc : op_result(c, row);
}

/* ---- what an editor shows beside a DF object or a join ---- */

static const char *name_of(const json_t *row)
{
	return json_string_value(json_object_get(row, "fn_name"));
}

/* Those of `all` that are not in `some`; both by name. ret: yours; NULL: out of memory */
static json_t *without(const json_t *all, const json_t *some)
{
	json_auto_t *rest = json_array();
	size_t at = 0, i;
	json_t *row;
	json_array_foreach (all, i, row) {
		while (at < json_array_size(some) && strcmp(name_of(json_array_get(some, at)), name_of(row)) < 0)
			at++;
		if (!json_equal(row, json_array_get(some, at)) && json_array_append(rest, row) < 0)
			return NULL;
	}
	return TAKE(rest);
}

/* Takes `of`, an object with what the functions are for, and adds the lists. */
static int with_lists(struct op_call *c, json_t *of, int64_t df_id)
{
	json_auto_t *result = of;
	json_auto_t *all = NULL;
	json_t *offered = NULL;
	int rc = result != NULL ? visible(c, &all) : err_set(&c->err, ERR_NOMEM, "result");
	if (rc == 0)
		rc = functions_offered(c->db, &c->err, df_id, c->who.u_id, &offered);
	if (rc == 0 && (json_object_set_new(result, "fn_list", offered) < 0 ||
			json_object_set_new(result, "other_fn_list", without(all, offered)) < 0))
		rc = err_set(&c->err, ERR_NOMEM, "result");
	return rc == 0 ? op_result(c, TAKE(result)) : rc;
}

static const struct column id_columns[] = {{"id", COL_INT}, {0}};

/* The functions of a link, by parameter. ret: yours */
static int of_link(struct op_call *c, int64_t dfo_id, int64_t na_id, json_t **ret)
{
	json_auto_t *rows = NULL;
	json_auto_t *ids = json_array();
	size_t i;
	const json_t *row;
	int rc = na_id > 0
			 ? 1
			 : q_int(c->db, &c->err, &na_id, "SELECT min(na_id) FROM DF_Module WHERE dfo_id = $1", DB_V_INT(dfo_id));
	if (rc >= 0)
		rc = q_rows(c->db, &c->err, id_columns, &rows,
			    "SELECT fn_id FROM DF_Module WHERE na_id = $1 AND dfo_id = $2 ORDER BY param_i", DB_V_INT(na_id),
			    DB_V_INT(dfo_id));
	json_array_foreach (rows, i, row)
		if (rc == 0 && json_array_append(ids, json_object_get(row, "id")) < 0)
			rc = err_set(&c->err, ERR_NOMEM, "result");
	if (rc == 0)
		*ret = TAKE(ids);
	return rc;
}

static int of_dfobject(struct op_call *c, int64_t dfo_id, int64_t na_id)
{
	static const struct column columns[] = {{"df_id", COL_INT}, {"dfo_id", COL_INT}, {"df_name", COL_TEXT}, {0}};
	json_auto_t *of = NULL;
	json_t *functions = NULL;
	int rc = q_row(
		c->db, &c->err, columns, &of,
		"SELECT df_id, dfo_id, df_name FROM DFObject JOIN DeviceFeature USING (df_id) JOIN DeviceObject USING (do_id)"
		" JOIN Project USING (p_id) WHERE dfo_id = $1 AND u_id = $2",
		DB_V_INT(dfo_id), DB_V_INT(c->who.u_id));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Device Feature Object id %lld not found", (long long)dfo_id);
	if (rc > 0)
		rc = of_link(c, dfo_id, na_id, &functions);
	if (rc == 0 && json_object_set_new(of, "dfm_fn_list", functions) < 0)
		rc = err_set(&c->err, ERR_NOMEM, "result");
	if (rc < 0)
		return rc;
	int64_t df_id = json_integer_value(json_object_get(of, "df_id"));
	return with_lists(c, TAKE(of), df_id);
}

static int of_join(struct op_call *c, int64_t na_id)
{
	int64_t there, fn_id = 0;
	int rc = q_int(c->db, &c->err, &there,
		       "SELECT na_id FROM NetworkApplication JOIN Project USING (p_id) WHERE na_id = $1 AND u_id = $2",
		       DB_V_INT(na_id), DB_V_INT(c->who.u_id));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "NetworkApplication not find.");
	if (rc > 0)
		rc = q_int(c->db, &c->err, &fn_id,
			   "SELECT fn_id FROM MultipleJoin_Module WHERE na_id = $1 AND fn_id IS NOT NULL LIMIT 1",
			   DB_V_INT(na_id));
	return rc < 0 ? rc
		      : with_lists(c,
				   json_pack("{s:n, s:n, s:s, s:o}", "df_id", "dfo_id", "df_name", "Join", "multiplejoin_fn_id",
					     rc > 0 ? json_integer(fn_id) : json_null()),
				   0);
}

static int of_object(struct op_call *c)
{
	int64_t dfo_id = op_int(c, "dfo_id"), na_id = op_int(c, "na_id");
	if (dfo_id > 0)
		return of_dfobject(c, dfo_id, na_id);
	return of_join(c, na_id);
}

/* ---- FunctionSDF ---- */

static int offered_result(struct op_call *c, int64_t fn_id, int64_t df_id)
{
	return op_result(
		c, json_pack("{s:I, s:o}", "fn_id", (json_int_t)fn_id, "df_id", df_id > 0 ? json_integer(df_id) : json_null()));
}

static int add(struct op_call *c)
{
	int64_t fn_id = op_int(c, "fn_id"), df_id = op_int(c, "df_id"), there;
	int rc = function_newest(c->db, &c->err, fn_id, c->who.u_id, &there);
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Function id %lld not found", (long long)fn_id);
	if (rc > 0 && df_id > 0) {
		rc = q_int(c->db, &c->err, &there, "SELECT df_id FROM DeviceFeature WHERE df_id = $1", DB_V_INT(df_id));
		if (rc == 0)
			return err_set(&c->err, ERR_NOENT, "Device Feature id %lld not found", (long long)df_id);
	}
	if (rc > 0)
		rc = function_offer(c->db, &c->err, fn_id, c->who.u_id, df_id > 0 ? df_id : 0);
	return rc < 0 ? rc : offered_result(c, fn_id, df_id);
}

/* Whether the user has it where it is offered. ret: 1, 0 or negative */
static int is_used_there(struct op_call *c, int64_t fn_id, int64_t df_id)
{
	int64_t one;
	return df_id > 0
		       ? q_int(c->db, &c->err, &one,
			       "SELECT 1 WHERE EXISTS (SELECT 1 FROM DF_Parameter LEFT JOIN DM_DF USING (mf_id) WHERE fn_id = $1 "
			       "AND"
			       " (DF_Parameter.df_id = $2 OR DM_DF.df_id = $2) AND (u_id IS NULL OR u_id = $3))"
			       " OR EXISTS (SELECT 1 FROM DF_Module JOIN DFObject USING (dfo_id) JOIN DeviceObject USING (do_id)"
			       " JOIN Project USING (p_id) WHERE fn_id = $1 AND df_id = $2 AND u_id = $3)",
			       DB_V_INT(fn_id), DB_V_INT(df_id), DB_V_INT(c->who.u_id))
		       : q_int(c->db, &c->err, &one,
			       "SELECT 1 FROM MultipleJoin_Module JOIN NetworkApplication USING (na_id) JOIN Project USING (p_id)"
			       " WHERE fn_id = $1 AND u_id = $2 LIMIT 1",
			       DB_V_INT(fn_id), DB_V_INT(c->who.u_id));
}

static int take_away(struct op_call *c)
{
	int64_t fn_id = op_int(c, "fn_id"), df_id = op_int(c, "df_id"), gone;
	int rc = is_used_there(c, fn_id, df_id);
	if (rc > 0)
		return err_set(&c->err, ERR_CONFLICT, "This function is used, can not delete.");
	if (rc == 0)
		rc = q_int(c->db, &c->err, &gone,
			   "DELETE FROM FunctionSDF WHERE fn_id = $1 AND u_id = $2 AND ifnull(df_id, 0) = $3 RETURNING fnsdf_id",
			   DB_V_INT(fn_id), DB_V_INT(c->who.u_id), DB_V_INT(df_id > 0 ? df_id : 0));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "FunctionSDF not find.");
	return rc < 0 ? rc : offered_result(c, fn_id, df_id);
}

const struct op op_function_list = {"function.list", .run = list, .reads = true};
const struct op op_function_of_feature = {"function.list", .run = of_feature, .reads = true};
const struct op op_function_of_joins = {"function.list", .run = of_joins, .reads = true};
const struct op op_function_of_object = {"function.list", .run = of_object, .reads = true};
const struct op op_function_versions = {"function.versions", .run = versions, .reads = true};
const struct op op_function_info = {"function.info", .run = info, .reads = true};
const struct op op_offer_add = {"offer.add", .run = add};
const struct op op_offer_remove = {"offer.remove", .run = take_away};
