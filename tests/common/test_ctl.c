/* test_ctl.c - the control socket: a server on a loop of its own thread, clients here. */
#include "common/ctl.h"
#include "common/loop.h"
#include "common/util.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct server {
	char dir[200], path[256];
	struct loop *loop;
	struct ctl *ctl;
	struct ctl_call *kept; /* of op "keep", answered by op "release" */
	pthread_t thread;
};

/* ---- ops ---- */

static void op_echo(void *arg, json_t *request, struct ctl_call *call)
{
	(void)arg;
	ctl_answer(call, json_pack("{s:s, s:O}", "state", "ok", "echo", request));
}

static void op_fail(void *arg, json_t *request, struct ctl_call *call)
{
	(void)arg;
	(void)request;
	ctl_answer_error(call, "no \xff way"); /* not UTF-8: must still become an error */
}

static void op_keep(void *arg, json_t *request, struct ctl_call *call)
{
	struct server *s = arg;

	(void)request;
	assert_null(s->kept);
	s->kept = call;
}

static void op_release(void *arg, json_t *request, struct ctl_call *call)
{
	struct server *s = arg;

	(void)request;
	ctl_answer(call, json_pack("{s:b}", "had_one", s->kept != NULL));
	if (s->kept != NULL)
		ctl_answer(TAKE(s->kept), json_pack("{s:s}", "late", "answer"));
}

static void op_big(void *arg, json_t *request, struct ctl_call *call)
{
	size_t n = (size_t)json_integer_value(json_object_get(request, "bytes"));
	CLEANUP(freep)
	char *text = malloc(n + 1);

	(void)arg;
	assert_non_null(text);
	memset(text, 'x', n);
	text[n] = '\0';
	ctl_answer(call, json_pack("{s:s}", "text", text));
}

static const struct ctl_op ops[] = {
	{"echo", "give back", op_echo}, {"fail", "fail", op_fail}, {"keep", "wait", op_keep},
	{"release", "end", op_release}, {"big", "much", op_big},
};

/* ---- the server ---- */

static void *serve(void *arg)
{
	struct server *s = arg;

	loop_run(s->loop);
	return NULL;
}

static void quit(void *arg)
{
	struct server *s = arg;

	s->ctl = ctl_close(s->ctl);
	loop_quit(s->loop, 0);
}

static int setup(void **state)
{
	struct server *s = calloc(1, sizeof(*s));
	struct err err = {0};

	assert_non_null(s);
	/* Deeper than a socket address is long. */
	strcpy(s->dir,
	       "/tmp/"
	       "test_ctl-with-a-directory-name-that-is-much-longer-than-any-socket-address-of-the-"
	       "kernel-can-be-since-those-end-at-108-bytes.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/x.sock", s->dir);
	assert_true(strlen(s->path) > sizeof(((struct sockaddr_un *)0)->sun_path));
	assert_int_equal(loop_new(&s->loop, &err), 0);
	assert_int_equal(ctl_listen(s->loop, s->path, ops, ARRAY_LEN(ops), s, &s->ctl, &err), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct server *s = *state;

	loop_post(s->loop, quit, s);
	pthread_join(s->thread, NULL);
	if (s->kept != NULL) /* open at the end: answered to nobody */
		ctl_answer_error(TAKE(s->kept), "too late");
	loop_free(s->loop);
	assert_int_equal(access(s->path, F_OK), -1); /* the socket is taken away */
	rmdir(s->dir);
	free(s);
	return 0;
}

static int request(struct server *s, const char *text, int timeout_ms, json_t **ret,
		   struct err *err)
{
	json_auto_t *o = json_loads(text, 0, NULL);

	assert_non_null(o);
	return ctl_request(s->path, o, timeout_ms, ret, err);
}

/* A raw connection, for what ctl_request() would never send. */
static int connect_raw(struct server *s)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 10};
	char cwd[1000];

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(s->dir), 0);
	strcpy(addr.sun_path, "x.sock");
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(chdir(cwd), 0);
	return fd;
}

static void send_raw(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0)
			return; /* it may hang up on rubbish */
		data += n;
		len -= (size_t)n;
	}
}

/* ret: characters up to the newline, 0 at the end of the connection */
static size_t read_line(int fd, char *buf, size_t cap)
{
	size_t used = 0;

	while (used + 1 < cap && recv(fd, buf + used, 1, 0) == 1) {
		if (buf[used] == '\n') {
			buf[used] = '\0';
			return used;
		}
		used++;
	}
	buf[used] = '\0';
	return 0;
}

/* ---- tests ---- */

static void request_is_answered(void **state)
{
	json_t *answer = NULL;
	struct err err = {0};

	assert_int_equal(
		request(*state, "{\"op\":\"echo\",\"x\":[1,\"\\u00e9\"]}", 5000, &answer, &err), 0);
	json_t *echo = json_object_get(answer, "echo");

	assert_string_equal(json_string_value(json_array_get(json_object_get(echo, "x"), 1)),
			    "\xc3\xa9");
	json_decref(answer);
}

static void socket_is_private(void **state)
{
	struct server *s = *state;
	struct stat st;

	assert_int_equal(stat(s->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void refusals_carry_the_reason(void **state)
{
	static const struct {
		const char *request, *words;
	} cases[] = {
		{"{\"op\":\"nonsense\"}", "op nonsense unknown"},
		{"{\"op\":7}", "no op"},
		{"{}", "no op"},
		{"[1]", "not a JSON object"},
		{"{\"op\":\"fail\"}", ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *answer = NULL;
		struct err err = {0};
		int rc = request(*state, cases[i].request, 5000, &answer, &err);

		if (rc != ERR_PEER || strstr(err.text, cases[i].words) == NULL)
			fail_msg("%s: %d '%s'", cases[i].request, rc, err.text);
		assert_null(answer);
	}
}

static void help_lists_the_ops(void **state)
{
	json_t *answer = NULL;

	assert_int_equal(request(*state, "{\"op\":\"help\"}", 5000, &answer, NULL), 0);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(answer, "ops"), "echo")),
		"give back");
	json_decref(answer);
}

static void big_answers_arrive_whole(void **state)
{
	json_t *answer = NULL;

	assert_int_equal(
		request(*state, "{\"op\":\"big\",\"bytes\":5000000}", 10000, &answer, NULL), 0);
	assert_int_equal(json_string_length(json_object_get(answer, "text")), 5000000);
	json_decref(answer);
}

static void late_answer_reaches_its_asker_while_others_are_served(void **state)
{
	struct server *s = *state;
	int fd = connect_raw(s);
	char line[200];
	json_t *answer = NULL;
	struct err err = {0};

	send_raw(fd, "{\"op\":\"keep\"}\n{\"op\":\"echo\"}\n", 28);
	do { /* until the server has taken the first request up */
		json_decref(answer);
		answer = NULL;
		assert_int_equal(request(s, "{\"op\":\"release\"}", 5000, &answer, &err), 0);
	} while (!json_is_true(json_object_get(answer, "had_one")));
	json_decref(answer);
	assert_true(read_line(fd, line, sizeof(line)) > 0);
	assert_string_equal(line, "{\"late\":\"answer\"}");
	assert_true(read_line(fd, line, sizeof(line)) > 0); /* the second one waited */
	assert_non_null(strstr(line, "echo"));
	close(fd);
}

static void client_gives_up_in_time(void **state)
{
	json_t *answer = NULL;
	struct err err = {0};

	assert_int_equal(request(*state, "{\"op\":\"keep\"}", 100, &answer, &err), ERR_TIMEOUT);
	assert_null(answer);
	/* The asker is gone; answering it now must not hurt. */
	assert_int_equal(request(*state, "{\"op\":\"release\"}", 5000, &answer, &err), 0);
	assert_true(json_is_true(json_object_get(answer, "had_one")));
	json_decref(answer);
}

static void many_requests_in_one_write_are_answered_in_order(void **state)
{
	enum { COUNT = 20000 };
	struct server *s = *state;
	int fd = connect_raw(s);
	char line[200], want[40];
	CLEANUP(freep)
	char *all = malloc((size_t)COUNT * 40);
	size_t len = 0;

	assert_non_null(all);
	/* Few at a time are on their way, so that neither side waits for the other to read. */
	for (int i = 0; i < COUNT; i += 100) {
		len = 0;
		for (int k = i; k < i + 100; k++)
			len += (size_t)sprintf(all + len, "{\"op\":\"echo\",\"n\":%d}\n", k);
		send_raw(fd, all, len);
		for (int k = i; k < i + 100; k++) {
			assert_true(read_line(fd, line, sizeof(line)) > 0);
			snprintf(want, sizeof(want), "\"n\":%d}", k);
			assert_non_null(strstr(line, want));
		}
	}
	close(fd);
}

static void end_of_input_is_no_end_of_answers(void **state)
{
	int fd = connect_raw(*state);
	char line[200];

	send_raw(fd, "{\"op\":\"echo\",\"n\":1}\n{\"op\":\"echo\",\"n\":2}\n", 40);
	shutdown(fd, SHUT_WR);
	assert_true(read_line(fd, line, sizeof(line)) > 0);
	assert_true(read_line(fd, line, sizeof(line)) > 0);
	assert_non_null(strstr(line, "\"n\":2"));
	assert_int_equal(read_line(fd, line, sizeof(line)), 0);
	close(fd);
}

static void rubbish_is_refused_or_hung_up_on(void **state)
{
	static const char deep[] = "[[[[[[[[";
	struct server *s = *state;
	size_t size = 2 * CTL_LINE_MAX;
	CLEANUP(freep)
	char *endless = malloc(size);
	char line[300];
	int fd = connect_raw(s);

	assert_non_null(endless);
	send_raw(fd, "\n", 1);
	assert_true(read_line(fd, line, sizeof(line)) > 0);
	assert_non_null(strstr(line, "\"error\""));
	send_raw(fd, "{\"op\":\"\xff\xfe\0\"}\n", 13);
	assert_true(read_line(fd, line, sizeof(line)) > 0);
	assert_non_null(strstr(line, "\"error\""));
	close(fd);

	fd = connect_raw(s); /* nested beyond reason */
	for (size_t i = 0; i < 50000; i += 8)
		memcpy(endless + i, deep, 8);
	endless[50000] = '\n';
	send_raw(fd, endless, 50001);
	assert_true(read_line(fd, line, sizeof(line)) > 0);
	assert_non_null(strstr(line, "\"error\""));
	close(fd);

	fd = connect_raw(s); /* a line without an end */
	memset(endless, 'x', size);
	send_raw(fd, endless, size);
	assert_int_equal(read_line(fd, line, sizeof(line)), 0);
	close(fd);

	json_t *answer = NULL; /* and it still serves */

	assert_int_equal(request(s, "{\"op\":\"echo\"}", 5000, &answer, NULL), 0);
	json_decref(answer);
}

static void a_request_that_is_too_long_is_not_sent(void **state)
{
	struct server *s = *state;
	CLEANUP(freep)
	char *text = malloc(CTL_LINE_MAX);
	json_t *answer = NULL;
	struct err err = {0};

	assert_non_null(text);
	memset(text, 'x', CTL_LINE_MAX);
	json_auto_t *large =
		json_pack("{s:s, s:s%}", "op", "echo", "text", text, (size_t)CTL_LINE_MAX - 100);
	json_auto_t *larger =
		json_pack("{s:s, s:s%}", "op", "echo", "text", text, (size_t)CTL_LINE_MAX);

	assert_int_equal(ctl_request(s->path, large, 20000, &answer, &err), 0);
	json_decref(answer);
	assert_int_equal(ctl_request(s->path, larger, 20000, &answer, &err), ERR_LIMIT);
	assert_non_null(strstr(err.text, "8 MiB"));
}

static void more_clients_than_allowed_are_turned_away(void **state)
{
	enum { COUNT = 80 };
	struct server *s = *state;
	int fds[COUNT];
	char line[200];
	unsigned refused = 0;

	for (int i = 0; i < COUNT; i++)
		fds[i] = connect_raw(s);
	for (int i = 0; i < COUNT; i++) {
		send_raw(fds[i], "{\"op\":\"echo\"}\n", 14);
		refused += read_line(fds[i], line, sizeof(line)) == 0;
	}
	assert_int_equal(refused, COUNT - 64);
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
}

static void nobody_listening_is_no_entry(void **state)
{
	json_auto_t *o = json_pack("{s:s}", "op", "status");
	json_t *answer = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(ctl_request("/tmp/nonexistent-directory/x.sock", o, 100, &answer, &err),
			 ERR_NOENT);
	assert_int_equal(ctl_request("/tmp/nonexistent.sock", o, 100, &answer, &err), ERR_NOENT);
}

static void stale_socket_is_replaced(void **state)
{
	char dir[] = P_tmpdir "/test_ctl.XXXXXX", path[64];
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct loop *l = NULL;
	struct ctl *ctl = NULL;
	struct err err = {0};

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x.sock", dir);
	strcpy(addr.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd); /* as after a kill -9 */
	assert_int_equal(loop_new(&l, &err), 0);
	assert_int_equal(ctl_listen(l, path, ops, ARRAY_LEN(ops), NULL, &ctl, &err), 0);
	ctl_close(ctl);
	loop_free(l);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
#define SERVED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		SERVED(request_is_answered),
		SERVED(socket_is_private),
		SERVED(refusals_carry_the_reason),
		SERVED(help_lists_the_ops),
		SERVED(big_answers_arrive_whole),
		SERVED(late_answer_reaches_its_asker_while_others_are_served),
		SERVED(client_gives_up_in_time),
		SERVED(many_requests_in_one_write_are_answered_in_order),
		SERVED(end_of_input_is_no_end_of_answers),
		SERVED(rubbish_is_refused_or_hung_up_on),
		SERVED(a_request_that_is_too_long_is_not_sent),
		SERVED(more_clients_than_allowed_are_turned_away),
		cmocka_unit_test(nobody_listening_is_no_entry),
		cmocka_unit_test(stale_socket_is_replaced),
	};
	return cmocka_run_group_tests_name("ctl", tests, NULL, NULL);
}
