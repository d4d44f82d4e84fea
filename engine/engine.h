/* engine.h - one engine: messages in, functions, results out (docs/graph-document.rst says what it
 * gets and what it is told). */
#pragma once

#include "common/err.h"
#include <stddef.h>

/* Descriptors an engine is started with. */
enum {
	ENGINE_FD_CONTROL = 3,
	ENGINE_FD_IN,
	ENGINE_FD_OUT,
	ENGINE_FD_WAKE,
	ENGINE_FD_RESULT,
	ENGINE_FDS
};

/* How the process ends; anything else was user code. */
enum engine_exit {
	ENGINE_EXIT_OK = 0,    /* the agent closed the control socket */
	ENGINE_EXIT_START = 1, /* could not start, stderr says why */
	ENGINE_EXIT_USAGE = 2,
	ENGINE_EXIT_MEMORY =
		3,           /* functions hold so much memory that the limit is near: replace it */
	ENGINE_EXIT_PEER = 4 /* rings or control frames are damaged */
};

struct engine_conf {
	unsigned budget_ms; /* wall time of an evaluation, watched from outside */
	unsigned memory_mb;
	unsigned function_mb; /* that one function may hold; 0: no limit but memory_mb */
	size_t max_payload_bytes;
	int qos; /* -1: as the message came */
};

/* Serve until the control socket closes. ret: enum engine_exit. */
int engine_run(const struct engine_conf *conf);
