/* commands.c - what csm commands a device application: CONNECT, DISCONNECT, SUSPEND, RESUME of its
 * features (spec iottalk-core 4). */
#include "dan/client.h"

#include "common/util.h"
#include <stdlib.h>
#include <string.h>

void dan_report(struct dan_client *c, const struct err *err)
{
	if (c->handlers.on_error != NULL)
		c->handlers.on_error(c->arg, err);
}

/* ---- channels ---- */

struct channel *dan_find_channel(const struct dan_client *c, enum dan_mode mode, const char *name)
{
	return map_find(c->by_name[mode], name);
}

static void channel_connected(struct dan_client *c, struct channel *ch)
{
	if (ch->told)
		return;
	ch->told = true;
	if (c->handlers.on_connect != NULL)
		c->handlers.on_connect(c->arg, ch->mode, ch->name);
}

static void channel_unlink(struct dan_client *c, struct channel *ch)
{
	map_remove(c->by_name[ch->mode], ch->name);
	if (ch->mode == DAN_ODF)
		map_remove(c->by_topic, ch->topic);
	*(ch->prev != NULL ? &ch->prev->next : &c->channels) = ch->next;
	*(ch->next != NULL ? &ch->next->prev : &c->last_channel) = ch->prev;
}

static void drop_channel(struct dan_client *c, struct channel *ch)
{
	enum dan_mode mode = ch->mode;
	const char *name = ch->name;
	bool told = ch->told;
	struct err err = {0};
	channel_unlink(c, ch);
	if (mode == DAN_ODF && bus_unsubscribe(c->bus, ch->topic, NULL, NULL, &err) < 0)
		dan_report(c, &err);
	free(ch);
	if (told && c->handlers.on_disconnect != NULL)
		c->handlers.on_disconnect(c->arg, mode, name);
}

void dan_drop_channels(struct dan_client *c)
{
	while (c->channels != NULL)
		drop_channel(c, c->channels);
}

void dan_free_channels(struct dan_client *c)
{
	map_free(c->by_topic, NULL); /* before the channels: they own the keys */
	map_free(c->by_name[DAN_IDF], NULL);
	map_free(c->by_name[DAN_ODF], NULL);
	while (c->channels != NULL) {
		struct channel *ch = c->channels;
		c->channels = ch->next;
		free(ch);
	}
}

/* Into the maps and the list, or nothing. */
static int channel_link(struct dan_client *c, struct channel *ch, struct err *err)
{
	int rc = map_add(c->by_name[ch->mode], ch->name, ch);
	if (rc < 0)
		return err_set(err, rc, "feature '%s'", ch->name);
	if (ch->mode == DAN_ODF && (rc = map_add(c->by_topic, ch->topic, ch)) < 0) {
		map_remove(c->by_name[ch->mode], ch->name);
		return rc == ERR_EXIST
			       ? err_set(err, rc, "feature '%s': its topic is another feature's",
					 ch->name)
			       : err_set(err, rc, "feature '%s'", ch->name);
	}
	ch->prev = c->last_channel;
	*(ch->prev != NULL ? &ch->prev->next : &c->channels) = ch;
	c->last_channel = ch;
	return 0;
}

/* The feature is in a graph, with this topic; the same one again changes nothing. name: as the
 * features have it. */
static int channel_set_topic(struct dan_client *c, enum dan_mode mode, const char *name,
			     const char *topic, struct err *err)
{
	struct channel *ch = dan_find_channel(c, mode, name);
	if (ch != NULL && strcmp(ch->topic, topic) == 0)
		return 0;
	if (ch != NULL)
		drop_channel(c, ch);
	ch = calloc(1, sizeof(*ch) + strlen(topic) + 1);
	if (ch == NULL)
		return err_set(err, ERR_NOMEM, "feature '%s'", name);
	ch->mode = mode;
	ch->name = name;
	memcpy(ch->topic, topic, strlen(topic) + 1);
	int rc = channel_link(c, ch, err);
	if (rc < 0)
		free(ch);
	return rc;
}

/* ---- answers ---- */

void dan_publish_up(struct dan_client *c, char *payload, uint8_t qos, bool retain)
{
	struct err err = {0};
	CLEANUP(freep)
	char *text = payload; /* NULL: was out of memory */
	if (text == NULL)
		err_set(&err, ERR_NOMEM, "message to csm");
	else
		bus_publish(c->bus, c->reg.ctrl_up, text, strlen(text), qos, retain, &err);
	if (err.code != 0)
		dan_report(c, &err);
}

static void answer(struct dan_client *c, json_t *msg_id, const char *reason)
{
	if (c->phase == PHASE_REGISTERED)
		dan_publish_up(c, control_answer(msg_id, reason), CTRL_QOS, false);
}

/* ---- commands ---- */

static struct pending *pending_free(struct pending *p)
{
	if (p == NULL)
		return NULL;
	free(p->topic);
	json_decref(p->msg_id);
	free(p);
	return NULL;
}

static void pending_unlink(struct pending *p)
{
	if (p->prev != NULL)
		p->prev->next = p->next;
	else
		p->client->pending = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
}

static void on_subscribed(void *arg, int rc)
{
	struct pending *p = arg;
	struct dan_client *c = p->client;
	if (c->phase != PHASE_REGISTERED)
		return; /* dan_free() releases it */
	struct channel *ch = dan_find_channel(c, DAN_ODF, p->name);
	bool current = ch != NULL && strcmp(ch->topic, p->topic) == 0;
	if (rc < 0 && current)
		drop_channel(c, ch);
	else if (current)
		channel_connected(c, ch);
	answer(c, p->msg_id, rc < 0 ? "the broker refuses the subscription" : NULL);
	pending_unlink(p);
	pending_free(p);
}

static int subscribe(struct dan_client *c, const char *name, const struct control *cmd,
		     struct err *err)
{
	struct pending *p = calloc(1, sizeof(*p));
	if (p == NULL || (p->topic = strdup(cmd->topic)) == NULL) {
		pending_free(p);
		return err_set(err, ERR_NOMEM, "feature '%s'", name);
	}
	p->client = c;
	p->name = name;
	p->msg_id = json_incref(cmd->msg_id);
	p->next = c->pending;
	if (p->next != NULL)
		p->next->prev = p;
	c->pending = p;
	int rc = bus_subscribe(c->bus, cmd->topic, c->own.qos, on_subscribed, p, err);
	if (rc < 0) {
		pending_unlink(p);
		pending_free(p);
	}
	return rc;
}

/* Handlers of commands return 1 when they are done, 0 when the answer comes later, or a negative
 * code. name: of the feature, as the features have it. */
static int do_connect(struct dan_client *c, const char *name, const struct control *cmd,
		      struct err *err)
{
	int rc = channel_set_topic(c, cmd->mode, name, cmd->topic, err);
	if (rc == 0 && cmd->mode == DAN_ODF)
		rc = subscribe(c, name, cmd, err);
	struct channel *ch = dan_find_channel(c, cmd->mode, name);
	if (rc < 0 && ch != NULL)
		drop_channel(c, ch);
	if (rc < 0 || cmd->mode == DAN_ODF)
		return rc;
	if (ch != NULL)
		channel_connected(c, ch);
	return 1;
}

static int do_disconnect(struct dan_client *c, const char *name, const struct control *cmd,
			 struct err *err)
{
	struct channel *ch = dan_find_channel(c, cmd->mode, name);
	(void)err;
	/* a topic that is not ours any more: a late command, and what it wants is so already */
	if (ch != NULL && (cmd->topic == NULL || strcmp(cmd->topic, ch->topic) == 0))
		drop_channel(c, ch);
	return 1;
}

static int set_suspended(struct dan_client *c, const char *name, const struct control *cmd,
			 bool suspended, struct err *err)
{
	struct channel *ch = dan_find_channel(c, cmd->mode, name);
	if (ch == NULL)
		return err_set(err, ERR_AGAIN, "feature '%s' is not connected", name);
	if (ch->suspended == suspended)
		return 1;
	ch->suspended = suspended;
	if (c->handlers.on_suspend != NULL)
		c->handlers.on_suspend(c->arg, cmd->mode, name, suspended);
	return 1;
}

static int do_suspend(struct dan_client *c, const char *name, const struct control *cmd,
		      struct err *err)
{
	return set_suspended(c, name, cmd, true, err);
}

static int do_resume(struct dan_client *c, const char *name, const struct control *cmd,
		     struct err *err)
{
	return set_suspended(c, name, cmd, false, err);
}

typedef int command_fn(struct dan_client *c, const char *name, const struct control *cmd,
		       struct err *err);

static command_fn *const command_handlers[] = {
	[CONTROL_CONNECT] = do_connect,
	[CONTROL_DISCONNECT] = do_disconnect,
	[CONTROL_SUSPEND] = do_suspend,
	[CONTROL_RESUME] = do_resume,
};

static int run_command(struct dan_client *c, const struct control *cmd, struct err *err)
{
	const char *name = features_find(&c->own.features, cmd->mode, cmd->feature);
	if (name == NULL)
		return err_set(err, ERR_NOENT, "feature '%.255s' unknown", cmd->feature);
	return command_handlers[cmd->command](c, name, cmd, err);
}

void dan_on_command(struct dan_client *c, const struct bus_msg *m)
{
	CLEANUP(control_done)
	struct control cmd;
	struct err err = {0};
	int rc = control_parse(m->payload, m->len, &cmd, &err);
	if (rc == 0)
		rc = run_command(c, &cmd, &err);
	if (rc != 0 && cmd.msg_id != NULL)
		answer(c, cmd.msg_id, rc < 0 ? err.text : NULL);
	if (rc < 0)
		dan_report(c, &err);
}

void dan_drop_pending(struct dan_client *c)
{
	while (c->pending != NULL) {
		struct pending *p = c->pending;
		pending_unlink(p);
		pending_free(p);
	}
}
