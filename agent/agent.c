#include "agent/agent.h"
#include "agent/control.h"
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
/* How long values of devices wait, once the broker is there, for graphs that do not come. */
#define VALUES_WAIT_MS 10000
#define DESCRIPTORS    8192 /* with devices: each has connections of its own */
#define KEEPER_TRIES   3    /* then it is no passing trouble */

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

static void check_ready(struct agent *a)
{
	if (a->ready || !agent_is_ready(a))
		return;
	a->ready = true;
	log_info("agent.ready", KV("agent", a->id),
		 KV("took_ms", loop_now_ms(a->loop) - a->started_ms));
	daemon_notify_ready();
}

/* What csm shows on its page of metrics: all that was counted, and what there is now. A new object;
 * NULL: out of memory. */
static json_t *stats(const struct agent *a)
{
	/* what services tell among their counters, but goes up and down */
	static const char *const levels[] = {
		"ports",           "topics",         "topic_bytes",    "devices",
		"devices_running", "devices_failed", "device_backlog", "device_bus",
	};
	struct service_status s;
	json_t *totals = agent_counters(a);

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

/* csm may tell a device that it is in a graph before that is in force at an agent that has just
 * started, or whose broker has, this one or another: what the device has kept meanwhile would meet
 * nobody. */
static void hold_values(struct agent *a)
{
	struct service_status graphs;
	int64_t now = loop_now_ms(a->loop);

	if (a->devices == NULL)
		return;
	service_get_status(a->graphs, &graphs);
	bool in_force = graphs.open && graphs.link && graphs.others;
	if (in_force || !a->link)
		a->served_ms = now;
	bool held = !in_force && now - a->served_ms < VALUES_WAIT_MS;
	if (held == a->values_held)
		return;
	a->values_held = held;
	devices_hold_values(a->devices, held);
}

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
	hold_values(arg);
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
	if (!up)
		service_forget_others(a->graphs);
	tell_status(a);
	check_ready(a);
	hold_values(a);
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

	hold_values(a);
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
	if (s->agent.devices[0] != '\0') {
		daemon_raise_descriptors(DESCRIPTORS);
		rc = devices_new(a->loop, s, s->agent.devices, &a->devices, err);
		if (rc == 0)
			hold_values(a);
		if (rc == 0)
			rc = trim_new(a->loop, &a->trim, err);
	}
	if (rc == 0)
		rc = control_listen(a, socket_path, err);
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
	devices_free(a->devices);
	trim_free(a->trim);
	service_free(a->graphs);
	uplink_free(a->uplink);
	json_decref(a->reported);
	loop_free(a->loop);
	explicit_bzero(&a->key, sizeof(a->key));
	daemon_stop(&a->daemon);
}
