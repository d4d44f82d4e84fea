/* import.h - the bulk-import file: categories, units, tags, functions, features, where functions are offered, models (spec ccm
 * 7).
 *
 * All of it is everybody's. What is there stays as it is: features, models, tags, and functions whose code is the same; a
 * function with other code gets a new version. So the same file twice changes nothing.
 */
#pragma once

#include "ccm/fields.h"
#include "common/db.h"

/* How many were made. */
struct imported {
	unsigned categories, units, tags, functions, versions, features, offers, models;
};

/* Read the text of a file. ret_doc: yours. Errors: ERR_PARSE with line and column; ERR_SCHEMA with the path of what is wrong. */
int import_parse(const char *text, size_t len, json_t **ret_doc, struct err *err);
/* Put what import_parse() gave into a store, inside the caller's transaction; doc is changed on the way. Errors: ERR_SCHEMA with
 * the path of what is wrong
 * ("DeviceModel[0].df_list[2]"), and those of the store; then the caller's transaction must not be committed. */
int import_run(struct db *db, json_t *doc, struct imported *ret_made, struct err *err);
/* Whether a store has no feature, model and function yet. ret: 1, 0 or negative. */
int import_is_empty(struct db *db, struct err *err);

/* The file as a table of fields (fields.h); the elements of DeviceModel's df_list are looked at besides. */
extern const struct field import_fields[];
