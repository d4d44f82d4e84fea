/* rows.c - the tables' rows as JSON. */
#include "ccm/ops/rows.h"

const struct column row_project[] = {{"p_id", COL_INT},	    {"p_name", COL_TEXT},    {"u_id", COL_INT}, {"status", COL_TEXT},
				     {"restart", COL_BOOL}, {"exception", COL_TEXT}, {"sim", COL_TEXT}, {0}};
const struct column row_na[] = {{"na_id", COL_INT}, {"na_name", COL_TEXT}, {"na_idx", COL_INT}, {"p_id", COL_INT}, {0}};
const struct column row_device[] = {{"d_id", COL_INT},		     {"mac_addr", COL_TEXT},	  {"monitor", COL_TEXT},
				    {"d_name", COL_TEXT},	     {"status", COL_TEXT},	  {"u_id", COL_INT},
				    {"dm_id", COL_INT},		     {"is_sim", COL_BOOL},	  {"register_time", COL_TEXT},
				    {"extra_setup_webpage", COL_TEXT}, {"device_webpage", COL_TEXT}, {0}};
const struct column row_model[] = {
	{"dm_id", COL_INT}, {"dm_name", COL_TEXT}, {"dm_type", COL_TEXT}, {"plural", COL_BOOL}, {"device_only", COL_BOOL}, {0}};
const struct column row_feature[] = {{"df_id", COL_INT},	{"df_name", COL_TEXT}, {"df_type", COL_TEXT},
				     {"df_category", COL_TEXT}, {"param_no", COL_INT}, {"comment", COL_TEXT}, {0}};
const struct column row_param[] = {{"dfp_id", COL_INT},	 {"df_id", COL_INT},  {"mf_id", COL_INT}, {"param_i", COL_INT}, {"param_type", COL_TEXT},
				   {"u_id", COL_INT},	 {"idf_type", COL_TEXT}, {"fn_id", COL_INT}, {"min", COL_REAL},	{"max", COL_REAL},
				   {"normalization", COL_BOOL}, {"unit_id", COL_INT}, {0}};
const struct column row_module[] = {{"na_id", COL_INT}, {"dfo_id", COL_INT}, {"param_i", COL_INT}, {"idf_type", COL_TEXT}, {"fn_id", COL_INT},
				    {"min", COL_REAL},	{"max", COL_REAL},   {"normalization", COL_BOOL}, {"color", COL_TEXT}, {0}};
const struct column row_join[] = {{"na_id", COL_INT}, {"param_i", COL_INT}, {"fn_id", COL_INT}, {"dfo_id", COL_INT}, {0}};
const struct column row_function[] = {{"fn_id", COL_INT}, {"fn_name", COL_TEXT}, {"is_protect", COL_BOOL}, {0}};
const struct column row_version[] = {{"fnvt_idx", COL_INT}, {"fn_id", COL_INT},	       {"u_id", COL_INT},      {"date", COL_TEXT},
				     {"code", COL_TEXT},    {"completeness", COL_BOOL}, {"is_switch", COL_BOOL}, {"non_df_args", COL_TEXT}, {0}};
const struct column row_tag[] = {{"tag_id", COL_INT}, {"tag_name", COL_TEXT}, {"param_no", COL_INT}, {0}};
const struct column row_unit[] = {{"unit_id", COL_INT}, {"unit_name", COL_TEXT}, {0}};
const struct column row_category[] = {{"dfc_id", COL_INT}, {"dfc_name", COL_TEXT}, {0}};

int rows_params(struct db *db, struct err *err, int64_t df_id, int64_t mf_id, int64_t u_id, json_t **ret_rows)
{
	int64_t of = 0;
	int rc = u_id == 0 ? 0
		 : mf_id != 0
			 ? q_int(db, err, &of, "SELECT u_id FROM DF_Parameter WHERE mf_id = $1 AND u_id = $2 LIMIT 1", DB_V_INT(mf_id), DB_V_INT(u_id))
			 : q_int(db, err, &of, "SELECT u_id FROM DF_Parameter WHERE df_id = $1 AND u_id = $2 LIMIT 1", DB_V_INT(df_id), DB_V_INT(u_id));
	if (rc < 0)
		return rc;
	return mf_id != 0
		       ? q_rows(db, err, row_param, ret_rows,
				"SELECT " ROW_PARAM " FROM DF_Parameter WHERE mf_id = $1 AND ifnull(u_id, 0) = $2 ORDER BY param_i",
				DB_V_INT(mf_id), DB_V_INT(of))
		       : q_rows(db, err, row_param, ret_rows,
				"SELECT " ROW_PARAM " FROM DF_Parameter WHERE df_id = $1 AND ifnull(u_id, 0) = $2 ORDER BY param_i",
				DB_V_INT(df_id), DB_V_INT(of));
}
