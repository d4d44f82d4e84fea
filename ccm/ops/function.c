/* function.c - functions, their versions, and where they are offered. */
#include "ccm/ops/function.h"

#include "ccm/ops/catalogue.h"
#include "ccm/ops/rows.h"
#include <string.h>
#include <time.h>

bool function_name_valid(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	size_t len = strlen(name);
	return strspn(name, letters) == len && len > 0 && len <= 255 && strchr("_0123456789", name[0]) == NULL;
}

int function_add_version(struct db *db, struct err *err, int64_t fn_id, int64_t u_id, const char *code, int64_t *ret_idx)
{
	int64_t idx = 0;
	int rc = q_int(db, err, &idx,
		       "INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES ($1, nullif($2, 0), substr($3, 1, 10), $4)"
		       " RETURNING fnvt_idx",
		       DB_V_INT(fn_id), DB_V_INT(u_id), DB_V_TEXT(utc_text(time(NULL)).s), DB_V_TEXT(code));
	if (rc >= 0 && ret_idx != NULL)
		*ret_idx = idx;
	return rc < 0 ? rc : 0;
}

int function_offer(struct db *db, struct err *err, int64_t fn_id, int64_t u_id, int64_t df_id)
{
	int64_t id;
	int rc = q_int(db, err, &id,
		       "SELECT fnsdf_id FROM FunctionSDF WHERE fn_id = $1 AND ifnull(u_id, 0) = $2 AND ifnull(df_id, 0) = $3",
		       DB_V_INT(fn_id), DB_V_INT(u_id), DB_V_INT(df_id));
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = q_exec(db, err, "INSERT INTO FunctionSDF (fn_id, u_id, df_id) VALUES ($1, nullif($2, 0), nullif($3, 0))", DB_V_INT(fn_id),
		    DB_V_INT(u_id), DB_V_INT(df_id));
	return rc < 0 ? rc : 1;
}
