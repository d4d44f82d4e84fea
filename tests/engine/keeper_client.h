/* keeper_client.h - the real keeper, and the tests in the agent's place at its socket. */
#pragma once

#include "common/ctl_addr.h"
#include "common/frames.h"
#include "common/tap.h"
#include "common/util.h"
#include "tests/engine/engine_path.h"
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
/* after what it needs */
#include <cmocka.h>

#define WAIT_MS 30000 /* for what must happen; only a failure waits so long */

struct client {
	char dir[40], socket[60];
	pid_t pid; /* of the keeper, as we see it; 0: none */
	char report[8192];
	int exit_status; /* of the program that started the keeper */
	int fd;          /* -1: not connected */
	struct frames frames;
	struct frame *kept, **kept_end; /* came while something else was awaited */
	uint32_t next_number;
};

static void client_init(struct client *c)
{
	*c = (struct client){.fd = -1, .next_number = 1};
	c->kept_end = &c->kept;
	snprintf(c->dir, sizeof(c->dir), P_tmpdir "/iottalk-test-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	snprintf(c->socket, sizeof(c->socket), "%s/keeper", c->dir);
}

/* Start the program; extra: further arguments, up to a NULL. Its report is in c->report. ret:
 * whether a keeper is there. */
static bool client_launch(struct client *c, const char *const *extra)
{
	const char *argv[32] = {"iottalk-engine", "--socket", c->socket, "--report-fd", "3"};
	size_t n = 5, len = 0;
	int report[2];
	while (extra != NULL && *extra != NULL && n < ARRAY_LEN(argv) - 1)
		argv[n++] = *extra++;
	assert_int_equal(pipe2(report, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fcntl(report[1], F_DUPFD_CLOEXEC, 10), 3);
		execv(engine_path(), (char *const *)argv);
		fprintf(stderr, "%s: %s\n", engine_path(), strerror(errno));
		_exit(127);
	}
	close(report[1]);
	ssize_t got;
	while ((got = read(report[0], c->report + len, sizeof(c->report) - 1 - len)) > 0)
		len += (size_t)got;
	c->report[len] = '\0';
	close(report[0]);
	assert_int_equal(waitpid(pid, &c->exit_status, 0), pid);
	return strstr(c->report, "\"state\":\"ok\"") != NULL;
}

static void client_connect(struct client *c)
{
	struct sockaddr_un addr;
	struct ucred who;
	socklen_t len = sizeof(who);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(c->fd >= 0);
	CLEANUP(closep)
	int dir = ctl_address(c->socket, &addr, NULL);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &len), 0);
	c->pid = who.pid;
	frames_init(&c->frames, c->fd, FRAMES_NUMBERED);
}

static MAYBE_UNUSED void client_start(struct client *c, const char *const *extra)
{
	if (!client_launch(c, extra))
		fail_msg("no keeper: %s", c->report);
	client_connect(c);
}

static void client_hang_up(struct client *c)
{
	if (c->fd < 0)
		return;
	frames_done(&c->frames);
	closep(&c->fd);
	while (c->kept != NULL) {
		struct frame *f = c->kept;
		c->kept = f->next;
		frame_free(f);
	}
	c->kept_end = &c->kept;
}

/* ret: whether something can be read; waits for it if wait_ms is not 0. */
static bool readable(int fd, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, wait_ms) > 0;
}

/* Wait until process pid is gone; it need not be our child. */
static MAYBE_UNUSED void await_death(int pidfd)
{
	if (!readable(pidfd, WAIT_MS))
		fail_msg("a process lives that should not");
}

static void client_flush(struct client *c)
{
	struct err err = {0};
	while (frames_waiting(&c->frames)) {
		if (frames_flush(&c->frames, &err) < 0)
			fail_msg("%s", err.text);
		struct pollfd p = {.fd = c->fd, .events = POLLOUT};
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	}
}

/* msg: taken. */
static MAYBE_UNUSED void client_send(struct client *c, uint32_t number, json_t *msg, const int *fds,
				     size_t n_fds)
{
	struct frame *f = frame_of(number, msg, NULL);
	assert_non_null(f);
	json_decref(msg);
	for (size_t i = 0; i < n_fds; i++)
		assert_int_equal(frame_add_fd(f, fds[i], NULL), 0);
	frames_put(&c->frames, f);
	client_flush(c);
}

/* key NULL: whatever it says */
static bool frame_is(const struct frame *f, uint32_t number, const char *key, const char *value)
{
	if (f->number != number || key == NULL)
		return f->number == number;
	json_auto_t *msg = json_loadb(f->body, f->len, JSON_ALLOW_NUL, NULL);
	const char *got = json_string_value(json_object_get(msg, key));
	return got != NULL && strcmp(got, value) == 0;
}

/* Read what is there. ret: false: the connection is closed. */
static bool client_read(struct client *c)
{
	struct err err = {0};
	struct frame *f = NULL;
	int rc;
	while ((rc = frames_read(&c->frames, &f, &err)) > 0) {
		f->next = NULL;
		*c->kept_end = f;
		c->kept_end = &f->next;
	}
	return rc == 0;
}

/* Take the first kept frame of that number with key value. ret: NULL: none. */
static struct frame *client_take(struct client *c, uint32_t number, const char *key,
				 const char *value)
{
	for (struct frame **at = &c->kept; *at != NULL; at = &(*at)->next) {
		struct frame *f = *at;
		if (!frame_is(f, number, key, value))
			continue;
		*at = f->next;
		if (f->next == NULL)
			c->kept_end = at;
		return f;
	}
	return NULL;
}

static MAYBE_UNUSED struct frame *client_await(struct client *c, uint32_t number, const char *key,
					       const char *value)
{
	struct frame *f;
	while ((f = client_take(c, number, key, value)) == NULL) {
		if (!readable(c->fd, WAIT_MS))
			fail_msg("waited too long for %s %s of %u", key, value, number);
		if (!client_read(c) && (f = client_take(c, number, key, value)) == NULL)
			fail_msg("the keeper hung up before %s %s of %u", key, value, number);
		if (f != NULL)
			return f;
	}
	return f;
}

/* What the keeper says of that engine; others' are kept. */
static MAYBE_UNUSED struct frame *client_await_engine(struct client *c, const char *op,
						      uint32_t engine)
{
	struct frame *f, *others = NULL, **end = &others;
	for (;; *end = f, end = &f->next) {
		f = client_await(c, 0, "op", op);
		f->next = NULL;
		json_auto_t *msg = json_loadb(f->body, f->len, 0, NULL);
		if (json_integer_value(json_object_get(msg, "engine")) == engine)
			break;
	}
	/* the others first again */
	*end = c->kept;
	c->kept = others;
	for (c->kept_end = &c->kept; *c->kept_end != NULL;)
		c->kept_end = &(*c->kept_end)->next;
	return f;
}

static MAYBE_UNUSED json_t *frame_json(const struct frame *f)
{
	json_t *msg = json_loadb(f->body, f->len, JSON_ALLOW_NUL, NULL);
	assert_non_null(msg);
	return msg;
}

/* The same as JSON, without descriptors; yours. */
static MAYBE_UNUSED json_t *client_await_json(struct client *c, uint32_t number, const char *key,
					      const char *value)
{
	struct frame *f = client_await(c, number, key, value);
	json_t *msg = json_loadb(f->body, f->len, JSON_ALLOW_NUL, NULL);
	frame_free(f);
	return msg;
}

/* Until the keeper has closed the connection. */
static MAYBE_UNUSED void client_await_hang_up(struct client *c)
{
	while (client_read(c))
		if (!readable(c->fd, WAIT_MS))
			fail_msg("the keeper does not hang up");
	client_hang_up(c);
}

static MAYBE_UNUSED pid_t pid_of(int pidfd)
{
	char path[60], line[200];
	int pid = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Pid: %d", &pid) == 1)
			break;
	fclose(f);
	return pid;
}

/* End the keeper, if it lives, and see it gone. */
static MAYBE_UNUSED void client_done(struct client *c)
{
	char lock[80];
	client_hang_up(c);
	int pidfd = c->pid > 0 ? (int)syscall(SYS_pidfd_open, c->pid, 0) : -1;
	if (pidfd >= 0) {
		syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
		await_death(pidfd);
		close(pidfd);
	}
	c->pid = 0;
	unlink(c->socket);
	snprintf(lock, sizeof(lock), "%s.lock", c->socket);
	unlink(lock);
	rmdir(c->dir);
}
