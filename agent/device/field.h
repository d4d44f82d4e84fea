/* field.h - what a JSON object may hold, as tables: they check device files and templates, fill in
 * defaults, and are the pages of docs/devices.rst (gateway-devices 1.6, 1.7).
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_type {
	FIELD_ANY,
	FIELD_BOOL,
	FIELD_INT,
	FIELD_NUMBER, /* durations are numbers in seconds */
	FIELD_STR,    /* 1 to 255 bytes, no NUL */
	FIELD_ENUM,   /* a string, one of names */
	FIELD_OBJECT, /* inner */
	FIELD_LIST,   /* its items are of type `item`; inner, names, min and max are theirs */
	FIELD_MAP,    /* an object with any names, whose values are of type `item` */
	FIELD_ROWS,   /* no field of its own, name is "": the rows of `inner` (serial_fields,
			 point_fields) stand here as if they were written into the table */
};

enum field_flags {
	FIELD_OPTIONAL = 1, /* may be missing, and stays missing unless there is a default */
	FIELD_NULLABLE = 2, /* may be null */
};

/* Everything that is wrong with a file, and what is odd: each with the path of where it is
 * ("devices[3].remote_devices[0].data[7].bit_count"). */
struct problems;

struct field {
	const char *name;
	enum field_type type;
	unsigned flags;
	enum field_type item;
	const struct field *inner; /* ends with {0} */
	/* of FIELD_OBJECT: the object is one of several kinds; the value of its key `variant` names
	 * which: variants ends with {0}. inner then has what all kinds share; may be NULL. */
	const char *variant;
	const struct field_variant *variants;
	const char *const *names; /* NULL-terminated */
	double min, max;          /* of numbers; both 0: any */
	const char *def;  /* default, as JSON text; NULL: none, so it is required unless optional
			   */
	const char *unit; /* "s", "ms", "bit/s"; NULL: none */
	const char *help; /* one sentence */
	/* A further look at a value that has the right type. ret: NULL if fine, or what is wrong,
	 * to be read after the path. */
	const char *(*check)(const json_t *value);
};

struct field_variant {
	const char *name; /* "TCP" */
	const struct field *fields;
	const char *help;
};

/* ret: yours. NULL: out of memory. */
struct problems *problems_new(void);
struct problems *problems_free(struct problems *p);
/* path: where, relative to what problem_enter() said; "": there itself. */
void problem_add(struct problems *p, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void problem_warn(struct problems *p, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Paths of what follows begin with this: "devices[3]"; leave() takes the last one back. */
void problem_enter(struct problems *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void problem_leave(struct problems *p);
/* As if nothing had been said. */
void problems_clear(struct problems *p);
size_t problems_errors(const struct problems *p);
size_t problems_all(const struct problems *p); /* with the warnings */
/* In the order they were found; is_error false: a warning. text: "path: what is wrong". */
typedef void problem_fn(void *arg, bool is_error, const char *text);
void problems_each(const struct problems *p, problem_fn *fn, void *arg);

/* Check an object against a table, say all that is wrong, and set the defaults of what is missing
 * (deep, in the object itself). Unknown keys are a warning that names the nearest known one. ret:
 * 0, ERR_SCHEMA (problems have been added) or ERR_NOMEM. */
int fields_check(const struct field *fields, json_t *object, struct problems *p);
/* The row of a name, also of rows within FIELD_ROWS; NULL: none. */
const struct field *fields_find(const struct field *fields, const char *name);
/* What values a row takes, in words: "an integer from 1 to 247", "one of TCP, RTU, ASCII". buf:
 * FIELD_WORDS_MAX. */
#define FIELD_WORDS_MAX 400
void field_words(const struct field *f, char *buf, size_t cap);
