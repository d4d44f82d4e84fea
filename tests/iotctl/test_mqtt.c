/* test_mqtt.c - probes against servers that answer what the test wants, and names of services. */
#include "common/util.h"
#include "iotctl/mqtt.h"
#include "iotctl/units.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define PROBE_MS 3000
#define SHORT_MS 150

/* Accepts one connection, reads something, says `answer`, then waits for the client to hang up. */
struct server {
	int fd;
	unsigned port;
	const char *answer;
	size_t len;
	char heard[2048];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	CLEANUP(closep)
	int fd = accept(s->fd, NULL, NULL);
	char byte;

	if (fd < 0 || recv(fd, s->heard, sizeof(s->heard) - 1, 0) <= 0)
		return NULL;
	if (s->len > 0)
		(void)send(fd, s->answer, s->len, MSG_NOSIGNAL);
	if (s->len == 0) /* hang up without a word */
		return NULL;
	while (recv(fd, &byte, 1, 0) > 0)
		;
	return NULL;
}

static int listen_anywhere(unsigned *ret_port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	*ret_port = ntohs(addr.sin_port);
	return fd;
}

static void start(struct server *s, const char *answer, size_t len)
{
	*s = (struct server){.answer = answer, .len = len};
	s->fd = listen_anywhere(&s->port);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* What it heard may be read then. */
static void stop(struct server *s)
{
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
}

static void mqtt_probe_believes_a_connack_only(void **state)
{
	static const struct {
		const char *answer;
		size_t len;
		enum probe probe;
		const char *why;
	} cases[] = {
		{"\x20\x02\x00\x00", 4, PROBE_ANSWERS, ""},
		{"\x20\x02\x00\x05", 4, PROBE_OTHER, "does not let us in"},
		{"\x20\x02\x00\x04", 4, PROBE_OTHER, "user name"},
		{"\x20\x02\x00\xff", 4, PROBE_OTHER, "refuses the connection"},
		{"\x20\x03\x00\x00\x00", 5, PROBE_OTHER, "does not speak MQTT"}, /* MQTT 5 */
		{"HTTP/1.1 400 Bad Request\r\n\r\n", 28, PROBE_OTHER,
		 "no answer in time"}, /* a long packet? */
		{"\x20\xff\xff\xff\xff\x7f", 6, PROBE_OTHER,
		 "does not speak MQTT"}, /* endless length */
		{"\x20\xff\xff\xff\x7f", 5, PROBE_OTHER, "does not speak MQTT"}, /* 256 MiB */
		{"\x20", 1, PROBE_OTHER, "no answer in time"},
		{NULL, 0, PROBE_OTHER, "closed"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct server s;
		char why[200];
		int limit_ms = strstr(cases[i].why, "in time") != NULL ? SHORT_MS : PROBE_MS;

		start(&s, cases[i].answer, cases[i].len);
		enum probe got = probe_mqtt("127.0.0.1", s.port, limit_ms, why, sizeof(why));

		if (got != cases[i].probe || strstr(why, cases[i].why) == NULL)
			fail_msg("case %zu: %d '%s'", i, got, why);
		stop(&s);
		if (got == PROBE_ANSWERS) /* CONNECT of MQTT 3.1.1, clean session, no id */
			assert_memory_equal(s.heard, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
					    14);
	}
}

static void websocket_probe_wants_the_mqtt_subprotocol(void **state)
{
	static const struct {
		const char *answer;
		enum probe probe;
	} cases[] = {
		{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: "
		 "websocket\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
		 PROBE_ANSWERS},
		{"HTTP/1.1 101 X\r\nsec-websocket-protocol:mqttv3.1\r\n\r\n", PROBE_ANSWERS},
		{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", PROBE_OTHER},
		{"HTTP/1.1 101 X\r\nSec-WebSocket-Protocol: chat\r\n\r\n", PROBE_OTHER},
		{"HTTP/1.1 404 Not Found\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", PROBE_OTHER},
		{"\x20\x02\x00\x00", PROBE_OTHER},
		{"", PROBE_OTHER},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct server s;
		char why[200];

		start(&s, cases[i].answer, i == 5 ? 4 : strlen(cases[i].answer));
		enum probe got = probe_websocket("127.0.0.1", s.port, i == 5 ? SHORT_MS : PROBE_MS,
						 why, sizeof(why));

		if (got != cases[i].probe || (got == PROBE_OTHER) != (why[0] != '\0'))
			fail_msg("case %zu: %d '%s'", i, got, why);
		stop(&s);
		assert_non_null(strstr(s.heard, "\r\nSec-WebSocket-Protocol: mqtt\r\n"));
	}
}

static void long_header_is_not_an_answer(void **state)
{
	static char endless[8000];
	struct server s;
	char why[200];

	(void)state;
	memset(endless, 'x', sizeof(endless));
	start(&s, endless, sizeof(endless));
	assert_int_equal(probe_websocket("127.0.0.1", s.port, PROBE_MS, why, sizeof(why)),
			 PROBE_OTHER);
	stop(&s);
}

static void nothing_is_nothing(void **state)
{
	unsigned port;
	char why[200];

	(void)state;
	close(listen_anywhere(&port)); /* free again */
	assert_int_equal(probe_mqtt("127.0.0.1", port, PROBE_MS, why, sizeof(why)), PROBE_NOTHING);
	assert_non_null(strstr(why, "nothing answers"));
	assert_int_equal(probe_mqtt("no-such-host.invalid", port, PROBE_MS, why, sizeof(why)),
			 PROBE_NOTHING);
	assert_non_null(strstr(why, "no-such-host.invalid"));
}

static void only_our_addresses_are_local(void **state)
{
	(void)state;
	assert_true(host_is_local("127.0.0.1"));
	assert_true(host_is_local("localhost"));
	assert_false(host_is_local("192.0.2.1")); /* for documentation, nobody's */
	assert_false(host_is_local("no-such-host.invalid"));
}

static void publish_is_taken_apart(void **state)
{
	static uint8_t qos0[] = "\x00\x01tpay", qos1[] = "\x00\x01t\x01\x02pay",
		       cut[] = "\x00\x09t";
	struct mqtt_packet p = {.type = 3, .body = qos0, .len = sizeof(qos0) - 1};
	const uint8_t *payload;
	size_t len;
	uint16_t id;

	(void)state;
	assert_true(mqtt_parse_publish(&p, &payload, &len, &id));
	assert_int_equal(id, 0);
	assert_int_equal(len, 3);
	assert_memory_equal(payload, "pay", 3);
	p = (struct mqtt_packet){.type = 3, .flags = 2, .body = qos1, .len = sizeof(qos1) - 1};
	assert_true(mqtt_parse_publish(&p, &payload, &len, &id));
	assert_int_equal(id, 0x0102);
	assert_memory_equal(payload, "pay", 3);
	p = (struct mqtt_packet){.type = 3, .flags = 2, .body = qos1, .len = 4}; /* half an id */
	assert_false(mqtt_parse_publish(&p, &payload, &len, &id));
	p = (struct mqtt_packet){.type = 3, .body = cut, .len = sizeof(cut) - 1};
	assert_false(mqtt_parse_publish(&p, &payload, &len, &id));
	p.len = 1;
	assert_false(mqtt_parse_publish(&p, &payload, &len, &id));
}

static void service_names_are_known_unbuilt_or_wrong(void **state)
{
	char *csm[] = {"csm"}, *ccm[] = {"csm", "ccm"}, *gui[] = {"csm", "gui"}, *typo[] = {"cms"};
	struct err err = {0};
	unsigned mask = 0;

	(void)state;
	assert_int_equal(units_parse(NULL, 0, &mask, &err), 0);
	assert_int_equal(mask, UNITS_ALL);
	assert_int_equal(units_parse(csm, 1, &mask, &err), 0);
	assert_int_equal(mask, 1u << UNIT_CSM);
	assert_int_equal(units_with_needs(mask), 1u << UNIT_CSM | 1u << UNIT_BROKER);
	assert_int_equal(units_parse(gui, 2, &mask, &err), ERR_NOENT);
	assert_string_equal(err.text, "gui: not part of this build");
	assert_int_equal(units_parse(typo, 1, &mask, &err), ERR_INVAL);
	assert_non_null(strstr(err.text, "choose from broker, csm, agent, ccm"));
	assert_int_equal(mask, 1u << UNIT_CSM); /* untouched by failures */
	assert_int_equal(units_parse(ccm, 2, &mask, &err), 0);
	assert_int_equal(mask, 1u << UNIT_CSM | 1u << UNIT_CCM);

	json_auto_t *odd = json_pack("[s, i]", "agent", 7);

	assert_int_equal(units_parse_json(odd, &mask, &err), ERR_INVAL);
	assert_int_equal(units_parse_json(NULL, &mask, &err), 0);
	assert_int_equal(mask, UNITS_ALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mqtt_probe_believes_a_connack_only),
		cmocka_unit_test(websocket_probe_wants_the_mqtt_subprotocol),
		cmocka_unit_test(long_header_is_not_an_answer),
		cmocka_unit_test(nothing_is_nothing),
		cmocka_unit_test(only_our_addresses_are_local),
		cmocka_unit_test(publish_is_taken_apart),
		cmocka_unit_test(service_names_are_known_unbuilt_or_wrong),
	};
	return cmocka_run_group_tests_name("mqtt", tests, NULL, NULL);
}
