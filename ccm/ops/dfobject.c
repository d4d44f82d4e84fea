/* dfobject.c - features of device objects, one by one, and their names. */
#include "ccm/gui/gui.h"
#include "ccm/ops/function.h"
#include "ccm/ops/param.h"
#include "ccm/ops/project_int.h"
#include "ccm/sim/sim.h"
#include "common/util.h"
#include <string.h>

/* ---- one of them ---- */

static int info(struct op_call *c)
{
	static const struct column columns[] = {{"dfo_id", COL_INT},  {"alias_name", COL_TEXT}, {"df_id", COL_INT},
						{"dm_name", COL_TEXT}, {"df_type", COL_TEXT},	{"mf_id", COL_INT}, {0}};
	json_auto_t *row = NULL, *functions = NULL, *params = NULL;
	struct dfobject o;
	int rc = own_dfobject(c, op_int(c, "dfo_id"), &o);
	if (rc < 0 ||
	    (rc = q_row(c->db, &c->err, columns, &row,
			"SELECT f.dfo_id, f.alias_name, f.df_id, m.dm_name, d.df_type, x.mf_id FROM DFObject f"
			" JOIN DeviceObject o ON o.do_id = f.do_id JOIN DeviceModel m ON m.dm_id = o.dm_id"
			" JOIN DeviceFeature d ON d.df_id = f.df_id LEFT JOIN DM_DF x ON x.dm_id = o.dm_id"
			" AND x.df_id = f.df_id WHERE f.dfo_id = $1",
			DB_V_INT(o.dfo_id))) < 0 ||
	    (rc = functions_offered(c->db, &c->err, o.df_id, c->who.u_id, &functions)) < 0 ||
	    (rc = rows_params(c->db, &c->err, 0, o.mf_id, c->who.u_id, &params)) < 0 || (rc = lines_select(c, o.p_id, 0)) < 0)
		return rc;
	if (json_object_set(row, "df_mapping_func", functions) < 0 || json_object_set(row, "df_parameter", params) < 0)
		return err_set(&c->err, ERR_NOMEM, "feature");
	return op_result(c, TAKE(row));
}

static int create(struct op_call *c)
{
	int64_t df_id = op_int(c, "df_id"), dfo_id = 0, is_output = 0, one;
	struct object o;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc < 0)
		return rc;
	rc = q_int(c->db, &c->err, &is_output,
		   "SELECT d.df_type = 'output' FROM DM_DF x JOIN DeviceFeature d ON d.df_id = x.df_id WHERE x.dm_id = $1"
		   " AND x.df_id = $2",
		   DB_V_INT(o.dm_id), DB_V_INT(df_id));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Device Feature id %lld not found", (long long)df_id);
	if (rc > 0)
		rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM DFObject WHERE do_id = $1 AND df_id = $2", DB_V_INT(o.do_id),
			   DB_V_INT(df_id));
	if (rc > 0)
		return err_set(&c->err, ERR_EXIST, "The Device Object has this Device Feature already");
	if (rc == 0 && is_output)
		rc = object_allows_output(c, o.d_id);
	if (rc == 0)
		rc = dfobject_insert(c, o.do_id, df_id, op_str(c, "alias_name"), &dfo_id);
	if (rc == 0)
		rc = op_then(c, sim_touch, o.p_id);
	return rc == 0 ? op_result_int(c, "dfo_id", dfo_id) : rc;
}

/* The object goes with its last feature: nobody could see it any more. */
static int delete_feature(struct op_call *c)
{
	int64_t one;
	struct dfobject o;
	int rc = own_dfobject(c, op_int(c, "dfo_id"), &o);
	if (rc < 0 || (rc = dfobject_remove(c, o.dfo_id)) < 0)
		return rc;
	rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM DFObject WHERE do_id = $1 LIMIT 1", DB_V_INT(o.do_id));
	if (rc == 0)
		rc = object_remove(c, &(struct object){.do_id = o.do_id, .p_id = o.p_id});
	if (rc < 0 || (rc = op_then(c, sim_touch, o.p_id)) < 0)
		return rc;
	return op_result(c, json_pack("{s:I, s:I}", "dfo_id", (json_int_t)o.dfo_id, "do_id", (json_int_t)o.do_id));
}

/* ---- names ---- */

static int set_alias(struct op_call *c, int64_t dfo_id, const char *name)
{
	int rc = q_exec(c->db, &c->err, "UPDATE DFObject SET alias_name = $1 WHERE dfo_id = $2", DB_V_TEXT(name),
			DB_V_INT(dfo_id));
	return rc == 0 ? op_then(c, gui_alias_changed, dfo_id) : rc;
}

/* The first object of the caller to which that device is bound and that has that feature. ret_row: {dfo_id, alias_name}. */
static int find_alias(struct op_call *c, json_t **ret_row)
{
	static const struct column columns[] = {{"dfo_id", COL_INT}, {"alias_name", COL_TEXT}, {0}};
	int rc = q_row(c->db, &c->err, columns, ret_row,
		       "SELECT f.dfo_id, f.alias_name FROM Device v JOIN DeviceObject o ON o.d_id = v.d_id"
		       " JOIN Project p ON p.p_id = o.p_id JOIN DFObject f ON f.do_id = o.do_id"
		       " JOIN DeviceFeature d ON d.df_id = f.df_id WHERE v.mac_addr = $1 AND d.df_name = $2"
		       " AND p.u_id = $3 ORDER BY o.do_id LIMIT 1",
		       DB_V_TEXT(op_str(c, "mac_addr")), DB_V_TEXT(op_str(c, "df_name")), DB_V_INT(c->who.u_id));
	return rc == 0 ? err_set(&c->err, ERR_NOENT, "alias_name not find") : rc < 0 ? rc : 0;
}

static int alias_get(struct op_call *c)
{
	json_auto_t *row = NULL;
	int rc = find_alias(c, &row);
	return rc == 0 ? op_result(c, json_pack("{s:O}", "alias_name", json_object_get(row, "alias_name"))) : rc;
}

static int alias_set(struct op_call *c)
{
	json_auto_t *row = NULL;
	const char *name = op_str(c, "alias_name");
	int rc = find_alias(c, &row);
	if (rc == 0)
		rc = set_alias(c, row_int(row, "dfo_id"), name);
	return rc == 0 ? op_result(c, json_pack("{s:s}", "alias_name", name)) : rc;
}

/* ---- the caller's parameters ---- */

/* Those that the caller sees, one for each parameter: of the model, or else of the feature, or else the defaults. ret: yours */
static int visible_params(struct op_call *c, const struct dfobject *o, json_t **ret)
{
	json_auto_t *model = NULL, *feature = NULL, *made = json_array();
	int rc = rows_params(c->db, &c->err, 0, o->mf_id, c->who.u_id, &model);
	if (rc == 0)
		rc = rows_params(c->db, &c->err, o->df_id, 0, c->who.u_id, &feature);
	for (int64_t i = 0; rc == 0 && i < o->param_no; i++) {
		json_t *row = params_row(model, i);
		row = row != NULL ? row : params_row(feature, i);
		if (json_array_append_new(made, row != NULL ? json_incref(row) : json_object()) < 0)
			rc = err_set(&c->err, ERR_NOMEM, "parameters");
	}
	if (rc == 0)
		*ret = TAKE(made);
	return rc;
}

/* What was said about a parameter over what it is: null says something of the function only. */
static int overlay(struct op_call *c, json_t *row, const json_t *said)
{
	const char *name;
	json_t *value;
	int64_t fn_id = row_int(said, "fn_id");
	if (fn_id > 0 && fn_id != row_int(row, "fn_id")) {
		int rc = own_function(c, fn_id);
		if (rc < 0)
			return rc;
	}
	json_object_foreach ((json_t *)said, name, value)
		if ((!json_is_null(value) || strcmp(name, "fn_id") == 0) && json_object_set(row, name, value) < 0)
			return err_set(&c->err, ERR_NOMEM, "parameters");
	return 0;
}

static int set_params(struct op_call *c, const struct dfobject *o, const json_t *said)
{
	json_auto_t *params = NULL;
	size_t n = json_array_size(said);
	if (n == 0)
		return 0;
	if ((int64_t)n != o->param_no)
		return err_set(&c->err, ERR_INVAL, "df_parameter must have %lld elements, one for each parameter",
			       (long long)o->param_no);
	int rc = visible_params(c, o, &params);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = overlay(c, json_array_get(params, i), json_array_get(said, i));
	if (rc < 0)
		return rc;
	return params_replace(c->db, &c->err, (struct param_level){.mf_id = o->mf_id, .u_id = c->who.u_id}, params);
}

static int update(struct op_call *c)
{
	CLEANUP(freep) char *was = NULL;
	const char *name = op_str(c, "alias_name");
	struct dfobject o;
	int rc = own_dfobject(c, op_int(c, "dfo_id"), &o);
	if (rc < 0 ||
	    (rc = q_text(c->db, &c->err, &was, "SELECT alias_name FROM DFObject WHERE dfo_id = $1", DB_V_INT(o.dfo_id))) < 0)
		return rc;
	rc = strcmp(was, name) != 0 ? set_alias(c, o.dfo_id, name) : 0;
	if (rc == 0)
		rc = set_params(c, &o, json_object_get(c->args, "df_parameter"));
	return rc == 0 ? op_result_int(c, "dfo_id", o.dfo_id) : rc;
}

const struct op op_dfobject_info = {.name = "dfobject.info", .run = info, .reads = true};
const struct op op_dfobject_create = {.name = "dfobject.create", .run = create};
const struct op op_dfobject_update = {.name = "dfobject.update", .run = update};
const struct op op_dfobject_delete = {.name = "dfobject.delete", .run = delete_feature};
const struct op op_alias_get = {.name = "alias.get", .run = alias_get, .reads = true};
const struct op op_alias_set = {.name = "alias.set", .run = alias_set};
