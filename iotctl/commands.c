/* commands.c - the one table of iotctl's commands, and what is said of them. */
#include "iotctl/commands.h"
#include "common/conf_near.h"
#include "common/daemon.h"
#include "common/settings.h"
#include "common/util.h"
#include "iotctl/iotctl.h"
#include <string.h>

#define HELP_COLUMN 24
#define HELP_WIDTH  100
#define NAMES_MAX   64

static const struct option_row json_options[] = {
	{"json", 0, NULL, "as JSON, for programs"},
	{0},
};

static const struct option_row initdb_options[] = {
	{"reset", 0, NULL, "delete what is there first; asks on the terminal"},
	{0},
};

static const struct option_row start_options[] = {
	{"foreground", 'f', NULL, "stay, show the logs, and stop everything at SIGTERM or Ctrl-C"},
	{0},
};

static const struct option_row force_options[] = {
	{"force", 'f', NULL, "overwrite an existing file"},
	{0},
};

static const struct option_row db_options[] = {
	{"force", 'f', NULL, "export, backup: overwrite an existing file"},
	{"yes", 'y', NULL, "restore: do not ask"},
	{0},
};

static const struct option_row user_options[] = {
	{"admin", 0, NULL, "add: one who may administrate"},
	{0},
};

static const struct option_row project_options[] = {
	{"json", 0, NULL, "as JSON, for programs"},
	{"user", 'u', "NAME", "import: whose it becomes"},
	{"name", 'n', "NAME", "import: its name, instead of that in the file"},
	{"functions", 0, NULL, "export: with the code of its functions"},
	{"force", 'f', NULL, "export: overwrite an existing file"},
	{0},
};

static const struct option_row device_options[] = {
	{"json", 0, NULL, "as JSON, for programs"},
	{"field", 0, NULL, "list: only the field devices of this machine's agent"},
	{"framing", 0, "FRAMING", "scan: TCP (of hosts, if nobody says), RTU (of lines) or ASCII"},
	{"line", 0, "BAUD[,8N1]",
	 "scan: speed, data bits, parity (N, E, O, M, S) and stop bits of a line"},
	{"units", 0, "FIRST-LAST", "scan: unit ids to look for (1-247)"},
	{"tables", 0, "NAME,...", "scan: coil, discrete, holding, input (all of them), or none"},
	{"addresses", 0, "FIRST-LAST",
	 "scan: where to look in the tables (0-999); decode: where the first register is"},
	{"timeout", 0, "SECONDS", "scan: how long an answer may take (0.3)"},
	{0},
};

static const struct option_row restore_options[] = {
	{"yes", 'y', NULL, "do not ask"},
	{0},
};

static const struct option_row demo_options[] = {
	{"seconds", 's', "N", "how long"},
	{0},
};

static const struct option_row logs_options[] = {
	{"follow", 'f', NULL, "go on with what is written from now on, until Ctrl-C"},
	{"lines", 'n', "N", "how many lines of the past (20)"},
	{0},
};

static const struct action config_actions[] = {
	{"check", {OPERAND_FILE}, false},
	{0},
};

static const struct action app_actions[] = {
	{"list", {OPERAND_NONE}, false},
	{"show", {OPERAND_APP}, false},
	{"suspend", {OPERAND_APP, OPERAND_FEATURE, OPERAND_MODE}, false},
	{"resume", {OPERAND_APP, OPERAND_FEATURE, OPERAND_MODE}, false},
	{"deregister", {OPERAND_APP}, false},
	{0},
};

static const struct action graph_actions[] = {
	{"list", {OPERAND_NONE}, false},
	{"show", {OPERAND_GRAPH}, false},
	{"release", {OPERAND_GRAPH}, false},
	{0},
};

static const struct action db_actions[] = {
	{"import", {OPERAND_FILE}, true},
	{"export", {OPERAND_FILE}, false},
	{"backup", {OPERAND_FILE}, false},
	{"restore", {OPERAND_FILE}, false},
	{0},
};

static const struct action user_actions[] = {
	{"add", {OPERAND_ANY}, false},
	{"password", {OPERAND_USER}, false},
	{"list", {OPERAND_NONE}, false},
	{0},
};

static const struct action project_actions[] = {
	{"list", {OPERAND_NONE}, false},
	{"show", {OPERAND_PROJECT}, false},
	{"on", {OPERAND_PROJECT}, false},
	{"off", {OPERAND_PROJECT}, false},
	{"export", {OPERAND_PROJECT, OPERAND_FILE}, false},
	{"import", {OPERAND_FILE}, false},
	{0},
};

static const struct action device_actions[] = {
	{"list", {OPERAND_NONE}, false},
	{"show", {OPERAND_DEVICE}, false},
	{"enable", {OPERAND_DEVICE}, false},
	{"disable", {OPERAND_DEVICE}, false},
	{"read", {OPERAND_DEVICE, OPERAND_POINT}, false},
	{"write", {OPERAND_DEVICE, OPERAND_POINT, OPERAND_ANY}, false},
	{"reload", {OPERAND_DEVICE}, false},
	{"check", {OPERAND_FILE}, false},
	{"doc", {OPERAND_DEVICE_TYPE}, false},
	{"scan", {OPERAND_ANY}, false},
	{"decode", {OPERAND_ANY}, true},
	{0},
};

static const struct action function_actions[] = {
	{"list", {OPERAND_NONE}, false},
	{"show", {OPERAND_FUNCTION}, false},
	{0},
};

const struct option_row global_options[] = {
	PROGRAM_OPTIONS("debug mode (debug logs, start stays in the foreground)"),
	{0},
};

/* A table reads best as a table. */
/* clang-format off */
const struct command commands[] = {
	{"initdb", "[csm|ccm|devices]", "initialize database",
	 "Make the state directory, the key of the suite and the databases (that of csm: registrations, graphs, functions; that of ccm: accounts, "
	 "projects, models) as far as they are missing, and bring older ones up to date (after a copy of them). A new one of ccm has the common "
	 "models, units and functions, and no account: see user. No name: both, and that of the devices if it is there (the agent makes it). Nothing is destroyed, unless --reset is given and confirmed.",
	 .options = initdb_options, .operands = {OPERAND_STORE}, .repeats = true, .run = cmd_initdb},
	{"start", "[csm|ccm|gui|agent|broker ...]", "start server",
	 "Start what is named and what that needs; no name: everything. Returns when all of it is ready, or says what is not, why, and the end "
	 "of its log. gui is not part of this build.",
	 .options = start_options, .operands = {OPERAND_UNIT}, .repeats = true, .run = cmd_start},
	{"stop", "[csm|ccm|agent|broker ...]", "stop server",
	 "Stop what is named; no name: everything. What does not end within 10 s is killed.",
	 .operands = {OPERAND_UNIT}, .repeats = true, .run = cmd_stop},
	{"restart", "[csm|ccm|agent|broker ...]", "restart server", "Stop, then start.",
	 .operands = {OPERAND_UNIT}, .repeats = true, .run = cmd_restart},
	{"status", "[csm|ccm|agent|broker ...]", "status server",
	 "Show state, pid, uptime, restarts, version, health and ports. What runs and whose health is not ok is `degraded`.\n"
	 "Exit status: 0 all ready, 1 something degraded, or an error, 3 something not running.",
	 .options = json_options, .operands = {OPERAND_UNIT}, .repeats = true, .run = cmd_status},
	{"shell", "", "interactive shell",
	 "The commands without typing iotctl, with history and completion (Tab), and `sql [csm|ccm|devices] STATEMENT`, which "
	 "asks the store of csm (no name), ccm or the device service and cannot change it. Lines may come from a file or a pipe; then the exit status is that of the last one.",
	 .run = cmd_shell},
	{"genconf", "DEST", "get a copy of sample ini config",
	 "Write a commented sample configuration to DEST (-: standard output).",
	 .options = force_options, .operands = {OPERAND_FILE}, .run = cmd_genconf},
	{"config", "check [FILE]", "check the configuration file",
	 "Name every unknown section and key (with the nearest known one) and every bad value, with file and line.\n"
	 "Exit status: 0 usable (warnings are told), 1 not.",
	 .actions = config_actions, .run = cmd_config},
	{"reload", "[csm|ccm|agent ...]", "read the configuration again",
	 "Have daemons that run read the configuration file again. What may change while they run takes effect at once; what may not is named, "
	 "and waits for `iotctl restart`. A file with an error changes nothing. SIGHUP does the same.\n"
	 "Exit status: 0 done, 1 error, 2 wrong command line, 3 one does not run.",
	 .options = json_options, .operands = {OPERAND_DAEMON}, .repeats = true, .run = cmd_reload},
	{"logs", "[broker|csm|ccm|agent|supervisor ...]", "show what the daemons log",
	 "The last lines of the logs under userdir/log, in the order of their times; no name: all of them. Of daemons that systemd keeps it is "
	 "the journal that is shown.",
	 .options = logs_options, .operands = {OPERAND_LOG}, .repeats = true, .run = cmd_logs},
	{"log-level", "NAME [MODULE LEVEL]", "see or change how much a daemon logs",
	 "NAME is csm, ccm or agent; without MODULE: the levels of all its modules. MODULE is the first word of an event in the log (`device` of "
	 "device.online), or all; LEVEL is error, warn, info, debug, or default: as the configuration says. It holds until the daemon ends or "
	 "reads a changed configuration.",
	 .options = json_options, .operands = {OPERAND_DAEMON, OPERAND_MODULE, OPERAND_LEVEL}, .run = cmd_log_level},
	{"app", "{list,show APP,suspend APP FEATURE [idf|odf],resume APP FEATURE [idf|odf],deregister APP}",
	 "see, suspend and deregister device applications",
	 "list: the registered device applications, since when they are online or offline, and how many features they have.\n"
	 "show: one of them (APP: its id, the begin of its id, or its name), with its features, their topics and links.\n"
	 "suspend: ask it to send (idf) or take (odf) no data for a feature. That is kept until resume takes it back: an application that is "
	 "offline, or comes again, is told then. One that does not know the command refuses, and goes on.\n"
	 "deregister: as if it had asked for that itself.\n"
	 "Exit status: 0 done (or kept for an offline one), 1 refused or error, 2 wrong command line, 3 csm does not run.",
	 .options = json_options, .actions = app_actions, .run = cmd_app},
	{"graph", "{list,show GRAPH,release GRAPH}", "see graphs run, release what is quarantined",
	 "list: the graphs of this machine's agent, with the engine that runs each, messages evaluated per second (since the last look, or since "
	 "it was loaded), time of an evaluation, and messages dropped.\n"
	 "show: one of them (CLIENT/GRAPH), with its links, functions, drops by reason, and strikes.\n"
	 "release: run the functions again that were quarantined because they took too long, crashed or ate memory.\n"
	 "Exit status: 0 fine, 1 error, 2 wrong command line, 3 the agent does not run.",
	 .options = json_options, .actions = graph_actions, .run = cmd_graph},
	{"project", "{list,show PROJECT,on PROJECT,off PROJECT,export PROJECT [FILE],import FILE}", "see, switch, export and import projects",
	 "PROJECT is its number, its name, or OWNER/NAME where several have that name.\n"
	 "list: all projects, whose they are, whether they are on, how many of their objects have a device.\n"
	 "show: one of them, with its device objects, the devices bound to them, and its network applications.\n"
	 "on, off: run its graphs, or stop them.\n"
	 "export: write it as one JSON file (no FILE, or -: standard output); devices and accounts are not part of it.\n"
	 "import: make a project of such a file; models, features and functions that it names must be there, unless the file has the functions.\n"
	 "Exit status: 0 done, 1 error, 2 wrong command line, 3 ccm does not run.",
	 .options = project_options, .actions = project_actions, .run = cmd_project},
	{"device", "{list,show NAME,enable NAME,disable NAME,read NAME POINT,write NAME POINT VALUE,reload [NAME],check FILE,doc [TYPE],scan HOST[:PORT]|LINE,decode REGISTER ...}",
	 "see, switch, read and write field devices",
	 "NAME is that of a field device in the device file ([agent] devices), or TYPE/NAME where several types have it; POINT is the name of a "
	 "point there, or of its feature. A device file to begin with is in share/iottalk/examples of the installation, register maps of devices "
	 "are in share/iottalk/templates.\n"
	 "list: the field devices of this machine's agent, if it has some, then the device applications that ccm knows, of which model and whose "
	 "they are, whether they are online, and the projects they are bound in. `iotctl app` has what csm knows of them. --field: the first part, "
	 "without asking ccm; with --json the parts are `field_devices` and `devices`.\n"
	 "show: one field device, with its points, their features and last values, and what it has counted.\n"
	 "enable, disable: connect to the field, or do not; that is kept.\n"
	 "read: ask the device for a point now. write: give a point a value (as the feature has it, scaled); returns when the device has answered.\n"
	 "reload: read the device file again, and begin, change and end devices as it says (NAME: only that one); the others go on. A file that is "
	 "wrong changes nothing.\n"
	 "check: name everything that is wrong or odd in a device file, with its place.\n"
	 "doc: what a device type is, and all that may stand in a device file for it; no TYPE: all types.\n"
	 "scan: find the Modbus units behind a host or a serial line (/dev/...), and what can be read of their tables. Nothing is written. Not while "
	 "a device has the same line.\n"
	 "decode: what registers (numbers, 0x... if hexadecimal) may mean, in all types and orders of bytes.\n"
	 "Exit status: 0 done, 1 error, or the device did not do it, 2 wrong command line, 3 the daemon that is asked does not run.",
	 .options = device_options, .actions = device_actions, .run = cmd_device},
	{"function", "{list,show FUNCTION}", "see the functions that projects can use",
	 "list: their names, how many versions each has, and how many links and joins use it.\n"
	 "show: the code of one, by its name or number, in the version that holds for everybody and in those of users.\n"
	 "Exit status: 0 fine, 1 error, 2 wrong command line, 3 ccm does not run.",
	 .options = json_options, .actions = function_actions, .run = cmd_function},
	{"user", "{add NAME,password NAME,list}", "make and list accounts, set passwords",
	 "Accounts of ccm: who owns projects and may log in. Passwords are read from the terminal, without showing them, or from the first line of "
	 "standard input.\n"
	 "add: make one; there is none before the first. --admin: one who may administrate the others' as well.\n"
	 "password: set another one; its logins end.\n"
	 "list: names, and who is an administrator.",
	 .options = user_options, .actions = user_actions, .run = cmd_user},
	{"db", "{import FILE ...,export FILE,backup FILE,restore FILE}", "fill and save ccm's store",
	 "import: add the models, features, functions, units and tags of files in the bulk-import format; what is there already stays as it is.\n"
	 "export: write those that are for everybody to FILE, in that format.\n"
	 "backup: write the whole store of ccm, and nothing else, to FILE; ccm may run. `iotctl backup` has it, too.\n"
	 "restore: put it back from FILE, which `db backup` or `backup` wrote; the old one is kept beside it. ccm is stopped for that and started "
	 "again if iotctl runs it. Asks on the terminal before anything is replaced.",
	 .options = db_options, .actions = db_actions, .run = cmd_db},
	{"doctor", "", "see what this machine lacks",
	 "Look at the sandbox that functions run in, the configuration, the state directory, the disk, the stores, the daemons, the broker and its "
	 "settings, the way the data takes, the ports, the clock and the limits; say of each what was seen: ok, warning or missing, and what to "
	 "do about it. Nothing is changed; everything has a limit of time.\n"
	 "Exit status: 0 nothing is missing that is needed (layers of the sandbox are not with [engine] sandbox = degraded), 1 not.",
	 .options = json_options, .run = cmd_doctor},
	{"backup", "FILE", "write all that cannot be made again into one file",
	 "Write the stores, the key, the agent's name, the quarantine and the configuration to FILE (a tar, mode 0600; it contains the key). The "
	 "suite may run: everything that was answered before is in it. Messages that the broker keeps are not part of it.",
	 .options = force_options, .operands = {OPERAND_FILE}, .run = cmd_backup},
	{"restore", "FILE", "put back what `backup` wrote",
	 "Check FILE, then put what is in it in place of what is there; that is kept beside it. csm, ccm and the agent are stopped for that and "
	 "started again if iotctl runs them. Asks on the terminal before anything is replaced. All or nothing: what is interrupted is "
	 "finished by the next `start`. The configuration goes beside the one in force.",
	 .options = restore_options, .operands = {OPERAND_FILE}, .run = cmd_restore},
	{"demo", "", "see a device, a graph and data flowing",
	 "Register a simulated device, wire its input through a function to its output, push numbers, show what comes out, and take everything "
	 "away again. The suite must be running.",
	 .options = demo_options, .run = cmd_demo},
	{"man", "[iotctl|iottalk.ini|csm|ccm|gateway-agent|iottalk-engine]", "write a manual page",
	 "Write the source of a manual page to standard output: iotctl man | man -l -",
	 .operands = {OPERAND_PAGE}, .run = cmd_man},
	{"completion", "bash|zsh", "write what completes command lines",
	 "Write the script that has a shell complete the commands of iotctl and what they name: source <(iotctl completion bash)",
	 .operands = {OPERAND_SHELL}, .run = cmd_completion},
	{"complete", "WORD ...", NULL, "What may stand for the last word of a command line; for shells.",
	 .operands = {OPERAND_ANY}, .repeats = true, .run = cmd_complete},
	{"supervise", "READY_FD", NULL, "What `start` runs in the background.",
	 .operands = {OPERAND_ANY}, .run = cmd_supervise},
	{"broker", "", NULL, "What iottalk-broker.service runs: becomes the managed broker, or ends if another one is used.",
	 .run = cmd_broker},
};
/* clang-format on */
const size_t n_commands = ARRAY_LEN(commands);

/* ---- what is said of them ---- */

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

void commands_usage(FILE *out)
{
	fputs("usage: iotctl [-h] [-d] [-c INI_PATH] [--version]\n              ", out);
	print_names(out);
	fputs(" ...\n", out);
}

void commands_help(FILE *out)
{
	commands_usage(out);
	fputs("\nIoTtalk controller\n\npositional arguments:\n  ", out);
	print_names(out);
	fprintf(out, "\n%*savailable sub-commands\n", HELP_COLUMN, "");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].help != NULL)
			fprintf(out, "    %-*s%s\n", HELP_COLUMN - 4, commands[i].name,
				commands[i].help);
	}
	fputs("\noptional arguments:\n", out);
	options_print(global_options, HELP_COLUMN, out);
}

void command_spell(const struct command *c, const char *more, char *buf, size_t cap)
{
	size_t used = (size_t)snprintf(buf, cap, "iotctl %s%s%s", c->name,
				       more[0] != '\0' ? " " : "", more);

	for (const struct option_row *o = c->options; o != NULL && o->name != NULL && used < cap;
	     o++) {
		char letter[] = {'-', o->letter, '\0'};

		used += (size_t)snprintf(buf + used, cap - used, " [%s%s%s%s]",
					 o->letter != '\0' ? letter : "--",
					 o->letter != '\0' ? "" : o->name,
					 o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
	}
	if (c->args[0] != '\0' && used < cap)
		snprintf(buf + used, cap - used, " %s", c->args);
}

static void print_command_help(const struct command *c)
{
	char spelt[400];

	command_spell(c, "[-h]", spelt, sizeof(spelt));
	printf("usage: %s\n\n", spelt);
	print_wrapped(c->about != NULL ? c->about : c->help, 0, HELP_WIDTH, stdout);
	if (c->options != NULL)
		puts("\noptions:");
	options_print(c->options, HELP_COLUMN, stdout);
}

/* ---- finding and running them ---- */

const struct command *command_find(const char *name)
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
	struct conf_row rows[NAMES_MAX] = {0};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(commands) && n < NAMES_MAX; i++) {
		if (commands[i].help != NULL)
			rows[n++].section = commands[i].name;
	}
	return conf_near_section(rows, n, name);
}

static bool asks_for_help(int n, char *words[])
{
	for (int i = 1; i < n && strcmp(words[i], "--") != 0; i++)
		if (strcmp(words[i], "-h") == 0 || strcmp(words[i], "--help") == 0)
			return true;
	return false;
}

int command_run(struct iotctl *app, int n, char *words[])
{
	const struct command *c = command_find(words[0]);
	struct options given;

	if (c == NULL) {
		const char *like = nearest_command(words[0]);

		commands_usage(stderr);
		return misused("unknown command '%s'%s%s%s", words[0],
			       like != NULL ? "; did you mean '" : "", like != NULL ? like : "",
			       like != NULL ? "'?" : "");
	}
	if (asks_for_help(n, words)) {
		print_command_help(c);
		return EXIT_OK;
	}
	if (options_parse(c->options, false, n, words, &given) < 0)
		return EXIT_USAGE;
	return c->run(app, &given);
}
