#include "agent/graph/backlog.h"
#include "agent/graph/slots.h"
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

static void a_slot_rests_until_the_ring_has_passed_it(void **state)
{
	struct slots *s = slots_new();
	int values[4];
	uint32_t a, b, c;

	(void)state;
	assert_int_equal(slots_take(s, &values[0], 0, &a), 0);
	assert_int_equal(slots_take(s, &values[1], 0, &b), 0);
	assert_int_not_equal(a, b);
	slots_give(s, a, 100);
	assert_null(slots_find(s, a));
	assert_true(slots_resting(s, a, 99));
	assert_int_equal(slots_take(s, &values[2], 99, &c), 0);
	assert_int_not_equal(c, a);
	assert_false(slots_resting(s, a, 100));
	assert_int_equal(slots_take(s, &values[3], 100, &c), 0);
	assert_int_equal(c, a);
	assert_ptr_equal(slots_find(s, a), &values[3]);
	assert_ptr_equal(slots_find(s, b), &values[1]);
	assert_null(slots_find(s, 1000));
	assert_false(slots_resting(s, 1000, 0));
	slots_free(s);
}

static void slots_come_back_in_the_order_they_were_given(void **state)
{
	struct slots *s = slots_new();
	uint32_t slot[3], again;
	int value;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(slots_take(s, &value, 0, &slot[i]), 0);
	for (size_t i = 0; i < 3; i++)
		slots_give(s, slot[2 - i], i);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(slots_take(s, &value, 5, &again), 0);
		assert_int_equal(again, slot[2 - i]);
	}
	slots_free(s);
}

static void a_backlog_keeps_order_and_its_limit(void **state)
{
	struct backlog b = {.max_bytes = 3 * (sizeof(struct backlog_msg) + 8)};
	struct tap_rec rec = {.slot = 1, .qos = 2, .len = 8};

	(void)state;
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(backlog_add(&b, &rec, i, "12345678"), 0);
	assert_int_equal(backlog_add(&b, &rec, 3, "12345678"), ERR_LIMIT);
	rec.len = UINT32_MAX;
	assert_int_equal(backlog_add(&b, &rec, 3, "x"), ERR_LIMIT);
	rec.len = 8;
	assert_int_equal(b.first->serial, 0);
	assert_memory_equal(b.first->payload, "12345678", 8);
	backlog_drop_first(&b);
	assert_int_equal(backlog_add(&b, &rec, 3, "abcdefgh"), 0);
	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(b.first->serial, i);
		backlog_drop_first(&b);
	}
	assert_null(b.first);
	assert_null(b.last);
	assert_int_equal(b.bytes, 0);
	backlog_drop_first(&b);
	backlog_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_found_and_nothing_else),
		cmocka_unit_test(each_walks_over_all),
		cmocka_unit_test(a_slot_rests_until_the_ring_has_passed_it),
		cmocka_unit_test(slots_come_back_in_the_order_they_were_given),
		cmocka_unit_test(a_backlog_keeps_order_and_its_limit),
	};

	return cmocka_run_group_tests_name("topic table, slots, backlog", tests, NULL, NULL);
}
