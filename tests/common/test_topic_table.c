#include "common/topic_table.h"
#include "common/err.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MANY 5000

static void what_was_added_is_found_and_nothing_else(void **state)
{
	static char topics[MANY][40];
	struct topic_table *t = topic_table_new();

	(void)state;
	assert_non_null(t);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(topics[i], sizeof(topics[i]), "iottalk/esm/%zu", i);
		assert_int_equal(topic_table_add(t, topics[i], topics[i]), 0);
		assert_int_equal(topic_table_add(t, topics[i], t), ERR_EXIST);
	}
	assert_int_equal(topic_table_count(t), MANY);
	/* Take every third away, in an order that leaves holes of all kinds. */
	for (size_t i = 0; i < MANY; i += 3)
		assert_ptr_equal(topic_table_remove(t, topics[i]), topics[i]);
	for (size_t i = 0; i < MANY; i++)
		assert_ptr_equal(topic_table_find(t, topics[i]), i % 3 == 0 ? NULL : topics[i]);
	for (size_t i = 0; i < MANY; i += 3)
		assert_int_equal(topic_table_add(t, topics[i], topics[i]), 0);
	for (size_t i = 0; i < MANY; i++)
		assert_ptr_equal(topic_table_find(t, topics[i]), topics[i]);
	assert_null(topic_table_find(t, "iottalk/esm/"));
	assert_null(topic_table_remove(t, ""));
	topic_table_free(t, NULL);
}

static void count_up(void *arg, void *value)
{
	(void)value;
	++*(size_t *)arg;
}

static void each_walks_over_all(void **state)
{
	struct topic_table *t = topic_table_new();
	size_t n = 0;

	(void)state;
	for (const char *topic = "abcdefgh"; *topic != '\0'; topic++)
		assert_int_equal(topic_table_add(t, topic, strdup(topic)), 0);
	topic_table_each(t, count_up, &n);
	assert_int_equal(n, 8);
	topic_table_free(t, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_found_and_nothing_else),
		cmocka_unit_test(each_walks_over_all),
	};

	return cmocka_run_group_tests_name("topic table", tests, NULL, NULL);
}
