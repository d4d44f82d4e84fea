/* keeper_start.c - from exec to serving: the socket, the interpreter, the sandbox, a process of its
 * own. */
#include "common/ctl_addr.h"
#include "common/log.h"
#include "common/util.h"
#include "engine/keeper_int.h"
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define BACKLOG 16

/* JSON of the agent's requests, wiped like its frames. */
static void free_wiped(void *p)
{
	if (p != NULL)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

/* One JSON line to who started us. */
static void report(const struct keeper_conf *conf, json_t *line)
{
	CLEANUP(freep)
	char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
	json_decref(line);
	if (conf->report_fd < 0 || text == NULL)
		return;
	if (dprintf(conf->report_fd, "%s\n", text) < 0)
		log_warn("keeper.report", KV("errno", errno));
}

static int fail(const struct keeper_conf *conf, const struct err *err)
{
	log_error("keeper.start", KV("why", err->text));
	report(conf, json_pack("{s:s, s:s}", "state", "error", "reason", err->text));
	return ENGINE_EXIT_START;
}

/* ---- the socket ---- */

/* The lock lives as long as the keeper, so a socket that is there without it is a dead one's. */
static int take_lock(struct keeper *k, struct err *err)
{
	CLEANUP(freep)
	char *path = NULL;
	if (asprintf(&path, "%s.lock", k->conf->socket) < 0) {
		path = NULL;
		return err_set(err, ERR_NOMEM, "keeper");
	}
	/* for reading only: the keeper keeps no file that can be written */
	k->lock_fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->lock_fd < 0)
		return err_sys(err, "%s", path);
	if (flock(k->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? err_set(err, ERR_BUSY, "another keeper has %s", k->conf->socket)
			       : err_sys(err, "%s", path);
	return 0;
}

static int bind_socket(struct keeper *k, struct err *err)
{
	struct sockaddr_un addr;
	int rc = take_lock(k, err);
	if (rc < 0)
		return rc;
	unlink(k->conf->socket);
	k->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->listen_fd < 0)
		return err_sys(err, "socket");
	CLEANUP(closep)
	int dir = ctl_address(k->conf->socket, &addr, err);
	if (dir < 0)
		return dir;
	mode_t mask = umask(0177);
	rc = bind(k->listen_fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	return rc < 0 ? err_sys(err, "%s", k->conf->socket) : 0;
}

/* ---- the process ---- */

/* Descriptors: eight for each engine, and those in flight count, too. */
static void raise_descriptors(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int prepare(struct keeper *k, struct err *err)
{
	const struct sandbox_conf conf = {
		.layers = k->conf->layers,
		.memory_bytes = (size_t)k->conf->engine.memory_mb << 20,
	};
	int rc = sandbox_tidy(k->conf->report_fd, err);
	if (rc == 0)
		rc = bind_socket(k, err);
	if (rc < 0)
		return rc;
	raise_descriptors();
	json_set_alloc_funcs(malloc, free_wiped);
	json_object_seed(0); /* reads the system's random numbers, which an engine could not */
	rc = sandbox_new(&conf, &k->sandbox, err);
	return rc == 0 ? py_start(&k->py, err) : rc;
}

/* Inside: how does who started us look from here? */
static int find_starter(struct keeper *k, int witness, struct err *err)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	if (getsockopt(witness, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return err_sys(err, "credentials");
	k->starter = who.uid;
	return 0;
}

/* In the process that is the keeper. */
static int settle(struct keeper *k, int witness, struct err *err)
{
	sigset_t signals;
	/* until it serves, whoever gives up on the program that was started ends both */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	k->pid = getpid();
	setsid();
	py_after_fork(k->py);
	prctl(PR_SET_NAME, "iottalk-keeper");
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	int rc = find_starter(k, witness, err);
	if (rc == 0 && chdir("/") < 0)
		rc = err_sys(err, "/");
	if (rc < 0)
		return rc;
	sandbox_enter(k->sandbox, SANDBOX_KEEPER);
	rc = sandbox_try(k->sandbox, err);
	if (rc == 0 && k->conf->strict)
		rc = sandbox_verdict(k->sandbox, err);
	if (rc == 0 && (k->layers = sandbox_report(k->sandbox)) == NULL)
		rc = err_set(err, ERR_NOMEM, "keeper");
	if (rc == 0)
		rc = loop_new(&k->loop, err);
	if (rc == 0)
		rc = keeper_serve(k, err);
	/* only now, so that clients see this process as their peer */
	if (rc == 0 && listen(k->listen_fd, BACKLOG) < 0)
		rc = err_sys(err, "%s", k->conf->socket);
	return rc;
}

static _Noreturn void be_keeper(struct keeper *k, int witness, int started)
{
	struct err err = {0};
	if (settle(k, witness, &err) < 0)
		_exit(fail(k->conf, &err));
	close(witness);
	sandbox_warn(k->sandbox);
	report(k->conf, json_pack("{s:s, s:O}", "state", "ok", "layers", k->layers));
	if (k->conf->report_fd >= 0)
		close(k->conf->report_fd);
	prctl(PR_SET_PDEATHSIG, 0);
	if (write(started, "", 1) < 0)
		_exit(ENGINE_EXIT_START); /* it was given up */
	close(started);
	int rc = loop_run(k->loop);
	children_kill(k);
	/* no way back through libraries that have nothing left to save */
	_exit(rc < 0 ? ENGINE_EXIT_START : ENGINE_EXIT_OK);
}

int keeper_run(const struct keeper_conf *conf)
{
	struct keeper k = {.conf = conf, .lock_fd = -1, .listen_fd = -1, .agent_fd = -1};
	struct err err = {0};
	int witness[2], started[2];
	char byte;
	if (prepare(&k, &err) < 0)
		return fail(conf, &err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, witness) < 0 ||
	    pipe2(started, O_CLOEXEC) < 0) {
		err_sys(&err, "descriptors");
		return fail(conf, &err);
	}
	sandbox_enter(k.sandbox, SANDBOX_START);
	pid_t pid = fork();
	if (pid == 0) {
		close(started[0]);
		be_keeper(&k, witness[0], started[1]);
	}
	if (pid < 0) {
		err_sys(&err, "fork");
		return fail(conf, &err);
	}
	close(started[1]);
	ssize_t n;
	do
		n = read(started[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? ENGINE_EXIT_OK : ENGINE_EXIT_START;
}
