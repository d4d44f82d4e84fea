#include "common/shortage.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static void a_value_that_got_all_its_memory_counts_nothing(void **state)
{
	(void)state;
	unsigned long before = shortage_count();
	json_t *o = json_pack("{s:[i,i], s:s}", "a", 1, 2, "b", "c");
	assert_non_null(o);
	json_decref(o);
	assert_int_equal(shortage_count(), before);
}

/* More than the address space may hold. */
static void one_that_did_not_is_counted(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* its own allocator needs all the address space there is */
#endif
	unsigned long before = shortage_count();
	size_t len = (size_t)256 << 20;
	char *text = malloc(len + 1);
	assert_non_null(text);
	memset(text, 'x', len);
	text[len] = '\0';
	struct rlimit was, now;
	assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
	now = (struct rlimit){.rlim_cur = len, .rlim_max = was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
	json_t *string = json_stringn_nocheck(text, len);
	assert_int_equal(setrlimit(RLIMIT_AS, &was), 0);
	free(text);
	assert_null(string); /* more than the reserve has, too */
	assert_true(shortage_count() > before);
}

static void a_value_that_lives_long_does_not_use_the_reserve_up(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip();
#endif
	static char text[1 << 20];
	unsigned long before = shortage_count();
	struct rlimit was, now;
	unsigned made = 0;
	memset(text, 'x', sizeof(text));
	assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
	now = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
	json_t *kept = json_stringn_nocheck(text, sizeof(text));
	for (unsigned i = 0; i < 100; i++) {
		json_t *one = json_stringn_nocheck(text, sizeof(text));
		made += one != NULL;
		json_decref(one);
	}
	assert_int_equal(setrlimit(RLIMIT_AS, &was), 0);
	assert_non_null(kept);
	json_decref(kept);
	assert_int_equal(made, 100);
	assert_int_equal(shortage_count(), before + 101);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_that_got_all_its_memory_counts_nothing),
		cmocka_unit_test(one_that_did_not_is_counted),
		cmocka_unit_test(a_value_that_lives_long_does_not_use_the_reserve_up),
	};
	shortage_watch_json();
	return cmocka_run_group_tests_name("shortage", tests, NULL, NULL);
}
