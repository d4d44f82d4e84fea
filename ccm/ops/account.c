#include "ccm/ops/account.h"

#include "ccm/drive/drive.h"
#include "ccm/query.h"
#include "ccm/sim/sim.h"
#include "ccm/web/passwords.h"
#include "ccm/web/session.h"
#include "ccm/web/throttle.h"
#include "ccm/web/ticket.h"
#include "ccm/web/web.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What prepare() finds out for run(). */
struct found {
	int64_t u_id;
	char hash[PASSWORD_HASH_MAX];
};

/* ret: NULL: the operation has failed, and c is gone */
static struct found *found_new(struct op_call *c)
{
	struct found *f = calloc(1, sizeof(*f));
	c->prepared = f;
	if (f == NULL)
		op_fail(c, err_set(&c->err, ERR_NOMEM, "passwords"));
	return f;
}

static int busy(struct op_call *c, int rc)
{
	return rc == ERR_AGAIN ? err_set(&c->err, rc, "too many passwords are being checked; try again") : err_set(&c->err, rc, "passwords");
}

int account_check_name(const char *name, struct err *err)
{
	for (; *name != '\0'; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return err_set(err, ERR_INVAL, "`username` holds a control character");
	return 0;
}

/* ---- login ---- */

static int on_found(void *arg, const struct db_value *v, size_t n)
{
	struct found *f = arg;
	(void)n;
	f->u_id = v[0].num;
	snprintf(f->hash, sizeof(f->hash), "%s", v[1].text);
	return 0;
}

static unsigned wait_s(struct op_call *c)
{
	struct throttle *t = web_throttle(c->ccm->web);
	int64_t now_ms = loop_now_ms(c->ccm->loop);
	unsigned a = throttle_wait_s(t, THROTTLE_ADDRESS, op_str(c, "peer"), now_ms);
	unsigned b = throttle_wait_s(t, THROTTLE_ACCOUNT, op_str(c, "username"), now_ms);
	return a > b ? a : b;
}

static void login_verified(void *arg, int rc, const char *hash)
{
	struct op_call *c = arg;
	struct throttle *t = web_throttle(c->ccm->web);
	int64_t now_ms = loop_now_ms(c->ccm->loop);
	(void)hash;
	if (rc == 0) {
		throttle_forget(t, THROTTLE_ACCOUNT, op_str(c, "username"));
		op_go_on(c);
		return;
	}
	if (rc != ERR_ACCES) {
		op_fail(c, busy(c, rc));
		return;
	}
	throttle_failed(t, THROTTLE_ADDRESS, op_str(c, "peer"), now_ms);
	throttle_failed(t, THROTTLE_ACCOUNT, op_str(c, "username"), now_ms);
	if (log_allowed("login.failed", op_str(c, "peer")))
		log_info("login.failed", KV("from", op_str(c, "peer")));
	op_fail(c, err_set(&c->err, ERR_ACCES, "invalid username or password"));
}

/* ret: ERR_LIMIT */
static int must_wait(struct op_call *c, const char *what, unsigned wait)
{
	(void)op_result_int(c, "retry_after_s", wait);
	return err_set(&c->err, ERR_LIMIT, "%s; try again in %u s", what, wait);
}

static void login_prepare(struct op_call *c)
{
	unsigned wait = wait_s(c);
	struct found *f = found_new(c);
	if (f == NULL)
		return;
	if (wait > 0) {
		op_fail(c, must_wait(c, "too many failed logins", wait));
		return;
	}
	int rc = db_run(c->db, &c->err, on_found, f,
			"SELECT u_id, passwd FROM User WHERE u_name = $1 AND is_active = 1 AND is_deleted = 0", DB_V_TEXT(op_str(c, "username")));
	if (rc == 0 && (rc = passwords_verify(web_passwords(c->ccm->web), op_str(c, "password"), f->hash, login_verified, c)) < 0)
		busy(c, rc);
	if (rc < 0)
		op_fail(c, rc);
}

static int login_run(struct op_call *c)
{
	const struct found *f = c->prepared;
	struct session_token token = session_token_new();
	int64_t u_id = 0;
	/* it may have changed while the password was looked at */
	int rc = q_int(c->db, &c->err, &u_id, "SELECT u_id FROM User WHERE u_id = $1 AND passwd = $2 AND is_active = 1 AND is_deleted = 0",
		       DB_V_INT(f->u_id), DB_V_TEXT(f->hash));
	if (rc == 0)
		rc = err_set(&c->err, ERR_ACCES, "invalid username or password");
	if (rc > 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM Session WHERE digest = $1", DB_V_TEXT(op_str(c, "session")));
	if (rc == 0)
		rc = session_add(c->db, u_id, &token, c->ccm->settings->gui.session_timeout_min * 60, &c->err);
	return rc == 0 ? op_result(c, json_pack("{s:I, s:s}", "id", (json_int_t)u_id, "session", token.s)) : rc;
}

const struct op op_account_login = {.name = "account.login", .run = login_run, .prepare = login_prepare};

static int oauth2_run(struct op_call *c)
{
	return err_set(&c->err, ERR_INVAL, "OAuth is not configured");
}

const struct op op_account_oauth2 = {.name = "account.oauth2", .run = oauth2_run, .reads = true};

static int logout_run(struct op_call *c)
{
	return q_exec(c->db, &c->err, "DELETE FROM Session WHERE digest = $1", DB_V_TEXT(op_str(c, "session")));
}

const struct op op_account_logout = {.name = "account.logout", .run = logout_run};

/* ---- accounts ---- */

/* ret: 0, ERR_EXIST ... */
static int check_free(struct op_call *c)
{
	int64_t u_id;
	int rc = q_int(c->db, &c->err, &u_id, "SELECT u_id FROM User WHERE u_name = $1", DB_V_TEXT(op_str(c, "username")));
	return rc > 0 ? err_set(&c->err, ERR_EXIST, "username already exists") : rc;
}

static void create_hashed(void *arg, int rc, const char *hash)
{
	struct op_call *c = arg;
	struct found *f = c->prepared;
	if (rc < 0) {
		op_fail(c, busy(c, rc));
		return;
	}
	snprintf(f->hash, sizeof(f->hash), "%s", hash);
	op_go_on(c);
}

/* Each is a password to be hashed, and a row for good. ret: 0, ERR_LIMIT */
static int may_create(struct op_call *c)
{
	struct throttle *t = web_throttle(c->ccm->web);
	int64_t now_ms = loop_now_ms(c->ccm->loop);
	unsigned wait = throttle_wait_s(t, THROTTLE_NEW, op_str(c, "peer"), now_ms);
	if (wait > 0)
		return must_wait(c, "too many new accounts from this address", wait);
	throttle_failed(t, THROTTLE_NEW, op_str(c, "peer"), now_ms);
	return 0;
}

static void create_prepare(struct op_call *c)
{
	if (found_new(c) == NULL)
		return;
	int rc = account_check_name(op_str(c, "username"), &c->err);
	if (rc == 0)
		rc = may_create(c);
	if (rc == 0)
		rc = check_free(c);
	if (rc == 0 && (rc = passwords_hash(web_passwords(c->ccm->web), op_str(c, "password"), create_hashed, c)) < 0)
		busy(c, rc);
	if (rc < 0)
		op_fail(c, rc);
}

static int create_run(struct op_call *c)
{
	const struct found *f = c->prepared;
	struct utc_text now = utc_text(time(NULL));
	int64_t u_id = 0;
	int rc = check_free(c);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &u_id,
			   "INSERT INTO User (u_name, passwd, created_at, updated_at) VALUES ($1, $2, $3, $4) RETURNING u_id",
			   DB_V_TEXT(op_str(c, "username")), DB_V_TEXT(f->hash), DB_V_TEXT(now.s), DB_V_TEXT(now.s));
	return rc < 0 ? rc : op_result_int(c, "id", u_id);
}

const struct op op_account_create = {.name = "account.create", .run = create_run, .prepare = create_prepare};

int account_remove(struct op_call *c, int64_t u_id)
{
	int64_t gone;
	int rc = op_then_each(c, drive_touch,
			      "SELECT na_id FROM NetworkApplication n JOIN Project p ON p.p_id = n.p_id WHERE p.u_id = $1", u_id);
	if (rc == 0)
		rc = op_then_each(c, sim_touch, "SELECT p_id FROM Project WHERE u_id = $1", u_id);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &gone, "DELETE FROM User WHERE u_id = $1 RETURNING u_id", DB_V_INT(u_id));
	if (rc == 0)
		rc = err_set(&c->err, ERR_NOENT, "user %lld not found", (long long)u_id);
	/* a function of which nobody has a version would only keep its name from others */
	return rc < 0 ? rc
		      : q_exec(c->db, &c->err,
			       "DELETE FROM Function WHERE NOT EXISTS (SELECT 1 FROM FunctionVersion v WHERE v.fn_id = Function.fn_id) "
			       "AND NOT EXISTS (SELECT 1 FROM DF_Parameter p WHERE p.fn_id = Function.fn_id) "
			       "AND NOT EXISTS (SELECT 1 FROM DF_Module m WHERE m.fn_id = Function.fn_id) "
			       "AND NOT EXISTS (SELECT 1 FROM MultipleJoin_Module j WHERE j.fn_id = Function.fn_id)");
}

static int delete_run(struct op_call *c)
{
	return account_remove(c, c->who.u_id);
}

const struct op op_account_delete = {.name = "account.delete", .run = delete_run};

static int profile_run(struct op_call *c)
{
	static const struct column columns[] = {{"u_id", COL_INT}, {"u_name", COL_TEXT}, {"is_admin", COL_BOOL}, {0}};
	const char *gui = op_str(c, "gui");
	struct digest_text login;
	json_t *row = NULL;
	if (gui != NULL && !ticket_gui_valid(gui))
		return err_set(&c->err, ERR_INVAL, "`gui` must be the uuid of a gui client");
	int rc = q_row(c->db, &c->err, columns, &row, "SELECT u_id, u_name, is_admin FROM User WHERE u_id = $1", DB_V_INT(c->who.u_id));
	if (rc <= 0)
		return rc < 0 ? rc : err_set(&c->err, ERR_NOENT, "user not found");
	rc = op_result(c, row);
	if (rc < 0 || gui == NULL)
		return rc;
	snprintf(login.s, sizeof(login.s), "%s", op_str(c, "session"));
	struct ticket_text ticket = ticket_make(web_tickets(c->ccm->web), c->who.u_id, &login, gui);
	if (json_object_set_new(row, "mqtt_ticket", json_string(ticket.s)) < 0 ||
	    json_object_set_new(row, "mqtt_ticket_lasts_s", json_integer(TICKET_S)) < 0)
		return err_set(&c->err, ERR_NOMEM, "ticket");
	return 0;
}

const struct op op_account_profile = {.name = "account.profile", .run = profile_run, .reads = true};
