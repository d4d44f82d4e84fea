/* cmd_broker.c - iotctl broker: the managed broker for a service manager that keeps its processes
 * itself. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/pidfile.h"
#include "common/util.h"
#include "iotctl/broker.h"
#include "iotctl/iotctl.h"
#include "iotctl/units.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Who has this lock is our broker; the program that is executed keeps it. ret: 0 or negative */
static int take_lock(const struct settings *s, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(s, "run/broker.pid");
	int rc = path != NULL ? pidfile_lock_for_exec(path, getpid()) : ERR_NOMEM;

	if (rc == ERR_BUSY)
		return err_set(err, rc, "the broker of %s is already running", s->core.userdir);
	return rc < 0 ? err_set(err, ERR_SYS, "pid lock: %s", strerror(-rc)) : 0;
}

/* One is there that is used as it is: nothing to run, and nothing is wrong. */
static int leave_alone(const struct settings *s, json_t *lacks)
{
	char text[400];
	json_t *lack;
	size_t i;

	snprintf(text, sizeof(text), "a broker answers at %s port %" PRId64 "; it is used",
		 s->core_mqtt.host, s->core_mqtt.port);
	log_info("broker.external", KV("what", text));
	json_array_foreach (lacks, i, lack)
		log_warn("broker.lacks", KV("what", json_string_value(lack)));
	daemon_notify_status(text);
	daemon_notify_ready();
	return EXIT_OK;
}

int cmd_broker(struct iotctl *app, const struct options *o)
{
	const struct settings *s = &app->settings;
	struct broker_plan plan = {0};
	struct err err = {0};
	sigset_t none;

	if (o->argc > 0)
		return misused("broker: it takes no arguments");
	if (iotctl_settings(app) < 0)
		return EXIT_ERROR;
	log_init("broker", (enum log_level)s->core.log_level, (enum log_format)s->core.log_format);
	int rc = daemon_make_dirs(s, &err);

	if (rc == 0)
		rc = take_lock(s, &err);
	if (rc == 0)
		rc = broker_plan(s, app->program_dir, &plan, &err);
	if (rc == 0 && !plan.managed) {
		rc = leave_alone(s, plan.lacks);
		broker_plan_done(&plan);
		return rc;
	}
	if (rc == 0) {
		char *command[] = {plan.program, "-c", plan.conf_path, NULL};

		if (plan.plugin == NULL)
			log_warn("broker.without_plugin", KV("why", plan.plugin_why));
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execv(command[0], command);
		err_sys(&err, "cannot run '%s'", command[0]);
	}
	broker_plan_done(&plan);
	log_error("broker.failed", KV("why", err.text));
	return EXIT_ERROR;
}
