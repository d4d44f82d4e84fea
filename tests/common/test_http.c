#include "common/http.h"
#include "common/http_path.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#define MEGABYTE (1 << 20)

struct site {
	struct loop *loop;
	struct http_server *server;
	struct http_request *deferred[8];
	size_t n_deferred;
	char seen[4096]; /* what the last handler saw */
	size_t seen_body_len;
	unsigned handled, done, last_status;
	char last_method[16], last_id[80];
	unsigned cuts;
	const char *last_cut;
};

static void saw(struct site *t, struct http_request *req)
{
	size_t len;
	const char *body = http_body(req, &len);
	const char *id = http_param(req, "id"), *rest = http_param(req, "path");
	t->handled++;
	t->seen_body_len = len;
	assert_int_equal(body[len], '\0');
	snprintf(t->seen, sizeof(t->seen), "%s %s id=%s path=%s body=%.100s", http_method(req),
		 http_path(req), id != NULL ? id : "-", rest != NULL ? rest : "-", body);
}

static void on_echo(void *arg, struct http_request *req)
{
	struct site *t = arg;
	saw(t, req);
	char text[64];
	int n = snprintf(text, sizeof(text), "handled %u", t->handled);
	assert_int_equal(http_reply(req, 200, "text/plain", text, (size_t)n), 0);
}

static void on_json(void *arg, struct http_request *req)
{
	saw(arg, req);
	assert_int_equal(http_add_header(req, "X-Answer", "42"), 0);
	assert_int_equal(http_add_header(req, "Bad\r\nName", "1"), ERR_INVAL);
	assert_int_equal(http_add_header(req, "X-Bad", "a\r\nb: c"), ERR_INVAL);
	http_reply_json(req, 201,
			json_pack("{s:s}", "q", http_query(req, "q") ? http_query(req, "q") : ""));
}

static void on_no_memory(void *arg, struct http_request *req)
{
	(void)arg;
	assert_int_equal(http_reply_json(req, 200, NULL), ERR_NOMEM);
}

static void on_later(void *arg, struct http_request *req)
{
	struct site *t = arg;
	saw(t, req);
	assert_true(t->n_deferred < ARRAY_LEN(t->deferred));
	t->deferred[t->n_deferred++] = req;
}

static void on_address(void *arg, struct http_request *req)
{
	struct site *t = arg;
	char local[64], peer[64], tiny[3];
	assert_int_equal(http_local_address(req, local, sizeof(local)), 0);
	assert_int_equal(http_peer_address(req, peer, sizeof(peer)), 0);
	assert_int_equal(http_local_address(req, tiny, sizeof(tiny)), ERR_RANGE);
	assert_true(http_peer_is_loopback(req));
	snprintf(t->seen, sizeof(t->seen), "%s %s", local, peer);
	http_reply(req, 204, NULL, NULL, 0);
}

static void on_done(void *arg, const struct http_done *done)
{
	struct site *t = arg;
	t->done++;
	t->last_status = done->status;
	snprintf(t->last_method, sizeof(t->last_method), "%s", done->method);
	snprintf(t->last_id, sizeof(t->last_id), "%s", done->id);
}

static void on_cut(void *arg, const char *why)
{
	struct site *t = arg;
	t->cuts++;
	t->last_cut = why;
}

static void on_number(void *arg, struct http_request *req)
{
	struct site *t = arg;
	const char *cookie = http_cookie(req, "session");
	snprintf(t->seen, sizeof(t->seen), "%s id=%s prefix=%s cookie=%s%s", http_route(req)->pattern,
		 http_param(req, "id"), http_prefix(req), cookie != NULL ? cookie : "-",
		 http_slash(req) ? " /" : "");
	http_reply(req, 204, NULL, NULL, 0);
}

static const struct http_route routes[] = {
	{"GET", "/n/{id:int}", 0, on_number},   {"DELETE", "/n/{id:int}/x", 0, on_number},
	{"POST", "/n/{id}", 0, on_number},      {"GET", "/", 0, on_echo},
	{"GET", "/addresses", 0, on_address},   {"GET", "/later", 0, on_later},
	{"POST", "/later", 100, on_later},      {"GET", "/json", 0, on_json},
	{"GET", "/nomem", 0, on_no_memory},     {"PUT", "/big", MEGABYTE, on_echo},
	{"GET", "/{id}", 0, on_echo},           {"PUT", "/{id}", 1000, on_echo},
	{"GET", "/{id}/{path...}", 0, on_echo},
};
static const char *const prefixes[] = {"/csm", NULL};

static void site_start(struct site *t, const struct http_conf *extra)
{
	struct err err = {0};
	memset(t, 0, sizeof(*t));
	struct http_conf c = extra != NULL ? *extra : (struct http_conf){.cors_origin = "*"};
	c.bind = c.bind != NULL ? c.bind : "127.0.0.1";
	c.routes = routes;
	c.n_routes = ARRAY_LEN(routes);
	c.prefixes = prefixes;
	c.on_done = on_done;
	c.on_cut = on_cut;
	assert_int_equal(loop_new(&t->loop, &err), 0);
	if (http_server_new(t->loop, &c, t, &t->server, &err) < 0)
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct site *t = test_calloc(1, sizeof(*t));
	site_start(t, NULL);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct site *t = *state;
	t->server = http_server_free(t->server);
	t->loop = loop_free(t->loop);
	test_free(t);
	return 0;
}

/* ---- a client that lives beside the server on one thread ---- */

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int dial(struct site *t)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)http_port(t->server))};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void send_all(struct site *t, int fd, const char *data, size_t len)
{
	int64_t end = now_ms() + 10000;
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno != EAGAIN) {
			fail_msg("send: %s", strerror(errno));
		}
		loop_turn(t->loop, n > 0 ? 0 : 5);
		assert_true(now_ms() < end);
	}
}

/* Read until `until` occurs (NULL: until the server closes). */
static char *receive(struct site *t, int fd, const char *until)
{
	static char buf[65536];
	size_t len = 0;
	int64_t end = now_ms() + 10000;
	for (;;) {
		ssize_t n = recv(fd, buf + len, sizeof(buf) - 1 - len, 0);
		if (n == 0)
			break;
		if (n < 0 && errno != EAGAIN)
			fail_msg("recv: %s after '%.*s'", strerror(errno), (int)len, buf);
		if (n > 0)
			len += (size_t)n;
		buf[len] = '\0';
		if (n > 0 && until != NULL && strstr(buf, until) != NULL)
			return buf;
		loop_turn(t->loop, n > 0 ? 0 : 5);
		if (now_ms() > end)
			fail_msg("no answer; so far '%s'", buf);
	}
	buf[len] = '\0';
	if (until != NULL && strstr(buf, until) == NULL)
		fail_msg("closed before '%s': '%s'", until, buf);
	return buf;
}

/* One request whose last header line is Connection: close; the whole answer. */
static char *ask(struct site *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *ask(struct site *t, const char *fmt, ...)
{
	char text[8192];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	assert_true(n > 0 && (size_t)n < sizeof(text));
	int fd = dial(t);
	send_all(t, fd, text, (size_t)n);
	char *answer = receive(t, fd, NULL);
	close(fd);
	return answer;
}

static char *get(struct site *t, const char *path)
{
	return ask(t, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
}

static unsigned status_of(const char *answer)
{
	unsigned status = 0;
	sscanf(answer, "HTTP/1.1 %u", &status);
	return status;
}

#define assert_has(text, part)                                       \
	do {                                                         \
		if (strstr((text), (part)) == NULL)                  \
			fail_msg("no '%s' in '%s'", (part), (text)); \
	} while (0)
#define assert_lacks(text, part)                                  \
	do {                                                      \
		if (strstr((text), (part)) != NULL)               \
			fail_msg("'%s' in '%s'", (part), (text)); \
	} while (0)

/* ---- routes ---- */

static void routes_give_decoded_params(void **state)
{
	struct site *t = *state;
	static const struct {
		const char *path, *seen;
	} cases[] = {
		{"/", "GET / id=- path=- body="},
		{"/csm", "GET / id=- path=- body="},
		{"/csm/", "GET / id=- path=- body="},
		{"/abc", "GET /abc id=abc path=- body="},
		{"/csm/abc", "GET /abc id=abc path=- body="},
		{"/abc/", "GET /abc id=abc path=- body="},
		{"/csmabc", "GET /csmabc id=csmabc path=- body="},
		{"/a%20b%2Fc", "GET /a b/c id=a b/c path=- body="},
		{"/%e4%BD%a0", "GET /\xe4\xbd\xa0 id=\xe4\xbd\xa0 path=- body="},
		{"/abc/profile/model", "GET /abc/profile/model id=abc path=profile/model body="},
		{"/abc/a%20b?x=1", "GET /abc/a b id=abc path=a b body="},
		{"http://localhost/abc", "GET /abc id=abc path=- body="},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *a = get(t, cases[i].path);
		assert_int_equal(status_of(a), 200);
		assert_string_equal(t->seen, cases[i].seen);
	}
}

static void unknown_paths_and_methods_are_refused_in_json(void **state)
{
	struct site *t = *state;
	char *a = get(t, "/json/");
	assert_int_equal(status_of(a), 201);
	a = get(t, "/abc//x");
	assert_int_equal(status_of(a), 404);
	a = ask(t, "GET //x/y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 200);
	a = ask(t, "DELETE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 405);
	assert_has(a, "Allow: GET, HEAD, OPTIONS\r\n");
	assert_has(a, "{\"state\":\"error\",\"reason\":\"method not allowed\"}");
	assert_has(a, "Content-Type: application/json; charset=utf-8\r\n");
	assert_string_equal(t->last_method, "DELETE");
	a = ask(t, "PUT /a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
	assert_int_equal(status_of(a), 405);
	a = ask(t, "BREW /abc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 405);
	assert_has(a, "Allow: GET, HEAD, PUT, OPTIONS\r\n");
	assert_string_equal(t->last_method, "OTHER");
	assert_int_equal(t->handled, 2);
	assert_int_equal(t->done, 6);
}

static void a_number_is_of_digits_only(void **state)
{
	struct site *t = *state;
	assert_int_equal(status_of(get(t, "/n/007")), 204);
	assert_string_equal(t->seen, "/n/{id:int} id=007 prefix= cookie=-");
	assert_int_equal(status_of(get(t, "/csm/n/%37/")), 204);
	assert_string_equal(t->seen, "/n/{id:int} id=7 prefix=/csm cookie=- /");
	static const char *const others[] = {"/n/-1", "/n/1a", "/n/+1", "/n/1.0", "/n/%D9%A1"};
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		get(t, others[i]);
		assert_has(t->seen, "GET /n/"); /* the route for any path */
	}
	char *a = ask(t, "POST /n/7 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 204);
	assert_string_equal(t->seen, "/n/{id} id=7 prefix= cookie=-");
	a = ask(t, "DELETE /n/q/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 405);
}

static void cookies_are_found_by_name(void **state)
{
	struct site *t = *state;
	static const struct {
		const char *sent, *seen;
	} cases[] = {
		{"session=abc", "cookie=abc"},
		{"a=1; session=x=y; b=2", "cookie=x=y"},
		{"sessions=1; xsession=2", "cookie=-"},
		{"session=", "cookie="},
		{"session=%41+; session=second", "cookie=%41+"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ask(t,
		    "GET /n/1 HTTP/1.1\r\nHost: localhost\r\nCookie: %s\r\nConnection: "
		    "close\r\n\r\n",
		    cases[i].sent);
		assert_has(t->seen, cases[i].seen);
	}
}

static const char *not_found(const char *path)
{
	return strncmp(path, "/a/", 3) == 0 ? "nothing of that name" : NULL;
}

static void every_answer_has_the_headers_of_the_server(void **state)
{
	static const struct http_pair headers[] = {
		{"Cache-Control", "no-store"}, {"X-Two", "2"}, {0}};
	struct site t;
	(void)state;
	site_start(&t, &(struct http_conf){.headers = headers, .not_found = not_found});
	static const struct {
		const char *request, *part;
	} cases[] = {
		{"GET /json HTTP/1.1\r\nHost: localhost", "X-Answer: 42\r\n"},
		{"GET /nomem HTTP/1.1\r\nHost: localhost", "out of memory"},
		{"GET /a//b HTTP/1.1\r\nHost: localhost", "\"nothing of that name\""},
		{"GET /b//b HTTP/1.1\r\nHost: localhost", "\"not found\""},
		{"BREW /json HTTP/1.1\r\nHost: localhost", "405"},
		{"GET / HTTP/1.1\r\nHost: elsewhere", "403"},
		{"PUT /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000", "413"},
		{"GET /%zz HTTP/1.1\r\nHost: localhost", "400"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *a = ask(&t, "%s\r\nConnection: close\r\n\r\n", cases[i].request);
		assert_has(a, cases[i].part);
		assert_has(a, "Cache-Control: no-store\r\n");
		assert_has(a, "X-Two: 2\r\n");
	}
	t.server = http_server_free(t.server);
	t.loop = loop_free(t.loop);
}

static void bad_paths_are_refused(void **state)
{
	struct site *t = *state;
	static const char *const bad[] = {"/%00", "/a%00b", "/%", "/%4", "/%zz", "/a/%g0/b"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(status_of(get(t, bad[i])), 400);
	char deep[400] = "";
	for (int i = 0; i < 100; i++)
		strcat(deep, "/x");
	assert_int_equal(status_of(get(t, deep)), 404);
	assert_int_equal(t->handled, 0);
}

static void head_has_the_headers_of_get_and_no_body(void **state)
{
	struct site *t = *state;
	char *a = ask(t, "HEAD /abc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 200);
	assert_has(a, "Content-Length: 9\r\n");
	assert_lacks(a, "handled");
	assert_string_equal(t->seen, "GET /abc id=abc path=- body=");
}

static void query_and_extra_headers_work(void **state)
{
	struct site *t = *state;
	char *a = get(t, "/json?q=a+b%2Bc&r=1");
	assert_int_equal(status_of(a), 201);
	assert_has(a, "{\"q\":\"a b+c\"}");
	assert_has(a, "X-Answer: 42\r\n");
	assert_has(get(t, "/json?q=%00x"), "{\"q\":\"\"}");
	assert_has(get(t, "/json?q"), "{\"q\":\"\"}");
	a = get(t, "/nomem");
	assert_int_equal(status_of(a), 503);
	assert_has(a, "Content-Type: application/json");
	assert_has(a, "\"reason\":\"out of memory\"");
}

static void addresses_are_numeric(void **state)
{
	struct site *t = *state;
	char *a = get(t, "/addresses");
	assert_int_equal(status_of(a), 204);
	assert_string_equal(t->seen, "127.0.0.1 127.0.0.1");
}

/* ---- CORS and Host ---- */

static void options_is_a_preflight(void **state)
{
	struct site *t = *state;
	char *a = ask(t, "OPTIONS /abc HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x\r\n"
			 "Access-Control-Request-Method: PUT\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 204);
	assert_has(a, "Access-Control-Allow-Origin: *\r\n");
	assert_has(a, "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n");
	assert_has(a, "Access-Control-Allow-Headers: Content-Type");
	assert_has(a, "Vary: Origin\r\n");
	assert_lacks(a, "Credentials");
	a = ask(t, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 204);
	assert_has(get(t, "/abc/"), "Access-Control-Allow-Origin: *\r\n");
	assert_has(get(t, "/a/%"), "Access-Control-Allow-Origin: *\r\n");
}

static void no_origin_no_cors(void **state)
{
	(void)state;
	struct site t;
	site_start(&t, &(struct http_conf){.cors_origin = ""});
	assert_lacks(get(&t, "/abc"), "Access-Control");
	char *a = ask(&t, "OPTIONS /abc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(status_of(a), 204);
	assert_has(a, "Allow: GET, HEAD, PUT, OPTIONS\r\n");
	assert_lacks(a, "Access-Control");
	http_server_free(t.server);
	loop_free(t.loop);
}

static void host_must_name_this_machine_on_loopback(void **state)
{
	struct site *t = *state;
	char own[256] = "";
	gethostname(own, sizeof(own) - 1);
	const char *good[] = {"localhost",    "LOCALHOST:9992", "127.0.0.1",
			      "127.1.2.3:80", "[::1]:9",        own};
	const char *bad[] = {"evil.example",
			     "localhost.evil.example",
			     "127.0.0.1.evil.example",
			     "10.0.0.1",
			     "[::1",
			     "[fe80::1]",
			     "localhost:x",
			     "",
			     "128.0.0.1"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(
			status_of(ask(t, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
				      good[i])),
			200);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char *a = ask(t, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", bad[i]);
		if (status_of(a) != 403)
			fail_msg("Host '%s': %s", bad[i], a);
		assert_has(a, "\"state\":\"error\"");
	}
	assert_true(http_host_is_local("box.lan:80", "box.lan"));
	assert_true(http_host_is_local("box", "box.lan"));
	assert_false(http_host_is_local("bo", "box.lan"));
	assert_false(http_host_is_local(NULL, "box"));
}

static void any_host_is_fine_when_the_world_may_connect(void **state)
{
	(void)state;
	struct site t;
	site_start(&t, &(struct http_conf){.bind = "0.0.0.0"});
	assert_int_equal(
		status_of(ask(&t,
			      "GET / HTTP/1.1\r\nHost: gateway.lan\r\nConnection: close\r\n\r\n")),
		200);
	http_server_free(t.server);
	loop_free(t.loop);
}

/* ---- bodies ---- */

static void bodies_arrive_whole(void **state)
{
	struct site *t = *state;
	ask(t, "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: "
	       "close\r\n\r\nhello");
	assert_string_equal(t->seen, "PUT /x id=x path=- body=hello");
	ask(t, "PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: "
	       "close\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
	assert_string_equal(t->seen, "PUT /x id=x path=- body=hello");
	ask(t,
	    "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_string_equal(t->seen, "PUT /x id=x path=- body=");
	ask(t, "PUT /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	assert_int_equal(t->seen_body_len, 0);

	int fd = dial(t);
	const char head[] = "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na\0b";
	send_all(t, fd, head, sizeof(head) - 1);
	receive(t, fd, "handled");
	assert_int_equal(t->seen_body_len, 3);
	close(fd);
}

static void a_body_may_come_byte_by_byte(void **state)
{
	struct site *t = *state;
	const char text[] = "PUT /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n"
			    "Connection: close\r\n\r\nhello world";
	int fd = dial(t);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		send_all(t, fd, text + i, 1);
		loop_turn(t->loop, 0);
	}
	assert_int_equal(status_of(receive(t, fd, NULL)), 200);
	assert_string_equal(t->seen, "PUT /slow id=slow path=- body=hello world");
	close(fd);
}

static void expect_100_is_answered(void **state)
{
	struct site *t = *state;
	int fd = dial(t);
	const char head[] = "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
			    "Expect: 100-continue\r\nConnection: close\r\n\r\n";
	send_all(t, fd, head, sizeof(head) - 1);
	receive(t, fd, "100 Continue\r\n\r\n");
	send_all(t, fd, "hello", 5);
	assert_int_equal(status_of(receive(t, fd, NULL)), 200);
	close(fd);
	/* and nobody is asked to send what is refused anyway */
	char *a = ask(t, "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
			 "Expect: 100-continue\r\n\r\n");
	assert_int_equal(status_of(a), 413);
	assert_lacks(a, "100 Continue");
}

static void the_limit_is_exact(void **state)
{
	struct site *t = *state;
	char body[1002];
	memset(body, 'x', sizeof(body));
	body[1001] = '\0';
	char *a = ask(t,
		      "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nConnection: "
		      "close\r\n\r\n%.1000s",
		      body);
	assert_int_equal(status_of(a), 200);
	assert_int_equal(t->seen_body_len, 1000);
	a = ask(t, "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n%s", body);
	assert_int_equal(status_of(a), 413);
	assert_has(a, "{\"state\":\"error\",\"reason\":\"body too large\"}");
	a = ask(t,
		"PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: "
		"close\r\n\r\n3e9\r\n%s\r\n0\r\n\r\n",
		body);
	assert_int_equal(status_of(a), 413);
	assert_int_equal(t->handled, 1);
	a = ask(t, "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
	assert_int_equal(status_of(a), 413);
}

static void an_announced_giant_is_answered_at_once(void **state)
{
	struct site *t = *state;
	static const char *const lengths[] = {"1048577", "10737418240", "18446744073709551615"};
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		int64_t begin = now_ms();
		char *a =
			ask(t, "PUT /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n",
			    lengths[i]);
		assert_true(status_of(a) == 413 || status_of(a) == 400);
		assert_true(now_ms() - begin < 3000);
	}
	assert_int_equal(t->handled, 0);
}

/* A client that sends it all before it reads must still get to read the answer, not a reset. */
static void an_oversized_body_does_not_cost_the_answer(void **state)
{
	struct site *t = *state;
	size_t len = 6 * MEGABYTE;
	char *body = test_malloc(len);
	char head[200];
	memset(body, 'x', len);
	for (int i = 0; i < 5; i++) {
		int fd = dial(t);
		int n = snprintf(
			head, sizeof(head),
			"PUT /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", len);
		send_all(t, fd, head, (size_t)n);
		send_all(t, fd, body, len);
		assert_int_equal(status_of(receive(t, fd, NULL)), 413);
		close(fd);
	}
	int fd = dial(t);
	int n = snprintf(head, sizeof(head),
			 "PUT /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
			 MEGABYTE);
	send_all(t, fd, head, (size_t)n);
	send_all(t, fd, body, MEGABYTE);
	receive(t, fd, "handled 1");
	assert_int_equal(t->seen_body_len, MEGABYTE);
	close(fd);
	test_free(body);
}

/* ---- connections ---- */

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct site *t = *state;
	char *a = ask(t, "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
			 "PUT /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
			 "GET /none/// HTTP/1.1\r\nHost: localhost\r\n\r\n"
			 "GET /c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	char *first = strstr(a, "handled 1"), *second = strstr(a, "handled 2");
	char *third = strstr(a, "not found"), *fourth = strstr(a, "handled 3");
	assert_true(first != NULL && second > first && third > second && fourth > third);
}

static void garbage_is_refused_and_the_server_lives(void **state)
{
	struct site *t = *state;
	static const struct {
		const char *what, *bytes;
		size_t len;
	} cases[] = {
#define CASE(what, bytes) {what, bytes, sizeof(bytes) - 1}
		CASE("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
		CASE("zeros", "\0\0\0\0\r\n\r\n"),
		CASE("no version", "GET /\r\n\r\n"),
		CASE("future", "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"),
		CASE("no colon", "GET / HTTP/1.1\r\nHost localhost\r\n\r\n"),
		CASE("bad length",
		     "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n"),
		CASE("negative",
		     "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
		CASE("bad chunk", "PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
				  "chunked\r\n\r\nzz\r\n"),
		CASE("NUL in path",
		     "GET /a\0b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
#undef CASE
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int fd = dial(t);
		send_all(t, fd, cases[i].bytes, cases[i].len);
		shutdown(fd, SHUT_WR);
		char *a = receive(t, fd, NULL);
		if (status_of(a) == 200 && strcmp(cases[i].what, "NUL in path") != 0)
			fail_msg("%s: %s", cases[i].what, a);
		close(fd);
	}
	char *line = test_malloc(200000);
	memset(line, 'x', 200000);
	memcpy(line, "GET /", 5);
	int fd = dial(t);
	int64_t end = now_ms() + 5000; /* it may close while we send */
	for (size_t at = 0; at < 200000 && now_ms() < end; loop_turn(t->loop, 0)) {
		ssize_t n = send(fd, line + at, 200000 - at, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			break;
		at += n > 0 ? (size_t)n : 0;
	}
	close(fd);
	test_free(line);
	assert_int_equal(status_of(get(t, "/alive")), 200);
}

static void a_slow_client_holds_nobody_up(void **state)
{
	struct site *t = *state;
	int slow = dial(t);
	send_all(t, slow, "PUT /x HTTP/1.1\r\nHost: loc", 26);
	for (int i = 0; i < 20; i++)
		assert_int_equal(status_of(get(t, "/fast")), 200);
	const char rest[] = "alhost\r\nContent-Length: 1\r\n\r\nx";
	send_all(t, slow, rest, sizeof(rest) - 1);
	receive(t, slow, "handled 21");
	close(slow);
}

static void idle_connections_are_closed(void **state)
{
	(void)state;
	struct site t;
	site_start(&t, &(struct http_conf){.idle_timeout_s = 1});
	int idle = dial(&t), half = dial(&t);
	send_all(&t, half, "GET / HTTP/1.1\r\nHost:", 21);
	int64_t begin = now_ms();
	receive(&t, idle, NULL);
	receive(&t, half, NULL);
	assert_true(now_ms() - begin < 5000);
	close(idle);
	close(half);
	http_server_free(t.server);
	loop_free(t.loop);
}

static void more_connections_than_allowed_wait_or_are_closed(void **state)
{
	(void)state;
	struct site t;
	int fds[12];
	site_start(&t, &(struct http_conf){.max_connections = 4});
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = dial(&t);
		loop_turn(t.loop, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	for (int i = 0; i < 20; i++)
		loop_turn(t.loop, 1);
	assert_int_equal(status_of(get(&t, "/x")), 200);
	http_server_free(t.server);
	loop_free(t.loop);
}

/* ---- slow, greedy, sly ---- */

static void who_drips_is_cut_when_its_time_is_over(void **state)
{
	(void)state;
	struct site t;
	site_start(&t, &(struct http_conf){.head_timeout_s = 1, .transfer_timeout_s = 1});
	static const char *const begins[] = {
		"GET /x", "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"};
	for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
		int fd = dial(&t);
		int64_t begin = now_ms();
		char byte;
		send_all(&t, fd, begins[i], strlen(begins[i]));
		/* never idle for long */
		while (recv(fd, &byte, 1, 0) != 0 && now_ms() - begin < 10000) {
			send(fd, "y", 1, MSG_NOSIGNAL);
			for (int64_t next = now_ms() + 100; now_ms() < next;)
				loop_turn(t.loop, 10);
		}
		assert_in_range(now_ms() - begin, 1000, 9999);
		assert_string_equal(t.last_cut, "slow");
		close(fd);
	}
	http_server_free(t.server);
	loop_free(t.loop);
}

static void an_idle_connection_between_two_requests_has_the_longer_time(void **state)
{
	(void)state;
	struct site t;
	site_start(&t, &(struct http_conf){.head_timeout_s = 1, .idle_timeout_s = 30});
	int fd = dial(&t);
	static const char get_x[] = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
	send_all(&t, fd, get_x, sizeof(get_x) - 1);
	receive(&t, fd, "handled 1");
	for (int64_t end = now_ms() + 3000; now_ms() < end;)
		loop_turn(t.loop, 50);
	send_all(&t, fd, get_x, sizeof(get_x) - 1);
	receive(&t, fd, "handled 2");
	assert_int_equal(t.cuts, 0);
	close(fd);
	http_server_free(t.server);
	loop_free(t.loop);
}

static void who_ends_within_a_request_is_forgotten(void **state)
{
	struct site *t = *state;
	int fd = dial(t);
	static const char half[] =
		"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{";
	/* both at once, before the library looks */
	assert_int_equal(send(fd, half, sizeof(half) - 1, MSG_NOSIGNAL), sizeof(half) - 1);
	shutdown(fd, SHUT_WR);
	receive(t, fd, NULL);
	close(fd);
}

static void who_has_waited_longest_makes_room(void **state)
{
	(void)state;
	struct site t;
	int fds[64];
	site_start(&t, &(struct http_conf){.max_connections = 32});
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = dial(&t);
		send_all(&t, fds[i], "GET /", 5);
		assert_true(http_connections(t.server) <= 32);
	}
	/* they have filled it, and others are served all the same */
	for (int i = 0; i < 10; i++)
		assert_int_equal(status_of(get(&t, "/x")), 200);
	assert_string_equal(t.last_cut, "full");
	receive(&t, fds[0], NULL); /* closed: it was the first */
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	http_server_free(t.server);
	loop_free(t.loop);
}

static const char big_head[] =
	"PUT /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n";
static char big_body[MEGABYTE];

static void bodies_share_a_bounded_memory(void **state)
{
	(void)state;
	struct site t;
	int fds[8];
	memset(big_body, 'x', sizeof(big_body));
	site_start(&t, &(struct http_conf){.memory_bytes = 4 * MEGABYTE});
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = dial(&t);
		send_all(&t, fds[i], big_head, sizeof(big_head) - 1);
		send_all(&t, fds[i], big_body, sizeof(big_body) - 1);
		for (int k = 0; k < 20; k++)
			loop_turn(t.loop, 1);
	}
	assert_in_range(t.cuts, 1, ARRAY_LEN(fds) - 1);
	assert_string_equal(t.last_cut, "memory");
	receive(&t, fds[0], NULL); /* the first has gone, the last is served */
	send_all(&t, fds[ARRAY_LEN(fds) - 1], big_body, 1);
	receive(&t, fds[ARRAY_LEN(fds) - 1], "handled 1");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	http_server_free(t.server);
	loop_free(t.loop);
}

static void a_body_larger_than_the_memory_of_all_is_refused(void **state)
{
	(void)state;
	struct site t;
	memset(big_body, 'x', sizeof(big_body));
	site_start(&t, &(struct http_conf){.memory_bytes = MEGABYTE / 4});
	int fd = dial(&t);
	send_all(&t, fd, big_head, sizeof(big_head) - 1);
	send_all(&t, fd, big_body, sizeof(big_body));
	assert_int_equal(status_of(receive(&t, fd, "under way")), 503);
	close(fd);
	assert_int_equal(status_of(get(&t, "/x")), 200);
	http_server_free(t.server);
	loop_free(t.loop);
}

static void a_request_that_can_be_read_in_two_ways_is_refused_and_the_last(void **state)
{
	struct site *t = *state;
	static const char *const lines[] = {
		"Host: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
		"Host: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
		"Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n",
		"Host: localhost\r\nTransfer-Encoding : chunked\r\n",
		"Host: localhost\r\nHost: localhost\r\n",
		"X: no host\r\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		char text[512];
		int fd = dial(t);
		snprintf(text, sizeof(text),
			 "PUT /x HTTP/1.1\r\n%s\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: "
			 "localhost\r\n\r\n",
			 lines[i]);
		send_all(t, fd, text, strlen(text));
		char *answer = receive(t, fd, NULL);
		assert_int_equal(status_of(answer), 400);
		assert_lacks(answer, "handled");
		close(fd);
	}
	assert_int_equal(t->handled, 0);
}

static void every_answer_carries_the_id_of_its_request(void **state)
{
	struct site *t = *state;
	static const char close_it[] = "Connection: close\r\n\r\n";
	static const struct {
		const char *path, *id;
		bool taken;
	} cases[] = {{"/x", "mine-1", true}, {"/%zz", "mine-2", true}, {"/x", "not<mine>", false}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char line[128];
		char *answer =
			ask(t, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %s\r\n%s",
			    cases[i].path, cases[i].id, close_it);
		snprintf(line, sizeof(line), "X-Request-Id: %s\r\n",
			 cases[i].taken ? cases[i].id : t->last_id);
		assert_has(answer, line);
		assert_int_equal(strcmp(t->last_id, cases[i].id) == 0, cases[i].taken);
	}
}

/* ---- answers that come later ---- */

static void wait_deferred(struct site *t, size_t n)
{
	int64_t end = now_ms() + 5000;
	while (t->n_deferred < n && now_ms() < end)
		loop_turn(t->loop, 5);
	assert_int_equal(t->n_deferred, n);
}

static void an_answer_may_come_later(void **state)
{
	struct site *t = *state;
	int a = dial(t), b = dial(t);
	const char get_later[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
	const char post_later[] =
		"POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";
	send_all(t, a, get_later, sizeof(get_later) - 1);
	wait_deferred(t, 1);
	send_all(t, b, post_later, sizeof(post_later) - 1);
	wait_deferred(t, 2);
	assert_int_equal(status_of(get(t, "/meanwhile")), 200);
	http_reply(t->deferred[1], 200, "text/plain", "second", 6);
	receive(t, b, "second");
	http_reply(t->deferred[0], 200, "text/plain", "first", 5);
	receive(t, a, "first");
	/* the connection goes on */
	send_all(t, a, get_later, sizeof(get_later) - 1);
	wait_deferred(t, 3);
	http_reply_error(t->deferred[2], 503, "no");
	assert_has(receive(t, a, "reason"), "{\"state\":\"error\",\"reason\":\"no\"}");
	close(a);
	close(b);
}

static void waiting_costs_no_cpu(void **state)
{
	struct site *t = *state;
	int fd = dial(t);
	const char text[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
	send_all(t, fd, text, sizeof(text) - 1);
	wait_deferred(t, 1);
	unsigned turns = 0;
	for (int64_t end = now_ms() + 300; now_ms() < end; turns++)
		loop_turn(t->loop, 100);
	assert_true(turns < 30);
	http_reply(t->deferred[0], 200, NULL, "x", 1);
	receive(t, fd, "x");
	turns = 0;
	for (int64_t end = now_ms() + 300; now_ms() < end; turns++)
		loop_turn(t->loop, 100);
	assert_true(turns < 30);
	close(fd);
}

static void a_client_may_be_gone_when_the_answer_comes(void **state)
{
	struct site *t = *state;
	int fd = dial(t);
	const char text[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
	send_all(t, fd, text, sizeof(text) - 1);
	wait_deferred(t, 1);
	struct linger reset = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	for (int i = 0; i < 5; i++)
		loop_turn(t->loop, 2);
	char *big = test_calloc(1, MEGABYTE);
	http_reply(t->deferred[0], 200, "text/plain", big, MEGABYTE);
	test_free(big);
	for (int i = 0; i < 5; i++)
		loop_turn(t->loop, 2);
	assert_int_equal(status_of(get(t, "/alive")), 200);
}

static void pipelining_behind_a_deferred_answer_keeps_order(void **state)
{
	struct site *t = *state;
	int fd = dial(t);
	const char text[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n"
			    "GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	send_all(t, fd, text, sizeof(text) - 1);
	wait_deferred(t, 1);
	assert_int_equal(t->handled, 1);
	http_reply(t->deferred[0], 200, NULL, "later!", 6);
	char *a = receive(t, fd, NULL);
	assert_true(strstr(a, "later!") != NULL && strstr(a, "handled 2") > strstr(a, "later!"));
	close(fd);
}

static void a_server_may_be_freed_with_requests_waiting(void **state)
{
	(void)state;
	struct site t;
	site_start(&t, NULL);
	int fds[4];
	const char text[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = dial(&t);
		send_all(&t, fds[i], text, i == 3 ? 20 : sizeof(text) - 1);
	}
	wait_deferred(&t, 3);
	http_reply(t.deferred[1], 200, NULL, "x", 1); /* answered, not sent */
	assert_null(http_server_free(t.server));
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	loop_free(t.loop);
	assert_null(http_server_free(NULL));
}

static void a_taken_or_bad_address_is_an_error(void **state)
{
	struct site *t = *state;
	struct http_server *s = NULL;
	struct err err = {0};
	struct http_conf c = {
		.bind = "127.0.0.1", .port = http_port(t->server), .routes = routes, .n_routes = 1};
	assert_int_equal(http_server_new(t->loop, &c, NULL, &s, &err), ERR_BUSY);
	assert_has(err.text, "127.0.0.1");
	c.port = 70000;
	assert_int_equal(http_server_new(t->loop, &c, NULL, &s, &err), ERR_INVAL);
	c.port = 0;
	c.bind = "300.1.2.3";
	assert_int_equal(http_server_new(t->loop, &c, NULL, &s, &err), ERR_INVAL);
	c.bind = "192.0.2.1";
	assert_int_equal(http_server_new(t->loop, &c, NULL, &s, &err), ERR_SYS);
	assert_null(s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(routes_give_decoded_params),
		T(unknown_paths_and_methods_are_refused_in_json),
		T(a_number_is_of_digits_only),
		T(cookies_are_found_by_name),
		cmocka_unit_test(every_answer_has_the_headers_of_the_server),
		T(bad_paths_are_refused),
		T(head_has_the_headers_of_get_and_no_body),
		T(query_and_extra_headers_work),
		T(addresses_are_numeric),
		T(options_is_a_preflight),
		T(no_origin_no_cors),
		T(host_must_name_this_machine_on_loopback),
		T(any_host_is_fine_when_the_world_may_connect),
		T(bodies_arrive_whole),
		T(a_body_may_come_byte_by_byte),
		T(expect_100_is_answered),
		T(the_limit_is_exact),
		T(an_announced_giant_is_answered_at_once),
		T(an_oversized_body_does_not_cost_the_answer),
		T(pipelined_requests_are_answered_in_order),
		T(garbage_is_refused_and_the_server_lives),
		T(a_slow_client_holds_nobody_up),
		T(idle_connections_are_closed),
		T(more_connections_than_allowed_wait_or_are_closed),
		T(who_drips_is_cut_when_its_time_is_over),
		T(an_idle_connection_between_two_requests_has_the_longer_time),
		T(who_ends_within_a_request_is_forgotten),
		T(who_has_waited_longest_makes_room),
		T(bodies_share_a_bounded_memory),
		T(a_body_larger_than_the_memory_of_all_is_refused),
		T(a_request_that_can_be_read_in_two_ways_is_refused_and_the_last),
		T(every_answer_carries_the_id_of_its_request),
		T(an_answer_may_come_later),
		T(waiting_costs_no_cpu),
		T(a_client_may_be_gone_when_the_answer_comes),
		T(pipelining_behind_a_deferred_answer_keeps_order),
		T(a_server_may_be_freed_with_requests_waiting),
		T(a_taken_or_bad_address_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
