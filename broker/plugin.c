/* plugin.c - what mosquitto calls: start, end, messages, ticks. */
#include "broker/ahead.h"
#include "broker/commands.h"
#include "broker/mosq.h"
#include "broker/ports.h"
#include "broker/server.h"
#include "broker/wake.h"
#include "common/util.h"
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PLUGIN_API        5
#define MAX_PAYLOAD_BYTES 262144
#define MAX_RESULT_BYTES  1048576
#define POLL_MS           100 /* without any signal */

struct plugin {
	mosquitto_plugin_id_t *id;
	struct commands commands;
	struct ports *ports;
	struct server *server;
	bool ticked;  /* once */
	int epoll_fd; /* mosquitto's; -1: not known */
	int64_t poll_at_ms;
};

struct options {
	const char *socket; /* borrowed */
	uid_t allow;
	size_t max_payload_bytes, max_result_bytes;
};

/* mosquitto initialises a plugin once for each line that names it: the first is the one. */
static struct plugin *the_plugin;

/* ---- options ---- */

static int parse_user(const char *name, uid_t *ret, struct err *err)
{
	char buf[16384];
	struct passwd pw, *found = NULL;
	int rc = getpwnam_r(name, &pw, buf, sizeof(buf), &found);

	if (rc != 0 || found == NULL)
		return err_set(err, ERR_NOENT, "plugin_opt_allow: there is no user %s", name);
	*ret = pw.pw_uid;
	return 0;
}

static int parse_bytes(const char *key, const char *text, size_t *ret, struct err *err)
{
	char *end;

	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);

	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n > UINT32_MAX)
		return err_set(err, ERR_INVAL, "plugin_opt_%s: '%s' is no number of bytes", key,
			       text);
	*ret = (size_t)n;
	return 0;
}

static int parse_option(const struct mosquitto_opt *o, struct options *ret, struct err *err)
{
	if (o->value == NULL || o->value[0] == '\0')
		return err_set(err, ERR_INVAL, "plugin_opt_%s has no value", o->key);
	if (strcmp(o->key, "socket") == 0)
		ret->socket = o->value;
	else if (strcmp(o->key, "allow") == 0)
		return parse_user(o->value, &ret->allow, err);
	else if (strcmp(o->key, "max_payload") == 0)
		return parse_bytes(o->key, o->value, &ret->max_payload_bytes, err);
	else if (strcmp(o->key, "max_result") == 0)
		return parse_bytes(o->key, o->value, &ret->max_result_bytes, err);
	else
		return err_set(err, ERR_INVAL, "plugin_opt_%s is unknown", o->key);
	return 0;
}

static int parse_options(const struct mosquitto_opt *o, int n, struct options *ret, struct err *err)
{
	*ret = (struct options){
		.allow = (uid_t)-1,
		.max_payload_bytes = MAX_PAYLOAD_BYTES,
		.max_result_bytes = MAX_RESULT_BYTES,
	};
	for (int i = 0; i < n; i++) {
		int rc = parse_option(&o[i], ret, err);

		if (rc < 0)
			return rc;
	}
	if (ret->socket == NULL)
		return err_set(err, ERR_INVAL, "plugin_opt_socket is missing");
	return 0;
}

/* ---- turns ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_port_event(void *arg, uint32_t port, enum plug_event event)
{
	struct plugin *p = arg;

	server_tell(p->server, port, event);
}

/* Only now it is known that there are ticks, and which thread they are on. */
static void first_tick(struct plugin *p)
{
	struct err err = {0};
	int rc = wake_start(&err);

	if (rc == 0)
		rc = server_watch(p->server, &err);
	if (rc < 0)
		mosquitto_log_printf(MOSQ_LOG_WARNING, "iottalk: plugin.slow why=\"%s\"", err.text);
	p->epoll_fd = rc == 0 ? ahead_find() : -1; /* nobody would see to it that a turn follows */
	p->ticked = true;
}

static int on_tick(int event, void *data, void *arg)
{
	struct plugin *p = arg;
	int64_t now = now_ms();
	bool due = now >= p->poll_at_ms;

	(void)event;
	(void)data;
	if (!p->ticked)
		first_tick(p);
	bool kicked = wake_turn();
	bool ahead = ports_any(p->ports) && ahead_events(p->epoll_fd);

	ports_fed(p->ports, now, ahead);
	if (due) {
		ports_drain(p->ports);
		p->poll_at_ms = now + POLL_MS;
	}
	bool more = ports_pull(p->ports), unserved = false;

	if (due || kicked || server_has_news(p->server))
		unserved = server_serve(p->server);
	/* what there was to do may be done by this turn's end: a result that could be sent at once
	 * takes the word that a socket can be written to with it */
	if (ahead)
		wake_guard();
	else
		wake_rest();
	if (unserved || (!ahead && (more || ports_sleep(p->ports))))
		wake_soon();
	return MOSQ_ERR_SUCCESS;
}

static int on_message(int event, void *data, void *arg)
{
	struct plugin *p = arg;

	(void)event;
	ports_deliver(p->ports, data);
	return MOSQ_ERR_SUCCESS;
}

/* Nothing of ours can change while the broker runs; not to answer would be an error. */
static int on_reload(int event, void *data, void *arg)
{
	(void)event;
	(void)data;
	(void)arg;
	return MOSQ_ERR_SUCCESS;
}

static const struct {
	int event;
	MOSQ_FUNC_generic_callback fn;
} callbacks[] = {
	{MOSQ_EVT_MESSAGE, on_message},
	{MOSQ_EVT_TICK, on_tick},
	{MOSQ_EVT_RELOAD, on_reload},
};

/* ---- start and end ---- */

static struct plugin *plugin_free(struct plugin *p)
{
	if (p == NULL)
		return NULL;
	server_free(p->server);
	ports_free(p->ports);
	wake_stop();
	free(p);
	return NULL;
}

static int plugin_new(const struct options *o, struct plugin **ret, struct err *err)
{
	struct plugin *p = calloc(1, sizeof(*p));

	if (p == NULL || sodium_init() < 0) {
		free(p);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	const struct ports_conf conf = {
		.max_payload_bytes = o->max_payload_bytes,
		.max_result_bytes = o->max_result_bytes,
		.on_event = on_port_event,
		.arg = p,
	};
	int rc = ports_new(&conf, &p->ports, err);

	p->commands.ports = p->ports;
	randombytes_buf(&p->commands.born, sizeof(p->commands.born));
	if (rc == 0)
		rc = server_new(&p->commands, o->socket, o->allow, &p->server, err);
	if (rc < 0) {
		plugin_free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static int start(struct mosquitto_opt *opts, int n, struct plugin **ret, struct err *err)
{
	struct options o;

	if (the_plugin != NULL)
		return err_set(
			err, ERR_EXIST,
			"it is loaded already: name it once, with per_listener_settings false");
	int rc = parse_options(opts, n, &o, err);

	return rc < 0 ? rc : plugin_new(&o, ret, err);
}

int mosquitto_plugin_version(int n, const int *versions)
{
	for (int i = 0; i < n; i++)
		if (versions[i] == PLUGIN_API)
			return PLUGIN_API;
	return -1;
}

/* A plugin that fails here stops the broker, which has other things to do: what does not work says
 * so and is not there; agents then go another way. */
int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **ret_data, struct mosquitto_opt *opts,
			  int n)
{
	struct plugin *p = NULL;
	struct err err = {0};
	int rc = start(opts, n, &p, &err);

	if (p != NULL)
		p->id = id;
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(callbacks); i++)
		if (mosquitto_callback_register(id, callbacks[i].event, callbacks[i].fn, NULL, p) !=
		    MOSQ_ERR_SUCCESS)
			rc = err_set(&err, ERR_SYS, "the broker has no event %d",
				     callbacks[i].event);
	if (rc < 0) {
		mosquitto_log_printf(MOSQ_LOG_ERR, "iottalk: plugin.off why=\"%s\"", err.text);
		if (p != NULL)
			mosquitto_plugin_cleanup(p, NULL, 0);
		return MOSQ_ERR_SUCCESS;
	}
	the_plugin = p;
	*ret_data = p;
	mosquitto_log_printf(MOSQ_LOG_INFO, "iottalk: plugin.ready version=%s", IOTTALK_VERSION);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *opts, int n)
{
	struct plugin *p = data;

	(void)opts;
	(void)n;
	if (p == NULL)
		return MOSQ_ERR_SUCCESS;
	for (size_t i = 0; p->id != NULL && i < ARRAY_LEN(callbacks); i++)
		mosquitto_callback_unregister(p->id, callbacks[i].event, callbacks[i].fn, NULL);
	if (the_plugin == p)
		the_plugin = NULL;
	plugin_free(p);
	return MOSQ_ERR_SUCCESS;
}
