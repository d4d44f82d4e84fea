/* test_outbox_disk.c - what is kept on the disk: order over restarts, the latest, quota, age, room
 * given back, a disk that refuses. */
#include "tests/agent/outbox_bench.h"

#include "tests/agent/bad_disk.h"
#include "tests/agent/quick_time.h"

static int on_number(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(int64_t *)arg = v[0].num;
	return 0;
}

static int64_t ask(struct bench *b, const char *sql)
{
	int64_t n = 0;

	if (db_run(store_db(b->store), &b->err, on_number, &n, sql) < 0)
		fail_msg("%s", b->err.text);
	return n;
}

static int setup_failing(void **state)
{
	bad_disk_begin();
	return bench_setup(state);
}

static int teardown_failing(void **state)
{
	bad_disk_recover();
	int rc = bench_teardown(state);

	bad_disk_end();
	return rc;
}

/* ---- tests ---- */

static void test_away(void **state)
{
	struct bench *b = *state;

	bench_all(b, "a", 1);
	bench_all(b, "b", 2);
	bench_latest(b, "l", 3);
	bench_all(b, "a", 4);
	assert_false(bench_is_told(b, 1)); /* not yet on the disk */
	bench_until(b, bench_is_told(b, 4));
	for (size_t i = 1; i <= 4; i++)
		bench_expect_told(b, i, 0);
	assert_int_equal(bench_status(b).waiting, 4);
	assert_int_equal(bench_status(b).disk_items, 4);
	assert_true(bench_status(b).disk_bytes > 0);
	assert_true(bench_status(b).oldest_us > 0);
	bench_up(b);
	bench_until(b, b->n == 4);
	bench_expect(b, "l=3 a=1 b=2 a=4"); /* states first */
	bench_answer(b);
	assert_int_equal(bench_status(b).waiting, 0);
	assert_int_equal(bench_status(b).disk_bytes, 0);
	bench_until(b, ask(b, "SELECT count(*) FROM outbox") == 0);
	for (size_t i = 1; i <= 4; i++)
		bench_expect_told(b, i, 0); /* once */
}

static void test_unanswered_for_a_second(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	bench_turns(b, 1);
	int64_t began = bench_ms();

	bench_all(b, "a", 1);
	bench_latest(b, "l", 2);
	bench_act(b, "act", 3);

	bench_until(b, bench_is_told(b, 1) && bench_is_told(b, 2));
	assert_true(bench_ms() - began >= 500); /* not at once */
	bench_expect_told(b, 1, 0);
	bench_expect_told(b, 2, 0);
	assert_int_equal(bench_status(b).disk_items, 2);
	assert_int_equal(bench_status(b).waiting, 3);
	bench_answer(b);
	bench_expect_told(b, 1, 0);
	bench_expect_told(b, 3, 0);
	assert_int_equal(bench_status(b).waiting, 0);
	bench_restart(b);
	bench_up(b);
	bench_expect(b, "");
}

/* The link goes while the row of what is under way waits for its commit, and after. */
static void test_link_lost_while_it_is_written(void **state)
{
	struct bench *b = *state;

	bench_up(b);
	bench_all(b, "a", 1);
	bench_latest(b, "l", 2);
	bench_until(b, bench_status(b).disk_items == 2);
	assert_int_equal(bench_status(b).waiting, 2);
	bench_down(b);
	bench_latest(b, "l", 3);
	bench_all(b, "a", 4);
	bench_until(b, bench_is_told(b, 4));
	for (size_t i = 1; i <= 4; i++)
		bench_expect_told(b, i, 0);
	size_t before = b->n;

	bench_up(b);
	bench_until(b, b->n == before + 3);
	bench_expect_of(b, before, "l=3 a=1 a=4");
	bench_answer(b);
	assert_int_equal(bench_status(b).waiting, 0);
}

static void test_latest_in_place(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < 1000; i++) {
		bench_latest(b, i % 2 ? "odd" : "even", i);
		if (i % 100 == 0)
			bench_until(b, bench_is_told(b, i));
	}
	bench_until(b, bench_is_told(b, 998) && bench_is_told(b, 999));
	for (size_t i = 0; i < 1000; i++)
		bench_expect_told(b, i, 0);
	assert_int_equal(bench_status(b).disk_items, 2);
	assert_int_equal(ask(b, "SELECT count(*) FROM outbox"), 2);
	bench_restart(b);
	bench_up(b);
	bench_expect(b, "even=998 odd=999");
}

/* What a newer state is to take the place of stays until the newer one has arrived. */
static void test_newer_state(void **state)
{
	struct bench *b = *state;

	bench_latest(b, "s", 1);
	bench_until(b, bench_is_told(b, 1));
	b->room = 0;
	bench_up(b); /* it takes nothing yet */
	bench_latest(b, "s", 2);
	b->room = 10;
	outbox_ready(b->o, OUTBOX_EVENTS);
	bench_until(b, b->n == 1); /* it is in its place on the disk, and comes from there */
	bench_expect(b, "s=2");
	bench_expect_told(b, 2, 0);
	assert_int_equal(bench_status(b).disk_items, 1);
	bench_answer(b);
	assert_int_equal(bench_status(b).disk_items, 0);
	bench_latest(b, "s", 3); /* 2 might come back after a crash until it is deleted for good */
	bench_until(b, b->n == 2);
	bench_expect(b, "s=2 s=3");
	assert_int_equal(bench_status(b).disk_items, 0);
	assert_int_equal(ask(b, "SELECT count(*) FROM outbox"), 0);
	bench_answer(b);
	bench_latest(b, "s", 4);
	bench_expect(b, "s=2 s=3 s=4"); /* all is as if nothing had been */
	bench_answer(b);
	bench_restart(b);
	bench_up(b);
	bench_expect(b, "");
}

/* A state that is lost on its way hears that a newer one is on the disk. */
static void test_newer_state_on_disk(void **state)
{
	struct bench *b = *state;

	bench_latest(b, "l", 1);
	bench_until(b, bench_is_told(b, 1));
	bench_up(b);
	bench_until(b, b->n == 1);
	bench_latest(b, "l", 2);
	assert_int_equal(store_commit(b->store), 0);
	/* before that is told: it waits in memory, and is sent from there */
	bench_latest(b, "l", 3);
	bench_until(b, b->n == 2);
	bench_latest(b, "l", 4);
	bench_until(b, b->n == 3);
	bench_expect(b, "l=1 l=3 l=4");
	bench_expect_told(b, 4, 0);
	for (size_t i = 0; i < 3; i++)
		outbox_sent(b->o, b->log[i].token, ERR_AGAIN);
	bench_expect_told(b, 3, 0);
	bench_until(b, b->n == 4);
	bench_expect_of(b, 3, "l=4");
}

static void test_restart(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < 300; i++)
		bench_all(b, i % 3 ? "a" : "b", i);
	bench_restart(b); /* what has not been committed is */
	assert_int_equal(bench_status(b).disk_items, 300);
	assert_true(bench_status(b).oldest_us > 0);
	bench_all(b, "a", 300); /* behind them */
	bench_all(b, "new", 301);
	bench_up(b);
	bench_all(b, "fresh", 302); /* it has no backlog */
	bench_until(b, b->n == 303);
	bench_answer(b);
	size_t last[2] = {0, 0};

	for (size_t i = 0; i < b->n; i++) {
		size_t number = strtoul(b->log[i].text, NULL, 10);
		bool is_a = strcmp(b->log[i].address, "a") == 0;

		if (!is_a && strcmp(b->log[i].address, "b") != 0)
			continue;
		assert_true(number >= last[is_a]);
		last[is_a] = number;
	}
	assert_int_equal(last[1], 300);
	assert_int_equal(last[0], 297);
}

static void test_restart_in_mid_backlog(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < 100; i++)
		bench_all(b, "a", i);
	bench_until(b, bench_is_told(b, 99));
	b->room = 40;
	bench_up(b);
	bench_until(b, b->n == 40);
	for (size_t i = 0; i < 30; i++)
		outbox_sent(b->o, b->log[i].token, 0);
	b->room = 0;
	bench_restart(b);
	assert_int_equal(bench_status(b).disk_items, 70);
	bench_up(b);
	bench_until(b, b->n == 70);
	for (size_t i = 0; i < 70; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), 30 + i);
}

/* What is under way, and what waits, at the end of the process. */
static void test_end_keeps(void **state)
{
	struct bench *b = *state;

	b->room = 3;
	bench_up(b);
	bench_all(b, "a", 1);
	bench_act(b, "act", 2);
	bench_latest(b, "l", 3);
	bench_latest(b, "l", 4);
	bench_all(b, "a", 5);
	bench_state(b, "s", 6);
	bench_restart(b);
	assert_false(bench_is_told(b, 1)); /* nobody is there to hear */
	bench_up(b);
	bench_until(b, b->n == 3);
	bench_expect(b, "l=4 a=1 a=5");
}

static void test_reload(void **state)
{
	struct bench *b = *state;

	/* a reload of one device: the store and the other devices stay */
	bench_all(b, "a", 1);
	b->o = outbox_free(b->o);
	assert_int_equal(
		outbox_new(b->loop, b->store, NULL, DEVICE, b->conf, &bench_ops, b, &b->o, NULL),
		0);
	bench_all(b, "a", 2);
	bench_up(b);
	bench_until(b, b->n == 2);
	bench_expect(b, "a=1 a=2");
}

static void test_devices_are_apart(void **state)
{
	struct bench *b = *state;
	struct outbox *other;

	assert_int_equal(
		outbox_new(b->loop, b->store, NULL, "ping/x", b->conf, &bench_ops, b, &other, NULL),
		0);
	bench_all(b, "a", 1);
	const struct outbox_item item = {.address = "b", .text = "9", .keep = KEEP_ALL};

	assert_int_equal(outbox_put(other, &item, NULL), 0);
	bench_until(b, bench_is_told(b, 1));
	other = outbox_free(other);
	assert_int_equal(ask(b, "SELECT count(*) FROM outbox"), 2);
	assert_int_equal(outbox_purge(b->store, "ping/x", NULL), 0);
	bench_restart(b);
	assert_int_equal(ask(b, "SELECT count(*) FROM outbox"), 1);
	bench_up(b);
	bench_until(b, b->n == 1);
	bench_expect(b, "a=1");
}

struct other_put {
	struct bench *b;
	struct outbox *other;
	int64_t seen; /* rows on the disk when the second was done */
};

static void second_done(void *arg, int rc)
{
	struct other_put *p = arg;
	struct db *db;

	assert_int_equal(rc, 0);
	assert_int_equal(db_open_sqlite_look(p->b->path, &db, NULL), 0);
	assert_int_equal(db_run(db, NULL, on_number, &p->seen, "SELECT count(*) FROM outbox"), 0);
	db_close(db);
}

static void put_in_other(void *arg, int rc)
{
	struct other_put *p = arg;
	const struct outbox_item item = {
		.address = "b", .text = "2", .keep = KEEP_ALL, .done = second_done, .arg = p};

	assert_int_equal(rc, 0);
	assert_int_equal(outbox_put(p->other, &item, NULL), 0);
}

/* What is put when one commit is told is of the next one, also where that is told of the first
 * later. */
static void test_told_of_its_own_commit(void **state)
{
	struct bench *b = *state;
	struct other_put p = {.b = b};
	const struct outbox_item first = {
		.address = "a", .text = "1", .keep = KEEP_ALL, .done = put_in_other, .arg = &p};
	const struct outbox_item plain = {.address = "b", .text = "1", .keep = KEEP_ALL};

	assert_int_equal(outbox_new(b->loop, b->store, NULL, "ping/x", b->conf, &bench_ops, b,
				    &p.other, NULL),
			 0);
	assert_int_equal(outbox_put(b->o, &first, NULL), 0);
	assert_int_equal(outbox_put(p.other, &plain, NULL), 0);
	bench_until(b, p.seen != 0);
	assert_int_equal(p.seen, 3);
	p.other = outbox_free(p.other);
}

static void test_quota(void **state)
{
	struct bench *b = *state;

	bench_conf(b, 8192, 3600, 1e6);
	bench_restart(b);
	bench_latest(b, "state", 0);
	for (size_t i = 1; i < 1000; i++)
		bench_all(b, i % 2 ? "odd" : "even", i);
	bench_put(b, OUTBOX_VALUES, "v", 1000, KEEP_ALL, false);
	bench_until(b, bench_is_told(b, 1000));
	struct outbox_status s = bench_status(b);

	assert_true(s.disk_bytes <= 8192 && s.disk_bytes > 8192 - 100);
	assert_int_equal(s.disk_items + s.dropped, 1001);
	assert_int_equal(s.failed, 0);
	assert_int_equal(ask(b, "SELECT sum(size) FROM outbox"), (int64_t)s.disk_bytes);
	bench_expect_told(b, 1, ERR_LIMIT); /* gone before it was on the disk */
	bench_expect_told(b, 999, 0);
	outbox_up(b->o, OUTBOX_VALUES, true);
	bench_up(b);
	bench_until(b, b->n == s.disk_items);
	/* the oldest went: what is left has no hole; the state stayed */
	assert_string_equal(b->log[0].text, "1000");
	assert_string_equal(b->log[1].text, "0");
	for (size_t i = 2; i < b->n; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), 1000 - (b->n - i));
	bench_answer(b);
	assert_int_equal(bench_status(b).disk_bytes, 0);
}

static void test_larger_than_quota(void **state)
{
	struct bench *b = *state;
	char text[5000];

	bench_conf(b, 4096, 3600, 1e6);
	bench_restart(b);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	const struct outbox_item item = {.address = "a", .text = text, .keep = KEEP_ALL};

	assert_int_equal(outbox_put(b->o, &item, NULL), 0);
	assert_int_equal(bench_status(b).dropped, 1);
	assert_int_equal(bench_status(b).waiting, 0);
	bench_all(b, "a", 1);
	bench_until(b, bench_is_told(b, 1));
	bench_expect_told(b, 1, 0);
}

static void test_states_fill_the_quota(void **state)
{
	struct bench *b = *state;
	char address[24];

	bench_conf(b, 4096, 3600, 1e6);
	bench_restart(b);
	for (size_t i = 0; i < 200; i++) {
		snprintf(address, sizeof(address), "s%zu", i);
		bench_latest(b, address, i);
	}
	bench_until(b, bench_is_told(b, 199));
	assert_true(bench_status(b).dropped > 100);
	assert_true(bench_status(b).disk_bytes <= 4096);
	bench_up(b);
	assert_int_equal(b->n + bench_status(b).dropped, 200);
	assert_string_equal(b->log[b->n - 1].text, "199");
}

static void test_age(void **state)
{
	struct bench *b = *state;

	bench_conf(b, 1 << 20, 0.5, 1e6);
	bench_restart(b);
	for (size_t i = 0; i < 300; i++)
		bench_all(b, "a", i);
	bench_latest(b, "l", 300);
	bench_until(b, bench_is_told(b, 300));
	bench_until(b, bench_status(b).expired == 301);
	assert_int_equal(bench_status(b).waiting, 0);
	assert_int_equal(bench_status(b).oldest_us, 0);
	bench_up(b);
	bench_expect(b, "");
	bench_all(b, "a", 301);
	bench_expect(b, "a=301");
	bench_until(b, ask(b, "SELECT count(*) FROM outbox") == 0);
}

/* What was put before the process began is as old as it is. */
static void test_age_over_restart(void **state)
{
	struct bench *b = *state;

	bench_conf(b, 1 << 20, 3600, 1e6);
	bench_restart(b);
	bench_all(b, "a", 1);
	bench_all(b, "a", 2);
	bench_until(b, bench_is_told(b, 2));
	assert_int_equal(
		db_script(store_db(b->store),
			  "UPDATE outbox SET put_us = put_us - 3601000000 WHERE body = '1'", NULL),
		0);
	bench_restart(b);
	bench_until(b, bench_status(b).expired == 1);
	bench_up(b);
	bench_until(b, b->n == 1);
	bench_expect(b, "a=2");
}

static void test_disk_full(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < 50; i++)
		bench_all(b, "a", i);
	bench_latest(b, "l", 50);
	bench_until(b, bench_is_told(b, 50));
	bad_disk_write = ENOSPC;
	for (size_t i = 51; i < 100; i++)
		bench_all(b, "a", i);
	bench_latest(b, "l", 100);
	bench_until(b, bench_is_told(b, 100));
	assert_true(bad_disk_refused > 0);
	for (size_t i = 51; i <= 100; i++) {
		assert_int_equal(b->told[i].times, 1);
		assert_true(b->told[i].rc < 0);
	}
	assert_int_equal(bench_status(b).failed, 50);
	assert_int_equal(bench_status(b).disk_items, 51); /* what was on the disk stays */
	bad_disk_write = 0;
	bench_until(b, ({
			    static size_t next = 101; /* it recovers by itself */
			    size_t i = next++;

			    bench_all(b, "a", i);
			    bench_turns(b, 50);
			    bench_is_told(b, 101) && b->told[101].rc == 0;
		    }));
	bench_up(b);
	bench_until(b, ({
			    bench_answer(b);
			    bench_status(b).waiting == 0;
		    }));
	assert_string_equal(b->log[0].text, "50"); /* the state that was kept */
	for (size_t i = 1; i < b->n; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), i <= 50 ? i - 1 : i + 50);
}

/* A moment without room loses nothing. */
static void test_disk_full_for_a_moment(void **state)
{
	struct bench *b = *state;

	bench_all(b, "a", 1);
	bench_until(b, bench_is_told(b, 1));
	bad_disk_write = ENOSPC;
	bench_all(b, "a", 2);
	bench_latest(b, "l", 3);
	bench_until(b, bad_disk_refused > 0);
	bench_all(b, "a", 4);
	bench_latest(b, "l", 5);
	bench_turns(b, 100);
	bad_disk_write = 0;
	bench_until(b, bench_is_told(b, 4) && bench_is_told(b, 5));
	for (size_t i = 1; i <= 5; i++)
		bench_expect_told(b, i, 0);
	assert_int_equal(bench_status(b).failed, 0);
	assert_int_equal(bench_status(b).disk_items, 4);
	bench_restart(b);
	assert_int_equal(bench_status(b).disk_items, 4);
	bench_up(b);
	bench_until(b, b->n == 4);
	bench_expect(b, "l=5 a=1 a=2 a=4");
}

/* The sink is back before the disk is: what is in memory need not go there. */
static void test_sink_before_disk(void **state)
{
	struct bench *b = *state;

	bad_disk_write = ENOSPC;
	bench_all(b, "a", 1);
	bench_latest(b, "l", 2);
	bench_all(b, "a", 3);
	bench_until(b, bad_disk_refused > 0);
	bench_up(b);
	bench_all(b, "a", 4);
	bench_until(b, b->n == 4);
	bench_answer(b);
	for (size_t i = 1; i <= 4; i++)
		bench_expect_told(b, i, 0);
	size_t last = 0;

	for (size_t i = 0; i < b->n; i++) {
		size_t number = strtoul(b->log[i].text, NULL, 10);

		if (strcmp(b->log[i].address, "a") != 0)
			continue;
		assert_true(number > last);
		last = number;
	}
	assert_int_equal(last, 4);
	assert_int_equal(bench_status(b).failed, 0);
}

static void test_sync_fails(void **state)
{
	struct bench *b = *state;

	bad_disk_sync = EIO;
	bench_all(b, "a", 1);
	bench_until(b, bench_is_told(b, 1));
	assert_true(b->told[1].rc < 0); /* it is not sure to be on the disk */
	bad_disk_sync = 0;
	bench_turns(b, 1100);
	bench_all(b, "a", 2);
	bench_until(b, bench_is_told(b, 2));
	bench_expect_told(b, 2, 0);
}

/* What is dropped after a transaction was rolled back, and before that is told, is dropped: the
 * rows that it had replaced show again by then, and those that it had made do not. */
static void test_drop_after_rollback(void **state)
{
	struct bench *b = *state;

	bench_latest(b, "l", 1);
	bench_all(b, "a", 2);
	bench_until(b, bench_is_told(b, 2));
	bad_disk_write = ENOSPC;
	bench_latest(b, "l", 3);
	bench_all(b, "a", 4);
	assert_true(store_commit(b->store) < 0);
	outbox_drop(b->o, OUTBOX_EVENTS, "l");
	outbox_drop(b->o, OUTBOX_EVENTS, "a");
	bench_expect_told(b, 3, ERR_NOENT);
	bench_expect_told(b, 4, ERR_NOENT);
	assert_int_equal(bench_status(b).disk_items, 0);
	assert_int_equal(bench_status(b).disk_bytes, 0);
	bad_disk_write = 0;
	bench_until(b, ask(b, "SELECT count(*) FROM outbox") == 0);
	assert_int_equal(bench_status(b).waiting, 0);
	bench_up(b);
	bench_latest(b, "l", 5);
	bench_until(b, b->n == 1);
	bench_answer(b);
	bench_expect(b, "l=5");
	assert_int_equal(bench_status(b).waiting, 0);
}

/* Deletions that fail are done later, and nothing is sent twice meanwhile. */
static void test_deleting_fails(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < 200; i++)
		bench_all(b, "a", i);
	bench_until(b, bench_is_told(b, 199));
	bad_disk_write = ENOSPC;
	b->room = 100;
	bench_up(b);
	bench_until(b, b->n == 100);
	bench_answer(b);
	bad_disk_refused = 0;
	bench_until(b, bad_disk_refused > 0);
	bench_down(b);
	b->room = SIZE_MAX;
	bench_up(b);
	bench_until(b, ({
			    bench_answer(b);
			    bench_status(b).waiting == 0;
		    }));
	assert_int_equal(b->n, 200);
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(strtoul(b->log[i].text, NULL, 10), i);
	bad_disk_write = 0;
	bench_until(b, ask(b, "SELECT count(*) FROM outbox") == 0);
}

/* The file is small again when all has been sent. */
static void test_gives_room_back(void **state)
{
	struct bench *b = *state;
	char text[512];
	struct stat st;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	const struct outbox_item item = {.address = "a", .text = text, .keep = KEEP_ALL};

	for (int i = 0; i < 8000; i++)
		assert_int_equal(outbox_put(b->o, &item, NULL), 0);
	assert_int_equal(store_commit(b->store), 0);
	assert_int_equal(db_script(store_db(b->store), "PRAGMA wal_checkpoint(TRUNCATE)", NULL), 0);
	assert_int_equal(stat(b->path, &st), 0);
	assert_true(st.st_size > 4000000);
	bench_up(b);
	bench_until(b, ({
			    bench_answer(b);
			    bench_status(b).waiting == 0;
		    }));
	bench_until(b, stat(b->path, &st) == 0 && st.st_size < 2000000);
}

#define DISK_TEST(name)    cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
#define FAILING_TEST(name) cmocka_unit_test_setup_teardown(name, setup_failing, teardown_failing)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_away),
		DISK_TEST(test_unanswered_for_a_second),
		DISK_TEST(test_link_lost_while_it_is_written),
		DISK_TEST(test_latest_in_place),
		DISK_TEST(test_newer_state),
		DISK_TEST(test_newer_state_on_disk),
		DISK_TEST(test_restart),
		DISK_TEST(test_restart_in_mid_backlog),
		DISK_TEST(test_end_keeps),
		DISK_TEST(test_reload),
		DISK_TEST(test_devices_are_apart),
		DISK_TEST(test_told_of_its_own_commit),
		DISK_TEST(test_quota),
		DISK_TEST(test_larger_than_quota),
		DISK_TEST(test_states_fill_the_quota),
		DISK_TEST(test_age),
		DISK_TEST(test_age_over_restart),
		DISK_TEST(test_gives_room_back),
		FAILING_TEST(test_disk_full),
		FAILING_TEST(test_disk_full_for_a_moment),
		FAILING_TEST(test_sink_before_disk),
		FAILING_TEST(test_sync_fails),
		FAILING_TEST(test_drop_after_rollback),
		FAILING_TEST(test_deleting_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
