/* keeper_end.h - ends a keeper that has no agent.
 *
 * The keeper and its engines outlive an agent that was killed, so that the next one finds them.
 * Where no next one is wanted somebody has to tell them.
 */
#pragma once

#include "common/err.h"
#include "common/settings.h"

/* Ask the keeper of this userdir to end and wait until it did; kill it if it does not. Nothing is
 * done while an agent runs: the keeper is that one's. Blocks for some seconds at most. ret: 1:
 * ended one, 0: none was there. Errors: ERR_SYS, ERR_NOMEM, ERR_RANGE, ERR_TIMEOUT. */
int keeper_end(const struct settings *s, struct err *err);
