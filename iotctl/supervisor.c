/* supervisor.c - the process that starts the daemons and keeps them running. */
#include "iotctl/supervisor.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/pidfile.h"
#include "common/util.h"
#include "iotctl/keeper_end.h"
#include "iotctl/logfile.h"
#include "iotctl/supervisor_int.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ADOPT_POLL_MS 250 /* an adopted daemon that is not ready cannot tell us: ask */
#define ADOPT_ASK_MS  200
#define TIDY_MS       10000
#define FOLLOW_MS     200
#define WATCHDOG_MS   30000 /* a daemon whose loop stands still for so long is replaced */

/* ---- order ---- */

static int set_daemon_command(struct supervisor *sup, struct unit *u, struct err *err)
{
	CLEANUP(freep)
	char *program = NULL;
	char *argv[5] = {0};
	int n = 0;

	if (asprintf(&program, "%s/%s", sup->app->program_dir, u->kind->program) < 0) {
		program = NULL;
		return err_set(err, ERR_NOMEM, "service %s", u->kind->name);
	}
	argv[n++] = program;
	if (sup->app->conf_path != NULL) {
		argv[n++] = "-c";
		argv[n++] = sup->app->conf_path;
	}
	if (sup->app->debug)
		argv[n++] = "-d";
	return service_set_command(u->sv, argv, notify_address(sup->notify), err);
}

static void start_unit(struct supervisor *sup, struct unit *u)
{
	if (u == &sup->units[UNIT_BROKER])
		supervisor_plan_broker(sup);
	else
		service_start(u->sv);
}

/* The first unit among those u needs that is not ready, NULL: none. */
static const struct unit *missing(const struct supervisor *sup, const struct unit *u)
{
	for (unsigned i = 0; i < UNITS; i++) {
		if ((u->kind->needs & 1u << i) && service_state(sup->units[i].sv) != SERVICE_READY)
			return &sup->units[i];
	}
	return NULL;
}

static void step_up(struct supervisor *sup, struct unit *u)
{
	const struct unit *needed = missing(sup, u);
	enum service_state state = service_state(u->sv);
	char why[100];

	if (state != SERVICE_STOPPED && state != SERVICE_WAITING)
		return;
	if (needed == NULL) {
		start_unit(sup, u);
	} else if (service_state(needed->sv) == SERVICE_FAILED || !needed->wanted) {
		snprintf(why, sizeof(why), "not started, because it needs %s", needed->kind->name);
		service_fail(u->sv, why);
	} else {
		service_set_waiting(u->sv);
	}
}

static void step_down(struct supervisor *sup, unsigned i)
{
	enum service_state state = service_state(sup->units[i].sv);

	if (state == SERVICE_STOPPED || state == SERVICE_STOPPING)
		return;
	/* Those that need it and go as well go first. */
	for (unsigned k = 0; k < UNITS; k++) {
		if ((unit_kinds[k].needs & 1u << i) && !sup->units[k].wanted &&
		    service_has_process(sup->units[k].sv))
			return;
	}
	service_stop(sup->units[i].sv);
}

bool supervisor_anything_alive(const struct supervisor *sup)
{
	for (unsigned i = 0; i < UNITS; i++) {
		enum service_state state = service_state(sup->units[i].sv);

		if (state != SERVICE_STOPPED && state != SERVICE_FAILED)
			return true;
	}
	return false;
}

static void step(void *arg)
{
	struct supervisor *sup = arg;

	sup->step_posted = false;
	for (unsigned i = 0; i < UNITS; i++) {
		if (sup->units[i].wanted)
			step_up(sup, &sup->units[i]);
	}
	for (unsigned i = UNITS; i > 0; i--) {
		if (!sup->units[i - 1].wanted)
			step_down(sup, i - 1);
	}
	supervisor_answer(sup);
	if (sup->stopping_all && !supervisor_anything_alive(sup))
		loop_quit(sup->loop, sup->exit_code);
}

void supervisor_post_step(struct supervisor *sup)
{
	if (!sup->step_posted && loop_post(sup->loop, step, sup) == 0)
		sup->step_posted = true;
}

void supervisor_want(struct supervisor *sup, unsigned mask)
{
	for (unsigned i = 0; i < UNITS; i++) {
		struct unit *u = &sup->units[i];

		if (!(mask & 1u << i))
			continue;
		u->wanted = true;
		if (service_state(u->sv) == SERVICE_FAILED)
			service_stop(
				u->sv); /* has no process: stopped at once, so it is tried again */
	}
	supervisor_post_step(sup);
}

void supervisor_unwant(struct supervisor *sup, unsigned mask)
{
	for (unsigned i = 0; i < UNITS; i++) {
		if (mask & 1u << i)
			sup->units[i].wanted = false;
	}
	supervisor_post_step(sup);
}

void supervisor_stop_all(struct supervisor *sup)
{
	sup->stopping_all = true;
	jobs_cancel(sup->jobs);
	supervisor_unwant(sup, UNITS_ALL);
}

/* ---- what the services tell ---- */

static void on_started(void *arg, struct service *sv)
{
	struct supervisor *sup = arg;

	if (sv == sup->units[UNIT_BROKER].sv)
		supervisor_await_broker(sup);
}

static void on_change(void *arg, struct service *sv)
{
	struct supervisor *sup = arg;

	if (sv == sup->units[UNIT_BROKER].sv)
		supervisor_broker_died(sup);
	supervisor_post_step(sup);
}

static const struct service_events service_events = {on_started, on_change};

static void on_notice(void *arg, pid_t pid, enum notice notice)
{
	struct supervisor *sup = arg;

	for (unsigned i = 0; i < UNITS; i++) {
		struct service *sv = sup->units[i].sv;

		if (!service_has_process(sv) || service_pid(sv) != pid)
			continue;
		switch (notice) {
		case NOTICE_READY:
			service_set_ready(sv);
			break;
		case NOTICE_ALIVE:
			service_alive(sv);
			break;
		}
	}
}

static bool says_ready(const struct unit *u)
{
	json_auto_t *request = json_pack("{s:s}", "op", "status");
	json_t *status = NULL;

	if (request == NULL || ctl_request(u->sock_path, request, ADOPT_ASK_MS, &status, NULL) < 0)
		return false;
	bool ready = json_is_true(json_object_get(status, "ready"));

	json_decref(status);
	return ready;
}

/* Adopted daemons know another address for their ready notice (or none): ask them until they are.
 */
static void on_poll(void *arg)
{
	struct supervisor *sup = arg;
	bool asked = false;

	for (unsigned i = UNIT_CSM; i < UNITS; i++) {
		struct unit *u = &sup->units[i];

		if (service_state(u->sv) != SERVICE_STARTING)
			continue;
		asked = true;
		if (says_ready(u))
			service_set_ready(u->sv);
	}
	if (!asked)
		loop_arm(sup->loop, sup->poll_timer, -1);
}

static void adopt_all(struct supervisor *sup)
{
	unsigned adopted = 0;

	for (unsigned i = 0; i < UNITS; i++) {
		if (!service_adopt(sup->units[i].sv))
			continue;
		adopted |= 1u << i;
		if (i == UNIT_BROKER)
			supervisor_plan_adopted_broker(sup);
		else
			loop_arm(sup->loop, sup->poll_timer, 0);
	}
	/* What they need was wanted too, be it a broker that is not ours. */
	if (adopted != 0)
		supervisor_want(sup, units_with_needs(adopted));
}

/* ---- housekeeping ---- */

static void rotate(const char *path)
{
	struct err err = {0};
	int rc = logfile_rotate(path, LOG_ROTATE_BYTES, &err);

	if (rc < 0 && log_allowed("log.rotate_failed", path))
		log_error("log.rotate_failed", KV("why", err.text));
	if (rc > 0)
		log_info("log.rotated", KV("path", path));
}

static void on_tidy(void *arg)
{
	struct supervisor *sup = arg;

	for (unsigned i = 0; i < UNITS; i++)
		rotate(sup->units[i].log_path);
	if (sup->log_path != NULL)
		rotate(sup->log_path);
}

static void on_follow(void *arg)
{
	struct supervisor *sup = arg;

	for (unsigned i = 0; i < UNITS; i++)
		logfile_follow(sup->units[i].log_path, &sup->units[i].followed, STDERR_FILENO);
}

static void on_term(void *arg)
{
	supervisor_stop_all(arg);
}

static void on_int(void *arg)
{
	sigset_t set;

	sigemptyset(&set); /* a second one ends us at once */
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	supervisor_stop_all(arg);
}

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	if (is_error)
		log_error("config.bad", KV("what", text));
	else
		log_warn("config.doubtful", KV("what", text));
}

int supervisor_reload(struct supervisor *sup, struct err *err)
{
	struct settings fresh;

	if (!jobs_idle(sup->jobs))
		return 0;
	int rc = settings_load(sup->app->conf_path, &fresh, on_note, NULL, err);

	if (rc == 0 && strcmp(fresh.core.userdir, sup->settings.core.userdir) != 0)
		rc = err_set(err, ERR_CONFLICT,
			     "core.userdir has changed; stop the suite with the old one first");
	if (rc < 0) {
		settings_done(&fresh);
		return rc;
	}
	settings_done(&sup->settings);
	sup->settings = fresh;
	return 0;
}

/* ---- begin and end ---- */

static int add_unit(struct supervisor *sup, unsigned i, struct err *err)
{
	struct unit *u = &sup->units[i];
	char log[64], pid[64], sock[64];

	u->kind = &unit_kinds[i];
	snprintf(log, sizeof(log), "log/%s.log", u->kind->name);
	snprintf(pid, sizeof(pid), "run/%s.pid", u->kind->name);
	snprintf(sock, sizeof(sock), "run/%s.sock", u->kind->name);
	u->log_path = settings_path(&sup->settings, log);
	u->pid_path = settings_path(&sup->settings, pid);
	u->sock_path = settings_path(&sup->settings, sock);
	if (u->log_path == NULL || u->pid_path == NULL || u->sock_path == NULL)
		return err_set(err, ERR_NOMEM, "service %s", u->kind->name);
	u->followed = logfile_size(u->log_path);
	struct service_conf conf = {
		.name = u->kind->name,
		.log_path = u->log_path,
		.pid_path = u->pid_path,
		.locks_itself = i != UNIT_BROKER,
		.notifies = i != UNIT_BROKER,
		.watchdog_ms = i != UNIT_BROKER ? WATCHDOG_MS : 0,
	};

	int rc = service_new(sup->loop, &conf, &service_events, sup, &u->sv, err);

	return rc < 0 || i == UNIT_BROKER ? rc : set_daemon_command(sup, u, err);
}

static int take_lock(struct supervisor *sup, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(&sup->settings, "run/supervisor.pid");

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "pid lock");
	int rc = pidfile_lock(path, getpid(), &sup->lock_fd);

	if (rc == ERR_BUSY)
		return err_set(err, rc, "a supervisor is already running for %s",
			       sup->settings.core.userdir);
	return rc < 0 ? err_set(err, ERR_SYS, "cannot lock '%s': %s", path, strerror(-rc)) : 0;
}

static int begin(struct supervisor *sup, struct err *err)
{
	int rc = settings_load(sup->app->conf_path, &sup->settings, on_note, NULL, err);

	if (rc == 0)
		rc = daemon_make_dirs(&sup->settings, err);
	if (rc == 0)
		rc = take_lock(sup, err);
	if (rc == 0 && !sup->foreground &&
	    (sup->log_path = settings_path(&sup->settings, "log/supervisor.log")) == NULL)
		rc = err_set(err, ERR_NOMEM, "log");
	if (rc == 0)
		rc = loop_new(&sup->loop, err);
	if (rc == 0)
		rc = jobs_new(sup->loop, sup, &sup->jobs, err);
	if (rc == 0)
		rc = notify_new(sup->loop, on_notice, sup, &sup->notify, err);
	if (rc == 0)
		rc = loop_add_signal(sup->loop, SIGTERM, on_term, sup, err);
	if (rc == 0)
		rc = loop_add_signal(sup->loop, SIGINT, on_int, sup, err);
	if (rc == 0)
		rc = loop_add_timer(sup->loop, -1, ADOPT_POLL_MS, on_poll, sup, &sup->poll_timer,
				    err);
	if (rc == 0)
		rc = loop_add_timer(sup->loop, TIDY_MS, TIDY_MS, on_tidy, sup, &sup->tidy_timer,
				    err);
	if (rc == 0 && sup->foreground) /* a service manager may keep us */
		rc = daemon_watch(sup->loop, err);
	if (rc == 0 && sup->foreground)
		rc = loop_add_timer(sup->loop, FOLLOW_MS, FOLLOW_MS, on_follow, sup, NULL, err);
	for (unsigned i = 0; rc == 0 && i < UNITS; i++)
		rc = add_unit(sup, i, err);
	if (rc == 0) {
		adopt_all(sup);
		rc = supervisor_listen(sup, err);
	}
	return rc;
}

/* An agent that was killed has left its keeper to a next one that does not come any more. */
static void end_keeper(const struct supervisor *sup)
{
	struct err err = {0};
	int rc = keeper_end(&sup->settings, &err);

	if (rc > 0)
		log_info("keeper.ended");
	if (rc < 0)
		log_error("keeper.left", KV("why", err.text));
}

static void end(struct supervisor *sup)
{
	if (sup->foreground && sup->units[UNITS - 1].log_path != NULL)
		on_follow(sup);
	if (sup->loop != NULL)
		supervisor_forget_waiting(sup);
	ctl_close(sup->ctl);
	jobs_free(sup->jobs);
	notify_free(sup->notify);
	for (unsigned i = 0; i < UNITS; i++) {
		service_free(sup->units[i].sv);
		free(sup->units[i].log_path);
		free(sup->units[i].pid_path);
		free(sup->units[i].sock_path);
	}
	loop_free(sup->loop);
	broker_plan_done(&sup->plan);
	free(sup->log_path);
	settings_done(&sup->settings);
	closep(&sup->lock_fd);
}

int supervisor_run(struct iotctl *app, int ready_fd, bool foreground, unsigned mask)
{
	struct supervisor sup = {
		.app = app, .lock_fd = -1, .foreground = foreground, .exit_code = EXIT_OK};
	struct err err = {0};

	signal(SIGCHLD, SIG_DFL); /* inherited SIG_IGN would take the exit statuses away */
	daemon_block_signals();
	log_init("supervisor", app->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	int rc = begin(&sup, &err);

	if (rc == 0) {
		sup.started_ms = loop_now_ms(sup.loop);
		if (!app->debug)
			log_init("supervisor", (enum log_level)sup.settings.core.log_level,
				 (enum log_format)sup.settings.core.log_format);
		log_info("supervisor.ready", KV("pid", (int64_t)getpid()),
			 KV("userdir", sup.settings.core.userdir));
		if (ready_fd >= 0 && write(ready_fd, "ready\n", 6) != 6)
			log_warn("supervisor.nobody_waits");
		closep(&ready_fd);
		if (foreground && supervisor_wait(&sup, NULL, false, mask, &err) == 0)
			supervisor_want(&sup, units_with_needs(mask));
		rc = loop_run(sup.loop);
		end_keeper(&sup);
	} else {
		log_error("supervisor.failed", KV("why", err.text));
		rc = rc == ERR_BUSY ? EXIT_OK : EXIT_ERROR;
		if (foreground)
			rc = EXIT_ERROR;
	}
	closep(&ready_fd);
	end(&sup);
	return rc < 0 ? EXIT_ERROR : rc;
}
