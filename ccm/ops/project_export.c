/* project_export.c - a project as a document (spec ccm 6). Ids in it are references within it, and nothing else. */
#include "ccm/ops/project_int.h"
#include "common/util.h"
#include <stdio.h>

struct id_text {
	char s[24];
};

static struct id_text id_text(int64_t id)
{
	struct id_text text;
	snprintf(text.s, sizeof(text.s), "%lld", (long long)id);
	return text;
}

static int no_memory(struct op_call *c)
{
	return err_set(&c->err, ERR_NOMEM, "document");
}

/* ---- DeviceObject ---- */

static json_t *object_of(const json_t *row)
{
	return json_pack("{s:O, s:O, s:{}}", "dm_name", json_object_get(row, "dm_name"), "do_idx", json_object_get(row, "do_idx"),
			 "dfo");
}

static json_t *feature_of(const json_t *row)
{
	return json_pack("{s:O, s:O}", "df_name", json_object_get(row, "df_name"), "alias_name",
			 json_object_get(row, "alias_name"));
}

static int objects(struct op_call *c, int64_t p_id, json_t *ret)
{
	static const struct column columns[] = {{"do_id", COL_INT},  {"dm_name", COL_TEXT}, {"do_idx", COL_INT},
						{"dfo_id", COL_INT}, {"df_name", COL_TEXT}, {"alias_name", COL_TEXT}, {0}};
	json_auto_t *rows = NULL;
	int rc = q_rows(c->db, &c->err, columns, &rows,
			"SELECT o.do_id, m.dm_name, o.do_idx, f.dfo_id, d.df_name, f.alias_name FROM DeviceObject o"
			" JOIN DeviceModel m ON m.dm_id = o.dm_id JOIN DFObject f ON f.do_id = o.do_id"
			" JOIN DeviceFeature d ON d.df_id = f.df_id WHERE o.p_id = $1 ORDER BY o.do_id, d.df_name",
			DB_V_INT(p_id));
	for (size_t i = 0; rc == 0 && i < json_array_size(rows); i++) {
		const json_t *row = json_array_get(rows, i);
		struct id_text do_id = id_text(row_int(row, "do_id")), dfo_id = id_text(row_int(row, "dfo_id"));
		json_t *object = json_object_get(ret, do_id.s);
		if (object == NULL) {
			object = object_of(row);
			if (json_object_set_new(ret, do_id.s, object) < 0)
				return no_memory(c);
		}
		if (json_object_set_new(json_object_get(object, "dfo"), dfo_id.s, feature_of(row)) < 0)
			return no_memory(c);
	}
	return rc;
}

/* ---- NetworkApplication ---- */

/* Append rows of several applications, each with its na_id, to lists of those. nas: in the same order, each with its na_id. */
static int hand_out(struct op_call *c, json_t *nas, const char *key, json_t *rows)
{
	size_t i, k = 0;
	json_t *na;
	json_array_foreach (nas, i, na) {
		json_t *row, *list = json_array();
		for (; (row = json_array_get(rows, k)) != NULL && row_int(row, "na_id") == row_int(na, "na_id"); k++) {
			json_object_del(row, "na_id");
			if (json_array_append(list, row) < 0) {
				json_decref(list);
				return no_memory(c);
			}
		}
		if (json_object_set_new(na, key, list) < 0)
			return no_memory(c);
	}
	return 0;
}

static int applications(struct op_call *c, int64_t p_id, json_t **ret)
{
	static const struct column na_columns[] = {{"na_id", COL_INT}, {"na_name", COL_TEXT}, {"na_idx", COL_INT}, {0}};
	static const struct column module_columns[] = {{"na_id", COL_INT},          {"dfo_id", COL_INT},   {"param_i", COL_INT},
						       {"idf_type", COL_TEXT},      {"min", COL_REAL},     {"max", COL_REAL},
						       {"normalization", COL_BOOL}, {"fn_name", COL_TEXT}, {0}};
	static const struct column join_columns[] = {
		{"na_id", COL_INT}, {"param_i", COL_INT}, {"dfo_id", COL_INT}, {"fn_name", COL_TEXT}, {0}};
	json_auto_t *nas = NULL, *modules = NULL, *joins = NULL;
	int rc = q_rows(c->db, &c->err, na_columns, &nas,
			"SELECT na_id, na_name, na_idx FROM NetworkApplication WHERE p_id = $1 ORDER BY na_idx", DB_V_INT(p_id));
	if (rc < 0 ||
	    (rc = q_rows(c->db, &c->err, module_columns, &modules,
			 "SELECT n.na_id, m.dfo_id, m.param_i, m.idf_type, m.min, m.max, m.normalization, f.fn_name"
			 " FROM NetworkApplication n JOIN DF_Module m ON m.na_id = n.na_id"
			 " LEFT JOIN Function f ON f.fn_id = m.fn_id WHERE n.p_id = $1 ORDER BY n.na_idx, m.dfo_id, m.param_i",
			 DB_V_INT(p_id))) < 0 ||
	    (rc = q_rows(c->db, &c->err, join_columns, &joins,
			 "SELECT n.na_id, m.param_i, m.dfo_id, f.fn_name FROM NetworkApplication n"
			 " JOIN MultipleJoin_Module m ON m.na_id = n.na_id LEFT JOIN Function f ON f.fn_id = m.fn_id"
			 " WHERE n.p_id = $1 ORDER BY n.na_idx, m.param_i",
			 DB_V_INT(p_id))) < 0 ||
	    (rc = hand_out(c, nas, "DF_Module", modules)) < 0 || (rc = hand_out(c, nas, "MultipleJoin_Module", joins)) < 0)
		return rc;
	for (size_t i = 0; i < json_array_size(nas); i++)
		json_object_del(json_array_get(nas, i), "na_id");
	*ret = TAKE(nas);
	return 0;
}

/* ---- Function ---- */

/* The code of those that are used, as the caller's newest version has it. */
static int functions(struct op_call *c, int64_t p_id, json_t **ret)
{
	static const struct column columns[] = {{"fn_name", COL_TEXT}, {"code", COL_TEXT}, {0}};
	return q_rows(
		c->db, &c->err, columns, ret,
		"SELECT f.fn_name, v.code FROM Function f JOIN FunctionVersion v ON v.fnvt_idx = (SELECT max(w.fnvt_idx)"
		" FROM FunctionVersion w WHERE w.fn_id = f.fn_id AND (w.u_id IS NULL OR w.u_id = $1))"
		" WHERE f.fn_id IN (SELECT m.fn_id FROM NetworkApplication n JOIN DF_Module m ON m.na_id = n.na_id"
		" WHERE n.p_id = $2 UNION SELECT m.fn_id FROM NetworkApplication n"
		" JOIN MultipleJoin_Module m ON m.na_id = n.na_id WHERE n.p_id = $2) ORDER BY f.fn_name",
		DB_V_INT(c->who.u_id), DB_V_INT(p_id));
}

static int export(struct op_call *c)
{
	CLEANUP(freep) char *name = NULL;
	json_auto_t *object_list = json_object(), *nas = NULL, *code = NULL;
	int64_t p_id = op_int(c, "p_id");
	bool with_code = json_is_true(json_object_get(c->args, "functions"));
	int rc = own_project(c, p_id);
	if (rc < 0 || (rc = q_text(c->db, &c->err, &name, "SELECT p_name FROM Project WHERE p_id = $1", DB_V_INT(p_id))) < 0 ||
	    (rc = objects(c, p_id, object_list)) < 0 || (rc = applications(c, p_id, &nas)) < 0 ||
	    (with_code && (rc = functions(c, p_id, &code)) < 0))
		return rc;
	return op_result(c, json_pack("{s:{s:s, s:O, s:O}, s:O*}", "project", "p_name", name, "DeviceObject", object_list,
				      "NetworkApplication", nas, "Function", code));
}

const struct op op_project_export = {.name = "project.export", .run = export, .reads = true};
