/* test_outbox_crash.c - kill -9 at any moment: what was done comes out of a later process, in
 * order; and what the sink has acknowledged before the last of it was on the disk may come twice.
 *
 * A child puts numbered items and says by a pipe, in single writes, what is done and what its sink
 * has acknowledged. It is killed at a random moment; another one goes on with the same store. The
 * last round sends all that is left.
 */
#include "tests/agent/outbox_bench.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define ROUNDS    200
#define ADDRESSES 4

enum { DONE = 'd', ARRIVED = 'a', PUT = 'p' };

struct record {
	char what;
	uint8_t address;
	uint32_t number;
};

/* ---- the child ---- */

struct child {
	struct bench *b;
	int pipe;
	unsigned random, next[ADDRESSES];
	bool up, last;
};

struct mark {
	struct child *c;
	uint8_t address;
	uint32_t number;
};

static void say(struct child *c, char what, unsigned address, unsigned number)
{
	struct record r = {.what = what, .address = (uint8_t)address, .number = number};

	if (write(c->pipe, &r, sizeof(r)) != sizeof(r))
		_exit(3);
}

static void on_done(void *arg, int rc)
{
	struct mark *m = arg;

	if (rc == 0)
		say(m->c, DONE, m->address, m->number);
	free(m);
}

static unsigned chance(struct child *c, unsigned n)
{
	return (unsigned)rand_r(&c->random) % n;
}

/* Addresses 0 and 1 keep all, 2 and 3 the latest. */
static void put_one(struct child *c)
{
	static const char *const names[ADDRESSES] = {"0", "1", "2", "3"};
	unsigned at = chance(c, ADDRESSES);
	char text[24];
	struct mark *m = malloc(sizeof(*m));

	if (m == NULL)
		_exit(4);
	*m = (struct mark){.c = c, .address = (uint8_t)at, .number = ++c->next[at]};
	snprintf(text, sizeof(text), "%u", c->next[at]);
	const struct outbox_item item = {.sink = at % 2 ? OUTBOX_VALUES : OUTBOX_EVENTS,
					 .address = names[at],
					 .text = text,
					 .state = at >= 2,
					 .keep = at >= 2 ? KEEP_LATEST : KEEP_ALL,
					 .done = on_done,
					 .arg = m};

	say(c, PUT, at, c->next[at]);
	if (outbox_put(c->b->o, &item, NULL) < 0)
		_exit(5);
}

/* Arrived, then acknowledged: as a broker does. */
static void acknowledge(struct child *c, size_t n)
{
	for (; n > 0 && c->b->looked < c->b->n; n--) {
		struct sent *s = &c->b->log[c->b->looked++];

		say(c, ARRIVED, (unsigned)strtoul(s->address, NULL, 10),
		    (unsigned)strtoul(s->text, NULL, 10));
		outbox_sent(c->b->o, s->token, 0);
	}
}

static void flip(struct child *c)
{
	c->up = !c->up;
	if (!c->up)
		c->b->looked = c->b->n; /* nobody answers for those any more */
	outbox_up(c->b->o, OUTBOX_EVENTS, c->up);
	outbox_up(c->b->o, OUTBOX_VALUES, c->up);
}

static void work(struct child *c)
{
	for (;;) {
		for (unsigned n = chance(c, 8); n > 0 && !c->last; n--)
			put_one(c);
		acknowledge(c, c->last ? SIZE_MAX : chance(c, 8));
		if (c->last ? !c->up : chance(c, 30) == 0)
			flip(c);
		if (loop_turn(c->b->loop, c->last ? 10 : (int)chance(c, 3)) < 0)
			_exit(6);
		if (c->last && bench_status(c->b).waiting == 0)
			_exit(0);
	}
}

static pid_t begin(struct bench *b, unsigned round, const unsigned *next, bool last, int *ret_fd)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid > 0) {
		close(fds[1]);
		*ret_fd = fds[0];
		return pid;
	}
	struct child c = {.b = b, .pipe = fds[1], .random = round * 7919 + 1, .last = last};

	memcpy(c.next, next, sizeof(c.next));
	bench_open(b);
	work(&c);
	_exit(7);
}

/* ---- the parent ---- */

struct seen {
	uint32_t put, done, arrived; /* the highest number */
	uint8_t *is_done, *has_arrived;
	size_t cap;
};

static void note(struct seen *s, const struct record *r, unsigned address)
{
	if (r->number >= s->cap) {
		size_t cap = 2 * (size_t)r->number + 64;

		s->is_done = realloc(s->is_done, cap);
		s->has_arrived = realloc(s->has_arrived, cap);
		assert_true(s->is_done != NULL && s->has_arrived != NULL);
		memset(s->is_done + s->cap, 0, cap - s->cap);
		memset(s->has_arrived + s->cap, 0, cap - s->cap);
		s->cap = cap;
	}
	switch (r->what) {
	case PUT:
		s->put = r->number;
		return;
	case DONE:
		s->is_done[r->number] = 1;
		if (r->number > s->done)
			s->done = r->number;
		return;
	}
	/* a state never goes back, also not after a crash */
	if (r->number < s->arrived && address >= 2)
		fail_msg("state %u of %u came after %u", r->number, address, s->arrived);
	if (!s->has_arrived[r->number]) {
		/* the first time each comes, it comes in order */
		for (uint32_t i = r->number + 1; i <= s->put; i++)
			if (s->has_arrived[i])
				fail_msg("%u of %u came after %u", r->number, address, i);
	}
	s->has_arrived[r->number] = 1;
	s->arrived = r->number;
}

static void listen_to(int fd, struct seen *seen)
{
	struct record r;
	ssize_t n;

	while ((n = read(fd, &r, sizeof(r))) > 0) {
		assert_int_equal(n, sizeof(r));
		assert_true(r.address < ADDRESSES);
		note(&seen[r.address], &r, r.address);
	}
	assert_int_equal(n, 0);
	close(fd);
}

static void kill_within(pid_t pid, unsigned us)
{
	const struct timespec t = {.tv_nsec = (long)us * 1000};

	nanosleep(&t, NULL); /* any moment is the right one */
	assert_int_equal(kill(pid, SIGKILL), 0);
}

static void test_kill(void **state)
{
	struct bench *b = bench_new();
	struct seen seen[ADDRESSES] = {0};
	unsigned next[ADDRESSES] = {0}, random = 4711;
	int status;

	(void)state;
	for (unsigned round = 0; round <= ROUNDS; round++) {
		bool last = round == ROUNDS;
		int fd;
		pid_t pid = begin(b, round, next, last, &fd);

		if (!last)
			kill_within(pid, 1000 + (unsigned)rand_r(&random) % 60000);
		listen_to(fd, seen);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (last)
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		else
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		for (unsigned i = 0; i < ADDRESSES; i++)
			next[i] = seen[i].put;
	}
	unsigned long done = 0, arrived = 0;

	for (unsigned i = 0; i < ADDRESSES; i++) {
		for (uint32_t n = 1; n <= seen[i].put; n++) {
			done += seen[i].is_done[n];
			arrived += seen[i].has_arrived[n];
			if (i < 2 && seen[i].is_done[n] && !seen[i].has_arrived[n])
				fail_msg("%u of %u was done and is lost", n, i);
		}
		/* of states the latest that was done, or a newer one, is what stands in the end */
		if (i >= 2 && seen[i].arrived < seen[i].done)
			fail_msg("state %u of %u was done, %u stands", seen[i].done, i,
				 seen[i].arrived);
		free(seen[i].is_done);
		free(seen[i].has_arrived);
	}
	assert_true(done > 1000 && arrived > 1000); /* else nothing was tried */
	printf("%lu done, %lu arrived\n", done, arrived);
	b->o = NULL;
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
