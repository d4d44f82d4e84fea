/* A bundle comes back as it was written, or not at all. */
#include "common/util.h"
#include "iotctl/bundle.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SMALL "key\n"
#define LARGE 200000

struct place {
	char dir[32], path[64];
	int small, large; /* descriptors of files without names */
};

static int unnamed(const char *dir, const void *data, size_t len)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	return fd;
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	unsigned char *noise = malloc(LARGE);

	snprintf(p->dir, sizeof(p->dir), P_tmpdir "/test-bundle-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/b.tar", p->dir);
	randombytes_buf(noise, LARGE);
	p->small = unnamed(p->dir, SMALL, strlen(SMALL));
	p->large = unnamed(p->dir, noise, LARGE);
	free(noise);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	unlink(p->path);
	assert_int_equal(rmdir(p->dir), 0); /* nothing else was left */
	close(p->small);
	close(p->large);
	free(p);
	return 0;
}

static int save(const struct place *p, bool force, struct err *err)
{
	struct bundle_member m[] = {{.name = "large", .fd = p->large, .schema = 3},
				    {.name = "small", .fd = p->small}};

	for (size_t i = 0; i < ARRAY_LEN(m); i++)
		assert_int_equal(bundle_measure(&m[i], NULL), 0);
	return bundle_save(p->path, force, m, ARRAY_LEN(m), err);
}

struct seen {
	size_t large_bytes;
	char small[64];
	int64_t schema;
	unsigned ends;
};

static int on_manifest(void *arg, json_t *manifest, struct err *err)
{
	struct seen *s = arg;

	(void)err;
	s->schema = json_integer_value(
		json_object_get(json_array_get(json_object_get(manifest, "members"), 0), "schema"));
	return 0;
}

static int on_data(void *arg, const char *name, const void *data, size_t len, struct err *err)
{
	struct seen *s = arg;

	(void)err;
	if (strcmp(name, "large") == 0)
		s->large_bytes += len;
	else
		snprintf(s->small, sizeof(s->small), "%.*s", (int)len, (const char *)data);
	return 0;
}

static int on_end(void *arg, const char *name, struct err *err)
{
	(void)name;
	(void)err;
	((struct seen *)arg)->ends++;
	return 0;
}

static const struct bundle_events events = {on_manifest, on_data, on_end};

static int load(const struct place *p, struct seen *s, struct err *err)
{
	CLEANUP(closep)
	int fd = open(p->path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	*s = (struct seen){0};
	return bundle_load(fd, p->path, &events, s, err);
}

static void it_comes_back_as_it_was(void **state)
{
	const struct place *p = *state;
	struct stat st;
	struct seen s;

	assert_int_equal(save(p, false, NULL), 0);
	assert_int_equal(stat(p->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(load(p, &s, NULL), 0);
	assert_int_equal(s.large_bytes, LARGE);
	assert_string_equal(s.small, SMALL);
	assert_int_equal(s.schema, 3);
	assert_int_equal(s.ends, 2);
}

static void a_file_that_is_there_is_replaced_only_by_force(void **state)
{
	const struct place *p = *state;
	struct seen s;

	assert_int_equal(save(p, false, NULL), 0);
	assert_int_equal(pwrite(p->small, "new", 3, 0), 3);
	assert_int_equal(save(p, false, NULL), ERR_EXIST);
	assert_int_equal(load(p, &s, NULL), 0);
	assert_string_equal(s.small, SMALL);
	assert_int_equal(save(p, true, NULL), 0);
	assert_int_equal(load(p, &s, NULL), 0);
	assert_string_equal(s.small, "new\n");
}

static void a_member_that_changes_meanwhile_is_noticed(void **state)
{
	const struct place *p = *state;
	struct bundle_member m = {.name = "small", .fd = p->small};

	assert_int_equal(bundle_measure(&m, NULL), 0);
	assert_int_equal(pwrite(p->small, "KEY", 3, 0), 3);
	assert_int_equal(bundle_save(p->path, false, &m, 1, NULL), ERR_CONFLICT);
	assert_int_equal(access(p->path, F_OK), -1);
}

/* As on a disk that is full, at some place or other. */
static void a_write_that_fails_leaves_nothing(void **state)
{
	const struct place *p = *state;
	struct rlimit before, small;
	struct err err = {0};

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	for (rlim_t bytes = 0; bytes < LARGE; bytes += 33333) {
		small = before;
		small.rlim_cur = bytes;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
		int rc = save(p, false, &err);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		assert_int_equal(rc, ERR_SYS);
		assert_non_null(strstr(err.text, "File too large"));
		assert_int_equal(access(p->path, F_OK), -1);
	}
	assert_int_equal(save(p, false, &err), 0);
}

/* Wherever it is cut, as long as something of the members is gone. */
static void a_cut_one_is_refused(void **state)
{
	const struct place *p = *state;
	struct err err = {0};
	struct stat st;
	struct seen s;

	for (int i = 0; i < 40; i++) {
		assert_int_equal(save(p, true, NULL), 0);
		assert_int_equal(stat(p->path, &st), 0);
		off_t whole = st.st_size - 1024 - 512 +
			      (off_t)strlen(SMALL); /* without padding and end */
		off_t left = whole * i / 40;

		assert_int_equal(truncate(p->path, left), 0);
		if (load(p, &s, &err) != ERR_PARSE)
			fail_msg("%lld of %lld bytes: %s", (long long)left, (long long)st.st_size,
				 err.text);
	}
}

/* Any byte of a member that is another one. */
static void a_damaged_one_is_refused(void **state)
{
	const struct place *p = *state;
	struct err err = {0};
	struct stat st;
	struct seen s;

	for (int i = 0; i < 40; i++) {
		assert_int_equal(save(p, true, NULL), 0);
		assert_int_equal(stat(p->path, &st), 0);
		CLEANUP(closep)
		int fd = open(p->path, O_RDWR | O_CLOEXEC);
		/* behind manifest and header of the large one */
		off_t at = st.st_size - 4096 - LARGE / 40 * i;
		unsigned char byte;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		if (load(p, &s, &err) != ERR_PARSE || strstr(err.text, "large") == NULL)
			fail_msg("byte %lld: %s", (long long)at, err.text);
	}
}

static void what_is_no_bundle_is_refused(void **state)
{
	const struct place *p = *state;
	/* in the directory of the test, which makes b.tar */
	static const char *const commands[] = {
		": >b.tar",
		"printf hello >b.tar",
		"head -c 20000 /dev/urandom >b.tar",
		"echo a >other; tar cf b.tar other; rm other",
		"echo '{}' >manifest.json; tar cf b.tar manifest.json; rm manifest.json",
		"echo nonsense >manifest.json; tar cf b.tar manifest.json; rm manifest.json",
	};
	struct err err = {0};
	struct seen s;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		char command[300];

		snprintf(command, sizeof(command), "cd %s && %s", p->dir, commands[i]);
		assert_int_equal(system(command), 0);
		if (load(p, &s, &err) != ERR_PARSE)
			fail_msg("%s: %s", command, err.text);
	}
}

static void a_newer_format_is_told_as_such(void **state)
{
	const struct place *p = *state;
	char command[400];
	struct err err = {0};
	struct seen s;

	snprintf(command, sizeof(command),
		 "cd %s && echo '{\"backup\": \"iottalk\", \"format\": 2, \"members\": []}' "
		 ">manifest.json && "
		 "tar cf b.tar manifest.json; rm manifest.json",
		 p->dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(load(p, &s, &err), ERR_SCHEMA);
	assert_non_null(strstr(err.text, "newer"));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(it_comes_back_as_it_was),
		TEST(a_file_that_is_there_is_replaced_only_by_force),
		TEST(a_member_that_changes_meanwhile_is_noticed),
		TEST(a_write_that_fails_leaves_nothing),
		TEST(a_cut_one_is_refused),
		TEST(a_damaged_one_is_refused),
		TEST(what_is_no_bundle_is_refused),
		TEST(a_newer_format_is_told_as_such),
	};

	return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}
