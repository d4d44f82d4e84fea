/* fetch.h - HTTP requests on the loop (libcurl's multi interface beneath); nothing blocks, names
 * included.
 *
 * One struct fetch serves any number of transfers, 32 at a time and the others in the order they
 * were started, and reuses connections. Redirects are not followed and proxy settings of the
 * environment are not used: the other end is the suite's own controller. Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stddef.h>

struct fetch;
struct fetch_call; /* one transfer under way */

struct fetch_request {
	const char *method;              /* "PUT"; all strings are copied */
	const char *url;                 /* http:// or https:// */
	const char *body;                /* a JSON text; NULL: none */
	const char *username, *password; /* HTTP Basic; NULL: none */
	unsigned timeout_ms;             /* of the whole transfer, once it has begun; 0: 10000 */
};

struct fetch_answer {
	int rc; /* 0: an HTTP answer came, whatever its status; ERR_PEER, ERR_TIMEOUT, ERR_LIMIT or
		   ERR_NOMEM: none did */
	const char *why;  /* what went wrong when rc is not 0; never NULL */
	long status;      /* 200 ... */
	const char *body; /* len bytes, NUL-terminated beyond; borrowed for the callback */
	size_t len;
};

/* Called once for each transfer that was not cancelled, never from within fetch_start(). The call
 * is gone by then; other calls may be started or cancelled here, and the fetch itself may be freed.
 */
typedef void fetch_done_fn(void *arg, const struct fetch_answer *answer);

/* ret: yours; give it to fetch_free(). */
int fetch_new(struct loop *l, struct fetch **ret, struct err *err);
/* Cancels what is under way. NULL is fine; returns NULL. */
struct fetch *fetch_free(struct fetch *f);

/* ret: borrowed until done is called or fetch_cancel(); may be NULL if never cancelled. Answers
 * over 1 MiB end with ERR_LIMIT. */
int fetch_start(struct fetch *f, const struct fetch_request *request, fetch_done_fn *done,
		void *arg, struct fetch_call **ret, struct err *err);
/* Stop it; done will not be called. NULL is fine; returns NULL. */
struct fetch_call *fetch_cancel(struct fetch_call *call);
