#include "agent/graph/backlog.h"
#include "agent/graph/slots.h"
#include "common/err.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>

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

static void slots_of_an_earlier_process_are_claimed(void **state)
{
	struct slots *s = slots_new();
	int values[4];
	uint32_t slot;

	(void)state;
	assert_non_null(s);
	assert_int_equal(slots_claim(s, 3, &values[0]), 0);
	assert_int_equal(slots_claim(s, 3, &values[1]), ERR_EXIST);
	assert_int_equal(slots_claim(s, 1, &values[1]), 0);
	assert_int_equal(slots_claim(s, 1u << 30, &values[2]), ERR_LIMIT);
	/* those in between are given out first, each once */
	assert_int_equal(slots_take(s, &values[2], 0, &slot), 0);
	assert_int_equal(slot, 0);
	assert_int_equal(slots_take(s, &values[3], 0, &slot), 0);
	assert_int_equal(slot, 2);
	assert_int_equal(slots_take(s, &values[3], 0, &slot), 0);
	assert_int_equal(slot, 4);
	assert_ptr_equal(slots_find(s, 3), &values[0]);
	assert_ptr_equal(slots_find(s, 1), &values[1]);
	/* a claim out of the middle, the beginning and the end of those that rest */
	for (uint32_t i = 0; i < 5; i++)
		slots_give(s, i, 10 + i);
	assert_int_equal(slots_claim(s, 2, &values[0]), 0);
	assert_int_equal(slots_claim(s, 0, &values[0]), 0);
	assert_int_equal(slots_claim(s, 4, &values[0]), 0);
	assert_int_equal(slots_take(s, &values[1], 100, &slot), 0);
	assert_int_equal(slot, 1);
	assert_int_equal(slots_take(s, &values[1], 100, &slot), 0);
	assert_int_equal(slot, 3);
	assert_int_equal(slots_take(s, &values[1], 100, &slot), 0);
	assert_int_equal(slot, 5);
	slots_free(s);
}

static void slots_that_an_earlier_process_may_have_used_rest(void **state)
{
	struct slots *s = slots_new();
	int value;
	uint32_t slot;

	(void)state;
	assert_non_null(s);
	assert_int_equal(slots_claim(s, 2, &value), 0);
	assert_int_equal(slots_rest(s, 4, 100), 0);
	assert_int_equal(slots_rest(s, 0, 50), 0);
	assert_int_equal(slots_rest(s, UINT32_MAX, 0), ERR_LIMIT);
	assert_true(slots_resting(s, 0, 99));
	assert_ptr_equal(slots_find(s, 2), &value);
	assert_int_equal(slots_take(s, &value, 99, &slot), 0);
	assert_int_equal(slot, 4);
	static const uint32_t then[] = {0, 1, 3, 5};
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(slots_take(s, &value, 100, &slot), 0);
		assert_int_equal(slot, then[i]);
	}
	slots_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slot_rests_until_the_ring_has_passed_it),
		cmocka_unit_test(slots_come_back_in_the_order_they_were_given),
		cmocka_unit_test(slots_of_an_earlier_process_are_claimed),
		cmocka_unit_test(slots_that_an_earlier_process_may_have_used_rest),
		cmocka_unit_test(a_backlog_keeps_order_and_its_limit),
	};

	return cmocka_run_group_tests_name("slots, backlog", tests, NULL, NULL);
}
