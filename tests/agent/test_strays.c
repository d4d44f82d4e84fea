/* test_strays.c - states of devices that are not there: the latest counts, each device gets its
 * own, and those that anybody makes have limits. */
#include "agent/device/strays.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BASE "gateway/gw1/fake/d1"

struct heard {
	char all[256]; /* "topic=text ..." */
	int answer;
};

static int on_stray(void *arg, const char *topic, const char *text)
{
	struct heard *h = arg;
	size_t len = strlen(h->all);
	int n = snprintf(h->all + len, sizeof(h->all) - len, "%s%s=%s", len > 0 ? " " : "", topic,
			 text);

	assert_in_range(n, 0, sizeof(h->all) - len - 1);
	return h->answer;
}

static void expect(struct strays *s, const char *base, const char *want)
{
	struct heard h = {0};

	strays_take(s, base, on_stray, &h);
	assert_string_equal(h.all, want);
}

static int setup(void **state)
{
	*state = strays_new();
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	*state = strays_free(*state);
	return 0;
}

static void a_device_takes_its_own_once(void **state)
{
	struct strays *s = *state;

	strays_put(s, BASE "/system/enable", "true");
	strays_put(s, BASE "/system/data/a", "1");
	strays_put(s, BASE "0/system/enable", "other");
	struct heard h = {0};

	strays_each(s, on_stray, &h);
	assert_string_equal(h.all, BASE "/system/data/a=1 " BASE "/system/enable=true " BASE
					"0/system/enable=other");
	expect(s, BASE, BASE "/system/data/a=1 " BASE "/system/enable=true");
	expect(s, BASE, "");
	expect(s, BASE "0", BASE "0/system/enable=other");
	assert_false(strays_lost(s));
}

static void the_latest_counts(void **state)
{
	struct strays *s = *state;

	strays_put(s, BASE "/system/enable", "true");
	strays_put(s, BASE "/system/enable", "false");
	expect(s, BASE, BASE "/system/enable=false");
}

static void what_is_not_taken_well_is_lost(void **state)
{
	struct strays *s = *state;
	struct heard h = {.answer = -1};

	strays_put(s, BASE "/system/enable", "true");
	strays_take(s, BASE, on_stray, &h);
	assert_true(strays_lost(s));
	expect(s, BASE, "");
}

/* ret: how many found room. */
static size_t fill(struct strays *s, const char *text, size_t most)
{
	char topic[64];
	size_t n = 0;

	for (; n < most && !strays_lost(s); n++) {
		snprintf(topic, sizeof(topic), "gateway/gw1/fake/x%zu/system/data/a", n);
		strays_put(s, topic, text);
	}
	return strays_lost(s) ? n - 1 : n;
}

static void their_number_has_a_limit_and_a_new_start(void **state)
{
	struct strays *s = *state;

	assert_int_equal(fill(s, "1", 10000), 8192);
	/* one that is there changes */
	strays_put(s, "gateway/gw1/fake/x1/system/data/a", "2");
	expect(s, "gateway/gw1/fake/x1", "gateway/gw1/fake/x1/system/data/a=2");
	strays_clear(s);
	assert_false(strays_lost(s));
	expect(s, "gateway/gw1/fake/x2", "");
	assert_int_equal(fill(s, "1", 10000), 8192);
}

static void large_ones_leave_room_for_small_ones(void **state)
{
	struct strays *s = *state;
	static char large[(1 << 20) + 1];

	memset(large, 'a', sizeof(large) - 1);
	assert_int_equal(fill(s, large, 100), 15); /* and a topic each: less than 16 MiB */
	strays_put(s, BASE "/system/enable", "true");
	expect(s, BASE, BASE "/system/enable=true");
	/* room that is given back is room */
	strays_clear(s);
	assert_int_equal(fill(s, large, 100), 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_device_takes_its_own_once, setup, teardown),
		cmocka_unit_test_setup_teardown(the_latest_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_taken_well_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(their_number_has_a_limit_and_a_new_start, setup,
						teardown),
		cmocka_unit_test_setup_teardown(large_ones_leave_room_for_small_ones, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
