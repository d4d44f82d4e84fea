/* cmd_doctor.c - iotctl doctor: what this machine lacks, and what to do about it. */
#include "common/util.h"
#include "iotctl/check.h"
#include "iotctl/show.h"
#include <stdio.h>
#include <string.h>

#define PROBE_MS 30000

static const struct check checks[] = {
	/* group            name             check            limit   late             always */
	{"configuration", "file", check_config, 10000, DOCTOR_MISSING, true},
	{"state directory", "directories", check_dirs, 10000, DOCTOR_MISSING, false},
	{"state directory", "disk", check_disk, 20000, DOCTOR_MISSING, false},
	{"store", "database", check_store, 120000, DOCTOR_WARNING, false},
	{"store", "ccm database", check_ccm_store, 120000, DOCTOR_WARNING, false},
	{"store", "devices database", check_devices_store, 120000, DOCTOR_WARNING, false},
	{"store", "restore", check_restore, 10000, DOCTOR_MISSING, false},
	{"daemons", "daemons", check_daemons, 20000, DOCTOR_MISSING, false},
	{"broker", "broker", check_broker, 90000, DOCTOR_MISSING, false},
	{"data path", "plugin", check_plugin, 10000, DOCTOR_WARNING, false},
	{"data path", "transport", check_transport, 10000, DOCTOR_WARNING, false},
	{"field devices", "devices", check_devices, 10000, DOCTOR_WARNING, false},
	{"ports", "ports", check_ports, 10000, DOCTOR_WARNING, false},
	{"clock", "clock", check_clock, 10000, DOCTOR_WARNING, true},
	{"limits", "limits", check_limits, 10000, DOCTOR_WARNING, false},
};

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

/* What is wrong with the file is a line of the report: nothing is told here. */
static bool load_settings(struct iotctl *app)
{
	app->has_settings = true; /* even a failed load must be released */
	return settings_load(app->conf_path, &app->settings, NULL, NULL, NULL) == 0;
}

int cmd_doctor(struct iotctl *app, const struct options *o)
{
	if (o->argc > 0)
		return misused("doctor: unexpected argument '%s'", o->argv[0]);
	bool has_settings = load_settings(app);
	json_auto_t *report =
		doctor_new(has_settings && app->settings.engine.sandbox == SANDBOX_DEGRADED);

	if (report == NULL)
		return complain("doctor: out of memory");
	add_layers(app, report);
	check_all(checks, ARRAY_LEN(checks), app, has_settings, report);
	if (options_has(o, "json")) {
		print_json(report);
	} else {
		doctor_print(report);
	}
	return doctor_ok(report) ? EXIT_OK : EXIT_ERROR;
}
