#include "csm/resource.h"

#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/metrics.h"
#include "csm/registry.h"
#include "csm/store.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BODY_MAX_BYTES (1024 * 1024)
#define DESCRIPTORS    4096

/* ---- replies, after the commit ---- */

struct reply {
	struct http_request *req;
	char id[UUID_LEN + 1];
};

static json_t *error_body(const char *id, const char *reason)
{
	return json_pack("{s:o, s:s, s:o}", "id", csm_text(id), "state", "error", "reason",
			 csm_text(reason));
}

static void reply_commit(void *arg, const char *why)
{
	struct reply *r = arg;
	(void)why;
	http_send(r->req);
	free(r);
}

static void reply_rollback(void *arg, const char *why)
{
	struct reply *r = arg;
	http_reply_json(r->req, 503, error_body(r->id, why));
	free(r);
}

/* body: taken. */
static void reply_later(struct csm *csm, struct http_request *req, const char *id, unsigned status,
			json_t *body)
{
	struct reply *r = calloc(1, sizeof(*r));
	/* made before the commit, after which nothing may fail any more */
	if (http_prepare_json(req, status, body) < 0 || r == NULL)
		store_failed(csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
	if (r == NULL) {
		http_reply_error(req, 503, "out of memory");
		return;
	}
	*r = (struct reply){.req = req};
	snprintf(r->id, sizeof(r->id), "%s", id);
	store_then(csm->store, reply_commit, reply_rollback, r);
}

static void refuse(struct csm *csm, struct http_request *req, const char *id, unsigned status, const char *reason)
{
	if (store_lacks_memory(csm->store)) {
		/* then what we found wrong is perhaps only what we lack */
		status = 503;
		reason = "out of memory";
	}
	http_reply_json(req, status, error_body(id, reason));
}

/* ---- the gate ---- */

/* Parse what every device route has: the id, and for routes with a body its type and JSON. ret: false if answered. */
static bool enter(struct csm *csm, struct http_request *req, bool with_body, struct uuid_text *ret_id, json_t **ret_body)
{
	const char *text = http_param(req, "id"), *type = http_header(req, "Content-Type");
	size_t len;
	json_error_t why;
	char reason[300];
	if (store_lacks_memory(csm->store)) {
		refuse(csm, req, text, 503, "out of memory");
		return false;
	}
	if (!uuid_parse(text, strlen(text), ret_id)) {
		refuse(csm, req, text, with_body ? 400 : 404,
		       with_body ? "the id must be a UUID" : "id not found");
		return false;
	}
	if (!with_body)
		return true;
	if (type == NULL || strncasecmp(type, "application/json", 16) != 0 ||
	    (type[16] != '\0' && strchr("; \t", type[16]) == NULL)) {
		refuse(csm, req, ret_id->s, 400, "Content-Type must be application/json");
		return false;
	}
	const char *body = http_body(req, &len);
	*ret_body = json_loadb(body, len, JSON_DECODE_ANY, &why);
	if (*ret_body == NULL) {
		snprintf(reason, sizeof(reason), "the body is not json: %s (line %d, column %d)",
			 why.text, why.line, why.column);
		refuse(csm, req, ret_id->s, 400, reason);
		return false;
	}
	return true;
}

static struct device *need_device(struct csm *csm, struct http_request *req, const char *id)
{
	struct device *d = registry_find(csm->registry, id);
	if (d == NULL)
		refuse(csm, req, id, 404, "id not found");
	return d;
}

/* ---- PUT ---- */

static json_t *broker_url(struct csm *csm, struct http_request *req)
{
	const struct settings *s = csm->settings;
	char address[INET6_ADDRSTRLEN];
	return json_pack("{s:s, s:s, s:I, s:s, s:I}", "scheme", s->core_mqtt.scheme, "host",
			 http_reachable(req, s->core_mqtt.host, address, sizeof(address)),
			 "port", (json_int_t)s->core_mqtt.port, "ws_scheme", s->core_ws.scheme,
			 "ws_port", (json_int_t)s->core_ws.port);
}

static json_t *registration(struct csm *csm, struct http_request *req, const struct device *d)
{
	char up[64], down[64];
	snprintf(up, sizeof(up), "%s/ctrl/i", d->id.s);
	snprintf(down, sizeof(down), "%s/ctrl/o", d->id.s);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:[s,s]}", "id", d->id.s, "state", "ok", "rev",
			 d->rev.s, "name", d->info.name, "url", broker_url(csm, req), "ctrl_chans",
			 up, down);
}

static void put_device(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	struct uuid_text id;
	json_auto_t *body = NULL;
	struct profile p = {0};
	struct refusal why = {0};
	struct device *d;
	struct err err;
	if (!enter(csm, req, true, &id, &body))
		return;
	if (profile_parse(body, &p, &why) < 0) {
		refuse(csm, req, id.s, why.status, why.reason);
		return;
	}
	if (registry_put(csm->registry, &id, &p, http_request_id(req), &d, &err) < 0) {
		profile_done(&p);
		refuse(csm, req, id.s, 503, err.text);
		return;
	}
	reply_later(csm, req, id.s, 200, registration(csm, req, d));
}

/* ---- GET ---- */

static json_t *description(const struct device *d)
{
	json_t *o = profile_to_json(&d->info);
	if (o == NULL)
		return NULL;
	json_object_set_new(o, "id", json_string(d->id.s));
	json_object_set_new(o, "rev", json_string(d->rev.s));
	json_object_set_new(o, "state", json_string("ok"));
	json_object_set_new(o, "register_time", json_real(d->register_time));
	json_object_set_new(o, "online", json_boolean(d->online));
	return o;
}

/* The value at "a/b/c", which is cut into its steps; numbers index lists. Borrowed; NULL: nothing there. */
static json_t *locate(json_t *value, char *path)
{
	char *save = NULL;
	for (char *step = strtok_r(path, "/", &save); step != NULL && value != NULL;
	     step = strtok_r(NULL, "/", &save)) {
		char *end;
		if (json_is_object(value)) {
			value = json_object_get(value, step);
		} else {
			unsigned long at = strtoul(step, &end, 10);
			value = *end == '\0' && *step != '-' ? json_array_get(value, at) : NULL;
		}
	}
	return value;
}

static void get_device(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	struct uuid_text id;
	const char *field = http_param(req, "field");
	char reason[300];
	if (!enter(csm, req, false, &id, NULL))
		return;
	struct device *d = need_device(csm, req, id.s);
	if (d == NULL)
		return;
	json_auto_t *all = description(d);
	CLEANUP(freep) char *path = field != NULL ? strdup(field) : NULL;
	if (all == NULL || (field != NULL && path == NULL)) {
		refuse(csm, req, id.s, 503, "out of memory");
		return;
	}
	json_t *value = path != NULL ? locate(all, path) : all;
	if (value == NULL) {
		snprintf(reason, sizeof(reason), "field not found: %.200s", field != NULL ? field : "");
		refuse(csm, req, id.s, 404, reason);
		return;
	}
	/* an uncommitted change may be what we read: answer with its fate */
	reply_later(csm, req, id.s, 200, json_incref(value));
}

/* ---- POST, DELETE ---- */

static void post_device(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	struct uuid_text id;
	json_auto_t *body = NULL;
	struct profile p = {0};
	struct refusal why = {0};
	struct err err;
	if (!enter(csm, req, true, &id, &body))
		return;
	struct device *d = need_device(csm, req, id.s);
	if (d == NULL)
		return;
	if (profile_merge(&d->info, http_param(req, "field"), body, &p, &why) < 0) {
		refuse(csm, req, id.s, why.status, why.reason);
		return;
	}
	if (registry_update(csm->registry, d, &p, http_request_id(req), &err) < 0) {
		profile_done(&p);
		refuse(csm, req, id.s, 503, err.text);
		return;
	}
	reply_later(csm, req, id.s, 200, description(d));
}

static void delete_device(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	struct uuid_text id;
	json_auto_t *body = NULL;
	if (!enter(csm, req, true, &id, &body))
		return;
	struct device *d = need_device(csm, req, id.s);
	if (d == NULL)
		return;
	const char *rev = json_string_value(json_object_get(body, "rev"));
	if (rev == NULL || strcasecmp(rev, d->rev.s) != 0) {
		refuse(csm, req, id.s, 400, "revision out-of-date or unknown");
		return;
	}
	registry_remove(csm->registry, d, "requested", http_request_id(req));
	reply_later(csm, req, id.s, 200, json_pack("{s:s, s:s}", "id", id.s, "state", "ok"));
}

/* ---- pages for operators ---- */

static void healthz(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	const char *trouble = store_trouble(csm->store);
	http_reply_json(req, trouble == NULL ? 200 : 503,
			json_pack("{s:s, s:s}", "state", trouble == NULL ? "ok" : "error", "store",
				  trouble == NULL ? "ok" : trouble));
}

static void readyz(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	bool ready = bus_is_up(csm->bus) && store_trouble(csm->store) == NULL;
	http_reply_json(req, ready ? 200 : 503,
			json_pack("{s:s, s:b, s:b}", "state", ready ? "ok" : "error", "broker",
				  bus_is_up(csm->bus), "agent", agents_up(csm->agents, NULL)));
}

static void metrics(void *arg, struct http_request *req)
{
	struct csm *csm = arg;
	CLEANUP(freep) char *page = metrics_page(csm);
	if (page == NULL)
		http_reply_error(req, 503, "out of memory");
	else
		http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", page, strlen(page));
}

static const struct http_route routes[] = {
	{"GET", "/healthz", 0, healthz},
	{"GET", "/readyz", 0, readyz},
	{"GET", "/metrics", 0, metrics},
	{"PUT", "/{id}", BODY_MAX_BYTES, put_device},
	{"GET", "/{id}", 0, get_device},
	{"GET", "/{id}/{field...}", 0, get_device},
	{"POST", "/{id}", BODY_MAX_BYTES, post_device},
	{"POST", "/{id}/{field...}", BODY_MAX_BYTES, post_device},
	{"DELETE", "/{id}", BODY_MAX_BYTES, delete_device},
};

static void on_done(void *arg, const struct http_done *done)
{
	struct csm *csm = arg;
	metrics_http(csm->metrics, done);
	log_debug("http.answered", KV("trace", done->id), KV("method", done->method), KV("path", done->path),
		  KV("status", done->status), KV("took_us", done->took_us));
}

static void on_cut(void *arg, const char *why)
{
	struct csm *csm = arg;
	metrics_drop(csm->metrics, "http", why);
}

int resource_start(struct csm *csm, struct http_server **ret, struct err *err)
{
	static const char *const prefixes[] = {"/csm", NULL};
	const struct http_conf conf = {
		.bind = csm->settings->core.bind,
		.port = (unsigned)csm->settings->core.http_port,
		.routes = routes,
		.n_routes = ARRAY_LEN(routes),
		.prefixes = prefixes,
		.cors_origin = csm->settings->core.cors_origin,
		.on_done = on_done,
		.on_cut = on_cut,
	};
	/* as many connections as are allowed must not leave the store without one */
	daemon_raise_descriptors(DESCRIPTORS);
	return http_server_new(csm->loop, &conf, csm, ret, err);
}
