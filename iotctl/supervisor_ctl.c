/* supervisor_ctl.c - requests to the supervisor, and when they are answered. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/util.h"
#include "iotctl/supervisor_int.h"
#include <stdio.h>
#include <string.h>

#define START_MS  20000 /* how long a start may take before it is called failed */
#define STOP_MS   30000
#define LOG_LINES 20

/* ---- status ---- */

static json_t *unit_status(const struct supervisor *sup, unsigned i)
{
	json_t *o = service_status(sup->units[i].sv);

	if (o == NULL || i != UNIT_BROKER)
		return o;
	json_object_set_new(o, "managed", json_boolean(!sup->external));
	if (sup->external && sup->plan.lacks != NULL)
		json_object_set(o, "lacks", sup->plan.lacks);
	if (!sup->external && sup->plan.data_dir != NULL) {
		json_object_set_new(o, "data_dir", json_string(sup->plan.data_dir));
		if (sup->plan.plugin != NULL)
			json_object_set_new(o, "plugin", json_string(sup->plan.plugin));
		else
			json_object_set_new(o, "plugin_why", json_string(sup->plan.plugin_why));
	}
	return o;
}

static json_t *units_status(const struct supervisor *sup)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < UNITS; i++)
		json_array_append_new(list, unit_status(sup, i));
	return list;
}

/* What keeps the suite from being well, or NULL. */
static const struct unit *unwell(const struct supervisor *sup)
{
	for (unsigned i = 0; i < UNITS; i++) {
		if (sup->units[i].wanted && service_state(sup->units[i].sv) != SERVICE_READY)
			return &sup->units[i];
	}
	return NULL;
}

static void on_status(void *arg, json_t *request, struct ctl_call *call)
{
	struct supervisor *sup = arg;
	const struct unit *bad = unwell(sup);
	char health[100] = "ok";

	(void)request;
	if (bad != NULL)
		snprintf(health, sizeof(health), "%s is %s", bad->kind->name,
			 service_state_name(service_state(bad->sv)));
	ctl_answer(call, json_pack("{s:s, s:s, s:i, s:s, s:I, s:b, s:s, s:o}", "state", "ok",
				   "name", "supervisor", "pid", (int)getpid(), "version",
				   IOTTALK_VERSION, "uptime_s",
				   (json_int_t)((loop_now_ms(sup->loop) - sup->started_ms) / 1000),
				   "ready", bad == NULL, "health", health, "services",
				   units_status(sup)));
}

/* ---- start and stop ---- */

static void waiting_free(struct waiting *w)
{
	loop_remove(w->sup->loop, w->deadline);
	free(w);
}

void supervisor_forget_waiting(struct supervisor *sup)
{
	while (sup->waitings != NULL) {
		struct waiting *w = sup->waitings;

		sup->waitings = w->next;
		if (w->call != NULL)
			ctl_answer_error(w->call, "the supervisor ends");
		waiting_free(w);
	}
}

static void on_deadline(void *arg)
{
	struct waiting *w = arg;

	w->overdue = true;
	supervisor_post_step(w->sup);
}

int supervisor_wait(struct supervisor *sup, struct ctl_call *call, bool is_stop, unsigned mask,
		    struct err *err)
{
	struct waiting *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return err_set(err, ERR_NOMEM, "request");
	w->sup = sup;
	w->call = call;
	w->is_stop = is_stop;
	w->mask = mask;
	int rc = loop_add_timer(sup->loop, is_stop ? STOP_MS : START_MS, 0, on_deadline, w,
				&w->deadline, err);

	if (rc < 0) {
		free(w);
		return rc;
	}
	w->next = sup->waitings;
	sup->waitings = w;
	supervisor_post_step(sup);
	return 0;
}

/* Nothing further will happen to it without being asked. */
static bool settled(const struct unit *u, bool is_stop)
{
	switch (service_state(u->sv)) {
	case SERVICE_READY:
		return !is_stop || u->wanted; /* wanted again meanwhile */
	case SERVICE_FAILED:
		return true;
	case SERVICE_STOPPED:
		return is_stop || !u->wanted;
	case SERVICE_WAITING:
	case SERVICE_STARTING:
	case SERVICE_BACKOFF:
	case SERVICE_STOPPING:
		return false;
	}
	return true;
}

static json_t *failure(const struct unit *u)
{
	json_auto_t *status = service_status(u->sv);
	const char *reason = json_string_value(json_object_get(status, "reason"));
	char text[100];

	snprintf(text, sizeof(text), "it is still %s", service_state_name(service_state(u->sv)));
	return json_pack("{s:s, s:s, s:s, s:o*}", "name", u->kind->name, "reason",
			 reason != NULL ? reason : text, "log_path", u->log_path, "log",
			 service_log_tail(u->sv, LOG_LINES));
}

static json_t *failures(const struct supervisor *sup, const struct waiting *w)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < UNITS; i++) {
		enum service_state state = service_state(sup->units[i].sv);
		bool fine = w->is_stop ? !service_has_process(sup->units[i].sv)
				       : state == SERVICE_READY;

		if ((w->mask & 1u << i) && !fine)
			json_array_append_new(list, failure(&sup->units[i]));
	}
	return list;
}

static void report_foreground(struct supervisor *sup, json_t *failed)
{
	json_t *f;
	size_t i;

	if (json_array_size(failed) == 0) {
		log_info("suite.ready");
		daemon_notify_ready();
		return;
	}
	json_array_foreach (failed, i, f)
		log_error("suite.not_ready",
			  KV("service", json_string_value(json_object_get(f, "name"))),
			  KV("why", json_string_value(json_object_get(f, "reason"))));
	sup->exit_code = EXIT_ERROR;
	supervisor_stop_all(sup);
}

static void answer(struct supervisor *sup, struct waiting *w)
{
	json_t *failed = failures(sup, w);

	if (w->call == NULL) {
		report_foreground(sup, failed);
		json_decref(failed);
		return;
	}
	bool nothing_left =
		!w->is_stop && json_array_size(failed) > 0 && !supervisor_anything_alive(sup);

	ctl_answer(w->call, json_pack("{s:s, s:o, s:o}", "state", "ok", "failed", failed,
				      "services", units_status(sup)));
	if (nothing_left) /* a start that came to nothing leaves nothing behind */
		supervisor_stop_all(sup);
}

void supervisor_answer(struct supervisor *sup)
{
	for (struct waiting **at = &sup->waitings; *at != NULL;) {
		struct waiting *w = *at;
		bool all = true;

		for (unsigned i = 0; i < UNITS; i++)
			all &= !(w->mask & 1u << i) || settled(&sup->units[i], w->is_stop);
		if (!all && !w->overdue) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		answer(sup, w);
		waiting_free(w);
	}
}

static void on_start(void *arg, json_t *request, struct ctl_call *call)
{
	struct supervisor *sup = arg;
	struct err err = {0};
	unsigned mask;

	if (sup->stopping_all) {
		ctl_answer_error(call, "the supervisor is stopping");
		return;
	}
	if (units_parse_json(json_object_get(request, "names"), &mask, &err) < 0 ||
	    supervisor_reload(sup, &err) < 0 || supervisor_wait(sup, call, false, mask, &err) < 0) {
		ctl_answer_error(call, err.text);
		return;
	}
	supervisor_want(sup, units_with_needs(mask));
}

static void on_stop(void *arg, json_t *request, struct ctl_call *call)
{
	struct supervisor *sup = arg;
	json_t *names = json_object_get(request, "names");
	struct err err = {0};
	unsigned mask;

	if (units_parse_json(names, &mask, &err) < 0 ||
	    supervisor_wait(sup, call, true, mask, &err) < 0) {
		ctl_answer_error(call, err.text);
		return;
	}
	if (json_array_size(names) == 0)
		supervisor_stop_all(sup);
	else
		supervisor_unwant(sup, mask);
}

static const struct ctl_op ops[] = {
	{"start", "start the services in names (none: all) and what they need", on_start},
	{"stop", "stop the services in names (none: all, and the supervisor)", on_stop},
	{"status", "all services", on_status},
};

int supervisor_listen(struct supervisor *sup, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(&sup->settings, "run/supervisor.sock");

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "control socket");
	return ctl_listen(sup->loop, path, ops, ARRAY_LEN(ops), sup, &sup->ctl, err);
}
