/* process.h - the real iottalk-engine with real rings and a control socket, and the tests in the
 * agent's place. */
#pragma once

#include "common/id.h"
#include "common/tap.h"
#include "common/util.h"
#include "engine/control.h"
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
/* after what it needs */
#include <cmocka.h>

#define WAIT_MS      30000 /* for what must happen; only a failure waits so long */
#define MAYBE_UNUSED __attribute__((unused))

struct process {
	struct tap_fds fds;
	struct tap *tap;
	pid_t pid; /* 0: not running */
	int wake_fd, result_fd, log_fd;
	struct control control;
	const char *memory_mb;
	json_t *unasked; /* frames that came while something else was awaited */
	char result[262144 + 1];
	char log[65536];
	size_t log_len;
};

static const char *process_path(void)
{
	static char path[PATH_MAX + 40];
	const char *build = getenv("BUILD");
	if (build != NULL) {
		snprintf(path, sizeof(path), "%s/bin/iottalk-engine", build);
		return path;
	}
	char self[PATH_MAX] = "";
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0)
		snprintf(path, sizeof(path), "%s/../../bin/iottalk-engine", dirname(self));
	return path;
}

static void process_child(struct process *p, int control, int wake, int result, int log)
{
	/* first out of the way of the low numbers, then each to its place */
	const int from[] = {-1,   log,   log, control, p->fds.in_ro_fd, p->fds.out_fd,
			    wake, result};
	int high[ARRAY_LEN(from)];
	for (size_t i = 1; i < ARRAY_LEN(from); i++)
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 100);
	for (size_t i = 1; i < ARRAY_LEN(from); i++)
		dup2(high[i], (int)i);
	execl(process_path(), "iottalk-engine", "--budget-ms", "1000", "--memory-mb", p->memory_mb,
	      "--max-payload", "262144", "--qos", "auto", (char *)NULL);
	fprintf(stderr, "%s: %s\n", process_path(), strerror(errno));
	_exit(127);
}

/* Take in what the engine printed. */
static void process_read_log(struct process *p)
{
	ssize_t n;
	while (p->log_len < sizeof(p->log) - 1 &&
	       (n = read(p->log_fd, p->log + p->log_len, sizeof(p->log) - 1 - p->log_len)) > 0)
		p->log_len += (size_t)n;
	p->log[p->log_len] = '\0';
}

/* Wait until fd is readable; the log is read meanwhile. */
static void process_await_fd(struct process *p, int fd, const char *what)
{
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = p->log_fd, .events = POLLIN}};
	do {
		if (poll(fds, ARRAY_LEN(fds), WAIT_MS) <= 0)
			fail_msg("waited too long for %s; log:\n%s", what, p->log);
		process_read_log(p);
		if (fds[1].revents & POLLHUP)
			fds[1].fd = -1;
	} while (fds[0].revents == 0);
}

/* The next frame that has `op` `value` (op NULL: any); others that come before are kept in unasked.
 */
static json_t *process_await(struct process *p, const char *key, const char *value)
{
	struct err err = {0};
	for (;;) {
		json_t *frame = NULL;
		int rc = control_read(&p->control, &frame, &err);
		if (rc < 0)
			fail_msg("waiting for %s %s: %s; log:\n%s", key, value, err.text, p->log);
		if (rc == 0) {
			process_await_fd(p, p->control.fd, value);
			continue;
		}
		const char *got = json_string_value(json_object_get(frame, key));
		if (got != NULL && strcmp(got, value) == 0)
			return frame;
		json_array_append_new(p->unasked, frame);
	}
}

static void process_start(struct process *p)
{
	int control[2], wake[2], result[2], log[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
	assert_int_equal(pipe2(wake, O_CLOEXEC), 0);
	assert_int_equal(pipe2(result, O_CLOEXEC), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0)
		process_child(p, control[1], wake[0], result[1], log[1]);
	close(control[1]);
	close(wake[0]);
	close(result[1]);
	close(log[1]);
	p->wake_fd = wake[1];
	p->result_fd = result[0];
	p->log_fd = log[0];
	fcntl(p->result_fd, F_SETFL, O_NONBLOCK);
	fcntl(p->log_fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(control_init(&p->control, control[0], NULL), 0);
	json_decref(process_await(p, "op", "ready"));
}

/* Wait for its end. ret: as waitpid(). */
static int process_ended(struct process *p)
{
	int status = 0;
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	process_read_log(p);
	p->pid = 0;
	close(p->control.fd);
	close(p->wake_fd);
	close(p->result_fd);
	close(p->log_fd);
	control_done(&p->control);
	return status;
}

static int process_setup_memory(void **state, const char *memory_mb)
{
	struct process *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->memory_mb = memory_mb;
	p->unasked = json_array();
	assert_int_equal(tap_make(1 << 20, 1 << 20, &p->fds, NULL), 0);
	assert_int_equal(tap_open(p->fds.in_fd, p->fds.out_fd, &p->tap, NULL), 0);
	process_start(p);
	*state = p;
	return 0;
}

static MAYBE_UNUSED int process_setup(void **state)
{
	return process_setup_memory(state, "256");
}

static MAYBE_UNUSED int process_teardown(void **state)
{
	struct process *p = *state;
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		process_ended(p);
	}
	tap_close(p->tap);
	tap_fds_done(&p->fds);
	json_decref(p->unasked);
	free(p);
	return 0;
}

/* All graphs are loaded: look at the ring. */
static MAYBE_UNUSED void process_go(struct process *p)
{
	assert_int_equal(write(p->wake_fd, "", 1), 1);
}

static MAYBE_UNUSED void process_send(struct process *p, uint32_t slot, const char *payload)
{
	struct tap_rec rec = {.slot = slot, .qos = 1, .len = (uint32_t)strlen(payload)};
	assert_int_equal(tap_push(p->tap, &rec, payload), 0);
	if (tap_engine_sleeps(p->tap))
		assert_int_equal(write(p->wake_fd, "", 1), 1);
}

/* Take a result if there is one. ret: 1 and the payload in p->result. */
static MAYBE_UNUSED int process_pull(struct process *p, struct tap_rec *ret)
{
	int rc = tap_pull(p->tap, ret, p->result, sizeof(p->result) - 1);
	assert_true(rc >= 0);
	p->result[rc > 0 ? ret->len : 0] = '\0';
	return rc;
}

/* Wait for a result: awake only by the result pipe. */
static MAYBE_UNUSED void process_result(struct process *p, uint32_t slot, const char *payload)
{
	struct tap_rec rec;
	char bytes[4096];
	while (process_pull(p, &rec) == 0) {
		tap_set_asleep(p->tap, true);
		int got = process_pull(p, &rec);
		if (got == 0)
			process_await_fd(p, p->result_fd, payload);
		tap_set_asleep(p->tap, false);
		if (got != 0)
			break;
		while (read(p->result_fd, bytes, sizeof(bytes)) > 0)
			continue;
	}
	if (rec.slot != slot || strcmp(p->result, payload) != 0)
		fail_msg("wanted %u %s, got %u %s", slot, payload, rec.slot, p->result);
}

static MAYBE_UNUSED void process_ask(struct process *p, json_t *request)
{
	struct err err = {0};
	if (control_write(&p->control, request, &err) < 0)
		fail_msg("%s", err.text);
}

/* A request and its answer, ok or not. */
static MAYBE_UNUSED json_t *process_answer(struct process *p, json_t *request)
{
	const char *op = json_string_value(json_object_get(request, "op"));
	char want[20];
	snprintf(want, sizeof(want), "%s", op);
	process_ask(p, request);
	return process_await(p, "op", want);
}

/* A graph with an IDF on slot 1 and an ODF on slot 2; NULL: no function. */
static MAYBE_UNUSED json_t *process_graph(const char *id, int slot, const char *idf,
					  const char *join, const char *odf)
{
	const char *sources[] = {idf, join, odf};
	json_t *digests[3], *funcs = json_object();
	for (size_t i = 0; i < 3; i++) {
		struct digest_text digest = {""};
		if (sources[i] != NULL) {
			digest = sha256_hex(sources[i], strlen(sources[i]));
			json_object_set_new(funcs, digest.s, json_string(sources[i]));
		}
		digests[i] = sources[i] != NULL ? json_string(digest.s) : json_null();
	}
	return json_pack("{s:s, s:i, s:o, s:{s:s, s:s, s:i, s:[{s:i, s:i, s:s, s:s, s:o}], "
			 "s:{s:o}, s:[{s:i, s:i, s:s, s:s, s:o}]}}",
			 "op", "graph", "seq", 1, "funcs", funcs, "doc", "id", id, "owner", "test",
			 "rev", 1, "idf", "lid", 1, "slot", slot, "da_id", "da", "feature", "in",
			 "func", digests[0], "join", "func", digests[1], "odf", "lid", 2, "slot",
			 slot + 1, "da_id", "da", "feature", "out", "func", digests[2]);
}

static MAYBE_UNUSED void process_must_put(struct process *p, json_t *request)
{
	json_auto_t *answer = process_answer(p, request);
	if (strcmp(json_string_value(json_object_get(answer, "state")), "ok") != 0)
		fail_msg("refused: %s", json_string_value(json_object_get(answer, "reason")));
}
