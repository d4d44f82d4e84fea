/* complete.h - what may stand at a place of a command line: from the table of commands, and from
 * the daemons that run. */
#pragma once

#include "iotctl/iotctl.h"

typedef void complete_fn(void *arg, const char *word);

/* words: those after `iotctl`, n of them (at least one); the last is the one to complete, perhaps
 * empty. fn hears of each that fits. Silent and quick whatever runs or does not. */
void complete(struct iotctl *app, int n, char *const words[], complete_fn *fn, void *arg);
