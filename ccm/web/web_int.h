/* web_int.h - shared by the files of web/ only. */
#pragma once

#include "ccm/web/passwords.h"
#include "ccm/web/session.h"
#include "ccm/web/throttle.h"
#include "ccm/web/ticket.h"
#include "ccm/web/web.h"
#include "common/http.h"
#include <stdio.h>

#define WEB_BODY_MAX   (1024 * 1024)
#define WEB_TEXT_MAX   (256 * 1024) /* of a text in a body, such as a function */
#define WEB_IMPORT_MAX (4 * 1024 * 1024)
#define API_PREFIX     "/api/v0"

/* What an operation takes from its request besides path and body, and does to its answer. */
struct web_special {
	const struct op *op;
	const struct field *query; /* optional strings of the URL's query, for the arguments; NULL: none */
	/* Add to the checked arguments. ret: 0 or ERR_NOMEM. NULL: nothing. */
	int (*enter)(struct http_request *req, json_t *args);
	/* After success: headers, and what of the result is not for the body. ret: 0 or ERR_NOMEM. NULL: nothing. */
	int (*leave)(struct web *w, struct http_request *req, json_t *data);
	bool throttled; /* who asks too often has to wait: 429 */
};
extern const struct web_special web_account_specials[]; /* ends with {0} */

/* A row of the HTTP server's table. */
struct web_row {
	const struct web_route *route;	   /* NULL: a page */
	const struct web_special *special; /* of the operation; NULL: none */
};

struct web_call; /* an operation whose request waits */

struct web {
	struct ccm *ccm;
	struct http_server *http;
	struct passwords *passwords;
	struct throttle *throttle;
	struct tickets tickets;
	struct web_metrics *metrics;
	struct http_route *routes; /* pages, then those of the API */
	struct web_row *rows;	   /* the same */
	size_t n_routes;
	char **patterns; /* of the API's routes; owned */
	size_t n_patterns;
	char *openapi;
	struct web_call *calls;
	struct loop_src *sweeper;
};

/* Routes that are no API (pages.c). */
extern const struct http_route web_pages[];
extern const size_t web_n_pages;

/* All tables of routes, NULL-terminated. */
extern const struct web_route *const web_tables[];
const struct web_special *web_special_of(const struct op *op);

/* ---- api.c ---- */

void api_handle(void *arg, struct http_request *req);
/* Requests that wait for an operation get no answer any more. */
void api_forget(struct web *w);
/* Who asks. ret: false if that was answered (503). */
bool api_caller(struct web *w, struct http_request *req, struct caller *ret);
/* May a page of another site have sent this? Then it was answered (403). */
bool api_is_foreign(struct http_request *req);
/* Run an operation for a page: answer() once, unless the request was forgotten meanwhile; it answers req. */
typedef void api_answer_fn(struct http_request *req, struct op_call *c, int rc);
void api_run(struct web *w, struct http_request *req, const struct op *op, const struct caller *who, json_t *args, api_answer_fn *answer);
/* 503 for what is not the client's fault, 429 and 413 for limits, else `status`. */
unsigned api_status(int rc, unsigned status);

/* ---- pages ---- */

/* Text with %XX for all but letters, digits and -_. */
void web_write_encoded(FILE *out, const char *text);

void da_file(void *arg, struct http_request *req);
void project_export(void *arg, struct http_request *req);
void project_import(void *arg, struct http_request *req);
