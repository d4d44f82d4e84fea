#include "agent/dial.h"
#include "common/util.h"
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define HOST_MAX  255
#define ADDRS_MAX 8
#define PORT_MAX  65535

/* Shared with the thread that looks up a name: the last of the two frees it, so neither has to wait
 * for the other. The thread knows nothing of the loop, only its end of a pipe. */
struct lookup {
	atomic_int users;
	char host[HOST_MAX + 1], port[6];
	int done_fd;      /* the thread's: closed to wake the loop */
	atomic_bool done; /* rc and found are there */
	int rc;           /* of getaddrinfo() */
	struct addrinfo *found;
};

struct dial {
	struct loop *loop;
	dial_fn *fn;
	void *arg;
	struct loop_src *begin_timer, *src; /* src: of lookup_fd or fd */
	struct lookup *lookup;
	int lookup_fd, fd;
	struct sockaddr_storage addrs[ADDRS_MAX];
	socklen_t addr_lens[ADDRS_MAX];
	unsigned n_addrs, tried;
	char host[HOST_MAX + 1], port[6], why[400];
};

static void lookup_unref(struct lookup *k)
{
	if (k == NULL || atomic_fetch_sub(&k->users, 1) > 1)
		return;
	if (k->found != NULL)
		freeaddrinfo(k->found);
	free(k);
}

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
	while (d->tried < d->n_addrs) {
		unsigned i = d->tried++;

		if (try_one(d, (const struct sockaddr *)&d->addrs[i], d->addr_lens[i]))
			return;
	}
	finish(d);
}

/* ---- addresses ---- */

static void add_addr(struct dial *d, const struct sockaddr *addr, socklen_t len)
{
	if (d->n_addrs == ADDRS_MAX || len > sizeof(d->addrs[0]))
		return;
	memcpy(&d->addrs[d->n_addrs], addr, len);
	d->addr_lens[d->n_addrs++] = len;
}

static void add_found(struct dial *d, const struct addrinfo *list)
{
	for (; list != NULL; list = list->ai_next)
		add_addr(d, list->ai_addr, list->ai_addrlen);
}

/* ret: true if host is an address. */
static bool add_numeric(struct dial *d, const char *host)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found = NULL;

	if (getaddrinfo(host, d->port, &hints, &found) != 0)
		return false;
	add_found(d, found);
	freeaddrinfo(found);
	return true;
}

static void *look_up(void *arg)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct lookup *k = arg;

	k->rc = getaddrinfo(k->host, k->port, &hints, &k->found);
	int done_fd = k->done_fd;
	atomic_store(&k->done, true);
	close(done_fd);
	lookup_unref(k);
	return NULL;
}

static void on_looked_up(void *arg, uint32_t events)
{
	struct dial *d = arg;

	(void)events;
	d->src = loop_remove(d->loop, d->src);
	closep(&d->lookup_fd);
	if (!atomic_load(&d->lookup->done)) /* the thread sets it first: never */
		snprintf(d->why, sizeof(d->why), "looking up %s: no answer", d->host);
	else if (d->lookup->rc == 0)
		add_found(d, d->lookup->found);
	else
		snprintf(d->why, sizeof(d->why), "looking up %s: %s", d->host,
			 gai_strerror(d->lookup->rc));
	lookup_unref(TAKE(d->lookup));
	try_next(d);
}

static int start_thread(struct lookup *k)
{
	pthread_t thread;
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return ERR_NOMEM;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int rc = pthread_create(&thread, &attr, look_up, k);
	pthread_attr_destroy(&attr);
	return rc == 0 ? 0 : ERR_NOMEM;
}

static int start_lookup(struct dial *d, struct err *err)
{
	int fds[2];
	struct lookup *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return err_set(err, ERR_NOMEM, "looking up %s", d->host);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		free(k);
		return err_sys(err, "looking up %s", d->host);
	}
	atomic_init(&k->users, 2);
	memcpy(k->host, d->host, sizeof(k->host));
	memcpy(k->port, d->port, sizeof(k->port));
	k->done_fd = fds[1];
	d->lookup_fd = fds[0];
	/* The end of the pipe is the news: an event, not a byte. */
	int rc = loop_add_fd(d->loop, d->lookup_fd, 0, on_looked_up, d, &d->src, err);
	if (rc == 0 && start_thread(k) < 0)
		rc = err_set(err, ERR_NOMEM, "looking up %s: no thread", d->host);
	if (rc < 0) {
		close(fds[1]);
		free(k);
		return rc;
	}
	d->lookup = k;
	return 0;
}

static void on_begin(void *arg)
{
	struct dial *d = arg;
	struct err err = {0};

	if (strcasecmp(d->host, "localhost") == 0) {
		add_numeric(d, "127.0.0.1");
		add_numeric(d, "::1");
	} else if (!add_numeric(d, d->host)) {
		if (start_lookup(d, &err) == 0)
			return;
		snprintf(d->why, sizeof(d->why), "%.380s", err.text);
		d->src = loop_remove(d->loop, d->src);
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
	if (len == 0 || len > HOST_MAX || port == 0 || port > PORT_MAX)
		return err_set(err, ERR_INVAL, "bad address '%.100s' port %u", host, port);
	struct dial *d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_set(err, ERR_NOMEM, "connecting to %s", host);
	*d = (struct dial){.loop = l, .fn = fn, .arg = arg, .lookup_fd = -1, .fd = -1};
	snprintf(d->host, sizeof(d->host), "%.*s", (int)len, host);
	snprintf(d->port, sizeof(d->port), "%u", port);
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
	closep(&d->lookup_fd);
	closep(&d->fd);
	lookup_unref(d->lookup);
	free(d);
	return NULL;
}
