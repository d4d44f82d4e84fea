#include "agent/graph/plug_link.h"
#include "common/ctl_addr.h"
#include "common/log.h"
#include "common/util.h"
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define RETRY_FIRST_MS   50
#define RETRY_MAX_MS     1000
#define PACKETS_PER_TURN 256

struct ask { /* not answered yet */
	struct ask *next;
	plug_answer_fn *fn;
	void *arg;
	const void *owner;
	int fds[PLUG_FDS_MAX]; /* owned until it is sent */
	size_t n_fds;
	struct plug_request head;
	char text[];
};

struct plug_link {
	struct loop *loop;
	char *path;
	struct plug_link_events events;
	void *arg;
	int fd; /* -1: not connected */
	struct loop_src *src, *retry_timer;
	bool up, writing;
	unsigned failures;
	uint32_t seq;
	struct ask *first, *last; /* in the order asked */
	struct ask *unsent;       /* the first of them that is not sent yet */
	char why[200];
	char in[sizeof(struct plug_answer) + PLUG_TEXT_MAX + 1];
};

static void ask_free(struct ask *a)
{
	for (size_t i = 0; i < a->n_fds; i++)
		closep(&a->fds[i]);
	free(a);
}

static void pop(struct plug_link *k)
{
	struct ask *a = k->first;

	k->first = a->next;
	if (k->first == NULL)
		k->last = NULL;
	ask_free(a);
}

static void retry_later(struct plug_link *k)
{
	unsigned doublings = k->failures < 5 ? k->failures : 5;
	int64_t wait = (int64_t)RETRY_FIRST_MS << doublings;

	k->failures++;
	loop_arm(k->loop, k->retry_timer, wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
}

static void answer_all_gone(struct plug_link *k)
{
	struct ask *list = TAKE(k->first);

	k->last = k->unsent = NULL;
	while (list != NULL) {
		struct ask *a = list;
		const struct plug_answer gone = {
			.op = a->head.op, .seq = a->head.seq, .code = ERR_PEER};

		list = a->next;
		if (a->fn != NULL)
			a->fn(a->arg, &gone, "the broker plugin is gone");
		ask_free(a);
	}
}

static void down(struct plug_link *k, const char *why)
{
	bool was_up = k->up;

	snprintf(k->why, sizeof(k->why), "%s", why);
	k->src = loop_remove(k->loop, k->src);
	closep(&k->fd);
	k->up = k->writing = false;
	retry_later(k);
	answer_all_gone(k);
	if (was_up)
		k->events.on_down(k->arg, k->why);
}

/* ---- out ---- */

/* ret: 1 sent, 0 not now, negative errno. */
static int send_one(struct plug_link *k, struct ask *a)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(a->fds))];
	} control = {0};
	struct iovec iov[] = {{&a->head, sizeof(a->head)}, {a->text, a->head.len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = a->head.len > 0 ? 2 : 1};

	if (a->n_fds > 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(a->n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(a->n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), a->fds, a->n_fds * sizeof(int));
	}
	while (sendmsg(k->fd, &msg, MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
	for (size_t i = 0; i < a->n_fds; i++)
		closep(&a->fds[i]);
	a->n_fds = 0;
	return 1;
}

static void flush(struct plug_link *k)
{
	while (k->unsent != NULL) {
		int sent = send_one(k, k->unsent);

		if (sent < 0) {
			/* seen at the next read, too: not from within a caller's call */
			loop_set_events(k->loop, k->src, EPOLLIN | EPOLLOUT);
			k->writing = true;
			return;
		}
		if (sent == 0)
			break;
		k->unsent = k->unsent->next;
	}
	bool want = k->unsent != NULL;
	if (want != k->writing) {
		k->writing = want;
		loop_set_events(k->loop, k->src, EPOLLIN | (want ? EPOLLOUT : 0));
	}
}

static int enqueue(struct plug_link *k, const struct plug_ask *ask, struct err *err)
{
	if (ask->len > PLUG_TEXT_MAX || ask->n_fds > PLUG_FDS_MAX)
		return err_set(err, ERR_LIMIT, "%zu bytes for the broker plugin", ask->len);
	struct ask *a = malloc(sizeof(*a) + ask->len);

	if (a == NULL)
		return err_set(err, ERR_NOMEM, "request to the broker plugin");
	*a = (struct ask){.fn = ask->fn, .arg = ask->arg, .owner = ask->owner};
	for (; a->n_fds < ask->n_fds; a->n_fds++) {
		a->fds[a->n_fds] = fcntl(ask->fds[a->n_fds], F_DUPFD_CLOEXEC, 3);
		if (a->fds[a->n_fds] < 0) {
			int rc = err_sys(err, "descriptors for the broker plugin");
			ask_free(a);
			return rc;
		}
	}
	k->seq = k->seq == UINT32_MAX ? 1 : k->seq + 1;
	a->head = (struct plug_request){.op = ask->op,
					.seq = k->seq,
					.port = ask->port,
					.slot = ask->slot,
					.flags = ask->flags,
					.len = (uint32_t)ask->len};
	if (ask->len > 0)
		memcpy(a->text, ask->text, ask->len);
	if (k->last != NULL)
		k->last->next = a;
	else
		k->first = a;
	k->last = a;
	if (k->unsent == NULL)
		k->unsent = a;
	flush(k);
	return 0;
}

int plug_link_ask(struct plug_link *k, const struct plug_ask *ask, struct err *err)
{
	if (!k->up)
		return err_set(err, ERR_AGAIN, "the broker plugin is not there: %s", k->why);
	return enqueue(k, ask, err);
}

void plug_link_forget(struct plug_link *k, const void *owner)
{
	for (struct ask *a = k->first; a != NULL; a = a->next)
		if (a->owner == owner)
			a->fn = NULL;
}

void plug_link_redirect(struct plug_link *k, const void *owner, enum plug_op op, plug_answer_fn *fn,
			void *arg)
{
	for (struct ask *a = k->first; a != NULL; a = a->next) {
		if (a->owner != owner || a->head.op != op)
			continue;
		a->owner = NULL;
		a->fn = fn;
		a->arg = arg;
	}
}

/* ---- in ---- */

static void on_answer(struct plug_link *k, const struct plug_answer *a, const char *text)
{
	struct ask *asked = k->first;

	if (asked == NULL || asked == k->unsent || asked->head.seq != a->seq ||
	    asked->head.op != a->op) {
		down(k, "it answered what was not asked");
		return;
	}
	bool last = (a->flags & PLUG_MORE) == 0 || a->op == PLUG_PORT_HOLD || a->code < 0;
	plug_answer_fn *fn = asked->fn;
	void *arg = asked->arg;

	if (last)
		pop(k);
	if (fn != NULL)
		fn(arg, a, text);
	else if (a->code < 0 && log_allowed("plugin.refused", text))
		log_warn("plugin.refused", KV("op", (int64_t)a->op), KV("why", text));
}

/* ret: false if there is nothing (more) to read. */
static bool read_one(struct plug_link *k)
{
	struct plug_answer a;
	ssize_t n = recv(k->fd, k->in, sizeof(k->in) - 1, MSG_DONTWAIT);

	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (n <= 0) {
		down(k, n == 0 ? "it closed the connection" : strerror(errno));
		return false;
	}
	if ((size_t)n < sizeof(a)) {
		down(k, "it sent half a packet");
		return false;
	}
	memcpy(&a, k->in, sizeof(a));
	if (a.len != (size_t)n - sizeof(a)) {
		down(k, "it sent a packet of another length than it says");
		return false;
	}
	k->in[n] = '\0';
	if (a.seq != 0)
		on_answer(k, &a, k->in + sizeof(a));
	else if (k->up)
		k->events.on_event(k->arg, (enum plug_event)a.op, a.port);
	return k->fd >= 0;
}

static void on_socket(void *arg, uint32_t events)
{
	struct plug_link *k = arg;

	for (int i = 0; i < PACKETS_PER_TURN && read_one(k); i++)
		;
	if (k->fd >= 0 && (events & EPOLLOUT))
		flush(k);
}

/* ---- connecting ---- */

static void on_hello(void *arg, const struct plug_answer *a, const char *text)
{
	struct plug_link *k = arg;

	if (a->code == ERR_PEER)
		return; /* it went down */
	if (a->code < 0) {
		down(k, text);
		return;
	}
	k->up = true;
	k->failures = 0;
	k->why[0] = '\0';
	log_info("plugin.up", KV("version", text));
	k->events.on_up(k->arg);
}

static int dial(struct plug_link *k, struct err *err)
{
	struct sockaddr_un addr;
	CLEANUP(closep)
	int dir_fd = ctl_address(k->path, &addr, err);

	if (dir_fd < 0)
		return dir_fd;
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_sys(err, "the plugin's socket %s", k->path);
	int rc = loop_add_fd(k->loop, fd, EPOLLIN, on_socket, k, &k->src, err);
	if (rc < 0)
		return rc;
	k->fd = TAKE_FD(fd);
	const struct plug_ask hello = {
		.op = PLUG_HELLO, .slot = PLUG_VERSION, .fn = on_hello, .arg = k};
	return enqueue(k, &hello, err);
}

static void on_retry(void *arg)
{
	struct plug_link *k = arg;
	struct err err = {0};

	if (k->fd < 0 && dial(k, &err) < 0)
		down(k, err.text);
}

int plug_link_new(struct loop *l, const char *path, const struct plug_link_events *events, void *arg,
		  struct plug_link **ret, struct err *err)
{
	struct plug_link *k = malloc(sizeof(*k));

	if (k == NULL)
		return err_set(err, ERR_NOMEM, "broker plugin");
	*k = (struct plug_link){.loop = l, .events = *events, .arg = arg, .fd = -1};
	k->path = strdup(path);
	int rc = k->path == NULL ? err_set(err, ERR_NOMEM, "broker plugin")
				 : loop_add_timer(l, -1, 0, on_retry, k, &k->retry_timer, err);
	if (rc < 0) {
		plug_link_free(k);
		return rc;
	}
	on_retry(k);
	*ret = k;
	return 0;
}

struct plug_link *plug_link_free(struct plug_link *k)
{
	if (k == NULL)
		return NULL;
	loop_remove(k->loop, k->src);
	loop_remove(k->loop, k->retry_timer);
	closep(&k->fd);
	while (k->first != NULL)
		pop(k);
	free(k->path);
	free(k);
	return NULL;
}

bool plug_link_is_up(const struct plug_link *k)
{
	return k->up;
}

const char *plug_link_why(const struct plug_link *k)
{
	return k->why;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int plug_link_wait(struct plug_link *k, int timeout_ms, struct err *err)
{
	int64_t end = now_ms() + timeout_ms;

	while (k->fd >= 0 && k->first != NULL) {
		int64_t left = end - now_ms();
		struct pollfd p = {.fd = k->fd,
				   .events = (short)(POLLIN | (k->unsent != NULL ? POLLOUT : 0))};

		if (left <= 0)
			return err_set(err, ERR_TIMEOUT,
				       "the broker plugin does not answer within %d ms",
				       timeout_ms);
		if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
			return err_sys(err, "broker plugin");
		if (p.revents & (POLLIN | POLLHUP | POLLERR))
			read_one(k);
		if (k->fd >= 0 && (p.revents & POLLOUT))
			flush(k);
	}
	return k->fd >= 0 ? 0 : err_set(err, ERR_PEER, "the broker plugin is not there: %s", k->why);
}
