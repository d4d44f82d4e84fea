#include "iotctl/broker_plugin.h"

#include "common/util.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define PLUGIN     "iottalk_broker.so"
#define BUILT_DIR  "../lib"         /* from the programs, as built */
#define INSTALLED  "../lib/iottalk" /* and as installed */
#define SWITCH_OFF "none"

int plugin_find(const struct settings *s, const char *program_dir, char **ret, struct err *err)
{
	static const char *const dirs[] = {BUILT_DIR, INSTALLED};
	char path[PATH_MAX];

	if (strcmp(s->broker.plugin, SWITCH_OFF) == 0)
		return err_set(err, ERR_NOENT, "switched off by [broker] plugin");
	if (s->broker.plugin[0] != '\0') {
		*ret = realpath(s->broker.plugin, NULL);
		return *ret != NULL ? 0
				    : err_set(err, ERR_NOENT, "[broker] plugin '%s': %s",
					      s->broker.plugin, strerror(errno));
	}
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s/" PLUGIN, program_dir, dirs[i]);
		*ret = realpath(path, NULL);
		if (*ret != NULL)
			return 0;
	}
	return err_set(err, ERR_NOENT,
		       PLUGIN " is not there, neither in %s/" BUILT_DIR " nor in %s/" INSTALLED,
		       program_dir, program_dir);
}

static int copy(int from, const char *path, struct err *err)
{
	CLEANUP(freep)
	char *next = NULL;
	struct stat st;

	if (asprintf(&next, "%s.new", path) < 0) {
		next = NULL;
		return err_set(err, ERR_NOMEM, "copy of the plugin");
	}
	/* The directory is the broker's user's: whatever it may have put there is not followed. */
	unlink(next);
	CLEANUP(closep)
	int to = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (to < 0 || fstat(from, &st) < 0)
		return err_sys(err, "cannot write '%s'", next);
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(to, from, NULL, (size_t)left);

		if (n <= 0)
			return err_sys(err, "cannot write '%s'", next);
		left -= n;
	}
	if (fchmod(to, 0644) < 0 || rename(next, path) < 0)
		return err_sys(err, "cannot write '%s'", path);
	return 0;
}

int plugin_copy(char **path, const char *data_dir, struct err *err)
{
	char *there = NULL;
	CLEANUP(closep)
	int fd = open(*path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, "cannot read '%s'", *path);
	if (asprintf(&there, "%s/" PLUGIN, data_dir) < 0)
		return err_set(err, ERR_NOMEM, "copy of the plugin");
	int rc = copy(fd, there, err);

	if (rc < 0) {
		free(there);
		return rc;
	}
	free(*path);
	*path = there;
	return 0;
}

char *plugin_socket(const char *data_dir)
{
	char *path;

	return asprintf(&path, "%s/plugin.sock", data_dir) < 0 ? NULL : path;
}

int plugin_link(const struct settings *s, const char *socket, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_plugin_socket(s);
	CLEANUP(freep)
	char *next = NULL;
	struct stat st;

	if (path == NULL || asprintf(&next, "%s.new", path) < 0) {
		next = NULL;
		return err_set(err, ERR_NOMEM, "plugin socket");
	}
	if (socket != NULL && strcmp(path, socket) == 0)
		return 0;
	if (lstat(path, &st) == 0 && !S_ISLNK(st.st_mode))
		return err_set(err, ERR_EXIST,
			       "'%s' is there and does not lead to the managed broker", path);
	if (socket == NULL)
		return unlink(path) < 0 && errno != ENOENT ? err_sys(err, "removing '%s'", path)
							   : 0;
	unlink(next);
	if (symlink(socket, next) < 0 || rename(next, path) < 0)
		return err_sys(err, "link '%s'", path);
	return 0;
}

bool plugin_in_conf(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[PATH_MAX + 100];
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
		found = strncmp(line, "plugin ", 7) == 0;
	if (f != NULL)
		fclose(f);
	return found;
}
