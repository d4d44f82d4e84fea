/* keeper.h - the keeper: a warm interpreter in a sandbox that forks engines when the agent asks for
 * them, and keeps them when it goes (docs/keeper-protocol.rst).
 */
#pragma once

#include "engine/engine.h"
#include <stdbool.h>

struct keeper_conf {
	const char *socket;
	int report_fd; /* told how the start went; -1: nobody is */
	struct engine_conf engine;
	bool strict;        /* no engine without the core layers of the sandbox */
	const char *layers; /* of the sandbox; for tests */
	unsigned orphan_ms; /* without an agent for so long: the end */
};

/* Start, detach, and serve. Returns in the process that called it, once the keeper serves or has
 * failed. ret: enum engine_exit. */
int keeper_run(const struct keeper_conf *conf);
