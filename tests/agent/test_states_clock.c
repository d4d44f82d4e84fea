/* Which state is the newer one when the clock of the machine jumps (gateway-devices 5.2, 20). */
#include "agent/device/states.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PREFIX "gateway/gw1/fake/d1"
#define ENABLE PREFIX "/system/enable"

struct world {
	struct loop *loop;
	struct settings settings;
	struct store *store;
	struct states *states;
};

/* The clock of the machine, which a test can turn. */
static int64_t ahead_s;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);

	if (id == CLOCK_REALTIME)
		ts->tv_sec += ahead_s;
	return rc;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err;

	assert_non_null(w);
	ahead_s = 0;
	w->settings.devices_db.url = ":memory:";
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	assert_int_equal(store_open(w->loop, &w->settings, &w->store, &err), 0);
	assert_int_equal(states_new(w->store, PREFIX, &w->states, &err), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	states_free(w->states);
	store_close(w->store);
	loop_free(w->loop);
	free(w);
	return 0;
}

static int live(struct world *w, const char *topic, const char *text)
{
	struct event_body body;
	struct err err = {0};

	assert_int_equal(event_body_parse(text, strlen(text), &body, NULL), 0);
	int rc = states_live(w->states, topic, &body, text, &err);
	event_body_done(&body);
	return rc;
}

static int retained(struct world *w, const char *topic, const char *text)
{
	struct event_body body;
	struct err err = {0};

	assert_int_equal(event_body_parse(text, strlen(text), &body, NULL), 0);
	int rc = states_retained(w->states, topic, &body, text, &err);
	event_body_done(&body);
	return rc;
}

static void what_is_said_last_counts_when_the_clock_jumps_back(void **state)
{
	struct world *w = *state;
	struct states *again = NULL;
	struct err err;

	assert_true(live(w, ENABLE, "true") >= 0);
	ahead_s = -86400;
	assert_true(live(w, ENABLE, "false") >= 0);
	/* one that is retained, and of the time between, is old */
	states_begin_sync(w->states);
	char text[100];
	snprintf(text, sizeof(text), "{\"timestamp\":%lld000000,\"payload\":true}",
		 (long long)time(NULL) - 3600);
	assert_int_equal(retained(w, ENABLE, text), 0);
	assert_true(json_is_false(states_find(w->states, ENABLE)));
	/* nor does a later process see it otherwise */
	assert_int_equal(states_new(w->store, PREFIX, &again, &err), 0);
	assert_true(json_is_false(states_find(again, ENABLE)));
	states_free(again);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_said_last_counts_when_the_clock_jumps_back),
	};

	return cmocka_run_group_tests_name("states_clock", tests, NULL, NULL);
}
