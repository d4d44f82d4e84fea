/* bus_publish.c - sending, and telling on the loop what became of a message whose sender wants to know. */
#include "common/bus_int.h"
#include "common/bus_check.h"
#include "common/util.h"

#define PAYLOAD_MAX 268000000 /* MQTT ends at 2^28 - 1 with the headers */

const char *bus_explain(int rc)
{
	const char *text = MQTTAsync_strerror(rc);
	return text != NULL ? text : "refused by the library";
}

/* ---- acknowledgements ---- */

/* ret: awaited from now on; NULL: out of memory. */
static struct bus_ack *ack_new(struct paho *b, bus_done_fn *done, void *arg)
{
	struct bus_ack *a = calloc(1, sizeof(*a));
	if (a == NULL)
		return NULL;
	a->bus = b;
	a->done = done;
	a->arg = arg;
	pthread_mutex_lock(&b->lock);
	a->next = b->ack_awaited;
	if (a->next != NULL)
		a->next->prev = a;
	b->ack_awaited = a;
	pthread_mutex_unlock(&b->lock);
	return a;
}

static void unlink_awaited(struct bus_ack *a) /* lock held */
{
	if (a->prev != NULL)
		a->prev->next = a->next;
	else
		a->bus->ack_awaited = a->next;
	if (a->next != NULL)
		a->next->prev = a->prev;
	a->prev = a->next = NULL;
}

static void ack_free(struct bus_ack *a)
{
	pthread_mutex_lock(&a->bus->lock);
	unlink_awaited(a);
	pthread_mutex_unlock(&a->bus->lock);
	free(a);
}

static void decide(struct bus_ack *a, int rc) /* lock held */
{
	struct paho *b = a->bus;
	unlink_awaited(a);
	a->rc = rc;
	if (b->ack_first == NULL)
		b->ack_end = &b->ack_first;
	*b->ack_end = a;
	b->ack_end = &a->next;
	bus_wake(b);
}

/* Of the library: it answers every message once, by one of these; also those it still has when it is destroyed. */
static void on_library_acked_one(void *context, MQTTAsync_successData *data)
{
	(void)data;
	struct bus_ack *a = context;
	struct paho *b = a->bus;
	pthread_mutex_lock(&b->lock);
	decide(a, 0);
	pthread_mutex_unlock(&b->lock);
	bus_one_less_unacked(b);
}

static void on_library_gave_one_up(void *context, MQTTAsync_failureData *data)
{
	struct bus_ack *a = context;
	struct paho *b = a->bus;
	pthread_mutex_lock(&b->lock);
	decide(a, ERR_AGAIN);
	pthread_mutex_unlock(&b->lock);
	bus_on_library_gave_up(b, data);
}

void bus_acks_give_up(struct paho *b)
{
	pthread_mutex_lock(&b->lock);
	while (b->ack_awaited != NULL)
		decide(b->ack_awaited, ERR_AGAIN);
	pthread_mutex_unlock(&b->lock);
}

void bus_acks_tell(struct bus_ack *acks)
{
	while (acks != NULL) {
		struct bus_ack *a = acks;
		acks = a->next;
		a->done(a->arg, a->rc);
		free(a);
	}
}

void bus_acks_drop(struct paho *b)
{
	bus_acks_give_up(b);
	while (b->ack_first != NULL) {
		struct bus_ack *a = b->ack_first;
		b->ack_first = a->next;
		free(a);
	}
}

/* ---- sending ---- */

static int publish_error(struct paho *b, int rc, const char *topic, struct err *err)
{
	b->publish_refused++;
	switch (rc) {
	case MQTTASYNC_MAX_BUFFERED_MESSAGES:
	case MQTTASYNC_NO_MORE_MSGIDS:
		return err_set(err, ERR_LIMIT, "publishing to '%s': the queue is full", topic);
	case MQTTASYNC_BAD_UTF8_STRING:
		return err_set(err, ERR_BUS, "a topic is not UTF-8");
	default:
		return err_set(err, ERR_BUS, "publishing to '%s': %s (%d)", topic, bus_explain(rc), rc);
	}
}

/* ack: of this message, only with QoS 1; NULL: nobody waits for it. */
static int send(struct paho *b, const char *topic, MQTTAsync_message *m, struct bus_ack *ack, struct err *err)
{
	MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
	if (m->qos > 0) {
		options.onSuccess = ack != NULL ? on_library_acked_one : bus_on_library_acked;
		options.onFailure = ack != NULL ? on_library_gave_one_up : bus_on_library_gave_up;
		options.context = ack != NULL ? (void *)ack : b;
		atomic_fetch_add(&b->unacked, 1);
	}
	int rc = MQTTAsync_sendMessage(b->client, topic, m, &options);
	if (rc == MQTTASYNC_SUCCESS) {
		b->published++;
		return 0;
	}
	if (m->qos > 0)
		bus_one_less_unacked(b);
	return publish_error(b, rc, topic, err);
}

static int check_message(struct paho *b, const char *topic, size_t len, uint8_t qos, struct err *err)
{
	/* brokers cut the connection for such a topic */
	bool valid = bus_topic_valid(topic, false);
	if (valid && len <= PAYLOAD_MAX && qos <= 2)
		return 0;
	b->publish_refused++;
	return valid ? err_set(err, ERR_BUS, "publishing to '%s': payload too large or bad QoS", topic)
		     : err_set(err, ERR_BUS, "not a topic to publish to: '%.100s'", topic);
}

static MQTTAsync_message message_of(const void *payload, size_t len, uint8_t qos, bool retain)
{
	MQTTAsync_message m = MQTTAsync_message_initializer;
	m.payload = (void *)payload; /* the library only copies from it */
	m.payloadlen = (int)len;
	m.qos = qos;
	m.retained = retain;
	return m;
}

int paho_publish(struct bus *bus, const char *topic, const void *payload, size_t len, uint8_t qos,
		 bool retain, struct err *err)
{
	struct paho *b = (struct paho *)bus;
	int rc = check_message(b, topic, len, qos, err);
	if (rc < 0)
		return rc;
	MQTTAsync_message m = message_of(payload, len, qos, retain);
	return send(b, topic, &m, NULL, err);
}

int paho_publish_acked(struct bus *bus, const char *topic, const void *payload, size_t len, bool retain,
		       bus_done_fn *done, void *arg, struct err *err)
{
	struct paho *b = (struct paho *)bus;
	int rc = check_message(b, topic, len, 1, err);
	if (rc < 0)
		return rc;
	struct bus_ack *ack = ack_new(b, done, arg);
	if (ack == NULL)
		return err_set(err, ERR_NOMEM, "publishing to '%s'", topic);
	MQTTAsync_message m = message_of(payload, len, 1, retain);
	rc = send(b, topic, &m, ack, err);
	if (rc < 0)
		ack_free(ack);
	return rc;
}
