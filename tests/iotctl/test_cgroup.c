/* The room that control groups leave, in trees of the test's own. */
#include "common/util.h"
#include "iotctl/cgroup.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MIB (1024 * 1024)

static int setup(void **state)
{
	char *dir = strdup(P_tmpdir "/test-cgroup-XXXXXX");

	assert_non_null(mkdtemp(dir));
	*state = dir;
	return 0;
}

static int teardown(void **state)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -r %s", (char *)*state);
	assert_int_equal(system(command), 0);
	free(*state);
	return 0;
}

static void put(const char *root, const char *dir, const char *file, const char *text)
{
	char command[300];

	snprintf(command, sizeof(command), "mkdir -p %s/%s && printf '%s\\n' >%s/%s/%s", root, dir,
		 text, root, dir, file);
	assert_int_equal(system(command), 0);
}

static void the_narrowest_group_counts(void **state)
{
	const char *root = *state;
	int64_t limit = 0, used = 0;

	put(root, "a", "pids.max", "1000");
	put(root, "a", "pids.current", "900");
	put(root, "a/b", "pids.max", "max");
	put(root, "a/b", "pids.current", "10");
	put(root, "a/b/c", "pids.max", "500");
	put(root, "a/b/c", "pids.current", "10");
	assert_true(cgroup_room("0::/a/b/c\n", root, CGROUP_PIDS, &limit, &used));
	assert_int_equal(limit, 1000);
	assert_int_equal(used, 900);
	assert_false(cgroup_room("0::/a/b/c\n", root, CGROUP_MEMORY, &limit, &used));
	assert_false(cgroup_room("", root, CGROUP_PIDS, &limit, &used));
	assert_false(cgroup_room("nonsense", root, CGROUP_PIDS, &limit, &used));
}

static void cached_files_are_no_use_of_memory(void **state)
{
	const char *root = *state;
	int64_t limit = 0, used = 0;

	put(root, "x", "memory.max", "104857600");
	put(root, "x", "memory.current", "94371840");
	put(root, "x", "memory.stat", "anon 1\\ninactive_file 41943040\\nactive_file 7");
	assert_true(cgroup_room("0::/x\n", root, CGROUP_MEMORY, &limit, &used));
	assert_int_equal(limit, 100 * MIB);
	assert_int_equal(used, 50 * MIB);
}

static void the_first_version_has_a_tree_for_each_kind(void **state)
{
	static const char membership[] =
		"9:name=systemd:/\n8:pids:/svc\n4:cpu,memory:/svc/one\n0::/\n";
	const char *root = *state;
	int64_t limit = 0, used = 0;

	put(root, "pids/svc", "pids.max", "20");
	put(root, "pids/svc", "pids.current", "5");
	put(root, "memory/svc/one", "memory.limit_in_bytes", "9223372036854771712"); /* none */
	put(root, "memory/svc/one", "memory.usage_in_bytes", "1048576");
	assert_true(cgroup_room(membership, root, CGROUP_PIDS, &limit, &used));
	assert_int_equal(limit - used, 15);
	assert_false(cgroup_room(membership, root, CGROUP_MEMORY, &limit, &used));
	/* a container sees its own group as the root */
	put(root, "memory", "memory.limit_in_bytes", "67108864");
	put(root, "memory", "memory.usage_in_bytes", "1048576");
	assert_true(cgroup_room(membership, root, CGROUP_MEMORY, &limit, &used));
	assert_int_equal(limit, 64 * MIB);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_narrowest_group_counts),
		TEST(cached_files_are_no_use_of_memory),
		TEST(the_first_version_has_a_tree_for_each_kind),
	};

	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
