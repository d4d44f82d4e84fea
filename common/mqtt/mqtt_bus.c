/* mqtt_bus.c - a bus (common/bus.h) of the suite's own client. */
#include "common/bus_check.h"
#include "common/mqtt/mqtt_link.h"
#include "common/util.h"
#include <string.h>

#define IN_FLIGHT_DEFAULT 60000
#define QUEUED_DEFAULT    10000
#define QUEUED_BYTES      (64 << 20)
#define INBOUND_DEFAULT   (64 << 20)
#define RETRY_MIN_MS      50
#define RETRY_MAX_MS      1000

struct own {
	struct bus bus;
	struct bus_handlers handlers;
	void *arg;
	struct mqtt_link *link;
	bool parted;
	uint64_t received, dropped_inbound, published, publish_refused;
};

/* ---- what the link tells ---- */

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct own *b = arg;

	return b->handlers.on_connecting != NULL && b->handlers.on_connecting(b->arg, will);
}

static void on_failed(void *arg, const char *why)
{
	struct own *b = arg;

	if (b->handlers.on_failed != NULL)
		b->handlers.on_failed(b->arg, why);
}

static void on_up(void *arg, bool fresh)
{
	struct own *b = arg;

	if (b->handlers.on_up != NULL)
		b->handlers.on_up(b->arg, fresh);
}

static void on_down(void *arg, const char *why)
{
	struct own *b = arg;

	if (b->handlers.on_down != NULL)
		b->handlers.on_down(b->arg, why);
}

static bool on_message(void *arg, const struct mqtt_publish *m)
{
	struct own *b = arg;
	char topic[MQTT_TOPIC_MAX + 1]; /* what is not used is not touched */

	b->received++;
	if (m->payload == NULL) {
		b->dropped_inbound++;
		return true;
	}
	memcpy(topic, m->topic, m->topic_len);
	topic[m->topic_len] = '\0';
	const struct bus_msg message = {.topic = topic,
					.payload = m->payload,
					.len = m->len,
					.qos = m->qos,
					.retained = m->retained,
					.dup = m->dup};
	if (b->handlers.on_message != NULL)
		b->handlers.on_message(b->arg, &message);
	return true;
}

static void on_batch(void *arg)
{
	struct own *b = arg;

	if (b->handlers.on_batch != NULL)
		b->handlers.on_batch(b->arg);
}

/* ---- for the caller ---- */

static int own_subscribe(struct bus *bus, const char *topic, uint8_t qos, bus_done_fn *done,
			 void *arg, struct err *err)
{
	if (!bus_topic_valid(topic, true))
		return err_set(err, ERR_INVAL, "not a topic filter: '%.100s'", topic);
	return mqtt_link_subscribe(((struct own *)bus)->link, topic, qos, done, arg, err);
}

static int own_unsubscribe(struct bus *bus, const char *topic, bus_done_fn *done, void *arg,
			   struct err *err)
{
	if (!bus_topic_valid(topic, true))
		return err_set(err, ERR_INVAL, "not a topic filter: '%.100s'", topic);
	return mqtt_link_unsubscribe(((struct own *)bus)->link, topic, done, arg, err);
}

static int check_message(const struct own *b, const struct mqtt_publish *m, struct err *err)
{
	if (b->parted)
		return err_set(err, ERR_BUS, "publishing to '%.100s': leaving already", m->topic);
	if (!bus_topic_valid(m->topic, false) || !mqtt_topic_valid(m->topic, m->topic_len))
		return err_set(err, ERR_BUS, "not a topic to publish to: '%.100s'", m->topic);
	if (m->qos > 2)
		return err_set(err, ERR_BUS, "publishing to '%.100s': QoS %u", m->topic, m->qos);
	return 0;
}

static int send(struct own *b, const struct mqtt_publish *m, const struct mqtt_out_waiter *w,
		struct err *err)
{
	int rc = check_message(b, m, err);

	if (rc == 0) {
		rc = mqtt_link_send(b->link, m, w);
		if (rc == ERR_LIMIT)
			err_set(err, rc, "publishing to '%.100s': the queue is full", m->topic);
		else if (rc == ERR_RANGE)
			rc = err_set(err, ERR_BUS, "publishing to '%.100s': payload too large",
				     m->topic);
		else if (rc < 0)
			err_set(err, rc, "publishing to '%.100s'", m->topic);
	}
	if (rc < 0) {
		b->publish_refused++;
		return rc;
	}
	b->published++;
	mqtt_link_flush_soon(b->link);
	return 0;
}

static int own_publish(struct bus *bus, const char *topic, const void *payload, size_t len,
		       uint8_t qos, bool retain, struct err *err)
{
	const struct mqtt_publish m = {.topic = topic,
				       .topic_len = strlen(topic),
				       .payload = payload,
				       .len = len,
				       .qos = qos,
				       .retained = retain};

	return send((struct own *)bus, &m, NULL, err);
}

static int own_publish_acked(struct bus *bus, const char *topic, const void *payload, size_t len,
			     bool retain, bus_done_fn *done, void *arg, struct err *err)
{
	const struct mqtt_out_waiter waiter = {done, arg};
	const struct mqtt_publish m = {.topic = topic,
				       .topic_len = strlen(topic),
				       .payload = payload,
				       .len = len,
				       .qos = 1,
				       .retained = retain};

	return send((struct own *)bus, &m, &waiter, err);
}

static struct mqtt_link_stats stats_of(const struct bus *bus)
{
	struct mqtt_link_stats stats;

	mqtt_link_get_stats(((const struct own *)bus)->link, &stats);
	return stats;
}

static bool own_is_up(const struct bus *bus)
{
	return stats_of(bus).up;
}

static bool own_is_fresh(const struct bus *bus)
{
	return stats_of(bus).fresh;
}

static void own_get_stats(const struct bus *bus, struct bus_stats *ret)
{
	const struct own *b = (const struct own *)bus;
	const struct mqtt_link_stats link = stats_of(bus);

	*ret = (struct bus_stats){.received = b->received,
				  .published = b->published,
				  .dropped_inbound = b->dropped_inbound,
				  .publish_failed = b->publish_refused + link.given_up,
				  .connects = (unsigned)link.connects,
				  .up = link.up};
}

static void own_part(struct bus *bus)
{
	struct own *b = (struct own *)bus;

	b->parted = true;
	mqtt_link_part(b->link);
}

static struct bus *own_free(struct bus *bus)
{
	struct own *b = (struct own *)bus;

	mqtt_link_free(b->link);
	free(b);
	return NULL;
}

int bus_new_own(struct loop *l, const struct bus_conf *c, const struct bus_handlers *h, void *arg,
		struct bus **ret, struct err *err)
{
	static const struct bus_ops ops = {
		.free = own_free,
		.part = own_part,
		.subscribe = own_subscribe,
		.unsubscribe = own_unsubscribe,
		.publish = own_publish,
		.publish_acked = own_publish_acked,
		.is_up = own_is_up,
		.is_fresh = own_is_fresh,
		.get_stats = own_get_stats,
	};
	static const struct mqtt_link_handlers handlers = {
		.on_connecting = on_connecting,
		.on_failed = on_failed,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
		.on_batch = on_batch,
	};
	const struct mqtt_link_conf conf = {
		.host = c->host,
		.port = c->port,
		.client_id = c->client_id,
		.username = c->username != NULL && c->username[0] != '\0' ? c->username : NULL,
		.password = c->password != NULL && c->password[0] != '\0' ? c->password : NULL,
		.clean_session = c->clean_session,
		.give_up = true,
		.frugal = true,
		.max_payload_bytes =
			c->max_inbound_bytes != 0 ? c->max_inbound_bytes : INBOUND_DEFAULT,
		.max_queued = SIZE_MAX,
		.max_queued_bytes = QUEUED_BYTES,
		.max_waiting = c->max_queued != 0 ? c->max_queued : QUEUED_DEFAULT,
		.max_in_flight = c->max_inflight != 0 ? c->max_inflight : IN_FLIGHT_DEFAULT,
		.retry_min_ms = c->retry_min_ms != 0 ? c->retry_min_ms : RETRY_MIN_MS,
		.retry_max_ms = c->retry_max_ms != 0 ? c->retry_max_ms : RETRY_MAX_MS,
	};
	int rc = bus_check_conf(c, err);

	if (rc < 0)
		return rc;
	struct own *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return err_set(err, ERR_NOMEM, "MQTT connection");
	*b = (struct own){.bus.ops = &ops, .handlers = *h, .arg = arg};
	rc = mqtt_link_new(l, &conf, &handlers, b, &b->link, err);
	if (rc < 0) {
		free(b);
		return rc;
	}
	*ret = &b->bus;
	return 0;
}
