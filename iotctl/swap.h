/* swap.h - exchange several files, all or none, also when the process is killed or the power goes
 * at any moment.
 *
 * Prepare every new file beside its target, then swap_begin(): from then on the exchange happened,
 * and what of it is not done yet is told by the journal. Whoever finds a journal calls
 * swap_finish() before using any of the files. Nobody may use the targets meanwhile.
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>

/* One step: {"target": path, "staged": path or null, "kept": path or null}. What stands at target
 * (with its -wal and -shm, if it is a store) goes to kept; then staged, which is on disk already,
 * becomes target. kept null: it is replaced. staged null: it only goes. Names of kept must be new.
 */
json_t *swap_step(const char *target, const char *staged, const char *kept);

/* Write down the steps. Errors: ERR_SYS, ERR_NOMEM; nothing has changed then. */
int swap_begin(const char *journal, json_t *steps, struct err *err);
/* Do what is left to do. May be repeated after a failure. ret: 1 finished one, 0 there is no
 * journal. Errors: ERR_SYS, ERR_NOMEM, ERR_PARSE (the journal is damaged), ERR_EXIST (both the old
 * file and its kept name are there: somebody made it meanwhile). */
int swap_finish(const char *journal, struct err *err);
/* Whether a journal has a step for that target; also true for one that cannot be read. */
bool swap_names(const char *journal, const char *target);
