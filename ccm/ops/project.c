/* project.c - projects as wholes: making, naming, switching and removing them, and their simulation. */
#include "ccm/drive/drive.h"
#include "ccm/ops/project_int.h"
#include "ccm/sim/sim.h"
#include "common/util.h"
#include <string.h>

int project_insert(struct op_call *c, const char *name, int64_t *ret_p_id)
{
	int rc = q_int(c->db, &c->err, ret_p_id, "INSERT INTO Project (p_name, u_id) VALUES ($1, $2) RETURNING p_id",
		       DB_V_TEXT(name), DB_V_INT(c->who.u_id));
	return rc < 0 ? rc : 0;
}

static int create(struct op_call *c)
{
	const char *name = op_str(c, "p_name");
	int64_t p_id = 0;
	int rc = project_name_is_free(c, name, 0, "project name already exists");
	if (rc == 0)
		rc = project_insert(c, name, &p_id);
	return rc == 0 ? op_result_int(c, "p_id", p_id) : rc;
}

static int list(struct op_call *c)
{
	return q_rows(c->db, &c->err, row_project, &c->data, "SELECT " ROW_PROJECT " FROM Project WHERE u_id = $1 ORDER BY p_id",
		      DB_V_INT(c->who.u_id));
}

static int rename_project(struct op_call *c)
{
	int64_t p_id = op_int(c, "p_id");
	const char *name = op_str(c, "newname");
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = project_name_is_free(c, name, p_id, "project name already exists");
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "UPDATE Project SET p_name = $1 WHERE p_id = $2", DB_V_TEXT(name), DB_V_INT(p_id));
	return rc == 0 ? op_result(c, json_pack("{s:I, s:s}", "p_id", (json_int_t)p_id, "p_name", name)) : rc;
}

static int search(struct op_call *c)
{
	int64_t p_id = 0;
	int rc = q_int(c->db, &c->err, &p_id, "SELECT p_id FROM Project WHERE u_id = $1 AND p_name = $2", DB_V_INT(c->who.u_id),
		       DB_V_TEXT(op_str(c, "p_name")));
	return rc < 0 ? rc : op_result(c, rc > 0 ? json_integer(p_id) : json_null());
}

/* ---- on and off ---- */

static int set_status(struct op_call *c)
{
	int64_t p_id = op_int(c, "p_id"), changed = 0;
	const char *status = op_str(c, "status");
	if (strcmp(status, "on") != 0 && strcmp(status, "off") != 0)
		return err_set(&c->err, ERR_INVAL, "invalid status");
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &changed,
			   "UPDATE Project SET status = $1 WHERE p_id = $2 AND status <> $1 RETURNING p_id", DB_V_TEXT(status),
			   DB_V_INT(p_id));
	if (rc > 0)
		rc = op_then(c, drive_touch_project, p_id);
	return rc == 0 ? op_result(c, json_pack("{s:I, s:s}", "p_id", (json_int_t)p_id, "status", status)) : rc;
}

/* What a statement tells of the project, as the result. */
static int tell(struct op_call *c, const char *sql)
{
	CLEANUP(freep) char *text = NULL;
	int64_t p_id = op_int(c, "p_id");
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = q_text(c->db, &c->err, &text, sql, DB_V_INT(p_id));
	return rc < 0 ? rc : op_result(c, json_string(text));
}

static int is_on(struct op_call *c)
{
	return tell(c, "SELECT status FROM Project WHERE p_id = $1");
}

/* ---- simulation ---- */

static int simulation(struct op_call *c)
{
	return tell(c, "SELECT sim FROM Project WHERE p_id = $1");
}

static int turn_simulation(struct op_call *c, bool on)
{
	int64_t p_id = op_int(c, "p_id"), changed = 0;
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = q_int(c->db, &c->err, &changed, "UPDATE Project SET sim = $1 WHERE p_id = $2 AND sim <> $1 RETURNING p_id",
			   DB_V_TEXT(on ? "on" : "off"), DB_V_INT(p_id));
	return rc > 0 ? op_then(c, sim_touch, p_id) : rc;
}

static int set_simulation(struct op_call *c)
{
	const char *sim = op_str(c, "sim");
	bool on = strcmp(sim, "on") == 0;
	if (!on && strcmp(sim, "off") != 0)
		return err_set(&c->err, ERR_INVAL, "invalid sim");
	int rc = turn_simulation(c, on);
	return rc == 0 ? op_result(c, json_pack("{s:I, s:s}", "p_id", (json_int_t)op_int(c, "p_id"), "sim", sim)) : rc;
}

static int turn_on(struct op_call *c)
{
	int rc = turn_simulation(c, true);
	return rc == 0 ? op_result(c, json_string("on")) : rc;
}

static int turn_off(struct op_call *c)
{
	int rc = turn_simulation(c, false);
	return rc == 0 ? op_result(c, json_string("off")) : rc;
}

/* ---- removing ---- */

int project_remove(struct op_call *c, int64_t p_id)
{
	/* which graphs there are is asked before their rows go */
	int rc = op_then_each(c, drive_touch, "SELECT na_id FROM NetworkApplication WHERE p_id = $1", p_id);
	if (rc == 0)
		rc = lines_select(c, p_id, 0);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM Project WHERE p_id = $1", DB_V_INT(p_id));
	return rc == 0 ? op_then(c, sim_touch, p_id) : rc;
}

static int delete_project(struct op_call *c)
{
	int64_t p_id = op_int(c, "p_id");
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = project_remove(c, p_id);
	return rc == 0 ? op_result_int(c, "p_id", p_id) : rc;
}

const struct op op_project_create = {.name = "project.create", .run = create};
const struct op op_project_list = {.name = "project.list", .run = list, .reads = true};
const struct op op_project_status = {.name = "project.status", .run = set_status};
const struct op op_project_delete = {.name = "project.delete", .run = delete_project};
const struct op op_project_rename = {.name = "project.rename", .run = rename_project};
const struct op op_project_is_on = {.name = "project.is_on", .run = is_on, .reads = true};
const struct op op_project_search = {.name = "project.search", .run = search, .reads = true};
const struct op op_simulation_get = {.name = "simulation.get", .run = simulation, .reads = true};
const struct op op_simulation_set = {.name = "simulation.set", .run = set_simulation};
const struct op op_simulation_turn_on = {.name = "simulation.turn_on", .run = turn_on};
const struct op op_simulation_turn_off = {.name = "simulation.turn_off", .run = turn_off};
