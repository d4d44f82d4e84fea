#include "common/options.h"

#include "common/err.h"
#include "common/util.h"
#include <getopt.h>
#include <string.h>

#define OPTION_WIDTH 100
/* Stands for the minus of a number while getopt() looks at the words: no option is a digit. */
#define MINUS_HIDDEN '\x01'

static size_t count(const struct option_row *rows)
{
	size_t n = 0;
	while (rows != NULL && rows[n].name != NULL)
		n++;
	return n;
}

/* A long name gives the index of its row, which is no letter. */
static void to_getopt(const struct option_row *rows, size_t n, bool first_operand_ends,
		      struct option longs[OPTIONS_MAX + 1], char shorts[2 * OPTIONS_MAX + 2])
{
	char *s = shorts;
	if (first_operand_ends)
		*s++ = '+';
	for (size_t i = 0; i < n; i++) {
		bool takes = rows[i].arg != NULL;
		longs[i] = (struct option){rows[i].name, takes ? required_argument : no_argument,
					   NULL, (int)i};
		if (rows[i].letter == '\0')
			continue;
		*s++ = rows[i].letter;
		if (takes)
			*s++ = ':';
	}
	*s = '\0';
	longs[n] = (struct option){0};
}

static int row_of(const struct option_row *rows, size_t n, int c)
{
	if (c >= 0 && c < (int)n)
		return c;
	for (size_t i = 0; i < n; i++)
		if (rows[i].letter == c)
			return (int)i;
	return -1;
}

static bool is_number(const char *behind_sign)
{
	return strspn(behind_sign, "0123456789") > 0 ||
	       (behind_sign[0] == '.' && strspn(behind_sign + 1, "0123456789") > 0);
}

/* A negative number is an operand. Behind "--" everything is one. */
static void hide_signs(char *words[], int n)
{
	for (int i = 1; i < n && strcmp(words[i], "--") != 0; i++)
		if (words[i][0] == '-' && is_number(words[i] + 1))
			words[i][0] = MINUS_HIDDEN;
}

/* getopt() may have put them into another order. */
static void show_signs(char *words[], int n)
{
	for (int i = 1; i < n; i++)
		if (words[i][0] == MINUS_HIDDEN && is_number(words[i] + 1))
			words[i][0] = '-';
}

int options_parse(const struct option_row *rows, bool first_operand_ends, int argc, char *argv[],
		  struct options *ret)
{
	struct option longs[OPTIONS_MAX + 1];
	char shorts[2 * OPTIONS_MAX + 2];
	size_t n = count(rows);
	int c;
	*ret = (struct options){.rows = rows};
	to_getopt(rows, n, first_operand_ends, longs, shorts);
	hide_signs(argv, argc);
	optind = 0; /* from the begin, whatever was read before */
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		int row = row_of(rows, n, c);
		if (row < 0)
			break;
		ret->values[row] = optarg != NULL ? optarg : "";
	}
	show_signs(argv, argc);
	if (c != -1)
		return ERR_INVAL;
	ret->argc = argc - optind;
	ret->argv = argv + optind;
	return 0;
}

const char *options_value(const struct options *o, const char *name)
{
	for (size_t i = 0; o->rows != NULL && o->rows[i].name != NULL; i++)
		if (strcmp(o->rows[i].name, name) == 0)
			return o->values[i];
	return NULL;
}

bool options_has(const struct options *o, const char *name)
{
	return options_value(o, name) != NULL;
}

void options_spell(const struct option_row *row, char *buf, size_t cap)
{
	const char *space = row->arg != NULL ? " " : "", *arg = row->arg != NULL ? row->arg : "";
	if (row->letter != '\0')
		snprintf(buf, cap, "-%c%s%s, --%s%s%s", row->letter, space, arg, row->name, space,
			 arg);
	else
		snprintf(buf, cap, "--%s%s%s", row->name, space, arg);
}

/* at: characters of the line that are there already, up to the indent. */
static void wrap(const char *text, int at, int indent, int width, FILE *out)
{
	while (*text != '\0') {
		int len = (int)strcspn(text, " \n");
		if (at > indent && at + 1 + len > width) {
			fputc('\n', out);
			at = 0;
		}
		if (at < indent)
			at += fprintf(out, "%*s", indent - at, "");
		else if (at > indent)
			at += fprintf(out, " ");
		at += fprintf(out, "%.*s", len, text);
		text += len;
		if (*text == '\n') {
			fputc('\n', out);
			at = 0;
		}
		text += *text != '\0';
	}
	if (at > 0)
		fputc('\n', out);
}

void options_print(const struct option_row *rows, int column, FILE *out)
{
	for (; rows != NULL && rows->name != NULL; rows++) {
		char spelt[120];
		options_spell(rows, spelt, sizeof(spelt));
		int at = fprintf(out, "  %s", spelt);
		if (at + 2 > column)
			at = fprintf(out, "\n") - 1;
		wrap(rows->help, at, column, OPTION_WIDTH, out);
	}
}

void print_wrapped(const char *text, int indent, int width, FILE *out)
{
	wrap(text, 0, indent, width, out);
}
