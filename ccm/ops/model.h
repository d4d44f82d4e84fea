/* model.h - device models, for the operations that need one (spec ccm 3.7). */
#pragma once

#include "ccm/op.h"

/* The row with `df_list`, as a user sees it. ret: 1 and *ret_info, yours; 0: there is none; negative. */
int model_info(struct db *db, struct err *err, int64_t dm_id, int64_t u_id, json_t **ret_info);
/* The pair that mf_id, or df_id and dm_id, of the arguments name. ret: 0 or ERR_NOENT. */
int model_find_feature(struct op_call *c, int64_t *ret_mf_id, int64_t *ret_df_id);
