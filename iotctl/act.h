/* act.h - the first word after a command that has several things to do. */
#pragma once

#include "iotctl/iotctl.h"

struct act {
	const char *name;
	int min, max;      /* operands behind it */
	const char *takes; /* for people */
	int (*run)(const struct iotctl *app, const struct options *o);
	const char *options; /* those that it has besides --json, each with a space behind it */
};

/* Run the one that o->argv[0] names, with the settings read. ret: enum exit_code (told). */
int run_act(struct iotctl *app, const char *command, const struct act *acts, size_t n,
	    const struct options *o);
