#include "ccm/control.h"

#include "ccm/drive/drive.h"
#include "ccm/gui/gui.h"
#include "ccm/op.h"
#include "ccm/ops/project.h"
#include "ccm/query.h"
#include "ccm/web/web.h"
#include "common/schema.h"
#include "common/util.h"
#include <string.h>

/* ---- what ccm is doing ---- */

static const char *health_of(const struct ccm *ccm, const json_t *answer)
{
	const char *csm = json_string_value(json_object_get(answer, "csm")); /* "attached", "not attached" ... */
	if (!bus_is_up(ccm->bus))
		return "no connection to the broker";
	return csm != NULL && strcmp(csm, "attached") != 0 ? "csm does not answer" : "ok";
}

/* How much of each kind is stored; a store that cannot be asked has no numbers. */
static void add_counts(struct ccm *ccm, json_t *answer)
{
	static const struct {
		const char *key, *sql;
	} counts[] = {
		{"projects", "SELECT count(*) FROM Project"},
		{"projects_on", "SELECT count(*) FROM Project WHERE status = 'on'"},
		{"devices", "SELECT count(*) FROM Device"},
		{"users", "SELECT count(*) FROM User WHERE is_deleted = 0"},
	};
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		int64_t n;
		if (q_int_of(ccm->db, NULL, &n, counts[i].sql, NULL, 0) > 0)
			json_object_set_new(answer, counts[i].key, json_integer(n));
	}
}

static void on_status(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	bool up = bus_is_up(ccm->bus);
	json_t *answer =
		json_pack("{s:s, s:s, s:i, s:s, s:f, s:b, s:I, s:b}", "state", "ok", "name", "ccm", "pid", (int)getpid(), "version",
			  IOTTALK_VERSION, "uptime_s", (double)(loop_now_ms(ccm->loop) - ccm->started_ms) / 1000, "ready", up,
			  "http_port", (json_int_t)web_port(ccm->web), "in_memory",
			  strcmp(schema_path(ccm->settings, SCHEMA_CCM), ":memory:") == 0);
	(void)request;
	if (answer != NULL) {
		drive_status(ccm->drive, answer);
		gui_status(ccm->gui, answer);
		add_counts(ccm, answer);
		json_object_set_new(answer, "health", json_string(health_of(ccm, answer)));
	}
	ctl_answer(call, answer);
}

static void on_reconcile(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	(void)request;
	drive_reconcile(ccm->drive);
	ctl_answer(call, json_pack("{s:s}", "state", "ok"));
}

static void on_reload(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	(void)request;
	reload_ctl(&ccm->reload, call);
}

static void on_log_level(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	reload_ctl_log_level(&ccm->reload, request, call);
}

/* ---- what is done to a project, in the name of its owner ---- */

/* Its result beside "state"; and the name that it was given. */
static void on_done(void *arg, struct op_call *c, int rc)
{
	struct ctl_call *call = arg;
	if (rc < 0) {
		ctl_answer_error(call, c->err.text);
		return;
	}
	json_t *answer = json_pack("{s:s}", "state", "ok");
	const char *p_name = op_str(c, "p_name");
	if (p_name != NULL)
		json_object_set_new(answer, "p_name", json_string(p_name));
	json_object_update(answer, c->data);
	ctl_answer(call, answer);
}

static void on_exported(void *arg, struct op_call *c, int rc)
{
	struct ctl_call *call = arg;
	if (rc < 0)
		ctl_answer_error(call, c->err.text);
	else
		ctl_answer(call, json_pack("{s:s, s:O}", "state", "ok", "document", c->data));
}

static void on_switch(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	const char *status = json_string_value(json_object_get(request, "status"));
	struct caller owner = {0};
	int64_t p_id = 0;
	struct err err = {0};
	if (status == NULL)
		ctl_answer_error(call, "`status` must be on or off");
	else if (control_find_project(ccm->db, request, &p_id, &owner.u_id, &err) < 0)
		ctl_answer_error(call, err.text);
	else
		op_start(ccm, &op_project_status, &owner, json_pack("{s:I, s:s}", "p_id", (json_int_t)p_id, "status", status),
			 on_done, call);
}

static void on_export(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	bool functions = json_is_true(json_object_get(request, "functions"));
	struct caller owner = {0};
	int64_t p_id = 0;
	struct err err = {0};
	if (control_find_project(ccm->db, request, &p_id, &owner.u_id, &err) < 0)
		ctl_answer_error(call, err.text);
	else
		op_start(ccm, &op_project_export, &owner,
			 json_pack("{s:I, s:b}", "p_id", (json_int_t)p_id, "functions", functions), on_exported, call);
}

static void on_import(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	const char *user = json_string_value(json_object_get(request, "user"));
	json_t *document = json_object_get(request, "document"), *name = json_object_get(request, "name");
	struct caller owner = {0};
	struct err err = {0};
	if (name == NULL)
		name = json_object_get(json_object_get(document, "project"), "p_name");
	if (user == NULL || !json_is_object(document) || !json_is_string(name)) {
		ctl_answer_error(call, user == NULL                ? "whose does it become? (`user`)"
				       : !json_is_object(document) ? "the document is no exported project"
								   : "it has no name: say one");
		return;
	}
	int rc = q_int(ccm->db, &err, &owner.u_id, "SELECT u_id FROM User WHERE u_name = $1 AND is_deleted = 0", DB_V_TEXT(user));
	if (rc == 0)
		rc = err_set(&err, ERR_NOENT, "there is no account '%.100s'", user);
	if (rc < 0)
		ctl_answer_error(call, err.text);
	else
		op_start(ccm, &op_project_import, &owner, json_pack("{s:O, s:O}", "p_name", name, "document", document), on_done,
			 call);
}

/* ---- the table ---- */

static const struct ctl_op ops[] = {
	{"status", "what ccm is doing", on_status},
	{"reconcile", "compare all graphs and devices with csm now", on_reconcile},
	{"reload", "read the configuration again", on_reload},
	{"log-level", "how much each module logs; `level` (of `module`) sets it", on_log_level},
	{"projects", "all projects, page by page: `after`, the last number of the page before", control_projects},
	{"project", "one `project` (number, name or OWNER/NAME) with its objects and applications", control_project},
	{"project-switch", "make a `project` `status` on or off", on_switch},
	{"project-export", "a `project` as a `document`; with `functions` true, with their code", on_export},
	{"project-import", "make a project of a `document`: of `user`, called `name` (absent: as in the document)", on_import},
	{"devices", "all devices, page by page: `after`", control_devices},
	{"functions", "all functions, page by page: `after`", control_functions},
	{"function", "one `function` (name or number) with its code", control_function},
	{"users", "all accounts, page by page: `after`", control_users},
};

int control_listen(struct ccm *ccm, struct err *err)
{
	CLEANUP(freep) char *socket = settings_path(ccm->settings, "run/ccm.sock");
	return socket != NULL ? ctl_listen(ccm->loop, socket, ops, ARRAY_LEN(ops), ccm, &ccm->ctl, err)
			      : err_set(err, ERR_NOMEM, "control socket");
}
