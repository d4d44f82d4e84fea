/* test_said.c - what points said last, as it is said again: topic and body as they were. */
#include "agent/device/said.h"
#include "common/util.h"
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POINTS = 300 };

static char names[POINTS][8];
static struct point_spec specs[POINTS];
static const struct point_list list = {.items = specs, .n = POINTS};

static int set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < POINTS; i++) {
		snprintf(names[i], sizeof(names[i]), "r%zu", i);
		specs[i].name = names[i];
	}
	return 0;
}

static bool put(struct said_points *s, unsigned point, const char *suffix, const char *payload)
{
	const struct said_event e = {
		.suffix = suffix, .timestamp_us = 1000 + point, .payload = payload};
	return said_points_put(s, point, &e);
}

static void expect(const struct said_points *s, unsigned point, const char *suffix,
		   const char *body)
{
	CLEANUP(said_text_done)
	struct said_text t;
	assert_int_equal(said_points_get(s, point, 1, &t), 1);
	assert_string_equal(t.suffix, suffix);
	assert_string_equal(t.body, body);
}

static void says_again_what_was_said_last(void **state)
{
	struct said_points *s = said_points_new(&list);
	int64_t source = -5;
	const struct said_event timed = {
		.suffix = "a/r2", .timestamp_us = 7, .source_us = &source, .payload = "\"x\""};
	struct said_text t;
	(void)state;
	assert_int_equal(said_points_get(s, 0, 1, &t), 0);
	assert_true(put(s, 0, "remote_device/1/read/r0", "{}"));
	assert_true(put(s, 1, "data/other%2Fname", "12"));
	assert_true(said_points_put(s, 2, &timed));
	assert_true(put(s, 3, "r3", "3"));
	expect(s, 0, "remote_device/1/read/r0",
	       "{\"timestamp\":1000,\"source_timestamp\":null,\"payload\":{}}");
	expect(s, 1, "data/other%2Fname",
	       "{\"timestamp\":1001,\"source_timestamp\":null,\"payload\":12}");
	expect(s, 2, "a/r2", "{\"timestamp\":7,\"source_timestamp\":-5,\"payload\":\"x\"}");
	expect(s, 3, "r3", "{\"timestamp\":1003,\"source_timestamp\":null,\"payload\":3}");
	said_points_free(s);
}

static void what_was_said_in_a_connection_is_not_said_again_in_it(void **state)
{
	struct said_points *s = said_points_new(&list);
	const struct said_event e = {.suffix = "r0", .payload = "1", .connection = 4};
	struct said_text t;
	(void)state;
	assert_true(said_points_put(s, 0, &e));
	assert_int_equal(said_points_get(s, 0, 4, &t), 0);
	assert_int_equal(said_points_get(s, 0, 5, &t), 1);
	said_text_done(&t);
	said_points_free(s);
}

static void a_point_has_one_topic(void **state)
{
	struct said_points *s = said_points_new(&list);
	(void)state;
	assert_true(put(s, 0, "a/r0", "1"));
	assert_false(put(s, 0, "b/r0", "2"));
	assert_false(put(s, 0, "a/r", "2"));
	assert_false(put(s, 0, "a/r0/x", "2"));
	expect(s, 0, "a/r0", "{\"timestamp\":1000,\"source_timestamp\":null,\"payload\":1}");
	said_points_free(s);
}

/* More frames of payloads than are remembered, some too long for one, and numbers of all kinds. */
static void payloads_come_back(void **state)
{
	static const char *const payloads[] = {
		"{\"result\":\"SUCCESS\",\"value\":12345,\"cause\":\"CHANGE\"}",
		"{\"result\":\"SUCCESS\",\"value\":-1.5e-7,\"cause\":\"CHANGE\"}",
		"{\"result\":\"SUCCESS\",\"value\":\"18446744073709551615\",\"cause\":\"CHANGE\"}",
		"{\"result\":\"TIMEOUT\"}",
		"[1,22,333,22,1]",
		"-",
		"\"1E9\"",
		"\"--\"",
		"true",
		"{\"%s\":\"%d\",\"\\u0001\":0}",
	};
	struct said_points *s = said_points_new(&list);
	char payload[1000], body[1100], suffix[16];
	(void)state;
	for (unsigned i = 0; i < POINTS; i++) {
		if (i % 10 != 9)
			snprintf(payload, sizeof(payload), "%s", payloads[i % ARRAY_LEN(payloads)]);
		else
			snprintf(payload, sizeof(payload), "{\"%*u\":%u}", (int)(3 * i), i, i * i);
		snprintf(suffix, sizeof(suffix), "a/%s", names[i]);
		for (unsigned round = 0; round < 2; round++) {
			assert_true(put(s, i, suffix, round == 0 ? "0" : payload));
			snprintf(body, sizeof(body),
				 "{\"timestamp\":%u,\"source_timestamp\":null,\"payload\":%s}",
				 1000 + i, round == 0 ? "0" : payload);
			expect(s, i, suffix, body);
		}
	}
	said_points_free(s);
}

static void values_take_little_memory(void **state)
{
	struct said_points *s = said_points_new(&list);
	char payload[80], suffix[32];
	(void)state;
	size_t before = mallinfo2().uordblks;
	for (unsigned i = 0; i < 3 * POINTS; i++) {
		snprintf(payload, sizeof(payload),
			 "{\"result\":\"SUCCESS\",\"value\":%u,\"cause\":\"%s\"}", i * 21,
			 i < POINTS ? "INTERROGATE" : "CHANGE");
		snprintf(suffix, sizeof(suffix), "remote_device/1/read/%s", names[i % POINTS]);
		assert_true(put(s, i % POINTS, suffix, payload));
	}
	if (mallinfo2().uordblks != 0) /* a sanitizer counts nothing */
		assert_in_range(mallinfo2().uordblks - before, 16 * POINTS, 30 * POINTS);
	said_points_free(s);
}

/* Texts grow and shrink in turn, and more stems than are remembered: each is what was put last. */
static void many_points_of_changing_length_keep_theirs(void **state)
{
	struct said_points *s = said_points_new(&list);
	char suffix[32], payload[600], body[700];
	(void)state;
	for (unsigned round = 0; round < 20; round++)
		for (unsigned i = 0; i < POINTS; i++) {
			snprintf(suffix, sizeof(suffix), "d%u/%s", i, i % 3 ? names[i] : "other");
			snprintf(payload, sizeof(payload), "%0*u", (int)(1 + i * round % 500), i);
			assert_true(put(s, i, suffix, payload));
		}
	for (unsigned i = 0; i < POINTS; i++) {
		snprintf(suffix, sizeof(suffix), "d%u/%s", i, i % 3 ? names[i] : "other");
		snprintf(body, sizeof(body),
			 "{\"timestamp\":%u,\"source_timestamp\":null,\"payload\":%0*u}", 1000 + i,
			 (int)(1 + i * 19 % 500), i);
		expect(s, i, suffix, body);
	}
	said_points_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_again_what_was_said_last),
		cmocka_unit_test(what_was_said_in_a_connection_is_not_said_again_in_it),
		cmocka_unit_test(a_point_has_one_topic),
		cmocka_unit_test(payloads_come_back),
		cmocka_unit_test(values_take_little_memory),
		cmocka_unit_test(many_points_of_changing_length_keep_theirs),
	};
	return cmocka_run_group_tests(tests, set_up, NULL);
}
