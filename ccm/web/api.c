/* api.c - the gate of the REST API: who asks, what with, and the operation's answer (spec ccm 3.1). */
#include "ccm/web/web_int.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct web_call {
	struct web *web;
	struct http_request *req; /* NULL: forgotten */
	const struct web_row *row;
	api_answer_fn *answer; /* instead of a row */
	struct web_call *prev, *next;
};

unsigned api_status(int rc, unsigned status)
{
	switch (rc) {
	case ERR_DB:
	case ERR_NOMEM:
	case ERR_AGAIN:
		return 503;
	case ERR_LIMIT:
		return 429;
	case ERR_RANGE:
		return 413;
	default:
		return status;
	}
}

/* ---- who asks ---- */

bool api_caller(struct web *w, struct http_request *req, struct caller *ret)
{
	struct err err = {0};
	struct digest_text digest = session_of(req);
	int rc = session_find(w->ccm->db, &digest, ret, &err);
	if (rc < 0) {
		if (log_allowed("login.unknown", ""))
			log_warn("login.unknown", KV("why", err.text));
		http_reply_error(req, 503, err.text);
	}
	return rc >= 0;
}

/* The authority of an origin, "https://a.example:8443" -> "a.example:8443". NULL: it has none. */
static const char *authority_of(const char *origin)
{
	const char *at = strstr(origin, "://");
	return at != NULL ? at + 3 : NULL;
}

/* Browsers say which site a request comes from, and no page can make them say something else; programs say nothing. Behind a
 * proxy that changes Host, the name that the browser used is in X-Forwarded-Host (which no page of another site can send
 * without our leave). */
bool api_is_foreign(struct http_request *req)
{
	const char *site = http_header(req, "Sec-Fetch-Site"), *origin = http_header(req, "Origin");
	const char *forwarded = http_header(req, "X-Forwarded-Host");
	const char *host = forwarded != NULL ? forwarded : http_header(req, "Host");
	bool foreign = false;
	if (site != NULL) {
		foreign = strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0;
	} else if (origin != NULL) {
		const char *authority = authority_of(origin);
		foreign = authority == NULL || host == NULL || strcasecmp(authority, host) != 0;
	}
	if (foreign)
		http_reply_error(req, 403, "a page of another site may not do this");
	return foreign;
}

static bool may_enter(const struct web_route *r, struct http_request *req, const struct caller *who)
{
	if (r->auth == WEB_USER && who->u_id == 0) {
		http_reply_error(req, 401, "please login first");
		return false;
	}
	if (r->auth == WEB_ADMIN && (who->u_id == 0 || !who->is_admin)) {
		http_reply_error(req, 403, "You are not administrator.");
		return false;
	}
	return true;
}

/* ---- what with ---- */

static bool is_json(const char *type)
{
	return type != NULL && strncasecmp(type, "application/json", 16) == 0 && (type[16] == '\0' || strchr("; \t", type[16]) != NULL);
}

/* The body as a checked object, yours in every case. ret: 0, or negative with err set. */
static int body_of(const struct web_route *r, struct http_request *req, json_t **ret, struct err *err)
{
	size_t len;
	json_error_t why;
	const char *body = http_body(req, &len);
	if (len == 0)
		return err_set(err, ERR_INVAL, "a JSON body is required");
	if (!is_json(http_header(req, "Content-Type")))
		return err_set(err, ERR_INVAL, "Content-Type must be application/json");
	json_auto_t *given = json_loadb(body, len, JSON_DECODE_ANY, &why);
	if (given == NULL)
		return err_set(err, ERR_INVAL, "the body is not JSON: %s (line %d, column %d)", why.text, why.line, why.column);
	int rc = fields_check(r->body, given, false, ret, err);
	for (const struct field *f = r->body; rc == 0 && f->name != NULL; f++)
		if (json_string_length(json_object_get(*ret, f->name)) > WEB_TEXT_MAX)
			rc = err_set(err, ERR_RANGE, "`%s` is longer than %d KiB", f->name, WEB_TEXT_MAX / 1024);
	return rc;
}

/* Of digits only; what is too large is no id of ours, and the largest number is none, either. */
static json_t *number_of(const char *digits)
{
	errno = 0;
	return json_integer(strtoll(digits, NULL, 10));
}

static int path_of(const char *path, const struct http_request *req, json_t *args, struct err *err)
{
	for (const char *at = strchr(path, '{'); at != NULL; at = strchr(at + 1, '{')) {
		char name[64];
		size_t len = strcspn(at + 1, ":}");
		bool is_number = at[1 + len] == ':';
		snprintf(name, sizeof(name), "%.*s", (int)len, at + 1);
		const char *given = http_param(req, name);
		json_t *value = is_number ? number_of(given) : json_string(given);
		if (value == NULL && !is_number)
			return err_set(err, ERR_INVAL, "the path is not UTF-8");
		if (json_object_set_new(args, name, value) < 0)
			return err_set(err, ERR_NOMEM, "request");
	}
	return 0;
}

static int query_of(const struct field *fields, const struct http_request *req, json_t *args, struct err *err)
{
	for (; fields != NULL && fields->name != NULL; fields++) {
		const char *given = http_query(req, fields->name);
		if (given != NULL && json_object_set_new(args, fields->name, json_string(given)) < 0)
			return err_set(err, ERR_INVAL, "`%s` is not UTF-8", fields->name);
	}
	return 0;
}

static int arguments_of(const struct web_row *row, struct http_request *req, json_t **ret, struct err *err)
{
	unsigned long shortages = shortage_count();
	json_auto_t *args = NULL;
	int rc = 0;
	if (row->route->body != NULL)
		rc = body_of(row->route, req, &args, err);
	else if ((args = json_object()) == NULL)
		rc = err_set(err, ERR_NOMEM, "request");
	if (rc == 0)
		rc = path_of(row->route->path, req, args, err);
	if (rc == 0 && row->special != NULL) {
		rc = query_of(row->special->query, req, args, err);
		if (rc == 0 && row->special->enter != NULL && (rc = row->special->enter(req, args)) < 0)
			err_set(err, rc, "request");
	}
	if (shortage_count() != shortages) /* whatever came of it, it may lack something */
		rc = err_set(err, ERR_NOMEM, "request");
	if (rc == 0)
		*ret = TAKE(args);
	return rc;
}

/* ---- the answer ---- */

/* data: taken. ret: NULL: out of memory */
static json_t *success(const char *wrap, json_t *data)
{
	json_t *all = json_pack("{s:s}", "state", "ok");
	int rc = 0;
	if (wrap != NULL)
		rc = json_object_set_new(all, wrap, data != NULL ? data : json_null());
	else if (data != NULL)
		rc = json_object_update_missing(all, data);
	if (wrap == NULL)
		json_decref(data);
	if (rc < 0) {
		json_decref(all);
		return NULL;
	}
	return all;
}

static void refuse(struct http_request *req, const struct op_call *c, unsigned status)
{
	char seconds[24];
	json_int_t wait_s = json_integer_value(json_object_get(c->data, "retry_after_s"));
	if (status == 429 || status == 503) {
		snprintf(seconds, sizeof(seconds), "%lld", wait_s > 0 ? (long long)wait_s : 1);
		(void)http_add_header(req, "Retry-After", seconds); /* without, they try when they like */
	}
	http_reply_error(req, status, c->err.text);
}

static void answer_route(const struct web_call *call, struct op_call *c, int rc)
{
	const struct web_route *r = call->row->route;
	const struct web_special *special = call->row->special;
	if (rc == 0 && special != NULL && special->leave != NULL && (rc = special->leave(call->web, call->req, c->data)) < 0)
		err_set(&c->err, rc, "answer");
	if (rc == 0)
		http_reply_json(call->req, r->ok, success(r->wrap, TAKE(c->data)));
	else
		refuse(call->req, c, api_status(rc, rc == ERR_NOENT && r->not_found != 0 ? r->not_found : r->error));
}

static void on_done(void *arg, struct op_call *c, int rc)
{
	struct web_call *call = arg;
	if (call->req == NULL) {
		free(call);
		return;
	}
	*(call->prev != NULL ? &call->prev->next : &call->web->calls) = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	if (call->answer != NULL)
		call->answer(call->req, c, rc);
	else
		answer_route(call, c, rc);
	free(call);
}

void api_forget(struct web *w)
{
	struct web_call *next;
	for (struct web_call *call = w->calls; call != NULL; call = next) {
		next = call->next;
		call->req = NULL;
	}
	w->calls = NULL;
}

/* args: taken */
static void run(struct web *w, struct web_call how, const struct op *op, const struct caller *who, json_t *args)
{
	struct web_call *call = malloc(sizeof(*call));
	if (call == NULL) {
		json_decref(args);
		http_reply_error(how.req, 503, "out of memory");
		return;
	}
	*call = how;
	call->web = w;
	call->next = w->calls;
	if (call->next != NULL)
		call->next->prev = call;
	w->calls = call;
	op_start(w->ccm, op, who, args, on_done, call);
}

void api_run(struct web *w, struct http_request *req, const struct op *op, const struct caller *who, json_t *args, api_answer_fn *answer)
{
	run(w, (struct web_call){.req = req, .answer = answer}, op, who, args);
}

void api_handle(void *arg, struct http_request *req)
{
	struct web *w = arg;
	const struct web_row *row = &w->rows[http_route(req) - w->routes];
	const struct web_route *r = row->route;
	struct caller who = {0};
	struct err err = {0};
	json_t *args = NULL;
	bool writes = strcmp(r->method, "GET") != 0 || !r->op->reads;
	if ((writes && api_is_foreign(req)) || (r->auth != WEB_ANYONE && !api_caller(w, req, &who)) || !may_enter(r, req, &who))
		return;
	int rc = arguments_of(row, req, &args, &err);
	if (rc < 0)
		http_reply_error(req, api_status(rc, 400), err.text);
	else
		run(w, (struct web_call){.req = req, .row = row}, r->op, &who, args);
}
