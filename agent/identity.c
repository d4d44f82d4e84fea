#include "agent/identity.h"
#include "common/id.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int read_id(const char *path, char id[AGENT_ID_MAX + 1], struct err *err)
{
	char line[AGENT_ID_MAX + 3];
	CLEANUP(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? ERR_NOENT : err_sys(err, "%s", path);
	ssize_t n = read(fd, line, sizeof(line) - 1);
	if (n < 0)
		return err_sys(err, "%s", path);
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (!agent_id_valid(line))
		return err_set(err, ERR_SCHEMA, "%s holds no agent id", path);
	memcpy(id, line, strlen(line) + 1);
	return 0;
}

/* Written aside and moved into place: half an id would be another id. */
static int make_id(const char *path, char id[AGENT_ID_MAX + 1], struct err *err)
{
	CLEANUP(freep)
	char *aside = NULL;
	CLEANUP(closep)
	int fd = -1;
	char line[AGENT_ID_MAX + 2];

	snprintf(id, AGENT_ID_MAX + 1, "agent-%.12s", uuid4().s + UUID_LEN - 12);
	int len = snprintf(line, sizeof(line), "%s\n", id);
	if (asprintf(&aside, "%s.new", path) < 0)
		return err_set(err, ERR_NOMEM, "agent id");
	fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line, (size_t)len) != len || fsync(fd) < 0 ||
	    rename(aside, path) < 0)
		return err_sys(err, "keeping the agent id in %s", path);
	return 0;
}

int identity_find(const struct settings *s, char ret_id[AGENT_ID_MAX + 1], struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(s, "agent-id");

	if (s->agent.id != NULL && s->agent.id[0] != '\0') {
		if (!agent_id_valid(s->agent.id))
			return err_set(err, ERR_SCHEMA,
				       "[agent] id '%.100s' is not 1 to 64 characters of A-Z a-z "
				       "0-9 . _ -",
				       s->agent.id);
		snprintf(ret_id, AGENT_ID_MAX + 1, "%s", s->agent.id);
		return 0;
	}
	if (path == NULL)
		return err_set(err, ERR_NOMEM, "agent id");
	int rc = read_id(path, ret_id, err);
	return rc == ERR_NOENT ? make_id(path, ret_id, err) : rc;
}
