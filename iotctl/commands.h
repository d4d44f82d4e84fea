/* commands.h - the table of iotctl's commands: what runs them, and what --help, the manual pages,
 * the completion of shells and `iotctl shell` know of them. */
#pragma once

#include "common/options.h"
#include <stdbool.h>
#include <stddef.h>

struct iotctl;

/* What a word of the command line names; completion offers what there is of it. */
enum operand {
	OPERAND_NONE,
	OPERAND_UNIT,   /* broker, csm, agent, ccm */
	OPERAND_DAEMON, /* those of ours that have a control socket */
	OPERAND_LOG,    /* whose log */
	OPERAND_STORE,  /* csm, ccm */
	OPERAND_FILE,
	OPERAND_APP,     /* a device application */
	OPERAND_FEATURE, /* of the application before it */
	OPERAND_MODE,    /* idf, odf */
	OPERAND_GRAPH,
	OPERAND_PROJECT,
	OPERAND_FUNCTION,
	OPERAND_USER,   /* an account */
	OPERAND_DEVICE, /* a field device */
	OPERAND_POINT,  /* of the field device before it */
	OPERAND_DEVICE_TYPE,
	OPERAND_MODULE, /* of the daemon before it */
	OPERAND_LEVEL,
	OPERAND_SHELL, /* bash, zsh */
	OPERAND_PAGE,  /* of the manual */
	OPERAND_ANY,   /* something that nobody can guess */
};

#define OPERANDS_MAX 4

/* The first word after a command that has several things to do. */
struct action {
	const char *name; /* NULL ends the table */
	enum operand operands[OPERANDS_MAX];
	bool repeats; /* the last operand may come again */
};

struct command {
	const char *name;
	const char *args;  /* operands for the usage line; options come from their table */
	const char *help;  /* one line for the list; NULL: not listed */
	const char *about; /* more, in sentences; a newline begins a paragraph */
	const struct option_row *options; /* NULL: none but --help */
	const struct action *actions;     /* NULL: its operands are: */
	enum operand operands[OPERANDS_MAX];
	bool repeats;
	/* o: options and operands, checked against the table of options. ret: enum exit_code. */
	int (*run)(struct iotctl *app, const struct options *o);
};

extern const struct command commands[];
extern const size_t n_commands;
/* Before the command. */
extern const struct option_row global_options[];

/* "usage: iotctl ..." with the names of all; and the whole of --help. */
void commands_usage(FILE *out);
void commands_help(FILE *out);
/* NULL: there is none of that name. */
const struct command *command_find(const char *name);
/* Run one; words[0] is its name. ret: enum exit_code. */
int command_run(struct iotctl *app, int n, char *words[]);
/* "iotctl status [--json] [broker|csm|agent ...]"; more: an option to name first, such as "[-h]",
 * or "". */
void command_spell(const struct command *c, const char *more, char *buf, size_t cap);
