#include "common/http.h"

#include "common/clock.h"
#include "common/http_int.h"
#include "common/shortage.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define JSON_TYPE     "application/json; charset=utf-8"
#define ID_HEADER     "X-Request-Id"
#define ALLOW_HEADERS "Content-Type, Accept, Authorization, X-Requested-With, " ID_HEADER
#define EVERY_METHOD  "GET, HEAD, POST, PUT, DELETE, OPTIONS"

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};

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

void http_request_free(struct http_request *req)
{
	http_hold(req, 0);
	req->conn->req = NULL;
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

struct http_request *http_request_new(struct http_server *s, struct MHD_Connection *connection,
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
	req->conn = http_conn_of(connection);
	req->conn->req = req;
	req->id = trace_of(http_header(req, ID_HEADER));
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
	t->name = name;
	t->value = value;
	t->next = *list;
	*list = t;
	return 0;
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

const char *http_prefix(const struct http_request *req)
{
	return req->path.prefix != NULL ? req->path.prefix : "";
}

bool http_slash(const struct http_request *req)
{
	return req->path.slash;
}

const struct http_route *http_route(const struct http_request *req)
{
	return req->route;
}

const char *http_param(const struct http_request *req, const char *name)
{
	return http_path_param(&req->path, req->route->pattern, name);
}

const char *http_header(const struct http_request *req, const char *name)
{
	return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

const char *http_cookie(const struct http_request *req, const char *name)
{
	return MHD_lookup_connection_value(req->connection, MHD_COOKIE_KIND, name);
}

const char *http_request_id(const struct http_request *req)
{
	return req->id.s;
}

const char *http_query(const struct http_request *req, const char *name)
{
	const char *raw = MHD_lookup_connection_value(req->connection, MHD_GET_ARGUMENT_KIND, name);
	CLEANUP(freep)
	char *value = raw != NULL ? strdup(raw) : NULL;
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

bool http_is_loopback(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
	return a->ss_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

bool http_peer_is_loopback(const struct http_request *req)
{
	struct sockaddr_storage a;
	return connection_address(req, getpeername, &a) == 0 && http_is_loopback(&a);
}

static bool means_this_machine(const char *host)
{
	return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

const char *http_reachable(const struct http_request *req, const char *host, char *buf, size_t size)
{
	bool elsewhere = means_this_machine(host) && !http_peer_is_loopback(req);
	return elsewhere && http_local_address(req, buf, size) == 0 ? buf : host;
}

/* ---- the answer ---- */

/* GET serves HEAD. */
bool http_method_fits(const char *wanted, const char *sent)
{
	return strcmp(wanted, sent) == 0 ||
	       (strcmp(sent, "HEAD") == 0 && strcmp(wanted, "GET") == 0);
}

/* "GET, HEAD, PUT" for the path; ret: length. */
static size_t allowed_methods(const struct http_request *req, char *buf, size_t size)
{
	const struct http_server *s = req->server;
	size_t len = 0;
	buf[0] = '\0';
	for (size_t m = 0; m < ARRAY_LEN(methods); m++)
		for (size_t i = 0; i < s->n_routes; i++)
			if (http_method_fits(s->routes[i].method, methods[m]) &&
			    http_path_matches(&req->path, s->routes[i].pattern)) {
				len += (size_t)snprintf(buf + len, size - len, "%s, ", methods[m]);
				break;
			}
	return (size_t)snprintf(buf + len, size - len, "OPTIONS") + len;
}

static const char *known_method(const char *method)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (strcmp(method, methods[i]) == 0)
			return methods[i];
	return "OTHER";
}

static bool add_header(struct MHD_Response *r, const char *name, const char *value)
{
	return MHD_add_response_header(r, name, value) == MHD_YES;
}

/* origin: NULL: no CORS. */
static bool add_cors_headers(const char *origin, struct MHD_Response *r)
{
	return origin == NULL ||
	       (add_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, origin) &&
		add_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, EVERY_METHOD) &&
		add_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS) &&
		add_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_EXPOSE_HEADERS, ID_HEADER) &&
		add_header(r, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, "600") &&
		add_header(r, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ORIGIN));
}

static bool add_pairs(const struct http_pair *headers, struct MHD_Response *r)
{
	for (; headers != NULL && headers->name != NULL; headers++)
		if (!add_header(r, headers->name, headers->value))
			return false;
	return true;
}

static bool add_headers(const struct http_request *req, struct MHD_Response *r, unsigned status,
			const char *content_type)
{
	char allowed[128];
	if (!add_header(r, ID_HEADER, req->id.s))
		return false;
	if (content_type != NULL && !add_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type))
		return false;
	for (struct text *t = req->headers; t != NULL; t = t->next)
		if (!add_header(r, t->name, t->value))
			return false;
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED || strcmp(req->method, "OPTIONS") == 0) {
		allowed_methods(req, allowed, sizeof(allowed));
		if (!add_header(r, MHD_HTTP_HEADER_ALLOW, allowed))
			return false;
	}
	return add_pairs(req->server->headers, r) && add_cors_headers(req->server->cors_origin, r);
}

struct MHD_Response *http_no_memory_new(const struct http_server *s, const char *cors_origin)
{
	static char body[] = "{\"state\":\"error\",\"reason\":\"out of memory\"}";
	struct MHD_Response *r =
		MHD_create_response_from_buffer(sizeof(body) - 1, body, MHD_RESPMEM_PERSISTENT);
	if (r != NULL && (!add_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, JSON_TYPE) ||
			  !add_header(r, MHD_HTTP_HEADER_CONNECTION, "close") || !add_pairs(s->headers, r) ||
			  !add_cors_headers(cors_origin, r))) {
		MHD_destroy_response(r);
		return NULL;
	}
	return r;
}

static int store_no_memory(struct http_request *req)
{
	if (req->response != NULL)
		MHD_destroy_response(req->response);
	req->response = NULL;
	req->status = MHD_HTTP_SERVICE_UNAVAILABLE;
	http_hold(req, req->body_cap);
	return ERR_NOMEM;
}

/* body: taken (malloc'd), may be NULL with 0. The answer waits in req until it is let go; without
 * memory for it, the server's 503. */
static int store_answer(struct http_request *req, unsigned status, const char *content_type,
			char *body, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(
		len, body != NULL ? body : "",
		body != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	store_no_memory(req);
	if (r == NULL) {
		free(body);
		return ERR_NOMEM;
	}
	if (!add_headers(req, r, status, content_type)) {
		MHD_destroy_response(r);
		return ERR_NOMEM;
	}
	req->response = r;
	req->status = status;
	/* there is no better answer than this one, whatever room it takes */
	http_hold(req, req->body_cap + len);
	return 0;
}

static char *error_body(const char *reason, size_t *ret_len)
{
	json_t *o = json_pack("{s:s, s:s}", "state", "error", "reason", reason);
	char *text = o != NULL ? shortage_dumps(o) : NULL;
	json_decref(o);
	*ret_len = text != NULL ? strlen(text) : 0;
	return text;
}

void http_store_refusal(struct http_request *req)
{
	size_t len = 0;
	char *body = req->refuse_why != NULL ? error_body(req->refuse_why, &len) : NULL;
	store_answer(req, req->refuse, body != NULL ? JSON_TYPE : NULL, body, len);
	req->progress = REQ_ANSWERED;
}

static void tell_done(const struct http_server *s, const struct http_done *done)
{
	if (s->on_done != NULL)
		s->on_done(s->arg, done);
}

enum MHD_Result http_queue_no_memory(struct http_server *s, struct MHD_Connection *connection,
				     const char *method)
{
	struct trace_text id =
		trace_of(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, ID_HEADER));
	enum MHD_Result ok =
		MHD_queue_response(connection, MHD_HTTP_SERVICE_UNAVAILABLE, s->no_memory);
	if (ok == MHD_YES)
		tell_done(s, &(struct http_done){
				     .method = known_method(method),
				     .path = "",
				     .id = id.s,
				     .status = MHD_HTTP_SERVICE_UNAVAILABLE,
				     .took_us = -1,
			     });
	return ok;
}

enum MHD_Result http_queue_answer(struct http_request *req)
{
	struct http_server *s = req->server;
	struct MHD_Response *r = req->response != NULL ? req->response : s->no_memory;
	req->progress = REQ_QUEUED;
	if (req->early) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		if (req->response != NULL)
			MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
		if (info != NULL)
			drain_add(s->drain, info->connect_fd);
	}
	enum MHD_Result ok = MHD_queue_response(req->connection, req->status, r);
	http_conn_enter(req->conn, HTTP_ANSWER);
	if (ok == MHD_YES)
		tell_done(s, &(struct http_done){
				     .method = known_method(req->method),
				     .path = req->path.joined != NULL ? req->path.joined : "",
				     .id = req->id.s,
				     .status = req->status,
				     .took_us = req->complete_us != 0
							? monotonic_us() - req->complete_us
							: -1,
			     });
	return ok;
}

int http_add_header(struct http_request *req, const char *name, const char *value)
{
	if (*name == '\0' || strpbrk(name, " \t\r\n:") != NULL || strpbrk(value, "\r\n") != NULL)
		return ERR_INVAL;
	CLEANUP(freep)
	char *n = strdup(name);
	CLEANUP(freep)
	char *v = strdup(value);
	if (n == NULL || v == NULL || text_add(&req->headers, n, v) < 0)
		return ERR_NOMEM;
	n = v = NULL;
	return 0;
}

void http_send(struct http_request *req)
{
	req->progress = REQ_ANSWERED;
	if (req->suspended) {
		req->suspended = false;
		MHD_resume_connection(req->connection);
		loop_arm(req->server->loop, req->server->timer, 0);
	}
}

int http_reply(struct http_request *req, unsigned status, const char *content_type,
	       const char *body, size_t len)
{
	CLEANUP(freep)
	char *copy = len > 0 ? malloc(len) : NULL;
	int rc = 0;
	if (copy != NULL)
		memcpy(copy, body, len);
	if (len > 0 && copy == NULL)
		rc = store_no_memory(req);
	else
		rc = store_answer(req, status, content_type, TAKE(copy), len);
	http_send(req);
	return rc;
}

int http_prepare_json(struct http_request *req, unsigned status, json_t *body)
{
	char *text = body != NULL ? shortage_dumps(body) : NULL;
	json_decref(body);
	return text != NULL ? store_answer(req, status, JSON_TYPE, text, strlen(text))
			    : store_no_memory(req);
}

int http_reply_json(struct http_request *req, unsigned status, json_t *body)
{
	int rc = http_prepare_json(req, status, body);
	http_send(req);
	return rc;
}

int http_reply_error(struct http_request *req, unsigned status, const char *reason)
{
	return http_reply_json(req, status,
			       json_pack("{s:s, s:s}", "state", "error", "reason", reason));
}
