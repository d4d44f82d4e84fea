/* query.h - questions to the store in SQL that cannot change it. */
#pragma once

#include "common/schema.h"
#include "common/settings.h"
#include <stdio.h>

/* Run one statement on a store, opened for reading, and print its rows as a table. Other files
 * cannot be attached, nothing can be written. SIGINT ends the process as ever. ret: 0, or negative
 * with what is wrong in err. */
int query_print(const struct settings *s, enum schema_store which, const char *sql, FILE *out,
		struct err *err);
