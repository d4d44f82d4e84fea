/* cmd_status.c - iotctl status: what runs, since when, and how it is. */
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/pidfile.h"
#include "common/util.h"
#include "iotctl/broker.h"
#include "iotctl/iotctl.h"
#include "iotctl/kept.h"
#include "iotctl/show.h"
#include "iotctl/units.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define ASK_MS   3000
#define PROBE_MS 1000

/* What the pid lock tells about a service while no supervisor does. */
static json_t *status_by_lock(const struct iotctl *app, const char *name)
{
	char relative[64];
	struct stat st;
	pid_t pid;

	snprintf(relative, sizeof(relative), "run/%s.pid", name);
	CLEANUP(freep)
	char *path = settings_path(&app->settings, relative);
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	if (pidfd < 0)
		return json_pack("{s:s, s:s}", "name", name, "state", "stopped");
	return json_pack("{s:s, s:s, s:i, s:I}", "name", name, "state", "starting", "pid", (int)pid,
			 "uptime_s",
			 (json_int_t)(stat(path, &st) == 0 ? time(NULL) - st.st_mtime : 0));
}

static bool is(json_t *service, const char *state)
{
	return strcmp(text_or_empty(service, "state"), state) == 0;
}

/* Without a supervisor: a broker that was there already is nobody's lock, but used by what runs. */
static void add_external(const struct iotctl *app, json_t *broker)
{
	if (app->settings.broker.managed != BROKER_YES && is(broker, "stopped") &&
	    kept_units(app, UNITS_ALL) != 0 && broker_probe(&app->settings, PROBE_MS, NULL) == 0) {
		json_object_set_new(broker, "managed", json_false());
		json_object_set_new(broker, "state", json_string("ready"));
	}
}

static void add_keeper(json_t *service)
{
	char unit[KEPT_NAME_MAX];
	pid_t pid = (pid_t)json_integer_value(json_object_get(service, "pid"));

	if (pid > 0 && kept_unit(pid, unit))
		json_object_set_new(service, "unit", json_string(unit));
}

static void add_ports(const struct settings *s, unsigned unit, json_t *service)
{
	json_t *ports = NULL;

	if (unit == UNIT_BROKER)
		ports = json_pack("{s:I, s:I}", "mqtt", (json_int_t)s->core_mqtt.port, "websocket",
				  (json_int_t)s->core_ws.port);
	else if (unit == UNIT_CSM)
		ports = json_pack("{s:I}", "http", (json_int_t)s->core.http_port);
	else if (unit == UNIT_CCM)
		ports = json_pack("{s:I}", "http", (json_int_t)s->gui.port);
	if (ports != NULL)
		json_object_set_new(service, "ports", ports);
}

/* What works, and less well than it could: the slower way of the data, a sandbox with holes. */
static void add_agents_word(json_t *own, json_t *service)
{
	json_t *missing = json_array(), *layer;
	size_t i;

	json_object_set(service, "transport", json_object_get(own, "transport"));
	if (json_is_object(json_object_get(own, "devices")))
		json_object_set(service, "field_devices", json_object_get(own, "devices"));
	if (text_or_empty(own, "transport_why")[0] != '\0')
		json_object_set(service, "transport_why", json_object_get(own, "transport_why"));
	json_array_foreach (json_object_get(json_object_get(own, "keeper"), "layers"), i, layer)
		if (json_is_true(json_object_get(layer, "core")) &&
		    json_is_false(json_object_get(layer, "up")))
			json_array_append(missing, json_object_get(layer, "name"));
	if (json_array_size(missing) > 0)
		json_object_set(service, "sandbox_lacks", missing);
	json_decref(missing);
}

/* What it has to do. */
static void add_ccms_word(json_t *own, json_t *service)
{
	static const char *const keys[] = {
		"csm",     "projects", "projects_on", "graphs",  "graphs_waiting", "changes",
		"repairs", "refusals", "users",       "devices", "in_memory"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (json_object_get(own, keys[i]) != NULL)
			json_object_set(service, keys[i], json_object_get(own, keys[i]));
}

/* Ask the daemon itself: version and health. */
static void add_own_word(const struct iotctl *app, unsigned unit, json_t *service)
{
	const char *health = NULL;
	struct err err = {0};

	if (unit == UNIT_BROKER) {
		bool fine = broker_probe(&app->settings, PROBE_MS, &err) == 0;

		json_object_set_new(service, "health", json_string(fine ? "ok" : err.text));
		return;
	}
	json_auto_t *own = daemon_status(&app->settings, unit_kinds[unit].name, ASK_MS);

	if (own != NULL) {
		json_object_set(service, "version", json_object_get(own, "version"));
		health = json_string_value(json_object_get(own, "health"));
		if (unit == UNIT_CSM && json_object_get(own, "agent") != NULL)
			json_object_set(service, "agent", json_object_get(own, "agent"));
		if (unit == UNIT_AGENT)
			add_agents_word(own, service);
		if (unit == UNIT_CCM)
			add_ccms_word(own, service);
	}
	json_object_set_new(
		service, "health",
		json_string(health != NULL ? health : "its control socket does not answer"));
}

/* Runs, and is not well: another state than that of one that is fine. */
static void judge(bool supervised, json_t *service)
{
	bool well = strcmp(text_or_empty(service, "health"), "ok") == 0;

	if (is(service, "ready") || !supervised)
		json_object_set_new(service, "state", json_string(well ? "ready" : "degraded"));
}

static json_t *collect(const struct iotctl *app, unsigned mask)
{
	json_auto_t *sup = daemon_status(&app->settings, "supervisor", ASK_MS);
	json_t *known = json_object_get(sup, "services");
	json_auto_t *services = json_array();
	bool alone = false; /* csm knows of no agent */

	for (unsigned i = 0; i < UNITS; i++) {
		if (!(mask & 1u << i))
			continue;
		json_auto_t *service = known != NULL ? json_incref(json_array_get(known, i))
						     : status_by_lock(app, unit_kinds[i].name);
		if (known == NULL && i == UNIT_BROKER)
			add_external(app, service);
		/* A foreign one is none of those that `stop` ends: it is as it is. */
		bool external =
			json_is_false(json_object_get(service, "managed")) &&
			(is(service, "ready") || broker_probe(&app->settings, PROBE_MS, NULL) == 0);

		add_ports(&app->settings, i, service);
		add_keeper(service);
		if (json_object_get(service, "pid") != NULL || external) {
			add_own_word(app, i, service);
			if (i == UNIT_CSM)
				alone = json_is_false(json_object_get(service, "agent"));
			/* It may take the session it had with an earlier csm for a good one. */
			if (i == UNIT_AGENT && alone &&
			    strcmp(text_or_empty(service, "health"), "ok") == 0)
				json_object_set_new(service, "health",
						    json_string("csm has no session with it"));
			judge(known != NULL && !external, service);
		}
		json_array_append(services, service);
	}
	json_t *self = sup != NULL
			       ? json_pack("{s:O, s:O, s:O}", "pid", json_object_get(sup, "pid"),
					   "version", json_object_get(sup, "version"), "uptime_s",
					   json_object_get(sup, "uptime_s"))
			       : json_null();

	return json_pack("{s:o, s:s, s:O}", "supervisor", self, "userdir",
			 app->settings.core.userdir, "services", services);
}

static void format_uptime(json_int_t s, char *buf, size_t cap)
{
	if (s >= 86400)
		snprintf(buf, cap, "%" PRId64 "d%02dh", (int64_t)s / 86400,
			 (int)(s % 86400 / 3600));
	else if (s >= 3600)
		snprintf(buf, cap, "%dh%02dm", (int)(s / 3600), (int)(s % 3600 / 60));
	else if (s >= 60)
		snprintf(buf, cap, "%dm%02ds", (int)(s / 60), (int)(s % 60));
	else
		snprintf(buf, cap, "%ds", (int)s);
}

static void print_projects(json_t *s)
{
	char all[32], on[32], graphs[32];

	if (json_object_get(s, "projects") == NULL)
		return;
	printf("           projects %s, on %s, graphs %s; csm %s\n", number_of(s, "projects", all),
	       number_of(s, "projects_on", on), number_of(s, "graphs", graphs), text_of(s, "csm"));
	if (json_integer_value(json_object_get(s, "users")) == 0)
		puts(json_is_true(json_object_get(s, "in_memory"))
			     ? "           has no account yet: POST /api/v0/account/create makes "
			       "one, until ccm ends"
			     : "           has no account yet: iotctl user add --admin NAME");
}

static void print_field_devices(const json_t *devices)
{
	char count[32], running[32], failed[32], backlog[32];

	if (devices == NULL || text_or_empty(devices, "why")[0] != '\0') /* health says it */
		return;
	const char *bus_why = text_or_empty(devices, "bus_why");

	printf("           field devices %s, running %s, failed %s; values that wait %s%s%s\n",
	       number_of(devices, "count", count), number_of(devices, "running", running),
	       number_of(devices, "failed", failed), number_of(devices, "backlog", backlog),
	       bus_why[0] != '\0' ? "; broker: " : "", bus_why);
}

static void print_service(json_t *s)
{
	char pid[16] = "-", uptime[32] = "-", ports[100] = "-";
	json_t *port, *lack;
	const char *name;
	size_t used = 0, i;

	if (json_object_get(s, "pid") != NULL) {
		snprintf(pid, sizeof(pid), "%d",
			 (int)json_integer_value(json_object_get(s, "pid")));
		format_uptime(json_integer_value(json_object_get(s, "uptime_s")), uptime,
			      sizeof(uptime));
	}
	json_object_foreach (json_object_get(s, "ports"), name, port)
		used += (size_t)snprintf(ports + used, sizeof(ports) - used, "%s%s %d",
					 used > 0 ? ", " : "", name, (int)json_integer_value(port));
	printf("%-10s %-10s %8s %8s %8d  %-8s %-24s %s\n", text_or_empty(s, "name"),
	       text_or_empty(s, "state"), pid, uptime,
	       (int)json_integer_value(json_object_get(s, "restarts")),
	       text_or_empty(s, "version")[0] != '\0' ? text_or_empty(s, "version") : "-", ports,
	       text_or_empty(s, "health")[0] != '\0' ? text_or_empty(s, "health") : "-");
	if (text_or_empty(s, "reason")[0] != '\0')
		printf("           %s\n", text_or_empty(s, "reason"));
	if (text_or_empty(s, "last_exit")[0] != '\0')
		printf("           ended last with: %s\n", text_or_empty(s, "last_exit"));
	if (text_or_empty(s, "unit")[0] != '\0')
		printf("           kept by systemd: %s\n", text_or_empty(s, "unit"));
	if (text_or_empty(s, "data_dir")[0] != '\0')
		printf("           keeps its data in %s\n", text_or_empty(s, "data_dir"));
	if (text_or_empty(s, "plugin_why")[0] != '\0')
		printf("           without its plugin: %s\n", text_or_empty(s, "plugin_why"));
	if (json_is_false(json_object_get(s, "managed")) && !is(s, "stopped"))
		puts("           was there already; iotctl uses it and leaves it alone");
	if (strcmp(text_or_empty(s, "transport"), "client") == 0 &&
	    text_or_empty(s, "transport_why")[0] != '\0')
		printf("           data goes the slower way: %s\n",
		       text_or_empty(s, "transport_why"));
	print_projects(s);
	print_field_devices(json_object_get(s, "field_devices"));
	json_array_foreach (json_object_get(s, "sandbox_lacks"), i, lack)
		printf("%s%s", i == 0 ? "           the sandbox of functions lacks " : ", ",
		       json_string_value(lack));
	if (json_array_size(json_object_get(s, "sandbox_lacks")) > 0)
		puts(" (see iotctl doctor)");
	json_array_foreach (json_object_get(s, "lacks"), i, lack)
		printf("           lacks: it %s\n", json_string_value(lack));
}

static void print_text(json_t *all)
{
	json_t *sup = json_object_get(all, "supervisor"), *s;
	char uptime[32];
	size_t i;

	printf("%-10s %-10s %8s %8s %8s  %-8s %-24s %s\n", "service", "state", "pid", "uptime",
	       "restarts", "version", "ports", "health");
	if (json_is_object(sup)) {
		format_uptime(json_integer_value(json_object_get(sup, "uptime_s")), uptime,
			      sizeof(uptime));
		printf("%-10s %-10s %8d %8s %8s  %-8s %-24s %s\n", "supervisor", "ready",
		       (int)json_integer_value(json_object_get(sup, "pid")), uptime, "-",
		       text_or_empty(sup, "version"), "-", "ok");
	} else {
		printf("%-10s %s\n", "supervisor", "stopped");
	}
	json_array_foreach (json_object_get(all, "services"), i, s)
		print_service(s);
}

bool status_trouble(const struct iotctl *app, bool all, char *buf, size_t cap)
{
	json_auto_t *found = collect(app, UNITS_ALL);
	size_t used = 0, i;
	json_t *s;

	buf[0] = '\0';
	json_array_foreach (json_object_get(found, "services"), i, s) {
		const char *what =
			is(s, "degraded") ? text_or_empty(s, "health") : text_or_empty(s, "state");

		if (!is(s, "ready") && (all || is(s, "degraded")) && used < cap)
			used += (size_t)snprintf(buf + used, cap - used, "%s%s: %s",
						 used > 0 ? "; " : "", text_or_empty(s, "name"),
						 what);
	}
	return used > 0;
}

static int exit_status(json_t *services)
{
	int rc = EXIT_OK;
	json_t *s;
	size_t i;

	json_array_foreach (services, i, s) {
		if (is(s, "degraded") && rc == EXIT_OK)
			rc = EXIT_ERROR;
		else if (!is(s, "degraded") && !is(s, "ready"))
			rc = EXIT_NOT_RUNNING;
	}
	return rc;
}

int cmd_status(struct iotctl *app, const struct options *o)
{
	struct err err = {0};
	unsigned mask;

	if (units_parse(o->argv, o->argc, &mask, &err) < 0)
		return refuse_names("status", &err);
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	json_auto_t *all = collect(app, mask);

	if (all == NULL)
		return complain("status: out of memory");
	if (options_has(o, "json")) {
		print_json(all);
	} else {
		print_text(all);
	}
	return exit_status(json_object_get(all, "services"));
}
