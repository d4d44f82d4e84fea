#include "iotctl/files.h"

#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int files_sync_dir(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	CLEANUP(freep)
	char *dir = slash == NULL   ? strdup(".")
		    : slash == path ? strdup("/")
				    : strndup(path, (size_t)(slash - path));

	if (dir == NULL)
		return err_set(err, ERR_NOMEM, "directory of '%s'", path);
	CLEANUP(closep)
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* EINVAL: a file system that has no such thing to do */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		return err_sys(err, "directory '%s'", dir);
	return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return fsync(fd);
}

int files_save(const char *path, const void *data, size_t len, struct err *err)
{
	CLEANUP(freep)
	char *next = NULL;

	if (asprintf(&next, "%s.new", path) < 0) {
		next = NULL;
		return err_set(err, ERR_NOMEM, "'%s'", path);
	}
	CLEANUP(closep)
	int fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || write_all(fd, data, len) < 0 || rename(next, path) < 0) {
		int rc = err_sys(err, "cannot write '%s'", path);

		if (fd >= 0)
			unlink(next);
		return rc;
	}
	return files_sync_dir(path, err);
}
