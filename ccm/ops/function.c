/* function.c - functions and their versions: making, changing, deleting. */
#include "ccm/ops/function.h"

#include "ccm/drive/drive.h"
#include "ccm/ops/catalogue.h"
#include "ccm/ops/rows.h"
#include "common/util.h"
#include <string.h>
#include <time.h>

#define IN_USE    "This function is used, can not delete."
#define NOT_OWNER "Function Version not find, or you are not owner."
#define CODE_MAX  (256 * 1024) /* bytes */

bool function_name_valid(const char *name)
{
	static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	size_t len = strlen(name);
	return strspn(name, characters) == len && len > 0 && len <= 255 && strchr("_0123456789", name[0]) == NULL;
}

int function_check_length(const char *code, struct err *err)
{
	return strlen(code) > CODE_MAX ? err_set(err, ERR_RANGE, "`code` is longer than %d KiB", CODE_MAX / 1024) : 0;
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
	rc = q_exec(db, err, "INSERT INTO FunctionSDF (fn_id, u_id, df_id) VALUES ($1, nullif($2, 0), nullif($3, 0))",
		    DB_V_INT(fn_id), DB_V_INT(u_id), DB_V_INT(df_id));
	return rc < 0 ? rc : 1;
}

int function_newest(struct db *db, struct err *err, int64_t fn_id, int64_t u_id, int64_t *ret_idx)
{
	return q_int(db, err, ret_idx,
		     "SELECT fnvt_idx FROM FunctionVersion WHERE fn_id = $1 AND (u_id IS NULL OR u_id = $2) ORDER BY fnvt_idx "
		     "DESC LIMIT 1",
		     DB_V_INT(fn_id), DB_V_INT(u_id));
}

/* ---- operations ---- */

static void on_checked(void *arg, int rc, const char *why)
{
	struct op_call *c = arg;
	if (rc == 0)
		op_go_on(c);
	else
		op_fail(c,
			err_set(&c->err, rc, "%s%s", rc == ERR_INVAL ? "Compile Error: " : "", why != NULL ? why : err_name(rc)));
}

static void check_code(struct op_call *c)
{
	int rc = function_check_length(op_str(c, "code"), &c->err);
	if (rc < 0)
		op_fail(c, rc);
	else
		drive_check_code(c->ccm, op_str(c, "code"), on_checked, c);
}

static void check_name_and_code(struct op_call *c)
{
	if (function_name_valid(op_str(c, "fn_name")))
		check_code(c);
	else
		op_fail(c, err_set(&c->err, ERR_INVAL, FUNCTION_NAME_RULE));
}

/* The user's, or everybody's; not a protected one. */
static int find_to_change(struct op_call *c, int64_t fn_id)
{
	int64_t protect = 0, idx;
	int rc = q_int(c->db, &c->err, &protect, "SELECT is_protect FROM Function WHERE fn_id = $1", DB_V_INT(fn_id));
	if (rc > 0 && !protect)
		rc = function_newest(c->db, &c->err, fn_id, c->who.u_id, &idx);
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Function id %lld not found", (long long)fn_id);
	if (rc > 0 && protect)
		return err_set(&c->err, ERR_ACCES, "This function is protected, can not change.");
	return rc < 0 ? rc : 0;
}

static int offer_to_caller(struct op_call *c, int64_t fn_id, int64_t df_id)
{
	int64_t there;
	int rc = df_id != 0 ? q_int(c->db, &c->err, &there, "SELECT df_id FROM DeviceFeature WHERE df_id = $1", DB_V_INT(df_id))
			    : 1;
	if (rc == 0)
		return err_set(&c->err, ERR_NOENT, "Device Feature id %lld not found", (long long)df_id);
	if (rc > 0)
		rc = function_offer(c->db, &c->err, fn_id, c->who.u_id, df_id);
	return rc < 0 ? rc : 0;
}

/* The result, and what runs the function hears of it. */
static int stored(struct op_call *c, int64_t fn_id, int64_t idx)
{
	int rc = op_then(c, drive_touch_function, fn_id);
	return rc < 0 ? rc : op_result(c, json_pack("{s:I, s:I}", "fn_id", (json_int_t)fn_id, "fnvt_idx", (json_int_t)idx));
}

static int create(struct op_call *c)
{
	const char *name = op_str(c, "fn_name");
	int64_t fn_id = 0, protect = 0, idx = 0, df_id = op_int(c, "df_id");
	int rc = q_int(c->db, &c->err, &fn_id, "SELECT fn_id FROM Function WHERE fn_name = $1", DB_V_TEXT(name));
	if (rc > 0)
		rc = q_int(c->db, &c->err, &protect, "SELECT is_protect FROM Function WHERE fn_id = $1", DB_V_INT(fn_id));
	else if (rc == 0)
		rc = q_int(c->db, &c->err, &fn_id, "INSERT INTO Function (fn_name) VALUES ($1) RETURNING fn_id", DB_V_TEXT(name));
	if (rc > 0 && protect)
		return err_set(&c->err, ERR_ACCES, "This function is protected, can not change.");
	if (rc > 0)
		rc = function_add_version(c->db, &c->err, fn_id, c->who.u_id, op_str(c, "code"), &idx);
	if (rc == 0)
		rc = offer_to_caller(c, fn_id, df_id > 0 ? df_id : 0);
	return rc < 0 ? rc : stored(c, fn_id, idx);
}

static int change_version(struct op_call *c, int64_t fn_id, int64_t idx)
{
	int64_t changed;
	int rc = q_int(
		c->db, &c->err, &changed,
		"UPDATE FunctionVersion SET code = $1, date = substr($2, 1, 10) WHERE fnvt_idx = $3 AND fn_id = $4 AND u_id = $5"
		" RETURNING fnvt_idx",
		DB_V_TEXT(op_str(c, "code")), DB_V_TEXT(utc_text(time(NULL)).s), DB_V_INT(idx), DB_V_INT(fn_id),
		DB_V_INT(c->who.u_id));
	return rc == 0 ? err_set(&c->err, ERR_NOENT, NOT_OWNER) : rc < 0 ? rc : 0;
}

static int update(struct op_call *c)
{
	int64_t fn_id = op_int(c, "fn_id"), idx = op_int(c, "fnvt_idx"), df_id = op_int(c, "df_id");
	int rc = find_to_change(c, fn_id);
	if (rc == 0)
		rc = op_has(c, "fnvt_idx") ? change_version(c, fn_id, idx)
					   : function_add_version(c->db, &c->err, fn_id, c->who.u_id, op_str(c, "code"), &idx);
	if (rc == 0 && df_id > 0)
		rc = offer_to_caller(c, fn_id, df_id);
	return rc < 0 ? rc : stored(c, fn_id, idx);
}

/* Whether somebody (u_id 0), or this user, has it in a parameter, a link or a join. */
static int is_used(struct op_call *c, int64_t fn_id, int64_t u_id)
{
	int64_t one;
	int rc = q_int(
		c->db, &c->err, &one,
		"SELECT 1 WHERE EXISTS (SELECT 1 FROM DF_Parameter WHERE fn_id = $1 AND ($2 = 0 OR u_id = $2))"
		" OR EXISTS (SELECT 1 FROM DF_Module JOIN NetworkApplication USING (na_id) JOIN Project USING (p_id)"
		" WHERE fn_id = $1 AND ($2 = 0 OR u_id = $2))"
		" OR EXISTS (SELECT 1 FROM MultipleJoin_Module JOIN NetworkApplication USING (na_id) JOIN Project USING (p_id)"
		" WHERE fn_id = $1 AND ($2 = 0 OR u_id = $2))",
		DB_V_INT(fn_id), DB_V_INT(u_id));
	return rc > 0 ? err_set(&c->err, ERR_CONFLICT, IN_USE) : rc;
}

/* The last versions go, and the function with them: then nobody may have it. */
static int delete_whole(struct op_call *c, int64_t fn_id)
{
	int64_t one;
	int rc = is_used(c, fn_id, 0);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM FunctionSDF WHERE fn_id = $1 AND u_id <> $2 LIMIT 1",
			   DB_V_INT(fn_id), DB_V_INT(c->who.u_id));
	if (rc > 0)
		return err_set(&c->err, ERR_CONFLICT, IN_USE);
	return rc == 0 ? q_exec(c->db, &c->err, "DELETE FROM Function WHERE fn_id = $1", DB_V_INT(fn_id)) : rc;
}

/* Other people's versions stay, and their use of them is no matter. */
static int delete_own(struct op_call *c, int64_t fn_id)
{
	int rc = is_used(c, fn_id, c->who.u_id);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM FunctionVersion WHERE fn_id = $1 AND u_id = $2", DB_V_INT(fn_id),
			    DB_V_INT(c->who.u_id));
	return rc == 0 ? q_exec(c->db, &c->err, "DELETE FROM FunctionSDF WHERE fn_id = $1 AND u_id = $2", DB_V_INT(fn_id),
				DB_V_INT(c->who.u_id))
		       : rc;
}

static int delete (struct op_call *c)
{
	int64_t fn_id = op_int(c, "fn_id"), own = 0, others = 0;
	int rc = find_to_change(c, fn_id);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &own, "SELECT count(*) FROM FunctionVersion WHERE fn_id = $1 AND u_id = $2",
			   DB_V_INT(fn_id), DB_V_INT(c->who.u_id));
	if (rc > 0)
		rc = q_int(c->db, &c->err, &others, "SELECT count(*) FROM FunctionVersion WHERE fn_id = $1", DB_V_INT(fn_id));
	if (rc > 0 && own == 0)
		return err_set(&c->err, ERR_NOENT, NOT_OWNER);
	if (rc > 0)
		rc = others > own ? delete_own(c, fn_id) : delete_whole(c, fn_id);
	return rc < 0 ? rc : op_result_int(c, "fn_id", fn_id);
}

const struct op op_function_create = {"function.create", .run = create, .prepare = check_name_and_code};
const struct op op_function_update = {"function.update", .run = update, .prepare = check_code};
const struct op op_function_delete = {"function.delete", .run = delete};
