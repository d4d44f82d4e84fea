/* fake_keeper.h - a keeper of engines that are functions of the test: the protocol of
 * docs/keeper-protocol.rst with neither Python nor a sandbox. It ends with its agent. */
#pragma once

#include "common/ctl_addr.h"
#include "common/frames.h"
#include "common/tap.h"
#include "common/util.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define FAKE_ENGINES 32

enum { FAKE_FD_CONTROL = 3, FAKE_FD_WAKE, FAKE_FD_RESULT };

typedef void fake_engine_fn(struct tap_peer *tap); /* ends by itself */

struct fake_child {
	uint32_t number; /* 0: free */
	pid_t pid;
	int pidfd, control_fd;
	int kept[4]; /* what the agent has, too: the real one keeps it for the next agent */
	struct frames control;
};

struct fake_keeper {
	json_t *conf;
	fake_engine_fn *run;
	int agent_fd;
	struct frames agent;
	struct fake_child children[FAKE_ENGINES];
};

static void fake_must(bool ok)
{
	if (!ok)
		_exit(98);
}

static void fake_tell(struct fake_keeper *k, json_t *msg, const int *fds, size_t n)
{
	struct frame *f = frame_of(0, msg, NULL);
	json_decref(msg);
	for (size_t i = 0; i < n; i++)
		fake_must(frame_add_fd(f, fds[i], NULL) == 0);
	frames_put(&k->agent, f);
}

static void fake_be_engine(struct fake_keeper *k, struct frame *f, const int *ends)
{
	struct tap_peer *tap = NULL;
	int high[5];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fake_must(tap_attach(f->fds[1], f->fds[2], &tap, NULL) == 0);
	for (int i = 0; i < 5; i++)
		high[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, 20);
	for (int i = 0; i < 5; i++)
		fake_must(dup2(high[i], i + 1) >= 0);
	close_range(FAKE_FD_RESULT + 1, ~0u, 0);
	k->run(tap);
	_exit(0);
}

static void fake_spawn(struct fake_keeper *k, uint32_t number, struct frame *f)
{
	int control[2], wake[2], result[2], out[2], errors[2];
	struct fake_child *c = k->children;
	while (c->number != 0)
		fake_must(++c < k->children + FAKE_ENGINES);
	fake_must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) == 0 &&
		  pipe2(wake, O_CLOEXEC) == 0 && pipe2(result, O_CLOEXEC) == 0 &&
		  pipe2(out, O_CLOEXEC) == 0 && pipe2(errors, O_CLOEXEC) == 0);
	const int theirs[] = {out[1], errors[1], control[1], wake[0], result[1]};
	c->number = number;
	c->pid = fork();
	fake_must(c->pid >= 0);
	if (c->pid == 0)
		fake_be_engine(k, f, theirs);
	for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
		close(theirs[i]);
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	c->control_fd = control[0];
	frames_init(&c->control, c->control_fd, FRAMES_PLAIN);
	const int ours[] = {wake[1], result[0], out[0], errors[0], c->pidfd};
	for (size_t i = 0; i < 4; i++)
		fcntl(ours[i], F_SETFL, O_NONBLOCK);
	fake_tell(k,
		  json_pack("{s:s, s:I, s:i}", "op", "spawned", "engine", (json_int_t)number, "fds",
			    5),
		  ours, 5);
	memcpy(c->kept, ours, sizeof(c->kept));
}

static struct fake_child *fake_child_of(struct fake_keeper *k, uint32_t number)
{
	for (size_t i = 0; i < FAKE_ENGINES; i++)
		if (number != 0 && k->children[i].number == number)
			return &k->children[i];
	return NULL;
}

static void fake_op(struct fake_keeper *k, struct frame *f)
{
	json_auto_t *msg = json_loadb(f->body, f->len, 0, NULL);
	const char *op = json_string_value(json_object_get(msg, "op"));
	uint32_t number = (uint32_t)json_integer_value(json_object_get(msg, "engine"));
	struct fake_child *c = fake_child_of(k, number);
	fake_must(op != NULL);
	if (strcmp(op, "hello") == 0)
		fake_tell(k,
			  json_pack("{s:s, s:s, s:O, s:[], s:i}", "op", "hello", "version",
				    IOTTALK_VERSION, "conf", k->conf, "layers", "engines", 0),
			  NULL, 0);
	else if (strcmp(op, "spawn") == 0)
		fake_spawn(k, number, f);
	else if (strcmp(op, "end") == 0 && c != NULL)
		kill(c->pid, SIGKILL);
	else if (strcmp(op, "quit") == 0)
		_exit(0);
}

static void fake_from_agent(struct fake_keeper *k)
{
	struct frame *f = NULL;
	int rc;
	while ((rc = frames_read(&k->agent, &f, NULL)) > 0) {
		struct fake_child *c = fake_child_of(k, f->number);
		if (f->number == 0) {
			fake_op(k, f);
		} else if (c != NULL) {
			json_int_t bytes = FRAME_HEAD_MAX + (json_int_t)f->len;
			fake_tell(k,
				  json_pack("{s:s, s:I, s:I}", "op", "took", "engine",
					    (json_int_t)f->number, "bytes", bytes),
				  NULL, 0);
			frames_put(&c->control, TAKE(f));
		}
		frame_free(f);
	}
	if (rc < 0)
		_exit(0); /* the agent has gone */
}

static void fake_from_engine(struct fake_keeper *k, struct fake_child *c)
{
	struct frame *f = NULL;
	while (frames_read(&c->control, &f, NULL) > 0) {
		f->number = c->number;
		frames_put(&k->agent, f);
	}
}

static void fake_reap(struct fake_keeper *k, struct fake_child *c)
{
	siginfo_t info = {0};
	char how[60];
	fake_must(waitid(P_PID, (id_t)c->pid, &info, WEXITED) == 0);
	snprintf(how, sizeof(how),
		 info.si_code == CLD_EXITED ? "exit status %d" : "killed by signal %d",
		 info.si_status);
	fake_from_engine(k, c);
	fake_tell(k,
		  json_pack("{s:s, s:I, s:s}", "op", "exited", "engine", (json_int_t)c->number,
			    "how", how),
		  NULL, 0);
	for (size_t i = 0; i < 4; i++)
		close(c->kept[i]);
	frames_done(&c->control);
	close(c->control_fd);
	close(c->pidfd);
	c->number = 0;
}

static _Noreturn void fake_serve(struct fake_keeper *k)
{
	for (;;) {
		struct pollfd p[1 + 2 * FAKE_ENGINES];
		for (size_t i = 0; i < FAKE_ENGINES; i++) {
			struct fake_child *c = &k->children[i];
			bool there = c->number != 0;
			if (there)
				frames_flush(&c->control, NULL);
			p[1 + 2 * i] = (struct pollfd){
				.fd = there ? c->control_fd : -1,
				.events = POLLIN | (frames_waiting(&c->control) ? POLLOUT : 0)};
			p[2 + 2 * i] =
				(struct pollfd){.fd = there ? c->pidfd : -1, .events = POLLIN};
		}
		frames_flush(&k->agent, NULL);
		p[0] = (struct pollfd){.fd = k->agent_fd,
				       .events =
					       POLLIN | (frames_waiting(&k->agent) ? POLLOUT : 0)};
		fake_must(poll(p, ARRAY_LEN(p), -1) > 0);
		for (size_t i = 0; i < FAKE_ENGINES; i++) {
			if (p[1 + 2 * i].revents & POLLIN)
				fake_from_engine(k, &k->children[i]);
			if (p[2 + 2 * i].revents != 0)
				fake_reap(k, &k->children[i]);
		}
		if (p[0].revents & (POLLIN | POLLHUP))
			fake_from_agent(k);
	}
}

/* Instead of main(), where the program was started as iottalk-engine. */
static _Noreturn void fake_keeper_main(int argc, char *argv[], fake_engine_fn *run)
{
	struct fake_keeper k = {.conf = json_object(), .run = run};
	const char *path = "";
	struct sockaddr_un addr;
	for (int i = 1; i + 1 < argc; i += 2) {
		static const struct {
			const char *option, *key;
			bool number;
		} keys[] = {{"--memory-mb", "memory_mb", true},
			    {"--function-mb", "function_mb", true},
			    {"--max-payload", "max_payload", true},
			    {"--qos", "qos", false},
			    {"--sandbox", "sandbox", false}};
		if (strcmp(argv[i], "--socket") == 0)
			path = argv[i + 1];
		for (size_t r = 0; r < ARRAY_LEN(keys); r++)
			if (strcmp(argv[i], keys[r].option) == 0)
				json_object_set_new(k.conf, keys[r].key,
						    keys[r].number
							    ? json_integer(atoll(argv[i + 1]))
							    : json_string(argv[i + 1]));
	}
	unlink(path);
	int dir = ctl_address(path, &addr, NULL);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fake_must(dir >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	pid_t pid = fork();
	fake_must(pid >= 0);
	if (pid > 0)
		_exit(0); /* the report descriptor lives on in the other */
	fake_must(listen(fd, 5) == 0 && dprintf(3, "{\"state\":\"ok\",\"layers\":[]}\n") > 0);
	close(3);
	k.agent_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	fake_must(k.agent_fd >= 0);
	frames_init(&k.agent, k.agent_fd, FRAMES_NUMBERED);
	fake_serve(&k);
}
