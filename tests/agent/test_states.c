/* The states of a device: how much of what anybody may say is kept. */
#include "agent/device/states.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PREFIX "gateway/gw1/fake/d1"
#define ENABLE PREFIX "/system/enable"

struct world {
	struct settings settings;
	struct loop *loop;
	struct store *store;
	struct states *states;
	struct err err;
};

static int say(struct world *w, const char *topic, const char *text)
{
	struct event_body body = {0};

	assert_int_equal(event_body_parse(text, strlen(text), &body, &w->err), 0);
	int rc = states_live(w->states, topic, &body, text, &w->err);
	event_body_done(&body);
	return rc < 0 ? rc : 0;
}

static char *text_of(size_t bytes)
{
	char *text = malloc(bytes + 1);

	assert_non_null(text);
	memset(text, 'x', bytes);
	text[0] = text[bytes - 1] = '"';
	text[bytes] = '\0';
	return text;
}

static void count(void *arg, const char *topic, const char *text, const json_t *payload)
{
	(void)topic;
	(void)text;
	(void)payload;
	++*(unsigned *)arg;
}

static unsigned n_states(const struct world *w)
{
	unsigned n = 0;

	states_each(w->states, count, &n);
	return n;
}

static void test_a_large_state(void **state)
{
	struct world *w = *state;
	CLEANUP(freep)
	char *most = text_of(STATE_BYTES_MAX);
	CLEANUP(freep)
	char *more = text_of(STATE_BYTES_MAX + 1);
	struct event_body body = {0};

	assert_int_equal(say(w, PREFIX "/system/data/x", more), ERR_LIMIT);
	assert_string_equal(w->err.text, "a state of 8193 bytes; 8192 are the most");
	assert_int_equal(n_states(w), 0);
	assert_int_equal(say(w, PREFIX "/system/data/x", most), 0);
	/* it is what it was */
	assert_int_equal(say(w, PREFIX "/system/data/x", more), ERR_LIMIT);
	assert_int_equal(json_string_length(states_find(w->states, PREFIX "/system/data/x")),
			 STATE_BYTES_MAX - 2);
	states_begin_sync(w->states);
	assert_int_equal(event_body_parse(more, strlen(more), &body, NULL), 0);
	assert_int_equal(states_retained(w->states, PREFIX "/system/data/x", &body, more, &w->err),
			 ERR_LIMIT);
	event_body_done(&body);
}

static void test_many_bytes(void **state)
{
	struct world *w = *state;
	CLEANUP(freep)
	char *text = text_of(STATE_BYTES_MAX);
	char topic[80];
	unsigned n = 0;
	int rc = 0;

	for (; rc == 0; n++) {
		snprintf(topic, sizeof(topic), PREFIX "/system/data/%u", n);
		rc = say(w, topic, text);
	}
	assert_int_equal(rc, ERR_LIMIT);
	assert_non_null(strstr(w->err.text, "the states of a device have"));
	/* the last one, that has no text, is none */
	assert_in_range(n_states(w), STATES_BYTES_MAX / (STATE_BYTES_MAX + 80),
			STATES_BYTES_MAX / STATE_BYTES_MAX);
	/* smaller ones take no room, and give it back */
	assert_int_equal(say(w, PREFIX "/system/data/0", "1"), 0);
	assert_int_equal(say(w, topic, text), 0);
	assert_int_equal(say(w, PREFIX "/system/data/0", text), ERR_LIMIT);
	/* whoever fills it, the device can be switched */
	assert_int_equal(say(w, ENABLE, "true"), 0);
	assert_int_equal(say(w, ENABLE, "false"), 0);
	/* and after a restart all is there */
	n = n_states(w);
	states_free(w->states);
	assert_int_equal(states_new(w->store, PREFIX, &w->states, &w->err), 0);
	assert_int_equal(n_states(w), n);
	assert_true(json_is_false(states_find(w->states, ENABLE)));
}

static void test_long_topics(void **state)
{
	struct world *w = *state;
	char topic[60000];
	int rc = 0;

	memset(topic, 'x', sizeof(topic));
	memcpy(topic, PREFIX "/system/data/", strlen(PREFIX "/system/data/"));
	for (unsigned n = 0; rc == 0; n++) {
		assert_true(n < STATES_BYTES_MAX / sizeof(topic) + 1);
		snprintf(topic + sizeof(topic) - 10, 10, "%09u", n);
		rc = say(w, topic, "1");
	}
	assert_int_equal(rc, ERR_LIMIT);
	assert_int_equal(say(w, ENABLE, "true"), 0);
}

static void test_many_topics(void **state)
{
	struct world *w = *state;
	char topic[80];

	for (unsigned n = 0; n < STATES_MAX; n++) {
		snprintf(topic, sizeof(topic), PREFIX "/system/data/%u", n);
		assert_int_equal(say(w, topic, "1"), 0);
	}
	assert_int_equal(say(w, PREFIX "/system/data/more", "1"), ERR_LIMIT);
	assert_int_equal(say(w, topic, "2"), 0);
	assert_int_equal(say(w, ENABLE, "true"), 0);
	assert_int_equal(n_states(w), STATES_MAX + 1);
}

static int on_row(void *arg, const struct db_value *v, size_t n)
{
	(void)v;
	(void)n;
	++*(unsigned *)arg;
	return 0;
}

/* Of the two things that are written, the second fails: the first is not there either. */
static void test_a_word_that_is_not_kept_leaves_no_mark(void **state)
{
	struct world *w = *state;
	struct event_body off = {0};
	struct db *db = store_db(w->store);
	unsigned marks = 0;

	assert_int_equal(say(w, ENABLE, "true"), 0);
	assert_int_equal(store_commit(w->store), 0);
	assert_int_equal(db_run(db, &w->err, NULL, NULL,
				"CREATE TEMP TRIGGER bad BEFORE UPDATE ON state "
				"WHEN NEW.topic NOT LIKE 'untold:%' "
				"BEGIN SELECT RAISE(FAIL, 'the disk is bad'); END"),
			 0);
	assert_int_equal(event_body_parse("false", 5, &off, NULL), 0);
	assert_true(states_set(w->states, ENABLE, &off, "false", &w->err) < 0);
	event_body_done(&off);
	assert_true(json_is_true(states_find(w->states, ENABLE)));
	assert_int_equal(db_run(db, NULL, NULL, NULL, "DROP TRIGGER bad"), 0);
	assert_int_equal(store_commit(w->store), 0);
	assert_int_equal(
		db_run(db, NULL, on_row, &marks, "SELECT 1 FROM state WHERE topic LIKE 'untold:%'"),
		0);
	assert_int_equal(marks, 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->settings.devices_db.url = ":memory:";
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	assert_int_equal(store_open(w->loop, &w->settings, &w->store, &w->err), 0);
	assert_int_equal(states_new(w->store, PREFIX, &w->states, &w->err), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	states_free(w->states);
	store_close(w->store);
	loop_free(w->loop);
	free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_large_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_topics, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_topics, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_word_that_is_not_kept_leaves_no_mark, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
