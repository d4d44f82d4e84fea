/* rows.h - the tables' rows as JSON, column by column under its name (spec ccm 2), and questions that many operations ask. */
#pragma once

#include "ccm/query.h"

#define ROW_PROJECT  "p_id, p_name, u_id, status, restart, exception, sim"
#define ROW_NA	     "na_id, na_name, na_idx, p_id"
#define ROW_DEVICE   "d_id, mac_addr, monitor, d_name, status, u_id, dm_id, is_sim, register_time, extra_setup_webpage, device_webpage"
#define ROW_MODEL    "dm_id, dm_name, dm_type, plural, device_only"
#define ROW_FEATURE  "df_id, df_name, df_type, df_category, param_no, comment"
#define ROW_PARAM    "dfp_id, df_id, mf_id, param_i, param_type, u_id, idf_type, fn_id, min, max, normalization, unit_id"
#define ROW_MODULE   "na_id, dfo_id, param_i, idf_type, fn_id, min, max, normalization, color"
#define ROW_JOIN     "na_id, param_i, fn_id, dfo_id"
#define ROW_FUNCTION "fn_id, fn_name, is_protect"
#define ROW_VERSION  "fnvt_idx, fn_id, u_id, date, code, completeness, is_switch, non_df_args"
#define ROW_TAG	     "tag_id, tag_name, param_no"
#define ROW_UNIT     "unit_id, unit_name"
#define ROW_CATEGORY "dfc_id, dfc_name"

extern const struct column row_project[], row_na[], row_device[], row_model[], row_feature[], row_param[], row_module[], row_join[],
	row_function[], row_version[], row_tag[], row_unit[], row_category[];

/* The parameters of a feature (mf_id 0) or of a model's feature (df_id 0) as a user sees them: its own rows if there is one,
 * else the general ones; by param_i. u_id 0: the general ones. ret_rows: yours. */
int rows_params(struct db *db, struct err *err, int64_t df_id, int64_t mf_id, int64_t u_id, json_t **ret_rows);
