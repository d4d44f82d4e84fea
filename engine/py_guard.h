/* py_guard.h - the builtins that functions get: a copy of the real ones, with an __import__ that
 * knows a list.
 *
 * This is for order, not for safety: it says clearly what is there, and a function that spoils its
 * builtins does not break the library. Who wants to reach more finds ways (modules refer to
 * others); what holds functions in is the sandbox.
 */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* Python.h wants to be first */
#include "common/err.h"

struct guard {
	PyObject *builtins; /* what functions get, shared by all of them */
	PyObject *library;  /* the real ones; borrowed */
	PyObject *spare;    /* the real ones as they were at the start */
	PyObject *import;   /* the guarded __import__ */
	uint64_t builtins_version, library_version;
};

/* After everything that functions may use is imported. Errors: ERR_NOMEM. */
int guard_init(struct guard *g, struct err *err);
void guard_done(struct guard *g);

/* Put back what user code may have changed in either. An exception that is pending stays. */
void guard_repair(struct guard *g);
static inline void guard_check(struct guard *g)
{
	if (((PyDictObject *)g->builtins)->ma_version_tag != g->builtins_version ||
	    ((PyDictObject *)g->library)->ma_version_tag != g->library_version)
		guard_repair(g);
}
