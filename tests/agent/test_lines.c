/* What engines print, through pipes as they have them. */
#include "agent/graph/lines.h"
#include "common/util.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TRIES 1000
/* bytes, the pipe takes them whole or not */
#define LINE 1000
/* a pipe and some turns more than is read in a second */
#define MOST ((256u << 10) + (200u << 10))

struct world {
	struct loop *loop;
	struct lines *lines;
	int fd; /* the engine's end */
};

static int setup(void **state)
{
	static struct world w;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(loop_new(&w.loop, NULL), 0);
	assert_int_equal(lines_new(w.loop, fds[0], "stdout", &w.lines, NULL), 0);
	w.fd = fds[1];
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	w->lines = lines_free(w->lines);
	loop_free(w->loop);
	closep(&w->fd);
	return 0;
}

static bool print_line(struct world *w)
{
	char line[LINE];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	return write(w->fd, line, sizeof(line)) == sizeof(line);
}

/* Print until nothing is taken any more. ret: bytes. */
static size_t flood(struct world *w)
{
	size_t taken = 0;

	for (int full = 0; full < TRIES && taken < 16 * MOST;) {
		bool fits = print_line(w);

		full = fits ? 0 : full + 1;
		taken += fits ? LINE : 0;
		assert_int_equal(loop_turn(w->loop, 0), 0);
	}
	return taken;
}

static void who_prints_without_end_finds_the_pipe_full(void **state)
{
	struct world *w = *state;

	assert_in_range(flood(w), 256 << 10, MOST);
	/* and is read again when the second is over */
	bool printed = print_line(w);
	for (int64_t end = loop_now_ms(w->loop) + 10000; !printed; printed = print_line(w)) {
		assert_true(loop_now_ms(w->loop) < end);
		assert_int_equal(loop_turn(w->loop, 100), 0);
	}
	assert_in_range(flood(w), 128 << 10, MOST);
}

static void the_end_is_noticed_in_a_pause(void **state)
{
	struct world *w = *state;
	unsigned turns = 0;

	flood(w);
	closep(&w->fd);
	for (int i = 0; i < TRIES; i++)
		assert_int_equal(loop_turn(w->loop, 0), 0);
	/* a loop that is told of it again and again would not wait */
	for (int64_t end = loop_now_ms(w->loop) + 50; loop_now_ms(w->loop) < end; turns++)
		assert_int_equal(loop_turn(w->loop, 50), 0);
	assert_in_range(turns, 1, 5);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(who_prints_without_end_finds_the_pipe_full),
		TEST(the_end_is_noticed_in_a_pause),
	};

	return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
