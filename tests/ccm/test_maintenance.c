/* test_maintenance.c - the modes of the program: they can do everything, so nothing of it is replaced. */
#define WORLD_WITH_DRIVE
#include "world.h"

#include "ccm/maintenance.h"
#include <fcntl.h>
#include <sys/stat.h>

struct place {
	char dir[64], ini[96], out[96], file[96];
};
static struct place p;

static int place(void **state)
{
	if (setup(state) < 0)
		return -1;
	ccm.db = db_close(ccm.db);
	p = (struct place){.dir = P_tmpdir "/test_modes.XXXXXX"};
	if (mkdtemp(p.dir) == NULL)
		return -1;
	snprintf(p.ini, sizeof(p.ini), "%s/i.ini", p.dir);
	snprintf(p.out, sizeof(p.out), "%s/out", p.dir);
	snprintf(p.file, sizeof(p.file), "%s/f.json", p.dir);
	FILE *f = fopen(p.ini, "w");
	fprintf(f, "[core]\nuserdir = %s/u\n", p.dir);
	return fclose(f);
}

static int unplace(void **state)
{
	char remove[100];
	snprintf(remove, sizeof(remove), "rm -rf '%s'", p.dir);
	return teardown(state) == 0 ? system(remove) : -1;
}

static void write_file(const char *text)
{
	FILE *f = fopen(p.file, "w");
	for (; *text != '\0'; text++)
		fputc(*text == '\'' ? '"' : *text, f);
	assert_int_equal(fclose(f), 0);
}

/* Run a mode. ret: what the process would exit with; said: stdout and stderr */
static int mode(char *said, size_t cap, char *name, char *more)
{
	char program[] = "ccm", c[] = "-c";
	char *argv[] = {program, name, c, p.ini, more, NULL};
	int status = -1, fd = open(p.out, O_RDWR | O_CREAT | O_TRUNC, 0600), out = dup(1), errors = dup(2);
	fflush(NULL);
	dup2(fd, 1);
	dup2(fd, 2);
	bool is_mode = maintenance_run(more != NULL ? 5 : 4, argv, &status);
	fflush(NULL);
	dup2(out, 1);
	dup2(errors, 2);
	ssize_t n = pread(fd, said, cap - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	close(fd);
	close(out);
	close(errors);
	assert_true(is_mode);
	return status;
}

static void open_store(void)
{
	char path[100];
	snprintf(path, sizeof(path), "%s/u/iottalk-gui.db", p.dir);
	assert_int_equal(db_open_sqlite(path, &ccm.db, NULL), 0);
}

static void init_seeds_a_new_store_and_leaves_another_alone(void **state)
{
	char said[2000], init[] = "init", import_mode[] = "import", seed[] = "conf/ccm-seed.json";
	(void)state;
	assert_int_equal(mode(said, sizeof(said), init, NULL), 0);
	if (strstr(said, "2 models made") == NULL)
		fail_msg("%s", said);
	open_store();
	assert_int_equal(number("SELECT unit_id FROM Unit WHERE unit_name = 'None'"), 1);
	assert_int_equal(number("SELECT count(*) FROM User"), 0);
	assert_int_equal(number("SELECT count(*) FROM Function WHERE is_protect = 0"), 0);
	assert_int_equal(number("SELECT count(*) FROM DM_DF JOIN DeviceModel USING (dm_id) WHERE dm_name = 'Dummy_Device'"), 2);
	assert_int_equal(number("SELECT count(*) FROM DM_DF JOIN DeviceModel USING (dm_id) WHERE dm_name = 'Smartphone'"), 14);
	sql("UPDATE DeviceFeature SET comment = 'mine'");
	assert_int_equal(mode(said, sizeof(said), init, NULL), 0);
	assert_non_null(strstr(said, "nothing was changed"));
	assert_int_equal(mode(said, sizeof(said), import_mode, seed), 0);
	assert_non_null(strstr(said, "nothing new"));
	assert_int_equal(number("SELECT count(*) FROM DeviceFeature WHERE comment <> 'mine'"), 0);
}

static void import_says_what_it_did_or_what_is_wrong(void **state)
{
	char said[2000], name[] = "import", nowhere[] = "/nowhere/x.json";
	(void)state;
	write_file("{'Unit':[{'unit_name':'K'},{'unit_name':'m'}]}");
	assert_int_equal(mode(said, sizeof(said), name, p.file), 0);
	assert_non_null(strstr(said, "f.json: 2 units made\n"));
	write_file("{'Unit':[{'unit_name':'s'}],'Tag':[{}]}");
	assert_int_equal(mode(said, sizeof(said), name, p.file), 1);
	assert_non_null(strstr(said, "f.json: `Tag[0].tag_name` is missing\n"));
	assert_int_equal(mode(said, sizeof(said), name, nowhere), 1);
	assert_non_null(strstr(said, "/nowhere/x.json: No such file"));
	assert_int_equal(mode(said, sizeof(said), name, p.dir), 1);
	assert_non_null(strstr(said, "is a directory"));
	assert_int_equal(mode(said, sizeof(said), name, NULL), 2);
	assert_non_null(strstr(said, "usage: ccm import"));
	open_store();
	assert_int_equal(number("SELECT count(*) FROM Unit"), 3);
}

static void no_mode_runs_while_a_restore_is_half_done(void **state)
{
	char said[2000], init[] = "init", path[100];
	(void)state;
	snprintf(path, sizeof(path), "%s/u", p.dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/u/restore.journal", p.dir);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(mode(said, sizeof(said), init, NULL), 1);
	assert_non_null(strstr(said, "a restore was interrupted"));
}

static void what_is_no_mode_is_the_daemons(void **state)
{
	char program[] = "ccm", option[] = "-c", *argv[] = {program, option, p.ini, NULL};
	int status = 42;
	(void)state;
	assert_false(maintenance_run(3, argv, &status));
	assert_false(maintenance_run(1, argv, &status));
	assert_int_equal(status, 42);
}

int main(void)
{
#define P(name) cmocka_unit_test_setup_teardown(name, place, unplace)
	const struct CMUnitTest tests[] = {
		P(init_seeds_a_new_store_and_leaves_another_alone),
		P(import_says_what_it_did_or_what_is_wrong),
		P(no_mode_runs_while_a_restore_is_half_done),
		P(what_is_no_mode_is_the_daemons),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
