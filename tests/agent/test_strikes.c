/* The book of strikes, with a clock of the test's own. */
#include "agent/graph/strikes.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)

struct bench {
	char dir[32], path[64];
	struct strikes *b;
	struct digest_text code, other;
};

static int setup(void **state)
{
	struct bench *t = calloc(1, sizeof(*t));

	snprintf(t->dir, sizeof(t->dir), P_tmpdir "/test-strikes-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->path, sizeof(t->path), "%s/kept.json", t->dir);
	assert_int_equal(strikes_new(t->path, &t->b, NULL), 0);
	t->code = sha256_hex("code", 4);
	t->other = sha256_hex("other", 5);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct bench *t = *state;

	strikes_free(t->b);
	unlink(t->path);
	assert_int_equal(rmdir(t->dir), 0);
	free(t);
	return 0;
}

static enum strikes_verdict strike(struct bench *t, int64_t now_ms)
{
	return strikes_add(t->b, "g", "idf", 3, &t->code, now_ms, "time budget exceeded");
}

static const char *reason(struct bench *t)
{
	return strikes_reason(t->b, "g", 3, &t->code);
}

/* Close the book and open it again. */
static void reopen(struct bench *t)
{
	assert_int_equal(strikes_save(t->b, NULL), 0);
	strikes_free(t->b);
	assert_int_equal(strikes_new(t->path, &t->b, NULL), 0);
}

static void three_within_a_minute_are_a_quarantine(void **state)
{
	struct bench *t = *state;

	assert_int_equal(strike(t, 0), STRIKES_NOTED);
	assert_false(strikes_apart(t->b, "g"));
	assert_int_equal(strike(t, 30 * SECOND), STRIKES_APART);
	assert_true(strikes_apart(t->b, "g"));
	assert_null(reason(t));
	assert_int_equal(strike(t, MINUTE), STRIKES_QUARANTINED);
	assert_string_equal(reason(t),
			    "quarantined: time budget exceeded, 3 times within a minute");
	assert_int_equal(strikes_quarantined(t->b, "g"), 1);
	assert_int_equal(strike(t, MINUTE), STRIKES_NOTED); /* it is over for this one */
}

static void three_within_more_than_a_minute_are_none(void **state)
{
	struct bench *t = *state;

	assert_int_equal(strike(t, 0), STRIKES_NOTED);
	assert_int_equal(strike(t, 31 * SECOND), STRIKES_APART);
	assert_int_equal(strike(t, 61 * SECOND), STRIKES_NOTED);
	assert_int_equal(strike(t, 91 * SECOND),
			 STRIKES_QUARANTINED); /* the last three are close */
}

static void two_within_more_than_an_hour_are_nothing(void **state)
{
	struct bench *t = *state;

	assert_int_equal(strike(t, 0), STRIKES_NOTED);
	assert_int_equal(strike(t, HOUR + 1), STRIKES_NOTED);
	assert_int_equal(strike(t, 2 * HOUR + 1), STRIKES_APART);
}

static void each_use_has_strikes_of_its_own(void **state)
{
	struct bench *t = *state;

	strike(t, 0);
	assert_int_equal(strikes_add(t->b, "g", "idf", 4, &t->code, 0, "x"), STRIKES_NOTED);
	assert_int_equal(strikes_add(t->b, "g", "idf", 3, &t->other, 0, "x"), STRIKES_NOTED);
	assert_int_equal(strikes_add(t->b, "g", "join", 0, &t->code, 0, "x"), STRIKES_NOTED);
	assert_int_equal(strikes_add(t->b, "h", "idf", 3, &t->code, 0, "x"), STRIKES_NOTED);
	assert_int_equal(strike(t, 1), STRIKES_APART);
	assert_int_equal(strikes_add(t->b, "g", "idf", 4, &t->code, 1, "x"), STRIKES_NOTED);
	assert_false(strikes_apart(t->b, "h"));
}

static void a_graph_that_found_no_room_asks_again(void **state)
{
	struct bench *t = *state;

	strike(t, 0);
	assert_int_equal(strike(t, 1), STRIKES_APART);
	strikes_together(t->b, "g");
	assert_false(strikes_apart(t->b, "g"));
	assert_int_equal(strike(t, 2 * MINUTE), STRIKES_APART);
}

static bool keep_code(void *arg, uint32_t lid, const struct digest_text *code)
{
	const struct bench *t = arg;

	return lid == 3 && strcmp(code->s, t->code.s) == 0;
}

static bool keep_none(void *arg, uint32_t lid, const struct digest_text *code)
{
	(void)arg, (void)lid, (void)code;
	return false;
}

static unsigned told;

static void on_told(void *arg, const struct strikes_use *use)
{
	(void)arg;
	assert_non_null(use->reason);
	told += use->lid;
}

static void what_is_used_no_more_is_released(void **state)
{
	struct bench *t = *state;

	for (int i = 0; i < 3; i++) {
		strike(t, i);
		strikes_add(t->b, "g", "odf", 40, &t->code, i, "x");
	}
	strikes_add(t->b, "g", "odf", 500, &t->code, 0, "x");
	told = 0;
	strikes_each(t->b, "g", on_told, t);
	assert_int_equal(told, 43);
	told = 0;
	strikes_revise(t->b, "g", keep_code, on_told, t);
	assert_int_equal(told, 40); /* the one with a single strike was none */
	assert_non_null(reason(t));
	told = 0;
	strikes_revise(t->b, "g", keep_none, on_told, t);
	assert_int_equal(told, 3);
	assert_null(reason(t));
	assert_true(strikes_apart(t->b, "g")); /* it stays where it is */
	assert_int_equal(strike(t, 4), STRIKES_NOTED);
}

static bool is_g(void *arg, const char *graph)
{
	(void)arg;
	return strcmp(graph, "g") == 0;
}

static void quarantine_is_kept_strikes_are_not(void **state)
{
	struct bench *t = *state;

	for (int i = 0; i < 3; i++) {
		strike(t, i);
		strikes_add(t->b, "h", "join", 0, &t->code, i, "x");
	}
	strikes_add(t->b, "once", "idf", 1, &t->code, 0, "x");
	reopen(t);
	assert_non_null(reason(t));
	assert_true(strikes_apart(t->b, "g"));
	assert_non_null(strikes_reason(t->b, "h", 0, &t->code));
	json_auto_t *none = strikes_tell(t->b, "once", 0);
	assert_int_equal(json_array_size(none), 0);
	json_auto_t *list = strikes_tell(t->b, "g", 0);
	assert_int_equal(json_array_size(list), 1);
	strikes_sweep(t->b, is_g, NULL);
	assert_null(strikes_reason(t->b, "h", 0, &t->code));
	strikes_forget(t->b, "g");
	reopen(t);
	assert_null(reason(t));
	assert_false(strikes_apart(t->b, "g"));
}

static void a_damaged_file_is_begun_anew(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{\"graphs\": 7}",
		"{\"graphs\": {\"g\": 7, \"h\": {\"quarantined\": 7, \"apart\": 7}}}",
		"{\"graphs\": {\"g\": {\"quarantined\": [7, {}, {\"kind\": 1}, {\"kind\": \"idf\", "
		"\"lid\": -1, \"code\": \"x\", \"reason\": \"\"}]}}}",
	};
	struct bench *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		FILE *f = fopen(t->path, "w");

		fputs(texts[i], f);
		fclose(f);
		strikes_free(t->b);
		assert_int_equal(strikes_new(t->path, &t->b, NULL), 0);
		assert_int_equal(strikes_quarantined(t->b, "g"), 0);
		strike(t, 0);
		strike(t, 1);
		reopen(t);
		assert_true(strikes_apart(t->b, "g"));
	}
}

static void a_file_that_cannot_be_written_is_an_error_and_is_tried_again(void **state)
{
	struct bench *t = *state;
	char aside[80];

	snprintf(aside, sizeof(aside), "%s.new", t->path);
	assert_int_equal(symlink("/nowhere/at/all", aside), 0);
	strike(t, 0);
	strike(t, 1);
	assert_true(strikes_save(t->b, NULL) < 0);
	unlink(aside);
	reopen(t);
	assert_true(strikes_apart(t->b, "g"));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(three_within_a_minute_are_a_quarantine),
		TEST(three_within_more_than_a_minute_are_none),
		TEST(two_within_more_than_an_hour_are_nothing),
		TEST(each_use_has_strikes_of_its_own),
		TEST(a_graph_that_found_no_room_asks_again),
		TEST(what_is_used_no_more_is_released),
		TEST(quarantine_is_kept_strikes_are_not),
		TEST(a_damaged_file_is_begun_anew),
		TEST(a_file_that_cannot_be_written_is_an_error_and_is_tried_again),
	};

	return cmocka_run_group_tests_name("strikes", tests, NULL, NULL);
}
