#include "common/dial.h"
#include "common/lookup.h"
#include "common/util.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PORT_MAX 65535

struct dial {
	struct loop *loop;
	dial_fn *fn;
	void *arg;
	struct loop_src *begin_timer, *src; /* src: of fd */
	struct lookup *lookup;
	int fd;
	struct lookup_addrs addrs;
	unsigned port, tried;
	char host[LOOKUP_HOST_MAX + 1], why[400];
};

static void note_errno(struct dial *d, const char *what)
{
	snprintf(d->why, sizeof(d->why), "%s: %s", what, strerrordesc_np(errno));
}

static void finish(struct dial *d)
{
	int fd = TAKE_FD(d->fd);

	d->src = loop_remove(d->loop, d->src);
	d->fn(d->arg, fd, fd < 0 ? d->why : NULL); /* d may be gone */
}

/* ---- connecting ---- */

static void try_next(struct dial *d);

static void on_connect(void *arg, uint32_t events)
{
	struct dial *d = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)events;
	d->src = loop_remove(d->loop, d->src);
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0) {
		finish(d);
		return;
	}
	errno = error;
	note_errno(d, "connecting");
	closep(&d->fd);
	try_next(d);
}

static bool try_one(struct dial *d, const struct sockaddr *addr, socklen_t len)
{
	int on = 1;

	d->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0) {
		note_errno(d, "socket");
		return false;
	}
	/* A delay in place of this is no reason to do without the connection. */
	(void)setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(d->fd, addr, len) < 0 && errno != EINPROGRESS) {
		note_errno(d, "connecting");
	} else {
		struct err err = {0};

		if (loop_add_fd(d->loop, d->fd, EPOLLOUT, on_connect, d, &d->src, &err) == 0)
			return true;
		snprintf(d->why, sizeof(d->why), "%.380s", err.text);
	}
	closep(&d->fd);
	return false;
}

static void try_next(struct dial *d)
{
	while (d->tried < d->addrs.n) {
		const struct lookup_addr *a = &d->addrs.items[d->tried++];

		if (try_one(d, (const struct sockaddr *)&a->addr, a->len))
			return;
	}
	finish(d);
}

/* ---- addresses ---- */

static void on_looked_up(void *arg, const struct lookup_addrs *found, const char *why)
{
	struct dial *d = arg;

	if (found != NULL)
		d->addrs = *found;
	else
		snprintf(d->why, sizeof(d->why), "%s", why);
	d->lookup = lookup_free(d->lookup);
	try_next(d);
}

static void on_begin(void *arg)
{
	struct dial *d = arg;
	struct err err = {0};

	if (!lookup_numeric(d->host, d->port, &d->addrs)) {
		if (lookup_new(d->loop, d->host, d->port, on_looked_up, d, &d->lookup, &err) == 0)
			return;
		snprintf(d->why, sizeof(d->why), "%.380s", err.text);
	}
	try_next(d);
}

/* ---- for the caller ---- */

int dial_new(struct loop *l, const char *host, unsigned port, dial_fn *fn, void *arg,
	     struct dial **ret, struct err *err)
{
	size_t len = strlen(host);
	bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';

	if (bracketed) {
		host++;
		len -= 2;
	}
	if (len == 0 || len > LOOKUP_HOST_MAX || port == 0 || port > PORT_MAX)
		return err_set(err, ERR_INVAL, "bad address '%.100s' port %u", host, port);
	struct dial *d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_set(err, ERR_NOMEM, "connecting to %s", host);
	*d = (struct dial){.loop = l, .fn = fn, .arg = arg, .port = port, .fd = -1};
	snprintf(d->host, sizeof(d->host), "%.*s", (int)len, host);
	int rc = loop_add_timer(l, 0, 0, on_begin, d, &d->begin_timer, err);
	if (rc < 0) {
		dial_free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

struct dial *dial_free(struct dial *d)
{
	if (d == NULL)
		return NULL;
	loop_remove(d->loop, d->begin_timer);
	loop_remove(d->loop, d->src);
	closep(&d->fd);
	lookup_free(d->lookup);
	free(d);
	return NULL;
}
