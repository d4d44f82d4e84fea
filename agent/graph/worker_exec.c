#include "agent/graph/worker_exec.h"
#include "agent/graph/lines.h"
#include "common/util.h"
#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MESSAGE_MAX    (16u << 20)
#define QUEUE_MAX      (256u << 20) /* reloading very many graphs is one burst */
#define FRAME_HEAD     4
#define READ_CHUNK     (64u << 10)
#define READS_PER_TURN 16
#define FIRST_FREE_FD  10 /* above every number that the child gets */

enum { CHILD_CONTROL = 3, CHILD_IN, CHILD_OUT, CHILD_WAKE, CHILD_RESULT, CHILD_FDS };

struct frame {
	struct frame *next;
	size_t len, sent;
	char bytes[];
};

struct worker {
	struct loop *loop;
	struct worker_events events;
	void *arg;
	pid_t pid;
	int pidfd, control, wake, result;
	struct loop_src *exit_src, *control_src;
	struct lines *out, *errors;
	struct frame *first, *last; /* waiting to be written */
	size_t queued_bytes;
	bool writing; /* EPOLLOUT is asked for */
	bool deaf;    /* the control socket broke: nothing more from there */
	char *in;     /* bytes read, not yet a whole message */
	size_t in_len, in_cap;
};

/* Both ends of everything the child gets; [0] ours, [1] the child's. */
struct plumbing {
	int control[2], wake[2], result[2], out[2], errors[2], null;
};

static void pair_close(int pair[2])
{
	closep(&pair[0]);
	closep(&pair[1]);
}

static void plumbing_done(struct plumbing *p)
{
	pair_close(p->control);
	pair_close(p->wake);
	pair_close(p->result);
	pair_close(p->out);
	pair_close(p->errors);
	closep(&p->null);
}

/* ours: which end of the pipe stays with us. Both ends are non-blocking for us and for output; each
 * has its own description. */
static int pipe_for(int pair[2], int ours, bool child_nonblock)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	pair[0] = ends[ours];
	pair[1] = ends[!ours];
	if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
		return -1;
	return child_nonblock ? fcntl(pair[1], F_SETFL, O_NONBLOCK) : 0;
}

static int plumb(struct plumbing *p, struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->control) < 0 ||
	    fcntl(p->control[0], F_SETFL, O_NONBLOCK) < 0 || pipe_for(p->wake, 1, false) < 0 ||
	    pipe_for(p->result, 0, false) < 0 || pipe_for(p->out, 0, true) < 0 ||
	    pipe_for(p->errors, 0, true) < 0)
		return err_sys(err, "descriptors for an engine");
	p->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (p->null < 0)
		return err_sys(err, "/dev/null");
	return 0;
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static _Noreturn void child_exec(const struct plumbing *p, const struct worker_conf *conf,
				 char *const argv[], char *const envp[], pid_t parent)
{
	const int from[] = {p->null,     p->out[1],    p->errors[1], p->control[1],
			    conf->in_fd, conf->out_fd, p->wake[1],   p->result[1]};
	int high[ARRAY_LEN(from)];
	sigset_t none;

	/* Dies with the agent; if that has happened before the call, leave now. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* First out of the way of the low numbers, then each to its place. */
	for (size_t i = 0; i < ARRAY_LEN(from); i++) {
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
		if (high[i] < 0)
			_exit(127);
	}
	for (size_t i = 0; i < ARRAY_LEN(from); i++)
		if (dup2(high[i], (int)i) < 0)
			_exit(127);
	if (close_range(CHILD_FDS, ~0U, 0) < 0)
		_exit(127);
	execve(argv[0], argv, envp);
	_exit(127);
}

static int spawn(struct worker *w, const struct plumbing *p, const struct worker_conf *conf,
		 struct err *err)
{
	char budget[24], memory[24], payload[24], tz[128], asan[512];
	char *argv[] = {(char *)conf->program, "--budget-ms", budget,  "--memory-mb",     memory,
			"--max-payload",       payload,       "--qos", (char *)conf->qos, NULL};
	/* Nothing of our environment but what a clock needs, and what a sanitizer build was told.
	 */
	char *envp[] = {
		"LANG=C.UTF-8", "PATH=/usr/bin:/bin", "OPENBLAS_NUM_THREADS=1", NULL, NULL, NULL};
	size_t n = 3;
	const char *tz_now = getenv("TZ"), *asan_now = getenv("ASAN_OPTIONS");

	snprintf(budget, sizeof(budget), "%lld", (long long)conf->budget_ms);
	snprintf(memory, sizeof(memory), "%lld", (long long)conf->memory_mb);
	snprintf(payload, sizeof(payload), "%lld", (long long)conf->max_payload_bytes);
	if (tz_now != NULL && snprintf(tz, sizeof(tz), "TZ=%s", tz_now) < (int)sizeof(tz))
		envp[n++] = tz;
	if (asan_now != NULL &&
	    snprintf(asan, sizeof(asan), "ASAN_OPTIONS=%s", asan_now) < (int)sizeof(asan))
		envp[n++] = asan;

	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return err_sys(err, "starting %s", conf->program);
	if (pid == 0)
		child_exec(p, conf, argv, envp, parent);
	w->pid = pid;
	w->pidfd = pidfd_open(pid, 0);
	if (w->pidfd < 0)
		return err_sys(err, "watching the engine");
	return 0;
}

static void flush(struct worker *w)
{
	while (w->first != NULL) {
		struct frame *f = w->first;
		ssize_t n = send(w->control, f->bytes + f->sent, f->len - f->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* it died: on_exit says so in a moment */
			w->deaf = true;
			break;
		}
		f->sent += (size_t)n;
		if (f->sent < f->len)
			continue;
		w->queued_bytes -= f->len;
		w->first = f->next;
		if (w->first == NULL)
			w->last = NULL;
		free(f);
	}
	bool want = w->first != NULL && !w->deaf;
	if (want != w->writing && w->control_src != NULL) {
		w->writing = want;
		loop_set_events(w->loop, w->control_src, EPOLLIN | (want ? EPOLLOUT : 0));
	}
}

int worker_send(struct worker *w, const json_t *msg, struct err *err)
{
	size_t len = json_dumpb(msg, NULL, 0, JSON_COMPACT);

	if (len == 0)
		return err_set(err, ERR_NOMEM, "message to the engine");
	if (len > MESSAGE_MAX)
		return err_set(err, ERR_LIMIT, "%zu bytes for the engine, at most %u are allowed",
			       len, MESSAGE_MAX);
	if (w->queued_bytes + len > QUEUE_MAX)
		return err_set(err, ERR_LIMIT, "too much is waiting for the engine");

	struct frame *f = malloc(sizeof(*f) + FRAME_HEAD + len);
	if (f == NULL)
		return err_set(err, ERR_NOMEM, "message to the engine");
	*f = (struct frame){.len = FRAME_HEAD + len};
	uint32_t head = htole32((uint32_t)len);
	memcpy(f->bytes, &head, FRAME_HEAD);
	if (json_dumpb(msg, f->bytes + FRAME_HEAD, len, JSON_COMPACT) != len) {
		free(f);
		return err_set(err, ERR_NOMEM, "message to the engine");
	}
	if (w->last != NULL)
		w->last->next = f;
	else
		w->first = f;
	w->last = f;
	w->queued_bytes += f->len;
	flush(w);
	return 0;
}

static void give_up(struct worker *w)
{
	w->deaf = true;
	w->control_src = loop_remove(w->loop, w->control_src);
	worker_kill(w);
}

/* Hand over every whole message in the buffer. A message that is no JSON object ends the worker. */
static void take_messages(struct worker *w)
{
	size_t at = 0;

	while (!w->deaf && w->in_len - at >= FRAME_HEAD) {
		uint32_t head;

		memcpy(&head, w->in + at, FRAME_HEAD);
		size_t len = le32toh(head);
		if (len > MESSAGE_MAX) {
			give_up(w);
			return;
		}
		if (w->in_len - at - FRAME_HEAD < len)
			break;
		json_auto_t *msg = json_loadb(w->in + at + FRAME_HEAD, len, JSON_ALLOW_NUL, NULL);
		at += FRAME_HEAD + len;
		if (!json_is_object(msg)) {
			give_up(w);
			return;
		}
		w->events.on_message(w->arg, msg);
	}
	memmove(w->in, w->in + at, w->in_len - at);
	w->in_len -= at;
}

static void grow_and_read(struct worker *w)
{
	for (int i = 0; i < READS_PER_TURN && !w->deaf; i++) {
		if (w->in_cap - w->in_len < READ_CHUNK) {
			/* at most one unfinished message and a chunk */
			size_t cap =
				w->in_cap * 2 > READ_CHUNK * 2 ? w->in_cap * 2 : READ_CHUNK * 2;
			char *more = realloc(w->in, cap);

			if (more == NULL) {
				give_up(w);
				return;
			}
			w->in = more;
			w->in_cap = cap;
		}
		ssize_t n = recv(w->control, w->in + w->in_len, READ_CHUNK, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) { /* closed: it is dead, or as good as dead */
			give_up(w);
			return;
		}
		w->in_len += (size_t)n;
		take_messages(w);
	}
}

void worker_drain(struct worker *w)
{
	grow_and_read(w);
}

static void on_control(void *arg, uint32_t events)
{
	struct worker *w = arg;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		grow_and_read(w);
	if (!w->deaf && (events & EPOLLOUT))
		flush(w);
}

static void on_exit_ready(void *arg, uint32_t events)
{
	struct worker *w = arg;
	siginfo_t info = {0};
	char how[64];

	(void)events;
	if (waitid(P_PID, (id_t)w->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	w->pid = -1; /* reaped: the number may be somebody else's from now on */
	if (!w->deaf)
		grow_and_read(w); /* its last words */
	w->deaf = true;
	w->exit_src = loop_remove(w->loop, w->exit_src);
	w->control_src = loop_remove(w->loop, w->control_src);
	if (info.si_code == CLD_EXITED)
		snprintf(how, sizeof(how), "exit status %d", info.si_status);
	else
		snprintf(how, sizeof(how), "killed by signal %d", info.si_status);
	w->events.on_exit(w->arg, how); /* may free w */
}

int worker_new(struct loop *l, const struct worker_conf *conf, const struct worker_events *events,
	       void *arg, struct worker **ret, struct err *err)
{
	CLEANUP(plumbing_done)
	struct plumbing p = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, -1};
	struct worker *w = malloc(sizeof(*w));
	int rc;

	if (w == NULL)
		return err_set(err, ERR_NOMEM, "engine");
	*w = (struct worker){.loop = l,
			     .events = *events,
			     .arg = arg,
			     .pid = -1,
			     .pidfd = -1,
			     .control = -1,
			     .wake = -1,
			     .result = -1};
	rc = plumb(&p, err);
	if (rc < 0)
		goto fail;
	rc = spawn(w, &p, conf, err);
	if (rc < 0)
		goto fail;
	w->control = TAKE_FD(p.control[0]);
	w->wake = TAKE_FD(p.wake[0]);
	w->result = TAKE_FD(p.result[0]);
	rc = lines_new(l, TAKE_FD(p.out[0]), "stdout", &w->out, err);
	if (rc < 0)
		goto fail;
	rc = lines_new(l, TAKE_FD(p.errors[0]), "stderr", &w->errors, err);
	if (rc < 0)
		goto fail;
	rc = loop_add_fd(l, w->control, EPOLLIN, on_control, w, &w->control_src, err);
	if (rc < 0)
		goto fail;
	rc = loop_add_fd(l, w->pidfd, EPOLLIN, on_exit_ready, w, &w->exit_src, err);
	if (rc < 0)
		goto fail;
	*ret = w;
	return 0;
fail:
	worker_free(w);
	return rc;
}

struct worker *worker_free(struct worker *w)
{
	if (w == NULL)
		return NULL;
	loop_remove(w->loop, w->exit_src);
	loop_remove(w->loop, w->control_src);
	if (w->pid > 0) {
		kill(w->pid, SIGKILL);
		while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	lines_free(w->out);
	lines_free(w->errors);
	while (w->first != NULL) {
		struct frame *f = w->first;
		w->first = f->next;
		free(f);
	}
	closep(&w->pidfd);
	closep(&w->control);
	closep(&w->wake);
	closep(&w->result);
	free(w->in);
	free(w);
	return NULL;
}

void worker_kill(struct worker *w)
{
	if (w->pid > 0)
		kill(w->pid, SIGKILL);
}

pid_t worker_pid(const struct worker *w)
{
	return w->pid;
}

int worker_wake_fd(const struct worker *w)
{
	return w->wake;
}

int worker_result_fd(const struct worker *w)
{
	return w->result;
}
