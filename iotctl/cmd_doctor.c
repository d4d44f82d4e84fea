/* cmd_doctor.c - iotctl doctor: what this machine lacks, and what to do about it. */
#include "common/ctl.h"
#include "common/util.h"
#include "iotctl/broker_plugin.h"
#include "iotctl/doctor.h"
#include "iotctl/iotctl.h"
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define PROBE_MS 30000
#define ASK_MS   3000

static void add_layers(const struct iotctl *app, json_t *report)
{
	CLEANUP(freep)
	char *program = NULL;
	json_auto_t *layers = NULL;
	struct err err = {0};

	if (asprintf(&program, "%s/iottalk-engine", app->program_dir) < 0) {
		program = NULL;
		err_set(&err, ERR_NOMEM, "out of memory");
	} else {
		(void)doctor_probe(program, PROBE_MS, &layers, &err);
	}
	doctor_add_layers(report, layers, err.text);
}

static void add_plugin(const struct iotctl *app, json_t *report, bool needed)
{
	CLEANUP(freep)
	char *plugin = NULL;
	CLEANUP(freep)
	char *socket = settings_plugin_socket(&app->settings);
	struct err err = {0};

	bool found = plugin_find(&app->settings, app->program_dir, &plugin, &err) == 0;
	doctor_add(report, "plugin file", found, false, found ? plugin : err.text,
		   found ? NULL
			 : "build it, or name it in [broker] plugin; a broker of your own may have "
			   "it elsewhere");
	err = (struct err){0};
	int rc = socket != NULL ? doctor_socket(socket, &err) : ERR_NOMEM;
	bool answers = rc == 0;
	doctor_add(report, "plugin socket", answers, needed, answers ? socket : err.text,
		   answers ? NULL
		   : rc == ERR_ACCES
			   ? "let this user in: plugin_opt_allow USER in the broker's "
			     "mosquitto.conf (README.rst, The broker)"
			   : "start the broker with the plugin: iotctl start, or two lines "
			     "in your own mosquitto.conf (README.rst, The broker)");
}

/* What the agent uses, and why. */
static void add_transport(const struct iotctl *app, json_t *report)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "run/agent.sock");
	json_auto_t *request = json_pack("{s:s}", "op", "status");
	json_auto_t *status = NULL;
	char words[400];

	if (path == NULL || request == NULL ||
	    ctl_request(path, request, ASK_MS, &status, NULL) < 0) {
		doctor_add(report, "transport", false, false, "the agent does not run",
			   "iotctl start");
		return;
	}
	const char *transport = json_string_value(json_object_get(status, "transport"));
	const char *why = json_string_value(json_object_get(status, "transport_why"));
	bool told = why != NULL && why[0] != '\0';
	/* Of a client transport the reason tells why it is one; of the plugin's, what it lacks. */
	bool well = transport != NULL && !(told && strcmp(transport, "plugin") == 0);

	snprintf(words, sizeof(words), "%s%s%s", transport != NULL ? transport : "unknown",
		 told ? ": " : "", told ? why : "");
	doctor_add(report, "transport", well, false, words, NULL);
}

int cmd_doctor(struct iotctl *app, int argc, char *argv[])
{
	bool as_json;

	if (option_json(argc, argv, &as_json) < 0)
		return EXIT_USAGE;
	if (optind != argc)
		return misused("doctor: unexpected argument '%s'", argv[optind]);
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	json_auto_t *report = doctor_new(app->settings.engine.sandbox == SANDBOX_DEGRADED);

	if (report == NULL)
		return complain("doctor: out of memory");
	add_layers(app, report);
	add_plugin(app, report, app->settings.agent.transport == TRANSPORT_PLUGIN);
	add_transport(app, report);
	if (as_json) {
		json_dumpf(report, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		doctor_print(report);
	}
	return doctor_ok(report) ? EXIT_OK : EXIT_ERROR;
}
