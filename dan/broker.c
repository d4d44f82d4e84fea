/* broker.c - a device application at the broker: its state, its commands and its data. */
#include "dan/client.h"

#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define CLIENT_ID_MAX 48 /* "dan-" and a UUID */

static void on_data(struct dan_client *c, struct channel *ch, const struct bus_msg *m)
{
	struct err err = {0};
	json_error_t why;
	if (ch->suspended || c->handlers.on_data == NULL)
		return;
	json_auto_t *values = json_loadb(m->payload, m->len, JSON_DECODE_ANY, &why);
	if (values == NULL) {
		err_set(&err, ERR_PARSE, "data for '%s': %s", ch->name, why.text);
		dan_report(c, &err);
		return;
	}
	c->handlers.on_data(c->arg, ch->name, values);
}

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct dan_client *c = arg;
	CLEANUP(freep)
	char *offline = control_state(false, c->reg.rev);
	size_t len = offline != NULL ? strlen(offline) : 0;
	if (c->phase != PHASE_REGISTERED || len == 0 || len >= sizeof(will->payload))
		return false;
	snprintf(will->topic, sizeof(will->topic), "%s", c->reg.ctrl_up);
	memcpy(will->payload, offline, len + 1);
	will->len = len;
	will->qos = CTRL_QOS;
	will->retain = true;
	return true;
}

/* Told once for as long as it is the same. */
static void on_failed(void *arg, const char *why)
{
	struct dan_client *c = arg;
	struct err err = {0};
	if (c->phase != PHASE_REGISTERED || (c->trouble != NULL && strcmp(c->trouble, why) == 0))
		return;
	free(c->trouble);
	c->trouble = strdup(why);
	err_set(&err, ERR_BUS, "connecting to the broker at %s:%u: %s", c->reg.host, c->reg.port,
		why);
	dan_report(c, &err);
}

static void on_up(void *arg, bool fresh)
{
	(void)fresh;
	struct dan_client *c = arg;
	if (c->phase != PHASE_REGISTERED)
		return;
	if (c->was_online) {
		/* as the SDKs do: forget all, say so, and be told anew what is connected */
		dan_drop_channels(c);
		dan_publish_up(c, control_state(false, c->reg.rev), CTRL_QOS, true);
		dan_check_registration(c);
	}
	dan_publish_up(c, control_state(true, c->reg.rev), CTRL_QOS, true);
	c->online = c->was_online = true;
	free(TAKE(c->trouble));
	if (c->handlers.on_online != NULL)
		c->handlers.on_online(c->arg);
}

static void on_down(void *arg, const char *why)
{
	struct dan_client *c = arg;
	bool was = c->online;
	c->online = false;
	if (was && c->handlers.on_offline != NULL)
		c->handlers.on_offline(c->arg, why);
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct dan_client *c = arg;
	if (m->retained || c->phase != PHASE_REGISTERED)
		return; /* a replay is no command and no data */
	if (strcmp(m->topic, c->reg.ctrl_down) == 0) {
		dan_on_command(c, m);
		return;
	}
	struct channel *ch = map_find(c->by_topic, m->topic);
	if (ch != NULL)
		on_data(c, ch, m);
}

int dan_connect_broker(struct dan_client *c, struct err *err)
{
	static const struct bus_handlers handlers = {
		.on_connecting = on_connecting,
		.on_failed = on_failed,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
	};
	char client_id[CLIENT_ID_MAX];
	/* one id for all connections of a device: a new one ends the old one, and its will comes
	 * before our online */
	snprintf(client_id, sizeof(client_id), "dan-%s", c->id.s);
	const struct bus_conf conf = {
		.host = c->reg.host,
		.port = c->reg.port,
		.client_id = client_id,
		.username = c->reg.username,
		.password = c->reg.password,
		.clean_session = true,
	};
	int rc = bus_new_own(c->loop, &conf, &handlers, c, &c->bus, err);
	if (rc == 0)
		rc = bus_subscribe(c->bus, c->reg.ctrl_down, CTRL_QOS, NULL, NULL, err);
	if (rc < 0)
		c->bus = bus_free(c->bus);
	return rc;
}
