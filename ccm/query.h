/* query.h - questions to the store whose answers are numbers and JSON rows.
 *
 * Arguments after the statement are its parameters (DB_V_INT() ...), statements are literals (db.h). Failures are db.h's.
 */
#pragma once

#include "common/db.h"
#include <jansson.h>

/* One column of a result as JSON; NULL in the store is null in JSON. */
struct column {
	const char *name;
	enum { COL_INT, COL_REAL, COL_TEXT, COL_BOOL } kind;
};
/* The columns that a SELECT gives, in its order; ends with {0}. At most 16. */

/* Without a result. */
#define q_exec(db, err, sql, ...) db_run(db, err, NULL, NULL, sql, ##__VA_ARGS__)
/* The first column of the first row. ret: 1, 0 (no row, or NULL; *ret is untouched) or negative. INSERT ... RETURNING id is one, too. */
#define q_int(db, err, ret, sql, ...) q_int_of(db, err, ret, sql, Q_VALUES(__VA_ARGS__))
/* The same of text: a new string, yours. */
#define q_text(db, err, ret, sql, ...) q_text_of(db, err, ret, sql, Q_VALUES(__VA_ARGS__))
/* The first row as an object, yours. ret: 1, 0 (no row) or negative. */
#define q_row(db, err, columns, ret, sql, ...) q_row_of(db, err, columns, ret, sql, Q_VALUES(__VA_ARGS__))
/* All rows as a list of objects, yours. ret: 0 or negative. */
#define q_rows(db, err, columns, ret, sql, ...) q_rows_of(db, err, columns, ret, sql, Q_VALUES(__VA_ARGS__))

#define Q_VALUES(...)                                                                                    \
	(const struct db_value[]){DB_V_NULL, ##__VA_ARGS__} + 1,                                         \
		sizeof((const struct db_value[]){DB_V_NULL, ##__VA_ARGS__}) / sizeof(struct db_value) - 1

int q_int_of(struct db *db, struct err *err, int64_t *ret, const char *sql, const struct db_value *args, size_t n);
int q_text_of(struct db *db, struct err *err, char **ret, const char *sql, const struct db_value *args, size_t n);
int q_row_of(struct db *db, struct err *err, const struct column *columns, json_t **ret, const char *sql,
	     const struct db_value *args, size_t n);
int q_rows_of(struct db *db, struct err *err, const struct column *columns, json_t **ret, const char *sql,
	      const struct db_value *args, size_t n);
