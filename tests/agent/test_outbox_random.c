/* test_outbox_random.c - whatever happens to an outbox, in any order: nothing is lost or told
 * twice, nothing that has arrived comes again, each address keeps its order, and the counters are
 * what is on the disk.
 */
#include "tests/agent/outbox_bench.h"

#include "tests/agent/bad_disk.h"
#include "tests/agent/quick_time.h"

#define SEEDS     400 /* or as OUTBOX_SEEDS says */
#define BAD_EVERY 2   /* one of so many has a disk that refuses now and then */
#define STEPS     400
#define ADDRESSES 6 /* two of each policy */

struct random_world {
	struct bench *b;
	unsigned random;
	size_t number;              /* of the next item */
	size_t last_put[ADDRESSES]; /* number; 0: none */
	size_t last_arrived[ADDRESSES];
	uint8_t *address_of; /* by number */
	bool *arrived;
	size_t *dropped; /* what is sent from there on was dropped before; SIZE_MAX: it was not */
	size_t cap;
	bool up, bad;
};

static const char *const names[ADDRESSES] = {"none0",   "none1", "latest2",
					     "latest3", "all4",  "all5"};

static unsigned chance(struct random_world *w, unsigned n)
{
	return (unsigned)rand_r(&w->random) % n;
}

static enum outbox_sink sink_of(unsigned at)
{
	return at % 2 ? OUTBOX_VALUES : OUTBOX_EVENTS;
}

static void put(struct random_world *w)
{
	unsigned at = chance(w, ADDRESSES);
	enum outbox_keep keep = (enum outbox_keep)(at / 2);

	if (w->number >= w->cap) {
		w->cap = 2 * w->cap + 64;
		w->address_of = reallocarray(w->address_of, w->cap, sizeof(*w->address_of));
		w->arrived = reallocarray(w->arrived, w->cap, sizeof(*w->arrived));
		w->dropped = reallocarray(w->dropped, w->cap, sizeof(*w->dropped));
		assert_true(w->address_of != NULL && w->arrived != NULL && w->dropped != NULL);
	}
	w->address_of[w->number] = (uint8_t)at;
	w->arrived[w->number] = false;
	w->dropped[w->number] = SIZE_MAX;
	w->last_put[at] = w->number;
	bench_put(w->b, sink_of(at), names[at], w->number++, keep, keep != KEEP_ALL && at % 4 != 0);
}

static void check_arrival(struct random_world *w, const struct sent *s)
{
	size_t number = strtoul(s->text, NULL, 10);
	unsigned at;

	assert_true(number > 0 && number < w->number);
	at = w->address_of[number];
	assert_string_equal(s->address, names[at]);
	assert_int_equal(s->sink, sink_of(at));
	if (w->arrived[number])
		fail_msg("%zu of %s has arrived before", number, names[at]);
	if ((size_t)(s - w->b->log) >= w->dropped[number])
		fail_msg("%zu of %s is sent though it was dropped", number, names[at]);
	if (number < w->last_arrived[at])
		fail_msg("%zu of %s comes after %zu", number, names[at], w->last_arrived[at]);
	w->arrived[number] = true;
	w->last_arrived[at] = number;
}

/* Some answers, in order, as a broker's. */
static void answer(struct random_world *w, unsigned n)
{
	struct bench *b = w->b;

	for (; n > 0 && b->looked < b->n; n--) {
		const struct sent *s = &b->log[b->looked++];
		uint64_t token = s->token;

		if (s->answered)
			continue;
		check_arrival(w, s);
		outbox_sent(b->o, token, 0); /* more is sent: the log moves */
	}
}

/* One sink loses all that is under way, one after the other. */
static void lose(struct random_world *w, enum outbox_sink sink)
{
	struct bench *b = w->b;
	size_t n = b->n;

	for (size_t i = b->looked; i < n; i++) {
		if (b->log[i].sink != sink || b->log[i].answered)
			continue;
		b->log[i].answered = true;
		outbox_sent(b->o, b->log[i].token, ERR_AGAIN);
	}
}

static void up(struct random_world *w, bool is_up)
{
	struct bench *b = w->b;

	w->up = is_up;
	if (!is_up)
		b->looked = b->n;
	outbox_up(b->o, OUTBOX_EVENTS, is_up);
	outbox_up(b->o, OUTBOX_VALUES, is_up);
}

static void drop(struct random_world *w)
{
	unsigned at = chance(w, ADDRESSES);

	for (size_t i = 1; i < w->number; i++)
		if (w->address_of[i] == at && w->dropped[i] == SIZE_MAX)
			w->dropped[i] = w->b->n;
	outbox_drop(w->b->o, sink_of(at), names[at]);
}

static void some_turns(struct random_world *w)
{
	for (unsigned n = chance(w, 5); n > 0; n--)
		assert_int_equal(loop_turn(w->b->loop, (int)chance(w, 3)), 0);
}

/* The process ends in good order: nobody hears any more of what was on its way. */
static void restart(struct random_world *w)
{
	struct bench *b = w->b;

	for (size_t i = 1; i < w->number; i++) {
		if (b->told[i].times == 0)
			b->told[i] = (struct told){.times = 1, .rc = 1};
		/* the log begins anew */
		if (w->address_of[i] / 2 == KEEP_NONE || w->dropped[i] != SIZE_MAX)
			w->dropped[i] = 0;
	}
	bench_restart(b);
	w->up = false;
}

static void step(struct random_world *w)
{
	unsigned what = chance(w, 100);

	if (what < 40)
		put(w);
	else if (what < 60)
		answer(w, chance(w, 10));
	else if (what < 75)
		some_turns(w);
	else if (what < 82)
		up(w, !w->up);
	else if (what < 86)
		outbox_open(w->b->o, sink_of(chance(w, 2)), names[chance(w, ADDRESSES)],
			    chance(w, 2));
	else if (what < 90)
		w->b->room = chance(w, 5);
	else if (what < 95)
		w->b->room = SIZE_MAX, outbox_ready(w->b->o, sink_of(chance(w, 2)));
	else if (what < 97)
		lose(w, sink_of(chance(w, 2)));
	else if (what < 98)
		drop(w);
	else if (w->bad && what < 98 + chance(w, 2))
		bad_disk_write = bad_disk_write != 0 ? 0 : ENOSPC;
	else if (what < 99)
		store_commit(w->b->store);
	else if (!w->bad && chance(w, 4) == 0) /* deletions that failed would be lost */
		restart(w);
}

static int on_counts(void *arg, const struct db_value *v, size_t n)
{
	int64_t *counts = arg;

	(void)n;
	counts[0] = v[0].num;
	counts[1] = v[1].type == DB_INT ? v[1].num : 0;
	return 0;
}

/* All is open, the sinks take everything: what comes of it. */
static void settle(struct random_world *w)
{
	struct bench *b = w->b;
	int64_t counts[2];

	b->room = SIZE_MAX;
	bad_disk_recover();
	for (unsigned i = 0; i < ADDRESSES; i++)
		for (int sink = 0; sink < OUTBOX_SINKS; sink++)
			outbox_open(b->o, (enum outbox_sink)sink, names[i], true);
	up(w, true);
	bench_until(b, ({
			    answer(w, UINT_MAX);
			    bench_status(b).waiting == 0;
		    }));
	assert_int_equal(bench_status(b).disk_bytes, 0);
	if (!w->bad)
		assert_int_equal(bench_status(b).failed, 0);
	bench_until(b, db_run(store_db(b->store), NULL, on_counts, counts,
			      "SELECT count(*), sum(size) FROM outbox") == 0 &&
			       counts[0] == 0);
	bench_turns(b, 1000); /* a transaction that is open still ends, and is told */
	for (size_t i = 1; i < w->number; i++) {
		unsigned at = w->address_of[i];
		bool is_state = at / 2 != KEEP_ALL && at % 4 != 0;

		if (b->told[i].times != 1)
			fail_msg("%zu of %s was told %u times", i, names[at], b->told[i].times);
		if (w->dropped[i] != SIZE_MAX || w->arrived[i] || b->told[i].rc < 0)
			continue;
		if (!is_state && at / 2 != KEEP_LATEST)
			fail_msg("%zu of %s is lost", i, names[at]);
		if (i == w->last_put[at])
			fail_msg("the latest of %s, %zu, is lost", names[at], i);
	}
}

/* The counters are what is on the disk, once deletions are done. */
static void check_counters(struct random_world *w)
{
	struct bench *b = w->b;
	int64_t counts[2] = {0};

	bad_disk_recover();
	bench_until(b, ({ /* deletions take their time */
			  struct outbox_status s = bench_status(b);

			  assert_int_equal(db_run(store_db(b->store), NULL, on_counts, counts,
						  "SELECT count(*), sum(size) FROM outbox"),
					   0);
			  counts[0] == (int64_t)s.disk_items &&counts[1] == (int64_t)s.disk_bytes;
		    }));
}

static unsigned seed_now;

static void live(unsigned seed)
{
	struct random_world w = {
		.b = bench_new(), .random = seed, .number = 1, .bad = seed % BAD_EVERY == 0};

	bench_conf(w.b, 64 << 20, 3600, seed % 3 ? 1e6 : 2000);
	bench_open(w.b);
	for (int i = 0; i < STEPS; i++)
		step(&w);
	if (seed % 10 < 2) {
		w.b->room = 0;
		check_counters(&w);
	}
	settle(&w);
	bench_free(w.b);
	free(w.address_of);
	free(w.arrived);
	free(w.dropped);
}

static void test_random(void **state)
{
	const char *many = getenv("OUTBOX_SEEDS"), *one = getenv("OUTBOX_SEED");
	unsigned last = many != NULL ? (unsigned)strtoul(many, NULL, 10) : SEEDS;

	(void)state;
	seed_now = 1;
	if (one != NULL)
		seed_now = last = (unsigned)strtoul(one, NULL, 10);
	assert_in_range(seed_now, 1, last);
	bad_disk_begin();
	for (; seed_now <= last; seed_now++)
		live(seed_now);
	bad_disk_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (failed != 0)
		printf("OUTBOX_SEED=%u is the one that failed\n", seed_now);
	return failed;
}
