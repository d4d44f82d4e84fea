#include "common/bus_int.h"

#include "common/util.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct rec { /* followed by topic, NUL, payload, NUL, up to `size` bytes (a multiple of 8) */
	uint32_t size, topic_len, len;
	uint8_t qos;
	bool retained, dup;
};

/* Everything here but bus_queue_next() runs on the library's threads: copy, hand over, leave. */

void bus_wake(struct paho *b) /* lock held */
{
	if (b->woken)
		return;
	uint64_t one = 1;
	b->woken = true;
	while (write(b->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
}

static bool queue_reserve(struct bus_queue *q, size_t more)
{
	if (q->cap - q->len >= more)
		return true;
	size_t cap = q->cap != 0 ? q->cap : 512; /* there may be thousands of connections that are hardly used */
	while (cap - q->len < more)
		cap *= 2;
	char *buf = realloc(q->buf, cap);
	if (buf == NULL)
		return false;
	q->buf = buf;
	q->cap = cap;
	return true;
}

static bool queue_message(struct paho *b, const char *topic, size_t topic_len,
			  const MQTTAsync_message *m) /* lock held */
{
	size_t len = (size_t)m->payloadlen;
	size_t size = (sizeof(struct rec) + topic_len + 1 + len + 1 + 7) & ~(size_t)7;
	if (b->inbound_bytes + size > b->max_inbound_bytes || !queue_reserve(&b->incoming, size))
		return false;
	struct rec r = {.size = (uint32_t)size,
			.topic_len = (uint32_t)topic_len,
			.len = (uint32_t)len,
			.qos = (uint8_t)m->qos,
			.retained = m->retained != 0,
			.dup = m->dup != 0};
	char *at = b->incoming.buf + b->incoming.len;
	at = mempcpy(at, &r, sizeof(r));
	at = mempcpy(at, topic, topic_len);
	*at++ = '\0';
	if (len > 0)
		memcpy(at, m->payload, len);
	at[len] = '\0';
	b->incoming.len += size;
	b->inbound_bytes += size;
	return true;
}

bool bus_queue_next(const struct bus_queue *q, size_t *at, struct bus_msg *ret)
{
	struct rec r;
	const char *from = q->buf + *at;
	if (*at >= q->len)
		return false;
	memcpy(&r, from, sizeof(r));
	from += sizeof(r);
	*at += r.size;
	*ret = (struct bus_msg){.topic = from,
				.payload = from + r.topic_len + 1,
				.len = r.len,
				.qos = r.qos,
				.retained = r.retained,
				.dup = r.dup};
	return true;
}

int bus_on_library_message(void *context, char *topic, int topic_len, MQTTAsync_message *m)
{
	struct paho *b = context;
	size_t len = topic_len > 0 ? (size_t)topic_len : strlen(topic);

	pthread_mutex_lock(&b->lock);
	bool closing = b->closing;
	if (!closing) {
		b->received++;
		/* MQTT forbids NUL in topics; nobody could have asked for such a one */
		if (strnlen(topic, len) != len || !queue_message(b, topic, len, m))
			b->dropped_inbound++;
		bus_wake(b);
	}
	pthread_mutex_unlock(&b->lock);
	if (closing)
		return 0; /* not acknowledged: the broker has it still, for a session that it keeps */
	MQTTAsync_freeMessage(&m);
	MQTTAsync_free(topic);
	return 1;
}

void bus_on_library_lost(void *context, char *cause)
{
	struct paho *b = context;
	pthread_mutex_lock(&b->lock);
	b->conn.lost = true;
	snprintf(b->conn.why, sizeof(b->conn.why), "%s", cause != NULL ? cause : "connection lost");
	b->disconnected = true;
	pthread_cond_signal(&b->changed);
	bus_wake(b);
	pthread_mutex_unlock(&b->lock);
}

void bus_on_library_connected(void *context, MQTTAsync_successData *data)
{
	struct paho *b = context;
	pthread_mutex_lock(&b->lock);
	b->conn.decided = b->conn.accepted = true;
	b->conn.session_present = data != NULL && data->alt.connect.sessionPresent;
	b->disconnected = false;
	bus_wake(b);
	pthread_mutex_unlock(&b->lock);
}

void bus_on_library_refused(void *context, MQTTAsync_failureData *data)
{
	/* the CONNACK codes of MQTT 3.1.1 */
	static const char *const refusals[] = {
		[1] = "protocol version refused", [2] = "client id refused",
		[3] = "broker unavailable",       [4] = "bad user name or password",
		[5] = "not authorized",
	};
	struct paho *b = context;
	int code = data != NULL ? data->code : MQTTASYNC_FAILURE;
	const char *why = data != NULL ? data->message : NULL;
	if (code > 0 && (size_t)code < ARRAY_LEN(refusals))
		why = refusals[code];
	pthread_mutex_lock(&b->lock);
	b->conn.decided = true;
	b->conn.accepted = false;
	snprintf(b->conn.why, sizeof(b->conn.why), "%s", why != NULL ? why : "cannot connect");
	bus_wake(b);
	pthread_mutex_unlock(&b->lock);
}

void bus_one_less_unacked(struct paho *b)
{
	if (atomic_fetch_sub(&b->unacked, 1) != 1)
		return;
	pthread_mutex_lock(&b->lock);
	if (b->closing)
		pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

void bus_on_library_acked(void *context, MQTTAsync_successData *data)
{
	(void)data;
	bus_one_less_unacked(context);
}

void bus_on_library_gave_up(void *context, MQTTAsync_failureData *data)
{
	(void)data;
	struct paho *b = context;
	atomic_fetch_add(&b->lost, 1);
	bus_one_less_unacked(b);
}

void bus_on_library_disconnected(void *context, MQTTAsync_successData *data)
{
	(void)data;
	struct paho *b = context;
	pthread_mutex_lock(&b->lock);
	b->disconnected = true;
	pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

void bus_on_call_answered(void *arg, struct bus_call *call)
{
	struct paho *b = arg;
	pthread_mutex_lock(&b->lock);
	call->next_answered = b->answered;
	b->answered = call;
	bus_wake(b);
	pthread_mutex_unlock(&b->lock);
}
