/* The agent's end of the keeper, with the real iottalk-engine behind it. */
#include "agent/graph/keeper.h"
#include "agent/graph/worker.h"
#include "common/frames.h"
#include "common/id.h"
#include "common/util.h"
#include "tests/engine/engine_path.h"
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
/* after what it needs */
#include <cmocka.h>

#define PATIENCE_MS 30000 /* only a failure waits so long */

struct bench {
	struct loop *loop;
	char dir[40], socket[60];
	struct keeper *keeper;
	unsigned ups, downs, found, found_exited;
	char why[300];
	bool adopt; /* what is found */
	struct engine *adopted;
};

/* An engine and what is heard of it. */
struct engine {
	struct bench *b;
	struct worker *worker;
	struct tap_fds fds;
	struct tap *tap;
	unsigned started, messages, exits;
	json_t *last; /* message with seq */
	char how[100];
	char result[4096];
};

#define UNTIL(b, condition)                                                                   \
	do {                                                                                  \
		for (int64_t end = loop_now_ms((b)->loop) + PATIENCE_MS; !(condition);) {     \
			loop_turn((b)->loop, 100);                                            \
			if (loop_now_ms((b)->loop) > end)                                     \
				fail_msg("waited in vain for %s (%s)", #condition, (b)->why); \
		}                                                                             \
	} while (0)

/* ---- engines ---- */

static void on_started(void *arg)
{
	struct engine *e = arg;
	e->started++;
	/* (it may be dead already, and then has no pid) */
	assert_true(worker_wake_fd(e->worker) >= 0 && worker_result_fd(e->worker) >= 0);
}

static void on_message(void *arg, json_t *msg)
{
	struct engine *e = arg;
	e->messages++;
	if (json_object_get(msg, "seq") != NULL) {
		json_decref(e->last);
		e->last = json_incref(msg);
	}
}

static void on_exit_of(void *arg, const char *how)
{
	struct engine *e = arg;
	e->exits++;
	snprintf(e->how, sizeof(e->how), "%s", how);
	assert_int_equal(worker_pid(e->worker), -1);
}

static const struct worker_events events = {on_started, on_message, on_exit_of};

static struct engine *engine_empty(struct bench *b)
{
	struct engine *e = calloc(1, sizeof(*e));
	assert_non_null(e);
	e->b = b;
	e->fds = TAP_FDS_NONE;
	return e;
}

static struct engine *engine_new(struct bench *b, const char *name)
{
	struct engine *e = engine_empty(b);
	struct err err = {0};
	assert_int_equal(tap_make(1 << 16, 1 << 16, &e->fds, NULL), 0);
	assert_int_equal(tap_open(e->fds.in_fd, e->fds.out_fd, &e->tap, NULL), 0);
	if (worker_new(b->keeper, name, &e->fds, &events, e, &e->worker, &err) < 0)
		fail_msg("%s", err.text);
	return e;
}

/* What of it is here; its worker must have been dealt with. */
static void engine_drop(struct engine *e)
{
	tap_close(e->tap);
	tap_fds_done(&e->fds);
	json_decref(e->last);
	free(e);
}

static void engine_free(struct engine *e)
{
	worker_free(e->worker);
	engine_drop(e);
}

static void ask(struct engine *e, json_t *msg, int seq)
{
	json_object_set_new(msg, "seq", json_integer(seq));
	assert_int_equal(worker_send(e->worker, msg, NULL), 0);
	json_decref(msg);
}

static int last_seq(const struct engine *e)
{
	return (int)json_integer_value(json_object_get(e->last, "seq"));
}

static json_t *drop(void)
{
	return json_pack("{s:s, s:s}", "op", "drop", "id", "x");
}

/* A graph from slot 1 to slot 2 that counts its messages. */
static void load_counter(struct engine *e, int seq)
{
	static const char source[] = "n = 0\ndef run(x):\n  global n\n  n += 1\n  return [n, x]\n";
	struct digest_text digest = sha256_hex(source, strlen(source));
	ask(e,
	    json_pack("{s:s, s:{s:s}, s:{s:s, s:s, s:i, s:[{s:i, s:i, s:s, s:s, s:s}], s:{s:n}, "
		      "s:[{s:i, s:i, s:s, s:s, s:n}]}}",
		      "op", "graph", "funcs", digest.s, source, "doc", "id", "t/1", "owner", "t",
		      "rev", 1, "idf", "lid", 1, "slot", 1, "da_id", "d", "feature", "i", "func",
		      digest.s, "join", "func", "odf", "lid", 2, "slot", 2, "da_id", "d", "feature",
		      "o", "func"),
	    seq);
	UNTIL(e->b, last_seq(e) == seq);
	assert_string_equal(json_string_value(json_object_get(e->last, "state")), "ok");
}

static void push(struct engine *e, const char *payload)
{
	const struct tap_rec rec = {.slot = 1, .qos = 1, .len = (uint32_t)strlen(payload)};
	assert_int_equal(tap_push(e->tap, &rec, payload), 0);
	assert_int_equal(write(worker_wake_fd(e->worker), "", 1), 1);
}

/* The next result, heard of by the result pipe. */
static const char *result(struct engine *e)
{
	struct tap_rec rec;
	char bytes[64];
	tap_set_asleep(e->tap, true);
	while (tap_pull(e->tap, &rec, e->result, sizeof(e->result) - 1) == 0) {
		struct pollfd p = {.fd = worker_result_fd(e->worker), .events = POLLIN};
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		assert_true(read(p.fd, bytes, sizeof(bytes)) > 0);
	}
	e->result[rec.len] = '\0';
	return e->result;
}

/* ---- the keeper ---- */

static bool on_found(void *arg, struct keeper_found *found)
{
	struct bench *b = arg;
	struct engine *e;
	b->found++;
	b->found_exited += found->exited != NULL;
	assert_string_equal(found->name, "one");
	if (!b->adopt)
		return false;
	b->adopted = e = engine_empty(b);
	assert_int_equal(
		tap_fds_adopt(TAKE_FD(found->in_fd), TAKE_FD(found->out_fd), &e->fds, NULL), 0);
	assert_int_equal(tap_open(e->fds.in_fd, e->fds.out_fd, &e->tap, NULL), 0);
	if (found->exited == NULL)
		assert_int_equal(worker_adopt(b->keeper, found, &events, e, &e->worker, NULL), 0);
	else
		snprintf(e->how, sizeof(e->how), "%s", found->exited);
	return true;
}

static void on_up(void *arg)
{
	struct bench *b = arg;
	b->ups++;
	assert_true(keeper_is_up(b->keeper));
}

static void on_down(void *arg, const char *why)
{
	struct bench *b = arg;
	b->downs++;
	snprintf(b->why, sizeof(b->why), "%s", why);
	assert_false(keeper_is_up(b->keeper));
	assert_string_equal(keeper_why(b->keeper), why);
}

static struct keeper_conf conf_of(const struct bench *b)
{
	return (struct keeper_conf){.program = engine_path(),
				    .socket = b->socket,
				    .qos = "auto",
				    .sandbox = "strict",
				    .memory_mb = 256,
				    .function_mb = 64,
				    .max_payload_bytes = 262144};
}

static void start(struct bench *b, const struct keeper_conf *conf)
{
	static const struct keeper_events keeper_events = {on_found, on_up, on_down};
	assert_int_equal(keeper_new(b->loop, conf, &keeper_events, b, &b->keeper, NULL), 0);
}

static void start_default(struct bench *b)
{
	const struct keeper_conf conf = conf_of(b);
	unsigned ups = b->ups;
	start(b, &conf);
	UNTIL(b, b->ups > ups);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), P_tmpdir "/iottalk-test-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->socket, sizeof(b->socket), "%s/keeper", b->dir);
	assert_int_equal(loop_new(&b->loop, NULL), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	char lock[80];
	if (b->keeper != NULL)
		keeper_quit(b->keeper);
	keeper_free(b->keeper);
	loop_free(b->loop);
	unlink(b->socket);
	snprintf(lock, sizeof(lock), "%s.lock", b->socket);
	unlink(lock);
	rmdir(b->dir);
	free(b);
	return 0;
}

static bool is_dead(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

static void await_death(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	close(pidfd);
}

/* ---- tests ---- */

static void engines_start_answer_and_end(void **state)
{
	struct bench *b = *state;
	start_default(b);
	assert_true(keeper_pid(b->keeper) > 0);
	assert_true(json_array_size(keeper_layers(b->keeper)) > 5);
	assert_string_equal(keeper_why(b->keeper), "");
	struct engine *one = engine_new(b, "one"), *two = engine_new(b, "two");
	/* before they are there */
	ask(one, drop(), 1);
	ask(two, drop(), 2);
	UNTIL(b, last_seq(one) == 1 && last_seq(two) == 2);
	assert_int_equal(one->started, 1);
	assert_true(worker_pid(one->worker) != worker_pid(two->worker));
	load_counter(one, 3);
	push(one, "5");
	assert_string_equal(result(one), "[1,5]");

	worker_kill(one->worker);
	UNTIL(b, one->exits == 1);
	assert_string_equal(one->how, "killed by signal 9");
	assert_int_equal(two->exits, 0);
	engine_free(one);
	int pidfd = pidfd_open(worker_pid(two->worker), 0);
	engine_free(two);
	await_death(pidfd);
}

static void what_is_not_started_yet_can_be_killed_and_freed(void **state)
{
	struct bench *b = *state;
	start_default(b);
	struct engine *one = engine_new(b, "one"), *two = engine_new(b, "two");
	worker_kill(one->worker);
	engine_free(two);
	UNTIL(b, one->exits == 1);
	assert_int_equal(one->started, 0);
	engine_free(one);
	two = engine_new(b, "two");
	UNTIL(b, two->started == 1);
	engine_free(two);
}

static void what_is_no_ring_is_no_engine(void **state)
{
	struct bench *b = *state;
	start_default(b);
	struct engine *e = engine_empty(b);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct tap_fds fds = {null, null, null};
	assert_int_equal(worker_new(b->keeper, "one", &fds, &events, e, &e->worker, NULL), 0);
	UNTIL(b, e->exits == 1);
	assert_string_equal(e->how, "exit status 1");
	close(null);
	engine_free(e);
}

/* The next agent finds what this one leaves. */
static void engines_are_left_and_adopted(void **state)
{
	struct bench *b = *state;
	start_default(b);
	struct engine *e = engine_new(b, "one");
	load_counter(e, 1);
	push(e, "1");
	assert_string_equal(result(e), "[1,1]");
	pid_t pid = worker_pid(e->worker), keeper = keeper_pid(b->keeper);
	worker_leave(e->worker);
	engine_drop(e);
	b->keeper = keeper_free(b->keeper);

	b->adopt = true;
	start_default(b);
	assert_int_equal(keeper_pid(b->keeper), keeper);
	assert_int_equal(b->found, 1);
	e = b->adopted;
	assert_int_equal(worker_pid(e->worker), pid);
	push(e, "2");
	assert_string_equal(result(e), "[2,2]");
	ask(e, drop(), 7);
	UNTIL(b, last_seq(e) == 7);
	assert_int_equal(e->started, 0);
	/* a new one gets a number of its own */
	struct engine *other = engine_new(b, "two");
	UNTIL(b, other->started == 1);
	worker_kill(e->worker);
	UNTIL(b, e->exits == 1);
	assert_int_equal(other->exits, 0);
	engine_free(other);

	/* it exited, and this agent goes before it has done anything about it */
	worker_leave(e->worker);
	engine_drop(e);
	b->keeper = keeper_free(b->keeper);
	start_default(b);
	assert_int_equal(b->found_exited, 1);
	assert_string_equal(b->adopted->how, "killed by signal 9");
	/* a replacement behind the same name: then it is forgotten */
	engine_drop(b->adopted);
	e = engine_new(b, "one");
	UNTIL(b, e->started == 1);
	worker_leave(e->worker);
	engine_drop(e);
	b->keeper = keeper_free(b->keeper);
	b->found = b->found_exited = 0;
	b->adopt = false;
	start_default(b);
	assert_int_equal(b->found, 1);
	assert_int_equal(b->found_exited, 0);
	b->keeper = keeper_free(b->keeper);
	/* and that one was not wanted */
	start_default(b);
	assert_int_equal(b->found, 1);
}

static void a_keeper_with_other_settings_is_replaced(void **state)
{
	struct bench *b = *state;
	struct keeper_conf conf = conf_of(b);
	start_default(b);
	pid_t first = keeper_pid(b->keeper);
	struct engine *e = engine_new(b, "one");
	UNTIL(b, e->started == 1);
	int pidfd = pidfd_open(worker_pid(e->worker), 0);
	worker_leave(e->worker);
	engine_drop(e);
	b->keeper = keeper_free(b->keeper);
	conf.qos = "1";
	start(b, &conf);
	UNTIL(b, b->ups == 2);
	await_death(pidfd);
	assert_true(keeper_pid(b->keeper) != first);
	assert_int_equal(b->found, 0);
}

static void a_dead_keeper_is_replaced_and_its_engines_are_gone(void **state)
{
	struct bench *b = *state;
	start_default(b);
	for (unsigned i = 1; i < 4; i++) {
		struct engine *one = engine_new(b, "one"), *two = engine_new(b, "two");
		UNTIL(b, one->started == 1);
		kill(keeper_pid(b->keeper), SIGKILL);
		UNTIL(b, b->downs == i);
		assert_int_equal(one->exits, 1);
		assert_int_equal(two->exits, 1);
		assert_string_equal(one->how, "its keeper is gone");
		struct err err = {0};
		struct worker *none = NULL;
		assert_int_equal(worker_new(b->keeper, "x", &one->fds, &events, one, &none, &err),
				 ERR_AGAIN);
		/* nothing can be said to it, and that is no error */
		json_auto_t *msg = drop();
		assert_int_equal(worker_send(one->worker, msg, NULL), 0);
		engine_free(one);
		engine_free(two);
		UNTIL(b, b->ups == i + 1);
	}
}

static void a_keeper_that_does_not_answer_is_killed(void **state)
{
	struct bench *b = *state;
	start_default(b);
	pid_t first = keeper_pid(b->keeper);
	int pidfd = pidfd_open(first, 0);
	b->keeper = keeper_free(b->keeper);
	kill(first, SIGSTOP);
	start_default(b);
	await_death(pidfd);
	assert_true(keeper_pid(b->keeper) != first);
	assert_int_equal(b->downs, 1);
}

static void a_program_that_cannot_start_is_tried_again(void **state)
{
	struct bench *b = *state;
	struct keeper_conf conf = conf_of(b);
	char path[80];
	snprintf(path, sizeof(path), "%s/program", b->dir);
	conf.program = path;
	start(b, &conf);
	UNTIL(b, b->downs == 2); /* there is none */
	assert_non_null(strstr(b->why, "ended while it started"));
	assert_int_equal(symlink(engine_path(), path), 0);
	UNTIL(b, b->ups == 1);
	unlink(path);
}

static void why_it_does_not_start_is_told(void **state)
{
	struct bench *b = *state;
	struct keeper_conf conf = conf_of(b);
	conf.memory_mb = 1; /* refused as an option: nothing is reported */
	start(b, &conf);
	UNTIL(b, b->downs == 1);
	b->keeper = keeper_free(b->keeper);
	/* its socket cannot be where a directory is missing */
	snprintf(b->socket, sizeof(b->socket), "%s/none/keeper", b->dir);
	conf = conf_of(b);
	start(b, &conf);
	UNTIL(b, b->downs == 2);
	assert_non_null(strstr(b->why, "/none"));
}

/* Far more than the keeper takes for one engine, and it is busy besides; the other one is served.
 */
static void what_an_engine_does_not_read_waits_here(void **state)
{
	struct bench *b = *state;
	start_default(b);
	struct engine *busy = engine_new(b, "one"), *other = engine_new(b, "two");
	UNTIL(b, busy->started == 1 && other->started == 1);
	kill(worker_pid(busy->worker), SIGSTOP);
	CLEANUP(freep)
	char *pad = malloc(100001);
	memset(pad, 'x', 100000);
	pad[100000] = '\0';
	for (int i = 1; i <= 100; i++) {
		json_t *msg = drop();
		json_object_set_new(msg, "pad", json_string(pad));
		ask(busy, msg, i);
	}
	ask(other, drop(), 1000);
	UNTIL(b, last_seq(other) == 1000);
	kill(worker_pid(busy->worker), SIGCONT);
	UNTIL(b, last_seq(busy) == 100);
	/* one that is as long as it may be, and one that is too long */
	CLEANUP(freep)
	char *huge = malloc(FRAME_BODY_MAX + 1);
	memset(huge, 'y', FRAME_BODY_MAX);
	huge[FRAME_BODY_MAX - 100] = '\0';
	json_t *msg = drop();
	json_object_set_new(msg, "pad", json_string(huge));
	ask(busy, msg, 101);
	UNTIL(b, last_seq(busy) == 101);
	huge[FRAME_BODY_MAX - 100] = 'y';
	huge[FRAME_BODY_MAX] = '\0';
	json_auto_t *too_long = drop();
	json_object_set_new(too_long, "pad", json_string(huge));
	assert_int_equal(worker_send(busy->worker, too_long, NULL), ERR_LIMIT);
	engine_free(busy);
	engine_free(other);
}

/* Its own messages, at once; the rest comes in its turn. */
static void drain_hands_over_what_has_arrived_for_one(void **state)
{
	struct bench *b = *state;
	start_default(b);
	struct engine *one = engine_new(b, "one"), *two = engine_new(b, "two");
	UNTIL(b, one->messages == 1 && two->messages == 1); /* ready */
	ask(one, drop(), 1);
	ask(two, drop(), 2);
	kill(worker_pid(two->worker), SIGKILL);
	for (int64_t end = loop_now_ms(b->loop) + PATIENCE_MS; last_seq(one) != 1;) {
		struct timespec t = {.tv_nsec = 1000000};
		worker_drain(one->worker);
		nanosleep(&t, NULL); /* nobody turns the loop, which is what this is about */
		assert_true(loop_now_ms(b->loop) <= end);
	}
	assert_int_equal(two->exits, 0);
	UNTIL(b, two->exits == 1);
	engine_free(one);
	engine_free(two);
}

static void quit_ends_everything(void **state)
{
	struct bench *b = *state;
	start_default(b);
	struct engine *e = engine_new(b, "one");
	UNTIL(b, e->started == 1);
	int engine = pidfd_open(worker_pid(e->worker), 0);
	int keeper = pidfd_open(keeper_pid(b->keeper), 0);
	keeper_quit(b->keeper);
	assert_true(is_dead(keeper)); /* not only about to be */
	close(keeper);
	await_death(engine);
	assert_int_equal(e->exits, 0);
	engine_free(e);
	b->keeper = keeper_free(b->keeper);
}

/* Given up while it starts: no process is left. */
static void a_start_that_is_given_up_leaves_nothing(void **state)
{
	struct bench *b = *state;
	const struct keeper_conf conf = conf_of(b);
	struct timespec t = {0};
	for (int i = 0; i < 25; i++) {
		start(b, &conf);
		/* at any moment of the start */
		t.tv_nsec = i * 12000000L;
		loop_turn(b->loop, 0);
		loop_turn(b->loop, 0);
		nanosleep(&t, NULL);
		if (i % 2 > 0)
			keeper_quit(b->keeper);
		b->keeper = keeper_free(b->keeper);
	}
	/* its lock is free, or held by one that serves */
	start_default(b);
	assert_in_range(b->downs, 0, 5);
}

static int count_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void engines_that_come_and_go_leave_no_descriptors(void **state)
{
	struct bench *b = *state;
	start_default(b);
	int before = count_fds();
	for (int i = 0; i < 30; i++) {
		struct engine *e = engine_new(b, "one");
		if (i % 3 > 0)
			UNTIL(b, e->started == 1);
		if (i % 3 > 1) {
			worker_kill(e->worker);
			UNTIL(b, e->exits == 1);
		}
		engine_free(e);
	}
	struct engine *e = engine_new(b, "one");
	UNTIL(b, e->started == 1);
	engine_free(e);
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (access(engine_path(), X_OK) < 0) {
		fprintf(stderr, "%s is not there: make all first\n", engine_path());
		return EXIT_FAILURE;
	}
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(engines_start_answer_and_end),
		T(what_is_not_started_yet_can_be_killed_and_freed),
		T(what_is_no_ring_is_no_engine),
		T(engines_are_left_and_adopted),
		T(a_keeper_with_other_settings_is_replaced),
		T(a_dead_keeper_is_replaced_and_its_engines_are_gone),
		T(a_keeper_that_does_not_answer_is_killed),
		T(a_program_that_cannot_start_is_tried_again),
		T(why_it_does_not_start_is_told),
		T(what_an_engine_does_not_read_waits_here),
		T(drain_hands_over_what_has_arrived_for_one),
		T(quit_ends_everything),
		T(a_start_that_is_given_up_leaves_nothing),
		T(engines_that_come_and_go_leave_no_descriptors),
	};
	return cmocka_run_group_tests_name("keeper of the agent", tests, NULL, NULL);
}
