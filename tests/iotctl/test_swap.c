/* An exchange of files is finished from wherever it was interrupted. */
#include "common/util.h"
#include "iotctl/files.h"
#include "iotctl/swap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define PATH_CAP 100

struct place {
	char dir[32], journal[PATH_CAP];
};

static char *in(const struct place *p, const char *name, char path[PATH_CAP])
{
	snprintf(path, PATH_CAP, "%s/%s", p->dir, name);
	return path;
}

static void put(const struct place *p, const char *name, const char *text)
{
	char path[PATH_CAP];

	assert_int_equal(files_save(in(p, name, path), text, strlen(text), NULL), 0);
}

/* "": there is none. */
static void assert_holds(const struct place *p, const char *name, const char *text)
{
	char path[PATH_CAP], got[64] = "";
	FILE *f = fopen(in(p, name, path), "re");

	if (f != NULL) {
		got[fread(got, 1, sizeof(got) - 1, f)] = '\0';
		fclose(f);
	}
	if (strcmp(got, text) != 0)
		fail_msg("%s holds '%s' instead of '%s'", name, got, text);
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), P_tmpdir "/test-swap-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	in(p, "journal", p->journal);
	*state = p;
	return 0;
}

static const char *const names[] = {"db",         "db-wal",     "db-shm", "db.in",  "db.old",
				    "db.old-wal", "db.old-shm", "key",    "key.in", "key.old",
				    "gone",       "gone.old",   "ini",    "ini.in", "journal"};

static void sweep(const struct place *p)
{
	char path[PATH_CAP];

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(in(p, names[i], path));
}

static int teardown(void **state)
{
	struct place *p = *state;

	sweep(p);
	assert_int_equal(rmdir(p->dir), 0); /* nothing else was left */
	free(p);
	return 0;
}

static json_t *step(const struct place *p, const char *target, const char *staged, const char *kept)
{
	char a[PATH_CAP], b[PATH_CAP], c[PATH_CAP];

	return swap_step(in(p, target, a), staged != NULL ? in(p, staged, b) : NULL,
			 kept != NULL ? in(p, kept, c) : NULL);
}

/* A store with a log, a key, a file that goes, a file that is replaced. */
static void begin(const struct place *p)
{
	json_auto_t *steps = json_array();

	put(p, "db", "old db");
	put(p, "db-wal", "old wal");
	put(p, "db-shm", "old shm");
	put(p, "db.in", "new db");
	put(p, "key", "old key");
	put(p, "key.in", "new key");
	put(p, "gone", "old gone");
	put(p, "ini", "old ini");
	put(p, "ini.in", "new ini");
	json_array_append_new(steps, step(p, "db", "db.in", "db.old"));
	json_array_append_new(steps, step(p, "key", "key.in", "key.old"));
	json_array_append_new(steps, step(p, "gone", NULL, "gone.old"));
	json_array_append_new(steps, step(p, "ini", "ini.in", NULL));
	assert_int_equal(swap_begin(p->journal, steps, NULL), 0);
}

static void assert_done(const struct place *p)
{
	static const char *const want[][2] = {
		{"db", "new db"},
		{"db-wal", ""},
		{"db-shm", ""},
		{"db.in", ""},
		{"db.old", "old db"},
		{"db.old-wal", "old wal"},
		{"db.old-shm", "old shm"},
		{"key", "new key"},
		{"key.in", ""},
		{"key.old", "old key"},
		{"gone", ""},
		{"gone.old", "old gone"},
		{"ini", "new ini"},
		{"ini.in", ""},
		{"journal", ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_holds(p, want[i][0], want[i][1]);
}

static void it_is_finished_from_wherever_it_was_interrupted(void **state)
{
	/* what an exchange does, one after the other */
	static const char *const moves[][2] = {
		{"db", "db.old"},     {"db-wal", "db.old-wal"}, {"db-shm", "db.old-shm"},
		{"db.in", "db"},      {"key", "key.old"},       {"key.in", "key"},
		{"gone", "gone.old"}, {"ini.in", "ini"},
	};
	const struct place *p = *state;

	for (size_t done = 0; done <= ARRAY_LEN(moves); done++) {
		begin(p);
		for (size_t i = 0; i < done; i++) {
			char from[PATH_CAP], to[PATH_CAP];

			assert_int_equal(rename(in(p, moves[i][0], from), in(p, moves[i][1], to)),
					 0);
		}
		assert_int_equal(swap_finish(p->journal, NULL), 1);
		assert_done(p);
		assert_int_equal(swap_finish(p->journal, NULL), 0);
		sweep(p);
	}
}

static void into_an_empty_place(void **state)
{
	const struct place *p = *state;
	json_auto_t *steps = json_array();

	put(p, "db.in", "new db");
	json_array_append_new(steps, step(p, "db", "db.in", "db.old"));
	assert_int_equal(swap_begin(p->journal, steps, NULL), 0);
	assert_int_equal(swap_finish(p->journal, NULL), 1);
	assert_holds(p, "db", "new db");
	assert_holds(p, "db.old", "");
}

static void what_was_kept_is_never_written_over(void **state)
{
	const struct place *p = *state;
	char from[PATH_CAP], to[PATH_CAP];
	struct err err = {0};

	begin(p);
	assert_int_equal(rename(in(p, "db", from), in(p, "db.old", to)), 0);
	put(p, "db", "somebody's");
	assert_int_equal(swap_finish(p->journal, &err), ERR_EXIST);
	assert_non_null(strstr(err.text, "move one of them away"));
	assert_holds(p, "db.old", "old db");
	assert_holds(p, "db", "somebody's");
	/* after that is done it goes on */
	unlink(in(p, "db", from));
	assert_int_equal(swap_finish(p->journal, NULL), 1);
	assert_done(p);
}

static void a_journal_that_is_none_changes_nothing(void **state)
{
	static const char *const texts[] = {"",
					    "{",
					    "[]",
					    "{\"steps\": 7}",
					    "{\"steps\": [{\"target\": \"db\"}]}",
					    "{\"steps\": [7]}"};
	const struct place *p = *state;

	begin(p);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		put(p, "journal", texts[i]);
		assert_int_equal(swap_finish(p->journal, NULL), ERR_PARSE);
		assert_holds(p, "db", "old db");
		assert_holds(p, "journal", texts[i]);
	}
}

/* Who is not named goes on while it is finished. */
static void a_journal_names_what_it_exchanges(void **state)
{
	const struct place *p = *state;
	char db[PATH_CAP], other[PATH_CAP];

	begin(p);
	assert_true(swap_names(p->journal, in(p, "db", db)));
	assert_false(swap_names(p->journal, in(p, "other", other)));
	put(p, "journal", "{\"steps\": 7}");
	assert_true(swap_names(p->journal, other)); /* nobody knows */
	put(p, "journal", "{\"steps\": [7]}");
	assert_true(swap_names(p->journal, other));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(it_is_finished_from_wherever_it_was_interrupted),
		TEST(into_an_empty_place),
		TEST(what_was_kept_is_never_written_over),
		TEST(a_journal_that_is_none_changes_nothing),
		TEST(a_journal_names_what_it_exchanges),
	};

	return cmocka_run_group_tests_name("swap", tests, NULL, NULL);
}
