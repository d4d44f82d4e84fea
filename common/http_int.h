/* http_int.h - shared by http.c (server, gate), http_request.c (request, answer) and http_conn.c
 * (connections) only. */
#pragma once

#include "common/drain.h"
#include "common/http.h"
#include "common/http_path.h"
#include "common/trace.h"
#include <microhttpd.h>
#include <sys/socket.h>

/* Whom a connection waits for. */
enum http_phase {
	HTTP_FIRST_HEAD, /* the client, to send the first request up to its headers' end */
	HTTP_NEXT_HEAD,  /* the same, after an answer */
	HTTP_BODY,       /* the client, to send the rest */
	HTTP_OURS,       /* us */
	HTTP_ANSWER,     /* the client, to take the answer */
	HTTP_PHASES
};

struct http_conn {
	struct http_server *server;
	int fd;
	enum http_phase phase;
	int64_t since_ms;         /* when that began */
	bool cut;                 /* being closed */
	struct http_request *req; /* under way; NULL: none */
	struct http_conn *prev, *next;
};

struct http_server {
	struct loop *loop;
	struct MHD_Daemon *daemon;
	const struct http_route *routes;
	size_t n_routes;
	const char *const *prefixes;
	char *cors_origin; /* NULL: no CORS */
	const struct http_pair *headers;
	const char *(*not_found)(const char *path);
	char own_name[256];
	bool loopback; /* bound to a loopback address: check Host */
	unsigned port;
	void *arg;
	void (*on_done)(void *arg, const struct http_done *done);
	void (*on_cut)(void *arg, const char *why);
	struct MHD_Response *no_memory; /* the answer when there is no memory for one */
	struct drain *drain;
	struct loop_src *io, *timer;
	struct http_request *requests; /* all that the library has not finished */
	unsigned connections;          /* after the last run */
	struct http_conn *conns;       /* all that are open */
	size_t n_conns, n_cut;         /* of these, those that are being closed */
	size_t max_conns, held_bytes, memory_bytes;
	int64_t phase_ms[HTTP_PHASES]; /* how long each may take */
	struct loop_src *sweeper;
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
	struct http_conn *conn;
	struct trace_text id;
	int64_t complete_us; /* when all of it was here; 0: not yet */
	size_t held_bytes;   /* body and answer, as counted in the server */
	char *method;        /* as sent */
	struct http_path path;
	const struct http_route *route; /* NULL: refuse with `refuse` */
	unsigned refuse;
	const char *refuse_why;
	char *body;
	size_t body_len, body_cap, discarded;
	enum progress progress;
	bool suspended, early;
	struct text *headers, *lent;
	struct MHD_Response *response;
	unsigned status;
	struct http_request *prev, *next;
};

struct http_request *http_request_new(struct http_server *s, struct MHD_Connection *connection,
				      const char *method);
void http_request_free(struct http_request *req);
/* GET serves HEAD. */
bool http_method_fits(const char *wanted, const char *sent);
/* The 503 of a server without memory, made beforehand, for all. cors_origin: NULL: no CORS. ret:
 * NULL: out of memory. */
struct MHD_Response *http_no_memory_new(const struct http_server *s, const char *cors_origin);
/* Answer with it what is no request yet. */
enum MHD_Result http_queue_no_memory(struct http_server *s, struct MHD_Connection *connection,
				     const char *method);
/* Store the answer of a refused request (req->refuse, refuse_why). */
void http_store_refusal(struct http_request *req);
/* Hand the stored answer to the library. */
enum MHD_Result http_queue_answer(struct http_request *req);
bool http_is_loopback(const struct sockaddr_storage *a);

/* ---- http_conn.c ---- */

/* The library's notice of connections that come and go. */
void http_conn_notify(void *arg, struct MHD_Connection *connection, void **context,
		      enum MHD_ConnectionNotificationCode what);
struct http_conn *http_conn_of(struct MHD_Connection *connection);
void http_conn_enter(struct http_conn *c, enum http_phase phase);
/* Count what req holds now; if that is too much for all together, connections that wait for their
 * clients are closed, the longest waiting first. ret: false if even that does not make room. */
bool http_hold(struct http_request *req, size_t bytes);
int http_conns_start(struct http_server *s, const struct http_conf *c, struct err *err);
