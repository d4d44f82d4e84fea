#include "iotctl/check.h"

#include "common/pidfile.h"
#include "common/util.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define LATE_REMEDY                                                                             \
	"look again when the machine is less busy; if it stays so, what is looked at hangs: a " \
	"network file system, a disk, a name server"

void look_says(struct look *l, const char *name, enum doctor_state state, const char *remedy,
	       const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(l->lines, doctor_line(l->group, name, state, text, remedy));
}

pid_t check_pid(const struct look *l, const char *name)
{
	char relative[64];
	pid_t pid = 0;

	snprintf(relative, sizeof(relative), "run/%s.pid", name);
	CLEANUP(freep)
	char *path = settings_path(l->s, relative);
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	return pidfd >= 0 ? pid : 0;
}

/* In the child. */
static void run_here(const struct check *c, const struct iotctl *app, bool has_settings, int out)
{
	struct look l = {.app = app,
			 .s = has_settings ? &app->settings : NULL,
			 .group = c->group,
			 .lines = json_array()};
	bool told = l.lines != NULL;

	if (told) {
		c->run(&l);
		told = json_dumpfd(l.lines, out, 0) == 0;
	}
	_exit(told ? 0 : 1);
}

/* A process that waits for a disk cannot even be killed: it is not waited for. */
static void end_child(pid_t pid, bool late)
{
	if (late)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, late ? WNOHANG : 0) < 0 && errno == EINTR)
		;
}

/* ret_lines: a new list */
static int run_apart(const struct check *c, const struct iotctl *app, bool has_settings,
		     json_t **ret_lines, struct err *err)
{
	CLEANUP(freep)
	char *text = NULL;
	size_t len = 0;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, "pipe");
	CLEANUP(closep)
	int in = fds[0];
	CLEANUP(closep)
	int out = fds[1];
	pid_t pid = fork();

	if (pid < 0)
		return err_sys(err, "fork");
	if (pid == 0)
		run_here(c, app, has_settings, out);
	closep(&out);
	int rc = doctor_read(in, c->limit_ms, "check", &text, &len, err);

	end_child(pid, rc < 0);
	if (rc < 0)
		return rc;
	*ret_lines = json_loadb(text, len, 0, NULL);
	return json_is_array(*ret_lines) ? 0 : err_set(err, ERR_PEER, "the check itself failed");
}

static void add_lines(const struct check *c, const struct iotctl *app, bool has_settings,
		      json_t *report)
{
	json_auto_t *lines = NULL;
	struct err err = {0};
	json_t *line;
	size_t i;
	int rc = run_apart(c, app, has_settings, &lines, &err);

	if (rc < 0)
		doctor_add(report, doctor_line(c->group, c->name,
					       rc == ERR_TIMEOUT ? c->late : DOCTOR_WARNING,
					       err.text, LATE_REMEDY));
	json_array_foreach (lines, i, line)
		doctor_add(report, json_incref(line));
}

void check_all(const struct check *checks, size_t n, const struct iotctl *app, bool has_settings,
	       json_t *report)
{
	fflush(stdout);
	for (size_t i = 0; i < n; i++) {
		if (has_settings || checks[i].always)
			add_lines(&checks[i], app, has_settings, report);
	}
}
