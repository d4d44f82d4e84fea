/* test_outbox.c - what is in memory: order, states, bounds, sinks that are away, full or choosy. */
#include "tests/agent/outbox_bench.h"
#include "tests/agent/quick_time.h"

static void test_in_order(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	bench_act(b, "a", 1);
	bench_latest(b, "b", 2);
	bench_all(b, "c", 3);
	bench_state(b, "b", 4);
	bench_expect(b, "a=1 b=2 c=3 b=4"); /* at once, each */
	assert_true(b->log[1].retain);
	assert_false(b->log[2].retain);
	for (size_t i = 1; i <= 4; i++)
		assert_false(bench_is_told(b, i));
	bench_answer(b);
	for (size_t i = 1; i <= 4; i++)
		bench_expect_told(b, i, 0);
	assert_int_equal(bench_status(b).waiting, 0);
	assert_int_equal(bench_status(b).oldest_us, 0);
}

static void test_sinks_are_apart(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	bench_put(b, OUTBOX_VALUES, "a", 1, KEEP_NONE, false);
	bench_act(b, "a", 2);
	bench_expect(b, "a=2");
	outbox_up(b->o, OUTBOX_VALUES, true);
	bench_expect(b, "a=2 a=1");
	assert_int_equal(b->log[1].sink, OUTBOX_VALUES);
}

static void test_away(void **state)
{
	struct bench *b = *state;

	bench_act(b, "act", 1);
	bench_state(b, "s", 2);
	bench_state(b, "t", 3);
	bench_act(b, "act", 4);
	bench_state(b, "s", 5);
	assert_int_equal(bench_status(b).waiting, 4);
	assert_true(bench_status(b).oldest_us > 0);
	bench_up(b);
	bench_expect(b, "act=1 t=3 act=4 s=5");
	assert_false(bench_is_told(b, 2)); /* what 5 says is what it said */
	bench_answer(b);
	bench_expect_told(b, 2, 0);
	bench_expect_told(b, 5, 0);
	assert_int_equal(bench_status(b).dropped, 0);
}

static void test_bound(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < 5000; i++)
		bench_act(b, "act", i);
	assert_int_equal(bench_status(b).waiting, 4096);
	assert_int_equal(bench_status(b).dropped, 5000 - 4096);
	bench_expect_told(b, 0, ERR_LIMIT);
	bench_expect_told(b, 5000 - 4097, ERR_LIMIT);
	assert_false(bench_is_told(b, 5000 - 4096));
	bench_up(b);
	assert_int_equal(b->n, 4096);
	for (size_t i = 0; i < b->n; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), 5000 - 4096 + i);
}

static void test_acts_go_before_states(void **state)
{
	struct bench *b = *state;
	char address[24];

	bench_state(b, "first", 0);
	for (size_t i = 1; i <= 10; i++)
		bench_act(b, "act", i);
	for (size_t i = 11; i < 4096 + 5; i++) {
		snprintf(address, sizeof(address), "s%zu", i);
		bench_state(b, address, i);
	}
	assert_int_equal(bench_status(b).dropped, 5);
	for (size_t i = 1; i <= 5; i++)
		bench_expect_told(b, i, ERR_LIMIT);
	assert_false(bench_is_told(b, 0));
	for (size_t i = 5000; i < 5006; i++) {
		snprintf(address, sizeof(address), "s%zu", i);
		bench_state(b, address, i);
	}
	bench_expect_told(b, 10, ERR_LIMIT);
	bench_expect_told(b, 0, ERR_LIMIT); /* no act was left */
	assert_int_equal(bench_status(b).waiting, 4096);
}

static void test_large_texts_are_few(void **state)
{
	struct bench *b = *state;
	char *text = malloc(1 << 20);

	assert_non_null(text);
	memset(text, 'x', (1 << 20) - 1);
	text[(1 << 20) - 1] = '\0';
	const struct outbox_item item = {.address = "a", .text = text};

	for (int i = 0; i < 40; i++)
		assert_int_equal(outbox_put(b->o, &item, NULL), 0);
	assert_int_equal(bench_status(b).waiting, 16);
	assert_int_equal(bench_status(b).dropped, 24);
	free(text);
}

static void test_no_room(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	b->room = 2;
	for (size_t i = 1; i <= 4; i++)
		bench_act(b, "a", i);
	bench_expect(b, "a=1 a=2");
	b->room = 1;
	outbox_ready(b->o, OUTBOX_EVENTS);
	bench_expect(b, "a=1 a=2 a=3");
	b->room = 10;
	bench_act(b, "a", 5); /* not before it says so */
	bench_expect(b, "a=1 a=2 a=3");
	bench_answer(b); /* an answer makes room */
	bench_expect(b, "a=1 a=2 a=3 a=4 a=5");
}

static void test_refused(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	b->refuse = ERR_INVAL;
	bench_act(b, "a", 1);
	bench_all(b, "a", 2);
	bench_expect_told(b, 1, ERR_INVAL);
	bench_expect_told(b, 2, ERR_INVAL);
	b->refuse = 0;
	bench_act(b, "a", 3);
	bench_expect(b, "a=3");
	outbox_sent(b->o, b->log[0].token, ERR_LIMIT); /* it can never arrive */
	bench_expect_told(b, 3, ERR_LIMIT);
	outbox_sent(b->o, b->log[0].token, 0); /* twice: unknown */
	outbox_sent(b->o, 4711, 0);
	assert_int_equal(bench_status(b).waiting, 0);
}

static void test_lost_is_sent_again(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	for (size_t i = 1; i <= 4; i++)
		bench_act(b, "a", i);
	outbox_sent(b->o, b->log[0].token, ERR_AGAIN);
	outbox_sent(b->o, b->log[1].token, ERR_AGAIN);
	outbox_sent(b->o, b->log[2].token, 0);
	outbox_sent(b->o, b->log[3].token, ERR_AGAIN);
	bench_act(b, "a", 5);
	assert_int_equal(b->n, 4); /* nothing overtakes what comes back */
	bench_until(b, b->n >= 8); /* it need not say that it is ready */
	bench_expect_of(b, 4, "a=1 a=2 a=4 a=5");
	bench_answer(b);
	for (size_t i = 1; i <= 5; i++)
		bench_expect_told(b, i, 0);
}

static void test_link_is_lost(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	bench_act(b, "a", 1);
	bench_state(b, "s", 2);
	bench_act(b, "a", 3);
	bench_state(b, "s", 4);
	bench_state(b, "t", 5);
	outbox_sent(b->o, b->log[0].token, 0);
	bench_down(b);
	bench_state(b, "t", 6);
	size_t before = b->n;

	outbox_sent(b->o, b->log[2].token, 0); /* of before: nobody knows it any more */
	bench_up(b);
	bench_expect_of(b, before, "a=3 s=4 t=6");
	bench_answer(b);
	for (size_t i = 1; i <= 6; i++)
		bench_expect_told(b, i, 0);
}

static void test_closed_address(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	outbox_open(b->o, OUTBOX_EVENTS, "shut", false);
	bench_act(b, "shut", 1);
	bench_latest(b, "shut", 2);
	bench_act(b, "other", 3);
	bench_latest(b, "shut", 4);
	bench_expect(b, "other=3");
	outbox_open(b->o, OUTBOX_EVENTS, "shut", true);
	bench_expect(b, "other=3 shut=1 shut=4");
	outbox_open(b->o, OUTBOX_EVENTS, "shut", true); /* twice is nothing */
	outbox_open(b->o, OUTBOX_EVENTS, "unknown", true);
	bench_answer(b);
	assert_int_equal(bench_status(b).waiting, 0);
}

static void test_closed_goes_to_the_disk(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	outbox_open(b->o, OUTBOX_EVENTS, "shut", false);
	bench_latest(b, "shut", 1);
	bench_all(b, "shut", 2);
	bench_until(b, bench_is_told(b, 1) && bench_is_told(b, 2));
	bench_expect_told(b, 1, 0);
	bench_expect_told(b, 2, 0);
	assert_int_equal(bench_status(b).disk_items, 2);
	bench_all(b, "open", 3);
	bench_expect(b, "open=3");
	bench_all(b, "shut", 4); /* behind 2 */
	bench_until(b, bench_is_told(b, 4));
	outbox_open(b->o, OUTBOX_EVENTS, "shut", true);
	bench_until(b, b->n == 4);
	bench_expect(b, "open=3 shut=1 shut=2 shut=4");
	bench_answer(b);
	assert_int_equal(bench_status(b).waiting, 0);
}

static void test_drop(void **state)
{
	struct bench *b = *state;

	bench_all(b, "a", 1);
	bench_act(b, "a", 2);
	bench_latest(b, "a", 3);
	bench_all(b, "b", 4);
	bench_until(b, bench_is_told(b, 4));
	bench_all(b, "a", 5); /* its transaction is open */
	outbox_drop(b->o, OUTBOX_EVENTS, "a");
	outbox_drop(b->o, OUTBOX_EVENTS, "never heard of");
	bench_expect_told(b, 2, ERR_NOENT);
	bench_expect_told(b, 5, ERR_NOENT);
	assert_int_equal(bench_status(b).waiting, 1);
	bench_up(b);
	bench_expect(b, "b=4");
	bench_all(b, "a", 6); /* nothing is before it any more */
	bench_expect(b, "b=4 a=6");
	bench_answer(b);
	bench_restart(b);
	bench_up(b);
	bench_expect(b, "");
}

static void test_drop_what_is_under_way(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	bench_all(b, "a", 1);
	outbox_drop(b->o, OUTBOX_EVENTS, "a");
	bench_down(b);
	bench_expect_told(b, 1, ERR_NOENT);
	bench_up(b);
	bench_expect(b, "a=1"); /* once */
}

/* Whoever hears may say more. */
static void say_more(void *arg, int rc)
{
	struct bench *b = arg;

	assert_int_equal(rc, 0);
	bench_act(b, "more", b->n);
}

static void test_put_from_done(void **state)
{
	struct bench *b = *state;
	const struct outbox_item item = {.address = "a", .text = "0", .done = say_more, .arg = b};

	bench_up(b);
	assert_int_equal(outbox_put(b->o, &item, NULL), 0);
	assert_int_equal(outbox_put(b->o, &item, NULL), 0);
	bench_answer(b);
	bench_expect(b, "a=0 a=0 more=2 more=3");
}

/* Nobody is forgotten because very many wait for one state. */
static void test_many_hearers(void **state)
{
	struct bench *b = *state;
	size_t early = 0;

	for (size_t i = 0; i < 1000; i++)
		bench_state(b, "s", i);
	for (size_t i = 0; i < 1000; i++)
		early += bench_is_told(b, i);
	assert_true(early > 900); /* they do not pile up */
	bench_up(b);
	bench_expect(b, "s=999");
	bench_answer(b);
	for (size_t i = 0; i < 1000; i++)
		bench_expect_told(b, i, i < early ? ERR_LIMIT : 0);
}

/* Without `store` in its configuration a device keeps nothing on the disk. */
static void test_keeps_nothing(void **state)
{
	struct bench *b = *state;

	json_decref(b->conf);
	b->conf = NULL;
	bench_restart(b);
	bench_all(b, "a", 1);
	bench_latest(b, "b", 2);
	bench_all(b, "a", 3);
	bench_turns(b, 100);
	assert_false(bench_is_told(b, 1));
	assert_int_equal(bench_status(b).disk_items, 0);
	bench_up(b);
	bench_expect(b, "a=1 b=2 a=3");
	bench_answer(b);
	bench_expect_told(b, 3, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in_order, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_sinks_are_apart, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_away, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_bound, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_acts_go_before_states, bench_setup,
						bench_teardown),
		cmocka_unit_test_setup_teardown(test_large_texts_are_few, bench_setup,
						bench_teardown),
		cmocka_unit_test_setup_teardown(test_no_room, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_refused, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_lost_is_sent_again, bench_setup,
						bench_teardown),
		cmocka_unit_test_setup_teardown(test_link_is_lost, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_closed_address, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_closed_goes_to_the_disk, bench_setup,
						bench_teardown),
		cmocka_unit_test_setup_teardown(test_drop, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_drop_what_is_under_way, bench_setup,
						bench_teardown),
		cmocka_unit_test_setup_teardown(test_put_from_done, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_many_hearers, bench_setup, bench_teardown),
		cmocka_unit_test_setup_teardown(test_keeps_nothing, bench_setup, bench_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
