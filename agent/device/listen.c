#include "agent/device/stream_int.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define BACKLOG        512
#define ACCEPTS_MAX    32  /* in a turn; others want theirs */
#define SHORT_PAUSE_MS 100 /* when there are no descriptors or no memory */
#define PORT_MAX       65535

struct stream_listener {
	struct loop *loop;
	struct loop_src *src, *pause_timer;
	int fd;
	stream_accept_fn *fn;
	void *arg;
	unsigned busy;
	bool freed; /* from within fn */
};

/* An IPv4 peer of an IPv6 socket is an IPv4 peer. */
static void address_of(const struct sockaddr_storage *a, struct stream_address *ret)
{
	*ret = (struct stream_address){0};
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)a;

		inet_ntop(AF_INET, &in->sin_addr, ret->host, sizeof(ret->host));
		ret->port = ntohs(in->sin_port);
	} else if (a->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)a;

		if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr))
			inet_ntop(AF_INET, &in->sin6_addr.s6_addr[12], ret->host,
				  sizeof(ret->host));
		else
			inet_ntop(AF_INET6, &in->sin6_addr, ret->host, sizeof(ret->host));
		ret->port = ntohs(in->sin6_port);
	}
}

static void accepted(struct stream_listener *s, int fd, const struct sockaddr_storage *from)
{
	struct sockaddr_storage at = {0};
	struct stream_address local, remote;
	socklen_t len = sizeof(at);

	(void)getsockname(fd, (struct sockaddr *)&at, &len);
	address_of(&at, &local);
	address_of(from, &remote);
	stream_tune_socket(fd);
	struct stream *stream = stream_new(s->loop, fd, NULL);
	if (stream != NULL)
		s->fn(s->arg, stream, &local, &remote);
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_pause_over(void *arg)
{
	struct stream_listener *s = arg;

	(void)loop_set_events(s->loop, s->src, EPOLLIN);
}

static void on_connections(void *arg, uint32_t events)
{
	struct stream_listener *s = arg;

	(void)events;
	s->busy++;
	for (unsigned i = 0; i < ACCEPTS_MAX && !s->freed; i++) {
		struct sockaddr_storage from = {0};
		socklen_t len = sizeof(from);
		int fd = accept4(s->fd, (struct sockaddr *)&from, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			accepted(s, fd, &from);
		} else if (is_shortage(errno)) {
			(void)loop_set_events(s->loop, s->src, 0);
			loop_arm(s->loop, s->pause_timer, SHORT_PAUSE_MS);
			break;
		} else if (errno == EAGAIN) {
			break;
		} /* else that one was gone again */
	}
	if (--s->busy == 0 && s->freed)
		free(s);
}

/* The lowest descriptor that was free is ours: all below it are in use. */
bool stream_leaves_descriptors(const struct stream *s, size_t own)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) < 0 || (rlim_t)s->fd + own < limit.rlim_cur;
}

static int open_listener(const char *host, unsigned port, int *ret_fd, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	const char *address = strcasecmp(host, "localhost") == 0 ? "127.0.0.1" : host;
	struct addrinfo *found = NULL;
	char service[12];
	int on = 1;

	snprintf(service, sizeof(service), "%u", port);
	if (port > PORT_MAX || getaddrinfo(address, service, &hints, &found) != 0)
		return err_set(err, ERR_INVAL, "'%.100s' port %u is no address of ours", host,
			       port);
	CLEANUP(closep)
	int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The address may be of a connection that ended a moment ago. */
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	int rc = 0;
	if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		rc = err_sys(err, "listening on %s port %u", host, port);
	else
		*ret_fd = TAKE_FD(fd);
	freeaddrinfo(found);
	return rc;
}

int stream_listen(struct loop *l, const char *host, unsigned port, stream_accept_fn *fn, void *arg,
		  struct stream_listener **ret, struct err *err)
{
	CLEANUP(closep)
	int fd = -1;
	int rc = open_listener(host, port, &fd, err);

	if (rc < 0)
		return rc;
	struct stream_listener *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "listening on %s", host);
	*s = (struct stream_listener){.loop = l, .fd = TAKE_FD(fd), .fn = fn, .arg = arg};
	rc = loop_add_timer(l, -1, 0, on_pause_over, s, &s->pause_timer, err);
	if (rc == 0)
		rc = loop_add_fd(l, s->fd, EPOLLIN, on_connections, s, &s->src, err);
	if (rc < 0) {
		stream_listener_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct stream_listener *stream_listener_free(struct stream_listener *s)
{
	if (s == NULL)
		return NULL;
	s->src = loop_remove(s->loop, s->src);
	s->pause_timer = loop_remove(s->loop, s->pause_timer);
	closep(&s->fd);
	s->freed = true;
	if (s->busy == 0)
		free(s);
	return NULL;
}
