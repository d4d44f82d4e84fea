/* http_int.h - shared by http.c (server, gate) and http_request.c (request, answer) only. */
#pragma once

#include "common/drain.h"
#include "common/http.h"
#include "common/http_path.h"
#include <microhttpd.h>
#include <sys/socket.h>

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
	struct MHD_Response *
		no_memory; /* what is answered without memory for an answer: made with the server */
	struct drain *drain;
	struct loop_src *io, *timer;
	struct http_request *requests; /* all that the library has not finished */
	unsigned connections;          /* after the last run */
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
/* The 503 of a server without memory, made beforehand. NULL: out of memory. */
struct MHD_Response *http_no_memory_new(const struct http_server *s);
/* Store the answer of a refused request (req->refuse, refuse_why). */
void http_store_refusal(struct http_request *req);
/* Hand the stored answer to the library. */
enum MHD_Result http_queue_answer(struct http_request *req);
bool http_is_loopback(const struct sockaddr_storage *a);
