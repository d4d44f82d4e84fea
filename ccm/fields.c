/* fields.c - checking objects against tables of fields. */
#include "ccm/fields.h"

#include "common/shortage.h"
#include "common/util.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STR_MAX   255
#define DEPTH_MAX 8

struct check {
	bool coerce;
	unsigned depth;
	char path[200];
	struct err *err;
};

static int object_of(struct check *k, const struct field *fields, const json_t *object, json_t **ret);

static const char *const type_names[] = {
	[FIELD_ANY] = "anything", [FIELD_INT] = "an integer", [FIELD_NUMBER] = "a number", [FIELD_BOOL] = "true or false",
	[FIELD_STR] = "a string", [FIELD_TEXT] = "a string",  [FIELD_LIST] = "a list",     [FIELD_OBJECT] = "an object",
};

static int wrong(struct check *k, const char *what)
{
	return err_set(k->err, ERR_SCHEMA, "`%s` %s", k->path, what);
}

/* "12" as 12; anything else as it is. ret: a reference, NULL: out of memory */
static json_t *number_of(const json_t *value, enum field_type type)
{
	const char *text = json_string_value(value);
	char *end;
	if (text == NULL || *text == '\0' || isspace((unsigned char)*text) || strlen(text) != json_string_length(value))
		return json_incref((json_t *)value);
	errno = 0;
	long long whole = strtoll(text, &end, 10);
	if (*end == '\0' && errno == 0)
		return json_integer(whole);
	double real = strtod(text, &end);
	if (type == FIELD_NUMBER && *end == '\0' && isfinite(real) && strpbrk(text, "xXnN") == NULL)
		return json_real(real);
	return json_incref((json_t *)value);
}

static size_t characters(const char *text)
{
	size_t n = 0;
	for (; *text != '\0'; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static int check_string(struct check *k, const struct field *f, const json_t *value)
{
	const char *text = json_string_value(value);
	if (strlen(text) != json_string_length(value))
		return wrong(k, "holds a NUL character");
	if (text[0] == '\0' && !(f->flags & (FIELD_OPTIONAL | FIELD_EMPTY)))
		return wrong(k, "must not be empty");
	if (f->type == FIELD_STR && characters(text) > STR_MAX)
		return wrong(k, "is longer than 255 characters");
	if (f->names == NULL)
		return 0;
	for (size_t i = 0; f->names[i] != NULL; i++)
		if (strcmp(f->names[i], text) == 0)
			return 0;
	return wrong(k, "has a value that is not one of those allowed");
}

static bool fits(enum field_type type, const json_t *value)
{
	switch (type) {
	case FIELD_INT:
		return json_is_integer(value);
	case FIELD_NUMBER:
		return json_is_number(value);
	case FIELD_BOOL:
		return json_is_boolean(value);
	case FIELD_STR:
	case FIELD_TEXT:
		return json_is_string(value);
	case FIELD_LIST:
		return json_is_array(value);
	case FIELD_OBJECT:
		return json_is_object(value);
	case FIELD_ANY:
		break;
	}
	return true;
}

static int value_of(struct check *k, const struct field *f, const json_t *given, json_t **ret);

static int list_of(struct check *k, const struct field *f, const json_t *list, json_t **ret)
{
	const struct field item = {.type = f->inner != NULL ? FIELD_OBJECT : f->item, .inner = f->inner, .names = f->names};
	size_t at = strlen(k->path), i;
	const json_t *one;
	json_auto_t *made = json_array();
	json_array_foreach (list, i, one) {
		json_t *checked = NULL;
		snprintf(k->path + at, sizeof(k->path) - at, "[%zu]", i);
		int rc = value_of(k, &item, one, &checked);
		k->path[at] = '\0';
		if (rc < 0)
			return rc;
		if (json_array_append_new(made, checked) < 0)
			return err_set(k->err, ERR_NOMEM, "request");
	}
	*ret = TAKE(made);
	return *ret != NULL ? 0 : err_set(k->err, ERR_NOMEM, "request");
}

/* Browsers have 0 and 1 where a boolean is due. ret: a reference */
static json_t *boolean_of(const json_t *value)
{
	json_auto_t *number = number_of(value, FIELD_INT);
	if (json_is_integer(number) && (json_integer_value(number) == 0 || json_integer_value(number) == 1))
		return json_boolean(json_integer_value(number));
	return json_incref((json_t *)value);
}

/* ret: a reference, NULL: out of memory */
static json_t *coerced(const json_t *value, enum field_type type)
{
	return type == FIELD_INT || type == FIELD_NUMBER ? number_of(value, type)
	       : type == FIELD_BOOL                      ? boolean_of(value)
							 : json_incref((json_t *)value);
}

/* ret: a reference or a new value */
static int value_of(struct check *k, const struct field *f, const json_t *given, json_t **ret)
{
	if (json_is_null(given) && (f->flags & FIELD_NULLABLE)) {
		*ret = json_null();
		return 0;
	}
	json_auto_t *value = k->coerce ? coerced(given, f->type) : json_incref((json_t *)given);
	if (value == NULL)
		return err_set(k->err, ERR_NOMEM, "request");
	if (!fits(f->type, value)) {
		char what[64];
		snprintf(what, sizeof(what), "must be %s", type_names[f->type]);
		return wrong(k, what);
	}
	if (json_is_string(value) && f->type != FIELD_ANY) {
		int rc = check_string(k, f, value);
		if (rc < 0)
			return rc;
	}
	if (f->type == FIELD_LIST && (f->item != FIELD_ANY || f->inner != NULL))
		return list_of(k, f, value, ret);
	if (f->type == FIELD_OBJECT && f->inner != NULL)
		return object_of(k, f->inner, value, ret);
	*ret = TAKE(value);
	return 0;
}

/* ret: NULL: not a name of the table */
static const struct field *find(const struct field *fields, const char *name)
{
	for (; fields->name != NULL; fields++)
		if (strcmp(fields->name, name) == 0 || strcmp(fields->name, "*") == 0)
			return fields;
	return NULL;
}

/* Names come from outside, and may be cut in the middle of a character. */
static void go_in(struct check *k, size_t at, const char *name)
{
	snprintf(k->path + at, sizeof(k->path) - at, "%s%.100s", at > 0 ? "." : "", name);
	size_t end = strlen(k->path), back = 1;
	while (back < 4 && back < end && ((unsigned char)k->path[end - back] & 0xc0) == 0x80)
		back++;
	unsigned char lead = end > 0 ? (unsigned char)k->path[end - back] : 0;
	if (back < (lead >= 0xf0 ? 4U : lead >= 0xe0 ? 3U : lead >= 0xc0 ? 2U : 1U))
		k->path[end - back] = '\0';
}

static int check_names(struct check *k, const struct field *fields, const json_t *object)
{
	size_t at = strlen(k->path);
	const char *name;
	json_t *value;
	for (const struct field *f = fields; f->name != NULL; f++) {
		go_in(k, at, f->name);
		if (!(f->flags & (FIELD_OPTIONAL | FIELD_DROPPED)) && json_object_get(object, f->name) == NULL)
			return wrong(k, "is missing");
	}
	json_object_foreach ((json_t *)object, name, value) {
		go_in(k, at, name);
		if (find(fields, name) == NULL && !(k->coerce && k->depth == 1 && strcmp(name, "ctx") == 0))
			return wrong(k, "is not a known field");
	}
	k->path[at] = '\0';
	return 0;
}

static int object_of(struct check *k, const struct field *fields, const json_t *object, json_t **ret)
{
	size_t at = strlen(k->path);
	if (++k->depth > DEPTH_MAX)
		return wrong(k, "is nested too deeply");
	int rc = check_names(k, fields, object);
	json_auto_t *made = json_object();
	for (const struct field *f = fields; rc == 0 && f->name != NULL; f++) {
		const json_t *given = json_object_get(object, f->name);
		json_t *checked = NULL;
		if (given == NULL || (f->flags & FIELD_DROPPED))
			continue;
		go_in(k, at, f->name);
		rc = value_of(k, f, given, &checked);
		k->path[at] = '\0';
		if (rc == 0 && json_object_set_new(made, f->name, checked) < 0)
			rc = err_set(k->err, ERR_NOMEM, "request");
	}
	k->depth--;
	if (rc == 0)
		*ret = TAKE(made);
	return rc < 0 || *ret != NULL ? rc : err_set(k->err, ERR_NOMEM, "request");
}

int fields_check_at(const struct field *fields, const json_t *object, const char *path, bool coerce, json_t **ret_checked,
		    struct err *err)
{
	struct check k = {.coerce = coerce, .err = err};
	unsigned long shortages = shortage_count();
	*ret_checked = NULL;
	snprintf(k.path, sizeof(k.path), "%s", path);
	if (!json_is_object(object))
		return path[0] == '\0' ? err_set(err, ERR_SCHEMA, "it must be a JSON object") : wrong(&k, "must be an object");
	int rc = object_of(&k, fields, object, ret_checked);
	if (rc < 0 || shortage_count() == shortages)
		return rc;
	json_decref(*ret_checked); /* it may lack something */
	*ret_checked = NULL;
	return err_set(err, ERR_NOMEM, "request");
}

int fields_check(const struct field *fields, const json_t *object, bool coerce, json_t **ret_checked, struct err *err)
{
	return fields_check_at(fields, object, "", coerce, ret_checked, err);
}
