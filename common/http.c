#include "common/http.h"

#include "common/drain.h"
#include "common/http_path.h"
#include "common/log.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define JSON_TYPE	     "application/json; charset=utf-8"
#define CONNECTIONS_DEFAULT  1000
#define MEMORY_DEFAULT	     (32u << 10)
#define IDLE_DEFAULT_S	     30
#define BODY_FIRST_BYTES     1024
#define DISCARD_MAX	     (8u << 20) /* of a chunked body that is too long; then the connection is cut */
#define ALLOW_HEADERS	     "Content-Type, Accept, Authorization, X-Requested-With"
#define EVERY_METHOD	     "GET, HEAD, POST, PUT, DELETE, OPTIONS"

struct http_server {
	struct loop *loop;
	struct MHD_Daemon *daemon;
	const struct http_route *routes;
	size_t n_routes;
	const char *const *prefixes;
	char *cors_origin; /* NULL: no CORS */
	char own_name[256];
	bool loopback; /* bound to a loopback address: check Host */
	unsigned port;
	void *arg;
	void (*on_done)(void *arg, const char *method, unsigned status);
	struct drain *drain;
	struct loop_src *io, *timer;
	struct http_request *requests; /* all that the library has not finished */
	unsigned connections;	       /* after the last run */
	bool stopping;
};

struct text { /* a header for the answer, or memory lent to the handler */
	char *name, *value;
	struct text *next;
};

enum progress {
	REQ_READING,
	REQ_HANDLED,  /* the handler was called, no answer yet */
	REQ_ANSWERED, /* the answer is stored */
	REQ_QUEUED,   /* and the library has it */
};

struct http_request {
	struct http_server *server;
	struct MHD_Connection *connection;
	char *method; /* as sent */
	struct http_path path;
	const struct http_route *route; /* NULL: refuse with `refuse` */
	unsigned refuse;
	const char *refuse_why;
	char *body;
	size_t body_len, body_cap, discarded;
	enum progress progress;
	bool in_handler, suspended, early;
	struct text *headers, *lent;
	struct MHD_Response *response;
	unsigned status;
	struct http_request *prev, *next;
};

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};

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
	/* A full library stops listening, and begins again only in a run after one that closed connections. */
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

/* ---- requests ---- */

static void texts_free(struct text *t)
{
	while (t != NULL) {
		struct text *next = t->next;
		free(t->name);
		free(t->value);
		free(t);
		t = next;
	}
}

static void request_free(struct http_request *req)
{
	if (req->prev != NULL)
		req->prev->next = req->next;
	else
		req->server->requests = req->next;
	if (req->next != NULL)
		req->next->prev = req->prev;
	if (req->response != NULL)
		MHD_destroy_response(req->response);
	texts_free(req->headers);
	texts_free(req->lent);
	http_path_done(&req->path);
	free(req->method);
	free(req->body);
	free(req);
}

static struct http_request *request_new(struct http_server *s, struct MHD_Connection *connection,
					const char *method)
{
	struct http_request *req = calloc(1, sizeof(*req));
	if (req == NULL)
		return NULL;
	req->method = strdup(method);
	if (req->method == NULL) {
		free(req);
		return NULL;
	}
	req->server = s;
	req->connection = connection;
	req->next = s->requests;
	if (req->next != NULL)
		req->next->prev = req;
	s->requests = req;
	return req;
}

static int text_add(struct text **list, char *name, char *value)
{
	struct text *t = calloc(1, sizeof(*t));
	if (t == NULL)
		return ERR_NOMEM;
	*t = (struct text){.name = name, .value = value, .next = *list};
	*list = t;
	return 0;
}

static void refuse(struct http_request *req, unsigned status, const char *why)
{
	req->route = NULL;
	req->refuse = status;
	req->refuse_why = why;
}

/* ---- the gate ---- */

/* GET serves HEAD. */
static bool method_fits(const char *wanted, const char *sent)
{
	return strcmp(wanted, sent) == 0 || (strcmp(sent, "HEAD") == 0 && strcmp(wanted, "GET") == 0);
}

static void find_route(struct http_request *req)
{
	struct http_server *s = req->server;
	bool options = strcmp(req->method, "OPTIONS") == 0, known = false;
	for (size_t i = 0; i < s->n_routes; i++) {
		if (!http_path_matches(&req->path, s->routes[i].pattern))
			continue;
		known = true;
		if (method_fits(s->routes[i].method, req->method)) {
			req->route = &s->routes[i];
			return;
		}
	}
	if (options)
		refuse(req, MHD_HTTP_NO_CONTENT, NULL); /* preflight: no body to it */
	else if (known)
		refuse(req, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
	else
		refuse(req, MHD_HTTP_NOT_FOUND, "not found");
}

/* "GET, HEAD, PUT" for the path; ret: length. */
static size_t allowed_methods(const struct http_request *req, char *buf, size_t size)
{
	const struct http_server *s = req->server;
	size_t len = 0;
	buf[0] = '\0';
	for (size_t m = 0; m < ARRAY_LEN(methods); m++)
		for (size_t i = 0; i < s->n_routes; i++)
			if (method_fits(s->routes[i].method, methods[m]) &&
			    http_path_matches(&req->path, s->routes[i].pattern)) {
				len += (size_t)snprintf(buf + len, size - len, "%s, ", methods[m]);
				break;
			}
	return (size_t)snprintf(buf + len, size - len, "OPTIONS") + len;
}

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

/* The length the client announces; SIZE_MAX if that is no number, 0 if none (chunked, or no body). */
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

/* ---- the answer ---- */

static const char *known_method(const char *method)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (strcmp(method, methods[i]) == 0)
			return methods[i];
	return "OTHER";
}

static void add_common_headers(struct http_request *req, struct MHD_Response *r)
{
	char allowed[128];
	const char *origin = req->server->cors_origin;
	if (req->status == MHD_HTTP_METHOD_NOT_ALLOWED || strcmp(req->method, "OPTIONS") == 0) {
		allowed_methods(req, allowed, sizeof(allowed));
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, allowed);
	}
	if (origin == NULL)
		return;
	MHD_add_response_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, origin);
	MHD_add_response_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, EVERY_METHOD);
	MHD_add_response_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
	MHD_add_response_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, "600");
	MHD_add_response_header(r, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ORIGIN);
}

/* body: taken (malloc'd), may be NULL with 0. The answer waits in req until the library asks. */
static int store_answer(struct http_request *req, unsigned status, const char *content_type,
			char *body, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(
		len, body != NULL ? body : "",
		body != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	req->progress = REQ_ANSWERED;
	req->status = status;
	if (r == NULL) {
		free(body);
		return ERR_NOMEM; /* no answer to give: the connection is closed */
	}
	req->response = r;
	if (content_type != NULL)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	for (struct text *t = req->headers; t != NULL; t = t->next)
		MHD_add_response_header(r, t->name, t->value);
	add_common_headers(req, r);
	return 0;
}

static char *error_body(const char *reason, size_t *ret_len)
{
	json_t *o = json_pack("{s:s, s:s}", "state", "error", "reason", reason);
	char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	*ret_len = text != NULL ? strlen(text) : 0;
	return text;
}

static void store_refusal(struct http_request *req)
{
	size_t len = 0;
	char *body = req->refuse_why != NULL ? error_body(req->refuse_why, &len) : NULL;
	store_answer(req, req->refuse, body != NULL ? JSON_TYPE : NULL, body, len);
}

static enum MHD_Result queue_answer(struct http_request *req)
{
	struct http_server *s = req->server;
	req->progress = REQ_QUEUED;
	if (req->response == NULL)
		return MHD_NO;
	if (req->early) {
		const union MHD_ConnectionInfo *info = MHD_get_connection_info(
			req->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		MHD_add_response_header(req->response, MHD_HTTP_HEADER_CONNECTION, "close");
		if (info != NULL)
			drain_add(s->drain, info->connect_fd);
	}
	enum MHD_Result ok = MHD_queue_response(req->connection, req->status, req->response);
	if (ok == MHD_YES && s->on_done != NULL)
		s->on_done(s->arg, known_method(req->method), req->status);
	return ok;
}

/* ---- the library's callbacks (on the loop's thread) ---- */

static enum MHD_Result begin_request(struct http_request *req, const char *url)
{
	gate(req, url);
	if (req->route != NULL && announced_length(req) > req->route->max_body_bytes)
		refuse(req, MHD_HTTP_CONTENT_TOO_LARGE, "body too large");
	if (req->route != NULL || !has_body(req))
		return MHD_YES;
	/* refused whatever the body says: answer now, and let the client talk into the void */
	req->early = true;
	store_refusal(req);
	return queue_answer(req);
}

static enum MHD_Result end_request(struct http_request *req)
{
	if (req->route != NULL) {
		req->progress = REQ_HANDLED;
		req->in_handler = true;
		req->route->handler(req->server->arg, req);
		req->in_handler = false;
	} else {
		store_refusal(req);
	}
	if (req->progress == REQ_ANSWERED)
		return queue_answer(req);
	req->suspended = true;
	MHD_suspend_connection(req->connection);
	return MHD_YES;
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *url,
				 const char *method, const char *version, const char *upload,
				 size_t *upload_len, void **con_cls)
{
	(void)version;
	struct http_server *s = arg;
	struct http_request *req = *con_cls;
	if (s->stopping)
		return MHD_NO;
	if (req == NULL) {
		req = *con_cls = request_new(s, connection, method);
		return req != NULL ? begin_request(req, url) : MHD_NO;
	}
	if (req->progress == REQ_ANSWERED)
		return queue_answer(req);
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
	(void)arg;
	(void)connection;
	(void)how;
	if (*con_cls != NULL)
		request_free(*con_cls);
	*con_cls = NULL;
}

/* Leave everything as it was sent: http_path.c decodes, and refuses what it should. */
static size_t on_unescape(void *arg, struct MHD_Connection *connection, char *text)
{
	(void)arg;
	(void)connection;
	return strlen(text);
}

/* ---- accessors ---- */

const char *http_method(const struct http_request *req)
{
	return strcmp(req->method, "HEAD") == 0 ? "GET" : req->method;
}

const char *http_path(const struct http_request *req)
{
	return req->path.joined;
}

const char *http_param(const struct http_request *req, const char *name)
{
	return http_path_param(&req->path, req->route->pattern, name);
}

const char *http_header(const struct http_request *req, const char *name)
{
	return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

const char *http_query(const struct http_request *req, const char *name)
{
	const char *raw = MHD_lookup_connection_value(req->connection, MHD_GET_ARGUMENT_KIND, name);
	CLEANUP(freep) char *value = raw != NULL ? strdup(raw) : NULL;
	if (value == NULL || http_decode(value, true) < 0)
		return NULL;
	struct http_request *owner = (struct http_request *)req; /* it keeps the memory */
	char *lent = value;
	if (text_add(&owner->lent, NULL, value) < 0)
		return NULL;
	value = NULL;
	return lent;
}

const char *http_body(const struct http_request *req, size_t *ret_len)
{
	if (ret_len != NULL)
		*ret_len = req->body_len;
	return req->body != NULL ? req->body : "";
}

typedef int address_fn(int fd, struct sockaddr *address, socklen_t *len);

static int connection_address(const struct http_request *req, address_fn *get,
			      struct sockaddr_storage *ret)
{
	socklen_t len = sizeof(*ret);
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info == NULL || get(info->connect_fd, (struct sockaddr *)ret, &len) < 0)
		return ERR_SYS;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
	if (ret->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		struct sockaddr_in v4 = {.sin_family = AF_INET};
		memcpy(&v4.sin_addr, v6->sin6_addr.s6_addr + 12, sizeof(v4.sin_addr));
		memcpy(ret, &v4, sizeof(v4));
	}
	return 0;
}

static int format_address(const struct http_request *req, address_fn *get, char *buf, size_t size)
{
	struct sockaddr_storage a;
	if (connection_address(req, get, &a) < 0)
		return ERR_SYS;
	const void *raw = a.ss_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)&a)->sin6_addr
						  : (void *)&((struct sockaddr_in *)&a)->sin_addr;
	return inet_ntop(a.ss_family, raw, buf, (socklen_t)size) != NULL ? 0 : ERR_RANGE;
}

int http_local_address(const struct http_request *req, char *buf, size_t size)
{
	return format_address(req, getsockname, buf, size);
}

int http_peer_address(const struct http_request *req, char *buf, size_t size)
{
	return format_address(req, getpeername, buf, size);
}

static bool is_loopback(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
	return a->ss_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

bool http_peer_is_loopback(const struct http_request *req)
{
	struct sockaddr_storage a;
	return connection_address(req, getpeername, &a) == 0 && is_loopback(&a);
}

/* ---- answering ---- */

int http_add_header(struct http_request *req, const char *name, const char *value)
{
	if (*name == '\0' || strpbrk(name, " \t\r\n:") != NULL || strpbrk(value, "\r\n") != NULL)
		return ERR_INVAL;
	CLEANUP(freep) char *n = strdup(name);
	CLEANUP(freep) char *v = strdup(value);
	if (n == NULL || v == NULL || text_add(&req->headers, n, v) < 0)
		return ERR_NOMEM;
	n = v = NULL;
	return 0;
}

/* body: taken. */
static int answer(struct http_request *req, unsigned status, const char *content_type, char *body,
		  size_t len)
{
	int rc = store_answer(req, status, content_type, body, len);
	if (req->suspended) {
		req->suspended = false;
		MHD_resume_connection(req->connection);
		loop_arm(req->server->loop, req->server->timer, 0);
	}
	return rc;
}

int http_reply(struct http_request *req, unsigned status, const char *content_type, const char *body,
	       size_t len)
{
	char *copy = NULL;
	if (len > 0) {
		copy = malloc(len);
		if (copy == NULL) {
			answer(req, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, 0);
			return ERR_NOMEM;
		}
		memcpy(copy, body, len);
	}
	return answer(req, status, content_type, copy, len);
}

int http_reply_json(struct http_request *req, unsigned status, json_t *body)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	json_decref(body);
	if (text == NULL) {
		answer(req, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, 0);
		return ERR_NOMEM;
	}
	return answer(req, status, JSON_TYPE, text, strlen(text));
}

int http_reply_error(struct http_request *req, unsigned status, const char *reason)
{
	return http_reply_json(req, status,
			       json_pack("{s:s, s:s}", "state", "error", "reason", reason));
}

/* ---- the server ---- */

static int listen_on(const struct http_conf *c, struct http_server *s, struct err *err)
{
	char service[16];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	CLEANUP(closep) int fd = -1;
	int one = 1;
	if (c->port > 65535)
		return err_set(err, ERR_INVAL, "bad HTTP port %u", c->port);
	snprintf(service, sizeof(service), "%u", c->port);
	int rc = getaddrinfo(c->bind, service, &hints, &found);
	if (rc != 0)
		return err_set(err, ERR_INVAL, "bad HTTP address '%s': %s", c->bind, gai_strerror(rc));
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
		  bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
	int why = errno;
	struct sockaddr_storage bound = {0};
	socklen_t len = sizeof(bound);
	freeaddrinfo(found);
	if (!ok) {
		int code = why == EADDRINUSE ? ERR_BUSY : why == EACCES ? ERR_ACCES : ERR_SYS;
		return err_set(err, code, "HTTP on %s port %u: %s", c->bind, c->port, strerror(why));
	}
	if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
		return err_sys(err, "HTTP on %s port %u", c->bind, c->port);
	s->loopback = is_loopback(&bound);
	s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
						    : ((struct sockaddr_in *)&bound)->sin_port);
	return TAKE_FD(fd);
}

static int start_library(struct http_server *s, const struct http_conf *c, int fd, struct err *err)
{
	s->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access, s,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
		MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, s, MHD_OPTION_CONNECTION_LIMIT,
		c->max_connections != 0 ? c->max_connections : CONNECTIONS_DEFAULT,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		c->connection_memory_bytes != 0 ? c->connection_memory_bytes : (size_t)MEMORY_DEFAULT,
		MHD_OPTION_CONNECTION_TIMEOUT,
		c->idle_timeout_s != 0 ? c->idle_timeout_s : IDLE_DEFAULT_S, MHD_OPTION_END);
	if (s->daemon == NULL) {
		close(fd);
		return err_set(err, ERR_SYS, "the HTTP library does not start on %s port %u", c->bind,
			       s->port);
	}
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return err_set(err, ERR_SYS, "the HTTP library has no epoll descriptor");
	return loop_add_fd(s->loop, info->epoll_fd, EPOLLIN, on_io, s, &s->io, err);
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
	s->arg = arg;
	s->on_done = c->on_done;
	if (gethostname(s->own_name, sizeof(s->own_name) - 1) < 0)
		s->own_name[0] = '\0';
	int rc = 0;
	if (c->cors_origin != NULL && *c->cors_origin != '\0' &&
	    (s->cors_origin = strdup(c->cors_origin)) == NULL)
		rc = err_set(err, ERR_NOMEM, "HTTP server");
	s->drain = drain_new(l);
	if (s->drain == NULL)
		rc = err_set(err, ERR_NOMEM, "HTTP server");
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, run, s, &s->timer, err);
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
	s->drain = drain_free(s->drain);
	free(s->cors_origin);
	free(s);
	return NULL;
}

unsigned http_port(const struct http_server *s)
{
	return s->port;
}
