/* test_pieces.c - pieces of many sizes keep what is written to them, and give way to others. */
#include "agent/device/pieces.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MANY = 3000, ROUNDS = 20000 };

struct held {
	uint8_t *piece;
	size_t size;
	uint8_t mark;
};

static void check(const struct held *h)
{
	for (size_t i = 0; i < h->size; i++)
		assert_int_equal(h->piece[i], h->mark);
}

static void pieces_do_not_touch_each_other(void **state)
{
	static struct held held[MANY];
	struct pieces *p = pieces_new();
	unsigned seed = 7;
	(void)state;
	assert_non_null(p);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct held *h = &held[(unsigned)rand_r(&seed) % MANY];
		if (h->piece != NULL) {
			check(h);
			pieces_give(p, h->piece, h->size);
			h->piece = NULL;
			continue;
		}
		h->size = 1 + (unsigned)rand_r(&seed) % 1400;
		h->mark = (uint8_t)round;
		h->piece = pieces_take(p, h->size);
		assert_non_null(h->piece);
		assert_int_equal((uintptr_t)h->piece % sizeof(void *), 0);
		memset(h->piece, h->mark, h->size);
	}
	for (size_t i = 0; i < MANY; i++) {
		if (held[i].piece != NULL)
			check(&held[i]);
		pieces_give(p, held[i].piece, held[i].size);
	}
	pieces_free(p);
}

/* A burst leaves nothing: what comes after it begins with little again. */
static void a_burst_leaves_room_for_the_next(void **state)
{
	static void *pieces[MANY];
	struct pieces *p = pieces_new();
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = 0; i < MANY; i++) {
			pieces[i] = pieces_take(p, 300);
			assert_non_null(pieces[i]);
			memset(pieces[i], 1, 300);
		}
		for (size_t i = 0; i < MANY; i++)
			pieces_give(p, pieces[round == 1 ? MANY - 1 - i : i], 300);
	}
	pieces_free(p);
}

static void without_a_pool_a_piece_is_like_any_other(void **state)
{
	void *piece = pieces_take(NULL, 10);
	(void)state;
	assert_non_null(piece);
	pieces_give(NULL, piece, 10);
	pieces_give(NULL, NULL, 10);
	assert_null(pieces_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_do_not_touch_each_other),
		cmocka_unit_test(a_burst_leaves_room_for_the_next),
		cmocka_unit_test(without_a_pool_a_piece_is_like_any_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
