/* plugin_probe.c - a message to the broker and back through its plugin. */
#include "agent/graph/plug_link.h"
#include "agent/graph/transport_plugin.h"
#include "common/id.h"
#include "common/mqtt/mqtt_link.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define CONNECT_MS 2000 /* to reach plugin and broker */
#define ECHO_MS    2000

struct probe {
	struct loop *loop;
	struct plug_link *plug;
	struct mqtt_link *mqtt;
	char from[64], to[64];
	bool plug_up, mqtt_up, asked, refused, echoed;
	char why[200];
};

static void on_armed(void *arg, const struct plug_answer *a, const char *text)
{
	struct probe *p = arg;

	if (a->code < 0) {
		p->refused = true;
		snprintf(p->why, sizeof(p->why), "%.150s", text);
		return;
	}
	mqtt_link_publish(p->mqtt, p->from, strlen(p->from), "", 0, 1);
	mqtt_link_flush(p->mqtt);
}

static void ask(struct probe *p)
{
	char topics[sizeof(p->from) + sizeof(p->to)];
	int len = snprintf(topics, sizeof(topics), "%s", p->from) + 1;

	len += snprintf(topics + len, sizeof(topics) - (size_t)len, "%s", p->to);
	const struct plug_ask echo = {
		.op = PLUG_ECHO, .text = topics, .len = (size_t)len, .fn = on_armed, .arg = p};

	if (p->asked || !p->plug_up || !p->mqtt_up)
		return;
	p->asked = true;
	plug_link_ask(p->plug, &echo, NULL);
}

static void on_plug_up(void *arg)
{
	struct probe *p = arg;

	p->plug_up = true;
	ask(p);
}

static void on_plug_down(void *arg, const char *why)
{
	struct probe *p = arg;

	p->refused = true;
	snprintf(p->why, sizeof(p->why), "%.150s", why);
}

static void on_plug_event(void *arg, enum plug_event event, uint32_t port)
{
	(void)arg, (void)event, (void)port; /* of ports of an earlier agent */
}

static void on_mqtt_up(void *arg, bool fresh)
{
	struct probe *p = arg;

	(void)fresh;
	p->mqtt_up = true;
	ask(p);
}

static bool on_message(void *arg, const struct mqtt_publish *m)
{
	struct probe *p = arg;

	p->echoed |= m->topic_len == strlen(p->to) && memcmp(m->topic, p->to, m->topic_len) == 0;
	return true;
}

static void on_subscribed(void *arg, int rc)
{
	(void)arg, (void)rc;
}

static int connect_both(struct probe *p, const struct settings *s, const char *agent_id,
			struct err *err)
{
	static const struct plug_link_events plug_events = {
		.on_up = on_plug_up, .on_down = on_plug_down, .on_event = on_plug_event};
	static const struct mqtt_link_handlers mqtt_handlers = {.on_up = on_mqtt_up,
								.on_message = on_message};
	char id[128];
	const struct mqtt_link_conf conf = {
		.host = s->core_mqtt.host,
		.port = (unsigned)s->core_mqtt.port,
		.client_id = id,
		.forget_session = true,
		.max_payload_bytes = 64,
		.max_queued = 16,
		.max_queued_bytes = 4096,
		.timeout_ms = CONNECT_MS,
	};
	CLEANUP(freep)
	char *path = settings_plugin_socket(s);

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "probing the broker plugin");
	snprintf(p->from, sizeof(p->from), "iottalk/esm/%s", uuid4().s);
	snprintf(p->to, sizeof(p->to), "iottalk/esm/%s", uuid4().s);
	snprintf(id, sizeof(id), "agent-%s-probe", agent_id);
	int rc = plug_link_new(p->loop, path, &plug_events, p, &p->plug, err);
	if (rc < 0)
		return rc;
	rc = plug_link_wait(p->plug, CONNECT_MS, err);
	if (rc == ERR_TIMEOUT)
		return err_set(
			err, rc,
			"the broker plugin is there and does not answer: its broker gives it "
			"no ticks (per_listener_settings true)");
	if (rc < 0)
		return ERR_NOENT;
	rc = mqtt_link_new(p->loop, &conf, &mqtt_handlers, p, &p->mqtt, err);
	return rc < 0 ? rc : mqtt_link_subscribe(p->mqtt, p->to, 1, on_subscribed, p, err);
}

static int run(struct probe *p, struct err *err)
{
	int64_t end = loop_now_ms(p->loop) + CONNECT_MS;
	bool was_asked = false;

	while (!p->echoed && !p->refused) {
		int64_t left = end - loop_now_ms(p->loop);

		if (left <= 0)
			return p->asked ? err_set(err, ERR_PEER,
						  "no echo within %d ms: the plugin is in another "
						  "broker, or its broker gives it no ticks "
						  "(per_listener_settings true)",
						  ECHO_MS)
					: err_set(err, ERR_BUS, "the broker is not reached");
		loop_turn(p->loop, (int)left);
		if (p->asked && !was_asked) {
			was_asked = true;
			end = loop_now_ms(p->loop) + ECHO_MS;
		}
	}
	return p->echoed ? 0 : err_set(err, ERR_PEER, "the broker plugin refuses: %s", p->why);
}

int transport_plugin_probe(const struct settings *s, const char *agent_id, struct err *err)
{
	struct probe p = {0};
	int rc = loop_new(&p.loop, err);

	if (rc == 0)
		rc = connect_both(&p, s, agent_id, err);
	if (rc == 0)
		rc = run(&p, err);
	if (p.mqtt_up) /* leave nothing behind */
		mqtt_link_unsubscribe(p.mqtt, p.to, on_subscribed, &p, NULL);
	mqtt_link_free(p.mqtt);
	plug_link_free(p.plug);
	loop_free(p.loop);
	return rc;
}
