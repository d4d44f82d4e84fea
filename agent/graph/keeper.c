#include "agent/graph/keeper.h"
#include "agent/graph/keeper_int.h"
#include "common/ctl_addr.h"
#include "common/log.h"
#include "common/util.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>

#define RETRY_FIRST_MS 100
#define RETRY_MOST_MS  5000
#define QUIT_MS        2000

/* ---- the connection ---- */

void keeper_hang_up(struct keeper *k)
{
	k->src = loop_remove(k->loop, k->src);
	loop_arm(k->loop, k->again, -1);
	frames_done(&k->frames);
	closep(&k->fd);
	while (k->first != NULL) {
		struct frame *f = k->first;
		k->first = f->next;
		frame_free(f);
	}
	k->end = &k->first;
	k->closed = k->writing = false;
	k->pid = -1;
	json_decref(k->layers);
	k->layers = NULL;
	k->launch = launch_free(k->launch);
}

/* Engines of a keeper that cannot be reached any more are of no use, and must not touch rings that
 * others will be given. */
static void lose_workers(struct keeper *k)
{
	for (struct worker *w = k->workers; w != NULL; w = worker_next(w))
		worker_kill(w);
	for (struct worker *w = k->workers; w != NULL;) {
		if (worker_has_exited(w)) {
			w = worker_next(w);
			continue;
		}
		worker_on_exited(w, "its keeper is gone");
		w = k->workers; /* whatever that call has changed */
	}
}

void keeper_fail(struct keeper *k, const char *why)
{
	char text[sizeof(k->why)];
	snprintf(text, sizeof(text), "%s", why);
	bool was_up = k->state == KEEPER_UP;
	unsigned doublings = k->failures < 6 ? k->failures : 6;
	int64_t wait = (int64_t)RETRY_FIRST_MS << doublings;
	k->state = KEEPER_IDLE;
	keeper_hang_up(k);
	snprintf(k->why, sizeof(k->why), "%s", text);
	k->failures++;
	loop_arm(k->loop, k->timer, was_up ? 0 : wait < RETRY_MOST_MS ? wait : RETRY_MOST_MS);
	lose_workers(k);
	k->events.on_down(k->arg, k->why);
}

void keeper_watch(struct keeper *k)
{
	bool want = frames_waiting(&k->frames);
	if (want != k->writing && k->src != NULL) {
		k->writing = want;
		loop_set_events(k->loop, k->src, EPOLLIN | (want ? EPOLLOUT : 0));
	}
}

void keeper_put(struct keeper *k, struct frame *f)
{
	frames_put(&k->frames, f);
	/* an error is seen by the reader, too; here somebody's call is in progress */
	if (frames_flush(&k->frames, NULL) < 0)
		frames_drop(&k->frames);
	keeper_watch(k);
}

void keeper_ask(struct keeper *k, const char *op)
{
	json_auto_t *msg = json_pack("{s:s}", "op", op);
	struct frame *f = msg != NULL ? frame_of(0, msg, NULL) : NULL;
	if (f != NULL) /* else the answer does not come in time */
		keeper_put(k, f);
}

/* ret: 0; ERR_NOENT: nobody is there; or another error. */
static int dial(struct keeper *k, struct err *err)
{
	struct sockaddr_un addr;
	struct ucred who;
	socklen_t len = sizeof(who);
	CLEANUP(closep)
	int dir = ctl_address(k->conf.socket, &addr, err);
	if (dir < 0)
		return dir;
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, "socket");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		bool nobody = errno == ENOENT || errno == ECONNREFUSED;
		err_sys(err, "%s", k->conf.socket);
		return nobody ? ERR_NOENT : ERR_SYS;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return err_sys(err, "%s", k->conf.socket);
	int rc = loop_add_fd(k->loop, fd, EPOLLIN, keeper_on_socket, k, &k->src, err);
	if (rc < 0)
		return rc;
	k->fd = TAKE_FD(fd);
	k->pid = who.pid;
	frames_init(&k->frames, k->fd, FRAMES_NUMBERED);
	return 0;
}

static void on_launched(void *arg, const char *error);

static void greet(struct keeper *k)
{
	k->state = KEEPER_GREETING;
	loop_arm(k->loop, k->timer, KEEPER_ANSWER_MS);
	keeper_ask(k, "hello");
}

/* may_launch: false right after a launch. */
static void attempt(struct keeper *k, bool may_launch)
{
	struct err err = {0};
	int rc = dial(k, &err);
	if (rc == 0) {
		greet(k);
		return;
	}
	if (rc == ERR_NOENT && may_launch) {
		k->state = KEEPER_LAUNCHING;
		rc = launch_new(k->loop, &k->conf, on_launched, k, &k->launch, &err);
	}
	if (rc < 0)
		keeper_fail(k, err.text);
}

static void on_launched(void *arg, const char *error)
{
	struct keeper *k = arg;
	char why[sizeof(k->why)] = "";
	if (error != NULL)
		snprintf(why, sizeof(why), "%s", error);
	k->launch = launch_free(k->launch);
	if (error != NULL)
		keeper_fail(k, why);
	else
		attempt(k, false);
}

/* It answers neither hello nor quit. */
void keeper_shoot(const struct keeper *k)
{
	CLEANUP(closep)
	int pidfd = pidfd_open(k->pid, 0);
	struct pollfd p = {.fd = k->fd, .events = POLLIN};
	/* if it lives it is the one that is connected, and the number is its own */
	if (pidfd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0))
		return;
	log_warn("keeper.killed", KV("pid", k->pid), KV("why", "it does not answer"));
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
}

static void on_timer(void *arg)
{
	struct keeper *k = arg;
	if (k->state == KEEPER_IDLE) {
		attempt(k, true);
	} else if (k->fd >= 0 && k->state != KEEPER_UP) {
		keeper_shoot(k);
		keeper_fail(k, "the keeper does not answer");
	}
}

/* ---- for workers ---- */

uint32_t keeper_number(struct keeper *k)
{
	do
		k->last_number = k->last_number < KEEPER_NUMBER_MAX ? k->last_number + 1 : 1;
	while (keeper_find(k, k->last_number) != NULL);
	return k->last_number;
}

void keeper_enroll(struct keeper *k, struct worker *w)
{
	worker_set_next(w, k->workers);
	k->workers = w;
}

void keeper_strike(struct keeper *k, struct worker *w)
{
	struct worker *before = NULL, *at = k->workers;
	while (at != NULL && at != w) {
		before = at;
		at = worker_next(at);
	}
	if (at == NULL)
		return;
	if (before != NULL)
		worker_set_next(before, worker_next(w));
	else
		k->workers = worker_next(w);
}

struct loop *keeper_loop(const struct keeper *k)
{
	return k->loop;
}

/* ---- for its owner ---- */

static int copy_conf(struct keeper *k, const struct keeper_conf *conf)
{
	k->conf = *conf;
	k->conf.program = strdup(conf->program);
	k->conf.socket = strdup(conf->socket);
	k->conf.qos = strdup(conf->qos);
	k->conf.sandbox = strdup(conf->sandbox);
	return k->conf.program != NULL && k->conf.socket != NULL && k->conf.qos != NULL &&
			       k->conf.sandbox != NULL
		       ? 0
		       : ERR_NOMEM;
}

int keeper_new(struct loop *l, const struct keeper_conf *conf, const struct keeper_events *events,
	       void *arg, struct keeper **ret, struct err *err)
{
	struct keeper *k = calloc(1, sizeof(*k));
	if (k == NULL)
		return err_set(err, ERR_NOMEM, "keeper");
	k->loop = l;
	k->events = *events;
	k->arg = arg;
	k->fd = k->pid = -1;
	k->end = &k->first;
	frames_init(&k->frames, -1, FRAMES_NUMBERED);
	snprintf(k->why, sizeof(k->why), "it is being looked for");
	int rc = copy_conf(k, conf) < 0 ? err_set(err, ERR_NOMEM, "keeper") : 0;
	if (rc == 0)
		rc = loop_add_timer(l, 0, 0, on_timer, k, &k->timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, keeper_on_again, k, &k->again, err);
	if (rc < 0)
		keeper_free(k);
	else
		*ret = k;
	return rc;
}

struct keeper *keeper_free(struct keeper *k)
{
	if (k == NULL)
		return NULL;
	if (k->fd >= 0 && frames_waiting(&k->frames))
		frames_flush(&k->frames, NULL); /* as far as it goes */
	keeper_hang_up(k);
	loop_remove(k->loop, k->timer);
	loop_remove(k->loop, k->again);
	free((char *)k->conf.program);
	free((char *)k->conf.socket);
	free((char *)k->conf.qos);
	free((char *)k->conf.sandbox);
	free(k);
	return NULL;
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Talk on until it hangs up. */
static void await_hang_up(struct keeper *k, int64_t until)
{
	struct frame *f = NULL;
	struct err err = {0};
	int rc = 0;
	for (int64_t left; (left = until - now_ms()) > 0 && rc >= 0;) {
		struct pollfd p = {.fd = k->fd, .events = POLLIN};
		if (frames_waiting(&k->frames))
			p.events |= POLLOUT;
		if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
			return;
		if (frames_flush(&k->frames, &err) < 0)
			return; /* closed */
		while ((rc = frames_read(&k->frames, &f, &err)) > 0)
			f = frame_free(f);
	}
}

/* It hangs up a moment before it is gone. */
static void await_end(int pidfd, int64_t until)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	for (int64_t left; (left = until - now_ms()) > 0;)
		if (poll(&p, 1, (int)left) >= 0 || errno != EINTR)
			return;
}

void keeper_quit(struct keeper *k)
{
	struct err err = {0};
	const int64_t until = now_ms() + QUIT_MS;
	loop_arm(k->loop, k->timer, -1);
	k->launch = launch_free(k->launch);
	if (k->fd < 0 && dial(k, &err) < 0)
		return; /* none is there; one that is just starting ends as an orphan */
	CLEANUP(closep)
	int pidfd = pidfd_open(k->pid, 0);
	k->state = KEEPER_QUITTING;
	k->src = loop_remove(k->loop, k->src);
	keeper_ask(k, "quit");
	await_hang_up(k, until);
	if (pidfd >= 0)
		await_end(pidfd, until);
}

bool keeper_is_up(const struct keeper *k)
{
	return k->state == KEEPER_UP;
}

pid_t keeper_pid(const struct keeper *k)
{
	return k->state == KEEPER_UP ? k->pid : -1;
}

const json_t *keeper_layers(const struct keeper *k)
{
	return k->state == KEEPER_UP ? k->layers : NULL;
}

const char *keeper_why(const struct keeper *k)
{
	return k->why;
}
