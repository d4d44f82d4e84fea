/* Commands at most so many a second, in order; what leaves is not sent; nothing waits longer than it has to. */
#include "common/util.h"
#include "csm/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ITEMS 20

static struct {
	struct loop *loop;
	struct pace *pace;
	int64_t rate;
	struct paced items[ITEMS];
	int sent[ITEMS], n_sent;
} t;

static void on_send(struct paced *item)
{
	assert_false(item->waiting);
	t.sent[t.n_sent++] = (int)(item - t.items);
}

static int setup(void **state)
{
	struct err err = {0};
	(void)state;
	memset(&t, 0, sizeof(t));
	t.rate = 100;
	assert_int_equal(loop_new(&t.loop, &err), 0);
	assert_int_equal(pace_new(t.loop, &t.rate, on_send, &t.pace, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t.pace = pace_free(t.pace);
	t.loop = loop_free(t.loop);
	return 0;
}

static void until_sent(int n)
{
	while (t.n_sent < n)
		assert_true(loop_turn(t.loop, 5000) >= 0);
}

static void test_a_tenth_of_a_second_goes_at_once_the_rest_in_order(void **state)
{
	(void)state;
	int64_t begin = loop_now_ms(t.loop);
	for (int i = 0; i < ITEMS; i++)
		pace_ask(t.pace, &t.items[i]);
	assert_int_equal(t.n_sent, 10);
	until_sent(ITEMS);
	/* ten of them at 100 a second */
	assert_true(loop_now_ms(t.loop) - begin >= 90);
	for (int i = 0; i < ITEMS; i++)
		assert_int_equal(t.sent[i], i);
}

static void test_asking_again_keeps_the_place(void **state)
{
	(void)state;
	for (int i = 0; i < ITEMS; i++)
		pace_ask(t.pace, &t.items[i]);
	pace_ask(t.pace, &t.items[10]);
	until_sent(ITEMS);
	assert_int_equal(t.sent[10], 10);
	assert_int_equal(t.n_sent, ITEMS);
}

static void test_what_left_is_not_sent(void **state)
{
	(void)state;
	for (int i = 0; i < ITEMS; i++)
		pace_ask(t.pace, &t.items[i]);
	pace_leave(t.pace, &t.items[10]); /* the first */
	pace_leave(t.pace, &t.items[15]);
	pace_leave(t.pace, &t.items[19]); /* the last */
	pace_leave(t.pace, &t.items[0]);  /* was sent */
	until_sent(ITEMS - 3);
	for (int i = 0; i < t.n_sent; i++)
		assert_true(t.sent[i] != 10 && t.sent[i] != 15 && t.sent[i] != 19);
	pace_ask(t.pace, &t.items[10]);
	until_sent(ITEMS - 2);
	assert_int_equal(t.sent[ITEMS - 3], 10);
}

static void test_the_rate_may_change_meanwhile(void **state)
{
	(void)state;
	t.rate = 1; /* one at once, the next in a second */
	for (int i = 0; i < ITEMS; i++)
		pace_ask(t.pace, &t.items[i]);
	assert_int_equal(t.n_sent, 1);
	t.rate = 1000000;
	int64_t begin = loop_now_ms(t.loop);
	until_sent(ITEMS);
	assert_true(loop_now_ms(t.loop) - begin < 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_tenth_of_a_second_goes_at_once_the_rest_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_asking_again_keeps_the_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_left_is_not_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_rate_may_change_meanwhile, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
