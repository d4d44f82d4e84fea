/* check_daemons.c - what runs: does it answer, is it well, is it of this version; which way do the
 * data take. */
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/util.h"
#include "iotctl/broker_plugin.h"
#include "iotctl/check.h"
#include "iotctl/show.h"
#include "iotctl/units.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ASK_MS       3000
#define DEVICES_TOLD 10

/* ---- the broker plugin ---- */

void check_plugin(struct look *l)
{
	const struct settings *s = l->s;
	enum doctor_state bad =
		s->agent.transport == TRANSPORT_PLUGIN ? DOCTOR_MISSING : DOCTOR_WARNING;
	CLEANUP(freep)
	char *plugin = NULL;
	CLEANUP(freep)
	char *socket = settings_plugin_socket(s);
	struct err err = {0};

	if (s->agent.transport == TRANSPORT_CLIENT) {
		look_says(l, "plugin", DOCTOR_OK, NULL, "not used: [agent] transport = client");
		return;
	}
	if (plugin_find(s, l->app->program_dir, &plugin, &err) == 0)
		look_says(l, "plugin file", DOCTOR_OK, NULL, "%s", plugin);
	else /* a broker of another origin may have it elsewhere */
		look_says(
			l, "plugin file", DOCTOR_WARNING,
			"build it, or name it in [broker] plugin; a broker of your own may have it "
			"elsewhere",
			"%s", err.text);
	err = (struct err){0};
	int rc = socket != NULL ? doctor_socket(socket, &err) : ERR_NOMEM;

	if (rc == 0)
		look_says(l, "plugin socket", DOCTOR_OK, NULL, "%s", socket);
	else
		look_says(
			l, "plugin socket", bad,
			rc == ERR_ACCES
				? "let this user in: plugin_opt_allow USER in the broker's "
				  "mosquitto.conf (README.rst, The broker)"
				: "start the broker with the plugin: iotctl start, or two lines in "
				  "your own mosquitto.conf (README.rst, The broker)",
			"%s", err.text);
}

/* What the agent uses, and why. */
void check_transport(struct look *l)
{
	json_auto_t *status = daemon_status(l->s, "agent", ASK_MS);
	const char *transport = json_string_value(json_object_get(status, "transport"));
	const char *why = json_string_value(json_object_get(status, "transport_why"));
	bool told = why != NULL && why[0] != '\0';
	/* Of a client transport the reason tells why it is one; of the plugin's, what it lacks. */
	bool well = transport != NULL && !(told && strcmp(transport, "plugin") == 0);

	if (status == NULL)
		look_says(l, "transport", DOCTOR_WARNING, "iotctl start; see the agent above",
			  "the agent does not %s", check_pid(l, "agent") > 0 ? "answer" : "run");
	else
		look_says(l, "transport", well ? DOCTOR_OK : DOCTOR_WARNING,
			  well ? NULL : "see the plugin above, and log/agent.log below userdir",
			  "%s%s%s", transport != NULL ? transport : "unknown", told ? ": " : "",
			  told ? why : "");
}

/* ---- devices in the field ---- */

static unsigned number_in(const json_t *object, const char *key)
{
	return (unsigned)json_integer_value(json_object_get(object, key));
}

static void look_at_devices(struct look *l, const json_t *devices)
{
	const char *why = json_string_value(json_object_get(devices, "why"));
	const char *bus_why = text_or_empty(devices, "bus_why");
	unsigned count = number_in(devices, "count"), failed = number_in(devices, "failed");
	bool bus = json_is_true(json_object_get(devices, "bus"));

	if (devices == NULL || json_is_null(devices))
		look_says(l, "devices", DOCTOR_WARNING, "iotctl restart agent",
			  "the agent runs without a device file: it was set later");
	else if (why != NULL && why[0] != '\0')
		look_says(l, "devices", DOCTOR_WARNING,
			  "iotctl device check FILE; then iotctl device reload", "%s", why);
	else if (!bus)
		look_says(l, "devices", DOCTOR_WARNING,
			  "see the broker above; if the device file names another one, see mqtt "
			  "there",
			  "%u; their broker is not reached%s%s", count,
			  bus_why[0] != '\0' ? ": " : "", bus_why);
	else if (failed > 0)
		look_says(l, "devices", DOCTOR_WARNING, "iotctl device list says why",
			  "%u of %u failed", failed, count);
	else
		look_says(l, "devices", DOCTOR_OK, NULL, "%u, of which %u run", count,
			  number_in(devices, "running"));
}

/* The answer of the agent; NULL: there is none. request: taken. */
static json_t *ask_agent(const struct look *l, json_t *request)
{
	json_auto_t *taken = request;
	json_t *answer = NULL;
	CLEANUP(freep)
	char *path = settings_path(l->s, "run/agent.sock");

	return path != NULL && taken != NULL && ctl_request(path, taken, ASK_MS, &answer, NULL) == 0
		       ? answer
		       : NULL;
}

/* Whether there is something to say of a device that should run: a line that may not be opened, a
 * peer that is not reached, pings that are not permitted. The reasons have the remedy of the
 * machine's part in them. */
static bool look_at_device(struct look *l, const json_t *device)
{
	const char *state = text_of(device, "state");
	char key[300], mend[700];

	snprintf(key, sizeof(key), "%.60s/%.230s", text_of(device, "type"),
		 text_of(device, "name"));
	if (strcmp(state, "failed") == 0) {
		snprintf(mend, sizeof(mend),
			 "then iotctl device disable %s; iotctl device enable %s", key, key);
		look_says(l, key, DOCTOR_WARNING, mend, "%s", text_of(device, "why"));
		return true;
	}
	if (strcmp(state, "running") != 0 || strcmp(text_of(device, "link"), "connected") == 0)
		return false;
	const char *why = text_or_empty(device, "why");

	if (why[0] == '\0')
		return false;
	snprintf(mend, sizeof(mend), "it is tried again and again; iotctl device show %s", key);
	look_says(l, key, DOCTOR_WARNING, mend, "not connected: %s", why);
	return true;
}

static void look_at_each_device(struct look *l)
{
	json_auto_t *answer = ask_agent(l, json_pack("{s:s}", "op", "device_list"));
	json_t *device;
	unsigned told = 0;
	size_t i;

	show_plain(answer);
	json_array_foreach (json_object_get(answer, "devices"), i, device) {
		if (told == DEVICES_TOLD)
			break;
		told += look_at_device(l, device);
	}
}

void check_devices(struct look *l)
{
	const char *path = l->s->agent.devices;

	if (path[0] == '\0') {
		look_says(l, "devices", DOCTOR_OK, NULL, "none: [agent] devices names no file");
		return;
	}
	if (access(path, R_OK) < 0) {
		look_says(l, "device file", DOCTOR_WARNING, "write it, or change [agent] devices",
			  "%s: %s", path, strerror(errno));
		return;
	}
	look_says(l, "device file", DOCTOR_OK, NULL, "%s", path);
	json_auto_t *status = daemon_status(l->s, "agent", ASK_MS);

	if (status != NULL) /* else the daemons' lines say so */
		look_at_devices(l, json_object_get(status, "devices"));
	look_at_each_device(l);
}

/* ---- daemons ---- */

/* Whether the file that a process runs has been replaced or removed since. */
static bool runs_another_file(pid_t pid)
{
	static const char mark[] = " (deleted)";
	char path[64], file[4200];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	ssize_t n = readlink(path, file, sizeof(file) - 1);
	size_t len = sizeof(mark) - 1;

	return n > (ssize_t)len && memcmp(file + n - len, mark, len) == 0;
}

static void look_at_daemon(struct look *l, const char *name, pid_t pid)
{
	json_auto_t *status = daemon_status(l->s, name, ASK_MS);
	const char *version = json_string_value(json_object_get(status, "version"));
	const char *health = json_string_value(json_object_get(status, "health"));
	bool is_supervisor = strcmp(name, "supervisor") == 0;
	char restart[200], mend[300];

	if (is_supervisor)
		snprintf(restart, sizeof(restart), "iotctl stop; iotctl start");
	else
		snprintf(restart, sizeof(restart),
			 "iotctl restart %s (systemctl restart where systemd runs it)", name);
	snprintf(mend, sizeof(mend), "see log/%s.log below userdir; iotctl restart %s", name, name);
	if (status == NULL)
		look_says(l, name, DOCTOR_MISSING, is_supervisor ? restart : mend,
			  "pid %d has its lock, and does not answer", (int)pid);
	else if (version == NULL || strcmp(version, IOTTALK_VERSION) != 0)
		look_says(l, name, DOCTOR_WARNING, restart,
			  "pid %d is version %s, this program is %s", (int)pid,
			  version != NULL ? version : "unknown", IOTTALK_VERSION);
	else if (runs_another_file(pid))
		look_says(l, name, DOCTOR_WARNING, restart,
			  "pid %d is older than its program file, which was replaced", (int)pid);
	/* The supervisor's own word is about the others, which have lines. */
	else if (!is_supervisor && (health == NULL || strcmp(health, "ok") != 0))
		look_says(l, name, DOCTOR_MISSING, mend, "pid %d: %s", (int)pid,
			  health != NULL ? health : "it does not say how it is");
	else
		look_says(l, name, DOCTOR_OK, NULL, "pid %d, version %s", (int)pid, version);
}

void check_daemons(struct look *l)
{
	pid_t supervisor = check_pid(l, "supervisor");

	if (supervisor > 0)
		look_at_daemon(l, "supervisor", supervisor);
	for (unsigned i = 0; i < UNITS; i++) {
		const char *name = unit_kinds[i].name;
		pid_t pid = check_pid(l, name);

		if (unit_kinds[i].program == NULL)
			continue; /* the broker is looked at by itself */
		if (pid > 0)
			look_at_daemon(l, name, pid);
		else
			look_says(l, name, DOCTOR_WARNING, "iotctl start", "does not run");
	}
}
