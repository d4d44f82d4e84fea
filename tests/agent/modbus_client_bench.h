/* modbus_client_bench.h - a master's connection against a peer that says what the script wants: at
 * a socket, or at the other end of a pseudo terminal. Numbers are those of gateway-devices 5.2.
 */
#pragma once

#include "agent/device/modbus/client.h"
#include "common/util.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#define UNIT      1
#define CALLS_MAX 1024

struct world {
	struct loop *loop;
	struct modbus_client *c;
	json_t *conf;
	const char *framing;
	int listen_fd, fd; /* the peer's */
	unsigned port;
	char line[80]; /* of the pseudo terminal, by a link that can be moved */
	char states[64];
	enum link_state link; /* the last of them */
	char results[20000];
	uint8_t in[70000];
	size_t n_in;
	unsigned transaction; /* of the last request */
	bool free_when_told;
	struct asker {
		struct world *w;
		unsigned id;
	} askers[CALLS_MAX + 8];
	unsigned asked;
};

/* ---- what the client tells ---- */

static MAYBE_UNUSED void on_state(void *arg, enum link_state state)
{
	static const char letters[] = {
		[LINK_DISCONNECTED] = 'D', [LINK_CONNECTING] = 'C', [LINK_CONNECTED] = 'U'};
	struct world *w = arg;
	size_t n = strlen(w->states);

	assert_true(n < sizeof(w->states) - 1);
	w->states[n] = letters[state];
	w->link = state;
	if (w->free_when_told && w->c != NULL) {
		w->free_when_told = false;
		w->c = modbus_client_free(TAKE(w->c));
	}
}

/* One more word of the results. */
static MAYBE_UNUSED __attribute__((format(printf, 2, 3))) void add(struct world *w, const char *fmt,
								   ...)
{
	size_t len = strlen(w->results);
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(w->results + len, sizeof(w->results) - len, fmt, args);
	va_end(args);
	assert_true(n >= 0 && (size_t)n < sizeof(w->results) - len);
}

static MAYBE_UNUSED void on_done(void *arg, const struct modbus_result *r)
{
	static const char *const kinds[] = {
		[MODBUS_TIMED_OUT] = "TIMEOUT", [MODBUS_LOST] = "LOST", [MODBUS_FULL] = "FULL"};
	const struct asker *a = arg;
	struct world *w = a->w;

	add(w, "%s%u=", w->results[0] != '\0' ? " " : "", a->id);
	if (r->kind != MODBUS_DONE)
		add(w, "%s", kinds[r->kind]);
	else if (r->answer->exception != 0)
		add(w, "E%u", r->answer->exception);
	else if (r->answer->quantity == 0)
		add(w, "OK");
	for (unsigned i = 0;
	     r->kind == MODBUS_DONE && r->answer->exception == 0 && i < r->answer->quantity; i++)
		add(w, "%s%u", i > 0 ? "," : "", r->answer->values[i]);
	if (w->free_when_told)
		w->c = modbus_client_free(TAKE(w->c));
}

static const struct modbus_client_handlers handlers = {on_state};

static MAYBE_UNUSED unsigned discarded(const struct world *w)
{
	struct modbus_client_stats s;
	modbus_client_get_stats(w->c, &s);
	return (unsigned)s.discarded;
}

/* ---- the world ---- */

static MAYBE_UNUSED int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (w == NULL || loop_new(&w->loop, NULL) < 0)
		return -1;
	w->fd = w->listen_fd = -1;
	for (unsigned i = 0; i < ARRAY_LEN(w->askers); i++)
		w->askers[i] = (struct asker){w, i};
	*state = w;
	return 0;
}

static MAYBE_UNUSED void drop(struct world *w)
{
	w->c = modbus_client_free(w->c);
	json_decref(TAKE(w->conf));
	closep(&w->fd);
	closep(&w->listen_fd);
	if (w->line[0] != '\0')
		unlink(w->line);
	w->states[0] = w->results[0] = w->line[0] = '\0';
	memset(w->states, 0, sizeof(w->states));
	w->link = LINK_DISCONNECTED;
	w->n_in = 0;
	w->asked = w->transaction = 0;
}

static MAYBE_UNUSED int teardown(void **state)
{
	struct world *w = *state;

	drop(w);
	loop_free(w->loop);
	free(w);
	return 0;
}

static MAYBE_UNUSED void listen_here(struct world *w)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);

	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(w->listen_fd >= 0);
	assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(w->listen_fd, 8), 0);
	assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&at, &len), 0);
	w->port = ntohs(at.sin_port);
}

static MAYBE_UNUSED bool accepted(struct world *w)
{
	int on = 1;

	w->fd = accept4(w->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (w->fd >= 0)
		setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return w->fd >= 0;
}

/* A pseudo terminal, whose name is a link to it. */
static MAYBE_UNUSED void plug_line(struct world *w)
{
	char name[64];
	struct termios raw;
	int slave_fd;

	memset(&raw, 0, sizeof(raw));
	cfmakeraw(&raw);
	assert_int_equal(openpty(&w->fd, &slave_fd, name, &raw, NULL), 0);
	close(slave_fd);
	assert_int_equal(fcntl(w->fd, F_SETFL, O_NONBLOCK), 0);
	snprintf(w->line, sizeof(w->line), P_tmpdir "/test_modbus_client.%d", (int)getpid());
	unlink(w->line);
	assert_int_equal(symlink(name, w->line), 0);
}

static MAYBE_UNUSED void make_conf(struct world *w, const char *framing, bool serial,
				   const char *more)
{
	char text[800];

	snprintf(text, sizeof(text),
		 "{\"modbus_type\": \"%s\", \"transport\": {}, \"connect_timeout\": 5, "
		 "\"connect_delay\": 0.1, \"request_timeout\": 5, \"request_delay\": 0, "
		 "\"request_retry_immediate_count\": 0, \"request_retry_delayed_count\": 0, "
		 "\"request_retry_delay\": 0}",
		 framing);
	w->framing = framing;
	w->conf = json_loads(text, 0, NULL);
	json_t *other = json_loads(more, 0, NULL);
	assert_non_null(w->conf);
	assert_non_null(other);
	json_object_update(w->conf, other);
	json_decref(other);
	if (serial)
		snprintf(text, sizeof(text),
			 "{\"type\": \"SERIAL\", \"port\": \"%s\", \"baudrate\": 115200, "
			 "\"silent_interval\": 0}",
			 w->line);
	else
		snprintf(text, sizeof(text),
			 "{\"type\": \"TCP\", \"host\": \"127.0.0.1\", \"port\": %u}", w->port);
	json_object_set_new(w->conf, "transport", json_loads(text, 0, NULL));
	struct problems *p = problems_new();
	assert_int_equal(fields_check(modbus_connection_fields, w->conf, p), 0);
	modbus_connection_check(w->conf, p);
	assert_int_equal(problems_errors(p), 0);
	problems_free(p);
}

/* Connected, with these settings. */
static MAYBE_UNUSED void begin(struct world *w, const char *framing, bool serial, const char *more)
{
	if (serial)
		plug_line(w);
	else
		listen_here(w);
	make_conf(w, framing, serial, more);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	if (!serial)
		UNTIL(w, accepted(w));
	UNTIL(w, w->link == LINK_CONNECTED);
	assert_string_equal(w->states, "CU");
}

static const struct {
	const char *framing;
	bool serial;
} ways[] = {{"TCP", false}, {"RTU", false}, {"ASCII", false},
	    {"TCP", true},  {"RTU", true},  {"ASCII", true}};

/* ---- asking ---- */

static MAYBE_UNUSED void ask(struct world *w, uint8_t unit, const struct modbus_request *q)
{
	struct err err = {0};

	if (modbus_client_request(w->c, unit, q, on_done, &w->askers[++w->asked], &err) != 0)
		fail_msg("request %u: %s", w->asked, err.text);
}

static MAYBE_UNUSED void ask_word(struct world *w, uint16_t address)
{
	const struct modbus_request q = {
		.function = MODBUS_READ_HOLDING_REGISTERS, .address = address, .quantity = 1};
	ask(w, UNIT, &q);
}

static MAYBE_UNUSED void ask_write(struct world *w, uint16_t address, uint16_t value)
{
	const struct modbus_request q = {.function = MODBUS_WRITE_REGISTER,
					 .address = address,
					 .quantity = 1,
					 .values = {value}};
	ask(w, UNIT, &q);
}

static MAYBE_UNUSED void results(struct world *w, const char *expected)
{
	int64_t end = now_ms() + PATIENCE_MS;

	while (strlen(w->results) < strlen(expected) && now_ms() < end)
		loop_turn(w->loop, 5);
	assert_string_equal(w->results, expected);
}

/* ---- the peer ---- */

static MAYBE_UNUSED size_t unhex(const char *text, uint8_t *bytes)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		const char pair[] = {text[0], text[1], '\0'};

		if (*text == ' ')
			continue;
		bytes[n++] = (uint8_t)strtoul(pair, NULL, 16);
		text++;
	}
	return n;
}

static MAYBE_UNUSED size_t rtu_of(const uint8_t *body, size_t n, uint8_t *buf)
{
	uint16_t crc = 0xffff;

	memcpy(buf, body, n);
	for (size_t i = 0; i < n; i++) {
		crc ^= body[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1);
	}
	buf[n] = (uint8_t)crc;
	buf[n + 1] = (uint8_t)(crc >> 8);
	return n + 2;
}

static MAYBE_UNUSED size_t ascii_of(const uint8_t *body, size_t n, uint8_t *buf)
{
	uint8_t sum = 0;
	char *at = (char *)buf;
	const char *const end = at + 2 * n + 6; /* of a frame of n bytes, with its NUL */

	*at++ = ':';
	for (size_t i = 0; i < n; i++) {
		at += snprintf(at, (size_t)(end - at), "%02X", body[i]);
		sum = (uint8_t)(sum + body[i]);
	}
	at += snprintf(at, (size_t)(end - at), "%02X\r\n", (uint8_t)-sum);
	return (size_t)(at - (char *)buf);
}

static MAYBE_UNUSED size_t tcp_of(unsigned transaction, const uint8_t *body, size_t n, uint8_t *buf)
{
	const uint8_t head[] = {(uint8_t)(transaction >> 8),
				(uint8_t)transaction,
				0,
				0,
				(uint8_t)(n >> 8),
				(uint8_t)n};

	memcpy(buf, head, sizeof(head));
	memcpy(buf + sizeof(head), body, n);
	return sizeof(head) + n;
}

/* body: unit and PDU in hex. */
static MAYBE_UNUSED size_t frame_of(const struct world *w, const char *body, uint8_t *buf)
{
	uint8_t bytes[300];
	size_t n = unhex(body, bytes);

	if (strcmp(w->framing, "TCP") == 0)
		return tcp_of(w->transaction, bytes, n, buf);
	return strcmp(w->framing, "RTU") == 0 ? rtu_of(bytes, n, buf) : ascii_of(bytes, n, buf);
}

static MAYBE_UNUSED void say_bytes(const struct world *w, const uint8_t *bytes, size_t n)
{
	assert_int_equal(write(w->fd, bytes, n), n);
}

static MAYBE_UNUSED void say(const struct world *w, const char *body)
{
	uint8_t buf[700];
	say_bytes(w, buf, frame_of(w, body, buf));
}

static MAYBE_UNUSED void say_raw(const struct world *w, const char *hex)
{
	uint8_t buf[700];
	say_bytes(w, buf, unhex(hex, buf));
}

static MAYBE_UNUSED void say_text(const struct world *w, const char *text)
{
	say_bytes(w, (const uint8_t *)text, strlen(text));
}

static MAYBE_UNUSED size_t read_more(struct world *w)
{
	ssize_t n = read(w->fd, w->in + w->n_in, sizeof(w->in) - w->n_in);

	w->n_in += n > 0 ? (size_t)n : 0;
	return w->n_in;
}

/* The client's next request is this. */
static MAYBE_UNUSED void hear(struct world *w, const char *body)
{
	uint8_t expected[700];

	w->transaction++;
	size_t n = frame_of(w, body, expected);
	UNTIL(w, read_more(w) >= n);
	assert_memory_equal(w->in, expected, n);
	memmove(w->in, w->in + n, w->n_in - n);
	w->n_in -= n;
}

/* Register `address` is asked for, and that goes out, over TCP or a line. */
static MAYBE_UNUSED void ask_and_hear(struct world *w, uint16_t address)
{
	char body[24];

	snprintf(body, sizeof(body), "01 03 %04X 0001", address);
	ask_word(w, address);
	hear(w, body);
}

/* And back it goes, as half duplex adapters do. */
static MAYBE_UNUSED void hear_echoing(struct world *w, const char *body)
{
	hear(w, body);
	say(w, body);
}

static MAYBE_UNUSED void turns(struct world *w, unsigned n)
{
	while (n-- > 0)
		loop_turn(w->loop, 0);
}
