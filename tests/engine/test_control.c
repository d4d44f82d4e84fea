/* engine control frames over a socket. */
#include "engine/control.h"

#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
/* after what it needs */
#include <cmocka.h>

struct line {
	struct control c;
	int fd; /* the other end */
};

static int begin(void **state)
{
	struct line *l = calloc(1, sizeof(*l));
	int fds[2];
	assert_non_null(l);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(control_init(&l->c, fds[0], NULL), 0);
	l->fd = fds[1];
	*state = l;
	return 0;
}

static int end(void **state)
{
	struct line *l = *state;
	close(l->c.fd);
	control_done(&l->c);
	closep(&l->fd);
	free(l);
	return 0;
}

static void frames_come_whole_in_order_and_one_at_a_time(void **state)
{
	struct line *l = *state;
	json_t *frame = NULL;
	struct err err;
	static const char two[] = "\x07\0\0\0{\"a\":1}\x07\0\0\0{\"a\":2}";
	assert_int_equal(control_read(&l->c, &frame, &err), 0);
	for (size_t i = 0; i < 10; i++) {
		assert_int_equal(write(l->fd, two + i, 1), 1);
		assert_int_equal(control_read(&l->c, &frame, &err), 0);
	}
	assert_int_equal(write(l->fd, two + 10, sizeof(two) - 11), sizeof(two) - 11);
	for (int i = 1; i <= 2; i++) {
		assert_int_equal(control_read(&l->c, &frame, &err), 1);
		assert_int_equal(json_integer_value(json_object_get(frame, "a")), i);
		json_decref(frame);
	}
	assert_int_equal(control_read(&l->c, &frame, &err), 0);
	closep(&l->fd);
	assert_int_equal(control_read(&l->c, &frame, &err), ERR_PEER);
	assert_string_equal(err.text, "closed");
}

static void what_is_no_frame_is_an_error(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{"\0\0\0\0", 4},     {"\x02\0\0\0[]", 6},     {"\x01\0\0\0{", 5},
		{"\x01\0\0\x01", 4}, {"\xff\xff\xff\xff", 4}, {"\x04\0\0\0null", 8},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		void *one;
		json_t *frame = NULL;
		struct err err = {0};
		begin(&one);
		struct line *l = one;
		assert_int_equal(write(l->fd, cases[i].bytes, cases[i].len), cases[i].len);
		assert_int_equal(control_read(&l->c, &frame, &err), ERR_PEER);
		assert_string_not_equal(err.text, "closed");
		assert_null(frame);
		end(&one);
	}
	(void)state;
}

static void a_reader_that_is_slow_blocks_nobody(void **state)
{
	struct line *l = *state;
	struct err err;
	const size_t text_bytes = 3000, frames = 1000;
	CLEANUP(freep)
	char *text = malloc(text_bytes);
	memset(text, 'x', text_bytes);
	for (size_t i = 0; i < frames; i++)
		assert_int_equal(
			control_write(&l->c,
				      json_pack("{s:i, s:s%}", "n", (int)i, "t", text, text_bytes),
				      &err),
			0);
	assert_true(control_waiting(&l->c) > 0);

	struct control reader;
	assert_int_equal(control_init(&reader, l->fd, NULL), 0);
	for (size_t i = 0; i < frames;) {
		json_t *frame = NULL;
		int rc = control_read(&reader, &frame, &err);
		assert_true(rc >= 0);
		if (rc == 0) {
			assert_true(control_waiting(&l->c) > 0);
			assert_int_equal(control_flush(&l->c, &err), 0);
			continue;
		}
		assert_int_equal(json_integer_value(json_object_get(frame, "n")), i++);
		assert_int_equal(json_string_length(json_object_get(frame, "t")), text_bytes);
		json_decref(frame);
	}
	assert_int_equal(control_waiting(&l->c), 0);
	control_done(&reader);
	assert_int_equal(control_write(&l->c, NULL, &err), ERR_NOMEM);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		T(frames_come_whole_in_order_and_one_at_a_time),
		cmocka_unit_test(what_is_no_frame_is_an_error),
		T(a_reader_that_is_slow_blocks_nobody),
	};
	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
