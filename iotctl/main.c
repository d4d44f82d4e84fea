/* main.c - iotctl: the one command people use. */
#include "common/conf_near.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/util.h"
#include "iotctl/iotctl.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HELP_COLUMN 24

static void say(const char *fmt, va_list ap)
{
	fflush(stdout);
	fputs("iotctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return EXIT_ERROR;
}

int misused(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return EXIT_USAGE;
}

int option_json(int argc, char *argv[], bool *ret)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	int c;

	*ret = false;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c != 'j')
			return -1;
		*ret = true;
	}
	return 0;
}

int refuse_names(const char *command, const struct err *err)
{
	complain("%s: %s", command, err->text);
	return err->code == ERR_INVAL ? EXIT_USAGE : EXIT_ERROR;
}

/* ---- the commands ---- */

static const struct command commands[] = {
	{"initdb", "[--reset] [csm|ccm]", "initialize database",
	 "Make the state directory, the key of the suite and the database as far as they are "
	 "missing, and bring an older\n"
	 "database up to date (after a copy of it). Nothing is destroyed, unless --reset is given "
	 "and confirmed.",
	 cmd_initdb},
	{"start", "[--foreground] [csm|ccm|gui|agent|broker ...]", "start server",
	 "Start what is named and what that needs; no name: everything. Returns when all of it is "
	 "ready, or says what is\n"
	 "not, why, and the end of its log. --foreground stays, shows the logs, and stops "
	 "everything at SIGTERM or Ctrl-C.\n"
	 "ccm and gui are not part of this build.",
	 cmd_start},
	{"stop", "[csm|agent|broker ...]", "stop server",
	 "Stop what is named; no name: everything. What does not end within 10 s is killed.",
	 cmd_stop},
	{"restart", "[csm|agent|broker ...]", "restart server", "Stop, then start.", cmd_restart},
	{"status", "[--json] [csm|agent|broker ...]", "status server",
	 "Show state, pid, uptime, restarts, version, health and ports. What runs and whose health "
	 "is not ok is `degraded`.\n"
	 "Exit status: 0 all ready, 1 something degraded, or an error, 3 something not running.",
	 cmd_status},
	{"shell", "", "interactive shell (not part of this build)", NULL, NULL},
	{"genconf", "[--force] DEST", "get a copy of sample ini config",
	 "Write a commented sample configuration to DEST (-: standard output). An existing file is "
	 "overwritten only with\n"
	 "--force.",
	 cmd_genconf},
	{"config", "check [FILE]", "check the configuration file",
	 "Name every unknown section and key (with the nearest known one) and every bad value, "
	 "with file and line. Exit\n"
	 "status: 0 usable (warnings are told), 1 not.",
	 cmd_config},
	{"demo", "[--seconds N]", "see a device, a graph and data flowing",
	 "Register a simulated device, wire its input through a function to its output, push "
	 "numbers, show what comes out,\n"
	 "and take everything away again. The suite must be running.",
	 cmd_demo},
	{"reload", "[--json] [csm|agent ...]", "read the configuration again",
	 "Have daemons that run read the configuration file again. What may change while they run "
	 "takes effect at once;\n"
	 "what may not is named, and waits for `iotctl restart`. A file with an error changes "
	 "nothing. SIGHUP does the same.\n"
	 "Exit status: 0 done, 1 error, 2 wrong command line, 3 one does not run.",
	 cmd_reload},
	{"log-level", "[--json] NAME [MODULE LEVEL]", "see or change how much a daemon logs",
	 "NAME is csm or agent; without MODULE: the levels of all its modules. MODULE is the first "
	 "word of an event in the\n"
	 "log (`device` of device.online), or all; LEVEL is error, warn, info, debug, or default: "
	 "as "
	 "the configuration says.\n"
	 "It holds until the daemon ends or reads a changed configuration.",
	 cmd_log_level},
	{"logs", "[-f] [-n LINES] [broker|csm|agent|supervisor ...]", "show what the daemons log",
	 "The last lines (-n, 20) of the logs under userdir/log, in the order of their times; no "
	 "name: all of them. -f goes\n"
	 "on with what is written from now on, until Ctrl-C.",
	 cmd_logs},
	{"app",
	 "[--json] {list,show APP,suspend APP FEATURE [idf|odf],resume APP FEATURE [idf|odf],"
	 "deregister APP}",
	 "see, suspend and deregister device applications",
	 "list: the registered device applications, since when they are online or offline, and how "
	 "many "
	 "features they have.\n"
	 "show: one of them (APP: its id, the begin of its id, or its name), with its features, "
	 "their "
	 "topics and links.\n"
	 "suspend: ask it to send (idf) or take (odf) no data for a feature. That is kept until "
	 "resume takes "
	 "it back: an\n"
	 "application that is offline, or comes again, is told then. One that does not know the "
	 "command "
	 "refuses, and goes on.\n"
	 "deregister: as if it had asked for that itself.\n"
	 "Exit status: 0 done (or kept for an offline one), 1 refused or error, 2 wrong command "
	 "line, 3 csm "
	 "does not run.",
	 cmd_app},
	{"graph", "[--json] {list,show GRAPH,release GRAPH}",
	 "see graphs run, release what is quarantined",
	 "list: the graphs of this machine's agent, with the engine that runs each, messages "
	 "evaluated per "
	 "second (since the\n"
	 "last look, or since it was loaded), time of an evaluation, and messages dropped.\n"
	 "show: one of them (CLIENT/GRAPH), with its links, functions, drops by reason, and "
	 "strikes.\n"
	 "release: run the functions again that were quarantined because they took too long, "
	 "crashed or "
	 "ate memory.\n"
	 "Exit status: 0 fine, 1 error, 2 wrong command line, 3 the agent does not run.",
	 cmd_graph},
	{"doctor", "[--json]", "see what this machine lacks",
	 "Look at the sandbox that functions run in, the configuration, the state directory, the "
	 "disk, the store, the daemons,\n"
	 "the broker and its settings, the way the data takes, the ports, the clock and the "
	 "limits; "
	 "say of each what was seen:\n"
	 "ok, warning or missing, and what to do about it. Nothing is changed; everything has a "
	 "limit of time.\n"
	 "Exit status: 0 nothing is missing that is needed (layers of the sandbox are not with "
	 "[engine] sandbox = degraded), 1 not.",
	 cmd_doctor},
	{"backup", "[--force] FILE", "write all that cannot be made again into one file",
	 "Write the store, the key, the agent's name, the quarantine and the configuration to FILE "
	 "(a tar, mode 0600; it\n"
	 "contains the key). The suite may run: everything that was answered before is in it. An "
	 "existing file is overwritten\n"
	 "only with --force. Messages that the broker keeps are not part of it.",
	 cmd_backup},
	{"restore", "[--yes] FILE", "put back what `backup` wrote",
	 "Check FILE, then put what is in it in place of what is there; that is kept beside it. "
	 "csm and the agent are stopped\n"
	 "for that and started again if iotctl runs them. Asks on the terminal before anything is "
	 "replaced; --yes: does not.\n"
	 "All or nothing: what is interrupted is finished by the next `start`. The configuration "
	 "goes beside the one in force.",
	 cmd_restore},
	{"supervise", "READY_FD", NULL, "What `start` runs in the background.", cmd_supervise},
	{"broker", "", NULL,
	 "What iottalk-broker.service runs: becomes the managed broker, or ends if another one is "
	 "used.",
	 cmd_broker},
};

static void print_names(FILE *out)
{
	const char *sep = "{";

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].help != NULL) {
			fprintf(out, "%s%s", sep, commands[i].name);
			sep = ",";
		}
	}
	fputc('}', out);
}

static void print_usage(FILE *out)
{
	fputs("usage: iotctl [-h] [-d] [-c INI_PATH] [--version]\n              ", out);
	print_names(out);
	fputs(" ...\n", out);
}

static void print_help(void)
{
	print_usage(stdout);
	fputs("\nIoTtalk controller\n\npositional arguments:\n  ", stdout);
	print_names(stdout);
	printf("\n%*savailable sub-commands\n", HELP_COLUMN, "");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].help != NULL)
			printf("    %-*s%s\n", HELP_COLUMN - 4, commands[i].name, commands[i].help);
	}
	fputs("\noptional arguments:\n"
	      "  -h, --help            show this help message and exit\n"
	      "  -d, --debug           debug mode (debug logs, start stays in the foreground)\n"
	      "  -c INI_PATH, --config INI_PATH\n"
	      "                        IoTtalk ini config file ($HOME/.iottalk/iottalk.ini, or "
	      "else\n"
	      "                        " IOTTALK_CONF ", if it exists)\n"
	      "  --version             show program's version number and exit\n",
	      stdout);
}

static void print_command_help(const struct command *cmd)
{
	printf("usage: iotctl %s [-h]%s%s\n\n%s\n", cmd->name, cmd->args[0] != '\0' ? " " : "",
	       cmd->args, cmd->about != NULL ? cmd->about : cmd->help);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* NULL: none is near. */
static const char *nearest_command(const char *name)
{
	struct conf_row rows[ARRAY_LEN(commands)] = {0};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].help != NULL)
			rows[n++].section = commands[i].name;
	}
	return conf_near_section(rows, n, name);
}

/* ---- settings ---- */

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	fprintf(stderr, "iotctl: %s: %s\n", is_error ? "error" : "warning", text);
}

int iotctl_settings(struct iotctl *app)
{
	struct err err = {0};

	if (app->has_settings)
		return 0;
	app->has_settings = true; /* even a failed load must be released */
	int rc = settings_load(app->conf_path, &app->settings, on_note, NULL, &err);

	if (rc < 0)
		complain("%s", err.text);
	return rc;
}

int iotctl_look(const struct iotctl *app)
{
	static const char *const below[] = {"", "run", "log"};

	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		CLEANUP(freep)
		char *path = settings_path(&app->settings, below[i]);

		if (path != NULL && access(path, X_OK) < 0 && errno != ENOENT) {
			int code = -errno;

			complain("cannot look into '%s': %s", path, strerror(-code));
			return code;
		}
	}
	return 0;
}

int iotctl_own(const struct iotctl *app)
{
	CLEANUP(freep)
	char *key = settings_path(&app->settings, "key");
	struct stat st;

	if (key == NULL || stat(key, &st) < 0 || st.st_uid == geteuid())
		return 0;
	complain("the suite in '%s' is user %u's, and you are user %u: use `systemctl start "
		 "iottalk.target` if systemd shall keep it, or run this as that user",
		 app->settings.core.userdir, (unsigned)st.st_uid, (unsigned)geteuid());
	return ERR_ACCES;
}

/* ---- main ---- */

static int set_conf_path(struct iotctl *app, const char *given, struct err *err)
{
	free(app->conf_path);
	/* Absolute, because the daemons get it too; a file that is not there yet is told when it is
	 * read. */
	app->conf_path = realpath(given, NULL);
	if (app->conf_path == NULL && errno == ENOENT)
		return err_set(err, ERR_NOENT,
			       "there is no configuration file '%s' (iotctl genconf makes one)",
			       given);
	return app->conf_path == NULL ? err_sys(err, "configuration '%s'", given) : 0;
}

static int find_ourselves(struct iotctl *app, struct err *err)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		return err_sys(err, "/proc/self/exe");
	path[n] = '\0';
	app->program_path = strdup(path);
	*strrchr(path, '/') = '\0';
	app->program_dir = strdup(path);
	return app->program_path != NULL && app->program_dir != NULL
		       ? 0
		       : err_set(err, ERR_NOMEM, "out of memory");
}

/* Options before the command. ret: -1 go on at optind, else the exit status. */
static int parse_options(struct iotctl *app, int argc, char *argv[])
{
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'},
		{"debug", no_argument, NULL, 'd'},
		{"config", required_argument, NULL, 'c'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	struct err err = {0};
	int c;

	while ((c = getopt_long(argc, argv, "+hdc:", longs, NULL)) != -1) {
		switch (c) {
		case 'h':
			print_help();
			return EXIT_OK;
		case 'V':
			printf("iotctl %s\n", IOTTALK_VERSION);
			return EXIT_OK;
		case 'd':
			app->debug = true;
			break;
		case 'c':
			if (set_conf_path(app, optarg, &err) < 0)
				return complain("%s", err.text);
			break;
		default:
			print_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (app->conf_path == NULL)
		app->conf_path = settings_default_path();
	return -1;
}

static int run_command(struct iotctl *app, int argc, char *argv[])
{
	if (argc == 0) {
		print_help();
		return EXIT_USAGE;
	}
	const struct command *cmd = find_command(argv[0]);

	if (cmd == NULL) {
		const char *like = nearest_command(argv[0]);

		print_usage(stderr);
		return misused("unknown command '%s'%s%s%s", argv[0],
			       like != NULL ? "; did you mean '" : "", like != NULL ? like : "",
			       like != NULL ? "'?" : "");
	}
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
			print_command_help(cmd);
			return EXIT_OK;
		}
	}
	if (cmd->run == NULL)
		return complain("%s: not part of this build", cmd->name);
	optind = 0; /* the command's own options */
	return cmd->run(app, argc, argv);
}

int main(int argc, char *argv[])
{
	struct iotctl app = {0};
	struct err err = {0};

	log_init("iotctl", LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
	if (sodium_init() < 0)
		return complain("the crypto library does not start");
	int rc = find_ourselves(&app, &err) < 0 ? complain("%s", err.text)
						: parse_options(&app, argc, argv);

	if (rc < 0)
		rc = run_command(&app, argc - optind, argv + optind);
	if (app.has_settings)
		settings_done(&app.settings);
	free(app.conf_path);
	free(app.program_path);
	free(app.program_dir);
	return rc;
}
