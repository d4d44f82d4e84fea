/* function.h - functions, their versions, and where they are offered (spec ccm 3.10). */
#pragma once

#include "common/db.h"
#include <jansson.h>
#include <stdbool.h>

/* A name becomes a part of an identifier: an ASCII letter, then letters, digits and underscores, up to 255. */
bool function_name_valid(const char *name);
/* The words for one that is not. */
#define FUNCTION_NAME_RULE "Function name must start with a letter, and have only letters, digits and underscores"

/* csm takes no longer one. ret: 0, ERR_RANGE */
int function_check_length(const char *code, struct err *err);

/* A new version, of today. u_id 0: everybody's. ret_idx may be NULL. */
int function_add_version(struct db *db, struct err *err, int64_t fn_id, int64_t u_id, const char *code, int64_t *ret_idx);
/* Offer it for a feature (df_id 0: for joins) to a user (u_id 0: to everybody). ret: 1, 0 (it was offered) or negative. */
int function_offer(struct db *db, struct err *err, int64_t fn_id, int64_t u_id, int64_t df_id);
/* Rows of the functions that are offered to a user for a feature (df_id 0: for joins), by name. ret_rows: yours */
int functions_offered(struct db *db, struct err *err, int64_t df_id, int64_t u_id, json_t **ret_rows);
/* The version that a user's graphs run: the newest of its own and everybody's. ret: 1, 0: none that it may see, or negative. */
int function_newest(struct db *db, struct err *err, int64_t fn_id, int64_t u_id, int64_t *ret_idx);
