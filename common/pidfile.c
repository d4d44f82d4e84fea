/* pidfile.c - which process is the one. */
#include "common/pidfile.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#define LOCK_TRIES  50 /* of 10 ms: the last owner may be dying right now, its lock goes last */
#define PID_DIGITS  20
#define OWNER_TRIES 20 /* of 5 ms: an owner that has the lock writes its pid next */

static const struct flock whole_file = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

static void sleep_ms(int ms)
{
	struct timespec ts = {.tv_nsec = ms * 1000000L};

	nanosleep(&ts, NULL);
}

static size_t format_pid(pid_t pid, char buf[PID_DIGITS + 1])
{
	char *p = buf + PID_DIGITS;

	*p = '\n';
	do {
		*--p = (char)('0' + pid % 10);
		pid /= 10;
	} while (pid > 0);
	size_t len = (size_t)(buf + PID_DIGITS + 1 - p);

	memmove(buf, p, len);
	return len;
}

int pidfile_lock(const char *path, pid_t pid, int *ret_fd)
{
	char text[PID_DIGITS + 1];
	size_t len = format_pid(pid, text);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc = -1;

	if (fd < 0)
		return -errno;
	for (int i = 0; i < LOCK_TRIES; i++) {
		struct flock lock = whole_file;

		rc = fcntl(fd, F_OFD_SETLK, &lock);
		if (rc == 0 || (errno != EAGAIN && errno != EACCES))
			break;
		sleep_ms(10);
	}
	if (rc < 0)
		rc = errno == EAGAIN || errno == EACCES ? ERR_BUSY : -errno;
	else if (ftruncate(fd, 0) < 0 || pwrite(fd, text, len, 0) != (ssize_t)len)
		rc = errno != 0 ? -errno : -EIO;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

int pidfile_lock_for_exec(const char *path, pid_t pid)
{
	struct flock shared = whole_file;
	CLEANUP(closep)
	int writer = -1;
	int rc = pidfile_lock(path, pid, &writer);

	if (rc < 0)
		return rc;
	/* The lock of the writing descriptor becomes a shared one, a reading descriptor joins it,
	 * the writing one goes: at every moment somebody holds the lock, and nobody else could get
	 * it whole. */
	shared.l_type = F_RDLCK;
	int reader = open(path, O_RDONLY | O_NOFOLLOW); /* inherited on purpose */

	if (reader < 0 || fcntl(writer, F_OFD_SETLK, &shared) < 0 ||
	    fcntl(reader, F_OFD_SETLK, &shared) < 0)
		return errno != 0 ? -errno : -EIO;
	return 0;
}

/* ret: the pid in the locked file, ERR_NOENT if nobody holds the lock, 0 if it is not written yet
 */
static pid_t holder(int fd)
{
	struct flock lock = whole_file;
	char text[PID_DIGITS + 2];

	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	if (lock.l_type == F_UNLCK)
		return ERR_NOENT;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 1 || text[n - 1] != '\n')
		return 0;
	text[n - 1] = '\0';
	char *end;
	long pid = strtol(text, &end, 10);

	return *end == '\0' && pid > 0 && pid < INT32_MAX ? (pid_t)pid : 0;
}

int pidfile_owner(const char *path, pid_t *ret_pid)
{
	CLEANUP(closep)
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	for (int i = 0; i < OWNER_TRIES; i++) {
		pid_t pid = holder(fd);

		if (pid < 0)
			return pid;
		CLEANUP(closep)
		int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

		/* The number might have been given to somebody else between reading and opening:
		 * look again. */
		if (pidfd >= 0 && holder(fd) == pid) {
			*ret_pid = pid;
			return TAKE_FD(pidfd);
		}
		sleep_ms(5);
	}
	return ERR_AGAIN;
}
