#include "common/loop.h"
#include "common/util.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	int pair[2][2]; /* two socket pairs; [i][0] is watched */
	struct loop_src *src[2];
	unsigned calls[2];
	bool remove_self, remove_other;
	char log[4096];
};

static void note(struct fixture *f, const char *what)
{
	size_t at = strlen(f->log);
	snprintf(f->log + at, sizeof(f->log) - at, "%s ", what);
}

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));
	struct err err = {0};
	assert_int_equal(loop_new(&f->loop, &err), 0);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->pair[i]),
				 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	assert_null(loop_free(f->loop));
	for (size_t i = 0; i < 2; i++) {
		closep(&f->pair[i][0]);
		closep(&f->pair[i][1]);
	}
	test_free(f);
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- descriptors ---- */

static void on_pair(struct fixture *f, size_t i)
{
	char c;
	f->calls[i]++;
	assert_int_equal(read(f->pair[i][0], &c, 1), 1);
	if (f->remove_self)
		f->src[i] = loop_remove(f->loop, f->src[i]);
	if (f->remove_other)
		f->src[1 - i] = loop_remove(f->loop, f->src[1 - i]);
}

static void on_first(void *arg, uint32_t events)
{
	assert_true(events & EPOLLIN);
	on_pair(arg, 0);
}

static void on_second(void *arg, uint32_t events)
{
	assert_true(events & EPOLLIN);
	on_pair(arg, 1);
}

static void watch_both(struct fixture *f)
{
	assert_int_equal(
		loop_add_fd(f->loop, f->pair[0][0], EPOLLIN, on_first, f, &f->src[0], NULL), 0);
	assert_int_equal(
		loop_add_fd(f->loop, f->pair[1][0], EPOLLIN, on_second, f, &f->src[1], NULL), 0);
}

static void poke(struct fixture *f, size_t i)
{
	assert_int_equal(write(f->pair[i][1], "xx", 2), 2);
}

static void a_readable_descriptor_calls_its_source(void **state)
{
	struct fixture *f = *state;
	watch_both(f);
	loop_turn(f->loop, 0);
	assert_int_equal(f->calls[0] + f->calls[1], 0);
	poke(f, 0);
	loop_turn(f->loop, 1000);
	assert_int_equal(f->calls[0], 1);
	loop_turn(f->loop, 1000); /* one byte is left: level-triggered */
	assert_int_equal(f->calls[0], 2);
	assert_int_equal(f->calls[1], 0);
}

static void a_source_may_remove_itself(void **state)
{
	struct fixture *f = *state;
	watch_both(f);
	f->remove_self = true;
	poke(f, 0);
	loop_turn(f->loop, 1000);
	loop_turn(f->loop, 0);
	assert_int_equal(f->calls[0], 1);
	assert_null(f->src[0]);
	assert_null(loop_remove(f->loop, NULL));
}

static void a_source_removed_in_the_same_turn_is_not_called(void **state)
{
	struct fixture *f = *state;
	watch_both(f);
	f->remove_other = true;
	poke(f, 0);
	poke(f, 1);
	loop_turn(f->loop, 1000);
	assert_int_equal(f->calls[0] + f->calls[1], 1);
	loop_turn(f->loop, 0);
	assert_int_equal(f->calls[0] + f->calls[1], 2); /* the winner's second byte */
}

static void a_descriptor_may_be_watched_anew_in_its_callback(void **state)
{
	struct fixture *f = *state;
	watch_both(f);
	f->remove_self = f->remove_other = true;
	poke(f, 0);
	loop_turn(f->loop, 1000);
	assert_null(f->src[0]);
	assert_null(f->src[1]);
	f->remove_self = f->remove_other = false;
	watch_both(f);
	loop_turn(f->loop, 1000);
	assert_int_equal(f->calls[0], 2);
}

static void on_writable(void *arg, uint32_t events)
{
	struct fixture *f = arg;
	f->calls[0]++;
	if (events & EPOLLOUT)
		note(f, "out");
	if (events & EPOLLHUP)
		note(f, "hup");
}

static void events_can_be_changed(void **state)
{
	struct fixture *f = *state;
	struct loop_src *src;
	assert_int_equal(loop_add_fd(f->loop, f->pair[0][0], EPOLLIN, on_writable, f, &src, NULL),
			 0);
	loop_turn(f->loop, 0);
	assert_int_equal(f->calls[0], 0);
	assert_int_equal(loop_set_events(f->loop, src, EPOLLIN | EPOLLOUT), 0);
	loop_turn(f->loop, 1000);
	assert_string_equal(f->log, "out ");
	assert_int_equal(loop_set_events(f->loop, src, 0), 0);
	loop_turn(f->loop, 0);
	assert_int_equal(f->calls[0], 1);
	closep(&f->pair[0][1]);
	loop_turn(f->loop, 1000);
	assert_string_equal(f->log, "out hup ");
}

static void a_bad_descriptor_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	struct loop_src *src = NULL;
	assert_true(loop_add_fd(f->loop, 9999, EPOLLIN, on_first, f, &src, &err) < 0);
	assert_true(err.text[0] != '\0');
	assert_null(src);
}

/* ---- timers ---- */

struct timed {
	struct fixture *f;
	struct loop_src *src;
	int64_t earliest_ms, latest_ms; /* the clock moves while a timer is added */
	unsigned calls, *fired;
	int64_t *last_ms;
};

static void on_ordered(void *arg)
{
	struct timed *t = arg;
	t->calls++;
	(*t->fired)++;
	assert_true(loop_now_ms(t->f->loop) >= t->earliest_ms);
	assert_true(t->latest_ms >= *t->last_ms);
	if (t->earliest_ms > *t->last_ms)
		*t->last_ms = t->earliest_ms;
}

static void a_hundred_thousand_timers_fire_in_order(void **state)
{
	struct fixture *f = *state;
	size_t n = 100000;
	unsigned fired = 0;
	int64_t last_ms = 0;
	uint32_t seed = 1;
	struct timed *all = test_calloc(n, sizeof(*all));
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		int64_t in_ms = seed >> 8 & 511;
		all[i] = (struct timed){.f = f, .fired = &fired, .last_ms = &last_ms};
		all[i].earliest_ms = now_ms() + in_ms;
		assert_int_equal(
			loop_add_timer(f->loop, in_ms, 0, on_ordered, &all[i], &all[i].src, NULL),
			0);
		all[i].latest_ms = now_ms() + in_ms;
	}
	unsigned removed = 0;
	for (size_t i = 0; i < n; i += 3, removed++)
		all[i].src = loop_remove(f->loop, all[i].src);
	for (int64_t end = now_ms() + 20000; fired < n - removed && now_ms() < end;)
		loop_turn(f->loop, 100);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(all[i].calls, i % 3 == 0 ? 0 : 1);
	test_free(all);
}

static void on_a(void *arg)
{
	note(arg, "a");
}

static void on_b(void *arg)
{
	note(arg, "b");
}

static void on_c(void *arg)
{
	note(arg, "c");
}

static void equal_times_fire_in_the_order_of_arming(void **state)
{
	struct fixture *f = *state;
	struct loop_src *a, *b, *c;
	loop_add_timer(f->loop, -1, 0, on_a, f, &a, NULL);
	loop_add_timer(f->loop, -1, 0, on_b, f, &b, NULL);
	loop_add_timer(f->loop, -1, 0, on_c, f, &c, NULL);
	loop_arm(f->loop, c, 0);
	loop_arm(f->loop, a, 0);
	loop_arm(f->loop, b, 0);
	loop_arm(f->loop, c, 0); /* armed again: last */
	for (int64_t end = now_ms() + 50; now_ms() < end;)
		loop_turn(f->loop, 5);
	assert_string_equal(f->log, "a b c ");
}

static void a_timer_can_be_disarmed_and_armed_again(void **state)
{
	struct fixture *f = *state;
	struct loop_src *a;
	loop_add_timer(f->loop, 0, 0, on_a, f, &a, NULL);
	loop_arm(f->loop, a, -1);
	loop_arm(f->loop, a, -1);
	loop_turn(f->loop, 5);
	assert_string_equal(f->log, "");
	loop_arm(f->loop, a, 60000);
	loop_arm(f->loop, a, 1);
	int64_t begin = now_ms();
	loop_turn(f->loop, 1000); /* sleeps no longer than the timer says */
	assert_true(now_ms() - begin < 500);
	assert_string_equal(f->log, "a ");
}

static void rearm(void *arg)
{
	struct timed *t = arg;
	t->calls++;
	loop_arm(t->f->loop, t->src, 0);
}

static void a_timer_armed_in_its_callback_waits_for_the_next_turn(void **state)
{
	struct fixture *f = *state;
	struct timed t = {.f = f};
	loop_add_timer(f->loop, 0, 0, rearm, &t, &t.src, NULL);
	for (unsigned i = 1; i <= 5; i++) {
		loop_turn(f->loop, 100);
		assert_int_equal(t.calls, i);
	}
}

static void remove_timer(void *arg)
{
	struct timed *t = arg;
	t->calls++;
	t->src = loop_remove(t->f->loop, t->src);
}

static void a_periodic_timer_repeats_until_removed(void **state)
{
	struct fixture *f = *state;
	struct loop_src *a;
	loop_add_timer(f->loop, 1, 1, on_a, f, &a, NULL);
	for (int64_t end = now_ms() + 5000; strlen(f->log) < 20 && now_ms() < end;)
		loop_turn(f->loop, 100);
	assert_true(strlen(f->log) >= 20);
	loop_remove(f->loop, a);
	size_t len = strlen(f->log);
	struct timed t = {.f = f};
	loop_add_timer(f->loop, 0, 5, remove_timer, &t, &t.src, NULL);
	for (int64_t end = now_ms() + 30; now_ms() < end;)
		loop_turn(f->loop, 5);
	assert_int_equal(strlen(f->log), len);
	assert_int_equal(t.calls, 1);
}

/* ---- the end of a turn ---- */

static void post_c(void *arg)
{
	struct fixture *f = arg;
	if (f->calls[0]++ == 0)
		assert_int_equal(loop_post(f->loop, on_c, f), 0);
	note(f, "hook");
}

static void the_hook_runs_after_everything_else_of_a_turn(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(loop_add_turn(f->loop, post_c, f, NULL), 0);
	loop_add_timer(f->loop, 0, 0, on_a, f, NULL, NULL);
	assert_int_equal(loop_post(f->loop, on_b, f), 0);
	loop_turn(f->loop, 1000);
	assert_string_equal(f->log, "a b hook ");
	int64_t begin = now_ms();
	loop_turn(f->loop, 5000); /* what the hook posted starts the next turn at once */
	assert_true(now_ms() - begin < 1000);
	assert_string_equal(f->log, "a b hook c hook ");
}

static void there_is_room_for_eight_hooks(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	for (int i = 0; i < 8; i++)
		assert_int_equal(loop_add_turn(f->loop, on_a, f, &err), 0);
	assert_int_equal(loop_add_turn(f->loop, on_a, f, &err), ERR_LIMIT);
	loop_turn(f->loop, 0);
	assert_string_equal(f->log, "a a a a a a a a ");
}

/* ---- posts ---- */

#define POSTS 20000

struct poster {
	struct loop *loop;
	pthread_t thread;
	unsigned next_sent, next_run;
};

struct parcel {
	struct poster *from;
	unsigned number;
};

static void on_parcel(void *arg)
{
	struct parcel *p = arg;
	assert_int_equal(p->number, p->from->next_run);
	p->from->next_run++;
	free(p);
}

static void *post_many(void *arg)
{
	struct poster *p = arg;
	for (unsigned i = 0; i < POSTS; i++) {
		struct parcel *parcel = malloc(sizeof(*parcel));
		*parcel = (struct parcel){.from = p, .number = i};
		loop_post(p->loop, on_parcel, parcel);
	}
	return NULL;
}

static void posts_of_threads_arrive_once_and_in_order(void **state)
{
	struct fixture *f = *state;
	struct poster posters[4] = {0};
	for (size_t i = 0; i < ARRAY_LEN(posters); i++) {
		posters[i].loop = f->loop;
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]),
				 0);
	}
	unsigned total = 0;
	for (int64_t end = now_ms() + 20000;
	     total < POSTS * ARRAY_LEN(posters) && now_ms() < end;) {
		loop_turn(f->loop, 1000);
		total = 0;
		for (size_t i = 0; i < ARRAY_LEN(posters); i++)
			total += posters[i].next_run;
	}
	for (size_t i = 0; i < ARRAY_LEN(posters); i++) {
		pthread_join(posters[i].thread, NULL);
		assert_int_equal(posters[i].next_run, POSTS);
	}
}

static void post_again(void *arg)
{
	struct fixture *f = arg;
	if (f->calls[0]++ < 3)
		loop_post(f->loop, post_again, f);
}

static void a_post_made_by_a_post_runs_in_the_next_turn(void **state)
{
	struct fixture *f = *state;
	loop_post(f->loop, post_again, f);
	for (unsigned i = 1; i <= 4; i++) {
		loop_turn(f->loop, 1000);
		assert_int_equal(f->calls[0], i);
	}
	loop_turn(f->loop, 0);
	assert_int_equal(f->calls[0], 4);
}

static void *post_quietly(void *arg)
{
	struct fixture *f = arg;
	usleep(20000); /* let the loop go to sleep first; right either way */
	loop_post(f->loop, on_a, f);
	return NULL;
}

static void a_post_wakes_a_sleeping_loop(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	int64_t begin = now_ms();
	assert_int_equal(pthread_create(&thread, NULL, post_quietly, f), 0);
	loop_turn(f->loop, 10000);
	assert_true(now_ms() - begin < 5000);
	pthread_join(thread, NULL);
	assert_string_equal(f->log, "a ");
}

/* ---- signals and the whole ---- */

static void signals_arrive_as_events(void **state)
{
	struct fixture *f = *state;
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	assert_int_equal(loop_add_signal(f->loop, SIGUSR1, on_a, f, NULL), 0);
	assert_int_equal(loop_add_signal(f->loop, SIGUSR2, on_b, f, NULL), 0);
	loop_turn(f->loop, 0);
	assert_string_equal(f->log, "");
	raise(SIGUSR2);
	loop_turn(f->loop, 1000);
	raise(SIGUSR1);
	loop_turn(f->loop, 1000);
	assert_string_equal(f->log, "b a ");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void quit_with_seven(void *arg)
{
	struct fixture *f = arg;
	loop_quit(f->loop, 7);
}

static void run_ends_with_the_code_of_quit(void **state)
{
	struct fixture *f = *state;
	loop_add_timer(f->loop, 1, 0, quit_with_seven, f, NULL, NULL);
	assert_int_equal(loop_run(f->loop), 7);
	loop_post(f->loop, quit_with_seven, f);
	assert_int_equal(loop_run(f->loop), 7);
}

static void a_loop_can_be_freed_with_everything_in_it(void **state)
{
	struct fixture *f = *state;
	watch_both(f);
	loop_add_timer(f->loop, 1000, 1000, on_a, f, NULL, NULL);
	loop_add_timer(f->loop, -1, 0, on_a, f, NULL, NULL);
	loop_add_turn(f->loop, on_a, f, NULL);
	loop_post(f->loop, on_a, f);
	assert_null(loop_free(NULL));
	/* teardown frees it; the sanitizers watch */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_readable_descriptor_calls_its_source),
		T(a_source_may_remove_itself),
		T(a_source_removed_in_the_same_turn_is_not_called),
		T(a_descriptor_may_be_watched_anew_in_its_callback),
		T(events_can_be_changed),
		T(a_bad_descriptor_is_an_error),
		T(a_hundred_thousand_timers_fire_in_order),
		T(equal_times_fire_in_the_order_of_arming),
		T(a_timer_can_be_disarmed_and_armed_again),
		T(a_timer_armed_in_its_callback_waits_for_the_next_turn),
		T(a_periodic_timer_repeats_until_removed),
		T(the_hook_runs_after_everything_else_of_a_turn),
		T(there_is_room_for_eight_hooks),
		T(posts_of_threads_arrive_once_and_in_order),
		T(a_post_made_by_a_post_runs_in_the_next_turn),
		T(a_post_wakes_a_sleeping_loop),
		T(signals_arrive_as_events),
		T(run_ends_with_the_code_of_quit),
		T(a_loop_can_be_freed_with_everything_in_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
