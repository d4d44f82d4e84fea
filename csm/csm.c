#include "csm/csm.h"

#include "common/id.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/api.h"
#include "csm/apps.h"
#include "csm/beacon.h"
#include "csm/cleanup.h"
#include "csm/control.h"
#include "csm/funcs.h"
#include "csm/graphs.h"
#include "csm/links.h"
#include "csm/listeners.h"
#include "csm/metrics.h"
#include "csm/outgoing.h"
#include "csm/registry.h"
#include "csm/repeats.h"
#include "csm/resource.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

double csm_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

json_t *csm_text(const char *text)
{
	json_t *string = json_string(text);
	CLEANUP(freep) char *copy = string == NULL ? strdup(text) : NULL;
	/* the good characters go with the bad: this is for people, and rare */
	for (char *c = copy; string == NULL && c != NULL && *c != '\0'; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return string != NULL || copy == NULL ? string : json_string(copy);
}

/* ---- messages in ---- */

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);
	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct csm *csm = arg;
	if (strncmp(m->topic, "iottalk/api/req/", 16) == 0)
		api_on_message(csm, m);
	else if (strncmp(m->topic, "iottalk/agent/", 14) == 0)
		agents_on_message(csm->agents, m);
	else if (ends_with(m->topic, "/ctrl/i"))
		control_on_message(csm, m);
}

static void on_up(void *arg, bool fresh)
{
	struct csm *csm = arg;
	log_info("broker.connected", KV("fresh", fresh));
	daemon_notify_status("connected to the broker");
	if (!csm->bus_was_up)
		daemon_notify_ready();
	csm->bus_was_up = true;
	repeats_on_up(csm->repeats);
}

static void on_down(void *arg, const char *why)
{
	struct csm *csm = arg;
	agents_doubt(csm->agents);
	log_warn("broker.lost", KV("why", why));
	daemon_notify_status("no connection to the broker");
}

static const struct bus_handlers bus_handlers = {
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
};

static const struct {
	const char *topic;
	uint8_t qos;
} subscriptions[] = {
	{"+/ctrl/i", 2},
	{"iottalk/api/req/#", 2},
	{"iottalk/agent/+/state", 1},
	{"iottalk/agent/+/res", 1},
};

/* ---- control socket ---- */

static void ctl_status(void *arg, json_t *request, struct ctl_call *call)
{
	struct csm *csm = arg;
	const char *trouble = store_trouble(csm->store);
	bool up = bus_is_up(csm->bus);
	(void)request;
	ctl_answer(call,
		   json_pack("{s:s, s:s, s:i, s:s, s:f, s:b, s:s, s:I, s:I, s:I, s:I, s:b}", "state",
			     "ok", "name", "csm", "pid", (int)getpid(), "version", IOTTALK_VERSION,
			     "uptime_s", (double)(loop_now_ms(csm->loop) - csm->started_ms) / 1000,
			     "ready", up && trouble == NULL, "health",
			     trouble != NULL ? trouble : up ? "ok" : "no connection to the broker",
			     "http_port", (json_int_t)http_port(csm->http), "registrations",
			     (json_int_t)registry_count(csm->registry), "online",
			     (json_int_t)registry_online(csm->registry), "graphs",
			     (json_int_t)graphs_count(csm->graphs), "agent",
			     agents_up(csm->agents, NULL)));
}

static void ctl_reload(void *arg, json_t *request, struct ctl_call *call)
{
	struct csm *csm = arg;
	(void)request;
	reload_ctl(&csm->reload, call);
}

static void ctl_log_level(void *arg, json_t *request, struct ctl_call *call)
{
	struct csm *csm = arg;
	reload_ctl_log_level(&csm->reload, request, call);
}

static const struct ctl_op ctl_ops[] = {
	{"status", "what csm is doing", ctl_status},
	{"reload", "read the configuration again", ctl_reload},
	{"log-level", "how much each module logs; `level` (of `module`) sets it", ctl_log_level},
	{"apps", "device applications by id, at most `limit` after the id `after`", apps_list},
	{"app", "one of them (`app`: its id, the begin of its id, or its name)", apps_show},
	{"suspend", "suspend the `feature` of `app` (`mode`: idf or odf, else both)", apps_suspend},
	{"resume", "take that back", apps_resume},
	{"deregister", "deregister `app`", apps_deregister},
};

/* ---- life ---- */

static void on_settings(void *arg)
{
	struct csm *csm = arg;
	registry_rearm(csm->registry);
	if (http_server_set_cors(csm->http, csm->settings->core.cors_origin) < 0)
		log_error("config.not_applied", KV("setting", "core.cors-origin"), KV("why", "out of memory"));
}

static int connect_bus(struct csm *csm, struct err *err)
{
	char client_id[64], new_id[64];
	snprintf(new_id, sizeof(new_id), "csm-%s", uuid4().s);
	/* kept, because the broker keeps our session under it */
	int rc = store_keep(csm->store, "client_id", new_id, client_id, sizeof(client_id), err);
	if (rc < 0)
		return rc;
	const struct bus_conf conf = {
		.host = csm->settings->core_mqtt.host,
		.port = (unsigned)csm->settings->core_mqtt.port,
		.client_id = client_id,
		/* what must not be lost is in our own store */
	};
	rc = bus_new_paho(csm->loop, &conf, &bus_handlers, csm, &csm->bus, err);
	for (size_t i = 0; i < ARRAY_LEN(subscriptions) && rc == 0; i++)
		rc = bus_subscribe(csm->bus, subscriptions[i].topic, subscriptions[i].qos, NULL, NULL,
				   err);
	return rc;
}

static int start(struct csm *csm, int argc, char *argv[], struct err *err)
{
	int rc = daemon_start(&csm->daemon, "csm", argc, argv, err);
	if (rc != 0)
		return rc;
	csm->settings = &csm->daemon.settings;
	csm->silent = true;
	CLEANUP(freep) char *key = settings_path(csm->settings, "key");
	CLEANUP(freep) char *socket = settings_path(csm->settings, "run/csm.sock");
	if (key == NULL || socket == NULL || (csm->metrics = metrics_new()) == NULL)
		return err_set(err, ERR_NOMEM, "starting");
	csm->reload = (struct reload){.daemon = &csm->daemon, .on_change = on_settings, .arg = csm};
	if ((rc = loop_new(&csm->loop, err)) < 0 || (rc = daemon_handle_stop(csm->loop, err)) < 0 ||
	    (rc = daemon_watch(csm->loop, err)) < 0 || (rc = seal_key_load(key, &csm->key, err)) < 0 ||
	    (rc = store_open(csm, &csm->store, err)) < 0 ||
	    (rc = outgoing_start(csm, err)) < 0)
		return rc;
	csm->started_ms = loop_now_ms(csm->loop);
	csm->run = uuid4();
	if ((csm->links = links_new(csm)) == NULL)
		return err_set(err, ERR_NOMEM, "starting");
	if ((rc = registry_new(csm, &csm->registry, err)) < 0 ||
	    (rc = suspensions_new(csm, &csm->suspensions, err)) < 0 ||
	    (rc = listeners_new(csm, &csm->listeners, err)) < 0 ||
	    (rc = repeats_new(csm, &csm->repeats, err)) < 0 ||
	    (rc = funcs_new(csm, &csm->funcs, err)) < 0 ||
	    (rc = agents_new(csm, &csm->agents, err)) < 0 || (rc = connect_bus(csm, err)) < 0 ||
	    (rc = graphs_new(csm, &csm->graphs, err)) < 0 || (rc = cleanup_load(csm, err)) < 0 ||
	    (rc = resource_start(csm, &csm->http, err)) < 0 || (rc = beacon_start(csm, &csm->beacon, err)) < 0 ||
	    (rc = ctl_listen(csm->loop, socket, ctl_ops, ARRAY_LEN(ctl_ops), csm, &csm->ctl, err)) < 0 ||
	    (rc = reload_start(&csm->reload, csm->loop, err)) < 0)
		return rc;
	csm->silent = false;
	funcs_sweep(csm->funcs);
	if ((rc = links_resend(csm->links, err)) < 0)
		return rc;
	suspensions_resend(csm->suspensions);
	graphs_settle(csm->graphs);
	daemon_notify_status("waiting for the broker");
	log_info("csm.started", KV("http_port", http_port(csm->http)),
		 KV("registrations", registry_count(csm->registry)),
		 KV("graphs", graphs_count(csm->graphs)));
	return 0;
}

int csm_start(struct csm *csm, int argc, char *argv[], struct err *err)
{
	shortage_watch_json();
	int rc = start(csm, argc, argv, err);
	/* what does not read back then is not damaged */
	return rc < 0 && shortage_count() != 0 ? err_set(err, ERR_NOMEM, "starting") : rc;
}

void csm_stop(struct csm *csm)
{
	csm->silent = true;
	csm->ctl = ctl_close(csm->ctl);
	csm->beacon = beacon_stop(csm->beacon);
	if (csm->graphs != NULL)
		csm->graphs = graphs_free(csm->graphs);
	csm->agents = agents_free(csm->agents);
	csm->store = store_close(csm->store); /* what still waits for a commit gets its answer now */
	csm->http = http_server_free(csm->http);
	outgoing_stop(csm);
	csm->bus = bus_free(csm->bus);
	csm->suspensions = suspensions_free(csm->suspensions);
	csm->registry = registry_free(csm->registry);
	csm->links = links_free(csm->links);
	csm->funcs = funcs_free(csm->funcs);
	csm->listeners = listeners_free(csm->listeners);
	csm->repeats = repeats_free(csm->repeats);
	csm->metrics = metrics_free(csm->metrics);
	csm->loop = loop_free(csm->loop);
	daemon_stop(&csm->daemon);
}
