/* manual.c - the manual pages. */
#include "iotctl/manual.h"
#include "common/daemon.h"
#include "common/settings.h"
#include "common/util.h"
#include "iotctl/commands.h"
#include <ctype.h>
#include <string.h>

/* ---- man(7) ---- */

/* Text as it is to be read: no character of it is roff's. */
static void put(FILE *out, const char *text)
{
	bool begin = true; /* of a line: there a dot or a quote is a request */

	for (; *text != '\0'; text++) {
		if (begin && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
		begin = *text == '\n';
	}
}

/* Paragraphs, each ended by a newline in the text. */
static void put_paragraphs(FILE *out, const char *text)
{
	for (const char *end; *text != '\0'; text = *end != '\0' ? end + 1 : end) {
		end = text + strcspn(text, "\n");
		CLEANUP(freep)
		char *one = strndup(text, (size_t)(end - text));

		fputs(".PP\n", out);
		put(out, one != NULL ? one : "");
		fputc('\n', out);
	}
}

static void put_section(FILE *out, const char *title)
{
	fprintf(out, ".SH %s\n", title);
}

static void put_tagged(FILE *out, const char *tag, const char *text)
{
	fputs(".TP\n.B ", out);
	put(out, tag);
	fputc('\n', out);
	put(out, text);
	fputc('\n', out);
}

static void put_options(FILE *out, const struct option_row *rows)
{
	for (; rows != NULL && rows->name != NULL; rows++) {
		char spelt[120];

		options_spell(rows, spelt, sizeof(spelt));
		put_tagged(out, spelt, rows->help);
	}
}

static void put_head(const struct manual_page *page, FILE *out)
{
	fputs(".\\\" Made from the tables of the program: iotctl man NAME\n.TH ", out);
	for (const char *c = page->name; *c != '\0'; c++)
		fputc(toupper((unsigned char)*c), out);
	fprintf(out, " %d \"\" \"IoTtalk %s\" \"IoTtalk\"\n", page->section, IOTTALK_VERSION);
	put_section(out, "NAME");
	put(out, page->name);
	fputs(" \\- ", out);
	put(out, page->summary);
	fputc('\n', out);
}

static void put_see_also(const struct manual_page *page, FILE *out)
{
	const char *sep = "";

	put_section(out, "SEE ALSO");
	for (const struct manual_page *p = manual_pages; p->name != NULL; p++) {
		if (p == page)
			continue;
		fprintf(out, "%s.BR ", sep);
		put(out, p->name);
		fprintf(out, " (%d)", p->section);
		sep = ",\n";
	}
	fputs(",\n.BR mosquitto (8)\n", out);
}

/* ---- the pages ---- */

static void put_commands(FILE *out)
{
	for (size_t i = 0; i < n_commands; i++) {
		const struct command *c = &commands[i];
		char spelt[400];

		if (c->help == NULL || c->run == NULL)
			continue;
		command_spell(c, "", spelt, sizeof(spelt));
		fputs(".SS iotctl\\ ", out); /* one that fills its line is not torn apart here */
		put(out, spelt + strlen("iotctl "));
		fputc('\n', out);
		put_paragraphs(out, c->about != NULL ? c->about : c->help);
		put_options(out, c->options);
	}
}

static void write_iotctl(const struct manual_page *page, FILE *out)
{
	put_head(page, out);
	put_section(out, "SYNOPSIS");
	fputs(".B iotctl\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n", out);
	put_section(out, "DESCRIPTION");
	put_paragraphs(out, "The one command for the IoTtalk suite: it makes the configuration and "
			    "the stores, starts "
			    "and stops the daemons and the broker and watches over them, shows "
			    "what they do, and tells "
			    "them what an operator wants.");
	put_section(out, "OPTIONS");
	put_options(out, global_options);
	put_section(out, "COMMANDS");
	put_commands(out);
	put_section(out, "EXIT STATUS");
	put_paragraphs(
		out,
		"0 fine, 1 error, 2 wrong command line, 3 something that is asked does not run; "
		"commands that mean more by it say so above.");
	put_section(out, "FILES");
	put_tagged(out, "$HOME/.iottalk/iottalk.ini",
		   "The configuration, unless -c names another one. See iottalk.ini(5).");
	put_tagged(out, settings_system_path(),
		   "That of an installation for the whole system, read if there is none at home.");
	put_tagged(out, "$HOME/.iottalk/",
		   "Stores, key, log/ and run/, unless [core] userdir names another directory.");
	put_see_also(page, out);
}

static void put_setting(FILE *out, const struct conf_row *row)
{
	char tag[200], range[300];

	snprintf(tag, sizeof(tag), "%s = %s", row->key, row->def);
	put_tagged(out, tag, row->help);
	conf_range(row, range, sizeof(range));
	if (range[0] != '\0') {
		fputs("(", out);
		put(out, range);
		fputs(")\n", out);
	}
	if (row->live)
		fputs("Taken by\n.B iotctl reload\nwhile the daemons run.\n", out);
}

static void write_settings(const struct manual_page *page, FILE *out)
{
	size_t n;
	const struct conf_row *rows = settings_rows(&n);

	put_head(page, out);
	put_section(out, "DESCRIPTION");
	put_paragraphs(out,
		       "Read by iotctl and by all daemons. A line is [section], key = value, "
		       "empty, or a comment, "
		       "which stands on a line of its own and begins with ; or #. Every setting is "
		       "optional. "
		       "${section:key} in a value stands for another value, $$ for a dollar sign.\n"
		       "A section or key that is not known is told with its file, line and the "
		       "nearest known name; a "
		       "bad value is an error. `iotctl config check` looks for both, `iotctl "
		       "genconf` writes a sample.");
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || strcmp(rows[i - 1].section, rows[i].section) != 0) {
			fputs(".SH [", out);
			put(out, rows[i].section);
			fputs("]\nWith the defaults:\n", out);
		}
		put_setting(out, &rows[i]);
	}
	put_see_also(page, out);
}

/* modes: lines of the synopsis besides the daemon's own, in troff; "": there are none. */
static void write_daemon(const struct manual_page *page, const char *modes, const char *about,
			 FILE *out)
{
	put_head(page, out);
	put_section(out, "SYNOPSIS");
	fputs(".B ", out);
	put(out, page->name);
	fputs("\n[\\fIoptions\\fR]\n", out);
	fputs(modes, out);
	put_section(out, "DESCRIPTION");
	put_paragraphs(out, about);
	put_section(out, "OPTIONS");
	put_options(out, daemon_options);
	put_section(out, "SIGNALS");
	put_tagged(out, "SIGTERM, SIGINT", "End in good order; a second SIGINT ends at once.");
	put_tagged(out, "SIGHUP", "Read the configuration again, as `iotctl reload`.");
	put_section(out, "ENVIRONMENT");
	put_tagged(out, "NOTIFY_SOCKET", "Where to say that it is ready (sd_notify(3)).");
	put_section(out, "EXIT STATUS");
	put_paragraphs(out, "0 ended as told, 1 error, with a line that says which.");
	put_see_also(page, out);
}

static void write_csm(const struct manual_page *page, FILE *out)
{
	write_daemon(page, "",
		     "Registers device applications over HTTP, tells them over MQTT which of their "
		     "features are "
		     "linked, and serves the device and graph API. Data does not pass through it.\n"
		     "It stays in the foreground and logs to standard error; iotctl start or a "
		     "service manager "
		     "runs it. On its HTTP port it answers /healthz, /readyz and /metrics, too.",
		     out);
}

static const char ccm_modes[] =
	".br\n.B ccm init\n[\\fB\\-c\\fR \\fIINI_PATH\\fR]\n"
	".br\n.B ccm import\n[\\fB\\-c\\fR \\fIINI_PATH\\fR] \\fIFILE\\fR ...\n"
	".br\n.B ccm export\n[\\fB\\-c\\fR \\fIINI_PATH\\fR] [\\fB\\-\\-force\\fR] \\fIFILE\\fR\n"
	".br\n.B ccm user\n[\\fB\\-c\\fR \\fIINI_PATH\\fR] "
	"\\fBadd\\fR [\\fB\\-\\-admin\\fR] \\fINAME\\fR | \\fBpassword\\fR \\fINAME\\fR | "
	"\\fBlist\\fR\n";

static void write_ccm(const struct manual_page *page, FILE *out)
{
	write_daemon(page, ccm_modes,
		     "Keeps accounts, device models, functions and projects, offers them to "
		     "editors and programs over HTTP "
		     "([gui] port) and MQTT, and has csm run the graphs of the projects that are "
		     "on. What csm runs is compared "
		     "with what is stored again and again, and mended.\n"
		     "It stays in the foreground and logs to standard error; iotctl start or a "
		     "service manager runs it. The "
		     "description of its HTTP API is served at /api/openapi.json. There is no "
		     "account until iotctl user add "
		     "makes one.\n"
		     "As `ccm init`, `ccm import`, `ccm export` and `ccm user` it works on its "
		     "store and ends, whether a "
		     "daemon runs or not: iotctl initdb, db and user do that. Those say what they "
		     "did on standard output, and exit with 2 "
		     "if the command line is wrong.",
		     out);
}

static const char agent_modes[] =
	".br\n.B gateway-agent device check\n[\\fB\\-c\\fR \\fIINI_PATH\\fR] \\fIFILE\\fR\n"
	".br\n.B gateway-agent device doc\n[\\fITYPE\\fR]\n"
	".br\n.B gateway-agent device scan\n\\fIHOST\\fR[:\\fIPORT\\fR] | \\fILINE\\fR\n"
	".br\n.B gateway-agent device decode\n\\fIREGISTER\\fR ...\n";

static void write_agent(const struct manual_page *page, FILE *out)
{
	write_daemon(
		page, agent_modes,
		"Runs graphs on this machine: hands the data of linked features to their "
		"functions, which run "
		"in engines of their own, locked in a sandbox, and the results to where they "
		"belong.\n"
		"It stays in the foreground and logs to standard error; iotctl start or a service "
		"manager "
		"runs it. Killed, it leaves its engines, and takes them over when it runs again.\n"
		"With a device file ([agent] devices) it connects the devices of the field that "
		"are in "
		"it, by Modbus and other protocols, to the broker and to csm. Register maps that "
		"it "
		"may name are in the folder templates beside it, and in share/iottalk/templates of "
		"the "
		"installation; share/iottalk/examples has a file to begin with.\n"
		"As `gateway-agent device` it checks device files, describes what may stand in "
		"them, "
		"and looks at field devices, whether a daemon runs or not: iotctl device does "
		"that. It "
		"exits with 2 if the command line is wrong.",
		out);
}

static void write_engine(const struct manual_page *page, FILE *out)
{
	put_head(page, out);
	put_section(out, "SYNOPSIS");
	fputs(".B iottalk\\-engine\n[\\fB\\-\\-probe\\fR]\n", out);
	put_section(out, "DESCRIPTION");
	put_paragraphs(
		out,
		"Evaluates graphs: gateway-agent starts it as a keeper, which goes into a sandbox "
		"and forks an "
		"engine for each that is needed, locked in further. It is of no use by itself.");
	put_section(out, "OPTIONS");
	put_tagged(out, "--probe",
		   "Say, as one line of JSON, which layers of the sandbox this machine offers, "
		   "what is "
		   "missing and why; iotctl doctor shows it for people.");
	put_see_also(page, out);
}

const struct manual_page manual_pages[] = {
	{"iotctl", 1, "start, watch and operate the IoTtalk suite", write_iotctl},
	{"iottalk.ini", 5, "configuration of the IoTtalk suite", write_settings},
	{"csm", 8, "control plane of the IoTtalk suite", write_csm},
	{"ccm", 8, "projects, models and accounts of the IoTtalk suite", write_ccm},
	{"gateway-agent", 8, "services of the IoTtalk suite on one machine", write_agent},
	{"iottalk-engine", 8, "evaluator of graphs of the IoTtalk suite", write_engine},
	{0},
};
