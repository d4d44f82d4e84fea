/* own.c - whether a thing is there for the caller: below the parents that are named, in a project of its own. */
#include "ccm/ops/project_int.h"
#include "common/util.h"

static int missing(struct op_call *c, const char *what, int64_t id)
{
	return err_set(&c->err, ERR_NOENT, "%s %lld not found", what, (long long)id);
}

/* Is it below the parent that the arguments name, if they name one? */
static bool below(const struct op_call *c, const char *parent, int64_t id)
{
	return !op_has(c, parent) || op_int(c, parent) == id;
}

int own_project(struct op_call *c, int64_t p_id)
{
	int64_t one;
	int rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM Project WHERE p_id = $1 AND u_id = $2", DB_V_INT(p_id),
		       DB_V_INT(c->who.u_id));
	return rc == 0 ? missing(c, "project", p_id) : rc < 0 ? rc : 0;
}

int own_object(struct op_call *c, int64_t do_id, struct object *ret)
{
	static const struct column columns[] = {{"p_id", COL_INT}, {"dm_id", COL_INT}, {"d_id", COL_INT}, {0}};
	json_auto_t *row = NULL;
	int rc = q_row(c->db, &c->err, columns, &row,
		       "SELECT o.p_id, o.dm_id, o.d_id FROM DeviceObject o JOIN Project p ON p.p_id = o.p_id"
		       " WHERE o.do_id = $1 AND p.u_id = $2",
		       DB_V_INT(do_id), DB_V_INT(c->who.u_id));
	if (rc < 0)
		return rc;
	if (rc == 0 || !below(c, "p_id", row_int(row, "p_id")))
		return missing(c, "Device Object id", do_id);
	*ret = (struct object){do_id, row_int(row, "p_id"), row_int(row, "dm_id"), row_int(row, "d_id")};
	return 0;
}

int own_dfobject(struct op_call *c, int64_t dfo_id, struct dfobject *ret)
{
	static const struct column columns[] = {{"do_id", COL_INT},    {"p_id", COL_INT},      {"df_id", COL_INT},
						{"dm_id", COL_INT},    {"mf_id", COL_INT},     {"d_id", COL_INT},
						{"param_no", COL_INT}, {"is_output", COL_INT}, {0}};
	json_auto_t *row = NULL;
	int rc = q_row(
		c->db, &c->err, columns, &row,
		"SELECT f.do_id, o.p_id, f.df_id, o.dm_id, x.mf_id, o.d_id, d.param_no, d.df_type = 'output'"
		" FROM DFObject f JOIN DeviceObject o ON o.do_id = f.do_id JOIN Project p ON p.p_id = o.p_id"
		" JOIN DeviceFeature d ON d.df_id = f.df_id LEFT JOIN DM_DF x ON x.dm_id = o.dm_id AND x.df_id = f.df_id"
		" WHERE f.dfo_id = $1 AND p.u_id = $2",
		DB_V_INT(dfo_id), DB_V_INT(c->who.u_id));
	if (rc < 0)
		return rc;
	if (rc == 0 || !below(c, "p_id", row_int(row, "p_id")) || !below(c, "do_id", row_int(row, "do_id")))
		return missing(c, "Device Feature Object id", dfo_id);
	*ret = (struct dfobject){
		.dfo_id = dfo_id,
		.do_id = row_int(row, "do_id"),
		.p_id = row_int(row, "p_id"),
		.df_id = row_int(row, "df_id"),
		.dm_id = row_int(row, "dm_id"),
		.mf_id = row_int(row, "mf_id"),
		.d_id = row_int(row, "d_id"),
		.param_no = row_int(row, "param_no"),
		.is_output = row_int(row, "is_output") != 0,
	};
	return 0;
}

int own_na(struct op_call *c, int64_t na_id, int64_t *ret_p_id)
{
	int64_t p_id = 0;
	int rc = q_int(
		c->db, &c->err, &p_id,
		"SELECT n.p_id FROM NetworkApplication n JOIN Project p ON p.p_id = n.p_id WHERE n.na_id = $1 AND p.u_id = $2",
		DB_V_INT(na_id), DB_V_INT(c->who.u_id));
	if (rc < 0)
		return rc;
	if (rc == 0 || !below(c, "p_id", p_id))
		return err_set(&c->err, ERR_NOENT, "NetworkApplication not find.");
	*ret_p_id = p_id;
	return 0;
}

int sees_function(struct op_call *c, int64_t fn_id)
{
	int64_t one;
	return q_int(c->db, &c->err, &one,
		     "SELECT 1 FROM FunctionVersion WHERE fn_id = $1 AND (u_id IS NULL OR u_id = $2) LIMIT 1", DB_V_INT(fn_id),
		     DB_V_INT(c->who.u_id));
}

int own_function(struct op_call *c, int64_t fn_id)
{
	int rc = sees_function(c, fn_id);
	return rc == 0 ? missing(c, "Function id", fn_id) : rc < 0 ? rc : 0;
}

int project_name_is_free(struct op_call *c, const char *name, int64_t p_id, const char *text)
{
	int64_t other = 0;
	int rc = q_int(c->db, &c->err, &other, "SELECT p_id FROM Project WHERE u_id = $1 AND p_name = $2", DB_V_INT(c->who.u_id),
		       DB_V_TEXT(name));
	if (rc < 0)
		return rc;
	return rc > 0 && other != p_id ? err_set(&c->err, ERR_EXIST, "%s", text) : 0;
}
