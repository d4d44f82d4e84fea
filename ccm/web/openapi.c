#include "ccm/web/openapi.h"

#include "ccm/web/web_int.h"
#include "common/daemon.h"
#include "common/shortage.h"
#include "common/util.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PATH_MAX_BYTES 256

/* Each builder returns a new value, or NULL without memory; setting NULL fails, so that a lack shows at the end of each. */

static int set(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value);
}

static json_t *done_or_null(json_t *object, int failed)
{
	if (failed == 0)
		return object;
	json_decref(object);
	return NULL;
}

/* ---- bodies ---- */

static json_t *object_schema(const struct field *fields);

static const char *const type_names[] = {
	[FIELD_INT] = "integer", [FIELD_NUMBER] = "number", [FIELD_BOOL] = "boolean", [FIELD_STR] = "string",
	[FIELD_TEXT] = "string", [FIELD_LIST] = "array",    [FIELD_OBJECT] = "object",
};

static json_t *names_schema(const struct field *f)
{
	json_t *list = json_array();
	int failed = 0;
	for (size_t i = 0; f->names[i] != NULL; i++)
		failed |= json_array_append_new(list, json_string(f->names[i]));
	if (f->flags & FIELD_NULLABLE)
		failed |= json_array_append_new(list, json_null());
	return done_or_null(list, failed);
}

static json_t *field_schema(const struct field *f);

static json_t *item_schema(const struct field *f)
{
	const struct field item = {.type = f->inner != NULL ? FIELD_OBJECT : f->item, .inner = f->inner, .names = f->names};
	return field_schema(&item);
}

static json_t *field_schema(const struct field *f)
{
	const char *type = f->flags & FIELD_DROPPED ? NULL : type_names[f->type];
	bool is_string = f->type == FIELD_STR || f->type == FIELD_TEXT;
	json_t *s = type != NULL && f->type == FIELD_OBJECT && f->inner != NULL ? object_schema(f->inner) : json_object();
	int failed = s == NULL;
	if (type != NULL)
		failed |= set(s, "type", f->flags & FIELD_NULLABLE ? json_pack("[s,s]", type, "null") : json_string(type));
	if (type != NULL && is_string && !(f->flags & (FIELD_OPTIONAL | FIELD_EMPTY)))
		failed |= set(s, "minLength", json_integer(1));
	if (type != NULL && f->type == FIELD_STR)
		failed |= set(s, "maxLength", json_integer(255));
	if (type != NULL && is_string && f->names != NULL)
		failed |= set(s, "enum", names_schema(f));
	if (type != NULL && f->type == FIELD_LIST)
		failed |= set(s, "items", item_schema(f));
	if (f->flags & FIELD_DROPPED)
		failed |= set(s, "description", json_string("taken, and not looked at"));
	else if (f->help != NULL)
		failed |= set(s, "description", json_string(f->help));
	return done_or_null(s, failed);
}

static json_t *object_schema(const struct field *fields)
{
	json_t *properties = json_object(), *required = json_array();
	int failed = 0;
	bool others = false;
	for (const struct field *f = fields; f->name != NULL; f++) {
		if (strcmp(f->name, "*") == 0) { /* FIELD_OTHERS */
			others = true;
			continue;
		}
		failed |= set(properties, f->name, field_schema(f));
		if (!(f->flags & (FIELD_OPTIONAL | FIELD_DROPPED)))
			failed |= json_array_append_new(required, json_string(f->name));
	}
	json_t *s = json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required", required,
			      "additionalProperties", (int)others);
	return s != NULL ? done_or_null(s, failed) : NULL;
}

static json_t *body_of(const struct field *fields)
{
	return json_pack("{s:b, s:{s:{s:o}}}", "required", 1, "content", "application/json", "schema", object_schema(fields));
}

/* ---- paths ---- */

/* "/a/{b:int}" as "/a/{b}", or as "/a/{}". */
static void plain_path(const char *path, bool with_names, char out[PATH_MAX_BYTES])
{
	size_t n = 0;
	for (; *path != '\0' && n < PATH_MAX_BYTES - 1; path++) {
		out[n++] = *path;
		if (*path != '{')
			continue;
		size_t len = strcspn(path + 1, ":}");
		if (with_names && n + len < PATH_MAX_BYTES - 1) {
			memcpy(out + n, path + 1, len);
			n += len;
		}
		path += strcspn(path, "}") - 1;
	}
	out[n] = '\0';
}

static bool same_path(const char *a, const char *b)
{
	char plain_a[PATH_MAX_BYTES], plain_b[PATH_MAX_BYTES];
	plain_path(a, false, plain_a);
	plain_path(b, false, plain_b);
	return strcmp(plain_a, plain_b) == 0;
}

typedef int visit_fn(void *arg, const struct web_route *r);

static int each(const struct web_route *const *tables, visit_fn *fn, void *arg)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && tables[i] != NULL; i++)
		for (const struct web_route *r = tables[i]; rc == 0 && r->path != NULL; r++)
			rc = fn(arg, r);
	return rc;
}

/* ---- operations ---- */

static json_t *response(const char *description, const char *schema)
{
	return json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", description, "content", "application/json", "schema", "$ref", schema);
}

static json_t *responses(const struct web_route *r)
{
	const struct web_special *special = web_special_of(r->op);
	const struct {
		unsigned status;
		const char *why;
	} refusals[] = {
		{r->error, "the operation is refused"},
		{r->not_found, "there is no such thing, or it is not the caller's"},
		{r->body != NULL ? 400 : 0, "the body is not as described"},
		{r->auth == WEB_USER ? 401 : 0, "nobody is logged in"},
		{r->auth == WEB_ADMIN ? 403 : 0, "the caller is no administrator"},
		{r->body != NULL ? 413 : 0, "the body, or a text in it, is too large"},
		{special != NULL && special->throttled ? 429 : 0, "too many attempts: Retry-After tells when the next one may come"},
		{503, "the store or its helpers cannot serve now"},
	};
	char status[16];
	json_t *all = json_object(), *ok = response("done", "#/components/schemas/Ok");
	if (r->wrap != NULL && ok != NULL) {
		json_decref(ok);
		ok = json_pack("{s:s, s:{s:{s:{s:[{s:s}, {s:s, s:[s], s:{s:{}}}]}}}}", "description", "done", "content", "application/json",
			       "schema", "allOf", "$ref", "#/components/schemas/Ok", "type", "object", "required", r->wrap, "properties",
			       r->wrap);
	}
	snprintf(status, sizeof(status), "%u", r->ok);
	int failed = set(all, status, ok);
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		snprintf(status, sizeof(status), "%u", refusals[i].status);
		if (refusals[i].status != 0 && json_object_get(all, status) == NULL)
			failed |= set(all, status, response(refusals[i].why, "#/components/schemas/Error"));
	}
	return done_or_null(all, failed);
}

static json_t *parameter(const char *name, const char *in, const char *type, const char *help)
{
	json_t *p = json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", in, "required", strcmp(in, "path") == 0, "schema", "type", type);
	return done_or_null(p, help != NULL ? set(p, "description", json_string(help)) : 0);
}

/* Names are those of `path`, the first of its kind; kinds those of the route. */
static json_t *parameters(const struct web_route *r, const char *path)
{
	const struct web_special *special = web_special_of(r->op);
	json_t *list = json_array();
	int failed = 0;
	const char *own = strchr(r->path, '{'), *at = strchr(path, '{');
	for (; at != NULL && own != NULL; at = strchr(at + 1, '{'), own = strchr(own + 1, '{')) {
		char name[64];
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at + 1, ":}"), at + 1);
		bool is_number = own[1 + strcspn(own + 1, ":}")] == ':';
		failed |= json_array_append_new(list, parameter(name, "path", is_number ? "integer" : "string", NULL));
	}
	for (const struct field *f = special != NULL ? special->query : NULL; f != NULL && f->name != NULL; f++)
		failed |= json_array_append_new(list, parameter(f->name, "query", "string", f->help));
	return done_or_null(list, failed);
}

static json_t *security(enum web_auth auth)
{
	return auth == WEB_ANYONE ? json_array() : json_pack("[{s:[]}]", "session");
}

/* "get_project_p_id_na" */
static json_t *operation_id(const char *method, const char *path)
{
	char id[PATH_MAX_BYTES + 16];
	size_t n = 0;
	for (const char *c = method; *c != '\0' && n < 10; c++)
		id[n++] = (char)tolower((unsigned char)*c);
	for (const char *c = path; *c != '\0' && n < sizeof(id) - 1; c++)
		if (isalnum((unsigned char)*c) || *c == '_')
			id[n++] = *c;
		else if (*c == '/')
			id[n++] = '_';
	id[n] = '\0';
	return json_string(id);
}

static const char *const roles[] = {[WEB_ANYONE] = "anyone", [WEB_USER] = "user", [WEB_ADMIN] = "administrator"};

static json_t *operation(const struct web_route *r, const char *path)
{
	char named[PATH_MAX_BYTES], tag[64];
	plain_path(path, true, named);
	snprintf(tag, sizeof(tag), "%.*s", (int)strcspn(path + 1, "/"), path + 1);
	json_t *o = json_pack("{s:o, s:s, s:[s], s:s, s:o, s:o, s:o}", "operationId", operation_id(r->method, named), "summary",
			      r->help != NULL ? r->help : r->op->name, "tags", tag, "x-role", roles[r->auth], "security", security(r->auth),
			      "parameters", parameters(r, path), "responses", responses(r));
	return done_or_null(o, o == NULL || (r->body != NULL && set(o, "requestBody", body_of(r->body)) < 0));
}

/* The operation is there under another name of a segment: both kinds of segment are right. */
static int widen(json_t *operation, const struct web_route *r)
{
	json_t *list = json_object_get(operation, "parameters"), *one;
	const char *at = strchr(r->path, '{');
	size_t i;
	json_array_foreach (list, i, one) {
		if (at == NULL)
			break;
		json_t *schema = json_object_get(one, "schema");
		bool is_number = at[1 + strcspn(at + 1, ":}")] == ':';
		const char *have = json_string_value(json_object_get(schema, "type"));
		if (have != NULL && (strcmp(have, "integer") == 0) != is_number &&
		    (set(schema, "type", json_pack("[s,s]", "integer", "string")) < 0 ||
		     set(one, "description", json_string("digits only: the number; anything else: the name")) < 0))
			return ERR_NOMEM;
		at = strchr(at + 1, '{');
	}
	return 0;
}

/* arg: a path; becomes the first of its kind. */
static int find_first(void *arg, const struct web_route *r)
{
	const char **path = arg;
	if (!same_path(*path, r->path))
		return 0;
	*path = r->path;
	return 1;
}

struct writing {
	const struct web_route *const *tables;
	json_t *paths;
};

static int write_route(void *arg, const struct web_route *r)
{
	struct writing *w = arg;
	const char *first = r->path;
	char named[PATH_MAX_BYTES], method[16];
	size_t n = 0;
	each(w->tables, find_first, &first);
	plain_path(first, true, named);
	json_t *item = json_object_get(w->paths, named);
	if (item == NULL && (set(w->paths, named, json_object()) < 0 || (item = json_object_get(w->paths, named)) == NULL))
		return ERR_NOMEM;
	for (; n < sizeof(method) - 1 && r->method[n] != '\0'; n++)
		method[n] = (char)tolower((unsigned char)r->method[n]);
	method[n] = '\0';
	json_t *there = json_object_get(item, method);
	return there != NULL ? widen(there, r) : set(item, method, operation(r, first));
}

static json_t *components(void)
{
	return json_pack("{s:{s:{s:s, s:[s], s:{s:{s:s}}}, s:{s:s, s:[s,s], s:{s:{s:s}, s:{s:s}}}}, s:{s:{s:s, s:s, s:s}}}",
			 "schemas", "Ok", "type", "object", "required", "state", "properties", "state", "const", "ok",
			 "Error", "type", "object", "required", "state", "reason", "properties", "state", "const", "error", "reason", "type",
			 "string", "securitySchemes", "session", "type", "apiKey", "in", "cookie", "name", SESSION_COOKIE);
}

char *openapi_text(const struct web_route *const *tables)
{
	struct writing w = {.tables = tables, .paths = json_object()};
	int failed = each(tables, write_route, &w);
	json_auto_t *all = json_pack("{s:s, s:{s:s, s:s, s:s}, s:[{s:s, s:s}], s:o, s:o}", "openapi", "3.1.0", "info", "title",
				     "IoTtalk CCM", "version", IOTTALK_VERSION, "description",
				     "Projects, models, functions, bindings and accounts. A slash at the end of a path means nothing.",
				     "servers", "url", "v0", "description", "beside this document", "paths", w.paths, "components", components());
	return failed == 0 && all != NULL ? shortage_dumps(all) : NULL;
}
