/* admin.c - what administrators may do to other people's things. */
#include "ccm/drive/drive.h"
#include "ccm/ops/account.h"
#include "ccm/ops/project_int.h"
#include "ccm/sim/sim.h"
#include "ccm/web/passwords.h"
#include "ccm/web/web.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- users ---- */

static int user_list(struct op_call *c)
{
	static const struct column columns[] = {{"u_id", COL_INT}, {"u_name", COL_TEXT}, {"is_admin", COL_BOOL}, {0}};
	json_t *rows = NULL;
	int rc = q_rows(c->db, &c->err, columns, &rows, "SELECT u_id, u_name, is_admin FROM User WHERE is_deleted = 0 ORDER BY u_id");
	return rc < 0 ? rc : op_result(c, rows);
}

const struct op op_admin_user_list = {.name = "admin.user.list", .run = user_list, .reads = true};

static void pass_hashed(void *arg, int rc, const char *hash)
{
	struct op_call *c = arg;
	if (rc == 0 && (c->prepared = strdup(hash)) == NULL)
		rc = ERR_NOMEM;
	if (rc < 0)
		op_fail(c, err_set(&c->err, rc, "the password could not be kept; try again"));
	else
		op_go_on(c);
}

static void pass_prepare(struct op_call *c)
{
	int rc = passwords_hash(web_passwords(c->ccm->web), op_str(c, "password"), pass_hashed, c);
	if (rc < 0)
		op_fail(c, err_set(&c->err, rc, "too many passwords are being checked; try again"));
}

/* ret: 0, or of an UPDATE ... RETURNING that found nothing */
static int updated(struct op_call *c, int rc, int64_t id)
{
	return rc < 0 ? rc : rc == 0 ? err_set(&c->err, ERR_NOENT, "update fail") : op_result_int(c, "id", id);
}

/* Who knew the old password is out. */
static int pass_run(struct op_call *c)
{
	struct utc_text now = utc_text(time(NULL));
	int64_t id = op_int(c, "id"), found;
	int rc = q_exec(c->db, &c->err, "DELETE FROM Session WHERE u_id = $1", DB_V_INT(id));
	if (rc == 0)
		rc = q_int(c->db, &c->err, &found,
			   "UPDATE User SET passwd = $1, updated_at = $2 WHERE u_id = $3 AND is_deleted = 0 RETURNING u_id",
			   DB_V_TEXT((const char *)c->prepared), DB_V_TEXT(now.s), DB_V_INT(id));
	return updated(c, rc, id);
}

const struct op op_admin_user_pass = {.name = "admin.user.pass", .run = pass_run, .prepare = pass_prepare};

static int user_switch(struct op_call *c)
{
	struct utc_text now = utc_text(time(NULL));
	int64_t id = op_int(c, "id"), found;
	bool is_admin = json_is_true(json_object_get(c->args, "is_admin"));
	int rc = q_int(c->db, &c->err, &found,
		       "UPDATE User SET is_admin = $1, updated_at = $2 WHERE u_id = $3 AND is_deleted = 0 RETURNING u_id", DB_V_INT(is_admin),
		       DB_V_TEXT(now.s), DB_V_INT(id));
	return updated(c, rc, id);
}

const struct op op_admin_user_switch = {.name = "admin.user.switch", .run = user_switch};

static int user_delete(struct op_call *c)
{
	int64_t id = op_int(c, "id");
	int rc = account_remove(c, id);
	return rc < 0 ? rc : op_result_int(c, "id", id);
}

const struct op op_admin_user_delete = {.name = "admin.user.delete", .run = user_delete};

/* ---- projects ---- */

static int project_list(struct op_call *c)
{
	static const struct column columns[] = {{"p_id", COL_INT}, {"p_name", COL_TEXT}, {"status", COL_TEXT}, {"sim", COL_TEXT},
						{"u_id", COL_INT}, {"u_name", COL_TEXT}, {0}};
	json_t *rows = NULL;
	int rc = q_rows(c->db, &c->err, columns, &rows,
			"SELECT p.p_id, p.p_name, p.status, p.sim, p.u_id, u.u_name FROM Project p JOIN User u ON u.u_id = p.u_id ORDER BY p.p_id");
	return rc < 0 ? rc : op_result(c, rows);
}

const struct op op_admin_project_list = {.name = "admin.project.list", .run = project_list, .reads = true};

static int project_not_found(struct op_call *c, int64_t p_id)
{
	return err_set(&c->err, ERR_NOENT, "project %lld not found", (long long)p_id);
}

static int project_stop(struct op_call *c)
{
	int64_t p_id = op_int(c, "p_id"), found;
	int rc = q_int(c->db, &c->err, &found, "UPDATE Project SET status = 'off' WHERE p_id = $1 AND u_id = $2 RETURNING p_id", DB_V_INT(p_id),
		       DB_V_INT(op_int(c, "u_id")));
	if (rc <= 0)
		return rc < 0 ? rc : project_not_found(c, p_id);
	rc = op_then(c, drive_touch_project, p_id);
	return rc < 0 ? rc : op_result(c, json_pack("{s:I, s:s}", "p_id", (json_int_t)p_id, "status", "off"));
}

const struct op op_admin_project_stop = {.name = "admin.project.stop", .run = project_stop};

static int project_delete(struct op_call *c)
{
	int64_t p_id = op_int(c, "p_id"), found;
	int rc = q_int(c->db, &c->err, &found, "SELECT p_id FROM Project WHERE p_id = $1 AND u_id = $2", DB_V_INT(p_id),
		       DB_V_INT(op_int(c, "u_id")));
	if (rc > 0)
		rc = project_remove(c, p_id);
	else if (rc == 0)
		rc = project_not_found(c, p_id);
	return rc < 0 ? rc : op_result_int(c, "p_id", p_id);
}

const struct op op_admin_project_delete = {.name = "admin.project.delete", .run = project_delete};

/* ---- devices ---- */

struct bindings {
	json_t *by_device; /* d_id in decimal: [text] */
	struct err *err;
};

static int on_binding(void *arg, const struct db_value *v, size_t n)
{
	const struct bindings *b = arg;
	char id[24];
	(void)n;
	snprintf(id, sizeof(id), "%lld", (long long)v[0].num);
	json_t *list = json_object_get(b->by_device, id);
	if (list == NULL && (json_object_set_new(b->by_device, id, json_array()) < 0 || (list = json_object_get(b->by_device, id)) == NULL))
		return err_set(b->err, ERR_NOMEM, "devices");
	return json_array_append_new(list, json_string(v[1].text)) < 0 ? err_set(b->err, ERR_NOMEM, "devices") : 0;
}

static int device_list(struct op_call *c)
{
	json_t *rows = NULL, *row;
	json_auto_t *by_device = json_object();
	struct bindings bindings = {by_device, &c->err};
	size_t i;
	int rc = q_rows(c->db, &c->err, row_device, &rows, "SELECT " ROW_DEVICE " FROM Device ORDER BY d_id");
	if (rc == 0)
		rc = op_result(c, rows);
	if (rc == 0)
		rc = db_run(c->db, &c->err, on_binding, &bindings,
			    "SELECT DISTINCT d.d_id, p.p_name || ' (' || u.u_name || ')', p.p_id FROM DeviceObject d JOIN Project p ON p.p_id = d.p_id "
			    "JOIN User u ON u.u_id = p.u_id WHERE d.d_id IS NOT NULL ORDER BY d.d_id, p.p_id");
	if (rc < 0)
		return rc;
	json_array_foreach (rows, i, row) {
		char id[24];
		snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(json_object_get(row, "d_id")));
		json_t *list = json_object_get(by_device, id);
		if (json_object_set_new(row, "projects", list != NULL ? json_incref(list) : json_array()) < 0)
			return err_set(&c->err, ERR_NOMEM, "devices");
	}
	return 0;
}

const struct op op_admin_device_list = {.name = "admin.device.list", .run = device_list, .reads = true};

static int device_unbind(struct op_call *c)
{
	int64_t d_id = op_int(c, "d_id"), found;
	int rc = q_int(c->db, &c->err, &found, "SELECT d_id FROM Device WHERE d_id = $1", DB_V_INT(d_id));
	if (rc <= 0)
		return rc < 0 ? rc : err_set(&c->err, ERR_NOENT, "Device id %lld not found", (long long)d_id);
	rc = op_then_each(c, drive_touch,
			  "SELECT DISTINCT m.na_id FROM DeviceObject d JOIN DFObject o ON o.do_id = d.do_id "
			  "JOIN DF_Module m ON m.dfo_id = o.dfo_id WHERE d.d_id = $1",
			  d_id);
	if (rc == 0) /* a simulated device may stand in again */
		rc = op_then_each(c, sim_touch, "SELECT DISTINCT p_id FROM DeviceObject WHERE d_id = $1", d_id);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "UPDATE DeviceObject SET d_id = NULL WHERE d_id = $1", DB_V_INT(d_id));
	return rc < 0 ? rc : op_result_int(c, "d_id", d_id);
}

const struct op op_admin_device_unbind = {.name = "admin.device.unbind", .run = device_unbind};
