/* label.h - what features and parameters carry: categories, units, tags. */
#pragma once

#include "common/db.h"

/* Make it unless it is there. ret: 1 made, 0 it was there, or negative. ret_id may be NULL. */
int label_category(struct db *db, struct err *err, const char *name, int64_t *ret_id);
int label_unit(struct db *db, struct err *err, const char *name, int64_t *ret_id);
