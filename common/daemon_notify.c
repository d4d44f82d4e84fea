/* daemon_notify.c - what a daemon tells its supervisor. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/util.h"
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define STATUS_MAX 300

void daemon_notify(const char *message)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = path != NULL ? strlen(path) : 0;

	if (len < 2 || (path[0] != '/' && path[0] != '@') || len >= sizeof(addr.sun_path))
		return;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* Never wait for somebody who does not listen. A supervisor that is gone is no trouble: the
	 * next one adopts us. */
	if ((fd < 0 || sendto(fd, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT,
			      (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) &&
	    errno != ECONNREFUSED && log_allowed("notify.failed", path))
		log_warn("notify.failed", KV("why", strerror(errno)));
}

void daemon_notify_ready(void)
{
	daemon_notify("READY=1");
}

void daemon_notify_status(const char *text)
{
	char message[STATUS_MAX];

	snprintf(message, sizeof(message), "STATUS=%s", text);
	for (char *c = message; *c != '\0'; c++) {
		if (*c == '\n') /* would begin another assignment */
			*c = ' ';
	}
	daemon_notify(message);
}

static void on_watch(void *arg)
{
	(void)arg;
	daemon_notify("WATCHDOG=1");
}

/* ret: 0: not there, or not a number that makes sense. */
static int64_t number(const char *name)
{
	const char *text = getenv(name);
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	int64_t n = strtoll(text, &end, 10);

	return errno == 0 && *end == '\0' ? n : 0;
}

int daemon_watch(struct loop *l, struct err *err)
{
	int64_t interval_us = number("WATCHDOG_USEC");
	int64_t every_ms = interval_us / 2000;

	if (interval_us <= 0 ||
	    (getenv("WATCHDOG_PID") != NULL && number("WATCHDOG_PID") != getpid()))
		return 0;
	if (every_ms == 0)
		every_ms = 1;
	return loop_add_timer(l, 0, every_ms, on_watch, NULL, NULL, err);
}
