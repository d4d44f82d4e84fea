/* test_event.c - topics and bodies of events. */
#include "agent/device/event.h"
#include "agent/device/twice.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- topics ---- */

static void assert_topic(const char *const *segments, size_t n, const char *topic)
{
	CLEANUP(freep)
	char *made = NULL;
	struct event_path path;

	assert_int_equal(event_topic(segments, n, &made, NULL), 0);
	assert_string_equal(made, topic);
	assert_int_equal(event_path_parse(made, &path, NULL), 0);
	assert_int_equal(path.n, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(path.segments[i], segments[i]);
	event_path_done(&path);
}

#define ASSERT_TOPIC(topic, ...)                         \
	assert_topic((const char *const[]){__VA_ARGS__}, \
		     ARRAY_LEN(((const char *const[]){__VA_ARGS__})), topic)

static void segments_are_encoded_and_come_back(void **state)
{
	(void)state;
	ASSERT_TOPIC("gateway/gw1/ping/net", "gateway", "gw1", "ping", "net");
	ASSERT_TOPIC("a%2Fb/%2B/%23/100%25", "a/b", "+", "#", "100%");
	/* '$' only where it would be a topic of the broker's own */
	ASSERT_TOPIC("%24SYS/a$b", "$SYS", "a$b");
	ASSERT_TOPIC("%01%1F%7F/ ", "\x01\x1f\x7f", " ");
	ASSERT_TOPIC("%C2%85/%EF%BF%BF/%EF%B7%90", "\xc2\x85", "\xef\xbf\xbf", "\xef\xb7\x90");
	ASSERT_TOPIC("größe/電圧/😀", "größe", "電圧", "😀");
	ASSERT_TOPIC(".", ".");
}

static void topics_refuse_what_is_no_segment(void **state)
{
	static const char *const bad[] = {"",         "\xff",         "a\xc3",
					  "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
	char *topic;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(event_topic((const char *const[]){"x", bad[i]}, 2, &topic, &err),
				 ERR_INVAL);
	assert_int_equal(event_topic(NULL, 0, &topic, &err), ERR_INVAL);
}

static void paths_refuse_what_is_no_topic(void **state)
{
	static const struct {
		const char *topic;
		int rc;
	} rows[] = {
		{"", ERR_PARSE},
		{"/a", ERR_PARSE},
		{"a/", ERR_PARSE},
		{"a//b", ERR_PARSE},
		{"a/%", ERR_PARSE},
		{"a/%4", ERR_PARSE},
		{"a/%4g", ERR_PARSE},
		{"a/%00", ERR_PARSE},
		{"a/%g4", ERR_PARSE},
		{"%FF", ERR_PARSE},
		{"a\xc3", ERR_PARSE},
		{"%C3%28", ERR_PARSE},
		{"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", ERR_LIMIT},
	};
	struct event_path path;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (event_path_parse(rows[i].topic, &path, &err) != rows[i].rc)
			fail_msg("'%s'", rows[i].topic);
	assert_int_equal(event_path_parse("1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/%2f", &path, &err),
			 0);
	assert_int_equal(path.n, EVENT_SEGMENTS_MAX);
	assert_string_equal(path.segments[15], "/");
	event_path_done(&path);
}

static void numbers_of_segments_are_plain(void **state)
{
	static const char *const bad[] = {"",
					  "-1",
					  "+1",
					  "01",
					  "00",
					  "1e3",
					  " 1",
					  "1 ",
					  "0x10",
					  "1.",
					  "256",
					  "18446744073709551616",
					  "99999999999999999999999"};
	uint64_t n = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (event_segment_number(bad[i], 255, &n))
			fail_msg("'%s' is %lu", bad[i], (unsigned long)n);
	assert_int_equal(n, 7);
	assert_true(event_segment_number("0", 255, &n));
	assert_int_equal(n, 0);
	assert_true(event_segment_number("255", 255, &n));
	assert_int_equal(n, 255);
	assert_false(event_segment_number("16777216", 16777215, &n));
	assert_true(event_segment_number("18446744073709551615", UINT64_MAX, &n));
	assert_true(n == UINT64_MAX);
}

static void states_and_acts_are_told_apart(void **state)
{
	static const struct {
		const char *path;
		bool is_state;
	} rows[] = {
		{"enable", true},
		{"remote_device/1/enable", true},
		{"data/x", true},
		{"data/single/1/10", true},
		{"data", false},
		{"enable/x", false},
		{"remote_device/1/enable/x", false},
		{"remote_device/enable", false},
		{"remote_device/1/write/enable", false},
		{"write", false},
		{"remote_device/1/write/x", false},
		{"command/single/1/6", false},
		{"interrogation/1", false},
		{"message", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct event_path path;

		assert_int_equal(event_path_parse(rows[i].path, &path, NULL), 0);
		if (event_is_state(path.segments, path.n) != rows[i].is_state)
			fail_msg("'%s'", rows[i].path);
		event_path_done(&path);
	}
}

/* ---- bodies ---- */

static int parse(const char *text, struct event_body *ret)
{
	return event_body_parse(text, strlen(text), ret, NULL);
}

static void bodies_have_two_times_and_a_payload(void **state)
{
	int64_t source = 1709214330250000;
	struct event_body b;
	json_auto_t *payload = json_pack("{s:s, s:i}", "result", "SUCCESS", "value", 235);
	CLEANUP(freep)
	char *text = event_body(1709214330260000, &source, payload);
	CLEANUP(freep)
	char *bare = event_body(5, NULL, payload);

	(void)state;
	assert_string_equal(text, "{\"timestamp\":1709214330260000,"
				  "\"source_timestamp\":1709214330250000,"
				  "\"payload\":{\"result\":\"SUCCESS\",\"value\":235}}");
	assert_string_equal(bare, "{\"timestamp\":5,\"source_timestamp\":null,"
				  "\"payload\":{\"result\":\"SUCCESS\",\"value\":235}}");
	assert_int_equal(parse(text, &b), 0);
	assert_true(b.timestamp_us == 1709214330260000 && b.has_source && b.source_us == source);
	assert_true(json_equal(b.payload, payload));
	event_body_done(&b);
	assert_int_equal(parse(bare, &b), 0);
	assert_true(b.timestamp_us == 5 && !b.has_source);
	event_body_done(&b);
}

static void a_body_without_payload_is_the_payload(void **state)
{
	static const char *const rows[] = {
		"true",
		"false",
		"null",
		"1",
		"-0.5",
		"\"true\"",
		"[]",
		"{}",
		"{\"timestamp\":1}",
		"[{\"payload\":1}]",
		" true\n",
	};
	struct event_body b;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		json_auto_t *same = json_loads(rows[i], JSON_DECODE_ANY, NULL);

		assert_int_equal(parse(rows[i], &b), 0);
		assert_true(json_equal(b.payload, same));
		assert_true(b.timestamp_us == 0 && !b.has_source);
		event_body_done(&b);
	}
	assert_int_equal(parse("{\"payload\":null}", &b), 0);
	assert_true(json_is_null(b.payload));
	event_body_done(&b);
	assert_int_equal(parse("{\"payload\":true,\"timestamp\":null,\"more\":1}", &b), 0);
	assert_true(json_is_true(b.payload) && b.timestamp_us == 0);
	event_body_done(&b);
}

static void bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
		{"", ERR_PARSE},
		{"tru", ERR_PARSE},
		{"true false", ERR_PARSE},
		{"{\"payload\":", ERR_PARSE},
		{"\"\xff\"", ERR_PARSE},
		{"\"\xc3\x28\"", ERR_PARSE},
		{"\"\\ud800\"", ERR_PARSE},
		{"\"\\u0000\"", ERR_PARSE},
		{"123456789012345678901234567890", ERR_PARSE},
		{"-9223372036854775809", ERR_PARSE},
		{"1e999", ERR_PARSE},
		{"{\"payload\":1,\"timestamp\":\"now\"}", ERR_SCHEMA},
		{"{\"payload\":1,\"timestamp\":1.5}", ERR_SCHEMA},
		{"{\"payload\":1,\"source_timestamp\":true}", ERR_SCHEMA},
	};
	struct event_body b;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (parse(rows[i].text, &b) != rows[i].rc)
			fail_msg("'%s'", rows[i].text);
	/* NUL ends no text */
	assert_int_equal(event_body_parse("true\0", 5, &b, NULL), ERR_PARSE);
}

static void bodies_end_at_256_kib(void **state)
{
	CLEANUP(freep)
	char *text = malloc(EVENT_BODY_MAX + 1);
	struct event_body b;

	(void)state;
	memset(text, 'x', EVENT_BODY_MAX + 1);
	text[0] = text[EVENT_BODY_MAX - 1] = '"';
	assert_int_equal(event_body_parse(text, EVENT_BODY_MAX, &b, NULL), 0);
	assert_int_equal(json_string_length(b.payload), EVENT_BODY_MAX - 2);
	event_body_done(&b);
	text[EVENT_BODY_MAX - 1] = 'x';
	text[EVENT_BODY_MAX] = '"';
	assert_int_equal(event_body_parse(text, EVENT_BODY_MAX + 1, &b, NULL), ERR_LIMIT);
}

/* ---- acts that come twice ---- */

static bool seen(struct twice *t, const char *topic, const char *body, bool dup, int64_t ms)
{
	return twice_seen(t, topic, body, strlen(body), dup, ms);
}

static void a_duplicate_within_ten_seconds_is_known(void **state)
{
	CLEANUP(freep)
	struct twice *t = malloc(sizeof(*t));

	(void)state;
	twice_init(t);
	assert_false(seen(t, "a", "1", false, 1000));
	/* the same command again is another command, unless the broker says it repeats itself */
	assert_false(seen(t, "a", "1", false, 1500));
	assert_true(seen(t, "a", "1", true, 11500));
	assert_false(seen(t, "a", "1", true, 11501));
	/* of which this one is the first */
	assert_true(seen(t, "a", "1", true, 11502));
	assert_false(seen(t, "b", "1", true, 11502));
	assert_false(seen(t, "a", "2", true, 11502));
	assert_false(seen(t, "a1", "", true, 11502));
	for (int i = 0; i < TWICE_MAX; i++)
		assert_false(seen(t, "c", "1", false, 12000));
	assert_false(seen(t, "b", "1", true, 12000)); /* forgotten */
	assert_true(seen(t, "c", "1", true, 12000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_are_encoded_and_come_back),
		cmocka_unit_test(topics_refuse_what_is_no_segment),
		cmocka_unit_test(paths_refuse_what_is_no_topic),
		cmocka_unit_test(numbers_of_segments_are_plain),
		cmocka_unit_test(states_and_acts_are_told_apart),
		cmocka_unit_test(bodies_have_two_times_and_a_payload),
		cmocka_unit_test(a_body_without_payload_is_the_payload),
		cmocka_unit_test(bad_bodies_are_refused),
		cmocka_unit_test(bodies_end_at_256_kib),
		cmocka_unit_test(a_duplicate_within_ten_seconds_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
