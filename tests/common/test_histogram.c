#include "common/histogram.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ret: yours to free(). */
static char *written(const struct histogram *h, const char *labels)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	assert_non_null(out);
	histogram_write(h, out, "x_seconds", labels);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* The number behind a line's beginning; -1: no such line. */
static double number_at(const char *text, const char *line)
{
	const char *at = strstr(text, line);
	return at != NULL && (at == text || at[-1] == '\n') ? atof(at + strlen(line)) : -1;
}

static void what_took_a_bound_exactly_counts_below_it(void **state)
{
	static const struct {
		int64_t us;
		const char *below, *above;
	} cases[] = {
		{0, "0.0001", NULL},       {100, "0.0001", NULL},    {101, "0.00025", "0.0001"},
		{1000, "0.001", "0.0005"}, {50000, "0.05", "0.025"}, {50001, "0.1", "0.05"},
		{10000000, "10", "5"},     {10000001, "+Inf", "10"}, {INT64_MAX, "+Inf", "10"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct histogram h = {0};
		char line[64];
		histogram_observe(&h, cases[i].us);
		char *text = written(&h, "");
		snprintf(line, sizeof(line), "x_seconds_bucket{le=\"%s\"} ", cases[i].below);
		assert_int_equal((int)number_at(text, line), 1);
		if (cases[i].above != NULL) {
			snprintf(line, sizeof(line), "x_seconds_bucket{le=\"%s\"} ",
				 cases[i].above);
			assert_int_equal((int)number_at(text, line), 0);
		}
		free(text);
	}
}

static void buckets_add_up_and_the_sum_is_in_seconds(void **state)
{
	struct histogram h = {0};
	(void)state;
	for (int i = 0; i < 1000; i++)
		histogram_observe(&h, 300);
	histogram_observe(&h, 2000000);
	histogram_observe(&h, -5); /* a clock went back: counted, takes nothing from the sum */
	assert_int_equal(histogram_count(&h), 1002);
	char *text = written(&h, "op=\"put\",state=\"ok\"");
	assert_int_equal(
		(int)number_at(text, "x_seconds_bucket{op=\"put\",state=\"ok\",le=\"0.0001\"} "),
		1);
	assert_int_equal(
		(int)number_at(text, "x_seconds_bucket{op=\"put\",state=\"ok\",le=\"0.0005\"} "),
		1001);
	assert_int_equal(
		(int)number_at(text, "x_seconds_bucket{op=\"put\",state=\"ok\",le=\"1\"} "), 1001);
	assert_int_equal(
		(int)number_at(text, "x_seconds_bucket{op=\"put\",state=\"ok\",le=\"+Inf\"} "),
		1002);
	assert_int_equal((int)number_at(text, "x_seconds_count{op=\"put\",state=\"ok\"} "), 1002);
	assert_true(strstr(text, "x_seconds_sum{op=\"put\",state=\"ok\"} 2.300000\n") != NULL);
	free(text);
}

static void an_empty_one_is_whole_too(void **state)
{
	struct histogram h = {0};
	size_t lines = 0;
	(void)state;
	char *text = written(&h, "");
	for (const char *c = text; *c != '\0'; c++)
		lines += *c == '\n';
	assert_int_equal(lines, HISTOGRAM_BOUNDS + 3);
	assert_true(strstr(text, "\nx_seconds_sum 0.000000\nx_seconds_count 0\n") != NULL);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_took_a_bound_exactly_counts_below_it),
		cmocka_unit_test(buckets_add_up_and_the_sum_is_in_seconds),
		cmocka_unit_test(an_empty_one_is_whole_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
