/* export.h - the catalogue as a bulk-import file (import.h). */
#pragma once

#include "common/db.h"
#include <jansson.h>

/* All that is everybody's: categories, units, tags, functions with their newest code, features, where functions are offered, models.
 * What accounts have of their own is left out, and so is what refers to it. Read into the same store it changes nothing. ret: yours. */
int export_catalogue(struct db *db, json_t **ret_doc, struct err *err);
