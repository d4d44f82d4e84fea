/* seed.h - what a new store of ccm begins with: the common models, features, units and functions (conf/ccm-seed.json, which is
 * part of the program). */
#pragma once

#include "ccm/ops/import.h"

/* Put it into a store that has no model, feature and function, inside the caller's transaction, if there is one. ret: 1: done, and
 * ret_made says how many; 0: it has some; negative: then a transaction must not be committed. */
int seed_if_empty(struct db *db, struct imported *ret_made, struct err *err);
