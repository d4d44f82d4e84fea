/* label.h - what features and parameters carry: categories, units, tags. */
#pragma once

#include "common/db.h"
#include <jansson.h>

/* Make it unless it is there. ret: 1 made, 0 it was there, or negative. ret_id may be NULL. */
int label_category(struct db *db, struct err *err, const char *name, int64_t *ret_id);
int label_unit(struct db *db, struct err *err, const char *name, int64_t *ret_id);

/* Tag rows of a model's feature, the one that was put there first before. ret_rows: yours */
int tags_of(struct db *db, struct err *err, int64_t mf_id, json_t **ret_rows);
/* Put a list of {"tag_id"} in place of them. Errors: ERR_NOENT. */
int tags_replace(struct db *db, struct err *err, int64_t mf_id, const json_t *list);
