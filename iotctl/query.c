/* query.c - read-only SQL for people. */
#include "iotctl/query.h"
#include "common/util.h"
#include <sqlite3.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 2000
#define WIDTH_MAX       48 /* of a column that is lined up; longer values stand out */
#define ROWS_MEASURED   200
#define COLUMNS_MAX     64

static int wrong(sqlite3 *db, struct err *err)
{
	return err_set(err, ERR_DB, "%s", sqlite3_errmsg(db));
}

/* What a value looks like; blobs by their size. buf: for those. */
static const char *text_at(sqlite3_stmt *stmt, int column, char buf[64])
{
	switch (sqlite3_column_type(stmt, column)) {
	case SQLITE_NULL:
		return "NULL";
	case SQLITE_BLOB:
		snprintf(buf, 64, "(%d bytes)", sqlite3_column_bytes(stmt, column));
		return buf;
	default:
		return (const char *)sqlite3_column_text(stmt, column);
	}
}

/* No control character of what devices said reaches the terminal. */
static void put_cell(const char *text, int width, bool last, FILE *out)
{
	int n = 0;

	for (; text != NULL && *text != '\0'; text++) {
		fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, out);
		n += ((unsigned char)*text & 0xc0) != 0x80; /* characters, not bytes */
	}
	if (last)
		fputc('\n', out);
	else
		fprintf(out, "%*s", width > n ? width - n + 2 : 2, "");
}

/* Widths of the columns by the first rows; the statement is at its begin again afterwards. */
static void measure(sqlite3_stmt *stmt, int columns, int widths[COLUMNS_MAX])
{
	char buf[64];

	for (int i = 0; i < columns; i++)
		widths[i] = (int)strlen(sqlite3_column_name(stmt, i));
	for (unsigned row = 0; row < ROWS_MEASURED && sqlite3_step(stmt) == SQLITE_ROW; row++) {
		for (int i = 0; i < columns; i++) {
			const char *text = text_at(stmt, i, buf);
			int len = text != NULL ? (int)strlen(text) : 0;

			if (len > widths[i])
				widths[i] = len < WIDTH_MAX ? len : WIDTH_MAX;
		}
	}
	sqlite3_reset(stmt);
}

static int print_rows(sqlite3 *db, sqlite3_stmt *stmt, FILE *out, struct err *err)
{
	int columns = sqlite3_column_count(stmt), widths[COLUMNS_MAX], step;
	unsigned long rows = 0;
	char buf[64];

	if (columns > COLUMNS_MAX)
		return err_set(err, ERR_RANGE, "more than %d columns", COLUMNS_MAX);
	if (columns > 0)
		measure(stmt, columns, widths);
	for (int i = 0; i < columns; i++)
		put_cell(sqlite3_column_name(stmt, i), widths[i], i + 1 == columns, out);
	while ((step = sqlite3_step(stmt)) == SQLITE_ROW && !ferror(out)) {
		for (int i = 0; i < columns; i++)
			put_cell(text_at(stmt, i, buf), widths[i], i + 1 == columns, out);
		rows++;
	}
	if (step != SQLITE_DONE && step != SQLITE_ROW)
		return wrong(db, err);
	fprintf(out, "(%lu row%s)\n", rows, rows == 1 ? "" : "s");
	return 0;
}

static bool is_blank(const char *sql)
{
	return sql == NULL || sql[strspn(sql, " \t\r\n;")] == '\0';
}

static int run(sqlite3 *db, const char *sql, FILE *out, struct err *err)
{
	sqlite3_stmt *stmt = NULL;
	const char *rest = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, &rest) == SQLITE_OK ? 0 : wrong(db, err);

	if (rc == 0 && stmt == NULL)
		rc = err_set(err, ERR_INVAL, "there is no statement");
	else if (rc == 0 && !is_blank(rest))
		rc = err_set(err, ERR_INVAL, "one statement at a time, please");
	else if (rc == 0 && !sqlite3_stmt_readonly(stmt))
		rc = err_set(err, ERR_INVAL, "the store can only be read here");
	else if (rc == 0)
		rc = print_rows(db, stmt, out, err);
	sqlite3_finalize(stmt);
	return rc;
}

int query_print(const struct settings *s, enum schema_store which, const char *sql, FILE *out,
		struct err *err)
{
	const char *path = schema_path(s, which);
	sqlite3 *db = NULL;
	int rc = strcmp(path, ":memory:") == 0
			 ? err_set(err, ERR_NOENT, "the store is kept in %s's memory only",
				   schema_name(which))
			 : 0;

	if (rc == 0 && sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		rc = err_set(err, ERR_DB, "store %s: %s", path, sqlite3_errmsg(db));
	if (rc == 0) {
		sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
		/* another file would be read, or even made, by ATTACH */
		sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
		rc = run(db, sql, out, err);
	}
	sqlite3_close(db);
	return rc;
}
