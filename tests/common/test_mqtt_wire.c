#include "common/mqtt/mqtt_ids.h"
#include "common/mqtt/mqtt_wire.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PAYLOAD_MAX 1000

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static int parse(const uint8_t *data, size_t n, struct mqtt_packet *p, size_t *need,
		 struct err *err)
{
	/* a copy of just these bytes, so that a sanitizer sees a step too far */
	uint8_t *copy = malloc(n > 0 ? n : 1);
	size_t at_topic, at_payload, at_codes;

	assert_non_null(copy);
	if (n > 0)
		memcpy(copy, data, n);
	int rc = mqtt_parse(copy, n, PAYLOAD_MAX, p, need, err);
	if (rc == 1 && p->type == MQTT_PUBLISH) { /* pointers into what stays */
		at_topic = (size_t)((const uint8_t *)p->publish.topic - copy);
		p->publish.topic = (const char *)data + at_topic;
		if (p->publish.payload != NULL) {
			at_payload = (size_t)((const uint8_t *)p->publish.payload - copy);
			p->publish.payload = data + at_payload;
		}
	} else if (rc == 1 && p->type == MQTT_SUBACK) {
		at_codes = (size_t)(p->suback.codes - copy);
		p->suback.codes = data + at_codes;
	}
	free(copy);
	return rc;
}

static void parse_all(const uint8_t *data, size_t n, struct mqtt_packet *p)
{
	struct err err = {0};
	size_t need;

	if (parse(data, n, p, &need, &err) != 1)
		fail_msg("not parsed: %s", err.text);
	assert_int_equal(p->used, n);
	assert_int_equal(need, n);
	/* and every beginning of it is incomplete, never wrong */
	for (size_t part = 0; part < n; part++) {
		struct mqtt_packet none;
		int rc = parse(data, part, &none, &need, &err);

		if (rc != 0)
			fail_msg("%zu of %zu bytes: %d %s", part, n, rc, err.text);
		assert_true(need > part && need <= n);
	}
}

static void what_a_broker_says_is_understood(void **state)
{
	struct mqtt_packet p;

	(void)state;
	parse_all(BYTES(0x20, 2, 1, 0), &p);
	assert_int_equal(p.type, MQTT_CONNACK);
	assert_true(p.connack.session_present);
	assert_int_equal(p.connack.code, 0);
	parse_all(BYTES(0x20, 2, 0, 5), &p);
	assert_string_equal(mqtt_connack_text(p.connack.code), "not authorized");
	assert_string_equal(mqtt_connack_text(200), "refused with a reserved code");
	const struct {
		uint8_t first;
		enum mqtt_type type;
	} acks[] = {{0x40, MQTT_PUBACK},
		    {0x50, MQTT_PUBREC},
		    {0x62, MQTT_PUBREL},
		    {0x70, MQTT_PUBCOMP},
		    {0xb0, MQTT_UNSUBACK}};
	for (size_t i = 0; i < ARRAY_LEN(acks); i++) {
		parse_all(BYTES(acks[i].first, 2, 0x12, 0x34), &p);
		assert_int_equal(p.type, acks[i].type);
		assert_int_equal(p.id, 0x1234);
	}
	const uint8_t suback[] = {0x90, 6, 0, 7, 0, 1, 2, 0x80};
	parse_all(suback, sizeof(suback), &p);
	assert_int_equal(p.id, 7);
	assert_int_equal(p.suback.n, 4);
	assert_memory_equal(p.suback.codes, suback + 4, 4);
	parse_all(BYTES(0xd0, 0), &p);
	assert_int_equal(p.type, MQTT_PINGRESP);
}

static void publishes_carry_topic_id_and_payload(void **state)
{
	const uint8_t qos0[] = {0x30, 7, 0, 3, 'a', '/', 'b', '4', '2'};
	const uint8_t qos2[] = {0x3d, 7, 0, 3, 'a', '/', 'b', 1, 2};
	struct mqtt_packet p;

	(void)state;
	parse_all(qos0, sizeof(qos0), &p);
	assert_int_equal(p.publish.qos, 0);
	assert_int_equal(p.publish.topic_len, 3);
	assert_memory_equal(p.publish.topic, "a/b", 3);
	assert_int_equal(p.publish.len, 2);
	assert_memory_equal(p.publish.payload, "42", 2);
	assert_false(p.publish.dup || p.publish.retained);
	parse_all(qos2, sizeof(qos2), &p);
	assert_int_equal(p.publish.qos, 2);
	assert_int_equal(p.publish.id, 0x0102);
	assert_int_equal(p.id, 0x0102);
	assert_true(p.publish.dup && p.publish.retained);
	assert_int_equal(p.publish.len, 0);
	assert_non_null(p.publish.payload); /* NULL is for those that are too large */
}

static void a_large_payload_is_found_without_its_bytes(void **state)
{
	struct mqtt_bytes b = {0};
	char payload[PAYLOAD_MAX + 1];
	struct mqtt_publish m = {.topic = "t",
				 .topic_len = 1,
				 .payload = payload,
				 .len = sizeof(payload),
				 .qos = 1,
				 .id = 9};
	struct mqtt_packet p;
	size_t need;

	(void)state;
	memset(payload, 'x', sizeof(payload));
	assert_int_equal(mqtt_put_publish(&b, &m), 0);
	size_t head = b.end - sizeof(payload);
	for (size_t n = 0; n < head; n++)
		assert_int_equal(parse(b.data, n, &p, &need, NULL), 0);
	assert_int_equal(parse(b.data, head, &p, &need, NULL), 1);
	assert_int_equal(p.used, head);
	assert_int_equal(p.skip, sizeof(payload));
	assert_int_equal(p.publish.len, sizeof(payload));
	assert_null(p.publish.payload);
	assert_int_equal(p.publish.id, 9);
	m.len = PAYLOAD_MAX;
	mqtt_bytes_consume(&b, b.end, 0);
	assert_int_equal(mqtt_put_publish(&b, &m), 0);
	parse_all(b.data, b.end, &p);
	assert_int_equal(p.skip, 0);
	mqtt_bytes_done(&b);
}

static void the_largest_packet_has_a_limit_too(void **state)
{
	struct mqtt_packet p;
	size_t need;

	(void)state;
	/* 256 MiB announced: a header is enough to see that nothing of it is kept */
	assert_int_equal(parse(BYTES(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 't'), &p, &need, NULL), 1);
	assert_int_equal(p.skip, MQTT_REMAINING_MAX - 3);
	/* and of a long topic only the topic is asked for */
	assert_int_equal(parse(BYTES(0x30, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff), &p, &need, NULL),
			 0);
	assert_int_equal(need, 5 + 2 + 65535);
}

static void malformed_packets_are_named(void **state)
{
	static const struct {
		const char *why;
		uint8_t data[12];
		size_t n;
	} cases[] = {
		{"type 0 (reserved)", {0x00}, 1},
		{"type 15 (reserved)", {0xf0}, 1},
		{"CONNECT", {0x10}, 1},
		{"SUBSCRIBE", {0x82}, 1},
		{"UNSUBSCRIBE", {0xa2}, 1},
		{"PINGREQ", {0xc0}, 1},
		{"DISCONNECT", {0xe0}, 1},
		{"CONNACK with flags 0x1", {0x21, 2}, 2},
		{"CONNACK of 3 bytes", {0x20, 3}, 2},
		{"CONNACK with reserved flags", {0x20, 2, 2, 0}, 4},
		{"PUBACK of 1 bytes", {0x40, 1}, 2},
		{"packet identifier 0", {0x40, 2, 0, 0}, 4},
		{"PUBREC with flags", {0x52, 2}, 2},
		{"PUBREL with flags 0x0", {0x60, 2}, 2},
		{"PUBCOMP of 0 bytes", {0x70, 0}, 2},
		{"SUBACK of 2 bytes", {0x90, 2}, 2},
		{"SUBACK with reserved code 0x03", {0x90, 3, 0, 1, 3}, 5},
		{"SUBACK of 5000 bytes", {0x90, 0x88, 0x27}, 3},
		{"packet identifier 0", {0x90, 3, 0, 0, 1}, 5},
		{"PINGRESP of 1 bytes", {0xd0, 1}, 2},
		{"remaining length", {0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, 6},
		{"QoS 3", {0x36, 2}, 2},
		{"QoS 0 and DUP", {0x38, 2}, 2},
		{"PUBLISH of 1 bytes", {0x30, 1}, 2},
		{"with a topic of 9", {0x30, 4, 0, 9}, 4},
		{"with a topic of 2", {0x32, 4, 0, 2, 'a', 'b'}, 6},
		{"PUBLISH with packet identifier 0", {0x32, 5, 0, 1, 'a', 0, 0}, 7},
		{"a topic that is none", {0x30, 2, 0, 0}, 4},
		{"a topic that is none", {0x30, 3, 0, 1, '#'}, 5},
		{"a topic that is none", {0x30, 3, 0, 1, '+'}, 5},
		{"a topic that is none", {0x30, 4, 0, 2, 'a', 0}, 6},
		{"a topic that is none", {0x30, 3, 0, 1, 0xff}, 5},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct mqtt_packet p = {.used = 77};
		struct err err = {0};
		size_t need;
		int rc = parse(cases[i].data, cases[i].n, &p, &need, &err);

		if (rc != ERR_PEER || strstr(err.text, cases[i].why) == NULL)
			fail_msg("%s: %d '%s'", cases[i].why, rc, err.text);
		assert_int_equal(p.used, 77); /* untouched */
	}
}

static void topics_are_utf8_without_wildcards(void **state)
{
	static const char *const good[] = {
		"a", "/", "a/b c", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xb1", "\xef\xbf\xbf"};
	static const char *const bad[] = {"",
					  "a/+/b",
					  "a/#",
					  "\x80",
					  "\xc3",
					  "\xc0\xaf",
					  "\xe0\x80\xaf",
					  "\xed\xa0\x80",
					  "\xf4\x90\x80\x80",
					  "\xf8\x88\x80\x80\x80",
					  "\xe2\x82",
					  "\xe2\x28\xa1"};
	char *longest = malloc(MQTT_TOPIC_MAX + 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!mqtt_topic_valid(good[i], strlen(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (mqtt_topic_valid(bad[i], strlen(bad[i])))
			fail_msg("not refused: number %zu", i);
	assert_false(mqtt_topic_valid("a\0b", 3));
	assert_non_null(longest);
	memset(longest, 'x', MQTT_TOPIC_MAX + 1);
	assert_true(mqtt_topic_valid(longest, MQTT_TOPIC_MAX));
	assert_false(mqtt_topic_valid(longest, MQTT_TOPIC_MAX + 1));
	free(longest);
}

static void expect_bytes(struct mqtt_bytes *b, const uint8_t *data, size_t n)
{
	assert_int_equal(mqtt_bytes_waiting(b), n);
	assert_memory_equal(b->data + b->begin, data, n);
	mqtt_bytes_consume(b, n, 0);
	assert_null(b->data); /* given back */
}

static void a_connect_has_a_will_and_a_login_if_asked_to(void **state)
{
	static char long_text[70000];
	const struct mqtt_publish will = {.topic = "w/t",
					  .topic_len = 3,
					  .payload = "\0x",
					  .len = 2,
					  .qos = 2,
					  .retained = true};
	const struct mqtt_publish least = {.topic = "w", .topic_len = 1};
	struct mqtt_connect c = {.client_id = "me", .username = "u", .password = "pw"};
	struct mqtt_bytes b = {0};

	(void)state;
	c.will = &will;
	assert_int_equal(mqtt_put_connect(&b, &c), 0);
	expect_bytes(&b, BYTES(0x10, 30, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xf4, 0, 0, 0, 2, 'm', 'e', 0,
			       3, 'w', '/', 't', 0, 2, 0, 'x', 0, 1, 'u', 0, 2, 'p', 'w'));
	c.will = &least;
	c.password = NULL;
	assert_int_equal(mqtt_put_connect(&b, &c), 0);
	expect_bytes(&b, BYTES(0x10, 22, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x84, 0, 0, 0, 2, 'm', 'e', 0,
			       1, 'w', 0, 0, 0, 1, 'u'));
	c = (struct mqtt_connect){.client_id = "me", .password = "alone"};
	assert_int_equal(mqtt_put_connect(&b, &c), 0);
	expect_bytes(&b, BYTES(0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 2, 'm', 'e'));
	memset(long_text, 'x', sizeof(long_text) - 1);
	c.username = long_text;
	assert_int_equal(mqtt_put_connect(&b, &c), ERR_RANGE);
	assert_int_equal(mqtt_bytes_waiting(&b), 0);
	mqtt_bytes_done(&b);
}

static void filters_have_wildcards_for_whole_levels(void **state)
{
	static const char *const good[] = {"a", "#", "+", "/", "a/#", "+/+", "/+", "+/", "a/+/#"};
	static const char *const bad[] = {"",      "a#", "#/a",  "a+",  "+a",
					  "a/#/b", "##", "\xff", "a/b#"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!mqtt_filter_valid(good[i], strlen(good[i])))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (mqtt_filter_valid(bad[i], strlen(bad[i])))
			fail_msg("%s", bad[i]);
	assert_false(mqtt_filter_valid("a\0b", 3));
}

static void identifiers_are_few_or_many(void **state)
{
	struct mqtt_ids s = {0};

	(void)state;
	for (unsigned round = 0; round < 2; round++) { /* the second time with all bits */
		for (unsigned id = 1; id <= 65535; id += round == 0 ? 9000 : 7)
			assert_int_equal(mqtt_ids_add(&s, (uint16_t)id), 0);
		assert_int_equal(mqtt_ids_add(&s, 9001), 0); /* again */
		for (unsigned id = 1; id <= 65535; id++)
			if (mqtt_ids_has(&s, (uint16_t)id) !=
			    ((id - 1) % 9000 == 0 || (round == 1 && (id - 1) % 7 == 0)))
				fail_msg("%u", id);
		assert_true((s.bits != NULL) == (round == 1));
		mqtt_ids_remove(&s, 9001);
		mqtt_ids_remove(&s, 3); /* never there */
		assert_false(mqtt_ids_has(&s, 9001));
		assert_true(mqtt_ids_has(&s, 18001));
		assert_int_equal(mqtt_ids_add(&s, 9001), 0);
	}
	mqtt_ids_clear(&s);
	assert_false(mqtt_ids_has(&s, 1));
}

static void what_a_client_says_is_written_as_the_standard_has_it(void **state)
{
	const struct mqtt_filter filters[] = {{"a/b", 2}, {"c", 0}};
	struct mqtt_bytes b = {0};

	(void)state;
	assert_int_equal(
		mqtt_put_connect(&b, &(struct mqtt_connect){.client_id = "me", .keepalive_s = 30}),
		0);
	expect_bytes(&b, BYTES(0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 30, 0, 2, 'm', 'e'));
	assert_int_equal(mqtt_put_connect(&b, &(struct mqtt_connect){.client_id = "",
								     .clean_session = true,
								     .keepalive_s = 0x1234}),
			 0);
	expect_bytes(&b, BYTES(0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0x12, 0x34, 0, 0));
	assert_int_equal(mqtt_put_ack(&b, MQTT_PUBREL, 0x0203), 0);
	expect_bytes(&b, BYTES(0x62, 2, 2, 3));
	assert_int_equal(mqtt_put_ack(&b, MQTT_PUBACK, 1), 0);
	expect_bytes(&b, BYTES(0x40, 2, 0, 1));
	assert_int_equal(mqtt_put_bare(&b, MQTT_PINGREQ), 0);
	expect_bytes(&b, BYTES(0xc0, 0));
	assert_int_equal(mqtt_put_subscribe(&b, 9, filters, 2), 0);
	expect_bytes(&b, BYTES(0x82, 12, 0, 9, 0, 3, 'a', '/', 'b', 2, 0, 1, 'c', 0));
	assert_int_equal(mqtt_put_unsubscribe(&b, 9, filters, 2), 0);
	expect_bytes(&b, BYTES(0xa2, 10, 0, 9, 0, 3, 'a', '/', 'b', 0, 1, 'c'));
	const struct mqtt_publish m = {.topic = "ab",
				       .topic_len = 2,
				       .payload = "x",
				       .len = 1,
				       .qos = 1,
				       .id = 3,
				       .retained = true,
				       .dup = true};
	assert_int_equal(mqtt_put_publish(&b, &m), 0);
	assert_int_equal(mqtt_publish_bytes(&m), b.end);
	mqtt_mark_dup(b.data, false);
	assert_int_equal(b.data[0], 0x33);
	mqtt_mark_dup(b.data, true);
	expect_bytes(&b, BYTES(0x3b, 7, 0, 2, 'a', 'b', 0, 3, 'x'));
}

static void lengths_are_written_so_that_they_read_back(void **state)
{
	static const size_t lens[] = {0, 1, 124, 125, 126, 16380, 16381, 16382, 2097150, 2097200};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		struct mqtt_bytes b = {0};
		struct mqtt_packet p;
		char *payload = malloc(lens[i] + 1);
		struct mqtt_publish m = {
			.topic = "t", .topic_len = 1, .payload = payload, .len = lens[i]};
		size_t need;

		assert_non_null(payload);
		memset(payload, 'p', lens[i] + 1);
		assert_int_equal(mqtt_put_publish(&b, &m), 0);
		assert_int_equal(b.end, mqtt_publish_bytes(&m));
		assert_int_equal(mqtt_parse(b.data, b.end, 1 << 24, &p, &need, NULL), 1);
		assert_int_equal(p.used, b.end);
		assert_int_equal(p.publish.len, lens[i]);
		assert_memory_equal(p.publish.payload, payload, lens[i]);
		free(payload);
		mqtt_bytes_done(&b);
	}
	const struct mqtt_publish huge = {.topic = "t", .topic_len = 1, .len = MQTT_REMAINING_MAX};
	assert_int_equal(mqtt_publish_bytes(&huge), 0);
	struct mqtt_bytes b = {0};
	assert_int_equal(mqtt_put_publish(&b, &huge), ERR_RANGE);
	assert_null(b.data);
}

static void a_buffer_keeps_what_waits_while_it_moves_and_grows(void **state)
{
	struct mqtt_bytes b = {0};
	unsigned char next_in = 0, next_out = 0;

	(void)state;
	for (size_t round = 0; round < 3000; round++) {
		unsigned char chunk[97];
		size_t n = round % sizeof(chunk) + 1;

		for (size_t i = 0; i < n; i++)
			chunk[i] = next_in++;
		assert_int_equal(mqtt_bytes_append(&b, chunk, n), 0);
		size_t take = mqtt_bytes_waiting(&b) > 9000 ? mqtt_bytes_waiting(&b) : n / 2;
		for (size_t i = 0; i < take; i++)
			assert_int_equal(b.data[b.begin + i], next_out++);
		mqtt_bytes_consume(&b, take, 1 << 20);
	}
	assert_true(b.cap <= 64 << 10); /* it holds 9000 at most */
	mqtt_bytes_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_broker_says_is_understood),
		cmocka_unit_test(publishes_carry_topic_id_and_payload),
		cmocka_unit_test(a_large_payload_is_found_without_its_bytes),
		cmocka_unit_test(the_largest_packet_has_a_limit_too),
		cmocka_unit_test(malformed_packets_are_named),
		cmocka_unit_test(topics_are_utf8_without_wildcards),
		cmocka_unit_test(a_connect_has_a_will_and_a_login_if_asked_to),
		cmocka_unit_test(filters_have_wildcards_for_whole_levels),
		cmocka_unit_test(identifiers_are_few_or_many),
		cmocka_unit_test(what_a_client_says_is_written_as_the_standard_has_it),
		cmocka_unit_test(lengths_are_written_so_that_they_read_back),
		cmocka_unit_test(a_buffer_keeps_what_waits_while_it_moves_and_grows),
	};
	return cmocka_run_group_tests_name("mqtt wire", tests, NULL, NULL);
}
