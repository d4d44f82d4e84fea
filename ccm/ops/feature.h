/* feature.h - device features, for the operations that need one (spec ccm 3.8). */
#pragma once

#include "ccm/op.h"

/* The one that df_id or df_name of the arguments names. ret: 0 or ERR_NOENT. */
int feature_find(struct op_call *c, int64_t *ret_df_id);
/* Parameters at feature level, for the caller alone; another number of them is for everybody, and only for a feature that nobody
 * uses. Errors: ERR_CONFLICT, params_check_functions()' and params_replace()'s. */
int feature_write_params(struct op_call *c, int64_t df_id, const json_t *list);
