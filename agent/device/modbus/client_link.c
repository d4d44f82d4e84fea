/* client_link.c - connects and reconnects (gateway-devices 2.1, "Connection loop"). */
#include "agent/device/modbus/client_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>

#define GROWN_UP_MS 1000 /* a connection that lasted as long is no reason for a guard (1.7) */
#define GUARD_MS    1000 /* longest wait that the guard asks for */
#define PAUSE_MS    100  /* least wait after a failure: a delay of 0 would turn in circles */
#define RTU_MS      50   /* least silence on a line: adapters and kernels hold bytes back */
#define RTU_TCP_MS  500  /* and on a network, which may send a part again */
#define ASCII_MS    1000

static int64_t max_ms(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t min_ms(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Silence tells that what has begun is no frame. The 3.5 characters of the standard are too short
 * for what cannot hear the line itself; frames that are cut for longer end at the CRC. */
static int64_t silence_ms(const struct modbus_client *c)
{
	if (c->conf.framing == MODBUS_ASCII)
		return ASCII_MS;
	if (c->conf.serial)
		return max_ms(RTU_MS, (int64_t)stream_char_us(c->stream) * 7 / 2 / 1000 + 1);
	return c->conf.framing == MODBUS_RTU ? RTU_TCP_MS : 0;
}

static void tell(struct modbus_client *c, enum link_state state)
{
	c->state = state;
	if (!c->freed)
		c->h->on_state(c->arg, state);
}

static void complain(const struct modbus_client *c, const char *why)
{
	char peer[300];

	if (c->conf.serial)
		snprintf(peer, sizeof(peer), "%.250s", c->conf.host);
	else
		snprintf(peer, sizeof(peer), "%.250s:%u", c->conf.host, c->conf.port);
	if (c->state == LINK_CONNECTED) {
		if (log_allowed("modbus.disconnected", peer))
			log_info("modbus.disconnected", KV("peer", peer), KV("why", why));
	} else if (log_allowed("modbus.connect_failed", peer)) {
		log_warn("modbus.connect_failed", KV("peer", peer), KV("why", why));
	}
}

/* After an attempt that failed the delay; after a connection nothing, unless it was a short one. */
static int64_t wait_ms(const struct modbus_client *c, int64_t now_ms)
{
	if (c->state != LINK_CONNECTED)
		return max_ms(c->conf.connect_delay_ms, PAUSE_MS);
	if (now_ms - c->connected_ms >= GROWN_UP_MS)
		return 0;
	return max_ms(min_ms(c->conf.connect_delay_ms, GUARD_MS), PAUSE_MS);
}

void modbus_link_over(struct modbus_client *c, const char *why)
{
	int64_t now_ms = loop_now_ms(c->loop);

	complain(c, why);
	snprintf(c->why, sizeof(c->why), "%s", why);
	c->attempt_ms = now_ms + wait_ms(c, now_ms);
	c->stream = stream_free(c->stream);
	c->state = LINK_DISCONNECTED; /* what is asked for from here on is refused */
	modbus_client_fail_all(c);
	tell(c, LINK_DISCONNECTED);
}

static void connected(struct modbus_client *c)
{
	c->connected_ms = loop_now_ms(c->loop);
	c->why[0] = '\0';
	c->silence_ms = silence_ms(c);
	c->send_ms = c->connected_ms;
	c->late.answers = 0;
	c->probed = false;
	c->stats.connects++;
	modbus_framer_clear(&c->framer);
	tell(c, LINK_CONNECTED);
}

static void on_open(void *arg)
{
	struct modbus_client *c = arg;

	modbus_client_enter(c);
	connected(c);
	modbus_client_leave(c);
}

static void on_data(void *arg, const uint8_t *bytes, size_t n)
{
	struct modbus_client *c = arg;

	modbus_client_enter(c);
	modbus_wire_data(c, bytes, n);
	modbus_client_leave(c);
}

static void on_close(void *arg, const char *why)
{
	struct modbus_client *c = arg;

	modbus_client_enter(c);
	modbus_link_over(c, why);
	modbus_client_leave(c);
}

void modbus_link_attempt(struct modbus_client *c)
{
	static const struct stream_handlers handlers = {
		.on_open = on_open, .on_data = on_data, .on_close = on_close};
	struct err err = {0};
	int rc;

	tell(c, LINK_CONNECTING);
	if (c->freed)
		return;
	if (c->conf.serial)
		rc = stream_open_serial(c->loop, c->conf.block, &handlers, c, &c->stream, &err);
	else
		rc = stream_connect(c->loop, c->conf.host, c->conf.port,
				    (unsigned)c->conf.connect_timeout_ms, &handlers, c, &c->stream,
				    &err);
	if (rc < 0)
		modbus_link_over(c, err.text);
	else if (c->conf.serial)
		connected(c);
}
