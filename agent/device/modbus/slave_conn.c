/* slave_conn.c - a Modbus slave's listener, its masters' connections, its serial line. */
#include "agent/device/modbus/slave_int.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

#define HELD_MAX        65536 /* bytes of requests that wait behind a write */
#define SILENCE_MS      1000  /* of ASCII, and where there are no characters to count */
#define SILENCE_LINE_MS 50    /* the least for RTU: adapters and the system hold bytes back */

static void drop(struct slave_conn *c, const char *why);
static void on_turn(void *arg);

/* ---- connections as they are told ---- */

static void conn_free(struct slave_conn *c)
{
	free(c->held);
	free(c);
}

static void remove_conn(struct slave_conn *c)
{
	*c->at = c->next;
	if (c->next != NULL)
		c->next->at = c->at;
	else
		c->slave->last_conn = c->at;
}

/* Close it; its memory stays while it is busy. ret: it was one that masters had. */
static bool shut(struct slave_conn *c)
{
	struct slave *s = c->slave;
	bool had_id = c->id != 0;

	slave_forget_write(c);
	turns_leave(s->turns, &c->place);
	remove_conn(c);
	s->n_conns -= had_id;
	c->keep_timer = loop_remove(s->loop, c->keep_timer);
	c->silence_timer = loop_remove(s->loop, c->silence_timer);
	c->stream = stream_free(c->stream);
	c->gone = true;
	if (!c->busy)
		conn_free(c);
	return had_id;
}

static void give_id(struct slave_conn *c)
{
	c->id = ++c->slave->last_id;
	c->slave->n_conns++;
	slave_tell_connections(c->slave);
}

void slave_conn_alive(struct slave_conn *c)
{
	if (c->id == 0)
		give_id(c);
	if (c->slave->keep_ms >= 0)
		loop_arm(c->slave->loop, c->keep_timer, c->slave->keep_ms);
}

/* ---- bytes in ---- */

/* For how long nothing may come inside a frame; -1: for ever, as lengths tell where frames end. */
static int64_t silence_ms(const struct slave_conn *c)
{
	unsigned char_us = stream_char_us(c->stream);

	if (c->slave->framing == MODBUS_TCP && !c->slave->serial)
		return -1;
	if (c->slave->framing != MODBUS_RTU || char_us == 0)
		return SILENCE_MS;
	int64_t ms = (7 * (int64_t)char_us / 2 + 999) / 1000;
	return ms > SILENCE_LINE_MS ? ms : SILENCE_LINE_MS;
}

/* More bytes for the framer. ret: false: there are none, or none fits. */
static bool feed(struct slave_conn *c)
{
	size_t n = c->n_held > 0 ? modbus_framer_push(&c->framer, c->held, c->n_held) : 0;

	c->n_held -= n;
	if (c->n_held > 0)
		memmove(c->held, c->held + n, c->n_held);
	else
		free(TAKE(c->held));
	return n > 0;
}

/* ret: false: the connection cannot go on. */
static bool is_in_step(struct slave_conn *c, const struct err *err)
{
	struct slave *s = c->slave;

	s->garbage++;
	if (s->framing != MODBUS_TCP || s->serial)
		return true;
	drop(c, err->text);
	return false;
}

/* Others have their turn first. */
static void wait_for_turn(struct slave_conn *c)
{
	turns_wait(c->slave->turns, &c->place);
	stream_pause(c->stream, true);
}

/* Take requests until there are no more, one waits for its answer, or it is for others to go on. */
static void take_requests(struct slave_conn *c)
{
	struct modbus_frame f;
	struct err err = {0};
	int rc;

	while (!c->gone && c->write == NULL) {
		if (turns_are_over(c->slave->turns)) {
			wait_for_turn(c);
			break;
		}
		rc = modbus_framer_next(&c->framer, &f, &err);
		if (rc > 0)
			slave_request(c, &f);
		else if (rc == 0 && !feed(c))
			break;
		else if (rc < 0 && !is_in_step(c, &err))
			break;
	}
}

/* Whether silence would end what has begun. What waits for its turn may go on. */
static bool may_be_cut(const struct slave_conn *c)
{
	return modbus_framer_waiting(&c->framer) > 0 && !turns_waits(&c->place);
}

void slave_conn_resume(struct slave_conn *c)
{
	if (c->busy)
		return; /* the one that is taking requests goes on */
	c->busy = true;
	turns_begin(c->slave->turns);
	take_requests(c);
	turns_end(c->slave->turns);
	c->busy = false;
	if (c->gone)
		conn_free(c);
	else if (c->write == NULL)
		loop_arm(c->slave->loop, c->silence_timer, may_be_cut(c) ? silence_ms(c) : -1);
}

static void on_turn(void *arg)
{
	struct slave_conn *c = arg;

	stream_pause(c->stream, false);
	slave_conn_resume(c);
}

static void on_silence(void *arg)
{
	struct slave_conn *c = arg;

	if (c->write != NULL)
		return;
	/* Timers come before descriptors: when we were held up, more may be there and nobody has
	 * looked. */
	if (!c->silent) {
		c->silent = true;
		loop_arm(c->slave->loop, c->silence_timer, 0);
		return;
	}
	c->silent = false;
	modbus_framer_silence(&c->framer);
	slave_conn_resume(c);
}

/* What came cannot be kept. Masters on a line ask again, and the line is not theirs alone. */
static void overflow(struct slave_conn *c)
{
	c->slave->garbage++;
	if (!c->slave->serial) {
		drop(c, "too many requests wait behind a write");
		return;
	}
	free(TAKE(c->held));
	c->n_held = 0;
	modbus_framer_clear(&c->framer);
}

static void on_data(void *arg, const uint8_t *bytes, size_t n)
{
	struct slave_conn *c = arg;
	uint8_t *held = n > HELD_MAX - c->n_held ? NULL : realloc(c->held, c->n_held + n);

	if (held == NULL) {
		overflow(c);
		return;
	}
	c->silent = false;
	c->held = held;
	memcpy(c->held + c->n_held, bytes, n);
	c->n_held += n;
	slave_conn_resume(c);
}

/* ---- bytes out ---- */

void slave_conn_answer(struct slave_conn *c, uint16_t transaction, uint8_t unit,
		       const struct modbus_request *q, const struct modbus_answer *a)
{
	uint8_t bytes[MODBUS_FRAME_MAX];
	struct modbus_pdu pdu;
	struct err err = {0};

	modbus_answer_encode(q, a, &pdu);
	c->slave->exceptions += a->exception != 0;
	size_t n = modbus_frame_encode(
		c->slave->framing,
		&(struct modbus_frame){
			.transaction = transaction, .unit = unit, .pdu = pdu.bytes, .len = pdu.len},
		bytes);
	if (stream_write(c->stream, bytes, n, &err) < 0)
		drop(c, err.text);
}

/* ---- the life of a connection ---- */

static int open_line(struct slave *s, struct err *err);

/* A serial line that is lost ends the device; one that was silent is opened anew. */
static void drop(struct slave_conn *c, const char *why)
{
	struct slave *s = c->slave;

	log_debug("modbus_slave.closed", KV("device", port_name(s->port)), KV("connection", c->id),
		  KV("why", why));
	if (shut(c))
		slave_tell_connections(s);
	if (s->serial)
		slave_end(s, why);
}

static void on_keep_timeout(void *arg)
{
	struct slave_conn *c = arg;
	struct slave *s = c->slave;
	struct err err = {0};

	if (!s->serial) {
		drop(c, "no request for too long");
		return;
	}
	/* who hears that the connection is gone may ask at once: the line is open again by then */
	shut(c);
	int rc = open_line(s, &err);
	slave_tell_connections(s);
	if (rc < 0)
		slave_end(s, err.text);
}

static void on_close(void *arg, const char *why)
{
	drop(arg, why);
}

static const struct stream_handlers handlers = {.on_data = on_data, .on_close = on_close};

/* ret: NULL: out of memory. In the list, without a stream. */
static struct slave_conn *add_conn(struct slave *s, struct err *err)
{
	struct slave_conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->slave = s;
	modbus_framer_init(&c->framer, s->framing, true);
	c->place = (struct turns_place){.fn = on_turn, .arg = c};
	c->at = s->last_conn;
	*c->at = c;
	s->last_conn = &c->next;
	if (loop_add_timer(s->loop, -1, 0, on_keep_timeout, c, &c->keep_timer, err) == 0 &&
	    loop_add_timer(s->loop, -1, 0, on_silence, c, &c->silence_timer, err) == 0)
		return c;
	shut(c);
	return NULL;
}

static int open_line(struct slave *s, struct err *err)
{
	struct slave_conn *c = add_conn(s, err);

	if (c == NULL)
		return err_set(err, ERR_NOMEM, "serial line");
	int rc = stream_open_serial(s->loop, s->transport, &handlers, c, &c->stream, err);
	if (rc < 0)
		shut(c);
	return rc;
}

/* ---- accepting ---- */

static bool may_connect(const struct slave *s, const char *host)
{
	const json_t *allowed;
	size_t i;

	if (json_is_null(s->remote_hosts))
		return true;
	json_array_foreach (s->remote_hosts, i, allowed)
		if (strcmp(json_string_value(allowed), host) == 0)
			return true;
	return false;
}

/* ret: NULL: it may come in; else why not. */
static const char *objection(const struct slave *s, const struct stream *stream, const char *host)
{
	if (s->max_connections >= 0 && s->n_conns >= s->max_connections)
		return "enough connections";
	if (!may_connect(s, host))
		return "not one of remote_hosts";
	if (!stream_leaves_descriptors(stream, s->n_conns))
		return "no more descriptors for this device";
	return NULL;
}

static void refuse(struct slave *s, struct stream *stream, const char *host, const char *why)
{
	s->refused++;
	if (log_allowed("modbus_slave.refused", host))
		log_warn("modbus_slave.refused", KV("device", port_name(s->port)), KV("host", host),
			 KV("why", why));
	stream_free(stream);
}

static void on_accept(void *arg, struct stream *stream, const struct stream_address *local,
		      const struct stream_address *remote)
{
	struct slave *s = arg;
	const char *why = objection(s, stream, remote->host);
	struct err err = {0};

	if (why != NULL) {
		refuse(s, stream, remote->host, why);
		return;
	}
	struct slave_conn *c = add_conn(s, &err);
	if (c == NULL || stream_start(stream, &handlers, c, &err) < 0) {
		refuse(s, stream, remote->host, err.text);
		if (c != NULL)
			shut(c);
		return;
	}
	c->stream = stream;
	c->local = *local;
	c->remote = *remote;
	slave_conn_alive(c);
}

int slave_open(struct slave *s, struct err *err)
{
	if (s->serial)
		return open_line(s, err);
	const json_t *host = json_object_get(s->transport, "local_host");
	const json_t *port = json_object_get(s->transport, "local_port");
	return stream_listen(s->loop, json_string_value(host), (unsigned)json_integer_value(port),
			     on_accept, s, &s->listener, err);
}

void slave_close(struct slave *s)
{
	s->listener = stream_listener_free(s->listener);
	while (s->conns != NULL)
		shut(s->conns);
}
