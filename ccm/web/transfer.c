/* transfer.c - a project as a file, out and in (spec ccm 6). */
#include "ccm/ops/project.h"
#include "ccm/web/multipart.h"
#include "ccm/web/web_int.h"
#include "common/shortage.h"
#include "common/util.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ret: false if answered */
static bool enter(struct web *w, struct http_request *req, struct caller *ret)
{
	if (!api_caller(w, req, ret))
		return false;
	if (ret->u_id == 0)
		http_reply_error(req, 401, "please login first");
	return ret->u_id != 0;
}

/* ---- out ---- */

static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

void web_write_encoded(FILE *out, const char *text)
{
	for (; *text != '\0'; text++)
		fprintf(out, strchr(plain, *text) != NULL ? "%c" : "%%%02X", (unsigned char)*text);
}

/* Its name as a header can carry it (RFC 6266, RFC 5987). */
static char *disposition(const char *p_name)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return NULL;
	fputs("attachment; filename=\"", out);
	for (const char *c = p_name; *c != '\0'; c++)
		fputc(strchr(plain, *c) != NULL || *c == ' ' ? *c : '_', out);
	fputs(".json\"; filename*=UTF-8''", out);
	web_write_encoded(out, p_name);
	fputs(".json", out);
	bool whole = ferror(out) == 0;
	if (fclose(out) != 0 || !whole) {
		free(text);
		return NULL;
	}
	return text;
}

static void on_exported(struct http_request *req, struct op_call *c, int rc)
{
	const char *p_name = json_string_value(json_object_get(json_object_get(c->data, "project"), "p_name"));
	CLEANUP(freep) char *text = rc == 0 ? shortage_dumps(c->data) : NULL;
	CLEANUP(freep) char *named = rc == 0 ? disposition(p_name != NULL ? p_name : "project") : NULL;
	if (rc < 0)
		http_reply_error(req, api_status(rc, 404), c->err.text);
	else if (text == NULL || named == NULL || http_add_header(req, "Content-Disposition", named) < 0)
		http_reply_error(req, 503, "out of memory");
	else
		http_reply(req, 200, "application/json", text, strlen(text));
}

void project_export(void *arg, struct http_request *req)
{
	const char *p_id = http_query(req, "p_id"), *functions = http_query(req, "functions");
	struct caller who;
	if (!enter(arg, req, &who))
		return;
	if (p_id == NULL || *p_id == '\0' || p_id[strspn(p_id, "0123456789")] != '\0') {
		http_reply_error(req, 404, "project not found");
		return;
	}
	bool with = functions != NULL && (strcmp(functions, "1") == 0 || strcmp(functions, "true") == 0);
	api_run(arg, req, &op_project_export, &who,
		json_pack("{s:I, s:b}", "p_id", (json_int_t)strtoll(p_id, NULL, 10), "functions", (int)with), on_exported);
}

/* ---- in ---- */

static void refuse(struct http_request *req, unsigned status, const char *text)
{
	http_reply(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void on_imported(struct http_request *req, struct op_call *c, int rc)
{
	char where[128];
	snprintf(where, sizeof(where), "%s/connection#p_id=%" JSON_INTEGER_FORMAT, http_prefix(req),
		 json_integer_value(json_object_get(c->data, "p_id")));
	if (rc < 0)
		refuse(req, api_status(rc, 400), c->err.text);
	else if (http_add_header(req, "Location", where) < 0)
		refuse(req, 503, "out of memory");
	else
		http_reply(req, 302, NULL, NULL, 0);
}

/* ret: NULL, or what is wrong */
static const char *form_of(struct http_request *req, json_t **ret_name, json_t **ret_document)
{
	struct multipart m;
	struct part part;
	size_t len;
	bool has_file = false;
	const char *body = http_body(req, &len);
	int rc = multipart_begin(&m, http_header(req, "Content-Type"), body, len);
	while (rc >= 0 && (rc = multipart_next(&m, &part)) > 0) {
		if (strcmp(part.name, "p_name") == 0 && *ret_name == NULL) {
			*ret_name = json_stringn(part.data, part.len);
		} else if (strcmp(part.name, "importfilename") == 0 && part.is_file && !has_file) {
			has_file = true;
			*ret_document = json_loadb(part.data, part.len, 0, NULL);
		}
	}
	if (rc < 0)
		return "Invalid format";
	if (!has_file)
		return "No file selected";
	if (!json_is_object(*ret_document))
		return "Invalid format";
	const char *name = json_string_value(*ret_name);
	if (name == NULL || *name == '\0' || strlen(name) != json_string_length(*ret_name))
		return "Please select a new project name";
	return NULL;
}

void project_import(void *arg, struct http_request *req)
{
	struct caller who;
	json_auto_t *name = NULL, *document = NULL, *checked = NULL;
	static const struct field fields[] = {{.name = "p_name", .type = FIELD_STR}, {.name = "document", .type = FIELD_OBJECT}, {0}};
	unsigned long shortages = shortage_count();
	struct err err = {0};
	if (api_is_foreign(req) || !enter(arg, req, &who))
		return;
	const char *wrong = form_of(req, &name, &document);
	json_auto_t *args = wrong == NULL ? json_pack("{s:O, s:O}", "p_name", name, "document", document) : NULL;
	if (shortage_count() != shortages || (wrong == NULL && args == NULL))
		refuse(req, 503, "out of memory");
	else if (wrong != NULL)
		refuse(req, 400, wrong);
	else if (fields_check(fields, args, false, &checked, &err) < 0)
		refuse(req, api_status(err.code, 400), err.text);
	else
		api_run(arg, req, &op_project_import, &who, TAKE(checked), on_imported);
}
