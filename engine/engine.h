/* engine.h - one engine: messages in, functions, results out (docs/graph-document.rst says what it
 * gets and what it is told). */
#pragma once

#include "common/err.h"
#include "common/tap.h"
#include "engine/pyfn.h"
#include <stddef.h>

/* Descriptors of an engine, besides the standard ones. */
enum { ENGINE_FD_CONTROL = 3, ENGINE_FD_WAKE, ENGINE_FD_RESULT, ENGINE_FDS };

/* How the process ends; anything else was user code. */
enum engine_exit {
	ENGINE_EXIT_OK = 0,    /* the control socket was closed: the keeper is gone */
	ENGINE_EXIT_START = 1, /* could not start, stderr says why */
	ENGINE_EXIT_USAGE = 2,
	ENGINE_EXIT_MEMORY =
		3,           /* functions hold so much memory that the limit is near: replace it */
	ENGINE_EXIT_PEER = 4 /* rings or control frames are damaged */
};

struct engine_conf {
	unsigned memory_mb;   /* address space */
	unsigned function_mb; /* that one function may hold; 0: no limit but memory_mb */
	size_t max_payload_bytes;
	int qos; /* -1: as the message came */
};

/* Close the last walls: called when everything is in place, before anything comes in. */
typedef int engine_lock_fn(void *arg, struct err *err);

/* Serve until the control socket closes. py: the interpreter, after py_after_fork(); tap: the
 * rings. ret: enum engine_exit. */
int engine_run(const struct engine_conf *conf, struct py *py, struct tap_peer *tap,
	       engine_lock_fn *lock, void *arg);
