#include "common/db.h"

#include "common/util.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Somebody else has the store for a moment (iotctl, a backup): the loop stands still meanwhile, so not for long. */
#define BUSY_TIMEOUT_MS 250
#define OPEN_TIMEOUT_MS 3000 /* nothing runs yet that could stand still */
#define OPEN_RETRY_MS	10
#define COLUMNS_MAX 16

struct cached {
	const char *sql; /* the caller's literal; compared by address first */
	sqlite3_stmt *stmt;
	struct cached *next;
};

struct sqlite_db {
	struct db db;
	sqlite3 *handle;
	struct cached *cache;
};

static int fail(struct sqlite_db *s, struct err *err, const char *what)
{
	int code = sqlite3_errcode(s->handle) & 0xff; /* without the extension */
	bool damaged = code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
	return err_set(err, code == SQLITE_NOMEM ? ERR_NOMEM : ERR_DB, "store: %s: %s%s", what, sqlite3_errmsg(s->handle),
		       damaged ? "; it cannot be used: put back a copy of it, or move the file (and its -wal "
				 "and -shm) away and run `iotctl initdb` for a new, empty one"
			       : "");
}

static struct db *sqlite_close(struct db *db)
{
	struct sqlite_db *s = (struct sqlite_db *)db;
	for (struct cached *c = s->cache, *next; c != NULL; c = next) {
		next = c->next;
		sqlite3_finalize(c->stmt);
		free(c);
	}
	sqlite3_close(s->handle);
	free(s);
	return NULL;
}

static int sqlite_script(struct db *db, const char *sql, struct err *err)
{
	struct sqlite_db *s = (struct sqlite_db *)db;
	return sqlite3_exec(s->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
									   : fail(s, err, "script");
}

static int prepare(struct sqlite_db *s, const char *sql, sqlite3_stmt **ret, struct err *err)
{
	for (struct cached *c = s->cache; c != NULL; c = c->next) {
		if (c->sql == sql || strcmp(c->sql, sql) == 0) {
			*ret = c->stmt;
			return 0;
		}
	}
	struct cached *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return err_set(err, ERR_NOMEM, "statement");
	if (sqlite3_prepare_v3(s->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &c->stmt, NULL) !=
	    SQLITE_OK) {
		free(c);
		return fail(s, err, "prepare");
	}
	c->sql = sql;
	c->next = s->cache;
	s->cache = c;
	*ret = c->stmt;
	return 0;
}

static int bind(sqlite3_stmt *stmt, int at, const struct db_value *v)
{
	switch (v->type) {
	case DB_NULL:
		return sqlite3_bind_null(stmt, at);
	case DB_INT:
		return sqlite3_bind_int64(stmt, at, v->num);
	case DB_REAL:
		return sqlite3_bind_double(stmt, at, v->real);
	case DB_TEXT:
		return sqlite3_bind_text(stmt, at, v->text, -1, SQLITE_STATIC);
	}
	return SQLITE_MISUSE;
}

static struct db_value column(sqlite3_stmt *stmt, int at)
{
	switch (sqlite3_column_type(stmt, at)) {
	case SQLITE_INTEGER:
		return DB_V_INT(sqlite3_column_int64(stmt, at));
	case SQLITE_FLOAT:
		return DB_V_REAL(sqlite3_column_double(stmt, at));
	case SQLITE_NULL:
		return DB_V_NULL;
	default: /* text NULL: no memory for it */
		return (struct db_value){.type = DB_TEXT, .text = (const char *)sqlite3_column_text(stmt, at)};
	}
}

static int sqlite_run(struct db *db, const char *sql, db_row_fn *row, void *arg,
		      const struct db_value *args, size_t n, struct err *err)
{
	struct sqlite_db *s = (struct sqlite_db *)db;
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(s, sql, &stmt, err), step = SQLITE_OK;
	if (rc < 0)
		return rc;
	if (sqlite3_column_count(stmt) > COLUMNS_MAX)
		return err_set(err, ERR_DB, "store: a row has more than %d columns", COLUMNS_MAX);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (bind(stmt, (int)i + 1, &args[i]) != SQLITE_OK)
			rc = fail(s, err, "bind");
	while (rc == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct db_value values[COLUMNS_MAX];
		int columns = sqlite3_column_count(stmt);
		for (int i = 0; i < columns && rc == 0; i++) {
			values[i] = column(stmt, i);
			if (values[i].type == DB_TEXT && values[i].text == NULL)
				rc = err_set(err, ERR_NOMEM, "store: step: out of memory");
		}
		if (row != NULL && rc == 0)
			rc = row(arg, values, (size_t)columns);
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = fail(s, err, "step");
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return rc;
}

static int sqlite_backup(struct db *db, const char *path, struct err *err)
{
	struct sqlite_db *s = (struct sqlite_db *)db;
	sqlite3_stmt *stmt = NULL;
	int rc = 0;
	if (sqlite3_prepare_v2(s->handle, "VACUUM INTO ?1", -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_bind_text(stmt, 1, path, -1, SQLITE_STATIC) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_DONE)
		rc = fail(s, err, "backup");
	sqlite3_finalize(stmt);
	return rc;
}

static bool sqlite_in_transaction(const struct db *db)
{
	const struct sqlite_db *s = (const struct sqlite_db *)db;
	return sqlite3_get_autocommit(s->handle) == 0;
}

static const struct db_ops sqlite_ops = {
	.close = sqlite_close,
	.script = sqlite_script,
	.run = sqlite_run,
	.backup = sqlite_backup,
	.in_transaction = sqlite_in_transaction,
};

/* The switch to WAL asks nobody to wait: of several that open a new store at once, one is told that it is locked. */
static int switch_to_wal(struct sqlite_db *s, struct err *err)
{
	const struct timespec pause = {.tv_nsec = OPEN_RETRY_MS * 1000000L};
	int rc = SQLITE_BUSY;
	for (int ms = 0; ms < OPEN_TIMEOUT_MS; ms += OPEN_RETRY_MS) {
		rc = sqlite3_exec(s->handle, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
		if (rc != SQLITE_BUSY)
			break;
		nanosleep(&pause, NULL);
	}
	return rc == SQLITE_OK ? 0 : fail(s, err, "script");
}

int db_open_sqlite(const char *path, struct db **ret, struct err *err)
{
	struct sqlite_db *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "store");
	s->db.ops = &sqlite_ops;
	int rc = 0;
	if (strcmp(path, ":memory:") != 0) {
		/* SQLite would make it with the umask's mode; what it keeps is nobody else's business */
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0) {
			rc = err_sys(err, "opening store %s", path);
			free(s);
			return rc;
		}
		close(fd);
	}
	if (sqlite3_open_v2(path, &s->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
	    SQLITE_OK) {
		rc = err_set(err, ERR_DB, "opening store %s: %s", path, sqlite3_errmsg(s->handle));
	} else {
		sqlite3_busy_timeout(s->handle, BUSY_TIMEOUT_MS);
		rc = switch_to_wal(s, err);
		if (rc == 0)
			rc = db_script(&s->db,
				       "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA journal_size_limit=16777216;"
				       "PRAGMA cache_size=-16000; PRAGMA wal_autocheckpoint=2000;",
				       err);
		if (rc < 0)
			err_wrap(err, rc, "opening store %s", path);
	}
	if (rc < 0) {
		sqlite_close(&s->db);
		return rc;
	}
	*ret = &s->db;
	return 0;
}

/* A URI of the file; what would mean something in it is written as %XX. NULL: out of memory. */
static char *uri_of(const char *path, const char *options)
{
	static const char digits[] = "0123456789ABCDEF";
	char *uri = malloc(strlen(path) * 3 + strlen(options) + sizeof("file:"));
	if (uri == NULL)
		return NULL;
	char *p = stpcpy(uri, "file:");
	for (; *path != '\0'; path++) {
		if (strchr("%?#", *path) == NULL) {
			*p++ = *path;
			continue;
		}
		*p++ = '%';
		*p++ = digits[*path >> 4];
		*p++ = digits[*path & 15];
	}
	stpcpy(p, options);
	return uri;
}

int db_open_sqlite_look(const char *path, struct db **ret, struct err *err)
{
	CLEANUP(freep) char *uri = NULL;
	CLEANUP(freep) char *wal = NULL;
	if (asprintf(&wal, "%s-wal", path) < 0) {
		wal = NULL;
		return err_set(err, ERR_NOMEM, "store");
	}
	if (access(path, R_OK) < 0)
		return err_sys(err, "opening store %s", path);
	/* Without a log nobody writes: SQLite need not make the files by which readers and writers meet. */
	uri = uri_of(path, access(wal, F_OK) == 0 ? "?mode=ro" : "?mode=ro&immutable=1");
	struct sqlite_db *s = calloc(1, sizeof(*s));
	if (s == NULL || uri == NULL) {
		free(s);
		return err_set(err, ERR_NOMEM, "store");
	}
	s->db.ops = &sqlite_ops;
	if (sqlite3_open_v2(uri, &s->handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) != SQLITE_OK) {
		int rc = err_set(err, ERR_DB, "opening store %s: %s", path, sqlite3_errmsg(s->handle));
		sqlite_close(&s->db);
		return rc;
	}
	sqlite3_busy_timeout(s->handle, BUSY_TIMEOUT_MS);
	*ret = &s->db;
	return 0;
}
