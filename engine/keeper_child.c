/* keeper_child.c - one engine as its keeper sees it: forked, relayed, reaped. */
#include "common/log.h"
#include "common/util.h"
#include "engine/keeper_int.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define FRAMES_PER_TURN 16
#define TOOK_STEP       (KEEPER_WINDOW / 4) /* told when there is so much, or nothing waits */
#define FIRST_FREE_FD   16                  /* above every number that an engine has */

struct child *child_find(struct keeper *k, uint32_t number)
{
	struct child *c = k->children;
	while (c != NULL && c->number != number)
		c = c->next;
	return number != 0 ? c : NULL;
}

static void tell_json(struct child *c, json_t *msg)
{
	keeper_tell(c->keeper, msg != NULL ? frame_of(0, msg, NULL) : NULL);
	json_decref(msg);
}

/* ---- its end ---- */

static void close_life(struct child *c)
{
	int *const fds[] = {&c->pidfd,     &c->control_fd, &c->wake_fd,
			    &c->result_fd, &c->stdout_fd,  &c->stderr_fd};
	c->control_src = loop_remove(c->keeper->loop, c->control_src);
	c->exit_src = loop_remove(c->keeper->loop, c->exit_src);
	frames_done(&c->control);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		closep(fds[i]);
}

static void forget(struct child *c)
{
	struct keeper *k = c->keeper;
	struct child **at = &k->children;
	while (*at != c && *at != NULL)
		at = &(*at)->next;
	if (*at == c)
		*at = c->next;
	close_life(c);
	closep(&c->in_fd);
	closep(&c->out_fd);
	if (c->name != NULL)
		explicit_bzero(c->name, strlen(c->name));
	free(c->name);
	free(c);
}

/* Gone, and heard to the end: tell. It is remembered until the agent has dealt with it. */
static void finish(struct child *c)
{
	if (c->pid > 0 || !c->deaf)
		return;
	close_life(c);
	tell_json(c, json_pack("{s:s, s:I, s:s}", "op", "exited", "engine", (json_int_t)c->number,
			       "how", c->how));
	if (c->ending)
		forget(c);
}

static void kill_child(struct child *c)
{
	if (c->pid > 0)
		kill(c->pid, SIGKILL);
}

void child_end(struct child *c)
{
	if (c->control_fd < 0) {
		forget(c);
		return;
	}
	c->ending = true;
	kill_child(c);
}

void children_kill(struct keeper *k)
{
	for (struct child *c = k->children; c != NULL; c = c->next)
		kill_child(c);
}

/* ---- relay ---- */

static loop_fd_fn on_control;

void child_watch(struct child *c)
{
	struct loop *l = c->keeper->loop;
	uint32_t want = 0;
	struct err err = {0};
	if (!c->deaf && !c->keeper->full)
		want |= EPOLLIN;
	if (!c->deaf && !c->mute && frames_waiting(&c->control))
		want |= EPOLLOUT;
	if (want == c->control_events)
		return;
	c->control_events = want;
	if (want == 0) /* a hang-up would be told again and again */
		c->control_src = loop_remove(l, c->control_src);
	else if (c->control_src != NULL)
		loop_set_events(l, c->control_src, want);
	else if (loop_add_fd(l, c->control_fd, want, on_control, c, &c->control_src, &err) < 0) {
		log_error("keeper.engine_lost", KV("why", err.text));
		c->deaf = true;
		kill_child(c);
	}
}

/* Frames are only relayed while the agent keeps up; the others wait in the engine's socket. */
static void read_child(struct child *c)
{
	struct keeper *k = c->keeper;
	struct err err = {0};
	struct frame *f = NULL;
	int rc = 1;
	for (unsigned i = 0; i < FRAMES_PER_TURN && k->agent.waiting <= KEEPER_WINDOW; i++) {
		rc = frames_read(&c->control, &f, &err);
		if (rc <= 0)
			break;
		f->number = c->number;
		keeper_tell(k, f);
	}
	if (rc >= 0)
		return;
	c->deaf = true;
	if (strcmp(err.text, "closed") != 0) {
		log_warn("keeper.engine_refused", KV("engine", (int64_t)c->number),
			 KV("why", err.text));
		if (c->pid > 0) /* its own doing, whatever ends it */
			snprintf(c->how, sizeof(c->how), "refused: %.100s", err.text);
	}
	kill_child(c); /* one that has closed it is ending anyway, and ends as it meant to */
}

/* Write on; tell the agent how much more it may send. */
static void flush_child(struct child *c)
{
	if (frames_flush(&c->control, NULL) < 0) {
		c->mute = true; /* its end is near */
		frames_drop(&c->control);
	}
	size_t taken = c->control.taken;
	c->control.taken = 0;
	if (taken > 0) {
		taken -= c->foreign; /* that one was the first */
		c->foreign = 0;
	}
	c->queued -= taken;
	c->took += taken;
	if (c->took == 0 || (c->took < TOOK_STEP && frames_waiting(&c->control)))
		return;
	tell_json(c, json_pack("{s:s, s:I, s:I}", "op", "took", "engine", (json_int_t)c->number,
			       "bytes", (json_int_t)c->took));
	c->took = 0;
}

int child_put(struct child *c, struct frame *f)
{
	size_t bytes = FRAME_HEAD_MAX + (size_t)f->len;
	if (c->mute || c->deaf) {
		frame_free(f);
		return 0;
	}
	if (c->queued > 0 && c->queued + bytes > KEEPER_WINDOW) {
		frame_free(f);
		return ERR_PEER;
	}
	c->queued += bytes;
	frames_put(&c->control, f);
	flush_child(c);
	child_watch(c);
	return 0;
}

/* What its agent still wanted is of no use to the next one. */
void child_orphan(struct child *c)
{
	if (c->control_fd < 0)
		return;
	frames_drop(&c->control);
	c->queued = c->took = 0;
	c->foreign =
		frames_waiting(&c->control) ? FRAME_HEAD_MAX + (size_t)c->control.first->len : 0;
	child_watch(c);
}

static void on_control(void *arg, uint32_t events)
{
	struct child *c = arg;
	if (events & EPOLLOUT)
		flush_child(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_child(c);
	child_watch(c);
	finish(c);
}

static void on_exit_ready(void *arg, uint32_t events)
{
	struct child *c = arg;
	siginfo_t info = {0};
	(void)events;
	if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	if (c->how[0] == '\0')
		snprintf(c->how, sizeof(c->how),
			 info.si_code == CLD_EXITED ? "exit status %d" : "killed by signal %d",
			 info.si_status);
	c->pid = -1;
	c->mute = true;
	c->exit_src = loop_remove(c->keeper->loop, c->exit_src);
	if (!c->deaf)
		read_child(c); /* its last words */
	child_watch(c);
	finish(c);
}

/* ---- its beginning ---- */

/* The ends that an engine gets. */
struct far_ends {
	int out, errors, control, wake, result;
};

static void far_ends_close(struct far_ends *f)
{
	closep(&f->out);
	closep(&f->errors);
	closep(&f->control);
	closep(&f->wake);
	closep(&f->result);
}

/* Both ends are non-blocking, and each has a description of its own: what the engine does to its
 * end does not touch ours. */
static int make_pipe(int *near, int near_is, int *far)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	*near = ends[near_is];
	*far = ends[!near_is];
	return 0;
}

static int plumb(struct child *c, struct far_ends *f, struct err *err)
{
	int control[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control) < 0)
		return err_sys(err, "descriptors");
	c->control_fd = control[0];
	f->control = control[1];
	if (make_pipe(&c->wake_fd, 1, &f->wake) < 0 ||
	    make_pipe(&c->result_fd, 0, &f->result) < 0 ||
	    make_pipe(&c->stdout_fd, 0, &f->out) < 0 || make_pipe(&c->stderr_fd, 0, &f->errors) < 0)
		return err_sys(err, "descriptors");
	return 0;
}

/* What is none of this engine's business; its own copy of it. */
static void wipe(struct keeper *k)
{
	frames_wipe(&k->agent);
	for (struct child *c = k->children; c != NULL; c = c->next) {
		frames_wipe(&c->control);
		if (c->name != NULL)
			explicit_bzero(c->name, strlen(c->name));
	}
}

static int move_fds(const struct far_ends *f, struct err *err)
{
	const struct {
		int from, to;
	} moves[] = {{f->out, STDOUT_FILENO},
		     {f->errors, STDERR_FILENO},
		     {f->control, ENGINE_FD_CONTROL},
		     {f->wake, ENGINE_FD_WAKE},
		     {f->result, ENGINE_FD_RESULT}};
	int high[ARRAY_LEN(moves)];
	/* first out of the way of the low numbers, then each to its place */
	for (size_t i = 0; i < ARRAY_LEN(moves); i++)
		if ((high[i] = fcntl(moves[i].from, F_DUPFD_CLOEXEC, FIRST_FREE_FD)) < 0)
			return err_sys(err, "descriptors");
	for (size_t i = 0; i < ARRAY_LEN(moves); i++)
		if (dup2(high[i], moves[i].to) < 0)
			return err_sys(err, "descriptors");
	return 0;
}

static int lock_sandbox(void *arg, struct err *err)
{
	struct keeper *k = arg;
	return sandbox_lock(k->sandbox, err);
}

/* In the fork. */
static _Noreturn void be_engine(struct keeper *k, const struct far_ends *ends, int in_fd,
				int out_fd)
{
	struct err err = {0};
	struct tap_peer *tap = NULL;
	sigset_t none;
	/* the keeper's death is ours; it may have happened already */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != k->pid)
		_exit(ENGINE_EXIT_START);
	py_after_fork(k->py);
	wipe(k);
	int rc = tap_attach(in_fd, out_fd, &tap, &err);
	if (rc == 0)
		rc = move_fds(ends, &err);
	log_init("engine", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	if (rc < 0) {
		log_error("engine.start", KV("why", err.text));
		_exit(ENGINE_EXIT_START);
	}
	prctl(PR_SET_NAME, "iottalk-engine");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(engine_run(&k->conf->engine, k->py, tap, lock_sandbox, k));
}

static int start_child(struct child *c, int in_ro_fd, struct err *err)
{
	struct keeper *k = c->keeper;
	CLEANUP(far_ends_close)
	struct far_ends ends = {-1, -1, -1, -1, -1};
	int rc = plumb(c, &ends, err);
	if (rc < 0)
		return rc;
	c->pid = fork();
	if (c->pid == 0)
		be_engine(k, &ends, in_ro_fd, c->out_fd);
	if (c->pid < 0)
		return err_sys(err, "fork");
	frames_init(&c->control, c->control_fd, FRAMES_PLAIN);
	c->deaf = false;
	c->pidfd = pidfd_open(c->pid, 0);
	if (c->pidfd < 0)
		return err_sys(err, "watching it");
	rc = loop_add_fd(k->loop, c->pidfd, EPOLLIN, on_exit_ready, c, &c->exit_src, err);
	child_watch(c);
	return rc;
}

/* ret: 0 or ERR_SYS */
static int add_fds(struct frame *f, const int *fds, size_t n)
{
	struct err err = {0};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = frame_add_fd(f, fds[i], &err);
	if (rc < 0)
		log_error("keeper.descriptors", KV("why", err.text));
	return rc;
}

/* Tell of a child with its descriptors. msg: taken. */
static void tell_fds(struct child *c, json_t *msg, const int *fds, size_t n)
{
	struct frame *f = msg != NULL ? frame_of(0, msg, NULL) : NULL;
	json_decref(msg);
	if (f != NULL && add_fds(f, fds, n) < 0)
		f = frame_free(f); /* the agent will come again */
	keeper_tell(c->keeper, f);
}

void child_announce(struct child *c)
{
	const int life[] = {c->in_fd,     c->out_fd,    c->wake_fd, c->result_fd,
			    c->stdout_fd, c->stderr_fd, c->pidfd};
	const json_int_t number = c->number;
	/* until all its words are read and dropped it counts as living, and `exited` follows */
	if (c->control_fd >= 0)
		tell_fds(c,
			 json_pack("{s:s, s:I, s:s, s:s, s:i}", "op", "engine", "engine", number,
				   "name", c->name, "note", c->note, "fds", (int)ARRAY_LEN(life)),
			 life, ARRAY_LEN(life));
	else
		tell_fds(c,
			 json_pack("{s:s, s:I, s:s, s:s, s:s, s:i}", "op", "engine", "engine",
				   number, "name", c->name, "note", c->note, "exited", c->how,
				   "fds", 2),
			 life, 2);
}

static void forget_exited(struct keeper *k, const char *name)
{
	for (struct child *c = k->children, *next; c != NULL; c = next) {
		next = c->next;
		if (c->control_fd < 0 && strcmp(c->name, name) == 0)
			forget(c);
	}
}

int child_spawn(struct keeper *k, uint32_t number, const char *name, const int *fds)
{
	struct err err = {0};
	struct child *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return ERR_NOMEM;
	*c = (struct child){.keeper = k,
			    .number = number,
			    .pid = -1,
			    .deaf = true,
			    .in_fd = fcntl(fds[0], F_DUPFD_CLOEXEC, FIRST_FREE_FD),
			    .out_fd = fcntl(fds[2], F_DUPFD_CLOEXEC, FIRST_FREE_FD),
			    .pidfd = -1,
			    .control_fd = -1,
			    .wake_fd = -1,
			    .result_fd = -1,
			    .stdout_fd = -1,
			    .stderr_fd = -1,
			    .name = strdup(name)};
	frames_init(&c->control, -1, FRAMES_PLAIN);
	if (c->name == NULL || c->in_fd < 0 || c->out_fd < 0) {
		forget(c);
		return ERR_NOMEM;
	}
	forget_exited(k, name);
	c->next = k->children;
	k->children = c;
	if (start_child(c, fds[1], &err) < 0) {
		log_error("keeper.spawn_failed", KV("why", err.text));
		snprintf(c->how, sizeof(c->how), "could not start: %.90s", err.text);
		if (c->pid > 0) {
			kill_child(c);
			waitpid(c->pid, NULL, 0);
			c->pid = -1;
		}
		c->deaf = true;
		finish(c);
		return 0;
	}
	const int life[] = {c->wake_fd, c->result_fd, c->stdout_fd, c->stderr_fd, c->pidfd};
	tell_fds(c,
		 json_pack("{s:s, s:I, s:i}", "op", "spawned", "engine", (json_int_t)number, "fds",
			   (int)ARRAY_LEN(life)),
		 life, ARRAY_LEN(life));
	return 0;
}
