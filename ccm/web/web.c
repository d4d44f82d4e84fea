#include "ccm/web/web.h"

#include "ccm/web/metrics.h"
#include "ccm/web/openapi.h"
#include "ccm/web/web_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define SWEEP_MS (60 * 1000)

const struct web_route *const web_tables[] = {web_account_routes, web_project_routes, web_catalogue_routes, NULL};

const struct web_special *web_special_of(const struct op *op)
{
	for (const struct web_special *s = web_account_specials; s->op != NULL; s++)
		if (s->op == op)
			return s;
	return NULL;
}

static void on_done(void *arg, const struct http_done *done)
{
	struct web *w = arg;
	web_metrics_http(w->metrics, done);
	log_debug("http.answered", KV("trace", done->id), KV("method", done->method), KV("path", done->path),
		  KV("status", done->status), KV("took_us", done->took_us));
}

static void on_cut(void *arg, const char *why)
{
	struct web *w = arg;
	web_metrics_cut(w->metrics, why);
}

static void sweep(void *arg)
{
	struct web *w = arg;
	struct err err = {0};
	if (session_sweep(w->ccm->db, &err) < 0)
		log_warn("logins.kept", KV("why", err.text));
}

static const char *not_found(const char *path)
{
	return strcmp(path, "/api") == 0 || strncmp(path, "/api/", 5) == 0 ? "API not found" : NULL;
}

/* ---- the table ---- */

static int add_api_route(struct web *w, const struct web_route *r)
{
	char *pattern = NULL;
	if (asprintf(&pattern, API_PREFIX "%s", r->path) < 0)
		return ERR_NOMEM;
	w->patterns[w->n_patterns++] = pattern;
	w->rows[w->n_routes] = (struct web_row){.route = r, .special = web_special_of(r->op)};
	w->routes[w->n_routes++] = (struct http_route){r->method, pattern, WEB_BODY_MAX, api_handle};
	return 0;
}

static int make_routes(struct web *w)
{
	size_t n_api = 0;
	int rc = 0;
	for (size_t i = 0; web_tables[i] != NULL; i++)
		for (const struct web_route *r = web_tables[i]; r->path != NULL; r++)
			n_api++;
	w->routes = calloc(web_n_pages + n_api, sizeof(*w->routes));
	w->rows = calloc(web_n_pages + n_api, sizeof(*w->rows));
	w->patterns = calloc(n_api + 1, sizeof(*w->patterns));
	if (w->routes == NULL || w->rows == NULL || w->patterns == NULL)
		return ERR_NOMEM;
	memcpy(w->routes, web_pages, web_n_pages * sizeof(*w->routes));
	w->n_routes = web_n_pages;
	for (size_t i = 0; rc == 0 && web_tables[i] != NULL; i++)
		for (const struct web_route *r = web_tables[i]; rc == 0 && r->path != NULL; r++)
			rc = add_api_route(w, r);
	return rc;
}

/* ---- life ---- */

static int listen_on(struct web *w, struct err *err)
{
	static const char *const prefixes[] = {"/iottalk/ccm", NULL};
	static const struct http_pair headers[] = {
		{"Cache-Control", "no-store, no-cache, must-revalidate, max-age=0"},
		{"Pragma", "no-cache"},
		{"Expires", "0"},
		{"X-Content-Type-Options", "nosniff"},
		{0},
	};
	const struct http_conf conf = {
		.bind = w->ccm->settings->gui.bind,
		.port = (unsigned)w->ccm->settings->gui.port,
		.routes = w->routes,
		.n_routes = w->n_routes,
		.prefixes = prefixes,
		.headers = headers,
		.not_found = not_found,
		.on_done = on_done,
		.on_cut = on_cut,
	};
	return http_server_new(w->ccm->loop, &conf, w, &w->http, err);
}

static int start(struct web *w, struct err *err)
{
	tickets_init(&w->tickets);
	w->throttle = throttle_new();
	w->metrics = web_metrics_new();
	w->openapi = openapi_text(web_tables);
	if (w->throttle == NULL || w->metrics == NULL || w->openapi == NULL || make_routes(w) < 0)
		return err_set(err, ERR_NOMEM, "web");
	int rc = passwords_new(w->ccm->loop, &w->passwords, err);
	if (rc == 0)
		rc = loop_add_timer(w->ccm->loop, SWEEP_MS, SWEEP_MS, sweep, w, &w->sweeper, err);
	return rc == 0 ? listen_on(w, err) : rc;
}

int web_new(struct ccm *ccm, struct web **ret, struct err *err)
{
	struct web *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return err_set(err, ERR_NOMEM, "web");
	w->ccm = ccm;
	int rc = start(w, err);
	if (rc < 0) {
		web_free(w);
		return rc;
	}
	*ret = w;
	return 0;
}

struct web *web_free(struct web *w)
{
	if (w == NULL)
		return NULL;
	w->passwords = passwords_free(w->passwords); /* who waits for it gets an answer */
	api_forget(w);
	w->http = http_server_free(w->http);
	w->sweeper = loop_remove(w->ccm->loop, w->sweeper);
	w->throttle = throttle_free(w->throttle);
	w->metrics = web_metrics_free(w->metrics);
	for (size_t i = 0; i < w->n_patterns; i++)
		free(w->patterns[i]);
	free(w->patterns);
	free(w->openapi);
	free(w->routes);
	free(w->rows);
	free(w);
	return NULL;
}

unsigned web_port(const struct web *w)
{
	return http_port(w->http);
}

int64_t web_ticket_user(struct web *w, const char *ticket, const char *gui_uuid)
{
	return ticket_user(&w->tickets, w->ccm->db, ticket, gui_uuid);
}

struct passwords *web_passwords(struct web *w)
{
	return w->passwords;
}

struct throttle *web_throttle(struct web *w)
{
	return w->throttle;
}

const struct tickets *web_tickets(const struct web *w)
{
	return &w->tickets;
}
