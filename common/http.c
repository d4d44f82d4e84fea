#include "common/http.h"

#include "common/clock.h"
#include "common/http_int.h"
#include "common/log.h"
#include "common/util.h"
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#define MEMORY_DEFAULT   (32u << 10)
#define BODY_FIRST_BYTES 1024
#define DISCARD_MAX                                                                  \
	(8u << 20) /* of a chunked body that is too long; then the connection is cut \
		    */

/* ---- running the library ---- */

static void run(void *arg)
{
	struct http_server *s = arg;
	MHD_UNSIGNED_LONG_LONG in_ms = 0;
	MHD_run(s->daemon);
	unsigned before = s->connections;
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
	s->connections = info != NULL ? info->num_connections : 0;
	/* A full library stops listening, and begins again only in a run after one that closed
	 * connections. */
	if (s->connections < before)
		loop_arm(s->loop, s->timer, 0);
	else if (MHD_get_timeout(s->daemon, &in_ms) == MHD_YES)
		loop_arm(s->loop, s->timer, in_ms > INT32_MAX ? INT32_MAX : (int64_t)in_ms);
	else
		loop_arm(s->loop, s->timer, -1);
}

static void on_io(void *arg, uint32_t events)
{
	(void)events;
	run(arg);
}

/* ---- routes ---- */

static void refuse(struct http_request *req, unsigned status, const char *why)
{
	req->route = NULL;
	req->refuse = status;
	req->refuse_why = why;
}

static void find_route(struct http_request *req)
{
	struct http_server *s = req->server;
	bool options = strcmp(req->method, "OPTIONS") == 0, known = false;
	const char *why;
	for (size_t i = 0; i < s->n_routes; i++) {
		if (!http_path_matches(&req->path, s->routes[i].pattern))
			continue;
		known = true;
		if (http_method_fits(s->routes[i].method, req->method)) {
			req->route = &s->routes[i];
			return;
		}
	}
	if (options)
		refuse(req, MHD_HTTP_NO_CONTENT, NULL); /* preflight: no body to it */
	else if (known)
		refuse(req, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
	else if (s->not_found != NULL && (why = s->not_found(req->path.joined)) != NULL)
		refuse(req, MHD_HTTP_NOT_FOUND, why);
	else
		refuse(req, MHD_HTTP_NOT_FOUND, "not found");
}

/* ---- what is framed in two ways is refused: whoever stands between us and the client may read it
 * in the other ---- */

struct framing {
	unsigned hosts, lengths, encodings;
	const char *length, *encoding;
	bool bad_name;
};

static enum MHD_Result look_at_header(void *arg, enum MHD_ValueKind kind, const char *name,
				      const char *value)
{
	struct framing *f = arg;
	(void)kind;
	if (name[strcspn(name, " \t\r\n()<>@,;:\\\"/[]?={}")] != '\0')
		f->bad_name = true;
	if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) {
		f->hosts++;
	} else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
		f->lengths++;
		f->length = value;
	} else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
		f->encodings++;
		f->encoding = value;
	}
	return MHD_YES;
}

/* ret: NULL: there is one way to read it. */
static const char *framing_trouble(const struct http_request *req, const char *version)
{
	struct framing f = {0};
	bool is_1_1 = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;
	MHD_get_connection_values(req->connection, MHD_HEADER_KIND, look_at_header, &f);
	if (f.bad_name)
		return "bad header name";
	if (f.hosts > 1 || (f.hosts == 0 && is_1_1))
		return "exactly one Host is required";
	if (f.lengths + f.encodings > 1)
		return "more than one Content-Length or Transfer-Encoding";
	if (f.encodings == 1 && (!is_1_1 || strcasecmp(f.encoding, "chunked") != 0))
		return "bad Transfer-Encoding";
	if (f.lengths == 1 &&
	    (*f.length == '\0' || f.length[strspn(f.length, "0123456789")] != '\0'))
		return "bad Content-Length";
	return NULL;
}

/* ---- the gate ---- */

/* Everything that can be said before the body is read. */
static void gate(struct http_request *req, const char *url)
{
	struct http_server *s = req->server;
	const char *host = http_header(req, MHD_HTTP_HEADER_HOST);
	int rc = http_path_parse(url, s->prefixes, &req->path);
	if (s->loopback && !http_host_is_local(host, s->own_name)) {
		refuse(req, MHD_HTTP_FORBIDDEN, "Host does not name this machine");
	} else if (rc == ERR_NOMEM) {
		refuse(req, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
	} else if (rc == ERR_LIMIT) {
		refuse(req, MHD_HTTP_NOT_FOUND, "not found");
	} else if (rc < 0) {
		refuse(req, MHD_HTTP_BAD_REQUEST, "bad percent-encoding in the path");
	} else {
		find_route(req);
	}
}

/* The length the client announces; SIZE_MAX if that is no number, 0 if none (chunked, or no body).
 */
static size_t announced_length(const struct http_request *req)
{
	const char *text = http_header(req, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (text == NULL)
		return 0;
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	return errno != 0 || *end != '\0' || n > SIZE_MAX ? SIZE_MAX : (size_t)n;
}

static bool has_body(const struct http_request *req)
{
	return announced_length(req) > 0 ||
	       http_header(req, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

static int body_append(struct http_request *req, const char *data, size_t len)
{
	size_t max = req->route->max_body_bytes;
	if (len > max - req->body_len) {
		refuse(req, MHD_HTTP_CONTENT_TOO_LARGE, "body too large");
		return 0;
	}
	size_t need = req->body_len + len + 1;
	if (need > req->body_cap) {
		size_t cap = req->body_cap != 0 ? req->body_cap : BODY_FIRST_BYTES;
		while (cap < need)
			cap *= 2;
		if (!http_hold(req, cap)) {
			refuse(req, MHD_HTTP_SERVICE_UNAVAILABLE,
			       "too many large requests are under way");
			return 0;
		}
		char *body = realloc(req->body, cap);
		if (body == NULL) {
			refuse(req, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
			return 0;
		}
		req->body = body;
		req->body_cap = cap;
	}
	memcpy(req->body + req->body_len, data, len);
	req->body_len += len;
	req->body[req->body_len] = '\0';
	return 0;
}

/* ---- the library's callbacks (on the loop's thread) ---- */

static enum MHD_Result begin_request(struct http_request *req, const char *url, const char *version)
{
	const char *trouble = framing_trouble(req, version);
	http_conn_enter(req->conn, HTTP_BODY);
	if (trouble != NULL) {
		/* where the next request would begin is anybody's guess: the connection ends here
		 */
		refuse(req, MHD_HTTP_BAD_REQUEST, trouble);
		req->early = true;
		http_store_refusal(req);
		return http_queue_answer(req);
	}
	gate(req, url);
	if (req->route != NULL && announced_length(req) > req->route->max_body_bytes)
		refuse(req, MHD_HTTP_CONTENT_TOO_LARGE, "body too large");
	if (req->route != NULL || !has_body(req))
		return MHD_YES;
	/* refused whatever the body says: answer now, and let the client talk into the void */
	req->early = true;
	http_store_refusal(req);
	return http_queue_answer(req);
}

static enum MHD_Result end_request(struct http_request *req)
{
	req->complete_us = monotonic_us();
	http_conn_enter(req->conn, HTTP_OURS);
	if (req->route != NULL) {
		req->progress = REQ_HANDLED;
		req->route->handler(req->server->arg, req);
	} else {
		http_store_refusal(req);
	}
	if (req->progress == REQ_ANSWERED)
		return http_queue_answer(req);
	req->suspended = true;
	MHD_suspend_connection(req->connection);
	return MHD_YES;
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *url,
				 const char *method, const char *version, const char *upload,
				 size_t *upload_len, void **con_cls)
{
	struct http_server *s = arg;
	struct http_request *req = *con_cls;
	if (s->stopping)
		return MHD_NO;
	if (req == NULL) {
		if (http_conn_of(connection) != NULL)
			req = *con_cls = http_request_new(s, connection, method);
		return req != NULL ? begin_request(req, url, version)
				   : http_queue_no_memory(s, connection, method);
	}
	if (req->progress == REQ_ANSWERED)
		return http_queue_answer(req);
	if (req->progress != REQ_READING)
		return MHD_YES;
	if (*upload_len == 0)
		return end_request(req);
	if (req->route != NULL)
		body_append(req, upload, *upload_len);
	else
		req->discarded += *upload_len;
	*upload_len = 0;
	return req->discarded > DISCARD_MAX ? MHD_NO : MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode how)
{
	struct http_request *req = *con_cls;
	(void)arg;
	(void)connection;
	(void)how;
	if (req == NULL)
		return;
	http_conn_enter(req->conn, HTTP_NEXT_HEAD);
	http_request_free(req);
	*con_cls = NULL;
}

/* Leave everything as it was sent: http_path.c decodes, and refuses what it should. */
static size_t on_unescape(void *arg, struct MHD_Connection *connection, char *text)
{
	(void)arg;
	(void)connection;
	return strlen(text);
}

/* ---- the server ---- */

static int listen_on(const struct http_conf *c, struct http_server *s, struct err *err)
{
	char service[16];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	CLEANUP(closep)
	int fd = -1;
	int one = 1;
	if (c->port > 65535)
		return err_set(err, ERR_INVAL, "bad HTTP port %u", c->port);
	snprintf(service, sizeof(service), "%u", c->port);
	int rc = getaddrinfo(c->bind, service, &hints, &found);
	if (rc != 0)
		return err_set(err, ERR_INVAL, "bad HTTP address '%s': %s", c->bind,
			       gai_strerror(rc));
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
		  bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
	int why = errno;
	struct sockaddr_storage bound = {0};
	socklen_t len = sizeof(bound);
	freeaddrinfo(found);
	if (!ok) {
		int code = why == EADDRINUSE ? ERR_BUSY : why == EACCES ? ERR_ACCES : ERR_SYS;
		return err_set(err, code, "HTTP on %s port %u: %s", c->bind, c->port,
			       strerror(why));
	}
	if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
		return err_sys(err, "HTTP on %s port %u", c->bind, c->port);
	s->loopback = http_is_loopback(&bound);
	struct sockaddr_in v4; /* the port is at the same place in both families */
	memcpy(&v4, &bound, sizeof(v4));
	s->port = ntohs(v4.sin_port);
	return TAKE_FD(fd);
}

/* What the library cannot tell anybody else, above all a connection that it has no memory for. */
static void on_complaint(void *arg, const char *fmt, va_list args)
{
	char text[300];
	(void)arg;
	if (!log_allowed("http.trouble", fmt))
		return;
	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = '\0';
	log_warn("http.trouble", KV("why", text));
}

static int start_library(struct http_server *s, const struct http_conf *c, int fd, struct err *err)
{
	s->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_complaint, s, MHD_OPTION_LISTEN_SOCKET,
		fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_UNESCAPE_CALLBACK,
		on_unescape, s, MHD_OPTION_NOTIFY_CONNECTION, http_conn_notify, s,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->max_conns,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		c->connection_memory_bytes != 0 ? c->connection_memory_bytes
						: (size_t)MEMORY_DEFAULT,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(s->phase_ms[HTTP_NEXT_HEAD] / 1000),
		MHD_OPTION_END);
	if (s->daemon == NULL) {
		close(fd);
		return err_set(err, ERR_SYS, "the HTTP library does not start on %s port %u",
			       c->bind, s->port);
	}
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return err_set(err, ERR_SYS, "the HTTP library has no epoll descriptor");
	return loop_add_fd(s->loop, info->epoll_fd, EPOLLIN, on_io, s, &s->io, err);
}

int http_server_set_cors(struct http_server *s, const char *origin)
{
	bool none = origin == NULL || *origin == '\0';
	char *copy = none ? NULL : strdup(origin);
	struct MHD_Response *no_memory = none || copy != NULL ? http_no_memory_new(s, copy) : NULL;
	if (no_memory == NULL) {
		free(copy);
		return ERR_NOMEM;
	}
	if (s->no_memory != NULL)
		MHD_destroy_response(s->no_memory); /* answers under way keep it */
	s->no_memory = no_memory;
	free(s->cors_origin);
	s->cors_origin = copy;
	return 0;
}

int http_server_new(struct loop *l, const struct http_conf *c, void *arg, struct http_server **ret,
		    struct err *err)
{
	struct http_server *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "HTTP server");
	s->loop = l;
	s->routes = c->routes;
	s->n_routes = c->n_routes;
	s->prefixes = c->prefixes;
	s->headers = c->headers;
	s->not_found = c->not_found;
	s->arg = arg;
	s->on_done = c->on_done;
	s->on_cut = c->on_cut;
	if (gethostname(s->own_name, sizeof(s->own_name) - 1) < 0)
		s->own_name[0] = '\0';
	int rc = 0;
	if (http_server_set_cors(s, c->cors_origin) < 0)
		rc = err_set(err, ERR_NOMEM, "HTTP server");
	s->drain = drain_new(l);
	if (s->drain == NULL)
		rc = err_set(err, ERR_NOMEM, "HTTP server");
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, run, s, &s->timer, err);
	if (rc == 0)
		rc = http_conns_start(s, c, err);
	int fd = rc == 0 ? listen_on(c, s, err) : rc;
	if (fd >= 0)
		rc = start_library(s, c, fd, err);
	else
		rc = fd;
	if (rc < 0) {
		http_server_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct http_server *http_server_free(struct http_server *s)
{
	if (s == NULL)
		return NULL;
	s->stopping = true;
	s->io = loop_remove(s->loop, s->io);
	s->timer = loop_remove(s->loop, s->timer);
	for (struct http_request *req = s->requests; req != NULL; req = req->next)
		if (req->suspended)
			MHD_resume_connection(req->connection);
	if (s->daemon != NULL)
		MHD_stop_daemon(s->daemon); /* ends every request through on_completed() */
	s->sweeper = loop_remove(s->loop, s->sweeper);
	if (s->no_memory != NULL)
		MHD_destroy_response(s->no_memory);
	s->drain = drain_free(s->drain);
	free(s->cors_origin);
	free(s);
	return NULL;
}

unsigned http_port(const struct http_server *s)
{
	return s->port;
}
