#include "common/drain.h"

#include "common/util.h"
#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define SOCKETS_MAX 64
#define BYTES_MAX   (32u << 20)
#define TIME_MS     5000
#define TURN_BYTES  (256u << 10) /* read in one callback */

struct place {
	struct drain *owner;
	int fd; /* -1: free */
	size_t bytes;
	struct loop_src *src, *timer;
};

struct drain {
	struct loop *loop;
	struct place places[SOCKETS_MAX];
};

static void leave(void *arg)
{
	struct place *p = arg;
	p->src = loop_remove(p->owner->loop, p->src);
	p->timer = loop_remove(p->owner->loop, p->timer);
	closep(&p->fd);
}

static void discard(void *arg, uint32_t events)
{
	(void)events;
	struct place *p = arg;
	char buf[16384];
	size_t turn = 0;
	while (turn < TURN_BYTES) {
		ssize_t n = recv(p->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			leave(p);
			return;
		}
		turn += (size_t)n;
		p->bytes += (size_t)n;
		if (p->bytes > BYTES_MAX) {
			leave(p);
			return;
		}
	}
}

struct drain *drain_new(struct loop *l)
{
	struct drain *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return NULL;
	g->loop = l;
	for (size_t i = 0; i < SOCKETS_MAX; i++) {
		g->places[i].owner = g;
		g->places[i].fd = -1;
	}
	return g;
}

struct drain *drain_free(struct drain *g)
{
	if (g == NULL)
		return NULL;
	for (size_t i = 0; i < SOCKETS_MAX; i++)
		leave(&g->places[i]);
	free(g);
	return NULL;
}

void drain_add(struct drain *g, int fd)
{
	struct place *p = NULL;
	for (size_t i = 0; i < SOCKETS_MAX && p == NULL; i++)
		if (g->places[i].fd < 0)
			p = &g->places[i];
	if (p == NULL)
		return;
	p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	p->bytes = 0;
	if (p->fd < 0 ||
	    loop_add_fd(g->loop, p->fd, EPOLLIN | EPOLLRDHUP, discard, p, &p->src, NULL) < 0 ||
	    loop_add_timer(g->loop, TIME_MS, 0, leave, p, &p->timer, NULL) < 0)
		leave(p);
}
