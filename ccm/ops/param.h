/* param.h - parameters of features, as everybody has them and as one user does (spec ccm 2, DF_Parameter). */
#pragma once

#include "ccm/fields.h"
#include "ccm/op.h"

/* Of one parameter in a request; what rows have besides may be sent back, and is not looked at. */
extern const struct field param_fields[];
extern const char *const param_types[]; /* NULL-terminated */
extern const char *const idf_types[];

#define PARAMS_MAX 1000 /* of one feature */

/* Whose rows: of a feature, or of a model's feature; the other is 0. u_id 0: everybody's. */
struct param_level {
	int64_t df_id, mf_id, u_id;
};

/* The functions of a list are there for the caller, or are what parameters of the feature (0: a new one) have already: rows may
 * be sent back as they were shown. ret: 0, ERR_NOENT ... */
int params_check_functions(struct op_call *c, int64_t df_id, const json_t *list);
/* Put the parameters of a list (param_fields) in place of those that are there. What one does not say, or has null for, is the
 * default. Functions must be there. Errors: ERR_NOENT: a unit is not there; ERR_INVAL: too many. */
int params_replace(struct db *db, struct err *err, struct param_level level, const json_t *list);
/* The same, with a look at the functions, of a model's feature, which has as many parameters as its feature df_id: those that the list lacks stay as the user has
 * them, or, of a new one, are the feature's; more are ERR_INVAL. */
int params_replace_of_model(struct op_call *c, struct param_level level, int64_t df_id, const json_t *list);
