/* test_service.c - a supervised process (small shell scripts stand for daemons), log files, jobs,
 * ready notices. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/util.h"
#include "iotctl/job.h"
#include "iotctl/logfile.h"
#include "iotctl/notify.h"
#include "iotctl/service.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LIMIT_MS    15000
#define WATCHDOG_MS 1000

struct world {
	char dir[64], log[96], pid[96];
	struct loop *loop;
	struct service *sv;
	enum service_state until;
	unsigned until_starts, starts;
	bool timed_out;
	int64_t started_ms[16];
};

static void look(struct world *w)
{
	if (service_state(w->sv) == w->until && w->starts >= w->until_starts)
		loop_quit(w->loop, 0);
}

static void on_started(void *arg, struct service *sv)
{
	struct world *w = arg;

	(void)sv;
	if (w->starts < ARRAY_LEN(w->started_ms))
		w->started_ms[w->starts] = loop_now_ms(w->loop);
	w->starts++;
	look(w);
}

static void on_change(void *arg, struct service *sv)
{
	(void)sv;
	look(arg);
}

static const struct service_events events = {on_started, on_change};

static void on_limit(void *arg)
{
	struct world *w = arg;

	w->timed_out = true;
	loop_quit(w->loop, 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err;

	assert_non_null(w);
	strcpy(w->dir, P_tmpdir "/test_service.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->log, sizeof(w->log), "%s/x.log", w->dir);
	snprintf(w->pid, sizeof(w->pid), "%s/x.pid", w->dir);
	assert_int_equal(loop_new(&w->loop, &err), 0);
	assert_int_equal(loop_add_timer(w->loop, LIMIT_MS, 0, on_limit, w, NULL, &err), 0);
	struct service_conf conf = {
		.name = "x", .log_path = w->log, .pid_path = w->pid, .watchdog_ms = WATCHDOG_MS};

	assert_int_equal(service_new(w->loop, &conf, &events, w, &w->sv, &err), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char old[128];

	if (service_pid(w->sv) > 0)
		kill(service_pid(w->sv), SIGKILL);
	service_free(w->sv);
	loop_free(w->loop);
	snprintf(old, sizeof(old), "%s.1", w->log);
	unlink(old);
	unlink(w->log);
	unlink(w->pid);
	rmdir(w->dir);
	free(w);
	return 0;
}

static void run_script(struct world *w, const char *script, const char *notify)
{
	char text[500];
	char *argv[] = {"/bin/sh", "-c", text, NULL};
	struct err err;

	snprintf(text, sizeof(text), "%s", script);
	assert_int_equal(service_set_command(w->sv, argv, notify, &err), 0);
	service_start(w->sv);
}

static void await(struct world *w, enum service_state state, unsigned starts)
{
	w->until = state;
	w->until_starts = starts;
	if (service_state(w->sv) != state || w->starts < starts)
		assert_int_equal(loop_run(w->loop), 0);
	if (w->timed_out)
		fail_msg("it is %s after %u starts, not %s after %u",
			 service_state_name(service_state(w->sv)), w->starts,
			 service_state_name(state), starts);
}

static const char *text_of(json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text != NULL ? text : "";
}

static void early_deaths_end_in_failure_with_the_log(void **state)
{
	struct world *w = *state;

	run_script(w, "echo first words; echo 'more words' >&2; exit 7", NULL);
	await(w, SERVICE_FAILED, 3);
	json_auto_t *status = service_status(w->sv);
	json_auto_t *tail = service_log_tail(w->sv, 3);

	assert_string_equal(text_of(status, "state"), "failed");
	assert_string_equal(text_of(status, "last_exit"), "exit status 7");
	assert_non_null(strstr(text_of(status, "reason"), "ended 3 times before it was ready"));
	assert_int_equal(json_integer_value(json_object_get(status, "restarts")), 2);
	assert_null(json_object_get(status, "pid"));
	assert_int_equal(json_array_size(tail), 2); /* of the last of three tries */
	assert_string_equal(json_string_value(json_array_get(tail, 0)), "first words");
	assert_string_equal(json_string_value(json_array_get(tail, 1)), "more words");
	struct stat st;

	assert_int_equal(stat(w->log, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void one_that_was_ready_is_restarted_with_growing_pauses(void **state)
{
	struct world *w = *state;

	run_script(w, "read forever < /dev/zero", NULL);
	for (unsigned i = 1; i <= 4; i++) {
		await(w, SERVICE_STARTING, i);
		service_set_ready(w->sv);
		assert_int_equal(kill(service_pid(w->sv), SIGKILL), 0);
		await(w, SERVICE_STARTING, i + 1);
	}
	assert_in_range(w->started_ms[1] - w->started_ms[0], 0, 190);
	assert_in_range(w->started_ms[2] - w->started_ms[1], 200, 1200);
	assert_in_range(w->started_ms[3] - w->started_ms[2], 400, 1600);
	assert_in_range(w->started_ms[4] - w->started_ms[3], 800, 2400);
	json_auto_t *status = service_status(w->sv);

	assert_string_equal(text_of(status, "last_exit"), "signal 9 (Killed)");
}

static void missing_program_fails_with_its_name(void **state)
{
	struct world *w = *state;
	char *argv[] = {"/nonexistent/program", NULL};

	assert_int_equal(service_set_command(w->sv, argv, NULL, NULL), 0);
	service_start(w->sv);
	assert_int_equal(service_state(w->sv), SERVICE_FAILED);
	json_auto_t *status = service_status(w->sv);

	assert_non_null(strstr(text_of(status, "reason"), "/nonexistent/program"));
}

static void stop_ends_it_and_a_pending_restart(void **state)
{
	struct world *w = *state;

	run_script(w, "read forever < /dev/zero", NULL);
	pid_t pid = service_pid(w->sv);

	service_stop(w->sv);
	assert_int_equal(service_state(w->sv), SERVICE_STOPPING);
	await(w, SERVICE_STOPPED, 1);
	assert_int_equal(kill(pid, 0), -1);
	/* One that waits for its next start has no process: it is stopped at once, and stays. */
	run_script(w, "exit 1", NULL);
	await(w, SERVICE_BACKOFF, 2);
	service_stop(w->sv);
	assert_int_equal(service_state(w->sv), SERVICE_STOPPED);
	unsigned starts = w->starts;

	for (int i = 0; i < 5; i++)
		loop_turn(w->loop, 50);
	assert_int_equal(w->starts, starts);
}

/* The pid lock of a process that knows nothing of it lives and dies with it; another service object
 * finds it. */
static void running_process_is_adopted(void **state)
{
	struct world *w = *state;
	struct service_conf conf = {
		.name = "x", .log_path = w->log, .pid_path = w->pid, .watchdog_ms = WATCHDOG_MS};
	struct service *first = w->sv;
	struct err err;

	assert_false(service_adopt(first)); /* nobody there */
	run_script(w, "echo started; read forever < /dev/zero", NULL);
	pid_t pid = service_pid(first);

	while (logfile_size(w->log) == 0) /* it has the lock before it is the script */
		loop_turn(w->loop, 20);
	assert_int_equal(service_new(w->loop, &conf, &events, w, &w->sv, &err), 0);
	assert_true(service_adopt(w->sv));
	assert_int_equal(service_pid(w->sv), pid);
	assert_int_equal(service_state(w->sv), SERVICE_STARTING);
	service_set_ready(w->sv);
	service_free(first); /* as if the supervisor that started it were gone */
	assert_int_equal(kill(pid, SIGTERM), 0);
	w->until_starts = 0;
	while (service_state(w->sv) == SERVICE_READY && !w->timed_out)
		loop_turn(w->loop, 100);
	json_auto_t *status = service_status(w->sv);

	assert_string_equal(text_of(status, "last_exit"), "ended, status unknown");
	while (service_state(w->sv) == SERVICE_BACKOFF &&
	       !w->timed_out) /* nobody told how to start it */
		loop_turn(w->loop, 100);
	assert_int_equal(service_state(w->sv), SERVICE_FAILED);
}

static void on_notice(void *arg, pid_t pid, enum notice notice)
{
	struct world *w = arg;

	if (pid != service_pid(w->sv))
		return;
	if (notice == NOTICE_READY)
		service_set_ready(w->sv);
	else
		service_alive(w->sv);
}

static void notice_of_the_process_itself_counts(void **state)
{
	struct world *w = *state;
	struct notify *n = NULL;
	struct err err;

	assert_int_equal(notify_new(w->loop, on_notice, w, &n, &err), 0);
	/* The interpreter becomes the daemon, so the notice comes from the pid that was started. */
	char *argv[] = {"/usr/bin/python3", "-c",
			"import os, socket, sys\n"
			"s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
			"to = '\\0' + os.environ['NOTIFY_SOCKET'][1:]\n"
			"for text in (b'READY=0', b'', b'NOREADY=1', b'READY=11', b'x' * 5000, "
			"b'STATUS=x\\nREADY=1'):\n"
			"    s.sendto(text, to)\n"
			"    print(text, flush=True)\n"
			"sys.stdin.read(); import time; time.sleep(60)",
			NULL};

	assert_int_equal(service_set_command(w->sv, argv, notify_address(n), &err), 0);
	service_start(w->sv);
	await(w, SERVICE_READY, 1);
	assert_true(logfile_size(w->log) > 0);

	/* Somebody else's notice changes nothing; daemon_notify_ready() is the sender that daemons
	 * use. */
	service_stop(w->sv);
	await(w, SERVICE_STOPPED, 1);
	run_script(w, "read forever < /dev/zero", notify_address(n));
	assert_int_equal(setenv("NOTIFY_SOCKET", notify_address(n), 1), 0);
	daemon_notify_ready();
	unsetenv("NOTIFY_SOCKET");
	for (int i = 0; i < 3; i++)
		loop_turn(w->loop, 20);
	assert_int_equal(service_state(w->sv), SERVICE_STARTING);
	notify_free(n);
}

static void one_that_hangs_is_replaced(void **state)
{
	struct world *w = *state;
	struct notify *n = NULL;
	struct err err;

	/* What is meant for us is not for it. */
	setenv("WATCHDOG_PID", "1", 1);
	setenv("WATCHDOG_USEC", "1", 1);
	assert_int_equal(notify_new(w->loop, on_notice, w, &n, &err), 0);
	/* Some signs of life beyond the time that one of them is good for, then none. */
	char *argv[] = {"/usr/bin/python3", "-c",
			"import os, socket, time\n"
			"assert os.environ['WATCHDOG_USEC'] == '1000000'\n"
			"assert 'WATCHDOG_PID' not in os.environ\n"
			"s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
			"to = '\\0' + os.environ['NOTIFY_SOCKET'][1:]\n"
			"s.sendto(b'WATCHDOG=1', to)\n"
			"s.sendto(b'READY=1', to)\n"
			"for i in range(25):\n"
			"    time.sleep(0.05)\n"
			"    s.sendto(b'WATCHDOG=1', to)\n"
			"print('silent', flush=True)\n"
			"time.sleep(60)",
			NULL};

	assert_int_equal(service_set_command(w->sv, argv, notify_address(n), &err), 0);
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	service_start(w->sv);
	await(w, SERVICE_READY, 2);
	json_auto_t *status = service_status(w->sv);
	json_auto_t *tail = logfile_tail(w->log, 0, 10);

	assert_string_equal(text_of(status, "last_exit"), "signal 9 (Killed)");
	assert_string_equal(json_string_value(json_array_get(tail, 0)), "silent");
	notify_free(n);
}

static void one_that_gives_no_signs_of_life_is_left_alone(void **state)
{
	struct world *w = *state;

	run_script(w, "read forever < /dev/zero", NULL);
	service_set_ready(w->sv);
	for (int64_t end_ms = loop_now_ms(w->loop) + 2 * WATCHDOG_MS;
	     loop_now_ms(w->loop) < end_ms;)
		loop_turn(w->loop, WATCHDOG_MS);
	assert_int_equal(service_state(w->sv), SERVICE_READY);
	assert_int_equal(w->starts, 1);
}

/* ---- logs ---- */

static void append(const char *path, const char *text, size_t times)
{
	int fd = logfile_open(path, NULL);

	assert_true(fd >= 0);
	for (size_t i = 0; i < times; i++)
		assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void log_is_rotated_under_its_writer(void **state)
{
	struct world *w = *state;
	char old[128];
	int fd = logfile_open(w->log, NULL);
	json_auto_t *tail = NULL;

	snprintf(old, sizeof(old), "%s.1", w->log);
	assert_int_equal(logfile_rotate(w->log, 1000, NULL), 0);
	append(w->log, "0123456789abcde\n", 100);
	assert_int_equal(logfile_rotate(w->log, 1000, NULL), 1);
	assert_int_equal(logfile_size(old), 1600);
	assert_int_equal(logfile_size(w->log), 0);
	assert_int_equal(write(fd, "next\n", 5), 5); /* opened before */
	assert_int_equal(logfile_size(w->log), 5);
	close(fd);
	tail = logfile_tail(w->log, 99999, 10); /* from a place that is gone */
	assert_int_equal(json_array_size(tail), 1);
	append(w->log, "0123456789abcde\n", 100);
	assert_int_equal(logfile_rotate(w->log, 1000, NULL),
			 1); /* the older generation is replaced */
	assert_int_equal(logfile_size(old), 1605);
}

static void tail_is_the_last_lines_since(void **state)
{
	struct world *w = *state;
	off_t from;

	append(w->log, "before\n", 1);
	from = logfile_size(w->log);
	append(w->log, "one\ntwo\nthree\n\xff\xfe\nunfinished", 1);
	json_auto_t *all = logfile_tail(w->log, from, 10);
	json_auto_t *two = logfile_tail(w->log, 0, 2);
	json_auto_t *none = logfile_tail("/nonexistent/log", 0, 10);

	assert_int_equal(json_array_size(all), 4);
	assert_string_equal(json_string_value(json_array_get(all, 0)), "one");
	assert_non_null(strstr(json_string_value(json_array_get(all, 3)), "not UTF-8"));
	assert_int_equal(json_array_size(two), 2);
	assert_string_equal(json_string_value(json_array_get(two, 0)), "three");
	assert_int_equal(json_array_size(none), 0);

	append(w->log, "a line that makes the file longer than a tail may be\n", 1000);
	json_auto_t *last = logfile_tail(w->log, 0, 100000);

	assert_in_range(json_array_size(last), 100, 400);
}

/* ---- jobs ---- */

struct work {
	atomic_bool may_end;
	bool done, cancelled;
	struct loop *loop;
};

static void job_work(struct job *job, void *arg)
{
	struct work *work = arg;

	while (!atomic_load(&work->may_end) && !job_cancelled(job))
		sched_yield();
}

static void job_done(void *owner, void *arg, bool cancelled)
{
	struct work *work = arg;

	(void)owner;
	work->done = true;
	work->cancelled = cancelled;
	loop_quit(work->loop, 0);
}

static void jobs_come_back_or_are_cancelled(void **state)
{
	struct world *w = *state;
	struct work one = {.loop = w->loop}, two = {.loop = w->loop};
	struct jobs *js = NULL;

	assert_int_equal(jobs_new(w->loop, w, &js, NULL), 0);
	assert_true(jobs_idle(js));
	assert_int_equal(job_start(js, job_work, job_done, &one, NULL), 0);
	assert_int_equal(job_start(js, job_work, job_done, &two, NULL), 0);
	assert_false(jobs_idle(js));
	atomic_store(&one.may_end, true);
	loop_run(w->loop);
	assert_true(one.done && !one.cancelled && !two.done);
	jobs_free(js); /* waits for the other one */
	assert_true(two.done && two.cancelled);
}

int main(void)
{
	daemon_block_signals();
	log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(early_deaths_end_in_failure_with_the_log),
		IN_WORLD(one_that_was_ready_is_restarted_with_growing_pauses),
		IN_WORLD(missing_program_fails_with_its_name),
		IN_WORLD(stop_ends_it_and_a_pending_restart),
		IN_WORLD(running_process_is_adopted),
		IN_WORLD(notice_of_the_process_itself_counts),
		IN_WORLD(one_that_hangs_is_replaced),
		IN_WORLD(one_that_gives_no_signs_of_life_is_left_alone),
		IN_WORLD(log_is_rotated_under_its_writer),
		IN_WORLD(tail_is_the_last_lines_since),
		IN_WORLD(jobs_come_back_or_are_cancelled),
	};
	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
