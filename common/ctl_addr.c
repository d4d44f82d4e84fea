#include "common/ctl_addr.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

int ctl_address(const char *path, struct sockaddr_un *ret, struct err *err)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;
	int dir_len = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);

	if (snprintf(dir, sizeof(dir), "%.*s", dir_len, slash != NULL ? path : ".") >=
		    (int)sizeof(dir) ||
	    strlen(name) > 60)
		return err_set(err, ERR_RANGE, "path too long: %.100s...", path);
	int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0)
		return errno == ENOENT ? err_set(err, ERR_NOENT, "no directory '%s'", dir)
				       : err_sys(err, "directory '%s'", dir);
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%.60s", dir_fd, name);
	return dir_fd;
}
