/* na_info.c - network applications as they are shown. */
#include "ccm/drive/drive.h"
#include "ccm/ops/function.h"
#include "ccm/ops/project_int.h"
#include "common/util.h"
#include <string.h>

/* One row for each link of $1, in the order of the original: by object, then by the feature's name. */
#define LINKS                                                                                                     \
	" FROM DF_Module m JOIN DFObject f ON f.dfo_id = m.dfo_id JOIN DeviceObject o ON o.do_id = f.do_id"       \
	" JOIN DeviceModel dm ON dm.dm_id = o.dm_id JOIN DeviceFeature d ON d.df_id = f.df_id"                    \
	" LEFT JOIN Device v ON v.d_id = o.d_id WHERE m.na_id = $1 AND m.param_i = 0 ORDER BY f.do_id, d.df_name"

/* Give each link, by its df_type, to `input` or `output` of the result. */
static int give_sides(struct op_call *c, json_t *result, const json_t *links)
{
	json_t *sides[] = {json_array(), json_array()};
	size_t i;
	json_t *link;
	int rc = 0;
	json_array_foreach (links, i, link)
		rc |= json_array_append(sides[strcmp(row_str(link, "df_type"), "output") == 0], link);
	rc |= json_object_set_new(result, "input", sides[0]);
	rc |= json_object_set_new(result, "output", sides[1]);
	return rc == 0 ? 0 : err_set(&c->err, ERR_NOMEM, "links");
}

/* ---- one of them ---- */

/* link: add fn_list and dfmp. modules: all rows of the application. */
static int add_details(struct op_call *c, json_t *link, const json_t *modules)
{
	json_t *functions = NULL, *params = json_array(), *row;
	size_t i;
	int rc = functions_offered(c->db, &c->err, row_int(link, "df_id"), c->who.u_id, &functions);
	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	rc = json_object_set_new(link, "fn_list", functions);
	json_array_foreach (modules, i, row)
		if (row_int(row, "dfo_id") == row_int(link, "dfo_id"))
			rc |= json_array_append(params, row);
	rc |= json_object_set_new(link, "dfmp", params);
	return rc == 0 ? 0 : err_set(&c->err, ERR_NOMEM, "links");
}

static int colour(struct op_call *c, const json_t *modules, bool red)
{
	size_t i;
	json_t *row;
	json_array_foreach (modules, i, row)
		if (json_object_set_new(row, "color", json_string(red ? "red" : "black")) < 0)
			return err_set(&c->err, ERR_NOMEM, "links");
	return 0;
}

static int make_info(struct op_call *c, int64_t na_id, int64_t p_id, json_t **ret)
{
	static const struct column columns[] = {
		{"dfo_id", COL_INT},   {"alias_name", COL_TEXT}, {"df_id", COL_INT},     {"df_type", COL_TEXT},
		{"df_name", COL_TEXT}, {"dm_name", COL_TEXT},    {"mac_addr", COL_TEXT}, {0}};
	json_auto_t *na = NULL, *functions = NULL, *links = NULL, *modules = NULL, *joins = NULL;
	int64_t selected = 0;
	const struct db_value of = DB_V_INT(na_id);
	int rc = q_row(c->db, &c->err, row_na, &na, "SELECT " ROW_NA " FROM NetworkApplication WHERE na_id = $1", of);
	if (rc < 0 || (rc = functions_offered(c->db, &c->err, 0, c->who.u_id, &functions)) < 0 ||
	    (rc = lines_selected(c, p_id, &selected)) < 0 ||
	    (rc = q_rows(c->db, &c->err, columns, &links,
			 "SELECT f.dfo_id, f.alias_name, f.df_id, d.df_type, d.df_name, dm.dm_name, v.mac_addr" LINKS,
			 of)) < 0 ||
	    (rc = q_rows(c->db, &c->err, row_module, &modules,
			 "SELECT " ROW_MODULE " FROM DF_Module WHERE na_id = $1 ORDER BY dfo_id, param_i", of)) < 0 ||
	    (rc = q_rows(c->db, &c->err, row_join, &joins,
			 "SELECT " ROW_JOIN " FROM MultipleJoin_Module WHERE na_id = $1 ORDER BY param_i", of)) < 0 ||
	    (rc = colour(c, modules, selected == na_id)) < 0)
		return rc;
	for (size_t i = 0; i < json_array_size(links); i++)
		if ((rc = add_details(c, json_array_get(links, i), modules)) < 0)
			return rc;
	if (json_object_set(na, "fn_list", functions) < 0 || json_object_set(na, "multiple", joins) < 0)
		return err_set(&c->err, ERR_NOMEM, "network application");
	rc = give_sides(c, na, links);
	if (rc == 0)
		*ret = TAKE(na);
	return rc;
}

static int info(struct op_call *c)
{
	json_auto_t *na = NULL;
	int64_t na_id = op_int(c, "na_id"), p_id = 0;
	int rc = own_na(c, na_id, &p_id);
	if (rc == 0)
		rc = make_info(c, na_id, p_id, &na);
	if (rc == 0)
		rc = lines_select(c, p_id, na_id); /* its lines are red from now on, and what was made says what they were */
	return rc == 0 ? op_result(c, TAKE(na)) : rc;
}

static int info_or_null(struct op_call *c)
{
	int rc = info(c);
	return rc == ERR_NOENT ? op_result(c, json_null()) : rc;
}

/* ---- all of a project ---- */

static int list_as(struct op_call *c, const char *key)
{
	json_t *list = NULL;
	int64_t p_id = op_int(c, "p_id");
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = na_summaries(c, p_id, &list);
	return rc == 0 ? op_result(c, json_pack("{s:I, s:o}", "p_id", (json_int_t)p_id, key, list)) : rc;
}

static int list(struct op_call *c)
{
	return list_as(c, "data");
}

static int list_gui(struct op_call *c)
{
	return list_as(c, "na");
}

/* ---- what its monitor will tell of ---- */

static int monitored(struct op_call *c)
{
	static const struct column columns[] = {{"dfo_id", COL_INT},   {"alias_name", COL_TEXT}, {"df_type", COL_TEXT},
						{"df_name", COL_TEXT}, {"param_no", COL_INT},	 {"mac_addr", COL_TEXT}, {0}};
	json_auto_t *links = NULL;
	int64_t na_id = op_int(c, "na_id"), p_id = 0;
	int rc = own_na(c, na_id, &p_id);
	if (rc == 0)
		rc = q_rows(c->db, &c->err, columns, &links,
			    "SELECT f.dfo_id, f.alias_name, d.df_type, d.df_name, d.param_no, v.mac_addr" LINKS, DB_V_INT(na_id));
	if (rc == 0)
		rc = op_result(c, json_object());
	return rc == 0 ? give_sides(c, c->data, links) : rc;
}

static void monitor(struct op_call *c)
{
	if (c->who.gui[0] != '\0')
		drive_monitor(c->ccm, op_int(c, "na_id"), c->who.gui);
}

/* to select is not to write (lines.c) */
const struct op op_na_info = {.name = "na.info", .run = info, .reads = true};
const struct op op_na_info_gui = {.name = "na.info_or_null", .run = info_or_null, .reads = true};
const struct op op_na_list = {.name = "na.list", .run = list, .reads = true};
const struct op op_na_list_gui = {.name = "na.list_of_gui", .run = list_gui, .reads = true};
const struct op op_na_monitor = {.name = "na.monitor", .run = monitored, .reads = true, .after = monitor};
