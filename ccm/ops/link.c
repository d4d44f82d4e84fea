/* link.c - links: the rows that connect one feature of an object with one network application. */
#include "ccm/drive/drive.h"
#include "ccm/ops/project_int.h"
#include "common/util.h"

/* ---- the rules ---- */

/* The sets of tags of two features of models are the same. ret: 1, 0 or negative */
static int same_tags(struct op_call *c, int64_t mf_id, int64_t other_mf_id)
{
	int64_t one;
	if (mf_id == other_mf_id)
		return 1;
	int rc = q_int(
		c->db, &c->err, &one,
		"SELECT 1 WHERE EXISTS (SELECT tag_id FROM DM_DF_Tag WHERE mf_id = $1 EXCEPT SELECT tag_id FROM DM_DF_Tag"
		" WHERE mf_id = $2) OR EXISTS (SELECT tag_id FROM DM_DF_Tag WHERE mf_id = $2 EXCEPT SELECT tag_id"
		" FROM DM_DF_Tag WHERE mf_id = $1)",
		DB_V_INT(mf_id), DB_V_INT(other_mf_id));
	return rc < 0 ? rc : rc == 0;
}

static int check_tags(struct op_call *c, int64_t mf_id, int64_t other_mf_id)
{
	int rc = same_tags(c, mf_id, other_mf_id);
	if (rc == 0)
		return err_set(&c->err, ERR_INVAL, "NetworkApplication should use the Features with the same Tag.");
	return rc < 0 ? rc : 0;
}

int links_check(struct op_call *c, const struct dfobject *list, size_t n)
{
	bool sides[2] = {false, false};
	int rc = 0;
	for (size_t i = 0; i < n; i++)
		sides[list[i].is_output] = true;
	if (!sides[0] || !sides[1])
		return err_set(&c->err, ERR_INVAL, "NetworkApplication needs at least one input and one output.");
	for (size_t i = 1; i < n && rc == 0; i++)
		rc = check_tags(c, list[0].mf_id, list[i].mf_id);
	return rc;
}

/* A new link and one that is there; that those agree among each other was checked before. */
static int check_tags_of_na(struct op_call *c, int64_t na_id, const struct dfobject *o)
{
	int64_t mf_id = 0;
	int rc = q_int(
		c->db, &c->err, &mf_id,
		"SELECT x.mf_id FROM DF_Module m JOIN DFObject f ON f.dfo_id = m.dfo_id"
		" JOIN DeviceObject o ON o.do_id = f.do_id JOIN DM_DF x ON x.dm_id = o.dm_id AND x.df_id = f.df_id"
		" WHERE m.na_id = $1 LIMIT 1",
		DB_V_INT(na_id));
	return rc > 0 ? check_tags(c, mf_id, o->mf_id) : rc;
}

static int is_linked(struct op_call *c, int64_t na_id, int64_t dfo_id)
{
	int64_t one;
	return q_int(c->db, &c->err, &one, "SELECT 1 FROM DF_Module WHERE na_id = $1 AND dfo_id = $2 LIMIT 1", DB_V_INT(na_id),
		     DB_V_INT(dfo_id));
}

/* ---- making ---- */

static int add_param(struct op_call *c, int64_t na_id, int64_t dfo_id, int64_t param_i, const json_t *as)
{
	const char *idf_type = row_str(as, "idf_type");
	int64_t fn_id = row_int(as, "fn_id");
	int seen = fn_id > 0 ? sees_function(c, fn_id) : 0; /* somebody else's default may be private to them */
	if (seen < 0)
		return seen;
	return q_exec(c->db, &c->err,
		      "INSERT INTO DF_Module (na_id, dfo_id, param_i, idf_type, fn_id, min, max, normalization)"
		      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		      DB_V_INT(na_id), DB_V_INT(dfo_id), DB_V_INT(param_i), DB_V_TEXT(idf_type != NULL ? idf_type : "sample"),
		      seen ? DB_V_INT(fn_id) : DB_V_NULL, DB_V_REAL(json_number_value(json_object_get(as, "min"))),
		      DB_V_REAL(json_number_value(json_object_get(as, "max"))),
		      DB_V_INT(json_is_true(json_object_get(as, "normalization"))));
}

/* One for each parameter of the feature: as the model has it, or else the feature itself. */
static int add_params(struct op_call *c, int64_t na_id, const struct dfobject *o)
{
	json_auto_t *model = NULL, *feature = NULL;
	int64_t n = o->param_no > 0 ? o->param_no : 1; /* a link without a row would be none */
	int rc = rows_params(c->db, &c->err, 0, o->mf_id, c->who.u_id, &model);
	if (rc == 0)
		rc = rows_params(c->db, &c->err, o->df_id, 0, c->who.u_id, &feature);
	for (int64_t i = 0; i < n && rc == 0; i++) {
		const json_t *as = params_row(model, i);
		rc = add_param(c, na_id, o->dfo_id, i, as != NULL ? as : params_row(feature, i));
	}
	return rc;
}

int link_add(struct op_call *c, int64_t na_id, const struct dfobject *o)
{
	int rc = is_linked(c, na_id, o->dfo_id);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = add_params(c, na_id, o);
	if (rc == 0 && !o->is_output)
		rc = q_exec(c->db, &c->err,
			    "INSERT INTO MultipleJoin_Module (na_id, param_i, dfo_id, fn_id)"
			    " SELECT $1, coalesce(max(param_i) + 1, 0), $2, max(fn_id) FROM MultipleJoin_Module WHERE na_id = $1",
			    DB_V_INT(na_id), DB_V_INT(o->dfo_id));
	return rc == 0 ? op_then(c, drive_touch, na_id) : rc;
}

/* ---- removing ---- */

struct sides {
	int64_t inputs, outputs;
};

static int on_sides(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(struct sides *)arg = (struct sides){v[0].num, v[1].num};
	return 0;
}

int link_remove(struct op_call *c, int64_t na_id, int64_t dfo_id, bool *ret_gone)
{
	struct sides left = {0, 0};
	int64_t param_i;
	int rc = is_linked(c, na_id, dfo_id);
	if (rc <= 0)
		return rc;
	int was_input = q_int(c->db, &c->err, &param_i,
			      "DELETE FROM MultipleJoin_Module WHERE na_id = $1 AND dfo_id = $2 RETURNING param_i",
			      DB_V_INT(na_id), DB_V_INT(dfo_id));
	if (was_input < 0)
		return was_input;
	rc = q_exec(c->db, &c->err, "DELETE FROM DF_Module WHERE na_id = $1 AND dfo_id = $2", DB_V_INT(na_id), DB_V_INT(dfo_id));
	if (rc == 0)
		rc = db_run(c->db, &c->err, on_sides, &left,
			    "SELECT count(*) FILTER (WHERE d.df_type = 'input'), count(*) FILTER (WHERE d.df_type = 'output')"
			    " FROM DF_Module m JOIN DFObject f ON f.dfo_id = m.dfo_id"
			    " JOIN DeviceFeature d ON d.df_id = f.df_id WHERE m.na_id = $1 AND m.param_i = 0",
			    DB_V_INT(na_id));
	bool gone = left.inputs == 0 || left.outputs == 0;
	if (rc == 0 && gone)
		rc = q_exec(c->db, &c->err, "DELETE FROM NetworkApplication WHERE na_id = $1", DB_V_INT(na_id));
	else if (rc == 0 && was_input && left.inputs == 1)
		rc = join_set(c, na_id, 0); /* one input is joined with nothing */
	if (ret_gone != NULL)
		*ret_gone = gone;
	return rc == 0 ? op_then(c, drive_touch, na_id) : rc;
}

/* ---- changing ---- */

static struct db_value number(const json_t *values, const char *name)
{
	const json_t *v = json_object_get(values, name);
	return json_is_number(v) ? DB_V_REAL(json_number_value(v)) : DB_V_NULL;
}

int link_set(struct op_call *c, int64_t na_id, int64_t dfo_id, int64_t param_i, const json_t *values)
{
	const json_t *normalization = json_object_get(values, "normalization");
	int64_t fn_id = row_int(values, "fn_id"), one;
	return q_int(c->db, &c->err, &one,
		     "UPDATE DF_Module SET idf_type = coalesce($1, idf_type), fn_id = CASE WHEN $2 = 1 THEN $3 ELSE fn_id END,"
		     " min = coalesce($4, min), max = coalesce($5, max), normalization = coalesce($6, normalization)"
		     " WHERE na_id = $7 AND dfo_id = $8 AND param_i = $9 RETURNING 1",
		     DB_V_TEXT(row_str(values, "idf_type")), DB_V_INT(json_object_get(values, "fn_id") != NULL),
		     fn_id > 0 ? DB_V_INT(fn_id) : DB_V_NULL, number(values, "min"), number(values, "max"),
		     json_is_boolean(normalization) ? DB_V_INT(json_is_true(normalization)) : DB_V_NULL, DB_V_INT(na_id),
		     DB_V_INT(dfo_id), DB_V_INT(param_i));
}

int join_set(struct op_call *c, int64_t na_id, int64_t fn_id)
{
	return q_exec(c->db, &c->err, "UPDATE MultipleJoin_Module SET fn_id = $1 WHERE na_id = $2",
		      fn_id > 0 ? DB_V_INT(fn_id) : DB_V_NULL, DB_V_INT(na_id));
}

/* ---- operations ---- */

/* na_id and dfo_id are of one project of the caller's. */
static int both(struct op_call *c, int64_t *ret_na_id, struct dfobject *ret_o)
{
	int64_t p_id = 0, na_id = op_int(c, "na_id"), dfo_id = op_int(c, "dfo_id");
	int rc = own_na(c, na_id, &p_id);
	if (rc == 0)
		rc = own_dfobject(c, dfo_id, ret_o);
	if (rc == 0 && ret_o->p_id != p_id)
		rc = err_set(&c->err, ERR_NOENT, "Device Feature Object id %lld not found", (long long)dfo_id);
	*ret_na_id = na_id;
	return rc;
}

static int create(struct op_call *c)
{
	struct dfobject o;
	int64_t na_id;
	int rc = both(c, &na_id, &o);
	if (rc == 0)
		rc = check_tags_of_na(c, na_id, &o);
	if (rc == 0)
		rc = link_add(c, na_id, &o);
	return rc == 0 ? op_result_int(c, "na_id", na_id) : rc;
}

static int delete_link(struct op_call *c)
{
	struct dfobject o;
	int64_t na_id;
	bool gone = false;
	int rc = both(c, &na_id, &o);
	if (rc == 0)
		rc = link_remove(c, na_id, o.dfo_id, &gone);
	if (rc < 0)
		return rc;
	return gone ? op_result(c, json_null()) : op_result_int(c, "na_id", na_id);
}

const struct op op_link_create = {.name = "link.create", .run = create};
const struct op op_link_delete = {.name = "link.delete", .run = delete_link};
