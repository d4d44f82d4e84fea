/* service.c - one supervised process. */
#include "iotctl/service.h"
#include "common/log.h"
#include "common/pidfile.h"
#include "common/util.h"
#include "iotctl/logfile.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS   10000
#define LONG_LIFE_MS     10000 /* whoever lived that long starts over with short pauses */
#define EARLY_DEATHS_MAX 3 /* deaths before it was ready once: nothing a further try would help */
#define STOP_MS          10000

struct service {
	struct loop *loop;
	struct service_conf conf;
	const struct service_events *ev;
	void *arg;
	enum service_state state;
	char **argv, **envp; /* owned; envp's strings but those two are borrowed from environ */
	char *notify_env, *watchdog_env;
	pid_t pid;
	int pidfd;
	bool ours; /* our child: its exit status is ours to take */
	bool been_ready;
	bool watched;                      /* the process gives signs of life */
	struct loop_src *exit_src, *timer; /* timer: the pause before a start, the next sign of
					      life, or the patience before SIGKILL */
	int64_t started_ms;
	unsigned backoff_ms, restarts, early_deaths;
	off_t log_from;
	char reason[1000];
	char last_exit[80];
};

const char *service_state_name(enum service_state state)
{
	switch (state) {
	case SERVICE_STOPPED:
		return "stopped";
	case SERVICE_WAITING:
		return "waiting";
	case SERVICE_STARTING:
		return "starting";
	case SERVICE_READY:
		return "ready";
	case SERVICE_BACKOFF:
		return "restarting";
	case SERVICE_STOPPING:
		return "stopping";
	case SERVICE_FAILED:
		return "failed";
	}
	return "unknown";
}

enum service_state service_state(const struct service *sv)
{
	return sv->state;
}

const char *service_name(const struct service *sv)
{
	return sv->conf.name;
}

pid_t service_pid(const struct service *sv)
{
	return sv->pid;
}

bool service_has_process(const struct service *sv)
{
	return sv->pidfd >= 0;
}

bool service_was_ready(const struct service *sv)
{
	return sv->been_ready;
}

const char *service_last_exit(const struct service *sv)
{
	return sv->last_exit;
}

static void set_state(struct service *sv, enum service_state state)
{
	if (sv->state == state)
		return;
	sv->state = state;
	log_info("service.state", KV("service", sv->conf.name),
		 KV("state", service_state_name(state)), KV("pid", sv->pid));
	sv->ev->on_change(sv->arg, sv);
}

static void free_list(char **list)
{
	for (char **p = list; p != NULL && *p != NULL; p++)
		free(*p);
	free(list);
}

/* ---- death ---- */

static void note_exit(struct service *sv)
{
	siginfo_t info = {0};

	if (!sv->ours || waitid(P_PIDFD, (id_t)sv->pidfd, &info, WEXITED | WNOHANG) < 0 ||
	    info.si_pid == 0)
		snprintf(sv->last_exit, sizeof(sv->last_exit), "ended, status unknown");
	else if (info.si_code == CLD_EXITED)
		snprintf(sv->last_exit, sizeof(sv->last_exit), "exit status %d", info.si_status);
	else
		snprintf(sv->last_exit, sizeof(sv->last_exit), "signal %d (%s)", info.si_status,
			 strsignal(info.si_status));
}

static void forget_process(struct service *sv)
{
	sv->exit_src = loop_remove(sv->loop, sv->exit_src);
	closep(&sv->pidfd);
	sv->pid = 0;
}

static void on_exit_event(void *arg, uint32_t events)
{
	struct service *sv = arg;
	int64_t lived_ms = loop_now_ms(sv->loop) - sv->started_ms;
	pid_t pid = sv->pid;

	(void)events;
	note_exit(sv);
	forget_process(sv);
	loop_arm(sv->loop, sv->timer, -1);
	if (sv->state == SERVICE_STOPPING) {
		set_state(sv, SERVICE_STOPPED);
		return;
	}
	log_warn("service.died", KV("service", sv->conf.name), KV("pid", pid),
		 KV("how", sv->last_exit), KV("lived_ms", lived_ms));
	if (!sv->been_ready && ++sv->early_deaths >= EARLY_DEATHS_MAX) {
		snprintf(sv->reason, sizeof(sv->reason), "ended %u times before it was ready (%s)",
			 sv->early_deaths, sv->last_exit);
		set_state(sv, SERVICE_FAILED);
		return;
	}
	if (lived_ms >= LONG_LIFE_MS)
		sv->backoff_ms = 0;
	snprintf(sv->reason, sizeof(sv->reason), "%s; next start in %u ms", sv->last_exit,
		 sv->backoff_ms);
	log_info("service.again", KV("service", sv->conf.name), KV("in_ms", sv->backoff_ms));
	loop_arm(sv->loop, sv->timer, sv->backoff_ms);
	sv->backoff_ms = sv->backoff_ms == 0 ? BACKOFF_FIRST_MS : sv->backoff_ms * 2;
	if (sv->backoff_ms > BACKOFF_MAX_MS)
		sv->backoff_ms = BACKOFF_MAX_MS;
	sv->restarts++;
	set_state(sv, SERVICE_BACKOFF);
}

/* ---- birth ---- */

static void exec_child(const struct service *sv, int null_fd, int log_fd)
{
	static const char cannot[] = "cannot execute the program\n",
			  locked[] = "cannot take the pid lock\n";
	sigset_t none;
	int rc = 0;

	/* A session of its own: what happens to our terminal or to us is not its business. */
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null_fd, STDIN_FILENO);
	dup2(log_fd, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	if (!sv->conf.locks_itself)
		rc = pidfile_lock_for_exec(sv->conf.pid_path, getpid());
	if (rc == 0)
		execve(sv->argv[0], sv->argv, sv->envp);
	if (write(STDERR_FILENO, rc < 0 ? locked : cannot,
		  rc < 0 ? sizeof(locked) - 1 : sizeof(cannot) - 1) < 0)
		_exit(126);
	_exit(127);
}

static int watch(struct service *sv, pid_t pid, int pidfd, bool ours, struct err *err)
{
	int rc = loop_add_fd(sv->loop, pidfd, EPOLLIN, on_exit_event, sv, &sv->exit_src, err);

	if (rc < 0)
		return rc;
	sv->pid = pid;
	sv->pidfd = pidfd;
	sv->ours = ours;
	sv->watched = false;
	sv->started_ms = loop_now_ms(sv->loop);
	return 0;
}

static int spawn(struct service *sv, struct err *err)
{
	CLEANUP(closep)
	int log_fd = logfile_open(sv->conf.log_path, err);
	CLEANUP(closep)
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (log_fd < 0)
		return log_fd;
	if (null_fd < 0)
		return err_sys(err, "/dev/null");
	if (sv->argv == NULL || sv->argv[0] == NULL)
		return err_set(err, ERR_NOENT, "it is not known how to start it; start it by name");
	if (access(sv->argv[0], X_OK) < 0)
		return err_sys(err, "cannot run '%s'", sv->argv[0]);
	pid_t pid = fork();

	if (pid < 0)
		return err_sys(err, "fork");
	if (pid == 0)
		exec_child(sv, null_fd, log_fd);
	CLEANUP(closep)
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int rc = pidfd >= 0 ? watch(sv, pid, pidfd, true, err) : err_sys(err, "pidfd");

	if (rc < 0) { /* nobody would watch it */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return rc;
	}
	(void)TAKE_FD(pidfd);
	return 0;
}

static void start_now(struct service *sv)
{
	struct err err = {0};

	sv->log_from = logfile_size(sv->conf.log_path); /* earlier tries said the same */
	if (spawn(sv, &err) < 0) {
		service_fail(sv, err.text);
		return;
	}
	set_state(sv, SERVICE_STARTING);
	sv->ev->on_started(sv->arg, sv);
}

static void kill_process(struct service *sv, const char *why)
{
	log_warn("service.killed", KV("service", sv->conf.name), KV("pid", sv->pid),
		 KV("why", why));
	syscall(SYS_pidfd_send_signal, sv->pidfd, SIGKILL, NULL, 0);
}

static void on_timer(void *arg)
{
	struct service *sv = arg;

	if (sv->state == SERVICE_BACKOFF)
		start_now(sv);
	else if (sv->state == SERVICE_STOPPING && sv->pidfd >= 0)
		kill_process(sv, "did not end after SIGTERM");
	else if (sv->state == SERVICE_READY && sv->pidfd >= 0)
		kill_process(sv, "hangs: gave no sign of life");
}

int service_new(struct loop *l, const struct service_conf *conf, const struct service_events *ev,
		void *arg, struct service **ret, struct err *err)
{
	struct service *sv = calloc(1, sizeof(*sv));

	if (sv == NULL)
		return err_set(err, ERR_NOMEM, "service %s", conf->name);
	sv->loop = l;
	sv->conf = *conf;
	sv->ev = ev;
	sv->arg = arg;
	sv->pidfd = -1;
	int rc = loop_add_timer(l, -1, 0, on_timer, sv, &sv->timer, err);

	if (rc < 0) {
		service_free(sv);
		return rc;
	}
	*ret = sv;
	return 0;
}

struct service *service_free(struct service *sv)
{
	if (sv == NULL)
		return NULL;
	loop_remove(sv->loop, sv->timer);
	forget_process(sv);
	free_list(sv->argv);
	free(sv->envp);
	free(sv->notify_env);
	free(sv->watchdog_env);
	free(sv);
	return NULL;
}

/* What whoever keeps us has told us is not for our services. */
static bool is_ours_alone(const char *var)
{
	static const char *const names[] = {"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID="};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strncmp(var, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}

/* ret: a new string; NULL: out of memory. */
static char *variable(const char *name, const char *value)
{
	char *text;

	return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

int service_set_command(struct service *sv, char *const argv[], const char *notify_address,
			struct err *err)
{
	size_t n = 0, n_env = 0, used = 0;
	char interval_us[24];

	while (argv[n] != NULL)
		n++;
	while (environ[n_env] != NULL)
		n_env++;
	free_list(sv->argv);
	free(sv->envp);
	free(sv->notify_env);
	free(sv->watchdog_env);
	sv->notify_env = sv->watchdog_env = NULL;
	sv->argv = calloc(n + 1, sizeof(*sv->argv));
	sv->envp = calloc(n_env + 3, sizeof(*sv->envp));
	if (sv->argv == NULL || sv->envp == NULL)
		return err_set(err, ERR_NOMEM, "service %s", sv->conf.name);
	for (size_t i = 0; i < n; i++) {
		sv->argv[i] = strdup(argv[i]);
		if (sv->argv[i] == NULL)
			return err_set(err, ERR_NOMEM, "service %s", sv->conf.name);
	}
	for (size_t i = 0; i < n_env; i++) {
		if (!is_ours_alone(environ[i]))
			sv->envp[used++] = environ[i];
	}
	if (notify_address == NULL)
		return 0;
	sv->envp[used++] = sv->notify_env = variable("NOTIFY_SOCKET", notify_address);
	if (sv->notify_env == NULL)
		return err_set(err, ERR_NOMEM, "service %s", sv->conf.name);
	if (sv->conf.watchdog_ms == 0)
		return 0;
	snprintf(interval_us, sizeof(interval_us), "%u000", sv->conf.watchdog_ms);
	sv->envp[used] = sv->watchdog_env = variable("WATCHDOG_USEC", interval_us);
	return sv->watchdog_env != NULL ? 0 : err_set(err, ERR_NOMEM, "service %s", sv->conf.name);
}

void service_start(struct service *sv)
{
	sv->been_ready = false;
	sv->early_deaths = 0;
	sv->backoff_ms = 0;
	sv->reason[0] = '\0';
	start_now(sv);
}

bool service_adopt(struct service *sv)
{
	pid_t pid;
	CLEANUP(closep)
	int pidfd = pidfile_owner(sv->conf.pid_path, &pid);
	struct err err = {0};

	if (pidfd < 0)
		return false;
	if (watch(sv, pid, pidfd, false, &err) < 0) {
		log_error("service.adopt_failed", KV("service", sv->conf.name),
			  KV("why", err.text));
		return false;
	}
	(void)TAKE_FD(pidfd);
	sv->been_ready = true; /* it ran when we came: worth restarting for ever */
	sv->log_from = logfile_size(sv->conf.log_path);
	log_info("service.adopted", KV("service", sv->conf.name), KV("pid", pid));
	set_state(sv, SERVICE_STARTING);
	sv->ev->on_started(sv->arg, sv);
	return true;
}

void service_stop(struct service *sv)
{
	sv->reason[0] = '\0';
	if (sv->pidfd < 0) {
		loop_arm(sv->loop, sv->timer, -1);
		set_state(sv, SERVICE_STOPPED);
		return;
	}
	if (sv->state == SERVICE_STOPPING)
		return;
	syscall(SYS_pidfd_send_signal, sv->pidfd, SIGTERM, NULL, 0);
	loop_arm(sv->loop, sv->timer, STOP_MS);
	set_state(sv, SERVICE_STOPPING);
}

void service_set_ready(struct service *sv)
{
	if (sv->state != SERVICE_STARTING)
		return;
	sv->been_ready = true;
	sv->reason[0] = '\0';
	if (sv->watched)
		loop_arm(sv->loop, sv->timer, sv->conf.watchdog_ms);
	set_state(sv, SERVICE_READY);
}

void service_alive(struct service *sv)
{
	sv->watched = sv->conf.watchdog_ms > 0;
	if (sv->watched && sv->state == SERVICE_READY)
		loop_arm(sv->loop, sv->timer, sv->conf.watchdog_ms);
}

void service_set_external(struct service *sv)
{
	sv->reason[0] = '\0';
	set_state(sv, SERVICE_READY);
}

void service_set_waiting(struct service *sv)
{
	set_state(sv, SERVICE_WAITING);
}

void service_set_starting(struct service *sv)
{
	sv->reason[0] = '\0';
	sv->log_from = logfile_size(sv->conf.log_path);
	set_state(sv, SERVICE_STARTING);
}

void service_fail(struct service *sv, const char *reason)
{
	snprintf(sv->reason, sizeof(sv->reason), "%s", reason);
	sv->log_from = logfile_size(sv->conf.log_path); /* what is there, earlier ones wrote */
	log_error("service.failed", KV("service", sv->conf.name), KV("why", sv->reason));
	set_state(sv, SERVICE_FAILED);
}

/* The pid file is written when its process starts. */
static int64_t uptime_s(const struct service *sv)
{
	struct stat st;

	if (sv->pidfd < 0 || stat(sv->conf.pid_path, &st) < 0)
		return 0;
	int64_t s = (int64_t)(time(NULL) - st.st_mtime);

	return s > 0 ? s : 0;
}

json_t *service_status(const struct service *sv)
{
	json_t *o = json_pack("{s:s, s:s, s:i}", "name", sv->conf.name, "state",
			      service_state_name(sv->state), "restarts", (int)sv->restarts);

	if (o == NULL)
		return NULL;
	if (sv->pidfd >= 0) {
		json_object_set_new(o, "pid", json_integer(sv->pid));
		json_object_set_new(o, "uptime_s", json_integer(uptime_s(sv)));
	}
	if (sv->reason[0] != '\0')
		json_object_set_new(o, "reason", json_string(sv->reason));
	if (sv->last_exit[0] != '\0')
		json_object_set_new(o, "last_exit", json_string(sv->last_exit));
	return o;
}

json_t *service_log_tail(const struct service *sv, unsigned max_lines)
{
	return logfile_tail(sv->conf.log_path, sv->log_from, max_lines);
}
