/* pyfn.h - the Python interpreter as the engine sees it: functions to call, values to pass. Nothing
 * else knows CPython.
 *
 * One thread, one interpreter per process. A value is a reference-counted Python object: who gets
 * one as `ret` owns it and drops it. Functions here are user code: they may raise anything, run for
 * any time, and end the process.
 *
 * Memory is counted for the function that runs or is loaded when it is taken, until it is given
 * back. A function that would hold more than its quota gets a MemoryError. What libraries take by
 * their own means (numpy's arrays) is not seen: the limit of the process is the backstop.
 */
#pragma once

#include "common/err.h"
#include "engine/text.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PY_REASON_MAX 8192u /* bytes of a traceback */
#define PY_FRONT_MAX  120u  /* room for what is put in front of it */
#define PY_DEPTH_MAX  100   /* nesting of values read and written */

struct py;   /* the interpreter */
struct pyfn; /* a function in force, with globals of its own */
struct val;  /* a Python object */

/* Start the interpreter and import all modules that functions may use; no file is opened after
 * that. ret: yours. Once per process. */
int py_start(struct py **ret, struct err *err);
struct py *py_stop(struct py *py);
/* In a fork, first of all. */
void py_after_fork(struct py *py);
/* No function holds more than that, its dependencies included; 0: no limit. Holds for what is taken
 * from now on. */
void py_set_function_quota(size_t bytes);
/* Collect garbage now. */
void py_collect(struct py *py);

/* ---- functions ---- */
struct pyfn_source {
	const char *alias;  /* of a dependency; NULL for the function itself */
	const char *source; /* UTF-8, len bytes */
	size_t len;
};

/* Compile and load (run the module level of) fn and what it depends on. ret: yours, holding one
 * reference. Errors: ERR_SCHEMA, why says what is wrong (a traceback); ERR_LIMIT (over its quota),
 * ERR_NOMEM, why says so. */
int pyfn_new(struct py *py, const struct pyfn_source *fn, const struct pyfn_source *depends,
	     size_t n_depends, struct pyfn **ret, struct text *why);
struct pyfn *pyfn_keep(struct pyfn *f);
struct pyfn *pyfn_drop(struct pyfn *f); /* the last reference releases its globals at once; NULL is
					   fine; returns NULL */
/* The source as it came, for messages; borrowed. */
const char *pyfn_text(const struct pyfn *f, size_t *ret_len);

/* Bytes that it holds now. */
size_t pyfn_memory(const struct pyfn *f);

/* run(*args). ret: 0, or ERR_PEER (raised), ERR_NOMEM (raised MemoryError), ERR_LIMIT (raised, and
 * met its quota): then py_explain() or py_forget() must follow. */
int pyfn_call(struct pyfn *f, struct val *const *args, size_t n, struct val **ret);
/* What is printed from now on is appended to out, too, UTF-8; what does not fit is left out, and
 * "\n..." says so. out: borrowed; NULL: no more. */
void py_listen(struct py *py, struct text *out);
/* What its results make run (conversions) counts for it, too, until py_leave(). NULL is fine. */
void pyfn_enter(const struct pyfn *f);
void py_leave(void);
/* Write the traceback of what was raised, and forget it. One that met its quota is told so in
 * front. */
void py_explain(struct py *py, struct text *why);
void py_forget(void);

/* ---- values ---- */
struct val *val_keep(struct val *v);
struct val *val_drop(struct val *v); /* NULL is fine; returns NULL */
void val_drop_all(struct val *const *v, size_t n);
struct val *val_none(void);       /* borrowed */
struct val *val_bool(bool b);     /* borrowed */
struct val *val_whole(int64_t n); /* NULL: out of memory */
struct val *val_real(double d);   /* the same */
bool val_is_none(const struct val *v);
/* A list or a tuple; nothing else counts as a sequence. */
bool val_is_seq(const struct val *v);
size_t val_count(const struct val *seq);
/* ret: a new reference; NULL: no such item (any more). */
struct val *val_item(struct val *seq, size_t i);
/* A new reference to each item; ret has room for val_count(). */
void val_items(struct val *seq, struct val **ret);
/* A new list of n values (each gets a reference); NULL: out of memory. */
struct val *val_list(struct val *const *items, size_t n);
/* a - b; NULL: cannot be subtracted. */
struct val *val_subtract(struct val *a, struct val *b);

/* depth: lists and objects that json is in already. Errors: ERR_SCHEMA (nested too deeply),
 * ERR_NOMEM. */
int val_from_json(const json_t *json, unsigned depth, struct val **ret, struct err *err);
/* Append as JSON. Errors (nothing is appended then): ERR_SCHEMA (no JSON for it, err says why),
 * ERR_RANGE (does not fit). */
int val_write(struct val *v, struct text *out, struct err *err);
/* The same for people: what has no JSON is shown by its type or in words. Errors: ERR_RANGE. */
int val_show(struct val *v, struct text *out);
