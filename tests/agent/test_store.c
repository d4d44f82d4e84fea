/* test_store.c - the device service's store: states, registrations, transactions that are shared,
 * files that cannot be used. */
#include "agent/device/store.h"
#include "common/util.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
	char dir[64], path[128];
	struct settings settings;
	struct loop *loop;
	struct store *store;
	struct err err;
	char walked[1024];
	unsigned heard;
	int rc;
	int64_t us;
};

static int reopen(struct world *w)
{
	w->store = store_close(w->store);
	return store_open(w->loop, &w->settings, &w->store, &w->err);
}

static int setup(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), P_tmpdir "/test_store.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/devices.db", w->dir);
	w->settings.devices_db.url = w->path;
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	if (reopen(w) < 0)
		fail_msg("%s", w->err.text);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	w->store = store_close(w->store);
	w->loop = loop_free(w->loop);
	DIR *d = opendir(w->dir);

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	if (d != NULL)
		closedir(d);
	assert_int_equal(rmdir(w->dir), 0);
	test_free(w);
	return 0;
}

static void on_commit(void *arg, int rc)
{
	struct world *w = arg;

	w->heard++;
	w->rc = rc;
}

/* Turns of the loop until as many have heard. */
static void await(struct world *w, unsigned heard)
{
	for (int i = 0; i < 2000 && w->heard < heard; i++)
		assert_int_equal(loop_turn(w->loop, 10), 0);
	assert_int_equal(w->heard, heard);
}

static void keep(struct world *w, const char *topic, const char *body, int64_t us, int want)
{
	assert_int_equal(store_begin(w->store, &w->err), 0);
	assert_int_equal(store_keep_state(w->store, topic, body, us, &w->err), want);
}

static int on_state(void *arg, const char *topic, const char *body, int64_t changed_us)
{
	struct world *w = arg;
	size_t len = strlen(w->walked);

	snprintf(w->walked + len, sizeof(w->walked) - len, "%s=%s@%lld;", topic, body,
		 (long long)changed_us);
	return 0;
}

static void expect_states(struct world *w, const char *prefix, const char *want)
{
	w->walked[0] = '\0';
	assert_int_equal(store_each_state(w->store, prefix, on_state, w, &w->err), 0);
	assert_string_equal(w->walked, want);
}

static void test_newest_state_wins(void **state)
{
	struct world *w = *state;

	keep(w, "gateway/g/ping/a/system/enable", "true", 100, 1);
	keep(w, "gateway/g/ping/a/system/enable", "false", 99, 0);
	keep(w, "gateway/g/ping/a/system/enable", "false", 100, 0);
	expect_states(w, "gateway/g/ping/a/", "gateway/g/ping/a/system/enable=true@100;");
	keep(w, "gateway/g/ping/a/system/enable", "false", 101, 1);
	assert_int_equal(reopen(w), 0); /* closing commits */
	expect_states(w, "", "gateway/g/ping/a/system/enable=false@101;");
}

static void test_prefixes(void **state)
{
	struct world *w = *state;

	keep(w, "g/a", "1", 1, 1);
	keep(w, "g/a/x", "2", 2, 1);
	keep(w, "g/a/\xc3\xa9", "3", 3, 1);
	keep(w, "g/ab", "4", 4, 1);
	keep(w, "g/a%25_", "5", 5, 1);
	expect_states(w, "g/a/", "g/a/x=2@2;g/a/\xc3\xa9=3@3;");
	expect_states(w, "g/a%", "g/a%25_=5@5;");
	expect_states(w, "h", "");
	assert_int_equal(store_drop_states(w->store, "g/a/", &w->err), 0);
	expect_states(w, "", "g/a=1@1;g/a%25_=5@5;g/ab=4@4;");
}

static int stop_at_once(void *arg, const char *topic, const char *body, int64_t changed_us)
{
	(void)topic;
	(void)body;
	(void)changed_us;
	++*(unsigned *)arg;
	return ERR_CONFLICT;
}

static void test_walk_ends(void **state)
{
	struct world *w = *state;
	unsigned n = 0;

	keep(w, "a", "1", 1, 1);
	keep(w, "b", "1", 1, 1);
	assert_int_equal(store_each_state(w->store, "", stop_at_once, &n, &w->err), ERR_CONFLICT);
	assert_int_equal(n, 1);
}

static int on_registration(void *arg, const char *id, const char *device)
{
	return on_state(arg, id, device, 0);
}

static void expect_registrations(struct world *w, const char *want)
{
	w->walked[0] = '\0';
	assert_int_equal(store_each_registration(w->store, on_registration, w, &w->err), 0);
	assert_string_equal(w->walked, want);
}

static void test_registrations(void **state)
{
	struct world *w = *state;

	assert_int_equal(store_begin(w->store, NULL), 0);
	assert_int_equal(store_add_registration(w->store, "id-2", "ping/b", NULL), 0);
	assert_int_equal(store_add_registration(w->store, "id-1", "ping/a", NULL), 0);
	assert_int_equal(store_add_registration(w->store, "id-1", "ping/c", NULL), 0);
	assert_int_equal(reopen(w), 0);
	expect_registrations(w, "id-1=ping/c@0;id-2=ping/b@0;");
	assert_int_equal(store_drop_registration(w->store, "id-1", NULL), 0);
	assert_int_equal(store_drop_registration(w->store, "id-9", NULL), 0);
	expect_registrations(w, "id-2=ping/b@0;");
}

static int on_number(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(int64_t *)arg = v[0].num;
	return 0;
}

/* Another connection sees what is committed. */
static int64_t ask(struct world *w, const char *sql)
{
	struct db *db;
	int64_t n = -1;

	assert_int_equal(db_open_sqlite_look(w->path, &db, &w->err), 0);
	if (db_run(db, &w->err, on_number, &n, sql) < 0)
		fail_msg("%s", w->err.text);
	db_close(db);
	return n;
}

static int64_t on_disk(struct world *w)
{
	return ask(w, "SELECT count(*) FROM state");
}

static void test_commit(void **state)
{
	struct world *w = *state;

	keep(w, "a", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
	assert_int_equal(w->heard, 0);
	assert_int_equal(on_disk(w), 0);
	await(w, 1);
	assert_int_equal(w->rc, 0);
	assert_int_equal(on_disk(w), 1);
	/* nothing is written: all is there already; not from within */
	assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
	assert_int_equal(w->heard, 1);
	await(w, 2);
	assert_int_equal(w->rc, 0);
}

static void test_commit_now(void **state)
{
	struct world *w = *state;

	assert_int_equal(store_commit(w->store), 0);
	keep(w, "a", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
	assert_int_equal(store_commit(w->store), 0);
	assert_int_equal(on_disk(w), 1);
	assert_int_equal(w->heard, 0);
	keep(w, "b", "1", 1, 1); /* another transaction: the first are not to wait for it */
	await(w, 1);
	assert_int_equal(w->rc, 0);
}

/* A burst shares commits: those who come within one wait for the same. */
static void test_burst(void **state)
{
	struct world *w = *state;
	char topic[24];

	for (int i = 0; i < 200; i++) {
		snprintf(topic, sizeof(topic), "%d", i);
		keep(w, topic, "1", 1, 1);
		assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
		assert_int_equal(loop_turn(w->loop, 0), 0);
	}
	await(w, 200);
	assert_int_equal(on_disk(w), 200);
}

static void test_forget(void **state)
{
	struct world *w = *state;
	struct world other = {.heard = 0};

	keep(w, "a", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
	assert_int_equal(store_on_commit(w->store, on_commit, &other, NULL), 0);
	store_forget(w->store, &other);
	await(w, 1);
	assert_int_equal(other.heard, 0);
}

static struct world *forgetful;

static void forget_the_other(void *arg, int rc)
{
	on_commit(arg, rc);
	store_forget(((struct world *)arg)->store, forgetful);
}

static void test_forget_while_told(void **state)
{
	struct world *w = *state;
	struct world other = {.heard = 0};

	forgetful = &other;
	keep(w, "a", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, forget_the_other, w, NULL), 0);
	assert_int_equal(store_on_commit(w->store, on_commit, &other, NULL), 0);
	await(w, 1);
	assert_int_equal(other.heard, 0);
}

static void write_again(void *arg, int rc)
{
	struct world *w = arg;

	on_commit(w, rc);
	if (w->heard < 3) {
		w->us++;
		keep(w, w->heard == 1 ? "one" : "two", "1", w->us, 1);
		assert_int_equal(store_on_commit(w->store, write_again, w, NULL), 0);
	}
}

static void test_write_when_told(void **state)
{
	struct world *w = *state;

	keep(w, "a", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, write_again, w, NULL), 0);
	await(w, 3);
	assert_int_equal(on_disk(w), 3);
	w->heard = 0;
	keep(w, "b", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, write_again, w, NULL), 0);
	w->store = store_close(w->store); /* closing ends what that begins, too */
	assert_int_equal(w->heard, 3);
	assert_int_equal(reopen(w), 0);
}

/* The engine gives the transaction up: all who wrote hear of it, nothing is half there. */
static void test_given_up(void **state)
{
	struct world *w = *state;

	keep(w, "a", "1", 1, 1);
	assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
	assert_int_equal(db_script(store_db(w->store), "ROLLBACK", NULL), 0);
	assert_true(store_begin(w->store, &w->err) < 0);
	await(w, 1);
	assert_true(w->rc < 0);
	assert_int_equal(on_disk(w), 0);
	for (int i = 0; i < 2000 && store_begin(w->store, &w->err) < 0; i++)
		assert_int_equal(loop_turn(w->loop, 10), 0);
	keep(w, "b", "1", 1, 1); /* by itself it is well again */
	assert_int_equal(store_on_commit(w->store, on_commit, w, NULL), 0);
	await(w, 2);
	assert_int_equal(w->rc, 0);
	assert_int_equal(on_disk(w), 1);
}

/* Somebody else writes: the loop does not stand still for each who would. */
static void test_locked(void **state)
{
	struct world *w = *state;
	struct db *other;

	assert_int_equal(db_open_sqlite(w->path, &other, NULL), 0);
	assert_int_equal(db_script(other, "BEGIN IMMEDIATE", NULL), 0);
	assert_int_equal(store_begin(w->store, &w->err), ERR_DB);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(store_begin(w->store, &w->err), ERR_DB);
	assert_non_null(strstr(w->err.text, "a moment ago"));
	assert_int_equal(db_script(other, "ROLLBACK", NULL), 0);
	db_close(other);
	for (int i = 0; i < 2000 && store_begin(w->store, &w->err) < 0; i++)
		assert_int_equal(loop_turn(w->loop, 10), 0);
	assert_true(db_in_transaction(store_db(w->store)));
}

/* ---- files that cannot be used ---- */

static void expect_refused(struct world *w, const char *words)
{
	w->store = store_close(w->store);
	int rc = store_open(w->loop, &w->settings, &w->store, &w->err);

	assert_true(rc < 0);
	assert_null(w->store);
	if (strstr(w->err.text, words) == NULL || strstr(w->err.text, w->path) == NULL)
		fail_msg("'%s' has no '%s', or no path", w->err.text, words);
}

static void test_newer(void **state)
{
	struct world *w = *state;

	assert_int_equal(db_script(store_db(w->store),
				   "INSERT INTO schema_version (version) VALUES (99)", NULL),
			 0);
	expect_refused(w, "version 99");
}

static void overwrite(struct world *w, off_t from, size_t len)
{
	char junk[4096];
	int fd = open(w->path, O_WRONLY | O_CLOEXEC);

	memset(junk, 0x5a, sizeof(junk));
	assert_true(fd >= 0 && len <= sizeof(junk));
	assert_int_equal(pwrite(fd, junk, len, from), len);
	close(fd);
}

static void test_no_database(void **state)
{
	struct world *w = *state;

	w->store = store_close(w->store);
	overwrite(w, 0, 100);
	expect_refused(w, "not a database");
}

/* Damage among the states is found at the start, not when a device is asked for. */
static void test_damaged(void **state)
{
	struct world *w = *state;
	char topic[24];

	for (int i = 0; i < 1000; i++) {
		snprintf(topic, sizeof(topic), "topic/%d", i);
		keep(w, topic, "true", 1, 1);
	}
	w->store = store_close(w->store);
	for (int page = 8; page < 14; page++)
		overwrite(w, page * 4096, 4096);
	expect_refused(w, "malformed");
}

static void test_not_ours(void **state)
{
	struct world *w = *state;
	struct db *db;

	w->store = store_close(w->store);
	assert_int_equal(unlink(w->path), 0);
	assert_int_equal(db_open_sqlite(w->path, &db, NULL), 0);
	assert_int_equal(db_script(db, "CREATE TABLE something (x INTEGER)", NULL), 0);
	db_close(db);
	expect_refused(w, "another program's");
}

/* A file of before learns to shrink. */
static void test_shrinks(void **state)
{
	struct world *w = *state;

	w->store = store_close(w->store);
	struct db *db;

	assert_int_equal(db_open_sqlite(w->path, &db, NULL), 0);
	assert_int_equal(db_script(db, "PRAGMA auto_vacuum=NONE; VACUUM", NULL), 0);
	db_close(db);
	assert_int_equal(reopen(w), 0);
	assert_int_equal(ask(w, "PRAGMA auto_vacuum"), 2);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_newest_state_wins),
		STORE_TEST(test_prefixes),
		STORE_TEST(test_walk_ends),
		STORE_TEST(test_registrations),
		STORE_TEST(test_commit),
		STORE_TEST(test_commit_now),
		STORE_TEST(test_burst),
		STORE_TEST(test_forget),
		STORE_TEST(test_forget_while_told),
		STORE_TEST(test_write_when_told),
		STORE_TEST(test_given_up),
		STORE_TEST(test_locked),
		STORE_TEST(test_newer),
		STORE_TEST(test_no_database),
		STORE_TEST(test_damaged),
		STORE_TEST(test_not_ours),
		STORE_TEST(test_shrinks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
