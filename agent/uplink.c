#include "agent/uplink.h"
#include "common/bus.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define RESTORE_SOON_MS  200 /* our own newer message may be on its way already */
#define RESTORE_EVERY_MS 1000

struct uplink {
	struct loop *loop;
	struct bus *bus;
	struct session *session;
	const struct request_op *ops;
	size_t n_ops;
	void *ops_arg;
	struct uplink_events events;
	void *arg;
	struct loop_src *restore_timer;
	bool up, foreign_state,
		restoring; /* foreign: the last message seen on our state topic was not ours */
	bool open;         /* what on_session was told last */
	int64_t restored_ms;
	uint64_t overwritten;
};

static void tell_session(struct uplink *u, bool open)
{
	if (!open && !u->open)
		return;
	u->open = open;
	u->events.on_session(u->arg, open);
}

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct uplink *u = arg;
	struct err err = {0};
	size_t len;

	if (session_connecting(u->session, &err) < 0) {
		log_error("uplink.no_will", KV("why", err.text));
		return false;
	}
	const char *msg = session_will(u->session, &len);
	if (len > sizeof(will->payload)) {
		log_error("uplink.no_will", KV("why", "too long"));
		return false;
	}
	snprintf(will->topic, sizeof(will->topic), "%s", session_state_topic(u->session));
	memcpy(will->payload, msg, len);
	will->len = len;
	will->qos = 1;
	will->retain = true;
	return true;
}

static void publish_state(struct uplink *u)
{
	struct err err = {0};
	size_t len;
	const char *msg = session_state(u->session, &len);

	if (msg == NULL)
		return;
	if (bus_publish(u->bus, session_state_topic(u->session), msg, len, 1, true, &err) < 0)
		log_warn("uplink.state_failed", KV("why", err.text));
}

static void on_up(void *arg, bool fresh)
{
	struct uplink *u = arg;

	(void)fresh;
	u->up = true;
	publish_state(u);
	u->events.on_link(u->arg, true);
}

static void on_down(void *arg, const char *why)
{
	struct uplink *u = arg;

	if (u->up)
		log_warn("uplink.down", KV("why", why));
	u->up = false;
	tell_session(u, false);
	u->events.on_link(u->arg, false);
}

static void on_restore(void *arg)
{
	struct uplink *u = arg;

	u->restoring = false;
	if (!u->up || !u->foreign_state)
		return;
	u->overwritten++;
	u->restored_ms = loop_now_ms(u->loop);
	if (log_allowed("uplink.state_overwritten", ""))
		log_warn("uplink.state_overwritten", KV("times", u->overwritten));
	publish_state(u);
}

static void watch_state(struct uplink *u, const struct bus_msg *m)
{
	u->foreign_state = !session_is_own_state(u->session, m->payload, m->len);
	if (!u->foreign_state)
		return;

	if (u->restoring)
		return; /* a flood of foreign states must not put it off for ever */
	u->restoring = true;
	int64_t wait = u->restored_ms + RESTORE_EVERY_MS - loop_now_ms(u->loop);
	loop_arm(u->loop, u->restore_timer, wait > RESTORE_SOON_MS ? wait : RESTORE_SOON_MS);
}

static void dispatch(struct uplink *u, json_t *body)
{
	const char *op = json_string_value(json_object_get(body, "op"));
	json_t *id = json_object_get(body, "id");
	struct request_tag tag = {
		.session = session_number(u->session),
		.trace = traces_parse(json_string_value(json_object_get(body, "trace"))),
	};

	for (size_t i = 0; i < u->n_ops; i++) {
		const struct request_op *row = &u->ops[i];
		if (strcmp(row->op, op) != 0)
			continue;
		if (row->kind == REQUEST_ANSWERED && !json_is_integer(id)) {
			session_count_malformed(u->session);
			return;
		}
		tag.op = row->op;
		tag.id = json_integer_value(id);
		row->handler(u->ops_arg, &tag, body);
		return;
	}
	if (!json_is_integer(id)) {
		session_count_malformed(u->session);
		return;
	}
	tag.op = op;
	tag.id = json_integer_value(id);
	uplink_answer(u, &tag,
		      json_pack("{s:s, s:o}", "state", "error", "reason",
				json_sprintf("op '%.100s' unknown", op)));
}

static void on_request(struct uplink *u, const struct bus_msg *m)
{
	static const char *const dropped[] = {
		[SESSION_FORGED] = "forged",
		[SESSION_REPLAYED] = "replayed",
		[SESSION_MALFORMED] = "malformed",
	};
	json_auto_t *body = NULL;
	enum session_verdict verdict = session_accept(u->session, m->payload, m->len, &body);

	switch (verdict) {
	case SESSION_REQUEST:
		dispatch(u, body);
		break;
	case SESSION_HELLO:
		publish_state(u);
		tell_session(u, true);
		break;
	case SESSION_FORGED:
	case SESSION_REPLAYED:
	case SESSION_MALFORMED:
		if (log_allowed("uplink.dropped", dropped[verdict]))
			log_warn("uplink.dropped", KV("reason", dropped[verdict]));
		break;
	}
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct uplink *u = arg;

	if (strcmp(m->topic, session_state_topic(u->session)) == 0)
		watch_state(u, m);
	else if (strcmp(m->topic, session_req_topic(u->session)) == 0)
		on_request(u, m);
}

int uplink_new(struct loop *l, const struct settings *settings, const struct seal_key *key,
	       const char *agent_id, const struct request_op *ops, size_t n_ops, void *ops_arg,
	       const struct uplink_events *events, void *arg, struct uplink **ret, struct err *err)
{
	static const struct bus_handlers handlers = {
		.on_connecting = on_connecting,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
	};
	char client_id[AGENT_ID_MAX + sizeof("agent-")];
	struct bus_conf conf = {
		.host = settings->core_mqtt.host,
		.port = (unsigned)settings->core_mqtt.port,
		.client_id = client_id,
		.clean_session = true,
	};
	struct uplink *u = calloc(1, sizeof(*u));
	int rc;

	if (u == NULL)
		return err_set(err, ERR_NOMEM, "uplink");
	*u = (struct uplink){.loop = l,
			     .ops = ops,
			     .n_ops = n_ops,
			     .ops_arg = ops_arg,
			     .events = *events,
			     .arg = arg,
			     .restored_ms = -RESTORE_EVERY_MS};
	rc = session_new(key, agent_id, IOTTALK_VERSION, &u->session, err);
	if (rc < 0)
		goto fail;
	rc = loop_add_timer(l, -1, 0, on_restore, u, &u->restore_timer, err);
	if (rc < 0)
		goto fail;
	snprintf(client_id, sizeof(client_id), "agent-%s", agent_id);
	rc = bus_new_paho(l, &conf, &handlers, u, &u->bus, err);
	if (rc < 0)
		goto fail;
	rc = bus_subscribe(u->bus, session_req_topic(u->session), 1, NULL, NULL, err);
	if (rc == 0)
		rc = bus_subscribe(u->bus, session_state_topic(u->session), 1, NULL, NULL, err);
	if (rc < 0)
		goto fail;
	*ret = u;
	return 0;
fail:
	uplink_free(u);
	return rc;
}

struct uplink *uplink_free(struct uplink *u)
{
	if (u == NULL)
		return NULL;
	if (u->up) {
		struct err err = {0};
		size_t len;
		const char *goodbye = session_will(u->session, &len);

		if (bus_publish(u->bus, session_state_topic(u->session), goodbye, len, 1, true,
				&err) < 0)
			log_warn("uplink.goodbye_failed", KV("why", err.text));
	}
	bus_free(u->bus);
	loop_remove(u->loop, u->restore_timer);
	session_free(u->session);
	free(u);
	return NULL;
}

/* body: borrowed. */
static int send(struct uplink *u, const json_t *body, struct err *err)
{
	CLEANUP(freep)
	char *msg = NULL;
	size_t len;

	int rc = session_seal(u->session, body, &msg, &len, err);
	if (rc < 0)
		return rc;
	return bus_publish(u->bus, session_res_topic(u->session), msg, len, 1, false, err);
}

void uplink_answer(struct uplink *u, const struct request_tag *tag, json_t *answer)
{
	json_auto_t *body = answer;
	struct err err = {0};

	if (tag->session != session_number(u->session))
		return; /* csm asks again in its new session */
	if (body == NULL)
		body = json_pack("{s:s, s:s}", "state", "error", "reason",
				 "the agent is out of memory");
	if (json_object_set_new(body, "op", json_string(tag->op)) < 0 ||
	    json_object_set_new(body, "id", json_integer(tag->id)) < 0) {
		log_error("uplink.answer_failed", KV("op", tag->op), KV("why", "out of memory"));
		return;
	}
	if (send(u, body, &err) < 0)
		log_warn("uplink.answer_failed", KV("op", tag->op), KV("why", err.text));
}

int uplink_report(struct uplink *u, json_t *report)
{
	json_auto_t *body = report;

	if (body == NULL)
		return ERR_NOMEM;
	return send(u, body, NULL);
}

void uplink_get_status(const struct uplink *u, struct uplink_status *ret)
{
	*ret = (struct uplink_status){
		.up = u->up,
		.session = u->open,
		.overwritten = u->overwritten,
	};
	session_get_counters(u->session, &ret->counters);
}
