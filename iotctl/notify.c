/* notify.c - hears what the daemons tell. */
#include "iotctl/notify.h"
#include "common/id.h"
#include "common/util.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
	struct loop *loop;
	struct loop_src *src;
	int fd;
	char address[64];
	notify_fn *on_notice;
	void *arg;
};

static const char *const lines[] = {
	[NOTICE_READY] = "READY=1",
	[NOTICE_ALIVE] = "WATCHDOG=1",
};

static bool says(const char *text, const char *what)
{
	size_t len = strlen(what);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, what, len) == 0 && (line[len] == '\0' || line[len] == '\n'))
			return true;
	}
	return false;
}

static void on_datagram(void *arg, uint32_t events)
{
	struct notify *n = arg;
	char text[1024];
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t len = recvmsg(n->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	(void)events;
	if (len < 0)
		return;
	text[len] = '\0';
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS)
		return;
	struct ucred peer;

	memcpy(&peer, CMSG_DATA(c), sizeof(peer));
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		if (says(text, lines[i]))
			n->on_notice(n->arg, peer.pid, (enum notice)i);
	}
}

int notify_new(struct loop *l, notify_fn *on_notice, void *arg, struct notify **ret,
	       struct err *err)
{
	struct notify *n = calloc(1, sizeof(*n));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int on = 1;

	if (n == NULL)
		return err_set(err, ERR_NOMEM, "notices");
	n->loop = l;
	n->on_notice = on_notice;
	n->arg = arg;
	snprintf(n->address, sizeof(n->address), "@iottalk-%s", uuid4().s);
	memcpy(addr.sun_path + 1, n->address + 1, strlen(n->address) - 1);
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n->fd < 0 || setsockopt(n->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    bind(n->fd, (struct sockaddr *)&addr,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(n->address))) < 0) {
		err_sys(err, "socket for notices");
		notify_free(n);
		return ERR_SYS;
	}
	int rc = loop_add_fd(l, n->fd, EPOLLIN, on_datagram, n, &n->src, err);

	if (rc < 0) {
		notify_free(n);
		return rc;
	}
	*ret = n;
	return 0;
}

struct notify *notify_free(struct notify *n)
{
	if (n != NULL) {
		loop_remove(n->loop, n->src);
		closep(&n->fd);
		free(n);
	}
	return NULL;
}

const char *notify_address(const struct notify *n)
{
	return n->address;
}
