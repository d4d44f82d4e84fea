#include "common/id.h"
#include "common/util.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#define MANY 20000

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct uuid_text));
}

static void assert_all_different(struct uuid_text *u, size_t n)
{
	qsort(u, n, sizeof(*u), compare);
	for (size_t i = 1; i < n; i++)
		assert_int_not_equal(compare(&u[i - 1], &u[i]), 0);
}

static void random_ids_have_version_4_and_differ(void **state)
{
	(void)state;
	struct uuid_text *u = test_calloc(MANY, sizeof(*u)), lower;
	for (size_t i = 0; i < MANY; i++) {
		u[i] = uuid4();
		assert_true(uuid_parse(u[i].s, strlen(u[i].s), &lower));
		assert_string_equal(lower.s, u[i].s);
		assert_int_equal(u[i].s[14], '4');
		assert_non_null(strchr("89ab", u[i].s[19]));
	}
	assert_all_different(u, MANY);
	test_free(u);
}

/* The 60-bit time of a version 1 UUID, in 100 ns since 1582. */
static uint64_t time_of(const struct uuid_text *u)
{
	return (strtoull(u->s + 15, NULL, 16) << 48) | (strtoull(u->s + 9, NULL, 16) << 32) |
	       strtoull(u->s, NULL, 16);
}

static void time_ids_increase_and_tell_the_time(void **state)
{
	(void)state;
	uint64_t last = 0;
	struct timespec before, after;
	clock_gettime(CLOCK_REALTIME, &before);
	struct uuid_text u = uuid1();
	clock_gettime(CLOCK_REALTIME, &after);
	int64_t us = (int64_t)((time_of(&u) - 0x01B21DD213814000u) / 10);
	assert_true(us >= before.tv_sec * 1000000LL + before.tv_nsec / 1000);
	assert_true(us <= after.tv_sec * 1000000LL + after.tv_nsec / 1000);
	for (size_t i = 0; i < MANY; i++) {
		u = uuid1();
		assert_int_equal(u.s[14], '1');
		assert_non_null(strchr("89ab", u.s[19]));
		assert_true(strtoul((char[3]){u.s[24], u.s[25], 0}, NULL, 16) &
			    1); /* no hardware address */
		assert_true(time_of(&u) > last);
		last = time_of(&u);
	}
}

static void *make_many(void *arg)
{
	struct uuid_text *u = arg;
	for (size_t i = 0; i < MANY; i++)
		u[i] = uuid1();
	return NULL;
}

static void time_ids_of_threads_differ(void **state)
{
	(void)state;
	pthread_t threads[4];
	struct uuid_text *u = test_calloc(ARRAY_LEN(threads) * MANY, sizeof(*u));
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, make_many, u + i * MANY), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < ARRAY_LEN(threads) * MANY; i++)
		memset(u[i].s + 19, 0, UUID_LEN - 19); /* the time alone is different */
	assert_all_different(u, ARRAY_LEN(threads) * MANY);
	test_free(u);
}

static void only_hyphenated_hex_is_a_uuid(void **state)
{
	(void)state;
	struct uuid_text u;
	assert_true(uuid_parse("DF682F01-7C3A-49FD-8F5F-72CE0B6E68C0rest", UUID_LEN, &u));
	assert_string_equal(u.s, "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0");
	static const char *const bad[] = {
		"",
		"df682f01-7c3a-49fd-8f5f-72ce0b6e68c",
		"df682f01-7c3a-49fd-8f5f-72ce0b6e68c00",
		"df682f017c3a49fd8f5f72ce0b6e68c0",
		"df682f01-7c3a-49fd-8f5f-72ce0b6e68cg",
		"df682f01-7c3a-49fd-8f5f_72ce0b6e68c0",
		"df682f0-17c3a-49fd-8f5f-72ce0b6e68c0",
		"{df682f01-7c3a-49fd-8f5f-72ce0b6e68}",
		" f682f01-7c3a-49fd-8f5f-72ce0b6e68c0",
		"df682f01-7c3a-49fd-8f5f-72ce0b6e\xc3\xa4"
		"c0",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(uuid_parse(bad[i], strlen(bad[i]), &u));
}

static void digests_are_those_of_the_walk_through(void **state)
{
	(void)state;
	const char cast[] = "def run(x): return int(x)\n", square[] = "def run(x): return x ** 2\n";
	assert_string_equal(sha256_hex(cast, strlen(cast)).s,
			    "f87d5c678bdd9e4b1b5f278c29cdf9a0fd01198060d8c6f3a34a6a05ae536e50");
	assert_string_equal(sha256_hex(square, strlen(square)).s,
			    "70e3d32f1c6abde67d607e3ce77dc286ecf5d0f42fcd18e6336fac5e19a6e07c");
	assert_string_equal(sha256_hex("", 0).s,
			    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_string_equal(sha256_hex("a\0b", 3).s,
			    "59b271ae1bbcb1d31d41929817f4b16fb439eb4f31520b5ad1d5ce98920a7138");
}

static void digests_are_64_lower_case_digits(void **state)
{
	(void)state;
	struct digest_text d = sha256_hex("x", 1);
	assert_true(digest_valid(d.s));
	d.s[10] = 'A';
	assert_false(digest_valid(d.s));
	d.s[10] = 'g';
	assert_false(digest_valid(d.s));
	d = sha256_hex("x", 1);
	d.s[63] = '\0';
	assert_false(digest_valid(d.s));
	assert_false(digest_valid(""));
	char longer[DIGEST_LEN + 2];
	memset(longer, 'a', DIGEST_LEN + 1);
	longer[DIGEST_LEN + 1] = '\0';
	assert_false(digest_valid(longer));
}

static void ids_of_names_are_those_of_other_implementations(void **state)
{
	(void)state;
	static const char dns[] = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", /* RFC 4122, appendix C */
		url[] = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";
	assert_string_equal(uuid5(dns, "www.example.com").s, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
	assert_string_equal(uuid5(dns, "python.org").s, "886313e1-3b8a-5372-9b90-0c9aee199e5d");
	/* around the borders of SHA-1's blocks, by Python's uuid module */
	static const struct {
		size_t len;
		const char *id;
	} cases[] = {
		{0, "1b4db7eb-4057-5ddf-91e0-36dec72071f5"},   {55, "216292ab-33d5-55d9-9441-e27c6d581a9d"},
		{56, "699537c5-641d-5db1-8010-0f64002fd7ee"},  {63, "2c0858d2-4c70-5de3-bc6d-ee6b4efb4073"},
		{64, "37a282a8-9bf9-58e8-af1a-344d9b593c37"},  {119, "75bd0bb9-6bed-5fd6-b9b0-e6ea3b9ddbf6"},
		{120, "ddd61f4e-ee21-55c2-8b4f-e9df944fef53"}, {200, "7f4631a0-b493-5760-92a5-27e642bfb142"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char name[256] = "";
		memset(name, 'a', cases[i].len);
		assert_string_equal(uuid5(url, name).s, cases[i].id);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ids_have_version_4_and_differ),
		cmocka_unit_test(time_ids_increase_and_tell_the_time),
		cmocka_unit_test(time_ids_of_threads_differ),
		cmocka_unit_test(ids_of_names_are_those_of_other_implementations),
		cmocka_unit_test(only_hyphenated_hex_is_a_uuid),
		cmocka_unit_test(digests_are_those_of_the_walk_through),
		cmocka_unit_test(digests_are_64_lower_case_digits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
