#include "common/err.h"
#include "common/map.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MANY 20000

struct item {
	char key[16];
	unsigned freed;
};

static void free_item(void *value)
{
	struct item *i = value;
	i->freed++;
}

static struct item *items_new(void)
{
	struct item *items = test_calloc(MANY, sizeof(*items));
	for (size_t i = 0; i < MANY; i++) /* in no order: 7919 is prime */
		snprintf(items[i].key, sizeof(items[i].key), "%05zu", i * 7919 % MANY);
	return items;
}

struct walk {
	const char *last;
	size_t n;
};

static void in_order(void *arg, const char *key, void *value)
{
	struct walk *w = arg;
	assert_string_equal(key, ((struct item *)value)->key);
	assert_true(w->last == NULL || strcmp(w->last, key) < 0);
	w->last = key;
	w->n++;
}

static void values_are_found_until_removed(void **state)
{
	(void)state;
	struct item *items = items_new();
	struct map *m = map_new();
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(map_add(m, items[i].key, &items[i]), 0);
	assert_int_equal(map_count(m), MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_ptr_equal(map_find(m, items[i].key), &items[i]);
	for (size_t i = 0; i < MANY; i += 2)
		assert_ptr_equal(map_remove(m, items[i].key), &items[i]);
	for (size_t i = 0; i < MANY; i++)
		assert_ptr_equal(map_find(m, items[i].key), i % 2 == 0 ? NULL : &items[i]);
	assert_null(map_remove(m, items[0].key));
	assert_int_equal(map_count(m), MANY / 2);
	assert_null(map_free(m, free_item));
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(items[i].freed, i % 2);
	test_free(items);
}

static void a_known_key_is_not_replaced(void **state)
{
	(void)state;
	struct map *m = map_new();
	int one = 1, two = 2;
	char same[] = "k";
	assert_int_equal(map_add(m, "k", &one), 0);
	assert_int_equal(map_add(m, same, &two), ERR_EXIST);
	assert_ptr_equal(map_find(m, "k"), &one);
	assert_int_equal(map_count(m), 1);
	assert_null(map_find(m, "K"));
	map_free(m, NULL);
}

static void walks_are_in_key_order(void **state)
{
	(void)state;
	struct item *items = items_new();
	struct map *m = map_new();
	struct walk w = {0};
	for (size_t i = 0; i < MANY; i++)
		map_add(m, items[i].key, &items[i]);
	map_each(m, in_order, &w);
	assert_int_equal(w.n, MANY);
	void **values = map_values(m);
	for (size_t i = 0; i + 1 < MANY; i++)
		assert_true(strcmp(((struct item *)values[i])->key,
				   ((struct item *)values[i + 1])->key) < 0);
	assert_null(values[MANY]);
	for (size_t i = 0; i < MANY; i++) /* the array is for walks that change the map */
		assert_ptr_equal(map_remove(m, ((struct item *)values[i])->key), values[i]);
	assert_int_equal(map_count(m), 0);
	free(values);
	map_free(m, free_item);
	test_free(items);
}

static void an_empty_map_is_fine(void **state)
{
	(void)state;
	struct map *m = map_new();
	struct walk w = {0};
	map_each(m, in_order, &w);
	void **values = map_values(m);
	assert_non_null(values);
	assert_null(values[0]);
	assert_null(map_find(m, ""));
	assert_null(map_remove(m, "x"));
	free(values);
	assert_null(map_free(m, free_item));
	assert_null(map_free(NULL, free_item));
	assert_int_equal(w.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_found_until_removed),
		cmocka_unit_test(a_known_key_is_not_replaced),
		cmocka_unit_test(walks_are_in_key_order),
		cmocka_unit_test(an_empty_map_is_fine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
