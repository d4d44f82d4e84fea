#include "broker/server.h"

#include "broker/mosq.h"
#include "broker/wake.h"
#include "common/ctl_addr.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>

#define PACKETS_PER_TURN 128u /* of one connection, answers of many packets included */
#define COMPLAIN_EVERY_S 60

struct news { /* by a port's place; id of the port it is about */
	uint32_t port[PORTS_MAX];
	bool set[PORTS_MAX];
	unsigned n;
};

struct conn {
	struct server *s;
	int fd;     /* -1: free */
	bool fresh; /* may have sent something before its input would have woken us */
	struct session session;
	bool holds; /* an answer that the peer has yet to read is in reply */
	struct reply reply;
	struct news broken, fed;
};

struct server {
	struct commands *c;
	uid_t allow; /* -1: nobody */
	char *path;  /* owned, removed at the end */
	int listen_fd, epoll_fd;
	bool watching;
	time_t complained;
	struct conn conn[CONNECTIONS_MAX];
	unsigned char packet[PACKET_MAX + 1];
};

/* ---- the socket ---- */

/* What an earlier broker left is removed, also the link that led to one; a socket that somebody
 * answers at is not. */
static int remove_stale(const char *path, const struct sockaddr_un *addr, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, "'%s'", path);
	if (!S_ISSOCK(st.st_mode) && !S_ISLNK(st.st_mode))
		return err_set(err, ERR_EXIST, "'%s' is there and no socket", path);
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(err, "socket");
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return err_set(err, ERR_EXIST, "another broker answers at '%s'", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(err, "removing '%s'", path);
	return 0;
}

static int open_socket(const char *path, mode_t mode, int *ret, struct err *err)
{
	struct sockaddr_un addr;
	CLEANUP(closep)
	int dir_fd = ctl_address(path, &addr, err);

	if (dir_fd < 0)
		return dir_fd;
	int rc = remove_stale(path, &addr, err);

	if (rc < 0)
		return rc;
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(err, "socket");
	mode_t mask = umask(0777 & ~mode);
	int bound = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	int saved = errno;

	umask(mask);
	errno = saved;
	if (bound < 0)
		return err_sys(err, "socket '%s'", path);
	if (listen(fd, CONNECTIONS_MAX) < 0)
		return err_sys(err, "listening at '%s'", path);
	*ret = TAKE_FD(fd);
	return 0;
}

static int poll_for(struct server *s, int op, int fd, uint32_t events, struct conn *conn)
{
	struct epoll_event ev = {.events = events, .data.ptr = conn};

	return epoll_ctl(s->epoll_fd, op, fd, &ev);
}

int server_new(struct commands *c, const char *path, uid_t allow, struct server **ret,
	       struct err *err)
{
	struct server *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for the command socket");
	s->c = c;
	s->allow = allow;
	s->listen_fd = s->epoll_fd = -1;
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		s->conn[i] = (struct conn){.s = s, .fd = -1};
	int rc = open_socket(path, allow != (uid_t)-1 ? 0666 : 0600, &s->listen_fd, err);

	if (rc == 0 && (s->path = strdup(path)) == NULL)
		rc = err_set(err, ERR_NOMEM, "out of memory for the command socket");
	if (rc == 0 && ((s->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
			poll_for(s, EPOLL_CTL_ADD, s->listen_fd, EPOLLIN, NULL) < 0))
		rc = err_sys(err, "epoll");
	if (rc < 0) {
		server_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

int server_watch(struct server *s, struct err *err)
{
	s->watching = true;
	return wake_watch(s->listen_fd, err);
}

/* ---- connections ---- */

static void hang_up(struct conn *c)
{
	ports_forget_echoes(c->s->c->ports, &c->session);
	ports_disown(c->s->c->ports, &c->session);
	closep(&c->fd);
	c->session = (struct session){0};
	c->broken = c->fed = (struct news){0};
	c->holds = false;
}

static void complain(struct server *s, const char *event, unsigned long uid)
{
	struct timespec now;

	s->c->peers_refused++;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (s->complained != 0 && now.tv_sec - s->complained < COMPLAIN_EVERY_S)
		return;
	s->complained = now.tv_sec;
	mosquitto_log_printf(MOSQ_LOG_WARNING, "iottalk: %s uid=%lu", event, uid);
}

static bool may_come(struct server *s, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	if (peer.uid == geteuid() || peer.uid == 0 ||
	    (s->allow != (uid_t)-1 && peer.uid == s->allow))
		return true;
	complain(s, "peer.refused", peer.uid);
	return false;
}

static struct conn *free_conn(struct server *s)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (s->conn[i].fd < 0)
			return &s->conn[i];
	return NULL;
}

/* ret: true if there may be more who want to connect. */
static bool accept_one(struct server *s)
{
	CLEANUP(closep)
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *c = free_conn(s);
	struct err err;

	if (fd < 0)
		return errno == ECONNABORTED || errno == EINTR;
	if (!may_come(s, fd))
		return true;
	if (c == NULL) {
		complain(s, "peer.too_many", 0);
		return true;
	}
	if (s->watching && wake_watch(fd, &err) < 0)
		return true;
	if (poll_for(s, EPOLL_CTL_ADD, fd, EPOLLIN, c) < 0)
		return true;
	c->fd = TAKE_FD(fd);
	c->fresh = true;
	return true;
}

/* ret: true if the answer is gone. */
static bool send_reply(struct conn *c)
{
	ssize_t n = send(c->fd, &c->reply, sizeof(c->reply.head) + c->reply.head.len,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) {
		if (!c->holds)
			poll_for(c->s, EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
		c->holds = true;
		return false;
	}
	if (n < 0) {
		hang_up(c);
		return false;
	}
	if (c->holds)
		poll_for(c->s, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
	c->holds = false;
	return true;
}

static bool take_news(struct news *n, uint32_t *ret_port)
{
	for (unsigned i = 0; n->n > 0 && i < PORTS_MAX; i++) {
		if (!n->set[i])
			continue;
		n->set[i] = false;
		n->n--;
		*ret_port = n->port[i];
		return true;
	}
	return false;
}

static bool make_event(struct conn *c)
{
	struct plug_answer *h = &c->reply.head;

	*h = (struct plug_answer){0};
	if (take_news(&c->broken, &h->port))
		h->op = PLUG_BROKEN;
	else if (take_news(&c->fed, &h->port))
		h->op = PLUG_FED;
	return h->op != 0;
}

static size_t take_fds(struct msghdr *m, int *fds)
{
	size_t n = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t here = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < here; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (n < PLUG_FDS_MAX)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

enum step { STEP_IDLE, STEP_DONE, STEP_STUCK };

static enum step take_request(struct conn *c)
{
	union {
		char bytes[CMSG_SPACE(PLUG_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = c->s->packet, .iov_len = sizeof(c->s->packet)};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int fds[PLUG_FDS_MAX];
	ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return STEP_IDLE;
	if (n < 0) {
		hang_up(c);
		return STEP_STUCK;
	}
	size_t n_fds = take_fds(&m, fds);

	if (n == 0) { /* closed, or an empty packet: that one, too, can bring descriptors */
		close_all(fds, n_fds);
		hang_up(c);
		return STEP_STUCK;
	}
	const struct packet p = {
		.data = c->s->packet,
		.len = (size_t)n,
		.fds = fds,
		.n_fds = n_fds,
		.cut = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0,
	};
	int rc = commands_run(c->s->c, &c->session, &p, &c->reply);

	close_all(fds, n_fds);
	if (rc < 0) {
		hang_up(c);
		return STEP_STUCK;
	}
	return rc > 0 || send_reply(c) ? STEP_DONE : STEP_STUCK;
}

/* One packet out or in. */
static enum step step(struct conn *c)
{
	if (c->holds)
		return send_reply(c) ? STEP_DONE : STEP_STUCK;
	if (make_event(c) || commands_go_on(c->s->c, &c->session, &c->reply))
		return send_reply(c) ? STEP_DONE : STEP_STUCK;
	return take_request(c);
}

/* ret: true if there may be more to do. */
static bool serve_conn(struct conn *c)
{
	enum step did = STEP_DONE;

	for (unsigned i = 0; i < PACKETS_PER_TURN && did == STEP_DONE; i++)
		did = step(c);
	return did == STEP_DONE;
}

/* ---- turns ---- */

void server_tell(struct server *s, uint32_t port, enum plug_event event)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct conn *c = &s->conn[i];
		struct news *n = event == PLUG_BROKEN ? &c->broken : &c->fed;

		if (c->fd < 0 || !c->session.greeted)
			continue;
		n->n += !n->set[port % PORTS_MAX];
		n->set[port % PORTS_MAX] = true;
		n->port[port % PORTS_MAX] = port;
	}
}

static bool has_news(const struct conn *c)
{
	return c->fd >= 0 && !c->holds && (c->broken.n > 0 || c->fed.n > 0);
}

bool server_has_news(const struct server *s)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (has_news(&s->conn[i]))
			return true;
	return false;
}

bool server_serve(struct server *s)
{
	struct epoll_event ev[CONNECTIONS_MAX + 1];
	bool ready[CONNECTIONS_MAX] = {false}, more = false;
	int n = epoll_wait(s->epoll_fd, ev, CONNECTIONS_MAX + 1, 0);

	for (int i = 0; i < n; i++) {
		struct conn *c = ev[i].data.ptr;

		if (c != NULL)
			ready[c - s->conn] = true;
		else
			for (unsigned k = 0; k < CONNECTIONS_MAX && accept_one(s); k++)
				continue;
	}
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct conn *c = &s->conn[i];

		if (c->fd >= 0 && (ready[i] || c->fresh || has_news(c)))
			more |= serve_conn(c);
		c->fresh = false;
	}
	return more;
}

struct server *server_free(struct server *s)
{
	if (s == NULL)
		return NULL;
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (s->conn[i].fd >= 0)
			hang_up(&s->conn[i]);
	if (s->listen_fd >= 0 && s->path != NULL)
		unlink(s->path);
	closep(&s->listen_fd);
	closep(&s->epoll_fd);
	free(s->path);
	free(s);
	return NULL;
}
