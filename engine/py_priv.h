/* py_priv.h - what the files behind pyfn.h share: the casts between values and objects, the
 * interpreter's struct. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* Python.h wants to be first */
#include "common/map.h"
#include "engine/py_guard.h"
#include "engine/pyfn.h"

struct py {
	struct guard guard;
	bool refused;       /* what was raised last met the quota */
	struct text *heard; /* what functions print, for py_listen(); NULL: nobody listens */
	PyObject *explain;  /* explain(exception) -> str */
	PyObject *remember; /* remember(filename, source): for tracebacks */
	PyObject *forget;   /* forget(filename) */
	struct map
		*sources; /* struct source by digest: one code object for all uses of a function */
};

/* The module that is run once at the start (py_boot.c). Its globals need builtins, and tell(text),
 * for what is printed (py_print.c). */
extern const char py_boot_source[];
/* ret: tell, a new reference; NULL: an exception is pending. */
PyObject *py_tell_new(struct py *py);

static inline PyObject *obj(const struct val *v)
{
	return (PyObject *)(uintptr_t)v;
}
static inline struct val *val_of(PyObject *o)
{
	return (struct val *)o;
}
/* Set err from the pending exception ("TypeName: text", short) and clear it. ret: ERR_NOMEM or
 * code. */
int py_brief(struct err *err, int code, const char *what);
