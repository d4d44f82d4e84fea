/* supervisor_broker.c - the broker among the services: what to run is decided and awaited on
 * threads, for both take their time. */
#include "common/log.h"
#include "common/util.h"
#include "iotctl/supervisor_int.h"
#include <stdio.h>
#include <time.h>

#define PROBE_MS 1000
#define PAUSE_MS 20 /* between probes while it starts */

struct plan_job {
	const struct settings *settings;
	const char *program_dir;
	struct broker_plan plan;
	struct err err;
	int rc;
};

static void plan_work(struct job *job, void *arg)
{
	struct plan_job *p = arg;

	(void)job;
	p->rc = broker_plan(p->settings, p->program_dir, &p->plan, &p->err);
}

static void start_planned_broker(struct supervisor *sup)
{
	struct service *sv = sup->units[UNIT_BROKER].sv;
	char *argv[] = {sup->plan.program, "-c", sup->plan.conf_path, NULL};
	struct err err = {0};

	if (sup->plan.managed && sup->plan.plugin == NULL)
		log_warn("broker.without_plugin", KV("why", sup->plan.plugin_why));
	if (sup->external)
		service_set_external(sv);
	else if (service_set_command(sv, argv, NULL, &err) < 0)
		service_fail(sv, err.text);
	else
		service_start(sv);
}

static void plan_done(void *owner, void *arg, bool cancelled)
{
	struct supervisor *sup = owner;
	struct unit *u = &sup->units[UNIT_BROKER];
	struct plan_job *p = arg;

	if (!cancelled && u->wanted && service_state(u->sv) == SERVICE_STARTING) {
		if (p->rc < 0) {
			service_fail(u->sv, p->err.text);
		} else {
			broker_plan_done(&sup->plan);
			sup->plan = p->plan;
			p->plan = (struct broker_plan){0};
			sup->external = !sup->plan.managed;
			start_planned_broker(sup);
		}
	}
	broker_plan_done(&p->plan);
	free(p);
}

void supervisor_plan_broker(struct supervisor *sup)
{
	struct service *sv = sup->units[UNIT_BROKER].sv;
	struct plan_job *p = calloc(1, sizeof(*p));
	struct err err = {0};

	if (p == NULL) {
		service_fail(sv, "out of memory");
		return;
	}
	p->settings = &sup->settings;
	p->program_dir = sup->app->program_dir;
	service_set_starting(sv);
	if (job_start(sup->jobs, plan_work, plan_done, p, &err) < 0) {
		free(p);
		service_fail(sv, err.text);
	}
}

struct await_job {
	const struct settings *settings;
	pid_t pid;
	int rc;
};

static void await_work(struct job *job, void *arg)
{
	struct await_job *a = arg;
	struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};

	for (;;) {
		a->rc = broker_probe(a->settings, PROBE_MS, NULL);
		if (a->rc == 0 || job_cancelled(job))
			return;
		nanosleep(&pause, NULL);
	}
}

static void await_done(void *owner, void *arg, bool cancelled)
{
	struct supervisor *sup = owner;
	struct await_job *a = arg;
	struct service *sv = sup->units[UNIT_BROKER].sv;

	if (!cancelled && a->rc == 0 && service_pid(sv) == a->pid)
		service_set_ready(sv);
	free(a);
}

void supervisor_await_broker(struct supervisor *sup)
{
	struct service *sv = sup->units[UNIT_BROKER].sv;
	struct await_job *a = calloc(1, sizeof(*a));
	struct err err = {0};

	jobs_cancel(sup->jobs); /* those wait for an earlier process */
	if (a == NULL) {
		log_error("broker.not_awaited", KV("why", "out of memory"));
		return;
	}
	a->settings = &sup->settings;
	a->pid = service_pid(sv);
	if (job_start(sup->jobs, await_work, await_done, a, &err) < 0) {
		free(a);
		log_error("broker.not_awaited", KV("why", err.text));
	}
}

void supervisor_plan_adopted_broker(struct supervisor *sup)
{
	char *argv[] = {NULL, "-c", NULL, NULL};
	struct err err = {0};
	int rc = broker_plan_adopted(&sup->settings, sup->app->program_dir, &sup->plan, &err);

	argv[0] = sup->plan.program;
	argv[2] = sup->plan.conf_path;
	if (rc == 0)
		rc = service_set_command(sup->units[UNIT_BROKER].sv, argv, NULL, &err);
	if (rc < 0)
		log_warn("broker.not_restartable", KV("why", err.text));
}

/* It may be the plugin, which stops the broker if it cannot be loaded; if not, the next try says
 * what it is. */
void supervisor_broker_died(struct supervisor *sup)
{
	struct service *sv = sup->units[UNIT_BROKER].sv;
	struct err err = {0};
	char why[1000];

	if (service_state(sv) != SERVICE_BACKOFF || service_was_ready(sv) ||
	    sup->plan.plugin == NULL)
		return;
	snprintf(why, sizeof(why), "the broker ended at once with %s: %s", sup->plan.plugin,
		 service_last_exit(sv));
	log_warn("broker.without_plugin", KV("why", why));
	if (broker_drop_plugin(&sup->settings, &sup->plan, why, &err) < 0)
		log_error("broker.conf_failed", KV("why", err.text));
}
