/* test_drain.c - what a client still sends after its last answer is read away, but not for ever. */
#include "common/drain.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define PIECE_BYTES 16384u
#define ENOUGH	    (64u << 20) /* much more than is promised to be read */

/* Each piece is read before the next one comes, so no callback ever reads much. */
static void small_pieces_count_as_much_as_large_ones(void **state)
{
	static char piece[PIECE_BYTES];
	struct loop *l;
	size_t sent = 0;
	int ends[2];
	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	struct drain *d = drain_new(l);
	assert_non_null(d);
	drain_add(d, ends[0]);
	close(ends[0]); /* the drain has its own */
	while (sent < ENOUGH && send(ends[1], piece, sizeof(piece), MSG_NOSIGNAL) == (ssize_t)sizeof(piece)) {
		sent += sizeof(piece);
		loop_turn(l, 0);
	}
	assert_true(sent > 1u << 20);
	assert_true(sent < ENOUGH);
	close(ends[1]);
	drain_free(d);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_pieces_count_as_much_as_large_ones),
	};
	return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
