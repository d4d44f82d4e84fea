/* cmd_run.c - iotctl start, stop, restart: the user's side of the supervisor. */
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/pidfile.h"
#include "common/util.h"
#include "iotctl/iotctl.h"
#include "iotctl/keeper_end.h"
#include "iotctl/kept.h"
#include "iotctl/logfile.h"
#include "iotctl/ports.h"
#include "iotctl/supervisor.h"
#include "iotctl/units.h"
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define PING_MS       5000
#define START_MS      40000
#define STOP_MS       40000
#define WELL_MS       8000 /* for sessions, once everything is ready */
#define WELL_PAUSE_MS 50
#define KILL_AFTER_MS 10000
#define TRIES         3 /* a supervisor may end between being found and being asked */

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- finding or making the supervisor ---- */

static int ask(const struct iotctl *app, const char *op, char *const names[], int n, int timeout_ms,
	       json_t **ret, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "run/supervisor.sock");
	json_auto_t *list = json_array();
	json_auto_t *request = NULL;

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_string(names[i]));
	request = json_pack("{s:s, s:O}", "op", op, "names", list);
	if (path == NULL || request == NULL)
		return err_set(err, ERR_NOMEM, "request");
	return ctl_request(path, request, timeout_ms, ret, err);
}

static bool supervisor_runs(const struct iotctl *app)
{
	json_t *answer = NULL;
	bool runs = ask(app, "status", NULL, 0, PING_MS, &answer, NULL) == 0;

	json_decref(answer);
	return runs;
}

static void exec_supervisor(const struct iotctl *app, int ready_fd, int log_fd)
{
	char fd_text[16];
	char *argv[8];
	int n = 0;

	snprintf(fd_text, sizeof(fd_text), "%d", ready_fd);
	argv[n++] = "iotctl";
	if (app->debug)
		argv[n++] = "-d";
	if (app->conf_path != NULL) {
		argv[n++] = "-c";
		argv[n++] = app->conf_path;
	}
	argv[n++] = "supervise";
	argv[n++] = fd_text;
	argv[n] = NULL;
	setsid();
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0 && dup2(log_fd, STDOUT_FILENO) >= 0 &&
	    dup2(log_fd, STDERR_FILENO) >= 0)
		execv(app->program_path, argv);
	_exit(127);
}

/* Start one in the background and wait until it listens, or ended. */
static int spawn_supervisor(const struct iotctl *app, struct err *err)
{
	CLEANUP(freep)
	char *log_path = settings_path(&app->settings, "log/supervisor.log");
	int ends[2];
	char text[16];

	if (log_path == NULL)
		return err_set(err, ERR_NOMEM, "supervisor");
	CLEANUP(closep)
	int log_fd = logfile_open(log_path, err);

	if (log_fd < 0)
		return log_fd;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, "pipe");
	CLEANUP(closep)
	int from = ends[0];
	CLEANUP(closep)
	int to = ends[1];
	off_t log_from = logfile_size(log_path);
	pid_t pid = fork();

	if (pid < 0)
		return err_sys(err, "fork");
	if (pid == 0) {
		fcntl(to, F_SETFD, 0);
		exec_supervisor(app, to, log_fd);
	}
	closep(&to);
	ssize_t n;

	do
		n = read(from, text, sizeof(text));
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return 0;
	/* It ended: because another one was faster (then that one can be asked), or with the reason
	 * in its log. */
	waitpid(pid, NULL, 0);
	if (supervisor_runs(app))
		return 0;
	json_auto_t *lines = logfile_tail(log_path, log_from, 1);
	const char *line = json_string_value(json_array_get(lines, 0));

	return err_set(err, ERR_PEER, "the supervisor did not start: %s",
		       line != NULL ? line : "it wrote nothing into its log");
}

/* One `start` at a time prepares; the others wait here and then find all prepared. ret: lock
 * descriptor. */
static int start_lock(const struct iotctl *app, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "run/start.lock");
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "start lock");
	CLEANUP(closep)
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(err, "cannot open '%s'", path);
	while (fcntl(fd, F_OFD_SETLKW, &whole) < 0) {
		if (errno != EINTR)
			return err_sys(err, "cannot lock '%s'", path);
	}
	return TAKE_FD(fd);
}

/* Everything a first start needs, and a supervisor unless foreground. ret: 0 or negative (told). */
static int prepare(struct iotctl *app, bool foreground)
{
	struct err err = {0};
	int rc = iotctl_own(app);

	if (rc < 0)
		return rc;
	rc = daemon_make_dirs(&app->settings, &err);
	CLEANUP(closep)
	int lock = rc == 0 ? start_lock(app, &err) : -1;

	if (rc == 0 && lock < 0)
		rc = lock;
	if (rc == 0)
		rc = init_resume(app, &err);
	if (rc == 0 && !init_was_done(app)) {
		rc = init_make(app, INIT_ALL, true);
		if (rc < 0)
			return rc;
	}
	if (rc == 0 && !foreground && !supervisor_runs(app))
		rc = spawn_supervisor(app, &err);
	if (rc < 0)
		complain("start: %s", err.text);
	return rc;
}

/* ---- start ---- */

/* A port that a daemon of ours listens on, and how it is set. */
struct http_port {
	const char *address, *setting;
	int64_t port;
};

/* ret: whether the daemon has one */
static bool http_port_of(const struct settings *s, const char *daemon, struct http_port *ret)
{
	if (strcmp(daemon, unit_kinds[UNIT_CSM].name) == 0)
		*ret = (struct http_port){s->core.bind, "[core] http-port", s->core.http_port};
	else if (strcmp(daemon, unit_kinds[UNIT_CCM].name) == 0)
		*ret = (struct http_port){s->gui.bind, "[gui] port", s->gui.port};
	else
		return false;
	return true;
}

static void print_failure(const struct settings *s, json_t *f)
{
	json_t *log = json_object_get(f, "log"), *line;
	const char *name = json_string_value(json_object_get(f, "name"));
	struct http_port port;
	size_t i;

	complain("%s is not ready: %s", name, json_string_value(json_object_get(f, "reason")));
	if (json_array_size(log) > 0 && http_port_of(s, name, &port) &&
	    port_is_taken(port.address, (unsigned)port.port))
		fprintf(stderr,
			"  another program has port %" PRId64
			" at %s: set another one (%s), or stop that program;\n"
			"  then run `iotctl start` again\n",
			port.port, port.address, port.setting);
	if (json_array_size(log) == 0)
		return;
	fprintf(stderr, "  the end of %s:\n", json_string_value(json_object_get(f, "log_path")));
	json_array_foreach (log, i, line)
		fprintf(stderr, "    %s\n", json_string_value(line));
}

static bool in_mask(const char *name, unsigned mask)
{
	for (unsigned i = 0; i < UNITS; i++) {
		if (strcmp(unit_kinds[i].name, name) == 0)
			return (mask & 1u << i) != 0;
	}
	return false;
}

static void print_started(json_t *services, unsigned mask)
{
	json_t *s, *lack;
	size_t i, k;

	json_array_foreach (services, i, s) {
		const char *name = json_string_value(json_object_get(s, "name"));
		const char *state = json_string_value(json_object_get(s, "state"));
		json_t *pid = json_object_get(s, "pid");

		if (name == NULL || state == NULL || !in_mask(name, mask))
			continue;
		printf("%-8s %s", name, state);
		if (pid != NULL)
			printf(" (pid %" JSON_INTEGER_FORMAT ")\n", json_integer_value(pid));
		else
			puts(json_is_false(json_object_get(s, "managed"))
				     ? " (was there already, not managed by iotctl)"
				     : "");
		json_array_foreach (json_object_get(s, "lacks"), k, lack)
			printf("         note: it %s\n", json_string_value(lack));
	}
}

/* Ready daemons still have to find each other. ret: EXIT_OK, EXIT_ERROR (told). */
static int await_well(const struct iotctl *app)
{
	struct timespec pause = {.tv_nsec = WELL_PAUSE_MS * 1000000L};
	char trouble[500];

	for (int64_t end_ms = clock_ms() + WELL_MS;;) {
		if (!status_trouble(app, false, trouble, sizeof(trouble)))
			return EXIT_OK;
		if (clock_ms() >= end_ms)
			return complain("start: all of it runs, but is not well yet: %s", trouble);
		nanosleep(&pause, NULL);
	}
}

/* systemd keeps the suite. */
static int start_kept(const struct iotctl *app, const char *verb, unsigned mask)
{
	int rc = kept_systemctl(app, verb, mask);

	if (rc == EXIT_OK)
		rc = await_well(app);
	if (rc == EXIT_OK)
		puts("started by systemd; `iotctl status` shows what runs");
	return rc;
}

static int start_units(struct iotctl *app, char *const names[], int n, unsigned mask)
{
	json_auto_t *answer = NULL;
	struct err err = {0};
	int rc = ERR_NOENT;

	for (int i = 0; i < TRIES && rc == ERR_NOENT; i++) {
		if (prepare(app, false) < 0)
			return EXIT_ERROR;
		rc = ask(app, "start", names, n, START_MS, &answer, &err);
	}
	if (rc < 0)
		return complain("start: %s", err.text);
	json_t *failed = json_object_get(answer, "failed"), *f;
	size_t i;

	rc = json_array_size(failed) == 0 ? await_well(app) : EXIT_ERROR;
	print_started(json_object_get(answer, "services"), units_with_needs(mask));
	json_array_foreach (failed, i, f)
		print_failure(&app->settings, f);
	return rc;
}

static int start_foreground(struct iotctl *app, unsigned mask)
{
	if (supervisor_runs(app))
		return complain(
			"start: a supervisor is already running; stop it first (iotctl stop)");
	if (kept_units(app, UNITS_ALL) != 0)
		return complain("start: systemd keeps the suite; stop it first (iotctl stop)");
	if (prepare(app, true) < 0)
		return EXIT_ERROR;
	return supervisor_run(app, -1, true, mask);
}

int cmd_start(struct iotctl *app, const struct options *o)
{
	bool foreground = app->debug || options_has(o, "foreground");
	struct err err = {0};
	unsigned mask;

	if (units_parse(o->argv, o->argc, &mask, &err) < 0)
		return refuse_names("start", &err);
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	if (foreground)
		return start_foreground(app, mask);
	if (!supervisor_runs(app) && kept_units(app, UNITS_ALL) != 0)
		return start_kept(app, "start", units_with_needs(mask));
	return start_units(app, o->argv, o->argc, mask);
}

int cmd_supervise(struct iotctl *app, const struct options *o)
{
	char *end;
	long fd = o->argc == 1 ? strtol(o->argv[0], &end, 10) : -1;

	if (fd < 3 || fd > 65535 || *end != '\0')
		return complain("supervise is for iotctl itself; use `iotctl start`");
	/* The daemons must not hold the end that `start` waits for. */
	if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return complain("supervise: no descriptor %ld", fd);
	return supervisor_run(app, (int)fd, false, 0);
}

/* ---- stop ---- */

static bool gone(int pidfd, int timeout_ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

/* Stop a process by its pid lock. ret: 1 stopped, 0 did not run, negative error */
static int stop_by_lock(const struct iotctl *app, const char *name, struct err *err)
{
	char relative[64];
	pid_t pid;

	snprintf(relative, sizeof(relative), "run/%s.pid", name);
	CLEANUP(freep)
	char *path = settings_path(&app->settings, relative);
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "stop");
	if (pidfd == ERR_NOENT)
		return 0;
	if (pidfd < 0)
		return err_set(err, ERR_SYS, "cannot tell who holds '%s': %s", path,
			       strerror(-pidfd));
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
		return err_sys(err, "cannot stop %s (pid %d)", name, (int)pid);
	if (!gone(pidfd, KILL_AFTER_MS)) {
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		if (!gone(pidfd, KILL_AFTER_MS))
			return err_set(err, ERR_TIMEOUT, "%s (pid %d) does not end", name,
				       (int)pid);
	}
	return 1;
}

/* Without a supervisor: systemd keeps the daemons, or they have outlived it. */
static int stop_alone(const struct iotctl *app, unsigned mask)
{
	struct err err = {0};
	unsigned kept = kept_units(app, mask), stopped = 0;

	if (kept != 0 && kept_systemctl(app, "stop", kept) != EXIT_OK)
		return EXIT_ERROR;
	for (unsigned i = UNITS; i > 0; i--) {
		if (!(mask & 1u << (i - 1)))
			continue;
		bool done = (kept & 1u << (i - 1)) != 0;
		int rc = done ? 1 : stop_by_lock(app, unit_kinds[i - 1].name, &err);

		if (rc < 0)
			return complain("stop: %s", err.text);
		if (rc > 0)
			printf("%-8s stopped\n", unit_kinds[i - 1].name);
		stopped += rc > 0;
	}
	if (stopped == 0)
		puts("nothing was running");
	return EXIT_OK;
}

/* A supervisor that was asked to end lives a little longer than its answer. */
static void await_supervisor_end(const struct iotctl *app)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "run/supervisor.pid");
	pid_t pid;
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	if (pidfd >= 0)
		gone(pidfd, KILL_AFTER_MS);
}

/* What an agent that was killed has left. ret: exit status */
static int stop_keeper(const struct iotctl *app, unsigned mask)
{
	struct err err = {0};

	if ((mask & 1u << UNIT_AGENT) && keeper_end(&app->settings, &err) < 0)
		return complain("stop: %s", err.text);
	return EXIT_OK;
}

static int stop_units(struct iotctl *app, char *const names[], int n, unsigned mask)
{
	json_auto_t *answer = NULL;
	struct err err = {0};
	int rc = ask(app, "stop", names, n, STOP_MS, &answer, &err);

	if (rc == ERR_NOENT)
		return stop_alone(app, mask);
	if (rc < 0)
		return complain("stop: %s", err.text);
	json_t *failed = json_object_get(answer, "failed"), *f;
	size_t i;

	json_array_foreach (failed, i, f)
		complain("%s does not stop", json_string_value(json_object_get(f, "name")));
	if (json_array_size(failed) > 0)
		return EXIT_ERROR;
	for (unsigned k = UNITS; k > 0; k--) {
		json_t *service = json_array_get(json_object_get(answer, "services"), k - 1);
		bool foreign = json_is_false(json_object_get(service, "managed"));

		if (mask & 1u << (k - 1))
			printf("%-8s %s\n", unit_kinds[k - 1].name,
			       foreign ? "left alone (not managed by iotctl)" : "stopped");
	}
	if (n == 0)
		await_supervisor_end(app);
	return EXIT_OK;
}

static int parse_names(struct iotctl *app, const char *command, const struct options *o,
		       unsigned *ret_mask)
{
	struct err err = {0};

	if (units_parse(o->argv, o->argc, ret_mask, &err) < 0)
		return refuse_names(command, &err);
	return iotctl_settings(app) < 0 || iotctl_look(app) < 0 ? EXIT_ERROR : EXIT_OK;
}

int cmd_stop(struct iotctl *app, const struct options *o)
{
	unsigned mask;
	int rc = parse_names(app, "stop", o, &mask);

	if (rc == EXIT_OK)
		rc = stop_units(app, o->argv, o->argc, mask);
	return rc != EXIT_OK ? rc : stop_keeper(app, mask);
}

int cmd_restart(struct iotctl *app, const struct options *o)
{
	unsigned mask;
	int rc = parse_names(app, "restart", o, &mask);

	if (rc == EXIT_OK && !supervisor_runs(app) && kept_units(app, UNITS_ALL) != 0)
		return start_kept(app, "restart", mask);
	if (rc == EXIT_OK && iotctl_own(app) < 0)
		return EXIT_ERROR;
	if (rc == EXIT_OK)
		rc = stop_units(app, o->argv, o->argc, mask);
	return rc != EXIT_OK ? rc : start_units(app, o->argv, o->argc, mask);
}
