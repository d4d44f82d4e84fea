#include "csm/csm.h"

#include "common/histogram.h"
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

/* ---- messages out ---- */

static const char no_memory[] = "out of memory";

static void send_text(struct csm *csm, const char *topic, const char *text, uint8_t qos, bool retain)
{
	struct err err = {0};
	if (csm->bus != NULL && bus_publish(csm->bus, topic, text, strlen(text), qos, retain, &err) < 0 &&
	    log_allowed("send.failed", topic))
		log_error("send.failed", KV("topic", topic), KV("why", err.text));
}

/* The broker would drop it without a word. */
static bool fits(const struct csm *csm, const char *topic, const char *text)
{
	return strlen(text) + strlen(topic) + 64 <= (size_t)csm->settings->broker.message_size_limit;
}

/* What is said in place of an answer that the broker would not take. */
static char *too_large(json_t *body)
{
	json_auto_t *instead = json_pack("{s:s, s:s}", "state", "error", "reason",
					 "the answer is larger than message-size-limit");
	const char *key;
	json_t *value;
	json_object_foreach (body, key, value) {
		/* what callers find their request by */
		bool small = json_is_string(value) ? json_string_length(value) <= 255
						   : !json_is_array(value) && !json_is_object(value);
		if (small && json_object_size(instead) < 32 && json_object_get(instead, key) == NULL)
			json_object_set(instead, key, value);
	}
	return instead != NULL ? shortage_dumps(instead) : NULL;
}

void csm_send(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain)
{
	CLEANUP(freep) char *text = body != NULL ? shortage_dumps(body) : NULL;
	if (text != NULL && !fits(csm, topic, text)) {
		free(text);
		text = too_large(body);
		log_error("send.too_large", KV("topic", topic));
	}
	json_decref(body);
	if (text != NULL)
		send_text(csm, topic, text, qos, retain);
	else if (log_allowed("send.failed", topic))
		log_error("send.failed", KV("topic", topic), KV("why", no_memory));
}

/* ---- answers ---- */

#define UNSENT_AGAIN_MS 50

struct outgoing {
	struct csm *csm;
	json_t *body;
	char *text; /* made before the commit, which nothing must follow that could fail; NULL: made when it is sent */
	uint8_t qos;
	bool retain, is_answer, is_last, pending;
	struct asked from; /* of the last answer */
	struct outgoing *next;
	char topic[];
};

static const char no_memory_answer[] = "{\"state\":\"error\",\"reason\":\"out of memory\"}";

static void turn_without_memory(struct csm *csm)
{
	store_failed(csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
}

/* The last answer to a request goes out: refusals are told of once a minute and topic, what happens often only to those who look
 * closer. */
static void answered(struct csm *csm, const struct asked *from, const char *topic, bool ok, bool pending)
{
	bool tell = ok ? from->changes : log_allowed("api.answered", topic);
	int64_t took_us = monotonic_us() - from->at_us;
	metrics_api(csm->metrics, from->service, from->op, ok ? "ok" : "error", took_us);
	LOG_AT(tell ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "api.answered", KV("trace", from->trace.s), KV("topic", topic),
	       KV("op", from->op), KV("state", ok ? "ok" : "error"), KV("pending", pending), KV("took_us", took_us));
}

struct outgoing *outgoing_new(struct csm *csm, const char *topic, const struct asked *from)
{
	size_t len = strlen(topic) + 1;
	struct outgoing *o = calloc(1, sizeof(*o) + len);
	if (o == NULL)
		return NULL;
	*o = (struct outgoing){.csm = csm, .qos = 2, .is_answer = true};
	if (from != NULL) {
		o->is_last = true;
		o->from = *from;
	}
	memcpy(o->topic, topic, len);
	return o;
}

struct outgoing *outgoing_free(struct outgoing *o)
{
	if (o == NULL)
		return NULL;
	json_decref(o->body);
	free(o->text);
	free(o);
	return NULL;
}

const char *outgoing_trace(const struct outgoing *o)
{
	return o->from.trace.s;
}

/* text: of o->body; NULL: made now. ok: what the text says. */
static void send(struct outgoing *o, const char *text, bool ok)
{
	if (o->is_last)
		answered(o->csm, &o->from, o->topic, ok, ok && o->pending);
	if (text != NULL && fits(o->csm, o->topic, text))
		send_text(o->csm, o->topic, text, o->qos, o->retain);
	else
		csm_send(o->csm, o->topic, TAKE(o->body), o->qos, o->retain);
}

static bool says(const json_t *body, const char *what)
{
	const char *state = json_string_value(json_object_get(body, "state"));
	return state != NULL && strcmp(state, what) == 0;
}

static void outgoing_commit(void *arg, const char *why)
{
	struct outgoing *o = arg;
	(void)why;
	send(o, o->text, says(o->body, "ok"));
	outgoing_free(o);
}

/* The answer o->body with state error and a reason; without memory for that, its topic must do. */
static void send_error(struct outgoing *o, const char *why)
{
	json_object_set_new(o->body, "state", json_string("error"));
	json_object_set_new(o->body, "reason", csm_text(why));
	bool whole = says(o->body, "error") && json_object_get(o->body, "reason") != NULL;
	CLEANUP(freep) char *text = whole ? shortage_dumps(o->body) : NULL;
	send(o, text != NULL ? text : no_memory_answer, false);
}

static void outgoing_rollback(void *arg, const char *why)
{
	struct outgoing *o = arg;
	if (o->is_answer)
		send_error(o, why);
	outgoing_free(o);
}

void outgoing_answer(struct outgoing *o, json_t *answer)
{
	struct csm *csm = o->csm;
	o->body = answer;
	o->text = answer != NULL ? shortage_dumps(answer) : NULL;
	if (o->text == NULL)
		turn_without_memory(csm);
	store_then(csm->store, outgoing_commit, outgoing_rollback, o);
}

static bool try_now(struct outgoing *o)
{
	unsigned long shortages = shortage_count();
	json_object_set_new(o->body, "state", json_string("ok"));
	if (o->pending)
		json_object_set_new(o->body, "pending", json_true());
	CLEANUP(freep) char *text = shortage_dumps(o->body);
	if (text == NULL || shortage_count() != shortages)
		return false;
	send(o, text, true);
	outgoing_free(o);
	return true;
}

static void send_unsent(void *arg)
{
	struct csm *csm = arg;
	struct outgoing *o = TAKE(csm->unsent);
	while (o != NULL) {
		struct outgoing *next = o->next;
		if (!try_now(o)) {
			o->next = csm->unsent;
			csm->unsent = o;
		}
		o = next;
	}
	loop_arm(csm->loop, csm->unsent_timer, csm->unsent != NULL ? UNSENT_AGAIN_MS : -1);
}

void outgoing_answer_ok(struct outgoing *o, json_t *answer, bool pending)
{
	struct csm *csm = o->csm;
	o->body = answer;
	o->pending = pending;
	if (try_now(o))
		return;
	o->next = csm->unsent;
	csm->unsent = o;
	loop_arm(csm->loop, csm->unsent_timer, UNSENT_AGAIN_MS);
}

static void drop_unsent(struct csm *csm)
{
	for (struct outgoing *o = TAKE(csm->unsent), *next; o != NULL; o = next) {
		next = o->next;
		send(o, no_memory_answer, false);
		outgoing_free(o);
	}
}

void csm_publish(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain)
{
	struct outgoing *o = body != NULL ? outgoing_new(csm, topic, NULL) : NULL;
	if (o == NULL) {
		json_decref(body);
		log_error("send.failed", KV("topic", topic), KV("why", no_memory));
		return;
	}
	o->body = body;
	o->qos = qos;
	o->retain = retain;
	o->is_answer = false;
	store_then(csm->store, outgoing_commit, outgoing_rollback, o);
}

void csm_answer(struct csm *csm, const char *topic, json_t *answer, const struct asked *from)
{
	struct outgoing *o = outgoing_new(csm, topic, from);
	if (o != NULL) {
		outgoing_answer(o, answer);
		return;
	}
	json_decref(answer);
	turn_without_memory(csm);
	if (from != NULL)
		answered(csm, from, topic, false, false);
	send_text(csm, topic, no_memory_answer, 2, false);
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
	(void)arg;
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
	rc = bus_new(csm->loop, &conf, &bus_handlers, csm, &csm->bus, err);
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
	    (rc = loop_add_timer(csm->loop, -1, 0, send_unsent, csm, &csm->unsent_timer, err)) < 0)
		return rc;
	csm->started_ms = loop_now_ms(csm->loop);
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
	drop_unsent(csm);
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
