#include "common/log.h"
#include "common/mqtt/mqtt_link_int.h"
#include "common/util.h"
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define READ_BYTES    (128 << 10)
#define READ_MIN      4096      /* of a frugal link, as long as that takes all there is */
#define ACK_BYTES     (4 << 20) /* a broker that does not take its acknowledgements is not read */
#define SUBS_AGAIN_MS 100

/* ---- writing ---- */

bool mqtt_io_reading(const struct mqtt_link *k)
{
	return !k->stopped && mqtt_bytes_waiting(&k->out) < ACK_BYTES;
}

void mqtt_io_watch(struct mqtt_link *k)
{
	uint32_t events = mqtt_io_reading(k) ? EPOLLIN : 0;

	if (mqtt_bytes_waiting(&k->out) > 0 ||
	    (k->state >= LINK_CONNECTED && mqtt_out_ready(&k->outgoing)))
		events |= EPOLLOUT;
	if (k->congested && (events & EPOLLIN))
		loop_arm(k->loop, k->soon_timer, 0); /* what is left in the buffer */
	if (events == k->events || loop_set_events(k->loop, k->src, events) < 0)
		return;
	k->events = events;
}

void mqtt_io_send(struct mqtt_link *k)
{
	while (mqtt_bytes_waiting(&k->out) > 0) {
		ssize_t n = send(k->fd, k->out.data + k->out.begin, mqtt_bytes_waiting(&k->out),
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		mqtt_bytes_consume(&k->out, (size_t)n, mqtt_link_keep_bytes(k));
		k->said_ms = loop_now_ms(k->loop);
	}
}

/* ---- packets ---- */

static int acknowledge(struct mqtt_link *k, uint8_t qos, uint16_t id)
{
	if (qos == 0 || k->closing) /* what is not acknowledged is still the broker's */
		return 0;
	if (qos == 2 && mqtt_ids_add(&k->taken, id) < 0)
		return ERR_NOMEM;
	return mqtt_put_ack(&k->out, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, id);
}

/* ret: whether it is taken. */
static bool offer(struct mqtt_link *k, const struct mqtt_packet *p)
{
	uint8_t *beyond = k->in.data + k->in.begin + p->used, was = *beyond;

	if (k->handlers.on_message == NULL)
		return true;
	*beyond = '\0'; /* mqtt_io_read() has left room for it */
	bool taken = k->handlers.on_message(k->arg, &p->publish);
	*beyond = was;
	return taken;
}

/* ret: ERR_AGAIN: not taken. */
static int handle_publish(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	const struct mqtt_publish *m = &p->publish;

	(void)err;
	/* One without DUP is new, whatever we remember: a broker that was killed may have come back
	 * without this exchange, and what it sends again carries DUP (3.3.1.1). */
	if (m->qos == 2 && m->dup && mqtt_ids_has(&k->taken, m->id)) {
		k->repeated++;
	} else {
		if (!offer(k, p) && p->skip == 0)
			return ERR_AGAIN;
		k->batch = true;
	}
	if (p->skip == 0)
		return acknowledge(k, m->qos, m->id);
	k->skip = p->skip;
	k->skipped.id = m->id;
	k->skipped.qos = m->qos;
	return 0;
}

static int handle_pubrel(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	(void)err;
	mqtt_ids_remove(&k->taken, p->id);
	return mqtt_put_ack(&k->out, MQTT_PUBCOMP, p->id);
}

static int handle_ack(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	struct mqtt_out_waiter waiter;
	int rc = mqtt_out_acked(&k->outgoing, p->type, p->id, &k->out, &waiter, err);

	if (waiter.done != NULL && !k->closing)
		waiter.done(waiter.arg, 0);
	return rc;
}

static int handle_pong(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	(void)k, (void)p, (void)err;
	return 0; /* that something came is noted already */
}

void mqtt_io_flush_subs(struct mqtt_link *k)
{
	if (k->state < LINK_CONNECTED)
		return;
	if (mqtt_subs_flush(k->subs, &k->out) < 0)
		loop_arm(k->loop, k->soon_timer, SUBS_AGAIN_MS);
	if (k->state == LINK_UP || !mqtt_subs_synced(k->subs))
		return;
	k->state = LINK_UP;
	log_info("mqtt.up", KV("link", k->name), KV("fresh", k->fresh));
	if (k->handlers.on_up != NULL)
		k->handlers.on_up(k->arg, k->fresh);
}

static int handle_suback(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	int rc = k->closing ? 0 : mqtt_subs_answered(k->subs, p, err);

	if (rc == 0 && !k->closing)
		mqtt_io_flush_subs(k);
	return rc;
}

static int handle_connack(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	if (p->connack.code != 0)
		return err_set(err, ERR_PEER, "%s", mqtt_connack_text(p->connack.code));
	if (k->forget) {
		/* A clean session ends with its connection; ours begins with the next. */
		k->forget = false;
		k->state = LINK_FORGOTTEN;
		return mqtt_put_bare(&k->out, MQTT_DISCONNECT);
	}
	k->state = LINK_CONNECTED;
	k->connects++;
	k->connected_ms = loop_now_ms(k->loop);
	k->fresh = !p->connack.session_present;
	if (k->fresh)
		mqtt_ids_clear(&k->taken);
	loop_arm(k->loop, k->timer, k->keepalive_ms / 2);
	if (k->fresh && k->give_up)
		mqtt_link_give_up(k);
	mqtt_out_connected(&k->outgoing, !k->fresh);
	mqtt_subs_connected(k->subs, k->fresh);
	mqtt_io_flush_subs(k);
	return 0;
}

static int handle(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err)
{
	static const struct {
		const char *name;
		int (*fn)(struct mqtt_link *k, const struct mqtt_packet *p, struct err *err);
	} rows[] = {
		[MQTT_PUBLISH] = {"PUBLISH", handle_publish},
		[MQTT_PUBACK] = {"PUBACK", handle_ack},
		[MQTT_PUBREC] = {"PUBREC", handle_ack},
		[MQTT_PUBREL] = {"PUBREL", handle_pubrel},
		[MQTT_PUBCOMP] = {"PUBCOMP", handle_ack},
		[MQTT_SUBACK] = {"SUBACK", handle_suback},
		[MQTT_UNSUBACK] = {"UNSUBACK", handle_suback},
		[MQTT_PINGRESP] = {"PINGRESP", handle_pong},
	};

	if (p->type == MQTT_CONNACK && k->state == LINK_GREETING)
		return handle_connack(k, p, err);
	if (p->type >= ARRAY_LEN(rows) || rows[p->type].fn == NULL)
		return err_set(err, ERR_PEER, "another CONNACK"); /* what is left of the types */
	if (k->state < LINK_CONNECTED)
		return err_set(err, ERR_PEER, "%s before CONNACK", rows[p->type].name);
	return rows[p->type].fn(k, p, err);
}

/* ---- reading ---- */

/* ret: true when nothing is left to skip. */
static bool skip_some(struct mqtt_link *k)
{
	size_t waiting = mqtt_bytes_waiting(&k->in);
	size_t n = k->skip < waiting ? k->skip : waiting;

	mqtt_bytes_consume(&k->in, n, mqtt_link_keep_bytes(k));
	k->skip -= n;
	return k->skip == 0;
}

int mqtt_io_process(struct mqtt_link *k, struct err *err)
{
	struct mqtt_packet p;

	k->need = 0;
	k->congested = false;
	while (k->state != LINK_FORGOTTEN) {
		if (!mqtt_io_reading(k)) {
			k->congested = !k->stopped;
			break;
		}
		if (k->skip > 0) {
			if (!skip_some(k))
				break;
			if (acknowledge(k, k->skipped.qos, k->skipped.id) < 0)
				return ERR_NOMEM;
		}
		if (mqtt_bytes_waiting(&k->in) == 0)
			break;
		int rc = mqtt_parse(k->in.data + k->in.begin, mqtt_bytes_waiting(&k->in),
				    k->max_payload_bytes, &p, &k->need, err);
		if (rc <= 0)
			return rc;
		rc = handle(k, &p, err);
		k->stopped = rc == ERR_AGAIN;
		if (rc < 0)
			return k->stopped ? 0 : rc;
		mqtt_bytes_consume(&k->in, p.used, mqtt_link_keep_bytes(k));
	}
	return 0;
}

/* ret: for what comes next, and a NUL behind it (mqtt_link_handlers.on_message); 0: out of memory.
 */
static size_t make_room(struct mqtt_link *k)
{
	size_t waiting = mqtt_bytes_waiting(&k->in);
	size_t least = k->read_bytes / 2; /* of an old buffer; a new one is whole */
	size_t want = k->need > waiting + least ? k->need - waiting + 1 : least;

	if (k->in.cap == 0 && want < k->read_bytes)
		want = k->read_bytes;
	if (mqtt_bytes_reserve(&k->in, want) < 0)
		return 0;
	return k->in.cap - k->in.end - 1;
}

/* The next read asks for more if this one was not enough. */
static void adapt(struct mqtt_link *k, size_t asked, size_t came)
{
	if (!k->frugal)
		k->read_bytes = READ_BYTES;
	else if (came < asked)
		k->read_bytes = READ_MIN;
	else if (k->read_bytes < READ_BYTES)
		k->read_bytes *= 2;
}

int mqtt_io_read(struct mqtt_link *k, struct err *err)
{
	if (k->read_bytes == 0)
		k->read_bytes = k->frugal ? READ_MIN : READ_BYTES;
	size_t room = make_room(k);
	if (room == 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	ssize_t n = recv(k->fd, k->in.data + k->in.end, room, 0);
	if (n > 0)
		k->in.end += (size_t)n;
	size_t waiting = mqtt_bytes_waiting(&k->in);
	if (waiting == 0)
		mqtt_bytes_consume(&k->in, 0, mqtt_link_keep_bytes(k));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return err_sys(err, "connection lost");
	if (n == 0)
		return err_set(err, ERR_PEER, "%s",
			       waiting > 0 || k->skip > 0
				       ? "the broker closed the connection within a packet"
				       : "the broker closed the connection");
	adapt(k, room, (size_t)n);
	k->heard_ms = loop_now_ms(k->loop);
	k->ping_ms = 0;
	if (!k->bye)
		return mqtt_io_process(k, err);
	mqtt_bytes_consume(&k->in, waiting, mqtt_link_keep_bytes(k));
	return 0;
}
