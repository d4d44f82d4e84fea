/* project_info.c - a project with all that is in it, in a few statements however large it is. */
#include "ccm/ops/project_int.h"
#include "common/util.h"
#include <string.h>

int na_summaries(struct op_call *c, int64_t p_id, json_t **ret)
{
	static const struct column columns[] = {{"na_id", COL_INT}, {"dfo_id", COL_INT}, {"df_type", COL_TEXT}, {0}};
	json_auto_t *list = NULL, *links = NULL;
	int64_t selected = 0;
	int rc = lines_selected(c, p_id, &selected);
	if (rc == 0)
		rc = q_rows(c->db, &c->err, row_na, &list,
			    "SELECT " ROW_NA " FROM NetworkApplication WHERE p_id = $1 ORDER BY na_idx", DB_V_INT(p_id));
	if (rc == 0)
		rc = q_rows(c->db, &c->err, columns, &links,
			    "SELECT m.na_id, m.dfo_id, d.df_type FROM NetworkApplication n"
			    " JOIN DF_Module m ON m.na_id = n.na_id AND m.param_i = 0"
			    " JOIN DFObject f ON f.dfo_id = m.dfo_id JOIN DeviceFeature d ON d.df_id = f.df_id"
			    " WHERE n.p_id = $1 ORDER BY n.na_idx, f.do_id, d.df_name",
			    DB_V_INT(p_id));
	/* both are in the order of na_idx */
	for (size_t i = 0, k = 0; rc == 0 && i < json_array_size(list); i++) {
		json_t *na = json_array_get(list, i), *sides[] = {json_array(), json_array()};
		int64_t na_id = row_int(na, "na_id");
		for (; rc == 0 && row_int(json_array_get(links, k), "na_id") == na_id; k++) {
			json_t *link = json_array_get(links, k);
			bool output = strcmp(row_str(link, "df_type"), "output") == 0;
			json_object_del(link, "na_id");
			if (json_object_set_new(link, "color", json_string(na_id == selected ? "red" : "black")) < 0 ||
			    json_array_append(sides[output], link) < 0)
				rc = err_set(&c->err, ERR_NOMEM, "links");
		}
		int failed = json_object_set_new(na, "input", sides[0]);
		failed |= json_object_set_new(na, "output", sides[1]);
		if (failed)
			rc = err_set(&c->err, ERR_NOMEM, "links");
	}
	if (rc == 0)
		*ret = TAKE(list);
	return rc;
}

/* Of one feature's row: the fields of the object that it is on, and those of its own. */
static json_t *object_of(json_t *row)
{
	return json_pack("{s:O, s:O, s:O, s:O, s:O, s:O, s:[]}", "do_id", json_object_get(row, "do_id"), "d_id",
			 json_object_get(row, "d_id"), "dm_id", json_object_get(row, "dm_id"), "dm_name",
			 json_object_get(row, "dm_name"), "d_name", json_object_get(row, "d_name"), "status",
			 json_object_get(row, "status"), "dfo");
}

static json_t *feature_of(json_t *row)
{
	return json_pack("{s:O, s:O, s:O, s:O, s:O}", "dfo_id", json_object_get(row, "dfo_id"), "df_id",
			 json_object_get(row, "df_id"), "alias_name", json_object_get(row, "alias_name"), "df_type",
			 json_object_get(row, "df_type"), "src", json_object_get(row, "src"));
}

/* To the last object of a list, or to a new one. ret: 0 or negative */
static int add_to(json_t *list, json_t *row)
{
	json_t *last = json_array_get(list, json_array_size(list) - 1);
	if (last == NULL || row_int(last, "do_id") != row_int(row, "do_id")) {
		last = object_of(row);
		if (json_array_append_new(list, last) < 0)
			return ERR_NOMEM;
	}
	return json_array_append_new(json_object_get(last, "dfo"), feature_of(row));
}

static int objects(struct op_call *c, int64_t p_id, json_t *inputs, json_t *outputs)
{
	static const struct column columns[] = {{"do_id", COL_INT},    {"d_id", COL_INT},    {"dm_id", COL_INT},
						{"dm_name", COL_TEXT}, {"d_name", COL_TEXT}, {"status", COL_TEXT},
						{"dfo_id", COL_INT},   {"df_id", COL_INT},   {"alias_name", COL_TEXT},
						{"df_type", COL_TEXT}, {"src", COL_TEXT},    {0}};
	json_auto_t *rows = NULL;
	int rc = q_rows(
		c->db, &c->err, columns, &rows,
		"SELECT o.do_id, o.d_id, o.dm_id, m.dm_name, v.d_name, v.status, f.dfo_id, f.df_id, f.alias_name, d.df_type,"
		" (SELECT '/static/images/ec_icon/' || upper(substr(t.tag_name, 1, 1)) || '.png' FROM DM_DF x"
		" JOIN DM_DF_Tag g ON g.mf_id = x.mf_id JOIN Tag t ON t.tag_id = g.tag_id WHERE x.dm_id = o.dm_id"
		" AND x.df_id = f.df_id ORDER BY g.mft_id LIMIT 1) FROM DeviceObject o"
		" JOIN DeviceModel m ON m.dm_id = o.dm_id LEFT JOIN Device v ON v.d_id = o.d_id AND v.is_sim = 0"
		" JOIN DFObject f ON f.do_id = o.do_id JOIN DeviceFeature d ON d.df_id = f.df_id WHERE o.p_id = $1"
		" ORDER BY o.do_id, d.df_name",
		DB_V_INT(p_id));
	for (size_t i = 0; rc == 0 && i < json_array_size(rows); i++) {
		json_t *row = json_array_get(rows, i);
		if (add_to(strcmp(row_str(row, "df_type"), "output") == 0 ? outputs : inputs, row) < 0)
			rc = err_set(&c->err, ERR_NOMEM, "device objects");
	}
	return rc;
}

/* p_id, or p_name of the caller. */
static int row_of(struct op_call *c, json_t **ret)
{
	const char *name = op_str(c, "p_name");
	int64_t p_id = op_int(c, "p_id");
	int rc = name != NULL ? q_row(c->db, &c->err, row_project, ret,
				      "SELECT " ROW_PROJECT " FROM Project WHERE u_id = $1 AND p_name = $2",
				      DB_V_INT(c->who.u_id), DB_V_TEXT(name))
			      : q_row(c->db, &c->err, row_project, ret,
				      "SELECT " ROW_PROJECT " FROM Project WHERE u_id = $1 AND p_id = $2", DB_V_INT(c->who.u_id),
				      DB_V_INT(p_id));
	if (rc == 0 && name != NULL)
		return err_set(&c->err, ERR_NOENT, "project %s not found", name);
	return rc == 0 ? err_set(&c->err, ERR_NOENT, "project %lld not found", (long long)p_id) : rc < 0 ? rc : 0;
}

static int info(struct op_call *c)
{
	json_auto_t *project = NULL, *nas = NULL, *inputs = json_array(), *outputs = json_array();
	int rc = row_of(c, &project);
	int64_t p_id = row_int(project, "p_id");
	if (rc == 0)
		rc = na_summaries(c, p_id, &nas);
	if (rc == 0)
		rc = objects(c, p_id, inputs, outputs);
	if (rc < 0)
		return rc;
	if (json_object_set(project, "na", nas) < 0 || json_object_set(project, "ido", inputs) < 0 ||
	    json_object_set(project, "odo", outputs) < 0)
		return err_set(&c->err, ERR_NOMEM, "project");
	return op_result(c, TAKE(project));
}

const struct op op_project_info = {.name = "project.info", .run = info, .reads = true};
