#include "common/db.h"
#include "common/util.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

struct store {
	char dir[64], path[128];
	struct db *db;
	struct err err;
};

static int setup(void **state)
{
	struct store *s = test_calloc(1, sizeof(*s));
	snprintf(s->dir, sizeof(s->dir), P_tmpdir "/test_db.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/t.db", s->dir);
	if (db_open_sqlite(s->path, &s->db, &s->err) < 0)
		fail_msg("%s", s->err.text);
	assert_int_equal(
		db_script(s->db,
			  "CREATE TABLE t (id TEXT PRIMARY KEY, n BIGINT, x DOUBLE PRECISION);"
			  "CREATE TABLE u (id TEXT NOT NULL REFERENCES t (id));",
			  &s->err),
		0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct store *s = *state;
	s->db = db_close(s->db);
	DIR *d = opendir(s->dir);
	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%s", s->dir, e->d_name);
		unlink(path);
	}
	if (d != NULL)
		closedir(d);
	assert_int_equal(rmdir(s->dir), 0);
	test_free(s);
	return 0;
}

struct rows {
	unsigned n;
	int end_with;
	char text[1024];
};

static int on_row(void *arg, const struct db_value *v, size_t n)
{
	struct rows *r = arg;
	r->n++;
	for (size_t i = 0; i < n; i++) {
		size_t at = strlen(r->text);
		char *to = r->text + at;
		size_t room = sizeof(r->text) - at;
		switch (v[i].type) {
		case DB_NULL:
			snprintf(to, room, "null ");
			break;
		case DB_INT:
			snprintf(to, room, "%lld ", (long long)v[i].num);
			break;
		case DB_REAL:
			snprintf(to, room, "%g ", v[i].real);
			break;
		case DB_TEXT:
			snprintf(to, room, "'%s' ", v[i].text);
			break;
		}
	}
	return r->end_with;
}

static void values_come_back_as_they_went_in(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	const char *none = NULL;
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "INSERT INTO t VALUES ($1, $2, $3)",
				DB_V_TEXT("a'b\xc3\xa4"), DB_V_INT(INT64_MIN), DB_V_REAL(0.5)),
			 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "INSERT INTO t VALUES ($1, $2, $3)",
				DB_V_TEXT("z"), DB_V_NULL, DB_V_TEXT(none)),
			 0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "SELECT id, n, x FROM t ORDER BY id"),
			 0);
	assert_int_equal(r.n, 2);
	assert_string_equal(r.text, "'a'b\xc3\xa4' -9223372036854775808 0.5 'z' null null ");
}

static void parameters_do_not_leak_into_the_next_run(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	static const char insert[] = "INSERT INTO t (id, n) VALUES ($1, $2)";
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, insert, DB_V_TEXT("a"), DB_V_INT(5)),
			 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, insert, DB_V_TEXT("b")), 0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "SELECT n FROM t ORDER BY id"), 0);
	assert_string_equal(r.text, "5 null ");
}

static void a_row_can_end_the_walk(void **state)
{
	struct store *s = *state;
	static const char all[] = "SELECT id FROM t ORDER BY id";
	for (char id[2] = "a"; id[0] <= 'e'; id[0]++)
		assert_int_equal(db_run(s->db, &s->err, NULL, NULL,
					"INSERT INTO t (id) VALUES ($1)", DB_V_TEXT(id)),
				 0);
	struct rows r = {.end_with = ERR_RANGE};
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, all), ERR_RANGE);
	assert_int_equal(r.n, 1);
	r = (struct rows){0}; /* the statement is as new */
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, all), 0);
	assert_int_equal(r.n, 5);
}

static void errors_carry_the_words_of_the_engine(void **state)
{
	struct store *s = *state;
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "SELECT id FROM nowhere"), ERR_DB);
	if (strstr(s->err.text, "nowhere") == NULL)
		fail_msg("%s", s->err.text);
	assert_int_equal(db_script(s->db, "NOT SQL", &s->err), ERR_DB);
	assert_int_equal(db_run(s->db, NULL, NULL, NULL, "NOT SQL"), ERR_DB);
	static const char insert[] = "INSERT INTO t (id) VALUES ($1)";
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, insert, DB_V_TEXT("a")), 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, insert, DB_V_TEXT("a")), ERR_DB);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, insert, DB_V_TEXT("b")), 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, insert, DB_V_TEXT("c"), DB_V_INT(1)),
			 ERR_DB);
	assert_int_equal(
		db_run(s->db, &s->err, NULL, NULL, "INSERT INTO u VALUES ($1)", DB_V_TEXT("none")),
		ERR_DB); /* foreign keys are on */
}

static void too_many_columns_are_an_error(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	assert_int_equal(
		db_run(s->db, &s->err, on_row, &r, "SELECT 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"),
		0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r,
				"SELECT 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"),
			 ERR_DB);
	assert_int_equal(r.n, 1);
}

static void a_transaction_is_all_or_nothing(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	assert_int_equal(db_script(s->db, "BEGIN", &s->err), 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "INSERT INTO t (id) VALUES ('a')"), 0);
	assert_int_equal(db_script(s->db, "ROLLBACK", &s->err), 0);
	assert_int_equal(db_script(s->db, "BEGIN", &s->err), 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "INSERT INTO t (id) VALUES ('b')"), 0);
	assert_int_equal(db_script(s->db, "COMMIT", &s->err), 0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "SELECT id FROM t"), 0);
	assert_string_equal(r.text, "'b' ");
}

static void what_was_committed_survives_sigkill(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	s->db = db_close(s->db);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct db *db;
		if (db_open_sqlite(s->path, &db, NULL) < 0 ||
		    db_run(db, NULL, NULL, NULL, "INSERT INTO t (id) VALUES ('kept')") < 0 ||
		    db_script(db, "BEGIN; INSERT INTO t (id) VALUES ('lost');", NULL) < 0)
			_exit(1);
		kill(getpid(), 9);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(db_open_sqlite(s->path, &s->db, &s->err), 0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "SELECT id FROM t"), 0);
	assert_string_equal(r.text, "'kept' ");
}

static void the_store_is_durable_and_private(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	struct stat st;
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "PRAGMA journal_mode"), 0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "PRAGMA synchronous"), 0);
	assert_int_equal(db_run(s->db, &s->err, on_row, &r, "PRAGMA foreign_keys"), 0);
	assert_string_equal(r.text, "'wal' 2 1 ");
	assert_int_equal(stat(s->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_backup_is_a_store_of_its_own(void **state)
{
	struct store *s = *state;
	struct rows r = {0};
	struct db *copy;
	char path[160];
	snprintf(path, sizeof(path), "%s/copy.db", s->dir);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "INSERT INTO t (id) VALUES ('a')"), 0);
	assert_int_equal(db_backup(s->db, path, &s->err), 0);
	assert_int_equal(db_run(s->db, &s->err, NULL, NULL, "INSERT INTO t (id) VALUES ('b')"), 0);
	assert_int_equal(db_open_sqlite(path, &copy, &s->err), 0);
	assert_int_equal(db_run(copy, &s->err, on_row, &r, "SELECT id FROM t"), 0);
	assert_string_equal(r.text, "'a' ");
	db_close(copy);
	assert_int_equal(db_backup(s->db, path, &s->err), ERR_DB); /* it is there already */
	assert_int_equal(db_backup(s->db, "/proc/no/copy.db", &s->err), ERR_DB);
}

static int on_number(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(int64_t *)arg = v[0].num;
	return 0;
}

static unsigned files_of(const char *dir)
{
	unsigned n = 0;
	DIR *d = opendir(dir);
	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* Used by others or not, and whatever its name means in a URI. */
static void to_look_changes_nothing(void **state)
{
	struct store *s = *state;
	struct db *look = NULL;
	int64_t n = 0;
	char odd[160];
	assert_int_equal(db_script(s->db, "INSERT INTO t VALUES ('a', 7, 0)", &s->err), 0);
	for (int used = 1; used >= 0; used--) {
		if (!used)
			s->db = db_close(s->db);
		unsigned before = files_of(s->dir);
		assert_int_equal(db_open_sqlite_look(s->path, &look, &s->err), 0);
		n = 0;
		assert_int_equal(db_run(look, &s->err, on_number, &n, "SELECT n FROM t"), 0);
		assert_int_equal(n, 7);
		assert_int_equal(db_script(look, "INSERT INTO t VALUES ('b', 8, 0)", &s->err), ERR_DB);
		assert_int_equal(files_of(s->dir), before);
		db_close(look);
		assert_int_equal(files_of(s->dir), before);
	}
	snprintf(odd, sizeof(odd), "%s/a?b#c%%20d.db", s->dir);
	assert_int_equal(rename(s->path, odd), 0);
	assert_int_equal(db_open_sqlite_look(odd, &look, &s->err), 0);
	assert_int_equal(db_run(look, &s->err, on_number, &n, "SELECT n FROM t"), 0);
	db_close(look);
	look = NULL;
	assert_int_equal(db_open_sqlite_look(s->path, &look, &s->err), ERR_NOENT);
	assert_int_equal(access(s->path, F_OK), -1); /* nor is it made */
	assert_null(look);
}

static void memory_keeps_nothing(void **state)
{
	struct store *s = *state;
	struct db *db;
	assert_int_equal(db_open_sqlite(":memory:", &db, &s->err), 0);
	assert_int_equal(db_script(db, "CREATE TABLE t (id TEXT)", &s->err), 0);
	assert_null(db_close(db));
	assert_null(db_close(NULL));
	assert_int_equal(access(":memory:", F_OK), -1);
}

static void what_is_no_store_is_refused(void **state)
{
	struct store *s = *state;
	struct db *db = NULL;
	char path[160];
	snprintf(path, sizeof(path), "%s/text", s->dir);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 200; i++)
		assert_int_equal(write(fd, "this is no database, it is a text\n", 34), 34);
	close(fd);
	assert_int_equal(db_open_sqlite(path, &db, &s->err), ERR_DB);
	assert_non_null(strstr(s->err.text, path));
	assert_true(db_open_sqlite("/proc/nowhere/x.db", &db, &s->err) < 0);
	assert_true(db_open_sqlite(s->dir, &db, &s->err) < 0);
	assert_null(db);
}

/* The switch to WAL does not wait by itself. */
static void many_may_open_a_new_store_at_once(void **state)
{
	struct store *s = *state;
	char path[160];
	for (int round = 0; round < 40; round++) {
		int start[2];
		unsigned failed = 0;
		pid_t pids[8];
		snprintf(path, sizeof(path), "%s/new-%d", s->dir, round);
		assert_int_equal(pipe(start), 0);
		for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i] == 0) {
				struct db *db;
				char c;
				close(start[1]);
				if (read(start[0], &c, 1) != 0 || db_open_sqlite(path, &db, NULL) < 0)
					_exit(1);
				db_close(db);
				_exit(0);
			}
		}
		close(start[0]);
		close(start[1]); /* go */
		for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
			int status;
			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
		}
		assert_int_equal(failed, 0);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(values_come_back_as_they_went_in),
		T(parameters_do_not_leak_into_the_next_run),
		T(a_row_can_end_the_walk),
		T(errors_carry_the_words_of_the_engine),
		T(too_many_columns_are_an_error),
		T(a_transaction_is_all_or_nothing),
		T(what_was_committed_survives_sigkill),
		T(the_store_is_durable_and_private),
		T(a_backup_is_a_store_of_its_own),
		T(to_look_changes_nothing),
		T(memory_keeps_nothing),
		T(what_is_no_store_is_refused),
		T(many_may_open_a_new_store_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
