/* check.h - the things that doctor looks at: one function and one row for each.
 *
 * A check runs in a process of its own with a limit on its time: what hangs (a dead network file
 * system, a name server) or crashes costs its own lines only. A check changes nothing.
 */
#pragma once

#include "iotctl/doctor.h"
#include "iotctl/iotctl.h"

struct look {
	const struct iotctl *app;
	const struct settings
		*s; /* of app; NULL (for checks that are `always`): they cannot be used */
	const char *group;
	json_t *lines;
};

/* What was seen. remedy: what a person can do; NULL only for DOCTOR_OK. */
void look_says(struct look *l, const char *name, enum doctor_state state, const char *remedy,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

struct check {
	const char *group; /* heading */
	const char *name;  /* of its line if it does not come to its end */
	void (*run)(struct look *l);
	unsigned limit_ms;
	enum doctor_state late; /* how bad that is */
	bool always;            /* also when the configuration cannot be used */
};

/* Run the n checks of a table one after the other; their lines are added to the report.
 * has_settings: app->settings may be used. */
void check_all(const struct check *checks, size_t n, const struct iotctl *app, bool has_settings,
	       json_t *report);
/* pid of the process that holds the pid lock of a daemon of this userdir. 0: none does, or it
 * cannot be told. */
pid_t check_pid(const struct look *l, const char *name);

/* check_files.c */
void check_config(struct look *l);
void check_dirs(struct look *l);
void check_disk(struct look *l);
/* check_store.c */
void check_store(struct look *l);
void check_ccm_store(struct look *l);
void check_devices_store(struct look *l);
void check_restore(struct look *l);
/* check_broker.c */
void check_broker(struct look *l);
void check_ports(struct look *l);
/* check_daemons.c */
void check_plugin(struct look *l);
void check_transport(struct look *l);
void check_daemons(struct look *l);
void check_devices(struct look *l);
/* check_machine.c */
void check_clock(struct look *l);
void check_limits(struct look *l);
