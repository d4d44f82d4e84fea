/* options.h - the options of a command line as rows of a table: read, listed for --help, and put
 * into manual pages by it.
 *
 * An option has a long name, perhaps a letter, perhaps an argument (`-c FILE`, `--config FILE`,
 * `--config=FILE`). A long name may be shortened as far as it is unique. `--` ends them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define OPTIONS_MAX 8

struct option_row {
	const char *name; /* without the dashes; NULL ends the table */
	char letter;      /* 0: none */
	const char *arg;  /* the name of its argument, for people; NULL: it has none */
	const char *help;
};

/* What was given. Words are borrowed from argv. */
struct options {
	const struct option_row *rows;
	const char *values[OPTIONS_MAX]; /* by row; "" for one without argument; NULL: not given */
	int argc;                        /* what is left: operands */
	char **argv;
};

/* argv[0] is skipped. first_operand_ends: options after the first operand are left to somebody
 * else. rows: NULL: there are none. A negative number is an operand. argv may be put into another
 * order. ret: 0 or ERR_INVAL (told on stderr already). */
int options_parse(const struct option_row *rows, bool first_operand_ends, int argc, char *argv[],
		  struct options *ret);
/* The value of an option; "" for one without argument; NULL: not given. name: one of the rows. */
const char *options_value(const struct options *o, const char *name);
bool options_has(const struct options *o, const char *name);
/* As --help lists them: one or two lines each, words in column `column`. */
void options_print(const struct option_row *rows, int column, FILE *out);
/* "-c FILE, --config FILE" */
void options_spell(const struct option_row *row, char *buf, size_t cap);
/* Text for a terminal, `width` columns wide; a newline in it begins a new line. */
void print_wrapped(const char *text, int indent, int width, FILE *out);
