/* iotctl.h - what the commands of iotctl share. */
#pragma once

#include "common/err.h"
#include "common/options.h"
#include "common/settings.h"
#include <stdbool.h>
#include <stddef.h>

enum exit_code { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_NOT_RUNNING = 3 };

struct iotctl {
	char *conf_path; /* absolute; NULL: no file, defaults */
	bool debug;
	char *program_path; /* of iotctl itself; the daemons lie beside it */
	char *program_dir;
	struct settings settings;
	bool has_settings;
};

/* Print `iotctl: text` to stderr. ret: EXIT_ERROR. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same for a wrong command line. ret: EXIT_USAGE. */
int misused(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Tell what units_parse() says. ret: EXIT_USAGE, or EXIT_ERROR for what is not part of this build.
 */
int refuse_names(const char *command, const struct err *err);
/* Whether userdir, if there is one, may be looked into; else nothing in it could be told from being
 * missing. ret: 0 or negative (told). */
int iotctl_look(const struct iotctl *app);
/* Whether what we make in userdir would be its owner's; that of somebody else would be left with
 * files that its owner cannot use. ret: 0 or negative (told). */
int iotctl_own(const struct iotctl *app);
/* The settings, read once; complaints go to stderr. ret: 0 or negative (told already). */
int iotctl_settings(struct iotctl *app);

/* cmd_init.c */
int cmd_initdb(struct iotctl *app, const struct options *o);
int cmd_genconf(struct iotctl *app, const struct options *o);
int cmd_config(struct iotctl *app, const struct options *o);
#define INIT_CSM     1u /* its store */
#define INIT_CCM     2u
#define INIT_ALL     (INIT_CSM | INIT_CCM) /* what the suite cannot do without */
#define INIT_DEVICES 4u                    /* the agent makes it when there are devices */
/* Finish a restore that was interrupted, then make userdir, key and what is named as far as they
 * are missing. quiet: say nothing of what was there. ret: 0 or negative (told). */
int init_make(struct iotctl *app, unsigned what, bool quiet);
/* Finish a restore that was interrupted, if there is one; told. */
int init_resume(const struct iotctl *app, struct err *err);
/* Key and all stores are there. */
bool init_was_done(const struct iotctl *app);
/* Whether somebody holds the pid lock of a daemon of this userdir ("csm", "supervisor" ...). */
bool daemon_runs(const struct iotctl *app, const char *name);
/* Ask on the terminal. ret: true for yes; false also if there is no terminal. */
bool confirmed(const char *question);

/* cmd_backup.c. set: of parts (parts.h); command: in whose name things are told. ret: enum
 * exit_code */
int backup_parts(struct iotctl *app, const char *command, unsigned set, const char *dest,
		 bool force);
int restore_parts(struct iotctl *app, const char *command, unsigned set, const char *path,
		  bool yes);

/* cmd_run.c */
int cmd_start(struct iotctl *app, const struct options *o);
int cmd_stop(struct iotctl *app, const struct options *o);
int cmd_restart(struct iotctl *app, const struct options *o);
int cmd_supervise(struct iotctl *app, const struct options *o);

/* Decide about the broker and become it. */
int cmd_broker(struct iotctl *app, const struct options *o);

int cmd_status(struct iotctl *app, const struct options *o);
/* What keeps the units that run from being well ("csm: no connection to the broker; ..."); with
 * all: also those that do not run. ret: whether there is anything. */
bool status_trouble(const struct iotctl *app, bool all, char *buf, size_t cap);
int cmd_demo(struct iotctl *app, const struct options *o);
int cmd_reload(struct iotctl *app, const struct options *o);
int cmd_log_level(struct iotctl *app, const struct options *o);
int cmd_logs(struct iotctl *app, const struct options *o);
int cmd_app(struct iotctl *app, const struct options *o);
int cmd_graph(struct iotctl *app, const struct options *o);
int cmd_project(struct iotctl *app, const struct options *o);
int cmd_device(struct iotctl *app, const struct options *o);
int cmd_function(struct iotctl *app, const struct options *o);
int cmd_user(struct iotctl *app, const struct options *o);
int cmd_db(struct iotctl *app, const struct options *o);
int cmd_doctor(struct iotctl *app, const struct options *o);
int cmd_backup(struct iotctl *app, const struct options *o);
int cmd_restore(struct iotctl *app, const struct options *o);
int cmd_shell(struct iotctl *app, const struct options *o);
int cmd_man(struct iotctl *app, const struct options *o);
int cmd_completion(struct iotctl *app, const struct options *o);
int cmd_complete(struct iotctl *app, const struct options *o);
