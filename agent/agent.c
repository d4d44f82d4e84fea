#include "agent/agent.h"
#include "agent/graph/transport_plugin.h"
#include "agent/identity.h"
#include "common/log.h"
#include "common/util.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define STATS_EVERY_MS 1000
#define ENGINE_NAME    "iottalk-engine"
/* How long a broker may be without the plugin it had: longer, and another transport is looked for.
 */
#define PLUGIN_GONE_MS 10000
#define PLUGIN_LOOK_MS 1000
#define KEEPER_TRIES   3    /* then it is no passing trouble */
#define ENGINES_TOLD   4096 /* pids in status */

/* The engine lies beside our own program. */
static int find_engine(char path[PATH_MAX], struct err *err)
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	if (n < 0)
		return err_sys(err, "/proc/self/exe");
	path[n] = '\0';
	char *slash = strrchr(path, '/');
	if (slash == NULL || (size_t)(slash + 1 - path) + sizeof(ENGINE_NAME) > PATH_MAX)
		return err_set(err, ERR_SYS, "the path of the program is too long: %s", path);
	memcpy(slash + 1, ENGINE_NAME, sizeof(ENGINE_NAME));
	if (access(path, X_OK) < 0)
		return err_sys(err, "the engine %s", path);
	return 0;
}

/* ---- starting ---- */

static int load_key(struct agent *a, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(&a->daemon.settings, "key");

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "suite key");
	int rc = seal_key_load(path, &a->key, err);
	if (rc == ERR_NOENT)
		return err_set(err, rc,
			       "there is no suite key %s: run 'iotctl initdb', or copy it from the "
			       "machine of csm",
			       path);
	return rc;
}

/* ---- status ---- */

static bool is_ready(const struct agent *a)
{
	return a->link; /* engines come with the graphs that need them */
}

static void check_ready(struct agent *a)
{
	if (a->ready || !is_ready(a))
		return;
	a->ready = true;
	log_info("agent.ready", KV("agent", a->id),
		 KV("took_ms", loop_now_ms(a->loop) - a->started_ms));
	daemon_notify_ready();
}

/* All we count, ours and the services'. A new object; NULL: out of memory. */
static json_t *counters(const struct agent *a)
{
	struct uplink_status up = {0};
	json_t *all = service_counters(a->graphs);

	if (a->uplink != NULL)
		uplink_get_status(a->uplink, &up);
	if (all == NULL)
		return NULL;
	json_object_set_new(all, "forged", json_integer((json_int_t)up.counters.forged));
	json_object_set_new(all, "replayed", json_integer((json_int_t)up.counters.replayed));
	json_object_set_new(all, "malformed", json_integer((json_int_t)up.counters.malformed));
	json_object_set_new(all, "state_overwritten", json_integer((json_int_t)up.overwritten));
	return all;
}

/* What csm shows on its page of metrics: all that was counted, and what there is now. A new object;
 * NULL: out of memory. */
static json_t *stats(const struct agent *a)
{
	/* what the plugin tells among its counters, but goes up and down */
	static const char *const levels[] = {"ports", "topics", "topic_bytes"};
	struct service_status s;
	json_t *totals = counters(a);

	service_get_status(a->graphs, &s);
	json_t *now = json_pack("{s:I, s:I, s:I, s:I, s:I}", "graphs", (json_int_t)s.graphs,
				"engines", (json_int_t)s.engines, "engines_ready",
				(json_int_t)s.engines_ready, "quarantined",
				(json_int_t)s.quarantined, "data_link", (json_int_t)s.link);
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		json_t *n = json_object_get(totals, levels[i]);

		if (n == NULL)
			continue;
		json_object_set(now, levels[i], n);
		json_object_del(totals, levels[i]);
	}
	return json_pack("{s:s, s:o, s:o}", "op", "stats", "counters", totals, "gauges", now);
}

static const char plugin_away[] = "the broker plugin is not reached";

static bool plugin_is_away(const struct service_status *graphs)
{
	return !graphs->link && strcmp(graphs->transport, transport_plugin.name) == 0;
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
		{"ready", json_boolean(is_ready(a))},
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
		{"counters", counters(a)},
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
};

/* ---- events ---- */

static void on_service_answer(void *arg, const struct request_tag *tag, json_t *answer)
{
	struct agent *a = arg;

	uplink_answer(a->uplink, tag, answer);
}

static int on_service_report(void *arg, json_t *report)
{
	struct agent *a = arg;

	return uplink_report(a->uplink, report);
}

static void on_service_change(void *arg)
{
	check_ready(arg);
}

/* Without engines nothing of an agent is of use to anybody: csm shall not count on it. */
static void on_no_keeper(void *arg, const char *why, bool was_up)
{
	struct agent *a = arg;

	log_error("keeper.down", KV("why", why));
	if (!was_up && ++a->keeper_failures >= KEEPER_TRIES)
		loop_quit(a->loop, ERR_PEER);
}

static void tell_status(const struct agent *a)
{
	struct uplink_status up = {0};

	if (a->uplink != NULL)
		uplink_get_status(a->uplink, &up);
	daemon_notify_status(!a->link     ? "no connection to the broker"
			     : up.session ? "in session with csm"
					  : "waiting for csm");
}

static void on_link(void *arg, bool up)
{
	struct agent *a = arg;

	a->link = up;
	tell_status(a);
	check_ready(a);
}

static void on_session(void *arg, bool open)
{
	struct agent *a = arg;

	if (open)
		log_info("csm.session");
	tell_status(a);
	/* A new csm knows nothing of us yet. */
	json_decref(a->reported);
	a->reported = NULL;
}

static void on_stats(void *arg)
{
	struct agent *a = arg;
	struct uplink_status up;

	if (a->uplink == NULL)
		return;
	uplink_get_status(a->uplink, &up);
	if (!up.session)
		return;
	json_t *now = stats(a);

	if (now == NULL || (a->reported != NULL && json_equal(now, a->reported)) ||
	    uplink_report(a->uplink, json_incref(now)) < 0) {
		json_decref(now);
		return;
	}
	json_decref(a->reported);
	a->reported = now;
}

/* ---- the way of the data ---- */

/* auto: the plugin if it is there and proves that it works. */
static const struct transport_ops *choose_transport(struct agent *a)
{
	const struct settings *s = &a->daemon.settings;
	struct err err = {0};

	if (s->agent.transport == TRANSPORT_CLIENT)
		return &transport_client;
	if (s->agent.transport == TRANSPORT_PLUGIN)
		return &transport_plugin;
	if (transport_plugin_probe(s, a->id, &err) == 0)
		return &transport_plugin;
	snprintf(a->transport_why, sizeof(a->transport_why), "%.290s", err.text);
	log_warn("transport.client", KV("why", err.text));
	return &transport_client;
}

/* The broker came back without its plugin: begin again, with another transport. */
static void on_plugin_timer(void *arg)
{
	struct agent *a = arg;
	struct service_status graphs;
	int64_t now = loop_now_ms(a->loop);

	service_get_status(a->graphs, &graphs);
	if (graphs.link || !a->link)
		a->plugin_lost_ms = 0;
	else if (a->plugin_lost_ms == 0)
		a->plugin_lost_ms = now;
	if (a->plugin_lost_ms == 0 || now - a->plugin_lost_ms < PLUGIN_GONE_MS)
		return;
	log_error("transport.plugin_gone",
		  KV("why", "the broker is there, and its plugin has not answered for 10 s"));
	loop_quit(a->loop, ERR_PEER);
}

static int watch_plugin(struct agent *a, const struct transport_ops *ops, struct err *err)
{
	if (ops != &transport_plugin || a->daemon.settings.agent.transport != TRANSPORT_AUTO)
		return 0;
	return loop_add_timer(a->loop, PLUGIN_LOOK_MS, PLUGIN_LOOK_MS, on_plugin_timer, a,
			      &a->plugin_timer, err);
}

/* ---- start and stop ---- */

/* Not before: what csm puts must meet the engines that have it already. */
static void on_engines(void *arg)
{
	static const struct uplink_events uplink_events = {
		.on_link = on_link,
		.on_session = on_session,
	};
	struct agent *a = arg;
	struct err err = {0};
	size_t n;
	const struct request_op *ops = service_ops(&n);

	if (uplink_new(a->loop, &a->daemon.settings, &a->key, a->id, ops, n, a->graphs,
		       &uplink_events, a, &a->uplink, &err) == 0)
		return;
	log_error("start.failed", KV("why", err.text));
	loop_quit(a->loop, err.code);
}

static int start_services(struct agent *a, struct err *err)
{
	static const struct service_events service_events = {
		.answer = on_service_answer,
		.report = on_service_report,
		.on_change = on_service_change,
		.on_engines = on_engines,
		.on_no_keeper = on_no_keeper,
	};
	const struct settings *s = &a->daemon.settings;
	CLEANUP(freep)
	char *socket_path = settings_path(s, "run/agent.sock");
	char engine[PATH_MAX];

	if (socket_path == NULL)
		return err_set(err, ERR_NOMEM, "control socket");
	int rc = find_engine(engine, err);
	const struct transport_ops *transport = rc == 0 ? choose_transport(a) : NULL;
	if (rc == 0)
		rc = service_new(a->loop, s, a->id, engine, transport, &service_events, a,
				 &a->graphs, err);
	if (rc == 0)
		rc = watch_plugin(a, transport, err);
	if (rc < 0)
		return rc;
	rc = ctl_listen(a->loop, socket_path, ctl_ops, ARRAY_LEN(ctl_ops), a, &a->ctl, err);
	if (rc == 0)
		rc = loop_add_timer(a->loop, STATS_EVERY_MS, STATS_EVERY_MS, on_stats, a,
				    &a->stats_timer, err);
	return rc;
}

int agent_start(struct agent *a, int argc, char *argv[], struct err *err)
{
	int rc = daemon_start(&a->daemon, "agent", argc, argv, err);

	if (rc != 0)
		return rc;
	rc = loop_new(&a->loop, err);
	if (rc == 0)
		rc = daemon_handle_stop(a->loop, err);
	a->reload = (struct reload){.daemon = &a->daemon};
	if (rc == 0)
		rc = reload_start(&a->reload, a->loop, err);
	if (rc == 0)
		rc = daemon_watch(a->loop, err);
	if (rc == 0)
		rc = identity_find(&a->daemon.settings, a->id, err);
	if (rc == 0)
		rc = load_key(a, err);
	if (rc < 0)
		return rc;
	a->started_ms = loop_now_ms(a->loop);
	log_info("agent.starting", KV("agent", a->id), KV("version", IOTTALK_VERSION),
		 KV("pid", getpid()));
	return start_services(a, err);
}

void agent_stop(struct agent *a)
{
	if (a->loop != NULL)
		a->stats_timer = loop_remove(a->loop, a->stats_timer);
	if (a->loop != NULL)
		a->plugin_timer = loop_remove(a->loop, a->plugin_timer);
	ctl_close(a->ctl);
	service_free(a->graphs);
	uplink_free(a->uplink);
	json_decref(a->reported);
	loop_free(a->loop);
	explicit_bzero(&a->key, sizeof(a->key));
	daemon_stop(&a->daemon);
}
