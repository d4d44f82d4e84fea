/* Frames over a real socket pair. */
#include "common/frames.h"
#include "common/util.h"
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
/* after what it needs */
#include <cmocka.h>

struct pair {
	int fds[2];
	struct frames a, b;
};

static int setup_head(void **state, enum frames_head head)
{
	struct pair *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p->fds),
			 0);
	frames_init(&p->a, p->fds[0], head);
	frames_init(&p->b, p->fds[1], head);
	*state = p;
	return 0;
}

static int setup(void **state)
{
	return setup_head(state, FRAMES_NUMBERED);
}

static int setup_plain(void **state)
{
	return setup_head(state, FRAMES_PLAIN);
}

static int teardown(void **state)
{
	struct pair *p = *state;
	frames_done(&p->a);
	frames_done(&p->b);
	closep(&p->fds[0]);
	closep(&p->fds[1]);
	free(p);
	return 0;
}

/* {"n":n,"pad":"xxx"} */
static struct frame *numbered(uint32_t number, int n, size_t pad)
{
	CLEANUP(freep)
	char *text = malloc(pad + 1);
	memset(text, 'x', pad);
	text[pad] = '\0';
	json_auto_t *msg = json_pack("{s:i, s:s}", "n", n, "pad", text);
	return frame_of(number, msg, NULL);
}

static int n_of(const struct frame *f)
{
	json_auto_t *msg = json_loadb(f->body, f->len, 0, NULL);
	return (int)json_integer_value(json_object_get(msg, "n"));
}

static struct frame *next(struct frames *c)
{
	struct err err = {0};
	struct frame *f = NULL;
	if (frames_read(c, &f, &err) < 0)
		fail_msg("%s", err.text);
	return f;
}

static void frames_come_whole_and_in_order(void **state)
{
	struct pair *p = *state;
	/* sizes around those of the socket's buffer, which takes none of the large ones whole */
	static const size_t pads[] = {0, 1, 100, 4096, 65536, 300000, 5, 2000000, 0};
	int sent = 0, got = 0;
	size_t taken = 0;
	for (; sent < 90; sent++)
		frames_put(&p->a, numbered((uint32_t)sent * 7, sent, pads[sent % 9]));
	while (got < sent) {
		assert_int_equal(frames_flush(&p->a, NULL), 0);
		struct frame *f = next(&p->b);
		if (f == NULL)
			continue;
		assert_int_equal(n_of(f), got);
		assert_int_equal(f->number, p->a.head == FRAMES_PLAIN ? 0 : got * 7);
		taken += FRAME_HEAD_MAX + f->len;
		frame_free(f);
		got++;
	}
	assert_false(frames_waiting(&p->a));
	assert_int_equal(p->a.waiting, 0);
	assert_int_equal(p->a.taken, taken);
}

static void a_frame_may_come_byte_by_byte(void **state)
{
	static const char bytes[] = "\x0a\0\0\0\x05\0\0\0{\"n\":12345}";
	struct pair *p = *state;
	char fixed[sizeof(bytes)];
	memcpy(fixed, bytes, sizeof(bytes));
	fixed[0] = (char)(sizeof(bytes) - 1 - 8);
	for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
		assert_null(next(&p->b));
		assert_int_equal(write(p->fds[0], &fixed[i], 1), 1);
	}
	struct frame *f = next(&p->b);
	assert_int_equal(f->number, 5);
	assert_int_equal(n_of(f), 12345);
	frame_free(f);
}

static int count_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void descriptors_come_with_their_frame(void **state)
{
	struct pair *p = *state;
	int before = count_fds(), ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (int i = 0; i < 30; i++) {
		struct frame *f = numbered(1, i, i % 3 == 0 ? 400000 : 10);
		for (int k = 0; k < i % 9; k++)
			assert_int_equal(frame_add_fd(f, ends[1], NULL), 0);
		frames_put(&p->a, f);
	}
	for (int i = 0; i < 30;) {
		assert_int_equal(frames_flush(&p->a, NULL), 0);
		struct frame *f = next(&p->b);
		if (f == NULL)
			continue;
		assert_int_equal(n_of(f), i);
		assert_int_equal(f->n_fds, i % 9);
		for (unsigned k = 0; k < f->n_fds; k++) {
			char byte;
			assert_int_equal(write(f->fds[k], "d", 1), 1);
			assert_int_equal(read(ends[0], &byte, 1), 1);
			assert_true(fcntl(f->fds[k], F_GETFD) & FD_CLOEXEC);
		}
		frame_free(f);
		i++;
	}
	struct frame *f = numbered(1, 1, 1);
	for (unsigned k = 0; k < FRAME_FDS_MAX; k++)
		assert_int_equal(frame_add_fd(f, ends[1], NULL), 0);
	assert_true(frame_add_fd(f, ends[1], NULL) < 0);
	frame_free(f);
	closep(&ends[0]);
	closep(&ends[1]);
	assert_int_equal(count_fds(), before);
}

static void rubbish_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{"\xff\xff\xff\xff\0\0\0\0", 8}, {"\x01\0\0\x01\0\0\0\0", 8},
		{"\x01\0\0\0\0\0\0\0{", 9},      {"\0\0\0\0\0\0\0\0", 8},
		{"\x02\0\0\0\0\0\0\0[", 9},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		void *s;
		struct frame *f = NULL;
		struct err err = {0};
		setup(&s);
		struct pair *p = s;
		assert_int_equal(write(p->fds[0], cases[i].bytes, cases[i].len), cases[i].len);
		assert_int_equal(frames_read(&p->b, &f, &err), ERR_PEER);
		assert_string_not_equal(err.text, "closed");
		assert_null(f);
		teardown(&s);
	}
}

/* Send raw bytes with descriptors. */
static void send_raw(int fd, const char *bytes, size_t len, int passed, unsigned n)
{
	union {
		char bytes[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} room = {{0}};
	struct iovec iov = {.iov_base = (char *)bytes, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = room.bytes,
			   .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (unsigned i = 0; i < n; i++)
		memcpy(CMSG_DATA(h) + i * sizeof(int), &passed, sizeof(int));
	assert_int_equal(sendmsg(fd, &m, 0), len);
}

static void descriptors_in_the_wrong_place_are_refused_and_closed(void **state)
{
	static const char head[] = "\x08\0\0\0\0\0\0\0", body[] = "{\"n\":12}";
	(void)state;
	int before = count_fds();
	for (int how = 0; how < 4; how++) {
		void *s;
		struct frame *f = NULL;
		setup(&s);
		struct pair *p = s;
		if (how == 0) { /* with the body */
			assert_int_equal(write(p->fds[0], head, 8), 8);
			send_raw(p->fds[0], body, 8, p->fds[0], 1);
		} else if (how == 1) { /* too many */
			send_raw(p->fds[0], head, 8, p->fds[0], 20);
		} else if (how == 2) { /* in two pieces of the head: too many together */
			send_raw(p->fds[0], head, 4, p->fds[0], 5);
			send_raw(p->fds[0], head + 4, 4, p->fds[0], 5);
		} else { /* and then nothing more: they are not kept */
			send_raw(p->fds[0], head, 8, p->fds[0], 5);
			assert_int_equal(frames_read(&p->b, &f, NULL), 0);
		}
		if (how < 3)
			assert_int_equal(frames_read(&p->b, &f, NULL), ERR_PEER);
		teardown(&s);
		assert_int_equal(count_fds(), before);
	}
}

/* A control socket carries none: what is sent is dropped by the kernel. */
static void plain_frames_have_no_descriptors(void **state)
{
	struct pair *p = *state;
	int before = count_fds();
	send_raw(p->fds[0], "\x07\0\0\0{\"n\":1}", 11, p->fds[0], 3);
	struct frame *f = next(&p->b);
	assert_int_equal(n_of(f), 1);
	assert_int_equal(f->n_fds, 0);
	frame_free(f);
	assert_int_equal(count_fds(), before);
}

static void the_end_of_the_other_side_is_told(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	struct frame *f = NULL;
	frames_put(&p->a, numbered(1, 1, 1));
	assert_int_equal(frames_flush(&p->a, NULL), 0);
	/* what it has not read makes the kernel say "reset" */
	frames_put(&p->b, numbered(1, 1, 1));
	assert_int_equal(frames_flush(&p->b, NULL), 0);
	closep(&p->fds[0]);
	assert_int_equal(frames_read(&p->b, &f, &err), 1);
	frame_free(f);
	assert_int_equal(frames_read(&p->b, &f, &err), ERR_PEER);
	assert_string_equal(err.text, "closed");
	frames_put(&p->b, numbered(1, 1, 1));
	assert_int_equal(frames_flush(&p->b, NULL), ERR_PEER);
}

static void what_has_not_begun_can_be_dropped(void **state)
{
	struct pair *p = *state;
	frames_put(&p->a, numbered(1, 1, 3000000));
	frames_put(&p->a, numbered(1, 2, 10));
	assert_int_equal(frames_flush(&p->a, NULL), 0);
	frames_drop(&p->a);
	assert_true(frames_waiting(&p->a));
	frames_put(&p->a, numbered(1, 3, 10));
	int got[2];
	for (int i = 0; i < 2;) {
		assert_int_equal(frames_flush(&p->a, NULL), 0);
		struct frame *f = next(&p->b);
		if (f != NULL)
			got[i++] = n_of(f);
		frame_free(f);
	}
	assert_int_equal(got[0], 1);
	assert_int_equal(got[1], 3);
	assert_false(frames_waiting(&p->a));
	frames_put(&p->a, numbered(1, 4, 10));
	frames_drop(&p->a);
	assert_false(frames_waiting(&p->a));
}

static void what_is_too_long_is_refused(void **state)
{
	CLEANUP(freep)
	char *text = malloc(FRAME_BODY_MAX + 1);
	int code = 0;
	(void)state;
	memset(text, 'x', FRAME_BODY_MAX);
	text[FRAME_BODY_MAX] = '\0';
	json_auto_t *msg = json_pack("{s:s}", "n", text);
	assert_null(frame_of(1, msg, &code));
	assert_int_equal(code, ERR_LIMIT);
	assert_null(frame_new(1, FRAME_BODY_MAX + 1));
}

/* The kernel lets only so many descriptors be on their way: then they have to wait. */
static void too_many_descriptors_on_their_way_wait(void **state)
{
	struct pair *p = *state;
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		const struct rlimit few = {40, 40};
		if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 ||
				       setresuid(1000, 1000, 1000) < 0))
			_exit(2);
		for (int i = 0; i < 20; i++) {
			struct frame *f = numbered(1, i, 10);
			while (f->n_fds < FRAME_FDS_MAX)
				if (frame_add_fd(f, STDERR_FILENO, NULL) < 0)
					_exit(3);
			frames_put(&p->a, f);
		}
		if (setrlimit(RLIMIT_NOFILE, &few) < 0 || frames_flush(&p->a, NULL) < 0)
			_exit(4);
		if (!p->a.stuck)
			_exit(5);
		for (int got = 0; got < 20;) {
			struct frame *f = NULL;
			if (frames_read(&p->b, &f, NULL) < 0)
				_exit(6);
			if (f == NULL && frames_flush(&p->a, NULL) < 0)
				_exit(7);
			if (f != NULL && (n_of(f) != got++ || f->n_fds != FRAME_FDS_MAX))
				_exit(8);
			frame_free(f);
		}
		_exit(p->a.stuck ? 9 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 5)
		skip(); /* not counted here */
	assert_int_equal(status, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(frames_come_whole_and_in_order),
		cmocka_unit_test_setup_teardown(frames_come_whole_and_in_order, setup_plain,
						teardown),
		T(a_frame_may_come_byte_by_byte),
		T(descriptors_come_with_their_frame),
		cmocka_unit_test(rubbish_is_refused),
		cmocka_unit_test(descriptors_in_the_wrong_place_are_refused_and_closed),
		cmocka_unit_test_setup_teardown(plain_frames_have_no_descriptors, setup_plain,
						teardown),
		T(the_end_of_the_other_side_is_told),
		T(what_has_not_begun_can_be_dropped),
		cmocka_unit_test(what_is_too_long_is_refused),
		T(too_many_descriptors_on_their_way_wait),
	};
	return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
