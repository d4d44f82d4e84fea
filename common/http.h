/* http.h - an HTTP/1.1 server on the loop (libmicrohttpd beneath, without threads of its own).
 *
 * One gate does what every service needs before a handler runs: prefix, route, method, Host check,
 * CORS, body limit, percent-decoding. A handler starts from a complete and valid request and
 * answers it exactly once, at once or later; the connection waits meanwhile. Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct http_server;
struct http_request; /* valid from its handler's call until it is answered */

typedef void http_handler_fn(void *arg, struct http_request *req);

/* pattern: "/", "/healthz", "/{id}", "/{id}/{path...}"; {name} is one non-empty segment, {name:int}
 * one of digits only, {name...} (last only) the rest, at least one segment. Among the patterns that
 * fit a path, those earlier in the table win. GET routes answer HEAD too. */
struct http_route {
	const char *method, *pattern;
	size_t max_body_bytes; /* a longer body is answered with 413 and not read; 0: no body */
	http_handler_fn *handler;
};

/* A header. */
struct http_pair {
	const char *name, *value;
};

/* One answer, for metrics and logs; borrowed. */
struct http_done {
	const char *method, *path, *id; /* of the request; method: one that is known, or "OTHER" */
	unsigned status;
	int64_t took_us; /* since the request was complete; -1: it never was */
};

struct http_conf {
	const char *bind; /* "127.0.0.1", "0.0.0.0", "::1", ...; strings are copied */
	unsigned port;    /* 0: any free one, see http_port() */
	const struct http_route *routes; /* borrowed, like prefixes */
	size_t n_routes;
	const char *const
		*prefixes; /* NULL-terminated, e.g. {"/csm", NULL}: stripped once; NULL: none */
	const char *cors_origin;         /* NULL or "": no CORS headers */
	const struct http_pair *headers; /* of every answer; borrowed, ends with {0}; NULL: none */
	/* What a 404 for want of a route says, by path; NULL, or NULL from it: "not found". */
	const char *(*not_found)(const char *path);
	unsigned max_connections;       /* 0: 1000 */
	size_t connection_memory_bytes; /* request line and headers must fit; 0: 32 KiB */
	size_t memory_bytes;            /* of all bodies and answers under way; 0: 64 MiB */
	unsigned idle_timeout_s;        /* without a byte, and between two requests; 0: 30 */
	unsigned head_timeout_s;        /* for the first request line with its headers; 0: 10 */
	unsigned transfer_timeout_s;    /* for a body, and for taking an answer; 0: 60 */
	/* For metrics, may be NULL: every request that got an answer, refused ones included. */
	void (*on_done)(void *arg, const struct http_done *done);
	/* The same for connections that are closed because their client is slow: why is "slow"
	 * (over its time), "gone" (it ended within a request), "full" (another one came, and this
	 * one had waited for its client longest) or "memory" (as full). */
	void (*on_cut)(void *arg, const char *why);
};

/* Listen. arg goes to handlers and on_done. ret: yours. Errors: ERR_BUSY (address in use),
 * ERR_INVAL (bad address), ERR_ACCES, ERR_SYS, ERR_NOMEM. */
int http_server_new(struct loop *l, const struct http_conf *conf, void *arg,
		    struct http_server **ret, struct err *err);
/* Closes all connections; requests not answered yet become invalid. Not from within a handler. NULL
 * is fine; returns NULL. */
/* From now on; as cors_origin of the configuration. ret: 0 or ERR_NOMEM (nothing changed). */
int http_server_set_cors(struct http_server *s, const char *origin);
struct http_server *http_server_free(struct http_server *s);
unsigned http_port(const struct http_server *s);
unsigned http_connections(const struct http_server *s);

/* ---- the request; strings are borrowed until the answer ---- */
const char *http_method(const struct http_request *req); /* "GET" for HEAD too */
const char *http_path(const struct http_request *req);   /* decoded, without prefix and query */
const char *http_prefix(const struct http_request *req); /* that was stripped; "": none */
bool http_slash(const struct http_request *req);         /* does the path end with one? */
/* The row of the table that fits; NULL: refused. */
const struct http_route *http_route(const struct http_request *req);
/* Value of {name} in the route's pattern, decoded: UTF-8 without control characters is not
 * promised, but no NUL and no bad escape. {name...} keeps its slashes. NULL: no such name. */
const char *http_param(const struct http_request *req, const char *name);
const char *http_header(const struct http_request *req, const char *name); /* NULL: none */
const char *http_cookie(const struct http_request *req, const char *name); /* as sent; NULL: none */
/* The client's X-Request-Id if it is a sane one (common/trace.h), else one of ours; every answer
 * carries it. */
const char *http_request_id(const struct http_request *req);
const char *http_query(const struct http_request *req,
		       const char *name); /* ?name=value, decoded; NULL: none */
/* NUL-terminated beyond *ret_len; never NULL. */
const char *http_body(const struct http_request *req, size_t *ret_len);
/* Numeric address the request was sent to, or came from, without port. ret: 0, ERR_SYS or ERR_RANGE
 * (buf too small). */
int http_local_address(const struct http_request *req, char *buf, size_t size);
int http_peer_address(const struct http_request *req, char *buf, size_t size);
bool http_peer_is_loopback(const struct http_request *req);
/* Under which name the client reaches a server that we know as host: that name, or if it means this
 * machine and the client is elsewhere, the address which the client used for us (in buf). */
const char *http_reachable(const struct http_request *req, const char *host, char *buf,
			   size_t size);

/* ---- the answer ---- */
/* Before http_reply(); a header of that name set before is kept. Errors: ERR_INVAL (not a header),
 * ERR_NOMEM. */
int http_add_header(struct http_request *req, const char *name, const char *value);
/* Answer and let go of req. body is copied; NULL with 0: none. The client may be gone already:
 * harmless. On ERR_NOMEM the client gets a 503 that says so; req is gone in every case. */
int http_reply(struct http_request *req, unsigned status, const char *content_type,
	       const char *body, size_t len);
/* The same with "application/json; charset=utf-8". body: taken; NULL (out of memory): a 503. */
int http_reply_json(struct http_request *req, unsigned status, json_t *body);
/* The same in two steps, for an answer that waits for something: make it ready, let it go. One made
 * later takes the place of one made before. On ERR_NOMEM the 503 is ready. */
int http_prepare_json(struct http_request *req, unsigned status, json_t *body);
void http_send(struct http_request *req);
/* {"state": "error", "reason": reason} */
int http_reply_error(struct http_request *req, unsigned status, const char *reason);
