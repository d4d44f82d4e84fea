#include "agent/control.h"
#include "agent/graph/transport_plugin.h"
#include "common/util.h"
#include <string.h>

#define ENGINES_TOLD 4096 /* pids in status */

/* ---- status ---- */

bool agent_is_ready(const struct agent *a)
{
	return a->link; /* engines come with the graphs that need them */
}

json_t *agent_counters(const struct agent *a)
{
	struct uplink_status up = {0};
	json_t *all = service_counters(a->graphs);

	if (a->uplink != NULL)
		uplink_get_status(a->uplink, &up);
	if (all == NULL)
		return NULL;
	if (a->devices != NULL) {
		json_auto_t *devices = devices_counters(a->devices);

		if (json_object_update(all, devices) < 0) {
			json_decref(all);
			return NULL;
		}
	}
	json_object_set_new(all, "forged", json_integer((json_int_t)up.counters.forged));
	json_object_set_new(all, "replayed", json_integer((json_int_t)up.counters.replayed));
	json_object_set_new(all, "malformed", json_integer((json_int_t)up.counters.malformed));
	json_object_set_new(all, "state_overwritten", json_integer((json_int_t)up.overwritten));
	return all;
}

static const char plugin_away[] = "the broker plugin is not reached";

static bool plugin_is_away(const struct service_status *graphs)
{
	return !graphs->link && strcmp(graphs->transport, transport_plugin.name) == 0;
}

/* Why the device service has none; "": it has. */
static const char *devices_why(const struct agent *a)
{
	struct devices_status s;

	devices_get_status(a->devices, &s);
	return s.why;
}

static const char *health(const struct agent *a, const struct service_status *graphs, bool csm)
{
	if (graphs->keeper_why[0] != '\0')
		return graphs->keeper_why;
	if (!a->link)
		return "the broker is not reached";
	if (graphs->engine_late)
		return "an engine is not ready";
	if (!csm)
		return "waiting for csm";
	if (graphs->open && !graphs->link)
		return plugin_is_away(graphs) ? plugin_away
					      : "the data connection to the broker is down";
	if (a->devices != NULL && devices_why(a)[0] != '\0')
		return devices_why(a);
	return "ok";
}

static json_t *engine_status(const struct agent *a, const struct service_status *graphs)
{
	pid_t pids[ENGINES_TOLD];
	size_t n = service_engine_pids(a->graphs, pids, ENGINES_TOLD);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer(pids[i]));
	return json_pack("{s:I, s:b, s:I, s:i, s:o}", "count", (json_int_t)graphs->engines, "ready",
			 graphs->engines_ready == graphs->engines, "restarts",
			 (json_int_t)graphs->engine_restarts, "pid", n > 0 ? (int)pids[0] : -1,
			 "pids", list);
}

/* null: no device file is set */
static json_t *devices_told(const struct agent *a)
{
	struct devices_status s;

	if (a->devices == NULL)
		return json_null();
	devices_get_status(a->devices, &s);
	return json_pack("{s:I, s:I, s:I, s:b, s:s, s:s, s:I, s:I}", "count", (json_int_t)s.devices,
			 "running", (json_int_t)s.running, "failed", (json_int_t)s.failed, "bus",
			 s.bus, "bus_why", s.bus_why, "why", s.why, "backlog",
			 (json_int_t)s.backlog, "dropped", (json_int_t)s.dropped);
}

static void on_status(void *arg, json_t *request, struct ctl_call *call)
{
	struct agent *a = arg;
	struct service_status graphs;
	struct uplink_status up = {0};

	(void)request;
	service_get_status(a->graphs, &graphs);
	if (a->uplink != NULL)
		uplink_get_status(a->uplink, &up);

	const struct {
		const char *name;
		json_t *value; /* taken */
	} rows[] = {
		{"state", json_string("ok")},
		{"name", json_string("agent")},
		{"pid", json_integer(getpid())},
		{"version", json_string(IOTTALK_VERSION)},
		{"uptime_s", json_integer((loop_now_ms(a->loop) - a->started_ms) / 1000)},
		{"ready", json_boolean(agent_is_ready(a))},
		{"health", json_string(health(a, &graphs, up.session))},
		{"csm", json_boolean(up.session)},
		{"agent_id", json_string(a->id)},
		{"graphs", json_integer((json_int_t)graphs.graphs)},
		{"transport", json_string(graphs.transport)},
		{"transport_why",
		 json_string(plugin_is_away(&graphs) ? plugin_away : a->transport_why)},
		{"engine", engine_status(a, &graphs)},
		{"keeper",
		 json_pack("{s:i, s:s, s:O?}", "pid", (int)graphs.keeper_pid, "why",
			   graphs.keeper_why, "layers", (json_t *)(uintptr_t)graphs.layers)},
		{"devices", devices_told(a)},
		{"counters", agent_counters(a)},
	};
	json_t *status = json_object();
	bool complete = status != NULL;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		complete &= json_object_set_new(status, rows[i].name, rows[i].value) == 0;
	if (!complete) {
		json_decref(status);
		status = NULL;
	}
	ctl_answer(call, status);
}

/* ---- graphs ---- */

static void on_list_told(void *arg, json_t *list)
{
	ctl_answer(arg,
		   list != NULL ? json_pack("{s:s, s:o}", "state", "ok", "graphs", list) : NULL);
}

static void on_graphs(void *arg, json_t *request, struct ctl_call *call)
{
	struct agent *a = arg;

	(void)request;
	service_list(a->graphs, on_list_told, call);
}

static void on_graph_told(void *arg, json_t *graph)
{
	ctl_answer(arg,
		   graph != NULL ? json_pack("{s:s, s:o}", "state", "ok", "graph", graph) : NULL);
}

/* ret: borrowed from request; NULL: answered. */
static const char *graph_named(json_t *request, struct ctl_call *call)
{
	const char *id = json_string_value(json_object_get(request, "graph"));

	if (id == NULL)
		ctl_answer_error(call, "graph is no id");
	return id;
}

static void on_graph(void *arg, json_t *request, struct ctl_call *call)
{
	struct agent *a = arg;
	const char *id = graph_named(request, call);
	struct err err = {0};

	if (id != NULL && service_show(a->graphs, id, on_graph_told, call, &err) < 0)
		ctl_answer_error(call, err.text);
}

static void on_release(void *arg, json_t *request, struct ctl_call *call)
{
	struct agent *a = arg;
	const char *id = graph_named(request, call);
	struct err err = {0};

	if (id == NULL)
		return;
	int n = service_release(a->graphs, id, &err);
	if (n < 0)
		ctl_answer_error(call, err.text);
	else
		ctl_answer(call,
			   json_pack("{s:s, s:s, s:i}", "state", "ok", "graph", id, "released", n));
}

/* ---- devices ---- */

typedef void devices_op(struct devices *d, json_t *request, struct ctl_call *call);

static void ask_devices(struct agent *a, devices_op *op, json_t *request, struct ctl_call *call)
{
	if (a->devices == NULL)
		ctl_answer_error(call, "no device file is set: [agent] devices");
	else
		op(a->devices, request, call);
}

#define DEVICES_OP(name)                                                                \
	static void on_device_##name(void *arg, json_t *request, struct ctl_call *call) \
	{                                                                               \
		ask_devices(arg, devices_on_##name, request, call);                     \
	}

DEVICES_OP(list)
DEVICES_OP(show)
DEVICES_OP(enable)
DEVICES_OP(disable)
DEVICES_OP(read)
DEVICES_OP(write)
DEVICES_OP(reload)

/* ---- the process ---- */

static void on_reload(void *arg, json_t *request, struct ctl_call *call)
{
	struct agent *a = arg;

	(void)request;
	reload_ctl(&a->reload, call);
}

static void on_log_level(void *arg, json_t *request, struct ctl_call *call)
{
	struct agent *a = arg;

	reload_ctl_log_level(&a->reload, request, call);
}

static const struct ctl_op ctl_ops[] = {
	{"status", "how the agent, its engines and its connections are", on_status},
	{"graphs", "the graphs that run here, and what they have done", on_graphs},
	{"graph", "one of them (`graph`: its id), with its links and functions", on_graph},
	{"reload", "read the configuration again", on_reload},
	{"log-level", "how much each module logs; `level` (of `module`) sets it", on_log_level},
	{"release", "run what is quarantined of a graph (`graph`: its id) again", on_release},
	{"device_list", "the devices of the field", on_device_list},
	{"device_show", "all there is to tell of one (`name`)", on_device_show},
	{"device_enable", "let one (`name`) run, and tell the broker", on_device_enable},
	{"device_disable", "stop one (`name`), and tell the broker", on_device_disable},
	{"device_read", "read a `point` of one (`name`) from the field", on_device_read},
	{"device_write", "write a `value` to a `point` of one (`name`)", on_device_write},
	{"device_reload", "read the device file again, for one (`name`) or all", on_device_reload},
};

int control_listen(struct agent *a, const char *path, struct err *err)
{
	return ctl_listen(a->loop, path, ctl_ops, ARRAY_LEN(ctl_ops), a, &a->ctl, err);
}
