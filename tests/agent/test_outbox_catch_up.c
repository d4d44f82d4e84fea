/* test_outbox_catch_up.c - a backlog goes out as fast as it may, behind what is new; large ones;
 * many outboxes in one process.
 */
#include "tests/agent/outbox_bench.h"
#include <inttypes.h>
#include <malloc.h>

#define RATE 200

static void fill(struct bench *b, const char *address, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		bench_all(b, address, from + i);
	bench_until(b, bench_is_told(b, from + n - 1));
}

static size_t sent_to(struct bench *b, const char *address)
{
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++)
		n += strcmp(b->log[i].address, address) == 0;
	return n;
}

/* What is new does not wait, whatever the backlog. */
static void test_new_first(void **state)
{
	struct bench *b = *state;

	bench_conf(b, 64 << 20, 3600, RATE);
	bench_restart(b);
	fill(b, "old", 0, 1000);
	bench_latest(b, "state", 1000);
	bench_until(b, bench_is_told(b, 1000));
	bench_up(b);
	for (size_t i = 1001; i < 1100; i++) {
		size_t before = b->n;

		bench_act(b, "new", i);
		assert_string_equal(b->log[b->n - 1].address, "new");
		assert_int_equal(b->n, before + 1);
		bench_all(b, "other", i); /* it has no backlog of its own */
		assert_string_equal(b->log[b->n - 1].address, "other");
		bench_answer(b);
		bench_turns(b, 2);
	}
	assert_int_equal(sent_to(b, "state"), 1);
	assert_true(sent_to(b, "old") > 0); /* nor does the backlog stand still */
	assert_true(sent_to(b, "old") < 1000);
}

/* In each tick the backlog shrinks by its share at most, however much comes behind it. */
static void test_rate(void **state)
{
	struct bench *b = *state;
	size_t number = 600;

	bench_conf(b, 64 << 20, 3600, RATE);
	bench_restart(b);
	fill(b, "a", 0, number);
	bench_turns(b, 1);
	bench_up(b);
	int64_t began = bench_ms();

	while (bench_status(b).waiting > 100) {
		bench_turns(b, 10);
		bench_all(b, "a", number++); /* behind it */
		bench_answer(b);
		int64_t ms = bench_ms() - began;
		int64_t shrunk = 600 - (int64_t)bench_status(b).waiting;

		/* a tenth of a second is saved up at most; and the clock of a turn is its begin */
		assert_true(shrunk <= RATE * (ms + 20) / 1000 + RATE / 10 + 1);
		if (ms > PATIENCE_MS)
			fail_msg("%" PRId64 " in %" PRId64 " ms", shrunk, ms);
	}
	for (size_t i = 0; i < b->n; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), i);
}

/* A thousand readings a second while it is caught up, as after a minute without the broker: the
 * backlog comes to its end, and nothing is lost or out of order. */
static void test_busy_address(void **state)
{
	struct bench *b = *state;
	size_t number = 3000;

	bench_conf(b, 64 << 20, 3600, 2000);
	bench_restart(b);
	fill(b, "a", 0, number);
	bench_up(b);
	while (bench_status(b).disk_items > 0 || b->n < number) {
		for (int i = 0; i < 10; i++)
			bench_all(b, "a", number++);
		bench_turns(b, 10);
		bench_answer(b);
		assert_true(number < 30000); /* it would never end */
	}
	bench_answer(b);
	assert_int_equal(b->n, number);
	for (size_t i = 0; i < b->n; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), i);
	bench_all(b, "a", number); /* all is as if nothing had been: at once */
	assert_int_equal(b->n, number + 1);
}

/* The latest of very many addresses: not all in one turn of the loop. */
static void test_many_states(void **state)
{
	struct bench *b = *state;
	char address[24];
	size_t turns = 0;

	for (size_t i = 0; i < 5000; i++) {
		snprintf(address, sizeof(address), "s%zu", i);
		bench_latest(b, address, i);
	}
	bench_until(b, bench_is_told(b, 4999));
	bench_up(b);
	while (b->n < 5000) {
		size_t before = b->n;

		assert_int_equal(loop_turn(b->loop, 100), 0);
		assert_true(b->n - before <= 600);
		assert_true(++turns < 10000);
		bench_answer(b);
	}
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), i);
}

/* A sink that takes little at a time. */
static void test_no_room(void **state)
{
	struct bench *b = *state;

	fill(b, "a", 0, 500);
	b->room = 7;
	bench_up(b);
	while (b->n < 500) {
		size_t before = b->n;

		bench_until(b, b->n > before || b->room == 0);
		bench_answer(b);
		b->room = 7;
		outbox_ready(b->o, OUTBOX_EVENTS);
	}
	bench_answer(b);
	assert_int_equal(b->n, 500);
	for (size_t i = 0; i < 500; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), i);
}

/* The link comes and goes in mid-backlog, and nothing is answered in between. */
static void test_flapping(void **state)
{
	struct bench *b = *state;
	unsigned random = 1;
	size_t number = 300, arrived = 0;

	bench_conf(b, 64 << 20, 3600, 5000);
	bench_restart(b);
	fill(b, "a", 0, number);
	for (int round = 0; round < 200; round++) {
		bench_up(b);
		bench_all(b, "a", number++);
		bench_turns(b, rand_r(&random) % 10);
		for (int n = rand_r(&random) % 20; n > 0 && b->looked < b->n; n--) {
			/* in order, each once: what was not answered comes again */
			assert_int_equal(strtoul(b->log[b->looked].text, NULL, 10), arrived);
			arrived++;
			outbox_sent(b->o, b->log[b->looked++].token, 0);
		}
		bench_down(b);
		b->looked = b->n;
	}
	bench_up(b);
	bench_until(b, ({
			    for (; b->looked < b->n; b->looked++, arrived++) {
				    assert_int_equal(strtoul(b->log[b->looked].text, NULL, 10),
						     arrived);
				    outbox_sent(b->o, b->log[b->looked].token, 0);
			    }
			    bench_status(b).waiting == 0;
		    }));
	assert_int_equal(arrived, number);
	for (size_t i = 0; i < number; i++)
		bench_expect_told(b, i, 0);
}

/* A minute of a thousand readings a second. */
static void test_large(void **state)
{
	struct bench *b = *state;
	const size_t n = 60000;
	char body[200];
	size_t max = 0, number = 0;

	memset(body, 'x', sizeof(body));
	int64_t began = bench_ms();
	size_t before = mallinfo2().uordblks;

	for (size_t i = 0; i < n; i++) {
		snprintf(body, sizeof(body), "%zu", i);
		body[strlen(body)] = ' ';
		body[sizeof(body) - 1] = '\0';
		const struct outbox_item item = {
			.address = i % 2 ? "odd" : "even", .text = body, .keep = KEEP_ALL};

		assert_int_equal(outbox_put(b->o, &item, NULL), 0);
		if (i % 20 == 0) {
			assert_int_equal(loop_turn(b->loop, 0), 0);
			size_t now = mallinfo2().uordblks;

			max = now > before + max ? now - before : max;
		}
	}
	bench_until(b, bench_status(b).disk_items == n && store_commit(b->store) == 0);
	printf("%zu kept in %" PRId64 " ms, %" PRIu64 " bytes, at most %zu bytes of memory\n", n,
	       bench_ms() - began, bench_status(b).disk_bytes, max);
	assert_true(max < 12 << 20); /* with what SQLite keeps in memory */
	began = bench_ms();
	bench_restart(b);
	printf("opened again in %" PRId64 " ms\n", bench_ms() - began);
	began = bench_ms();
	bench_up(b);
	bench_until(b, ({
			    bench_answer(b);
			    bench_status(b).waiting == 0;
		    }));
	printf("sent in %" PRId64 " ms\n", bench_ms() - began);
	assert_int_equal(b->n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), number++);
}

static void test_thousand_outboxes(void **state)
{
	struct bench *b = *state;
	static struct outbox *all[1000];
	const struct outbox_item item = {.address = "a", .text = "1", .keep = KEEP_ALL};
	char name[40];
	size_t before = mallinfo2().uordblks;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		snprintf(name, sizeof(name), "modbus_master/plc%zu", i);
		assert_int_equal(
			outbox_new(b->loop, b->store, NULL, name, b->conf, &bench_ops, b, &all[i], NULL),
			0);
	}
	size_t each = (mallinfo2().uordblks - before) / ARRAY_LEN(all);

	printf("%zu bytes for each that is idle\n", each);
	assert_true(each <= 2048);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		assert_int_equal(outbox_put(all[i], &item, NULL), 0);
	assert_int_equal(store_commit(b->store), 0);
	bench_turns(b, 10);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		outbox_up(all[i], OUTBOX_EVENTS, true);
	bench_until(b, b->n == ARRAY_LEN(all));
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		all[i] = outbox_free(all[i]);
}

#define CATCH_UP_TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CATCH_UP_TEST(test_new_first),    CATCH_UP_TEST(test_rate),
		CATCH_UP_TEST(test_busy_address), CATCH_UP_TEST(test_many_states),
		CATCH_UP_TEST(test_no_room),      CATCH_UP_TEST(test_flapping),
		CATCH_UP_TEST(test_large),        CATCH_UP_TEST(test_thousand_outboxes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
