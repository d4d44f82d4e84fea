/* Names that are looked up, with a getaddrinfo() of the test's own that answers when it may. */
#include "common/lookup.h"
#include "common/util.h"
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PATIENCE_MS 20000
#define MANY        (LOOKUP_THREADS_MAX + 100)

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;           /* answers are given */
	unsigned busy, most; /* calls that have not returned */
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* In place of libc's. A name that begins with "no" has no address. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		struct addrinfo **ret)
{
	static const struct sockaddr_in address = {.sin_family = AF_INET};
	bool is_name = strchr(host, '.') == NULL;

	(void)service;
	if (hints->ai_flags & AI_NUMERICHOST && is_name)
		return EAI_NONAME;
	if (is_name) {
		pthread_mutex_lock(&resolver.lock);
		resolver.busy++;
		if (resolver.busy > resolver.most)
			resolver.most = resolver.busy;
		pthread_cond_broadcast(&resolver.changed);
		while (!resolver.open)
			pthread_cond_wait(&resolver.changed, &resolver.lock);
		resolver.busy--;
		pthread_cond_broadcast(&resolver.changed);
		pthread_mutex_unlock(&resolver.lock);
	}
	if (strncmp(host, "no", 2) == 0)
		return EAI_NONAME;
	struct addrinfo *a = calloc(1, sizeof(*a) + sizeof(address));

	if (a == NULL)
		return EAI_MEMORY;
	a->ai_addr = memcpy(a + 1, &address, sizeof(address));
	a->ai_addrlen = sizeof(address);
	*ret = a;
	return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
	free(a);
}

static void set_open(bool open)
{
	pthread_mutex_lock(&resolver.lock);
	resolver.open = open;
	pthread_cond_broadcast(&resolver.changed);
	pthread_mutex_unlock(&resolver.lock);
}

/* Wait until so many calls are under way. */
static void await_busy(unsigned n)
{
	pthread_mutex_lock(&resolver.lock);
	while (resolver.busy != n)
		pthread_cond_wait(&resolver.changed, &resolver.lock);
	pthread_mutex_unlock(&resolver.lock);
}

static unsigned most_busy(void)
{
	pthread_mutex_lock(&resolver.lock);
	unsigned most = resolver.most;
	pthread_mutex_unlock(&resolver.lock);
	return most;
}

struct answers {
	unsigned found, failed;
	char why[200];
};

static void on_answer(void *arg, const struct lookup_addrs *found, const char *why)
{
	struct answers *a = arg;

	a->found += found != NULL;
	a->failed += found == NULL;
	snprintf(a->why, sizeof(a->why), "%s", why != NULL ? why : "");
}

static void await_answers(struct loop *l, const struct answers *a, unsigned n)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	time_t end = t.tv_sec + PATIENCE_MS / 1000;

	while (a->found + a->failed < n && t.tv_sec <= end) {
		loop_turn(l, 5);
		clock_gettime(CLOCK_MONOTONIC, &t);
	}
	assert_int_equal(a->found + a->failed, n);
}

static struct lookup *ask(struct loop *l, const char *host, struct answers *a)
{
	struct lookup *k = NULL;

	assert_int_equal(lookup_new(l, host, 502, on_answer, a, &k, NULL), 0);
	return k;
}

static int setup(void **state)
{
	struct loop *l = NULL;

	resolver.most = 0;
	set_open(false);
	assert_int_equal(loop_new(&l, NULL), 0);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	set_open(true);
	await_busy(0);
	loop_free(*state);
	return 0;
}

static void test_names(void **state)
{
	struct lookup_addrs found;
	struct answers good = {0}, bad = {0};

	assert_false(lookup_numeric("host", 502, &found));
	assert_true(lookup_numeric("localhost", 502, &found));
	struct lookup *a = ask(*state, "host", &good), *b = ask(*state, "nohost", &bad);

	set_open(true);
	await_answers(*state, &good, 1);
	await_answers(*state, &bad, 1);
	assert_int_equal(good.found, 1);
	assert_int_equal(bad.failed, 1);
	assert_string_equal(bad.why, "looking up nohost: Name or service not known");
	lookup_free(a);
	lookup_free(b);
}

/* Those that wait in line come when others are done. */
static void test_many_at_once(void **state)
{
	static struct lookup *all[MANY];
	struct answers answers = {0};

	for (unsigned i = 0; i < MANY; i++)
		all[i] = ask(*state, "host", &answers);
	await_busy(LOOKUP_THREADS_MAX);
	set_open(true);
	await_answers(*state, &answers, MANY);
	assert_int_equal(answers.found, MANY);
	assert_int_equal(most_busy(), LOOKUP_THREADS_MAX);
	for (unsigned i = 0; i < MANY; i++)
		lookup_free(all[i]);
}

/* Who asks again and again while names are slow gets no thread more each time. */
static void test_given_up(void **state)
{
	static struct lookup *all[MANY];
	struct answers never = {0}, answers = {0};

	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < MANY; i++)
			all[i] = ask(*state, "host", &never);
		await_busy(LOOKUP_THREADS_MAX);
		/* from both ends, so that the line loses its first, its last, and others */
		for (unsigned i = 0; i < MANY; i++)
			lookup_free(all[i % 2 == 0 ? i / 2 : MANY - 1 - i / 2]);
	}
	struct lookup *last = ask(*state, "host", &answers);

	set_open(true);
	await_answers(*state, &answers, 1);
	assert_int_equal(answers.found, 1);
	assert_int_equal(never.found + never.failed, 0);
	assert_int_equal(most_busy(), LOOKUP_THREADS_MAX);
	lookup_free(last);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
