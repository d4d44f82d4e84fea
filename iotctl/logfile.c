/* logfile.c - the log files of the daemons. */
#include "iotctl/logfile.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TAIL_BYTES 16384

int logfile_open(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd >= 0 ? fd : err_sys(err, "cannot open log '%s'", path);
}

off_t logfile_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

static int copy_rest(int from, int to, off_t *at)
{
	char buf[65536];
	ssize_t n;

	while ((n = pread(from, buf, sizeof(buf), *at)) > 0) {
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(to, buf + done, (size_t)(n - done));

			if (w < 0 && errno != EINTR)
				return -errno;
			done += w > 0 ? w : 0;
		}
		*at += n;
	}
	return n < 0 ? -errno : 0;
}

int logfile_rotate(const char *path, off_t max_bytes, struct err *err)
{
	CLEANUP(freep)
	char *old = NULL;
	off_t at = 0;

	if (logfile_size(path) <= max_bytes)
		return 0;
	if (asprintf(&old, "%s.1", path) < 0) {
		old = NULL;
		return err_set(err, ERR_NOMEM, "log rotation");
	}
	CLEANUP(closep)
	int from = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP(closep)
	int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (from < 0 || to < 0)
		return err_sys(err, "cannot rotate log '%s'", path);
	int rc = copy_rest(from, to, &at);

	if (rc < 0)
		return err_set(err, ERR_SYS, "cannot rotate log '%s': %s", path, strerror(-rc));
	if (ftruncate(from, 0) < 0)
		return err_sys(err, "cannot rotate log '%s'", path);
	return 1;
}

json_t *logfile_tail(const char *path, off_t from, unsigned max_lines)
{
	char buf[TAIL_BYTES + 1];
	CLEANUP(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = logfile_size(path);
	json_t *lines = json_array();
	unsigned n_lines = 0;

	if (lines == NULL || fd < 0)
		return lines;
	if (from > size) /* rotated since */
		from = 0;
	off_t start = size - from > TAIL_BYTES ? size - TAIL_BYTES : from;
	ssize_t n = pread(fd, buf, TAIL_BYTES, start);

	buf[n > 0 ? n : 0] = '\0';
	for (char *p = buf; n > 0 && *p != '\0'; p++)
		n_lines += *p == '\n';
	char *rest = buf;

	for (char *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
		if (n_lines-- > max_lines)
			continue;
		json_t *text = json_string(line);

		/* Not UTF-8: say so rather than nothing. */
		json_array_append_new(
			lines, text != NULL ? text : json_string("(a line that is not UTF-8)"));
	}
	return lines;
}

void logfile_follow(const char *path, off_t *at, int fd)
{
	CLEANUP(closep)
	int from = open(path, O_RDONLY | O_CLOEXEC);

	if (from < 0)
		return;
	if (logfile_size(path) < *at)
		*at = 0;
	copy_rest(from, fd, at);
}
