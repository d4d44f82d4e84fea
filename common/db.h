/* db.h - a store: statements with numbered parameters, rows by callback, one open transaction.
 *
 * One table of operations (struct db_ops), so that another engine can stand behind the same calls; the SQL used is what SQLite
 * and PostgreSQL share, parameters are $1, $2 ... in order of appearance. Loop thread only; statements are cached by their text,
 * so pass literals. Every failure is ERR_DB with the engine's words, or ERR_NOMEM.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

struct db_value {
	enum { DB_NULL, DB_INT, DB_REAL, DB_TEXT } type;
	union {
		int64_t num;
		double real;
		const char *text; /* borrowed */
	};
};

#define DB_V_NULL    ((struct db_value){.type = DB_NULL})
#define DB_V_INT(v)  ((struct db_value){.type = DB_INT, .num = (v)})
#define DB_V_REAL(v) ((struct db_value){.type = DB_REAL, .real = (v)})
/* NULL pointer: NULL value */
#define DB_V_TEXT(v)                                                                               \
	((struct db_value){.type = (v) != NULL ? DB_TEXT : DB_NULL, .text = (v)})

/* One row; values are borrowed for the call. ret: 0 goes on, negative ends the walk and becomes db_run()'s result. */
typedef int db_row_fn(void *arg, const struct db_value *values, size_t n);

struct db_ops {
	struct db *(*close)(struct db *db);
	int (*script)(struct db *db, const char *sql, struct err *err);
	int (*run)(struct db *db, const char *sql, db_row_fn *row, void *arg,
		   const struct db_value *args, size_t n, struct err *err);
	int (*backup)(struct db *db, const char *path, struct err *err);
	bool (*in_transaction)(const struct db *db);
};

struct db {
	const struct db_ops *ops; /* first member of every implementation */
};

/* SQLite: WAL, synchronous=FULL, foreign keys on. path ":memory:" keeps nothing. Creates the file (0600). ret: yours. */
int db_open_sqlite(const char *path, struct db **ret, struct err *err);

/* An existing store to look at only: nothing in it or beside it is changed, whether somebody uses it or not; but for
 * a reader's mark in the -shm of one that is being written. */
int db_open_sqlite_look(const char *path, struct db **ret, struct err *err);

static inline struct db *db_close(struct db *db)
{
	return db != NULL ? db->ops->close(db) : NULL;
}

/* Several statements without parameters or results. */
static inline int db_script(struct db *db, const char *sql, struct err *err)
{
	return db->ops->script(db, sql, err);
}

/* A consistent copy into a new file. */
static inline int db_backup(struct db *db, const char *path, struct err *err)
{
	return db->ops->backup(db, path, err);
}

/* Whether BEGIN is still in effect: some failures of a statement end the whole transaction. */
static inline bool db_in_transaction(const struct db *db)
{
	return db->ops->in_transaction(db);
}

static inline int db_run_of(struct db *db, struct err *err, db_row_fn *row, void *arg, const char *sql,
			    const struct db_value *args, size_t n)
{
	return db->ops->run(db, sql, row, arg, args, n, err);
}

/* db_run(db, err, row, arg, "SELECT ... WHERE id = $1", DB_V_TEXT(id)); row may be NULL. */
#define db_run(db, err, row, arg, sql, ...)                                                        \
	db_run_of((db), (err), (row), (arg), (sql),                                                \
		  (const struct db_value[]){DB_V_NULL, ##__VA_ARGS__} + 1,                         \
		  sizeof((const struct db_value[]){DB_V_NULL, ##__VA_ARGS__}) /                    \
				  sizeof(struct db_value) -                                        \
			  1)
