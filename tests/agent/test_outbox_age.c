/* test_outbox_age.c - how old a row is: the time that went by, whatever is done to the clock of the
 * wall, in one process, over a restart, and over a start of the machine. */
#include "tests/agent/outbox_bench.h"

#include "tests/agent/bad_disk.h"
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_AGE_S 3600
#define SET_S     1800000000 /* January 2027 */
#define YEAR_S    31536000

/* ---- the machine ---- */

static int64_t wall_s, up_s, awake_s; /* beside the true ones */
static char boot[37];

int clock_gettime(clockid_t id, struct timespec *ts)
{
	struct timespec true_up;
	int rc = (int)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &true_up);

	*ts = true_up;
	if (id == CLOCK_REALTIME)
		ts->tv_sec += wall_s;
	else if (id == CLOCK_BOOTTIME)
		ts->tv_sec += up_s;
	else if (id == CLOCK_MONOTONIC)
		ts->tv_sec += awake_s;
	else
		return (int)syscall(SYS_clock_gettime, id, ts);
	return rc;
}

FILE *fopen(const char *path, const char *mode)
{
	static FILE *(*real)(const char *, const char *);

	if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		return fmemopen(boot, strlen(boot), "r");
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "fopen");
	return real(path, mode);
}

static int64_t true_up_s(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* The wall's clock shows this from now on. */
static void set_wall(int64_t s)
{
	wall_s = s - true_up_s();
}

static int64_t wall_now(void)
{
	return wall_s + true_up_s();
}

/* It is awake, as all machines are most of the time. */
static void pass(int64_t s)
{
	wall_s += s;
	up_s += s;
	awake_s += s;
}

/* Started this long ago. */
static void boot_machine(const char *id, int64_t up)
{
	snprintf(boot, sizeof(boot), "%s", id);
	up_s = up - true_up_s();
}

/* ---- what is kept ---- */

static int setup(void **state)
{
	struct bench *b = bench_new();

	bad_disk_begin();
	set_wall(SET_S);
	boot_machine("boot 1", 5000);
	bench_conf(b, 1 << 20, MAX_AGE_S, 1e6);
	*state = b;
	return 0;
}

static void put(struct bench *b, size_t number)
{
	bench_all(b, "a", number);
	bench_until(b, bench_is_told(b, number));
}

/* It is off, and on again: the store is what it was. */
static void reboot(struct bench *b, const char *id, int64_t wall)
{
	bench_close(b);
	boot_machine(id, 60);
	set_wall(wall);
	bench_open(b);
}

/* What is too old goes within a second or two. ret: how many are left. */
static size_t left(struct bench *b)
{
	pass(2);
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_turn(b->loop, 0), 0);
	return bench_status(b).waiting;
}

static void goes_in_time(struct bench *b, int64_t s)
{
	assert_int_equal(left(b), 1);
	pass(s - 60);
	assert_int_equal(left(b), 1);
	pass(60);
	assert_int_equal(left(b), 0);
}

/* ---- tests ---- */

/* A gateway without a battery learns what time it is, or somebody puts it right. */
static void steps_of_the_wall_age_nothing(void **state)
{
	static const int64_t steps[] = {SET_S + 10 * YEAR_S, SET_S - 10 * YEAR_S, 5, SET_S};
	struct bench *b = *state;

	bench_open(b);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		put(b, i);
		pass(600);
		set_wall(steps[i]);
		goes_in_time(b, MAX_AGE_S - 600);
	}
}

static void sleep_counts(void **state)
{
	struct bench *b = *state;

	bench_open(b);
	put(b, 1);
	wall_s += MAX_AGE_S + 1;
	up_s += MAX_AGE_S + 1;
	assert_int_equal(left(b), 0);
}

static void a_restart_counts_by_the_same_clock(void **state)
{
	static const int64_t steps[] = {SET_S + 10 * YEAR_S, SET_S - 10 * YEAR_S, 5};
	struct bench *b = *state;

	set_wall(5);
	bench_open(b);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		put(b, i);
		bench_close(b);
		pass(600);
		set_wall(steps[i]);
		bench_open(b);
		goes_in_time(b, MAX_AGE_S - 600);
	}
}

static void time_switched_off_counts(void **state)
{
	struct bench *b = *state;

	bench_open(b);
	put(b, 1);
	reboot(b, "boot 2", wall_now() + 1800);
	goes_in_time(b, MAX_AGE_S - 1800);
	put(b, 2);
	reboot(b, "boot 3", wall_now() + MAX_AGE_S + 10);
	assert_int_equal(left(b), 0);
}

/* Nor does it count twice. */
static void time_before_the_agent_started_counts(void **state)
{
	struct bench *b = *state;

	bench_open(b);
	put(b, 1);
	bench_close(b);
	boot_machine("boot 2", 1000);
	set_wall(wall_now() + 1800);
	bench_open(b);
	goes_in_time(b, MAX_AGE_S - 1800);
}

static void what_was_put_when_no_time_was_known_is_not_aged_by_the_wall(void **state)
{
	struct bench *b = *state;

	set_wall(5);
	bench_open(b);
	put(b, 1);
	reboot(b, "boot 2", SET_S);
	goes_in_time(b, MAX_AGE_S - 60); /* but it was on for a minute */
}

static void off_for_an_unknown_time_is_not_at_all(void **state)
{
	struct bench *b = *state;

	bench_open(b);
	put(b, 1);
	reboot(b, "boot 2", 5);
	pass(600);
	assert_int_equal(left(b), 1);
	set_wall(SET_S + YEAR_S);
	goes_in_time(b, MAX_AGE_S - 660);
}

/* The clock was wrong; that it is right when the machine starts again is no time that went by. */
static void a_step_before_the_machine_starts_again(void **state)
{
	struct bench *b = *state;

	set_wall(SET_S - YEAR_S);
	bench_open(b);
	put(b, 1);
	set_wall(SET_S);
	assert_int_equal(left(b), 1); /* a second, and nothing is written meanwhile */
	reboot(b, "boot 2", SET_S + 100);
	goes_in_time(b, MAX_AGE_S - 100);
}

/* Starting again and again makes nothing live for ever, without a time. */
static void what_it_was_on_adds_up(void **state)
{
	struct bench *b = *state;
	char id[37];

	set_wall(5);
	bench_open(b);
	put(b, 1);
	for (int i = 0; i < 3; i++) {
		pass(1000);
		assert_int_equal(left(b), 1);
		bench_until(b, bench_status(b).disk_items == 1 && ({
				       bench_turns(b, 50); /* what is noted is on the disk */
				       true;
			       }));
		snprintf(id, sizeof(id), "boot %d", i + 2);
		reboot(b, id, 5);
	}
	pass(1000);
	assert_int_equal(left(b), 0);
}

static void a_machine_that_does_not_say_which_start_it_was(void **state)
{
	struct bench *b = *state;

	boot_machine("", 5000);
	bench_open(b);
	put(b, 1);
	for (int i = 0; i < 3; i++) {
		bench_close(b);
		pass(600);
		bench_open(b);
		assert_int_equal(left(b), 1);
	}
	goes_in_time(b, MAX_AGE_S - 1800);
}

/* What the disk refused is noted when it takes something again. */
static void a_disk_that_refuses_at_first(void **state)
{
	struct bench *b = *state;

	set_wall(5);
	bench_open(b);
	bad_disk_write = ENOSPC;
	put(b, 1);
	assert_true(b->told[1].rc < 0);
	bad_disk_recover();
	pass(2);
	put(b, 2);
	bench_expect_told(b, 2, 0);
	reboot(b, "boot 2", SET_S);
	goes_in_time(b, MAX_AGE_S - 60);
}

/* Of a version that counted by the wall's clock. */
static void rows_of_before(void **state)
{
	struct bench *b = *state;

	bench_open(b);
	put(b, 1);
	assert_int_equal(store_begin(b->store, NULL), 0);
	assert_int_equal(store_drop_states(b->store, "clock:", NULL), 0);
	reboot(b, "boot 2", SET_S + 600);
	goes_in_time(b, MAX_AGE_S - 600);
	/* they do not wait for a year that is long in coming */
	put(b, 2);
	assert_int_equal(store_begin(b->store, NULL), 0);
	assert_int_equal(store_drop_states(b->store, "clock:", NULL), 0);
	reboot(b, "boot 3", 5);
	goes_in_time(b, MAX_AGE_S);
}

static void people_see_when_it_was(void **state)
{
	struct bench *b = *state;

	set_wall(5);
	bench_open(b);
	put(b, 1);
	pass(600);
	set_wall(SET_S);
	assert_in_range(bench_status(b).oldest_us, (SET_S - 605) * 1000000LL,
			(SET_S - 600 + 10) * 1000000LL);
}

static int teardown(void **state)
{
	int rc = bench_teardown(state);

	bad_disk_end();
	return rc;
}

#define AGE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		AGE_TEST(steps_of_the_wall_age_nothing),
		AGE_TEST(sleep_counts),
		AGE_TEST(a_restart_counts_by_the_same_clock),
		AGE_TEST(time_switched_off_counts),
		AGE_TEST(time_before_the_agent_started_counts),
		AGE_TEST(what_was_put_when_no_time_was_known_is_not_aged_by_the_wall),
		AGE_TEST(off_for_an_unknown_time_is_not_at_all),
		AGE_TEST(a_step_before_the_machine_starts_again),
		AGE_TEST(what_it_was_on_adds_up),
		AGE_TEST(a_machine_that_does_not_say_which_start_it_was),
		AGE_TEST(a_disk_that_refuses_at_first),
		AGE_TEST(rows_of_before),
		AGE_TEST(people_see_when_it_was),
	};

	return cmocka_run_group_tests_name("outbox_age", tests, NULL, NULL);
}
