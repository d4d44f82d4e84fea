#include "ccm/web/throttle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static int setup(void **state)
{
	*state = throttle_new();
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	*state = throttle_free(*state);
	return 0;
}

static void fail_times(struct throttle *t, enum throttle_kind kind, const char *key, unsigned n, int64_t now_ms)
{
	for (unsigned i = 0; i < n; i++)
		throttle_failed(t, kind, key, now_ms);
}

static void the_first_failures_cost_nothing(void **state)
{
	struct throttle *t = *state;
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 0), 0);
	fail_times(t, THROTTLE_ACCOUNT, "a", 9, 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 0), 0);
	throttle_failed(t, THROTTLE_ACCOUNT, "a", 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 0), 30);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "b", 0), 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ADDRESS, "a", 0), 0);
}

static void waiting_helps_by_one_attempt_for_each_period(void **state)
{
	struct throttle *t = *state;
	fail_times(t, THROTTLE_ACCOUNT, "a", 10, 1000);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 1000 + 29000), 1);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 1000 + 30000), 0);
	throttle_failed(t, THROTTLE_ACCOUNT, "a", 1000 + 30000);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 1000 + 30000), 30);
	/* what was let in at once counts in full */
	fail_times(t, THROTTLE_ACCOUNT, "b", 74, 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "b", 0), 65 * 30);
}

static void who_knew_the_password_is_forgiven(void **state)
{
	struct throttle *t = *state;
	fail_times(t, THROTTLE_ACCOUNT, "a", 20, 0);
	throttle_forget(t, THROTTLE_ACCOUNT, "a");
	throttle_forget(t, THROTTLE_ACCOUNT, "never seen");
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "a", 0), 0);
}

static void a_network_of_ipv6_is_one_address(void **state)
{
	struct throttle *t = *state;
	fail_times(t, THROTTLE_ADDRESS, "2001:db8::1", 50, 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ADDRESS, "2001:db8::ffff:2", 0), 6);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ADDRESS, "2001:db8:0:1::1", 0), 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_ADDRESS, "10.0.0.1", 0), 0);
	fail_times(t, THROTTLE_NEW, "2001:db8::1", 200, 0);
	assert_int_equal(throttle_wait_s(t, THROTTLE_NEW, "2001:db8::ffff:2", 0), 30);
	assert_int_equal(throttle_wait_s(t, THROTTLE_NEW, "2001:db8:0:1::1", 0), 0);
}

static void a_flood_of_names_does_not_wash_a_guilty_one_away(void **state)
{
	struct throttle *t = *state;
	fail_times(t, THROTTLE_ACCOUNT, "guilty", 12, 0);
	for (unsigned i = 0; i < 100000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "n%u", i);
		throttle_failed(t, THROTTLE_ACCOUNT, name, 0);
	}
	assert_int_equal(throttle_wait_s(t, THROTTLE_ACCOUNT, "guilty", 0), 90);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_first_failures_cost_nothing),
		T(waiting_helps_by_one_attempt_for_each_period),
		T(who_knew_the_password_is_forgiven),
		T(a_network_of_ipv6_is_one_address),
		T(a_flood_of_names_does_not_wash_a_guilty_one_away),
	};
	return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
