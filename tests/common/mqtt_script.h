/* mqtt_script.h - a link against a broker of the test's own: a socket that says what the script
 * wants, and checks every packet it gets. */
#pragma once

#include "common/dial.h"
#include "common/mqtt/mqtt_link.h"
#include "common/util.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#define PAYLOAD_MAX 1000
#define CLIENT_ID   "me"

struct world {
	struct loop *loop;
	struct mqtt_link *k;
	struct mqtt_link_conf conf;
	int listen_fd, fd; /* fd: the broker's end of the connection */
	uint8_t buf[4 << 20];
	size_t have; /* in buf, not looked at */
	/* what the link told */
	unsigned ups, fresh_ups, downs, batches, rooms, messages, too_large;
	char why[200];
	char log[4096]; /* payloads taken, each with a space */
	bool full;      /* no message is taken */
	struct mqtt_publish last;
};

/* ---- the broker ---- */

static bool accepted(struct world *w)
{
	int on = 1;

	w->fd = accept4(w->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (w->fd >= 0)
		setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return w->fd >= 0;
}

static void hang_up(struct world *w)
{
	closep(&w->fd);
	w->have = 0;
}

static bool readable(struct world *w)
{
	ssize_t n = recv(w->fd, w->buf + w->have, sizeof(w->buf) - w->have, 0);

	if (n > 0)
		w->have += (size_t)n;
	return n > 0;
}

/* Size of the packet at the beginning of buf, 0: not complete. */
static size_t packet_size(const struct world *w)
{
	size_t remaining = 0;

	for (size_t i = 1; i < w->have && i < 5; i++) {
		remaining |= (size_t)(w->buf[i] & 0x7f) << 7 * (i - 1);
		if (w->buf[i] & 0x80)
			continue;
		return i + 1 + remaining <= w->have ? i + 1 + remaining : 0;
	}
	return 0;
}

/* The next packet the link sent, as "TYPE id" or with more for some, in text. */
static const char *packet_text(const uint8_t *p, size_t size)
{
	static char text[256]; /* looked at before the next one */
	static const char *const names[] = {"",          "CONNECT",  "CONNACK",     "PUBLISH",
					    "PUBACK",    "PUBREC",   "PUBREL",      "PUBCOMP",
					    "SUBSCRIBE", "SUBACK",   "UNSUBSCRIBE", "UNSUBACK",
					    "PINGREQ",   "PINGRESP", "DISCONNECT"};
	size_t head = 2;
	unsigned type = p[0] >> 4, qos = p[0] >> 1 & 3;

	while (p[head - 1] & 0x80)
		head++;
	const uint8_t *body = p + head;
	if (type == 1) {
		snprintf(text, sizeof(text), "CONNECT clean=%u %.*s", body[7] >> 1 & 1,
			 (int)(size - head - 12), (const char *)body + 12);
	} else if (type == 3) {
		size_t topic = (size_t)body[0] << 8 | body[1];
		const uint8_t *rest = body + 2 + topic + (qos > 0 ? 2 : 0);
		char id[16] = "";
		if (qos > 0)
			snprintf(id, sizeof(id), " %u", rest[-2] << 8 | rest[-1]);
		snprintf(text, sizeof(text), "PUBLISH%s q%u%s %.*s=%.*s", id, qos,
			 p[0] & 8 ? " dup" : "", (int)topic, (const char *)body + 2,
			 (int)(p + size - rest), (const char *)rest);
	} else if (type == 12 || type == 14) {
		snprintf(text, sizeof(text), "%s", names[type]);
	} else if (type == 8 || type == 10) {
		size_t n = 0;
		for (const uint8_t *at = body + 2; at < p + size; n++)
			at += 2 + ((size_t)at[0] << 8 | at[1]) + (type == 8);
		snprintf(text, sizeof(text), "%s %u of %zu: %.*s", names[type],
			 body[0] << 8 | body[1], n, body[2] << 8 | body[3], (const char *)body + 4);
	} else {
		snprintf(text, sizeof(text), "%s %u", names[type], body[0] << 8 | body[1]);
	}
	return text;
}

static const char *next_packet(struct world *w)
{
	UNTIL(w, packet_size(w) > 0 || (readable(w) && packet_size(w) > 0));
	size_t size = packet_size(w);
	const char *text = packet_text(w->buf, size);
	w->have -= size;
	memmove(w->buf, w->buf + size, w->have);
	return text;
}

#define EXPECT(w, text) assert_string_equal(next_packet(w), text)

/* Turn until the link has had its chance to say more than it should. */
MAYBE_UNUSED static void expect_silence(struct world *w)
{
	for (int i = 0; i < 5; i++)
		loop_turn(w->loop, 2);
	readable(w);
	if (packet_size(w) > 0)
		fail_msg("unexpected: %s", packet_text(w->buf, packet_size(w)));
}

static void say(struct world *w, const void *data, size_t n)
{
	const char *at = data;

	while (n > 0) {
		ssize_t sent = send(w->fd, at, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			loop_turn(w->loop, 1);
			continue;
		}
		assert_true(sent > 0);
		at += sent;
		n -= (size_t)sent;
	}
}

#define SAY(w, ...) say((w), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

MAYBE_UNUSED static void send_publish(struct world *w, unsigned id, uint8_t qos, bool dup,
				      const char *payload)
{
	struct mqtt_bytes b = {0};
	const struct mqtt_publish m = {.topic = "t/in",
				       .topic_len = 4,
				       .payload = payload,
				       .len = strlen(payload),
				       .id = (uint16_t)id,
				       .qos = qos,
				       .dup = dup};

	assert_int_equal(mqtt_put_publish(&b, &m), 0);
	say(w, b.data, b.end);
	mqtt_bytes_done(&b);
}

MAYBE_UNUSED static void ack(struct world *w, enum mqtt_type type, unsigned id)
{
	struct mqtt_bytes b = {0};

	assert_int_equal(mqtt_put_ack(&b, type, (uint16_t)id), 0);
	say(w, b.data, b.end);
	mqtt_bytes_done(&b);
}

/* ---- the client ---- */

static void on_up(void *arg, bool fresh)
{
	struct world *w = arg;
	w->ups++;
	w->fresh_ups += fresh;
}

static void on_down(void *arg, const char *why)
{
	struct world *w = arg;
	w->downs++;
	snprintf(w->why, sizeof(w->why), "%s", why);
}

static bool on_message(void *arg, const struct mqtt_publish *m)
{
	struct world *w = arg;
	size_t at = strlen(w->log);

	if (w->full)
		return false;
	if (m->payload != NULL)
		assert_int_equal(((const char *)m->payload)[m->len], '\0');
	w->messages++;
	w->last = *m;
	if (m->payload == NULL)
		w->too_large++;
	else
		snprintf(w->log + at, sizeof(w->log) - at, "%.*s ", (int)m->len,
			 (const char *)m->payload);
	return true;
}

static void on_batch(void *arg)
{
	struct world *w = arg;
	w->batches++;
}

static void on_room(void *arg)
{
	struct world *w = arg;
	w->rooms++;
}

static const struct mqtt_link_handlers handlers = {
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
	.on_batch = on_batch,
	.on_room = on_room,
};

static int setup(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	w->fd = -1;
	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(w->listen_fd, 5), 0);
	assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&a, &len), 0);
	w->conf = (struct mqtt_link_conf){
		.host = "127.0.0.1",
		.port = ntohs(a.sin_port),
		.client_id = CLIENT_ID,
		.max_payload_bytes = PAYLOAD_MAX,
		.max_queued = 1000,
		.max_queued_bytes = 1 << 20,
	};
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	hang_up(w); /* so that the goodbye waits for nobody */
	mqtt_link_free(w->k);
	closep(&w->listen_fd);
	loop_free(w->loop);
	free(w);
	return 0;
}

MAYBE_UNUSED static void open_link(struct world *w)
{
	struct err err = {0};

	if (mqtt_link_new(w->loop, &w->conf, &handlers, w, &w->k, &err) < 0)
		fail_msg("%s", err.text);
}

/* The link's next connection, up to CONNACK. */
MAYBE_UNUSED static void let_in(struct world *w, bool session_present)
{
	hang_up(w);
	UNTIL(w, accepted(w));
	EXPECT(w, "CONNECT clean=0 " CLIENT_ID);
	SAY(w, 0x20, 2, session_present, 0);
}

MAYBE_UNUSED static void start(struct world *w)
{
	open_link(w);
	let_in(w, false);
	UNTIL(w, w->ups == 1);
}

struct answer {
	unsigned calls;
	int rc;
};

MAYBE_UNUSED static void on_answer(void *arg, int rc)
{
	struct answer *a = arg;
	a->calls++;
	a->rc = rc;
}

MAYBE_UNUSED static void publish(struct world *w, const char *payload, uint8_t qos)
{
	assert_int_equal(mqtt_link_publish(w->k, "t/out", 5, payload, strlen(payload), qos), 0);
	mqtt_link_flush(w->k);
}
