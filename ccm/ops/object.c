/* object.c - device objects: a model placed in a project, with some of its features. */
#include "ccm/drive/drive.h"
#include "ccm/ops/project_int.h"
#include "ccm/sim/sim.h"
#include "common/util.h"
#include <string.h>

static const struct column id_column[] = {{"id", COL_INT}, {0}};

/* ---- what several operations do ---- */

int dfobject_insert(struct op_call *c, int64_t do_id, int64_t df_id, const char *alias_name, int64_t *ret_dfo_id)
{
	int rc = q_int(c->db, &c->err, ret_dfo_id,
		       "INSERT INTO DFObject (do_id, df_id, alias_name) VALUES ($1, $2, $3) RETURNING dfo_id", DB_V_INT(do_id),
		       DB_V_INT(df_id), DB_V_TEXT(alias_name));
	return rc < 0 ? rc : 0;
}

int dfobject_remove(struct op_call *c, int64_t dfo_id)
{
	json_auto_t *links = NULL;
	int rc = q_rows(c->db, &c->err, id_column, &links, "SELECT DISTINCT na_id FROM DF_Module WHERE dfo_id = $1",
			DB_V_INT(dfo_id));
	for (size_t i = 0; rc == 0 && i < json_array_size(links); i++)
		rc = link_remove(c, row_int(json_array_get(links, i), "id"), dfo_id, NULL);
	return rc == 0 ? q_exec(c->db, &c->err, "DELETE FROM DFObject WHERE dfo_id = $1", DB_V_INT(dfo_id)) : rc;
}

int object_remove(struct op_call *c, const struct object *o)
{
	json_auto_t *features = NULL;
	int rc = q_rows(c->db, &c->err, id_column, &features, "SELECT dfo_id FROM DFObject WHERE do_id = $1", DB_V_INT(o->do_id));
	for (size_t i = 0; rc == 0 && i < json_array_size(features); i++)
		rc = dfobject_remove(c, row_int(json_array_get(features, i), "id"));
	return rc == 0 ? q_exec(c->db, &c->err, "DELETE FROM DeviceObject WHERE do_id = $1", DB_V_INT(o->do_id)) : rc;
}

int object_touch(struct op_call *c, const struct object *o)
{
	int rc = op_then_each(c, drive_touch,
			      "SELECT DISTINCT m.na_id FROM DFObject f JOIN DF_Module m ON m.dfo_id = f.dfo_id WHERE f.do_id = $1",
			      o->do_id);
	return rc == 0 ? op_then(c, sim_touch, o->p_id) : rc;
}

int object_allows_output(struct op_call *c, int64_t d_id)
{
	int64_t owner = 0;
	if (d_id == 0)
		return 0;
	int rc = q_int(c->db, &c->err, &owner, "SELECT u_id FROM Device WHERE d_id = $1", DB_V_INT(d_id));
	if (rc < 0)
		return rc;
	return owner == c->who.u_id ? 0 : err_set(&c->err, ERR_INVAL, "The binded device cannot be use for odf");
}

/* ---- the list `df` ---- */

/* One element, a df_id or a df_name, must be a feature of the model. ret_row: {df_id, df_name, df_type}, yours. */
static int feature_of(struct op_call *c, int64_t dm_id, const json_t *given, json_t **ret_row)
{
	static const struct column columns[] = {{"df_id", COL_INT}, {"df_name", COL_TEXT}, {"df_type", COL_TEXT}, {0}};
#define FEATURE \
	"SELECT d.df_id, d.df_name, d.df_type FROM DM_DF x JOIN DeviceFeature d ON d.df_id = x.df_id WHERE x.dm_id = $1 AND "
	const char *name = json_string_value(given);
	int64_t df_id = json_integer_value(given);
	int rc = name != NULL
			 ? q_row(c->db, &c->err, columns, ret_row, FEATURE "d.df_name = $2", DB_V_INT(dm_id), DB_V_TEXT(name))
			 : q_row(c->db, &c->err, columns, ret_row, FEATURE "d.df_id = $2", DB_V_INT(dm_id), DB_V_INT(df_id));
	if (rc == 0 && name != NULL)
		return err_set(&c->err, ERR_NOENT, "Device Feature \"%s\" not found", name);
	return rc == 0 ? err_set(&c->err, ERR_NOENT, "Device Feature id %lld not found", (long long)df_id) : rc < 0 ? rc : 0;
#undef FEATURE
}

static bool holds(const json_t *rows, int64_t df_id)
{
	size_t i;
	const json_t *row;
	json_array_foreach (rows, i, row)
		if (row_int(row, "df_id") == df_id)
			return true;
	return false;
}

/* ret_rows: all of the list, yours */
static int features_of(struct op_call *c, int64_t dm_id, json_t **ret_rows, bool *ret_output)
{
	const json_t *given = json_object_get(c->args, "df"), *one;
	json_auto_t *rows = json_array();
	size_t i;
	json_array_foreach (given, i, one) {
		json_auto_t *row = NULL;
		int rc = feature_of(c, dm_id, one, &row);
		if (rc < 0)
			return rc;
		if (holds(rows, row_int(row, "df_id")))
			return err_set(&c->err, ERR_INVAL, "Device Feature \"%s\" is given twice", row_str(row, "df_name"));
		*ret_output |= strcmp(row_str(row, "df_type"), "output") == 0;
		if (json_array_append(rows, row) < 0)
			return err_set(&c->err, ERR_NOMEM, "features");
	}
	*ret_rows = TAKE(rows);
	return *ret_rows != NULL ? 0 : err_set(&c->err, ERR_NOMEM, "features");
}

static int add_features(struct op_call *c, int64_t do_id, const json_t *features, const json_t *except)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < json_array_size(features); i++) {
		const json_t *f = json_array_get(features, i);
		int64_t dfo_id;
		if (!holds(except, row_int(f, "df_id")))
			rc = dfobject_insert(c, do_id, row_int(f, "df_id"), row_str(f, "df_name"), &dfo_id);
	}
	return rc;
}

/* ---- operations ---- */

static int create(struct op_call *c)
{
	json_auto_t *features = NULL;
	int64_t p_id = op_int(c, "p_id"), dm_id = op_int(c, "dm_id"), one, do_id = 0;
	bool output = false;
	int rc = own_project(c, p_id);
	if (rc < 0)
		return rc;
	rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM DeviceModel WHERE dm_id = $1", DB_V_INT(dm_id));
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Device Model id \"%lld\" not found", (long long)dm_id);
	if (rc < 0 || (rc = features_of(c, dm_id, &features, &output)) < 0)
		return rc;
	if (json_array_size(features) == 0)
		return err_set(&c->err, ERR_INVAL, "Feature list cannot be empty");
	rc = q_int(c->db, &c->err, &do_id, "INSERT INTO DeviceObject (dm_id, p_id) VALUES ($1, $2) RETURNING do_id",
		   DB_V_INT(dm_id), DB_V_INT(p_id));
	if (rc < 0 || (rc = add_features(c, do_id, features, NULL)) < 0 || (rc = op_then(c, sim_touch, p_id)) < 0)
		return rc;
	return op_result_int(c, "do_id", do_id);
}

static int update(struct op_call *c)
{
	static const struct column columns[] = {{"dfo_id", COL_INT}, {"df_id", COL_INT}, {0}};
	json_auto_t *wanted = NULL, *there = NULL;
	struct object o;
	bool output = false;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc < 0 || (rc = features_of(c, o.dm_id, &wanted, &output)) < 0 ||
	    (rc = q_rows(c->db, &c->err, columns, &there, "SELECT dfo_id, df_id FROM DFObject WHERE do_id = $1",
			 DB_V_INT(o.do_id))) < 0 ||
	    (output && (rc = object_allows_output(c, o.d_id)) < 0))
		return rc;
	for (size_t i = 0; rc == 0 && i < json_array_size(there); i++) {
		const json_t *f = json_array_get(there, i);
		if (!holds(wanted, row_int(f, "df_id")))
			rc = dfobject_remove(c, row_int(f, "dfo_id"));
	}
	if (rc == 0)
		rc = json_array_size(wanted) == 0 ? object_remove(c, &o) : add_features(c, o.do_id, wanted, there);
	if (rc == 0)
		rc = op_then(c, sim_touch, o.p_id);
	return rc == 0 ? op_result_int(c, "do_id", o.do_id) : rc;
}

static int delete_object(struct op_call *c)
{
	struct object o;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc == 0)
		rc = object_remove(c, &o);
	if (rc == 0)
		rc = op_then(c, sim_touch, o.p_id);
	return rc == 0 ? op_result_int(c, "do_id", o.do_id) : rc;
}

const struct op op_object_create = {.name = "object.create", .run = create};
const struct op op_object_update = {.name = "object.update", .run = update};
const struct op op_object_delete = {.name = "object.delete", .run = delete_object};
