/* The HTTP client against a small server on the same loop that answers with what the test says, in
 * the pieces it says. */
#include "common/util.h"
#include "dan/fetch.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
/* after the four above */
#include <cmocka.h>

#define PEERS 160

struct peer {
	struct fixture *fixture;
	int fd;
	struct loop_src *src;
};

struct fixture {
	struct loop *loop;
	struct fetch *fetch;
	int listen_fd;
	unsigned port;
	struct peer peers[PEERS];
	unsigned accepted;
	char request[32768]; /* what the server got, all connections */
	size_t request_len;
	const char *answer; /* NULL: never */
	bool close_after;
	/* what the client saw */
	unsigned done;
	int rc;
	long status;
	char body[256];
	size_t body_len;
	bool free_in_done;
};

static void peer_close(struct peer *p)
{
	loop_remove(p->fixture->loop, p->src);
	p->src = NULL;
	closep(&p->fd);
}

static void on_peer(void *arg, uint32_t events)
{
	struct peer *p = arg;
	struct fixture *f = p->fixture;
	(void)events;
	ssize_t n =
		read(p->fd, f->request + f->request_len, sizeof(f->request) - 1 - f->request_len);
	if (n <= 0) {
		peer_close(p);
		return;
	}
	f->request_len += (size_t)n;
	f->request[f->request_len] = '\0';
	if (f->answer == NULL || strstr(f->request, "\r\n\r\n") == NULL)
		return;
	assert_int_equal(send(p->fd, f->answer, strlen(f->answer), MSG_NOSIGNAL),
			 strlen(f->answer));
	if (f->close_after)
		peer_close(p);
}

static void on_accept(void *arg, uint32_t events)
{
	struct fixture *f = arg;
	(void)events;
	assert_true(f->accepted < PEERS);
	struct peer *p = &f->peers[f->accepted++];
	p->fixture = f;
	p->fd = accept(f->listen_fd, NULL, NULL);
	assert_true(p->fd >= 0);
	assert_int_equal(loop_add_fd(f->loop, p->fd, EPOLLIN, on_peer, p, &p->src, NULL), 0);
}

static int setup(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	struct fixture *f = calloc(1, sizeof(*f));
	*state = f;
	if (f == NULL || loop_new(&f->loop, NULL) < 0 || fetch_new(f->loop, &f->fetch, NULL) < 0)
		return -1;
	f->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(f->listen_fd, (struct sockaddr *)&a, len) < 0 || listen(f->listen_fd, PEERS) < 0 ||
	    getsockname(f->listen_fd, (struct sockaddr *)&a, &len) < 0)
		return -1;
	f->port = ntohs(a.sin_port);
	return loop_add_fd(f->loop, f->listen_fd, EPOLLIN, on_accept, f, NULL, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	fetch_free(f->fetch);
	for (unsigned i = 0; i < f->accepted; i++)
		if (f->peers[i].src != NULL)
			peer_close(&f->peers[i]);
	closep(&f->listen_fd);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void on_done(void *arg, const struct fetch_answer *a)
{
	struct fixture *f = arg;
	f->done++;
	f->rc = a->rc;
	f->status = a->status;
	f->body_len = a->len;
	snprintf(f->body, sizeof(f->body), "%s", a->body);
	assert_non_null(a->why);
	assert_int_equal(a->rc != 0, a->why[0] != '\0');
	if (f->free_in_done)
		f->fetch = fetch_free(f->fetch);
}

static int start(struct fixture *f, const char *method, const char *path, const char *body,
		 unsigned timeout_ms, struct fetch_call **ret)
{
	char url[128];
	snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", f->port, path);
	const struct fetch_request q = {
		.method = method, .url = url, .body = body, .timeout_ms = timeout_ms};
	return fetch_start(f->fetch, &q, on_done, f, ret, NULL);
}

static void await_done(struct fixture *f, unsigned n)
{
	while (f->done < n)
		assert_int_equal(loop_turn(f->loop, 5000), 0);
}

static void sends_body_and_reads_answer(void **state)
{
	struct fixture *f = *state;
	f->answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello";
	assert_int_equal(start(f, "PUT", "/some/id", "{\"a\":1}", 0, NULL), 0);
	assert_int_equal(f->done, 0);
	await_done(f, 1);
	assert_int_equal(f->rc, 0);
	assert_int_equal(f->status, 403);
	assert_string_equal(f->body, "hello");
	assert_int_equal(f->body_len, 5);
	assert_ptr_equal(strstr(f->request, "PUT /some/id HTTP/1.1\r\n"), f->request);
	assert_non_null(strstr(f->request, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(f->request, "\r\n\r\n{\"a\":1}"));
}

static void keeps_the_connection(void **state)
{
	struct fixture *f = *state;
	f->answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(start(f, "DELETE", "/x", "{}", 0, NULL), 0);
		await_done(f, i);
		assert_int_equal(f->status, 200);
	}
	assert_int_equal(f->accepted, 1);
}

static void sends_credentials(void **state)
{
	struct fixture *f = *state;
	char url[64];
	f->answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/", f->port);
	const struct fetch_request q = {
		.method = "PUT", .url = url, .username = "user", .password = "secret"};
	assert_int_equal(fetch_start(f->fetch, &q, on_done, f, NULL, NULL), 0);
	await_done(f, 1);
	assert_non_null(strstr(f->request, "Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"));
}

static void reports_a_closed_port(void **state)
{
	struct fixture *f = *state;
	closep(&f->listen_fd); /* epoll forgets it */
	assert_int_equal(start(f, "PUT", "/", "{}", 0, NULL), 0);
	await_done(f, 1);
	assert_int_equal(f->rc, ERR_PEER);
}

static void reports_a_silent_server(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(start(f, "PUT", "/", "{}", 50, NULL), 0);
	await_done(f, 1);
	assert_int_equal(f->rc, ERR_TIMEOUT);
}

static void reports_rubbish_and_cut_answers(void **state)
{
	static const char *const answers[] = {
		"SSH-2.0-x\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
	};
	struct fixture *f = *state;
	f->close_after = true;
	for (unsigned i = 0; i < ARRAY_LEN(answers); i++) {
		f->answer = answers[i];
		assert_int_equal(start(f, "PUT", "/", "{}", 5000, NULL), 0);
		await_done(f, i + 1);
		assert_int_equal(f->rc, ERR_PEER);
	}
}

static void refuses_a_huge_answer(void **state)
{
	enum { BYTES = 1024 * 1024 + 1 };
	struct fixture *f = *state;
	char *answer = malloc(BYTES + 100);
	assert_non_null(answer);
	int head = snprintf(answer, 100, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BYTES);
	memset(answer + head, 'x', BYTES);
	answer[head + BYTES] = '\0';
	int big = 4 * BYTES;
	f->answer = NULL;
	assert_int_equal(start(f, "PUT", "/", "{}", 5000, NULL), 0);
	while (f->request_len == 0)
		assert_int_equal(loop_turn(f->loop, 5000), 0);
	/* the server writes a piece, the client reads it */
	assert_int_equal(setsockopt(f->peers[0].fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big)), 0);
	for (size_t at = 0, len = (size_t)head + BYTES; at < len && f->done == 0;) {
		ssize_t n =
			send(f->peers[0].fd, answer + at, len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		at += n > 0 ? (size_t)n : 0;
		assert_int_equal(loop_turn(f->loop, 1000), 0);
	}
	await_done(f, 1);
	assert_int_equal(f->rc, ERR_LIMIT);
	free(answer);
}

static void refuses_other_protocols(void **state)
{
	struct fixture *f = *state;
	const struct fetch_request q = {.method = "GET", .url = "file:///etc/passwd"};
	assert_int_equal(fetch_start(f->fetch, &q, on_done, f, NULL, NULL), 0);
	await_done(f, 1);
	assert_int_equal(f->rc, ERR_PEER);
}

static void cancelled_calls_are_not_reported(void **state)
{
	struct fixture *f = *state;
	struct fetch_call *call = NULL;
	assert_int_equal(start(f, "PUT", "/", "{}", 0, &call), 0);
	while (f->request_len == 0)
		assert_int_equal(loop_turn(f->loop, 5000), 0);
	fetch_cancel(call);
	f->answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(start(f, "PUT", "/second", "{}", 0, NULL), 0);
	await_done(f, 1);
	assert_int_equal(f->done, 1);
	assert_non_null(strstr(f->request, "/second"));
}

static void only_some_are_under_way_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct fetch_call *calls[100];
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		assert_int_equal(start(f, "GET", "/", NULL, 0, &calls[i]), 0);
	while (f->accepted < 32)
		assert_int_equal(loop_turn(f->loop, 1000), 0);
	for (int i = 0; i < 5; i++)
		loop_turn(f->loop, 20);
	assert_int_equal(f->accepted, 32);
	/* one under way, one that waits, the last of all */
	fetch_cancel(calls[0]);
	fetch_cancel(calls[50]);
	fetch_cancel(calls[99]);
	while (f->accepted < 33)
		assert_int_equal(loop_turn(f->loop, 1000), 0);
	assert_int_equal(start(f, "GET", "/late", NULL, 0, NULL), 0);
	f->answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	f->close_after = true;
	for (unsigned i = 0; i < 33; i++)
		if (f->peers[i].src != NULL)
			peer_close(&f->peers[i]);
	await_done(f, 98);
	assert_int_equal(f->status, 200);
	assert_non_null(strstr(f->request, "GET /late"));
}

static void what_waits_goes_with_the_client(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(start(f, "GET", "/", NULL, 0, NULL), 0);
	while (f->accepted < 32)
		assert_int_equal(loop_turn(f->loop, 1000), 0);
	f->fetch = fetch_free(f->fetch);
	assert_int_equal(f->done, 0);
}

static void may_be_freed_in_its_callback(void **state)
{
	struct fixture *f = *state;
	f->answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	f->free_in_done = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(start(f, "PUT", "/", "{}", 0, NULL), 0);
	await_done(f, 1);
	assert_null(f->fetch);
	assert_int_equal(f->done, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sends_body_and_reads_answer),
		TEST(keeps_the_connection),
		TEST(sends_credentials),
		TEST(reports_a_closed_port),
		TEST(reports_a_silent_server),
		TEST(reports_rubbish_and_cut_answers),
		TEST(refuses_a_huge_answer),
		TEST(refuses_other_protocols),
		TEST(cancelled_calls_are_not_reported),
		TEST(only_some_are_under_way_at_a_time),
		TEST(what_waits_goes_with_the_client),
		TEST(may_be_freed_in_its_callback),
	};
	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
