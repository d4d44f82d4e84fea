#include "ccm/control.h"

#include "ccm/drive/drive.h"
#include "ccm/op.h"
#include "ccm/query.h"
#include "ccm/web/web.h"
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
	json_t *answer = json_pack("{s:s, s:s, s:i, s:s, s:f, s:b, s:I}", "state", "ok", "name", "ccm", "pid", (int)getpid(), "version",
				   IOTTALK_VERSION, "uptime_s", (double)(loop_now_ms(ccm->loop) - ccm->started_ms) / 1000, "ready", up,
				   "http_port", (json_int_t)web_port(ccm->web));
	(void)request;
	if (answer != NULL) {
		drive_status(ccm->drive, answer);
		add_counts(ccm, answer);
		json_object_set_new(answer, "health", json_string(health_of(ccm, answer)));
	}
	ctl_answer(call, answer);
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

/* ---- the table ---- */

static const struct ctl_op ops[] = {
	{"status", "what ccm is doing", on_status},
	{"reload", "read the configuration again", on_reload},
	{"log-level", "how much each module logs; `level` (of `module`) sets it", on_log_level},
	{"projects", "all projects, page by page: `after`, the last number of the page before", control_projects},
	{"project", "one `project` (number, name or OWNER/NAME) with its objects and applications", control_project},
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
