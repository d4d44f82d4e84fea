/* broker_check.c - what a broker that is not ours lacks, seen from outside.
 *
 * The check keeps a session of its own for a moment: subscribe, leave, let messages queue up, come
 * back and count. What cannot be seen (persistence to disk, TCP_NODELAY) is not guessed at.
 */
#include "common/id.h"
#include "common/util.h"
#include "iotctl/broker.h"
#include "iotctl/mqtt.h"
#include <stdio.h>
#include <string.h>

#define CHECK_MS    10000
#define QUIET_MS    300  /* nothing more comes: the broker waits for our acknowledgements */
#define SIZE_MS     2000 /* a large message back on one machine or a near one */
#define QUEUE_WANT  2000 /* more than the usual default of 1000, few enough to be quick */
#define QOS0_MARK   "q"
#define QUEUED_MARK "n"

struct check {
	const struct settings *s;
	char client_id[64], topic[80];
	json_t *lacks;
	bool out_of_memory;
};

static void mqtt_closep(struct mqtt **m)
{
	*m = mqtt_close(*m);
}

static void lack(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void lack(struct check *c, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (json_array_append_new(c->lacks, json_string(text)) < 0)
		c->out_of_memory = true;
}

static int open_session(struct check *c, const char *suffix, bool clean, struct mqtt **ret,
			struct err *err)
{
	CLEANUP(mqtt_closep)
	struct mqtt *m = NULL;
	char id[80];

	snprintf(id, sizeof(id), "%s%s", c->client_id, suffix);
	int rc = mqtt_open(c->s->core_mqtt.host, (unsigned)c->s->core_mqtt.port, CHECK_MS, &m, err);

	if (rc == 0)
		rc = mqtt_connect(m, id, clean, err);
	if (rc == 0)
		*ret = TAKE(m);
	return rc;
}

/* Queue one message of QoS 0 and many of QoS 1 for the sleeping session. */
static int fill_queue(struct check *c, struct err *err)
{
	CLEANUP(mqtt_closep)
	struct mqtt *m = NULL;
	struct mqtt_packet p;
	int rc = open_session(c, "-p", true, &m, err);

	if (rc == 0)
		rc = mqtt_publish(m, c->topic, QOS0_MARK, 1, 0, 0, err);
	for (uint16_t sent = 0, acked = 0; rc == 0 && acked < QUEUE_WANT;) {
		if (sent < QUEUE_WANT && sent - acked < 20) {
			rc = mqtt_publish(m, c->topic, QUEUED_MARK, 1, 1, ++sent, err);
			continue;
		}
		rc = mqtt_read(m, CHECK_MS, &p, err);
		acked = (uint16_t)(acked + (rc == 0 && p.type == 4));
	}
	if (rc == 0)
		rc = mqtt_disconnect(m, err);
	return rc;
}

/* Come back without acknowledging and count what the broker sends in flight; then acknowledge and
 * count the rest. */
static int drain_queue(struct check *c, struct err *err)
{
	CLEANUP(mqtt_closep)
	struct mqtt *m = NULL;
	CLEANUP(freep)
	uint16_t *ids = calloc(65536, sizeof(*ids));
	unsigned n_ids = 0, acked = 0, qos0 = 0, in_flight = 0;
	struct mqtt_packet p;
	bool acking = false;

	if (ids == NULL)
		return err_set(err, ERR_NOMEM, "broker check");
	int rc = open_session(c, "", false, &m, err);

	while (rc == 0) {
		const uint8_t *payload;
		size_t len;
		uint16_t id;

		while (rc == 0 && acking && acked < n_ids)
			rc = mqtt_puback(m, ids[acked++], err);
		if (rc == 0)
			rc = mqtt_read(m, QUIET_MS, &p, err);
		if (rc == ERR_TIMEOUT && !acking && n_ids > 0) {
			in_flight = n_ids;
			acking = true;
			rc = 0;
			continue;
		}
		if (rc < 0)
			break;
		if (p.type != 3 || !mqtt_parse_publish(&p, &payload, &len, &id))
			continue;
		if (id == 0)
			qos0++;
		else if (n_ids < 65535)
			ids[n_ids++] = id;
	}
	if (rc < 0 && rc != ERR_TIMEOUT)
		return rc;
	if (qos0 == 0)
		lack(c,
		     "does not queue QoS 0 messages for sleeping sessions (queue_qos0_messages)");
	if (n_ids < QUEUE_WANT)
		lack(c, "queues only %u messages for a sleeping session (max_queued_messages)",
		     n_ids);
	if (in_flight < n_ids)
		lack(c, "has only %u messages in flight to a client (max_inflight_messages)",
		     in_flight);
	return mqtt_disconnect(m, err);
}

static int publish_zeros(struct check *c, struct mqtt *m, size_t size, struct err *err)
{
	char *payload = calloc(1, size);

	if (payload == NULL)
		return err_set(err, ERR_NOMEM, "broker check");
	int rc = mqtt_publish(m, c->topic, payload, size, 0, 0, err);

	free(payload);
	return rc;
}

/* A message of the largest size must come back. Larger ones than 1 MiB are asked for by choice; a
 * foreign broker is not loaded with them. */
static int check_size(struct check *c, struct err *err)
{
	CLEANUP(mqtt_closep)
	struct mqtt *m = NULL;
	size_t size = (size_t)c->s->broker.message_size_limit;
	struct mqtt_packet p;
	const uint8_t *got;
	size_t len = 0;
	uint16_t id;

	if (size > 1024 * 1024)
		size = 1024 * 1024;
	int rc = open_session(c, "-s", true, &m, err);

	if (rc == 0)
		rc = mqtt_subscribe(m, c->topic, 0, err);
	if (rc < 0)
		return rc;
	rc = publish_zeros(c, m, size, err);
	if (rc == ERR_NOMEM)
		return rc;
	while (rc == 0) {
		rc = mqtt_read(m, SIZE_MS, &p, err);
		if (rc == 0 && p.type == 3 && mqtt_parse_publish(&p, &got, &len, &id) &&
		    len == size)
			return mqtt_disconnect(m, err);
	}
	lack(c, "does not pass a message of %zu bytes (message_size_limit)", size);
	return 0;
}

/* End the session that was kept: its queue must not stay in the broker. */
static void forget(struct check *c)
{
	struct mqtt *m = NULL;

	if (open_session(c, "", true, &m, NULL) == 0)
		mqtt_disconnect(m, NULL);
	mqtt_close(m);
}

json_t *broker_lacks(const struct settings *s)
{
	struct check c = {.s = s, .lacks = json_array()};
	struct err err = {0};
	struct uuid_text id = uuid4();
	struct mqtt *m = NULL;

	if (c.lacks == NULL)
		return NULL;
	snprintf(c.client_id, sizeof(c.client_id), "iotctl-%s", id.s);
	snprintf(c.topic, sizeof(c.topic), "iottalk/check/%s", id.s);
	int rc = open_session(&c, "", false, &m, &err);

	if (rc == 0)
		rc = mqtt_subscribe(m, c.topic, 1, &err);
	if (rc == 0)
		rc = mqtt_disconnect(m, &err);
	mqtt_close(m);
	if (rc == 0)
		rc = fill_queue(&c, &err);
	if (rc == 0)
		rc = drain_queue(&c, &err);
	forget(&c);
	if (rc == 0)
		rc = check_size(&c, &err);
	if (rc < 0)
		lack(&c, "could not be checked to the end: %s", err.text);
	if (c.out_of_memory) {
		json_decref(c.lacks);
		return NULL;
	}
	return c.lacks;
}
