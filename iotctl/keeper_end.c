#include "iotctl/keeper_end.h"

#include "common/ctl_addr.h"
#include "common/frames.h"
#include "common/pidfile.h"
#include "common/util.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>

#define START_MS 5000 /* one that is just starting has its lock, but does not listen yet */
#define RETRY_MS 20
#define QUIT_MS  2000
#define KILL_MS  2000

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool agent_runs(const struct settings *s)
{
	CLEANUP(freep)
	char *path = settings_path(s, "run/agent.pid");
	pid_t pid;
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : ERR_NOMEM;
	return pidfd != ERR_NOENT;
}

/* A keeper holds the lock beside its socket for as long as it lives. */
static bool keeper_lives(const char *path)
{
	CLEANUP(freep)
	char *lock = NULL;
	if (asprintf(&lock, "%s.lock", path) < 0) {
		lock = NULL;
		return false;
	}
	CLEANUP(closep)
	int fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* ret: a descriptor; ERR_NOENT: there is none; or another error. */
static int dial(const char *path, struct err *err)
{
	struct sockaddr_un addr;
	CLEANUP(closep)
	int dir = ctl_address(path, &addr, err);
	if (dir < 0)
		return dir;
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, "socket");
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
	for (int64_t end_ms = now_ms() + START_MS; keeper_lives(path);) {
		if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			return TAKE_FD(fd);
		if (now_ms() >= end_ms)
			return err_sys(err, "the keeper at '%s'", path);
		nanosleep(&pause, NULL);
	}
	return ERR_NOENT;
}

static void say_quit(int fd)
{
	json_auto_t *msg = json_pack("{s:s}", "op", "quit");
	struct frame *f = msg != NULL ? frame_of(0, msg, NULL) : NULL;
	struct frames out;
	if (f == NULL)
		return; /* then it does not quit, and is killed */
	frames_init(&out, fd, FRAMES_NUMBERED);
	frames_put(&out, f);
	frames_flush(&out, NULL); /* a socket that is new takes so little at once */
	frames_done(&out);
}

static bool ends(int pidfd, int timeout_ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n;
	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

int keeper_end(const struct settings *s, struct err *err)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	CLEANUP(freep)
	char *path = settings_path(s, "run/keeper.sock");
	if (path == NULL)
		return err_set(err, ERR_NOMEM, "ending the keeper");
	if (agent_runs(s))
		return 0;
	CLEANUP(closep)
	int fd = dial(path, err);
	if (fd < 0)
		return fd == ERR_NOENT ? 0 : fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return err_sys(err, "the keeper at '%s'", path);
	CLEANUP(closep)
	int pidfd = pidfd_open(who.pid, 0);
	if (pidfd < 0)
		return errno == ESRCH ? 1 : err_sys(err, "the keeper at '%s'", path);
	/* a keeper that lives holds its lock: the number is not somebody else's by now */
	if (!keeper_lives(path))
		return 1;
	say_quit(fd);
	if (ends(pidfd, QUIT_MS))
		return 1;
	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_sys(err, "the keeper (pid %d) does not end", (int)who.pid);
	return ends(pidfd, KILL_MS) ? 1
				    : err_set(err, ERR_TIMEOUT, "the keeper (pid %d) does not end",
					      (int)who.pid);
}
