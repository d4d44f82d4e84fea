#include "csm/profile.h"

#include "common/err.h"
#include "common/util.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES    255
#define FEATURE_MAX_BYTES 255
#define DEPTH_MAX	  64

static int refuse(struct refusal *why, unsigned status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct refusal *why, unsigned status, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why->reason, sizeof(why->reason), fmt, ap);
	va_end(ap);
	why->status = status;
	return ERR_SCHEMA;
}

static int no_memory(struct refusal *why)
{
	refuse(why, 503, "out of memory");
	return ERR_NOMEM;
}

/* ---- fields ---- */

static int parse_protos(json_t *value, const char *field, struct profile *p, struct refusal *why)
{
	static const char *const known[] = {"mqtt", "websocket", "zmq"};
	json_auto_t *one = NULL; /* the JavaScript SDK sends a bare string */
	(void)field;
	if (json_is_string(value)) {
		one = json_pack("[O]", value);
		if (one == NULL)
			return no_memory(why);
		value = one;
	}
	if (!json_is_array(value))
		return refuse(why, 403, "`accept_protos` must be a list of strings");
	if (json_array_size(value) == 0)
		return refuse(why, 403, "`accept_protos` can not be empty");
	json_auto_t *list = json_array();
	size_t i;
	json_t *item;
	json_array_foreach (value, i, item) {
		char lower[16];
		const char *text = json_string_value(item);
		size_t len = text != NULL ? strlen(text) : 0, known_at = 0;
		if (text == NULL)
			return refuse(why, 403, "`accept_protos` must be a list of strings");
		for (size_t c = 0; c <= len && len < sizeof(lower); c++)
			lower[c] = (char)tolower((unsigned char)text[c]);
		while (known_at < ARRAY_LEN(known) &&
		       (len >= sizeof(lower) || strcmp(lower, known[known_at]) != 0))
			known_at++;
		if (known_at == ARRAY_LEN(known))
			return refuse(why, 403, "Invalid protocol: '%.100s'", text);
		if (json_array_append_new(list, json_string(lower)) < 0)
			return no_memory(why);
	}
	p->accept_protos = TAKE(list);
	return 0;
}

static int check_feature_name(const char *name, size_t len, const char *field, struct refusal *why)
{
	if (len == 0)
		return refuse(why, 403, "`%s`: the name of a feature can not be empty", field);
	if (len > FEATURE_MAX_BYTES)
		return refuse(why, 403, "`%s`: the name of a feature is longer than %d bytes", field,
			      FEATURE_MAX_BYTES);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c < 0x20 || c == 0x7f || c == '/' || c == '+' || c == '#')
			return refuse(why, 403,
				      "`%s`: feature '%.100s' has a control character, '/', '+' or '#' "
				      "in its name",
				      field, name);
	}
	return 0;
}

/* "name", ["name"], ["name", null], ["name", "type"], ["name", [unit or null, ...]] */
static int check_feature(json_t *feature, const char *field, struct refusal *why)
{
	json_t *name = json_is_array(feature) ? json_array_get(feature, 0) : feature;
	json_t *units = json_is_array(feature) ? json_array_get(feature, 1) : NULL;
	if (!json_is_string(name) || (json_is_array(feature) && json_array_size(feature) > 2))
		return refuse(why, 403,
			      "`%s`: a feature is [\"name\", [\"unit\", ...]], [\"name\", \"type\"] or "
			      "\"name\"",
			      field);
	int rc = check_feature_name(json_string_value(name), json_string_length(name), field, why);
	if (rc < 0)
		return rc;
	if (units == NULL || json_is_null(units) || json_is_string(units))
		return 0;
	if (!json_is_array(units))
		return refuse(why, 403, "`%s`: the units of feature '%.100s' must be a list", field,
			      json_string_value(name));
	size_t i;
	json_t *unit;
	json_array_foreach (units, i, unit)
		if (!json_is_string(unit) && !json_is_null(unit))
			return refuse(why, 403,
				      "`%s`: unit %zu of feature '%.100s' must be a string or null",
				      field, i, json_string_value(name));
	return 0;
}

static int parse_features(json_t *value, const char *field, struct profile *p, struct refusal *why)
{
	if (json_is_null(value))
		return 0;
	if (!json_is_array(value))
		return refuse(why, 403, "`%s` must be a list of features", field);
	if (json_array_size(value) == 0)
		return refuse(why, 403, "`%s` can not be empty", field);
	size_t i;
	json_t *feature;
	json_array_foreach (value, i, feature) {
		int rc = check_feature(feature, field, why);
		if (rc < 0)
			return rc;
	}
	if (strcmp(field, "idf_list") == 0)
		p->idf_list = json_incref(value);
	else
		p->odf_list = json_incref(value);
	return 0;
}

static int parse_name(json_t *value, const char *field, struct profile *p, struct refusal *why)
{
	(void)field;
	if (json_is_null(value))
		return 0;
	const char *name = json_string_value(value);
	if (name == NULL || name[0] == '\0')
		return refuse(why, 403, "`name` must be a non-empty string");
	if (strlen(name) > NAME_MAX_BYTES)
		return refuse(why, 403, "`name` is longer than %d bytes", NAME_MAX_BYTES);
	for (const char *c = name; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return refuse(why, 403, "`name` has a control character");
	p->name = strdup(name);
	return p->name != NULL ? 0 : no_memory(why);
}

static int parse_profile(json_t *value, const char *field, struct profile *p, struct refusal *why)
{
	(void)field;
	if (!json_is_object(value))
		return refuse(why, 403, "`profile` must be a json object");
	json_t *model = json_object_get(value, "model");
	if (model == NULL)
		return refuse(why, 403, "`profile.model` is required");
	if (!json_is_string(model) || json_string_length(model) == 0 ||
	    json_string_length(model) > NAME_MAX_BYTES - 16)
		return refuse(why, 403, "`profile.model` must be a string of 1 to %d bytes",
			      NAME_MAX_BYTES - 16);
	for (const char *c = json_string_value(model); *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return refuse(why, 403, "`profile.model` has a control character");
	p->profile = json_incref(value);
	return 0;
}

static const struct field {
	const char *name;
	const char *missing; /* reason if it is not there; NULL: optional */
	int (*parse)(json_t *value, const char *field, struct profile *p, struct refusal *why);
} fields[] = {
	{"accept_protos", "`accept_protos` is required: a list of strings", parse_protos},
	{"name", NULL, parse_name},
	{"idf_list", NULL, parse_features},
	{"odf_list", NULL, parse_features},
	{"profile", "`profile` is required: a json object", parse_profile},
};

static const struct field *find_field(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

static unsigned depth_of(json_t *value, unsigned limit)
{
	unsigned deepest = 0;
	size_t i;
	const char *key;
	json_t *item;
	if (limit == 0)
		return 1;
	if (json_is_array(value)) {
		json_array_foreach (value, i, item) {
			unsigned d = depth_of(item, limit - 1);
			deepest = d > deepest ? d : deepest;
		}
	} else if (json_is_object(value)) {
		json_object_foreach (value, key, item) {
			unsigned d = depth_of(item, limit - 1);
			deepest = d > deepest ? d : deepest;
		}
	}
	return deepest + 1;
}

int profile_parse(json_t *body, struct profile *ret, struct refusal *why)
{
	struct profile p = {0};
	const char *key;
	json_t *value;
	int rc = 0;
	if (!json_is_object(body))
		return refuse(why, 400, "the body must be a json object");
	if (depth_of(body, DEPTH_MAX + 1) > DEPTH_MAX)
		return refuse(why, 400, "the body is nested deeper than %d levels", DEPTH_MAX);
	for (size_t i = 0; i < ARRAY_LEN(fields) && rc == 0; i++) {
		value = json_object_get(body, fields[i].name);
		if (value != NULL)
			rc = fields[i].parse(value, fields[i].name, &p, why);
		else if (fields[i].missing != NULL)
			rc = refuse(why, 403, "%s", fields[i].missing);
	}
	json_object_foreach (body, key, value)
		if (rc == 0 && find_field(key) == NULL)
			rc = refuse(why, 403, "Unknown field: '%.100s'", key);
	if (rc < 0)
		profile_done(&p);
	else
		*ret = p;
	return rc;
}

/* null removes, objects merge, anything else replaces (RFC 7396). ret: 0 or -1. */
static int merge(json_t *into, json_t *patch, unsigned depth)
{
	const char *key;
	json_t *value;
	if (depth > DEPTH_MAX)
		return -1;
	json_object_foreach (patch, key, value) {
		json_t *old = json_object_get(into, key);
		int rc;
		if (json_is_null(value))
			rc = old != NULL ? json_object_del(into, key) : 0;
		else if (json_is_object(value) && json_is_object(old))
			rc = merge(old, value, depth + 1);
		else
			rc = json_object_set_new(into, key, json_deep_copy(value));
		if (rc < 0)
			return -1;
	}
	return 0;
}

int profile_merge(const struct profile *old, const char *path, json_t *body, struct profile *ret,
		  struct refusal *why)
{
	json_auto_t *current = profile_to_json(old);
	json_auto_t *whole = current != NULL ? json_deep_copy(current) : NULL;
	json_auto_t *patch = json_incref(body);
	if (whole == NULL)
		return no_memory(why);
	/* {"a/b", x} is the patch {"a": {"b": x}}, built from the innermost outwards */
	CLEANUP(freep) char *steps = path != NULL ? strdup(path) : NULL;
	while (steps != NULL && steps[0] != '\0') {
		char *slash = strrchr(steps, '/'), *step = slash != NULL ? slash + 1 : steps;
		json_t *outer = json_pack("{s:O}", step, patch);
		if (outer == NULL)
			return refuse(why, 400, "the path is not UTF-8");
		json_decref(patch);
		patch = outer;
		*(slash != NULL ? slash : steps) = '\0';
	}
	if (!json_is_object(patch))
		return refuse(why, 400, "the body must be a json object");
	if (depth_of(patch, DEPTH_MAX + 1) > DEPTH_MAX || merge(whole, patch, 0) < 0)
		return refuse(why, 400, "the body is nested deeper than %d levels", DEPTH_MAX);
	return profile_parse(whole, ret, why);
}

void profile_done(struct profile *p)
{
	free(p->name);
	json_decref(p->accept_protos);
	json_decref(p->idf_list);
	json_decref(p->odf_list);
	json_decref(p->profile);
	*p = (struct profile){0};
}

json_t *profile_to_json(const struct profile *p)
{
	return json_pack("{s:s*, s:O*, s:O*, s:O*, s:O*}", "name", p->name, "accept_protos",
			 p->accept_protos, "idf_list", p->idf_list, "odf_list", p->odf_list,
			 "profile", p->profile);
}

bool profile_has_feature(const struct profile *p, const char *mode, const char *feature)
{
	json_t *list = strcmp(mode, "idf") == 0 ? p->idf_list : p->odf_list, *item;
	size_t i;
	json_array_foreach (list, i, item) {
		json_t *name = json_is_array(item) ? json_array_get(item, 0) : item;
		if (strcmp(json_string_value(name), feature) == 0)
			return true;
	}
	return false;
}

const char *profile_model(const struct profile *p)
{
	return json_string_value(json_object_get(p->profile, "model"));
}
