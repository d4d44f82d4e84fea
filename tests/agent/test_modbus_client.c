/* A master's connection against a peer that says what the script wants: at a socket, or at the
 * other end of a pseudo terminal. Numbers are those of gateway-devices 5.2. */
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

static void on_state(void *arg, enum link_state state)
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
static __attribute__((format(printf, 2, 3))) void add(struct world *w, const char *fmt, ...)
{
	size_t len = strlen(w->results);
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(w->results + len, sizeof(w->results) - len, fmt, args);
	va_end(args);
	assert_true(n >= 0 && (size_t)n < sizeof(w->results) - len);
}

static void on_done(void *arg, const struct modbus_result *r)
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

static unsigned discarded(const struct world *w)
{
	struct modbus_client_stats s;
	modbus_client_get_stats(w->c, &s);
	return (unsigned)s.discarded;
}

/* ---- the world ---- */

static int setup(void **state)
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

static void drop(struct world *w)
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

static int teardown(void **state)
{
	struct world *w = *state;

	drop(w);
	loop_free(w->loop);
	free(w);
	return 0;
}

static void listen_here(struct world *w)
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

static bool accepted(struct world *w)
{
	int on = 1;

	w->fd = accept4(w->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (w->fd >= 0)
		setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return w->fd >= 0;
}

/* A pseudo terminal, whose name is a link to it. */
static void plug_line(struct world *w)
{
	char name[64];
	struct termios raw;
	int slave_fd;

	memset(&raw, 0, sizeof(raw));
	cfmakeraw(&raw);
	assert_int_equal(openpty(&w->fd, &slave_fd, name, &raw, NULL), 0);
	close(slave_fd);
	assert_int_equal(fcntl(w->fd, F_SETFL, O_NONBLOCK), 0);
	snprintf(w->line, sizeof(w->line), "/tmp/test_modbus_client.%d", (int)getpid());
	unlink(w->line);
	assert_int_equal(symlink(name, w->line), 0);
}

static void make_conf(struct world *w, const char *framing, bool serial, const char *more)
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
static void begin(struct world *w, const char *framing, bool serial, const char *more)
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

/* ---- asking ---- */

static void ask(struct world *w, uint8_t unit, const struct modbus_request *q)
{
	struct err err = {0};

	if (modbus_client_request(w->c, unit, q, on_done, &w->askers[++w->asked], &err) != 0)
		fail_msg("request %u: %s", w->asked, err.text);
}

static void ask_word(struct world *w, uint16_t address)
{
	const struct modbus_request q = {
		.function = MODBUS_READ_HOLDING_REGISTERS, .address = address, .quantity = 1};
	ask(w, UNIT, &q);
}

static void ask_write(struct world *w, uint16_t address, uint16_t value)
{
	const struct modbus_request q = {.function = MODBUS_WRITE_REGISTER,
					 .address = address,
					 .quantity = 1,
					 .values = {value}};
	ask(w, UNIT, &q);
}

static void results(struct world *w, const char *expected)
{
	int64_t end = now_ms() + PATIENCE_MS;

	while (strlen(w->results) < strlen(expected) && now_ms() < end)
		loop_turn(w->loop, 5);
	assert_string_equal(w->results, expected);
}

/* ---- the peer ---- */

static size_t unhex(const char *text, uint8_t *bytes)
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

static size_t rtu_of(const uint8_t *body, size_t n, uint8_t *buf)
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

static size_t ascii_of(const uint8_t *body, size_t n, uint8_t *buf)
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

static size_t tcp_of(unsigned transaction, const uint8_t *body, size_t n, uint8_t *buf)
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
static size_t frame_of(const struct world *w, const char *body, uint8_t *buf)
{
	uint8_t bytes[300];
	size_t n = unhex(body, bytes);

	if (strcmp(w->framing, "TCP") == 0)
		return tcp_of(w->transaction, bytes, n, buf);
	return strcmp(w->framing, "RTU") == 0 ? rtu_of(bytes, n, buf) : ascii_of(bytes, n, buf);
}

static void say_bytes(const struct world *w, const uint8_t *bytes, size_t n)
{
	assert_int_equal(write(w->fd, bytes, n), n);
}

static void say(const struct world *w, const char *body)
{
	uint8_t buf[700];
	say_bytes(w, buf, frame_of(w, body, buf));
}

static void say_raw(const struct world *w, const char *hex)
{
	uint8_t buf[700];
	say_bytes(w, buf, unhex(hex, buf));
}

static void say_text(const struct world *w, const char *text)
{
	say_bytes(w, (const uint8_t *)text, strlen(text));
}

static size_t read_more(struct world *w)
{
	ssize_t n = read(w->fd, w->in + w->n_in, sizeof(w->in) - w->n_in);

	w->n_in += n > 0 ? (size_t)n : 0;
	return w->n_in;
}

/* The client's next request is this. */
static void hear(struct world *w, const char *body)
{
	uint8_t expected[700];

	w->transaction++;
	size_t n = frame_of(w, body, expected);
	UNTIL(w, read_more(w) >= n);
	assert_memory_equal(w->in, expected, n);
	memmove(w->in, w->in + n, w->n_in - n);
	w->n_in -= n;
}

/* And back it goes, as half duplex adapters do. */
static void hear_echoing(struct world *w, const char *body)
{
	hear(w, body);
	say(w, body);
}

static void turns(struct world *w, unsigned n)
{
	while (n-- > 0)
		loop_turn(w->loop, 0);
}

/* ---- requests ---- */

static const struct {
	const char *framing;
	bool serial;
} ways[] = {{"TCP", false}, {"RTU", false}, {"ASCII", false},
	    {"TCP", true},  {"RTU", true},  {"ASCII", true}};

static void every_framing_goes_over_every_transport(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		begin(w, ways[i].framing, ways[i].serial, "{}");
		ask_word(w, 5);
		hear(w, "01 03 0005 0001");
		say(w, "01 03 02 004D");
		results(w, "1=77");
		ask_write(w, 5, 77);
		hear(w, "01 06 0005 004D");
		say(w, "01 06 0005 004D");
		results(w, "1=77 2=OK");
		drop(w);
	}
}

/* Nr. 1 */
static void answers_may_come_byte_by_byte(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		uint8_t answer[700];

		begin(w, ways[i].framing, ways[i].serial, "{}");
		const struct modbus_request q = {
			.function = MODBUS_READ_INPUT_REGISTERS, .address = 9, .quantity = 3};
		ask(w, UNIT, &q);
		hear(w, "01 04 0009 0003");
		size_t n = frame_of(w, "01 04 06 0001 0203 FFFE", answer);
		for (size_t at = 0; at < n; at++) {
			assert_string_equal(w->results, "");
			say_bytes(w, answer + at, 1);
			turns(w, 2);
		}
		results(w, "1=1,515,65534");
		drop(w);
	}
}

static void requests_go_out_one_at_a_time_in_their_order(void **state)
{
	struct world *w = *state;
	char body[32];

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 5; i++)
		ask_word(w, (uint16_t)i);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(body, sizeof(body), "01 03 %04X 0001", i);
		hear(w, body);
		turns(w, 3);
		assert_int_equal(read_more(w), 0);
		say(w, "01 03 02 0007");
	}
	results(w, "1=7 2=7 3=7 4=7 5=7");
}

static void requests_that_cannot_be_are_refused(void **state)
{
	struct world *w = *state;
	struct modbus_request q = {.function = MODBUS_READ_COILS, .quantity = 2001};

	begin(w, "TCP", false, "{}");
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_RANGE);
	q.function = 7;
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_INVAL);
	closep(&w->fd);
	UNTIL(w, w->link != LINK_CONNECTED);
	q = (struct modbus_request){.function = MODBUS_READ_COILS, .quantity = 1};
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_PEER);
	turns(w, 5);
	assert_string_equal(w->results, "");
}

static void no_more_than_1024_wait(void **state)
{
	struct world *w = *state;
	const struct modbus_request q = {.function = MODBUS_READ_COILS, .quantity = 1};
	struct modbus_client_stats s;

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < CALLS_MAX + 1; i++) /* one is on the wire */
		ask(w, UNIT, &q);
	assert_int_equal(modbus_client_request(w->c, 1, &q, on_done, w->askers, NULL), ERR_LIMIT);
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.waiting, CALLS_MAX);
	hear(w, "01 01 0000 0001");
	say(w, "01 01 01 01");
	results(w, "1=1");
	ask(w, UNIT, &q);
	/* all of them are told that the connection is lost, in their order */
	closep(&w->fd);
	UNTIL(w, strstr(w->states, "D") != NULL);
	assert_memory_equal(w->results, "1=1 2=LOST 3=LOST ", 18);
	assert_non_null(strstr(w->results, " 1025=LOST 1026=LOST"));
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.waiting, 0);
}

static void a_forgotten_request_is_not_told(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 4; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	modbus_client_forget(w->c, &w->askers[1]); /* on the wire */
	modbus_client_forget(w->c, &w->askers[3]);
	say(w, "01 03 02 0001");
	hear(w, "01 03 0001 0001");
	say(w, "01 03 02 0002");
	hear(w, "01 03 0003 0001");
	say(w, "01 03 02 0004");
	results(w, "2=2 4=4");
}

static void the_pause_between_answer_and_request_is_kept(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{\"request_delay\": 0.06}");
	ask_word(w, 0);
	ask_word(w, 1);
	hear(w, "01 03 0000 0001");
	int64_t from_ms = now_ms();
	say(w, "01 03 02 0001");
	hear(w, "01 03 0001 0001");
	assert_true(now_ms() - from_ms >= 60);
	say(w, "01 03 02 0002");
	results(w, "1=1 2=2");
}

static void attempts_are_immediate_times_delayed(void **state)
{
	struct world *w = *state;
	struct modbus_client_stats s;

	begin(w, "TCP", false,
	      "{\"request_timeout\": 0.02, \"request_retry_immediate_count\": 1, "
	      "\"request_retry_delayed_count\": 2, \"request_retry_delay\": 0.05}");
	ask_word(w, 0);
	hear(w, "01 03 0000 0001");
	ask_word(w, 1); /* goes when the first waits for its delayed retry */
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0001 0001");
	say(w, "01 03 02 0008");
	int64_t from_ms = now_ms();
	hear(w, "01 03 0000 0001");
	assert_true(now_ms() - from_ms >= 20);
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0000 0001");
	results(w, "2=8 1=TIMEOUT");
	modbus_client_get_stats(w->c, &s);
	assert_int_equal(s.requests, 7);
	assert_int_equal(s.retries, 5);
	assert_int_equal(s.timeouts, 1);
	assert_int_equal(s.answers, 1);
	assert_string_equal(w->states, "CU"); /* a timeout ends no connection */
}

static void a_delayed_retry_goes_to_the_end_of_the_queue(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false,
	      "{\"request_timeout\": 0.1, \"request_retry_delayed_count\": 1, "
	      "\"request_retry_delay\": 0}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0001 0001"); /* the first had no answer */
	say(w, "01 03 02 0001");
	hear(w, "01 03 0002 0001");
	say(w, "01 03 02 0002");
	hear(w, "01 03 0000 0001");
	say(w, "01 03 02 0003");
	results(w, "2=1 3=2 1=3");
}

/* A limit of 0 is a millisecond: a silent peer is no busy loop. */
static void no_time_for_an_answer_is_a_millisecond(void **state)
{
	struct world *w = *state;
	struct modbus_client_stats s;
	int64_t from_ms = now_ms();

	begin(w, "TCP", false, "{\"request_timeout\": 0, \"request_retry_immediate_count\": 1000}");
	ask_word(w, 0);
	for (unsigned i = 0; i < 200; i++)
		loop_turn(w->loop, 5);
	modbus_client_get_stats(w->c, &s);
	assert_in_range(s.requests, 1, now_ms() - from_ms + 1);
}

/* ---- nr. 11: Modbus TCP ---- */

static void answers_of_others_are_passed_over(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	say_raw(w, "0000 0000 0005 01 03 02 0001"); /* an old transaction */
	say_raw(w, "0001 0000 0005 02 03 02 0002"); /* another unit */
	say_raw(w, "0001 0000 0005 01 04 02 0003"); /* another function */
	say_raw(w, "0001 0000 0003 01 84 02");
	say_raw(w, "0001 0000 0005 01 03 02 0004");
	results(w, "1=4");
	assert_int_equal(discarded(w), 4);
	assert_string_equal(w->states, "CU");
}

static void every_exception_is_an_answer(void **state)
{
	static const unsigned codes[] = {1, 2, 3, 4, 5, 6, 8, 10, 11, 200};
	struct world *w = *state;
	char expected[200] = "", body[32];

	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
		ask_word(w, 5);
		hear(w, "01 03 0005 0001");
		snprintf(body, sizeof(body), "01 83 %02X", codes[i]);
		say(w, body);
		size_t len = strlen(expected);
		snprintf(expected + len, sizeof(expected) - len, "%s%u=E%u", i > 0 ? " " : "",
			 i + 1, codes[i]);
		results(w, expected);
	}
	assert_string_equal(w->states, "CU");
}

static void what_is_no_modbus_ends_the_connection(void **state)
{
	static const char *const answers[] = {
		"0001 0001 0005 01 03 02 004D", /* protocol id */
		"0001 0000 0000 01 03 02 004D", /* length 0, 1, 65535 */
		"0001 0000 0001 01 03 02 004D",
		"0001 0000 FFFF 01 03 02 004D",
		"0001 0000 0007 01 03 04 004D 0000", /* not as many as were asked for */
		"0001 0000 0005 01 03 04 004D",
		"0001 0000 0004 01 03 02 00",
		"0001 0000 0002 01 83",
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		begin(w, "TCP", false, "{}");
		ask_word(w, 5);
		ask_word(w, 6);
		hear(w, "01 03 0005 0001");
		say_raw(w, answers[i]);
		results(w, "1=LOST 2=LOST");
		UNTIL(w, strlen(w->states) >= 3);
		assert_memory_equal(w->states, "CUD", 3);
		closep(&w->fd);
		UNTIL(w, accepted(w));
		UNTIL(w, strcmp(w->states, "CUDCU") == 0);
		drop(w);
	}
}

static void a_write_is_answered_by_its_echo_alone(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	ask_write(w, 5, 77);
	hear(w, "01 06 0005 004D");
	say(w, "01 06 0005 004E");
	results(w, "1=LOST");
	drop(w);
	begin(w, "RTU", true, "{\"request_timeout\": 0.15}");
	ask_word(w, 0); /* so that it is known that nothing is echoed */
	hear(w, "01 03 0000 0001");
	say(w, "01 03 02 0001");
	results(w, "1=1");
	ask_write(w, 5, 77);
	hear(w, "01 06 0005 004D");
	say(w, "01 06 0005 004E");
	results(w, "1=1 2=TIMEOUT");
}

static void half_an_answer_is_none(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	say_raw(w, "0001 0000 0005 01 03");
	turns(w, 3);
	closep(&w->fd);
	results(w, "1=LOST");
}

static void a_late_answer_is_not_the_next_ones(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{\"request_timeout\": 0.1}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	say_raw(w, "0001 0000 0005"); /* and the rest when it is over */
	results(w, "1=TIMEOUT");
	ask_word(w, 6);
	hear(w, "01 03 0006 0001");
	say_raw(w, "01 03 02 0055");
	say(w, "01 03 02 0066");
	results(w, "1=TIMEOUT 2=102");
	assert_int_equal(discarded(w), 1);
}

/* RTU and ASCII have no transaction ids. */
static void a_late_answer_on_a_line_is_waited_for(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (strcmp(ways[i].framing, "TCP") == 0)
			continue;
		begin(w, ways[i].framing, ways[i].serial, "{\"request_timeout\": 0.5}");
		ask_word(w, 5);
		ask_word(w, 6);
		hear(w, "01 03 0005 0001");
		results(w, "1=TIMEOUT");
		turns(w, 3);
		assert_int_equal(read_more(w), 0); /* an answer to this would look just the same */
		say(w, "01 03 02 0055");
		hear(w, "01 03 0006 0001");
		say(w, "01 03 02 0066");
		results(w, "1=TIMEOUT 2=102");
		drop(w);
	}
}

static void the_answers_to_all_attempts_are_waited_for(void **state)
{
	struct world *w = *state;

	begin(w, "RTU", true, "{\"request_timeout\": 0.5, \"request_retry_immediate_count\": 1}");
	ask_word(w, 5);
	ask_word(w, 6);
	hear(w, "01 03 0005 0001");
	hear(w, "01 03 0005 0001");
	say(w, "01 03 02 0055"); /* to the first attempt */
	results(w, "1=85");
	turns(w, 3);
	assert_int_equal(read_more(w), 0);
	say(w, "01 03 02 0056"); /* to the second one */
	hear(w, "01 03 0006 0001");
	say(w, "01 03 02 0066");
	results(w, "1=85 2=102");
}

static void requests_that_no_late_answer_fits_need_not_wait(void **state)
{
	struct world *w = *state;
	const struct modbus_request two = {
		.function = MODBUS_READ_HOLDING_REGISTERS, .address = 5, .quantity = 2};
	const struct modbus_request other = {
		.function = MODBUS_READ_HOLDING_REGISTERS, .address = 5, .quantity = 1};

	begin(w, "RTU", true, "{\"request_timeout\": 0.5}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	results(w, "1=TIMEOUT");
	ask(w, 2, &other);
	hear(w, "02 03 0005 0001");
	say(w, "02 03 02 0007");
	ask(w, UNIT, &two);
	hear(w, "01 03 0005 0002");
	say(w, "01 03 02 0055"); /* the late one is too short for this */
	say(w, "01 03 04 0001 0002");
	results(w, "1=TIMEOUT 2=7 3=1,2");
}

/* ---- nr. 12: RTU and ASCII ---- */

static void stale_input_is_thrown_away(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (strcmp(ways[i].framing, "TCP") == 0)
			continue;
		begin(w, ways[i].framing, ways[i].serial, "{}");
		say(w, "01 03 02 0001");
		ask_word(w, 5);
		hear(w, "01 03 0005 0001");
		say(w, "01 03 02 0002");
		results(w, "1=2");
		drop(w);
	}
}

static void a_broken_frame_is_no_answer(void **state)
{
	static const struct {
		const char *framing, *broken, *text;
	} cases[] = {
		{"RTU", "01 03 02 004D 7872", NULL}, /* CRC */
		{"RTU", "55 AA", NULL},
		{"RTU", "01 03 04 004D 0000 0000", NULL},
		{"ASCII", NULL, ":010302004DAE\r\n"}, /* LRC */
		{"ASCII", NULL, ":010302004DA\r\n"},  /* odd digits */
		{"ASCII", NULL, ":010302004DAD\n"},   /* no CR */
		{"ASCII", NULL, ":010302004"},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin(w, cases[i].framing, true, "{\"request_retry_immediate_count\": 1}");
		ask_word(w, 5);
		hear(w, "01 03 0005 0001");
		/* and the right one behind it, at once */
		if (cases[i].text != NULL)
			say_text(w, cases[i].text);
		else
			say_raw(w, cases[i].broken);
		say(w, "01 03 02 004D");
		results(w, "1=77");
		drop(w);
		/* alone, it is no response: the next attempt follows */
		begin(w, cases[i].framing, true,
		      "{\"request_timeout\": 0.1, \"request_retry_immediate_count\": 1}");
		ask_word(w, 5);
		hear(w, "01 03 0005 0001");
		if (cases[i].text != NULL)
			say_text(w, cases[i].text);
		else
			say_raw(w, cases[i].broken);
		hear(w, "01 03 0005 0001");
		say(w, "01 03 02 004D");
		results(w, "1=77");
		assert_string_equal(w->states, "CU");
		drop(w);
	}
}

static void ascii_in_lower_case_and_begun_anew_is_understood(void **state)
{
	static const char *const answers[] = {":010302004dad\r\n", ":0103:010302004DAD\r\n",
					      "noise:010302004DAD\r\n"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		begin(w, "ASCII", true, "{}");
		ask_word(w, 5);
		hear(w, "01 03 0005 0001");
		say_text(w, answers[i]);
		results(w, "1=77");
		drop(w);
	}
}

static void a_frame_split_by_silence_is_no_answer(void **state)
{
	struct world *w = *state;
	unsigned before;

	begin(w, "RTU", true, "{\"request_retry_immediate_count\": 1, \"request_timeout\": 1}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	before = discarded(w);
	say_raw(w, "01 03 02 00");
	UNTIL(w, discarded(w) == before + 1);
	say_raw(w, "4D 7871");
	turns(w, 3);
	assert_string_equal(w->results, "");
	/* what comes behind is fine */
	UNTIL(w, discarded(w) == before + 2);
	say(w, "01 03 02 004D");
	results(w, "1=77");
}

static void an_adapters_echo_is_no_answer(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (!ways[i].serial && strcmp(ways[i].framing, "TCP") == 0)
			continue;
		begin(w, ways[i].framing, ways[i].serial, "{\"request_timeout\": 1}");
		ask_word(w, 5);
		hear_echoing(w, "01 03 0005 0001");
		say(w, "01 03 02 004D");
		results(w, "1=77");
		/* a write that is only echoed was not answered; one that is refused was */
		ask_write(w, 5, 77);
		hear_echoing(w, "01 06 0005 004D");
		turns(w, 5);
		assert_string_equal(w->results, "1=77");
		say(w, "01 06 0005 004D");
		results(w, "1=77 2=OK");
		ask_write(w, 5, 78);
		hear_echoing(w, "01 06 0005 004E");
		say(w, "01 86 04");
		results(w, "1=77 2=OK 3=E4");
		ask_write(w, 5, 79);
		hear_echoing(w, "01 06 0005 004F");
		results(w, "1=77 2=OK 3=E4 4=TIMEOUT");
		drop(w);
	}
}

/* The first request is a write, whose echo looks like its answer: a read of the same place goes
 * first. */
static void a_write_waits_until_it_is_known_whether_there_is_an_echo(void **state)
{
	const struct modbus_request coil = {
		.function = MODBUS_WRITE_COIL, .address = 9, .quantity = 1, .values = {1}};
	struct world *w = *state;

	begin(w, "RTU", true, "{\"request_timeout\": 0.2}");
	ask_write(w, 5, 77);
	hear_echoing(w, "01 03 0005 0001");
	say(w, "01 03 02 0001");
	hear_echoing(w, "01 06 0005 004D");
	say(w, "01 86 02");
	results(w, "1=E2");
	ask_write(w, 5, 78);
	hear_echoing(w, "01 06 0005 004E");
	results(w, "1=E2 2=TIMEOUT");
	drop(w);
	/* no echo; an exception tells as well */
	begin(w, "ASCII", true, "{}");
	ask(w, UNIT, &coil);
	hear(w, "01 01 0009 0001");
	say(w, "01 81 01");
	hear(w, "01 05 0009 FF00");
	say(w, "01 05 0009 FF00");
	results(w, "1=OK");
	ask_write(w, 5, 78);
	hear(w, "01 06 0005 004E");
	say(w, "01 06 0005 004E");
	results(w, "1=OK 2=OK");
	drop(w);
	/* an echo, and a device that is not there */
	begin(w, "RTU", true, "{\"request_timeout\": 0.1}");
	ask_write(w, 5, 77);
	hear_echoing(w, "01 03 0005 0001");
	hear_echoing(w, "01 06 0005 004D");
	results(w, "1=TIMEOUT");
	drop(w);
	/* no word at all on the read: what looks like an answer to the write is one if nothing else
	 * comes */
	begin(w, "RTU", true, "{\"request_timeout\": 0.15}");
	ask_write(w, 5, 77);
	ask_write(w, 5, 78);
	hear(w, "01 03 0005 0001");
	hear(w, "01 06 0005 004D");
	say(w, "01 06 0005 004D");
	turns(w, 3);
	assert_string_equal(w->results, "");
	results(w, "1=OK");
	hear(w, "01 06 0005 004E");
	say(w, "01 06 0005 004E");
	results(w, "1=OK 2=OK");
}

/* ---- time ---- */

static void an_answer_that_waits_in_the_kernel_is_in_time(void **state)
{
	struct world *w = *state;
	const struct timespec stall = {.tv_nsec = 150000000};

	begin(w, "TCP", false, "{\"request_timeout\": 0.1}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	say(w, "01 03 02 004D");
	nanosleep(&stall, NULL); /* the loop is held up */
	results(w, "1=77");
}

static void a_peer_that_never_stops_holds_no_request(void **state)
{
	struct world *w = *state;
	int64_t end_ms = now_ms() + PATIENCE_MS;

	begin(w, "RTU", false, "{\"request_timeout\": 0.1}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	while (w->results[0] == '\0' && now_ms() < end_ms) {
		(void)!write(w->fd, "\x55\xaa\x01\x03", 4);
		loop_turn(w->loop, 0);
	}
	assert_string_equal(w->results, "1=TIMEOUT");
}

/* ---- connections ---- */

/* Nr. 10 */
static void a_peer_that_accepts_and_closes_is_not_stormed(void **state)
{
	struct world *w = *state;
	int64_t last_ms = 0;

	listen_here(w);
	make_conf(w, "TCP", false,
		  "{\"connect_delay\": 5}"); /* the guard waits no longer than 1 s */
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		UNTIL(w, accepted(w));
		if (i > 0)
			assert_true(now_ms() - last_ms >= 950);
		last_ms = now_ms();
		closep(&w->fd);
	}
	UNTIL(w, strlen(w->states) == 9);
	assert_string_equal(w->states, "CUDCUDCUD");
}

static void a_connection_that_lasted_is_made_again_at_once(void **state)
{
	struct world *w = *state;

	begin(w, "TCP", false, "{\"connect_delay\": 3600}");
	int64_t end_ms = now_ms() + 1100;
	UNTIL(w, now_ms() > end_ms);
	closep(&w->fd);
	UNTIL(w, accepted(w));
	UNTIL(w, strcmp(w->states, "CUDCU") == 0);
}

static void failed_attempts_are_repeated_after_the_delay(void **state)
{
	struct world *w = *state;

	listen_here(w);
	make_conf(w, "TCP", false, "{\"connect_delay\": 0.15}");
	closep(&w->listen_fd);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	UNTIL(w, strlen(w->states) >= 2);
	int64_t from_ms = now_ms();
	UNTIL(w, strlen(w->states) >= 4);
	assert_true(now_ms() - from_ms >= 150);
	assert_memory_equal(w->states, "CDCD", 4);
}

/* Nr. 18 */
static void a_line_that_is_unplugged_comes_back(void **state)
{
	struct world *w = *state;

	begin(w, "RTU", true, "{}");
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	closep(&w->fd);
	results(w, "1=LOST");
	UNTIL(w, strlen(w->states) >= 5);
	assert_memory_equal(w->states, "CUDCD", 5); /* it is away, and tried again and again */
	plug_line(w);
	UNTIL(w, w->link == LINK_CONNECTED);
	ask_word(w, 5);
	hear(w, "01 03 0005 0001");
	say(w, "01 03 02 004D");
	results(w, "1=LOST 2=77");
}

/* Nr. 10: a client ends at once, whatever it does. */
static void a_client_may_be_freed_in_any_state(void **state)
{
	struct world *w = *state;

	/* before its first turn, after it, while it looks up a name */
	listen_here(w);
	make_conf(w, "TCP", false, "{}");
	json_t *transport = json_object_get(w->conf, "transport");
	for (unsigned n = 0; n < 3; n++) {
		if (n == 2)
			json_object_set_new(transport, "host", json_string("no-host.invalid"));
		assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
		turns(w, n);
		w->c = modbus_client_free(w->c);
	}
	assert_string_equal(w->states, "CDCD");
	drop(w);
	/* with a request on the wire, one in the queue and one delayed: no done is called */
	begin(w, "TCP", false,
	      "{\"request_timeout\": 0.05, \"request_retry_delayed_count\": 1, "
	      "\"request_retry_delay\": 60}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	hear(w, "01 03 0001 0001");
	w->c = modbus_client_free(w->c);
	assert_string_equal(w->states, "CUD");
	assert_string_equal(w->results, "");
	drop(w);
	/* while it waits to connect again */
	listen_here(w);
	make_conf(w, "TCP", false, "{\"connect_delay\": 60}");
	closep(&w->listen_fd);
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	UNTIL(w, strcmp(w->states, "CD") == 0);
	w->c = modbus_client_free(w->c);
	assert_string_equal(w->states, "CD");
}

static void who_is_told_may_free_the_client(void **state)
{
	struct world *w = *state;

	/* of an answer, with more of them waiting */
	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	hear(w, "01 03 0000 0001");
	w->free_when_told = true;
	say(w, "01 03 02 0001");
	UNTIL(w, w->c == NULL);
	w->free_when_told = false;
	assert_string_equal(w->results, "1=1");
	drop(w);
	/* of the end of a connection */
	begin(w, "TCP", false, "{}");
	for (unsigned i = 0; i < 3; i++)
		ask_word(w, (uint16_t)i);
	w->free_when_told = true;
	closep(&w->fd);
	UNTIL(w, w->c == NULL);
	w->free_when_told = false;
	assert_string_equal(w->results, "1=LOST");
	drop(w);
	/* of a timeout */
	begin(w, "RTU", true, "{\"request_timeout\": 0.02}");
	ask_word(w, 0);
	w->free_when_told = true;
	UNTIL(w, w->c == NULL);
	w->free_when_told = false;
	drop(w);
	/* of a state */
	listen_here(w);
	make_conf(w, "TCP", false, "{}");
	assert_int_equal(modbus_client_new(w->loop, w->conf, &handlers, w, &w->c, NULL), 0);
	w->free_when_told = true;
	UNTIL(w, w->c == NULL);
}

static void the_block_of_a_connection_is_checked(void **state)
{
	static const struct {
		const char *more;
		unsigned errors;
	} cases[] = {
		{"{}", 0},
		{"{\"modbus_type\": \"UDP\"}", 1},
		{"{\"request_timeout\": -1}", 1},
		{"{\"request_retry_immediate_count\": 1.5}", 1},
		{"{\"transport\": {\"type\": \"UDP\"}}", 1},
		{"{\"transport\": {\"type\": \"TCP\"}}", 1},
		{"{\"transport\": {\"type\": \"SERIAL\", \"port\": \"/x\", \"baudrate\": 9601}}",
		 1},
		{"{\"transport\": {\"type\": \"SERIAL\", \"port\": \"/x\", \"bytesize\": "
		 "\"SEVENBITS\"}}",
		 1},
		{"{\"modbus_type\": \"ASCII\", \"transport\": {\"type\": \"SERIAL\", \"port\": "
		 "\"/x\", \"bytesize\": \"SEVENBITS\"}}",
		 0},
	};
	struct world *w = *state;

	w->port = 502;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make_conf(w, "RTU", false, "{}");
		json_t *more = json_loads(cases[i].more, 0, NULL);
		struct problems *p = problems_new();

		json_object_set_new(w->conf, "transport",
				    json_loads("{\"type\": \"TCP\", \"host\": \"h\"}", 0, NULL));
		json_object_update(w->conf, more);
		json_decref(more);
		if (fields_check(modbus_connection_fields, w->conf, p) == 0)
			modbus_connection_check(w->conf, p);
		if (problems_errors(p) != cases[i].errors)
			fail_msg("%s: %zu errors", cases[i].more, problems_errors(p));
		if (i == 0)
			assert_int_equal(json_integer_value(json_object_get(
						 json_object_get(w->conf, "transport"), "port")),
					 502);
		problems_free(p);
		json_decref(TAKE(w->conf));
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(every_framing_goes_over_every_transport),
		TEST(answers_may_come_byte_by_byte),
		TEST(requests_go_out_one_at_a_time_in_their_order),
		TEST(requests_that_cannot_be_are_refused),
		TEST(no_more_than_1024_wait),
		TEST(a_forgotten_request_is_not_told),
		TEST(the_pause_between_answer_and_request_is_kept),
		TEST(attempts_are_immediate_times_delayed),
		TEST(a_delayed_retry_goes_to_the_end_of_the_queue),
		TEST(no_time_for_an_answer_is_a_millisecond),
		TEST(answers_of_others_are_passed_over),
		TEST(every_exception_is_an_answer),
		TEST(what_is_no_modbus_ends_the_connection),
		TEST(a_write_is_answered_by_its_echo_alone),
		TEST(half_an_answer_is_none),
		TEST(a_late_answer_is_not_the_next_ones),
		TEST(a_late_answer_on_a_line_is_waited_for),
		TEST(the_answers_to_all_attempts_are_waited_for),
		TEST(requests_that_no_late_answer_fits_need_not_wait),
		TEST(stale_input_is_thrown_away),
		TEST(a_broken_frame_is_no_answer),
		TEST(ascii_in_lower_case_and_begun_anew_is_understood),
		TEST(a_frame_split_by_silence_is_no_answer),
		TEST(an_adapters_echo_is_no_answer),
		TEST(a_write_waits_until_it_is_known_whether_there_is_an_echo),
		TEST(an_answer_that_waits_in_the_kernel_is_in_time),
		TEST(a_peer_that_never_stops_holds_no_request),
		TEST(a_peer_that_accepts_and_closes_is_not_stormed),
		TEST(a_connection_that_lasted_is_made_again_at_once),
		TEST(failed_attempts_are_repeated_after_the_delay),
		TEST(a_line_that_is_unplugged_comes_back),
		TEST(a_client_may_be_freed_in_any_state),
		TEST(who_is_told_may_free_the_client),
		TEST(the_block_of_a_connection_is_checked),
	};
	return cmocka_run_group_tests_name("modbus_client", tests, NULL, NULL);
}
