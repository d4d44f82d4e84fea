/* trim.h - memory that a burst needed and that is free again goes back to the system: the allocator
 * keeps it otherwise, and a thousand devices that start at once need twice of what they have then.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"

struct trim;

/* From now on, every few seconds if there is a reason. ret: yours. Errors: ERR_NOMEM. */
int trim_new(struct loop *l, struct trim **ret, struct err *err);
/* NULL is fine; returns NULL. */
struct trim *trim_free(struct trim *t);
