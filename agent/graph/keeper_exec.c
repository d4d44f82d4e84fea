/* keeper_exec.c - starts iottalk-engine and hears how that went. */
#include "agent/graph/keeper_int.h"
#include "common/util.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define REPORT_MAX    65536
#define START_MS      30000 /* an interpreter on a busy machine */
#define FIRST_FREE_FD 10    /* above every number that the child gets */

enum { CHILD_REPORT = 3, CHILD_FDS };

struct launch {
	struct loop *loop;
	launch_fn *fn;
	void *arg;
	pid_t pid; /* -1: reaped */
	int pidfd, report_fd;
	struct loop_src *exit_src, *report_src, *timer;
	char *text; /* the report so far */
	size_t len;
	bool told; /* the end of the report has come */
};

/* In the child, between fork and exec: async-signal-safe calls only. */
static _Noreturn void child_exec(int null, int report, char *const argv[], char *const envp[])
{
	const int from[] = {null, STDERR_FILENO, STDERR_FILENO, report};
	int high[ARRAY_LEN(from)];
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* First out of the way of the low numbers, then each to its place. */
	for (size_t i = 0; i < ARRAY_LEN(from); i++) {
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
		if (high[i] < 0)
			_exit(127);
	}
	for (size_t i = 0; i < ARRAY_LEN(from); i++)
		if (dup2(high[i], (int)i) < 0)
			_exit(127);
	if (close_range(CHILD_FDS, ~0U, 0) < 0)
		_exit(127);
	execve(argv[0], argv, envp);
	_exit(127);
}

static int spawn(struct launch *la, int null, int report, const struct keeper_conf *conf,
		 struct err *err)
{
	static const char *const passed[] = {"TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
					     "LSAN_OPTIONS"};
	char memory[24], function[24], payload[24], vars[ARRAY_LEN(passed)][512];
	char *argv[] = {(char *)conf->program,
			"--socket",
			(char *)conf->socket,
			"--report-fd",
			"3",
			"--memory-mb",
			memory,
			"--function-mb",
			function,
			"--max-payload",
			payload,
			"--qos",
			(char *)conf->qos,
			"--sandbox",
			(char *)conf->sandbox,
			NULL};
	/* Nothing of our environment but what a clock needs, and what a sanitizer build was told.
	 */
	char *envp[2 + ARRAY_LEN(passed) + 1] = {"LANG=C.UTF-8", "PATH=/usr/bin:/bin"};
	size_t n = 2;

	snprintf(memory, sizeof(memory), "%lld", (long long)conf->memory_mb);
	snprintf(function, sizeof(function), "%lld", (long long)conf->function_mb);
	snprintf(payload, sizeof(payload), "%lld", (long long)conf->max_payload_bytes);
	for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
		const char *value = getenv(passed[i]);
		if (value != NULL && snprintf(vars[i], sizeof(vars[i]), "%s=%s", passed[i], value) <
					     (int)sizeof(vars[i]))
			envp[n++] = vars[i];
	}
	la->pid = fork();
	if (la->pid < 0)
		return err_sys(err, "starting %s", conf->program);
	if (la->pid == 0)
		child_exec(null, report, argv, envp);
	la->pidfd = pidfd_open(la->pid, 0);
	return la->pidfd < 0 ? err_sys(err, "watching %s", conf->program) : 0;
}

/* ---- what comes of it ---- */

/* Both the report and the process have ended. */
static void finish(struct launch *la)
{
	if (!la->told || la->pid > 0)
		return;
	json_auto_t *report = la->len > 0 ? json_loadb(la->text, la->len, 0, NULL) : NULL;
	const char *state = json_string_value(json_object_get(report, "state"));
	const char *reason = json_string_value(json_object_get(report, "reason"));
	bool fine = state != NULL && strcmp(state, "ok") == 0;
	loop_arm(la->loop, la->timer, -1);
	la->fn(la->arg, fine     ? NULL
			: reason ? reason
				 : "iottalk-engine ended while it started"); /* may free la */
}

static void on_report(void *arg, uint32_t events)
{
	struct launch *la = arg;
	(void)events;
	ssize_t n = read(la->report_fd, la->text + la->len, REPORT_MAX - la->len);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		la->len += (size_t)n;
		return; /* a report that is too long ends by a read of 0 bytes */
	}
	la->report_src = loop_remove(la->loop, la->report_src);
	la->told = true;
	finish(la);
}

static void on_exit_ready(void *arg, uint32_t events)
{
	struct launch *la = arg;
	siginfo_t info = {0};
	(void)events;
	if (waitid(P_PID, (id_t)la->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	la->pid = -1;
	la->exit_src = loop_remove(la->loop, la->exit_src);
	finish(la);
}

static void on_late(void *arg)
{
	struct launch *la = arg;
	la->fn(la->arg, "iottalk-engine did not start in time"); /* may free la */
}

static int launch(struct launch *la, const struct keeper_conf *conf, struct err *err)
{
	CLEANUP(closep)
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int report[2];
	if (null < 0 || pipe2(report, O_CLOEXEC) < 0)
		return err_sys(err, "descriptors for the keeper");
	la->report_fd = report[0];
	CLEANUP(closep)
	int theirs = report[1];
	if (fcntl(la->report_fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(err, "descriptors for the keeper");
	int rc = spawn(la, null, theirs, conf, err);
	if (rc == 0)
		rc = loop_add_fd(la->loop, la->pidfd, EPOLLIN, on_exit_ready, la, &la->exit_src,
				 err);
	if (rc == 0)
		rc = loop_add_fd(la->loop, la->report_fd, EPOLLIN, on_report, la, &la->report_src,
				 err);
	if (rc == 0)
		rc = loop_add_timer(la->loop, START_MS, 0, on_late, la, &la->timer, err);
	return rc;
}

int launch_new(struct loop *l, const struct keeper_conf *conf, launch_fn *fn, void *arg,
	       struct launch **ret, struct err *err)
{
	struct launch *la = malloc(sizeof(*la));
	if (la == NULL)
		return err_set(err, ERR_NOMEM, "keeper");
	*la = (struct launch){
		.loop = l, .fn = fn, .arg = arg, .pid = -1, .pidfd = -1, .report_fd = -1};
	la->text = malloc(REPORT_MAX);
	int rc = la->text == NULL ? err_set(err, ERR_NOMEM, "keeper") : launch(la, conf, err);
	if (rc < 0)
		launch_free(la);
	else
		*ret = la;
	return rc;
}

struct launch *launch_free(struct launch *la)
{
	if (la == NULL)
		return NULL;
	loop_remove(la->loop, la->exit_src);
	loop_remove(la->loop, la->report_src);
	loop_remove(la->loop, la->timer);
	if (la->pid > 0) {
		kill(la->pid, SIGKILL);
		while (waitpid(la->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	closep(&la->pidfd);
	closep(&la->report_fd);
	free(la->text);
	free(la);
	return NULL;
}
