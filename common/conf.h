/* conf.h - settings: an INI file checked against a table of rows (spec iottalk-core 2).
 *
 * A line is `[section]`, `key = value` (or `key: value`), empty, or a comment: its first visible
 * character is ; or #. Further right ; and # are ordinary characters of the value (a value with one
 * after a blank gets a warning, because that mostly was meant as a comment). There are no
 * continuation lines; a line has at most CONF_LINE_MAX bytes. `${section:key}` and, for the same
 * section, `${key}` stand for another value; `$$` is a dollar sign.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONF_LINE_MAX 4000

enum conf_type { CONF_STR, CONF_INT, CONF_BOOL, CONF_ENUM };

struct conf_row {
	const char *section, *key;
	enum conf_type type;
	size_t offset;            /* of a char * (CONF_STR, owned), int64_t (CONF_INT), bool, or int
				     (CONF_ENUM: index in names) */
	const char *def;          /* default, as it would stand in the file */
	int64_t min, max;         /* CONF_INT */
	const char *const *names; /* CONF_ENUM: NULL-terminated */
	const char *unit;         /* "s", "ms", "bytes" ...; NULL: none */
	bool live;                /* a running program may take another value */
	const char *help;         /* one or two lines for the sample file */
	/* A further look at a value that has the right type; optional. ret: NULL if fine, or what
	 * is wrong, to be read after "section.key = value: ". */
	const char *(*check)(const char *value);
};

/* A complaint about a file: unknown section or key (a warning) or a bad value (an error). */
typedef void conf_note_fn(void *arg, bool is_error, const char *text);

/* Fill *target (zeroed by the caller) with defaults, then with what `path` says (NULL: defaults
 * only). Every complaint goes to note as "file:line: ..." with the nearest known name. `aliases`
 * renames sections or single keys, pairs {alias, name, ..., NULL} such as "aa", "aaa" or
 * "core:managed-broker", "broker:managed". ret: 0, ERR_NOENT, ERR_SCHEMA after at least one error
 * note, ERR_NOMEM. */
int conf_load(const char *path, const struct conf_row *rows, size_t n, const char *const *aliases,
	      void *target, conf_note_fn *note, void *arg, struct err *err);
/* Release the strings of *target. */
void conf_done(const struct conf_row *rows, size_t n, void *target);
/* Compare two fillings of the same table; values of live rows that differ change places, so that
 * `running` has the new ones and `fresh` is released as ever. fn hears of each difference. */
typedef void conf_change_fn(void *arg, const struct conf_row *row, bool adopted);
void conf_adopt(const struct conf_row *rows, size_t n, void *running, void *fresh,
		conf_change_fn *fn, void *arg);
/* What values a row takes, in words: "1 to 65535", "one of a, b"; "" for any text. */
void conf_range(const struct conf_row *row, char *buf, size_t cap);
/* A commented sample: each row with help, unit, range and default, commented out. */
void conf_sample(const struct conf_row *rows, size_t n, FILE *out);
