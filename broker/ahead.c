#include "broker/ahead.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define FDS 1024 /* what a broker opens at its start is among the first */

static bool listens_on_tcp(int fd)
{
	int listens = 0, domain = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens &&
	       getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
	       (domain == AF_INET || domain == AF_INET6);
}

/* The only question about its members that an epoll instance answers: can this one be added? (/proc
 * would tell, but not to a broker that has changed its user.) */
static bool watches(int epoll_fd, int fd)
{
	struct epoll_event none = {0};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &none) < 0)
		return errno == EEXIST;
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	return false;
}

int ahead_find(void)
{
	int found = -1;

	for (int fd = 0; fd < FDS; fd++) {
		if (!listens_on_tcp(fd))
			continue;
		for (int e = 0; e < FDS; e++) {
			if (!watches(e, fd))
				continue;
			if (found >= 0 && found != e)
				return -1;
			found = e;
		}
	}
	return found;
}

bool ahead_events(int epoll_fd)
{
	struct pollfd p = {.fd = epoll_fd, .events = POLLIN};

	return epoll_fd >= 0 && poll(&p, 1, 0) > 0;
}
