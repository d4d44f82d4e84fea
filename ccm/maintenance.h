/* maintenance.h - what the program `ccm` does besides being a daemon: `ccm MODE [OPTION ...] [OPERAND ...]`.
 *
 * A mode works on the store itself, whether the daemon runs or not: with short transactions, waiting when another process writes.
 */
#pragma once

#include "common/db.h"
#include "common/options.h"
#include "common/settings.h"

/* For a mode that runs: settings are read, the directories are there, the store is open and of the newest version. */
struct maintenance {
	const struct settings *settings;
	struct db *db;
	struct options given; /* of the mode's table; operands */
	void *work;	      /* the mode's own, for its transaction */
	bool misused;	      /* a mode sets it when its operands are wrong */
};

/* ret: 0 or negative, and then err says why; what was done is said on stdout. */
typedef int maintenance_fn(struct maintenance *m, struct err *err);

/* --help and --config, first in the options of every mode. */
#define MAINTENANCE_OPTIONS                                                                                              \
	{"help", 'h', NULL, "show this help message and exit"},                                                          \
	{                                                                                                                \
		"config", 'c', "INI_PATH",                                                                               \
			"IoTtalk ini config file ($HOME/.iottalk/iottalk.ini, or else that of the system, if it exists)" \
	}

/* Run the mode that argv[1] names. ret: whether it names one; then *ret_status is what the process exits with: 0, 1, or 2 when
 * the command line is wrong. */
bool maintenance_run(int argc, char *argv[], int *ret_status);

/* The modes, for `ccm --help`. */
void maintenance_help(FILE *out);

/* BEGIN IMMEDIATE, run, COMMIT; or ROLLBACK, when run fails. */
int maintenance_transaction(struct maintenance *m, maintenance_fn *run, struct err *err);
