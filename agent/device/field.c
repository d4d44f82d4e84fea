/* field.c - JSON objects checked against tables of fields. */
#include "agent/device/field.h"
#include "common/conf_near.h"
#include "common/util.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STR_BYTES_MAX 255
#define NAMES_MAX     128  /* of the fields of one object, in all its tables */
#define EXACT_MAX     1e15 /* integers up to here are written out */

static bool is_rows(const struct field *f)
{
	return f->type == FIELD_ROWS;
}

const struct field *fields_find(const struct field *fields, const char *name)
{
	for (const struct field *f = fields; f != NULL && f->name != NULL; f++) {
		const struct field *found = is_rows(f) ? fields_find(f->inner, name)
					    : strcmp(f->name, name) == 0 ? f
									 : NULL;

		if (found != NULL)
			return found;
	}
	return NULL;
}

/* ---- in words ---- */

/* Appends; cuts what does not fit. */
static void __attribute__((format(printf, 3, 4))) put(char *buf, size_t cap, const char *fmt, ...)
{
	size_t len = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + len, cap - len, fmt, ap);
	va_end(ap);
}

static void put_number(char *buf, size_t cap, double number)
{
	put(buf, cap, fabs(number) < EXACT_MAX && number == floor(number) ? "%.0f" : "%g", number);
}

static void put_range(const struct field *f, char *buf, size_t cap)
{
	if (f->min == 0 && f->max == 0)
		return;
	put(buf, cap, isinf(f->max) ? " of at least " : " from ");
	put_number(buf, cap, f->min);
	if (isinf(f->max))
		return;
	put(buf, cap, " to ");
	put_number(buf, cap, f->max);
}

static void put_names(const char *const *names, char *buf, size_t cap)
{
	for (size_t i = 0; names[i] != NULL; i++)
		put(buf, cap, "%s%s", i > 0 ? ", " : "one of ", names[i]);
}

static void put_type(const struct field *f, enum field_type type, char *buf, size_t cap)
{
	static const char *const words[] = {
		[FIELD_ANY] = "any value",
		[FIELD_BOOL] = "true or false",
		[FIELD_INT] = "an integer",
		[FIELD_NUMBER] = "a number",
		[FIELD_STR] = "a text of 1 to 255 bytes",
		[FIELD_ENUM] = "",
		[FIELD_OBJECT] = "an object",
		[FIELD_LIST] = "a list",
		[FIELD_MAP] = "an object",
		[FIELD_ROWS] = "",
	};

	put(buf, cap, "%s", words[type]);
	if (type == FIELD_INT || type == FIELD_NUMBER)
		put_range(f, buf, cap);
	if (type == FIELD_ENUM)
		put_names(f->names, buf, cap);
	if (type == FIELD_LIST && f->item == FIELD_OBJECT)
		put(buf, cap, " of objects");
}

void field_words(const struct field *f, char *buf, size_t cap)
{
	buf[0] = '\0';
	put_type(f, f->type, buf, cap);
	if ((f->flags & FIELD_NULLABLE) != 0)
		put(buf, cap, " or null");
}

/* ---- what a value is ---- */

static bool is_text(const json_t *value)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);

	return text != NULL && len > 0 && len <= STR_BYTES_MAX && strlen(text) == len;
}

static bool in_range(const struct field *f, double number)
{
	return (f->min == 0 && f->max == 0) || (number >= f->min && number <= f->max);
}

static bool in_names(const char *const *names, const char *text)
{
	for (size_t i = 0; text != NULL && names[i] != NULL; i++) {
		if (strcmp(names[i], text) == 0)
			return true;
	}
	return false;
}

static bool fits(const struct field *f, enum field_type type, const json_t *value)
{
	switch (type) {
	case FIELD_ANY:
	case FIELD_ROWS:
		return true;
	case FIELD_BOOL:
		return json_is_boolean(value);
	case FIELD_INT:
		return json_is_integer(value) && in_range(f, (double)json_integer_value(value));
	case FIELD_NUMBER:
		return json_is_number(value) && in_range(f, json_number_value(value));
	case FIELD_STR:
		return is_text(value);
	case FIELD_ENUM:
		return in_names(f->names, json_string_value(value));
	case FIELD_OBJECT:
	case FIELD_MAP:
		return json_is_object(value);
	case FIELD_LIST:
		return json_is_array(value);
	}
	return false;
}

/* path: of the value, relative. item: it is in a list or map of f's. */
static void tell_misfit(const struct field *f, bool item, const json_t *value, const char *path,
			struct problems *p)
{
	enum field_type type = item ? f->item : f->type;
	const char *text = type == FIELD_ENUM ? json_string_value(value) : NULL;
	const char *near = text != NULL ? conf_near_name(f->names, text) : NULL;
	char words[FIELD_WORDS_MAX] = "";

	if (item)
		put_type(f, type, words, sizeof(words));
	else
		field_words(f, words, sizeof(words));
	if (near != NULL)
		problem_add(p, path, "must be %s (did you mean %s?)", words, near);
	else
		problem_add(p, path, "must be %s", words);
}

/* ---- checking ---- */

static int check_object(const struct field *fields, json_t *object, struct problems *p);

/* Files have many objects that leave out the same: no parser for the usual words. */
static json_t *make_default(const char *text)
{
	if (strcmp(text, "null") == 0)
		return json_null();
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
		return json_boolean(text[0] == 't');
	return json_loads(text, JSON_DECODE_ANY, NULL);
}

static const struct field_variant *find_variant(const struct field *f, const char *name)
{
	for (const struct field_variant *v = f->variants; name != NULL && v->name != NULL; v++) {
		if (strcmp(v->name, name) == 0)
			return v;
	}
	return NULL;
}

/* Which kind of object it is. ret: NULL: told. */
static const struct field_variant *choose_variant(const struct field *f, json_t *object,
						  struct problems *p)
{
	const struct field *row = fields_find(f->inner, f->variant);
	const json_t *kind = json_object_get(object, f->variant);
	const char *names[NAMES_MAX + 1] = {NULL};
	char words[FIELD_WORDS_MAX];

	if (kind == NULL && row != NULL && row->def != NULL) {
		json_object_set_new(object, f->variant, make_default(row->def));
		kind = json_object_get(object, f->variant);
	}
	const struct field_variant *found = find_variant(f, json_string_value(kind));

	if (found != NULL)
		return found;
	for (size_t i = 0; i < NAMES_MAX && f->variants[i].name != NULL; i++)
		names[i] = f->variants[i].name;
	const struct field any = {.name = f->variant, .type = FIELD_ENUM, .names = names};

	if (kind != NULL) {
		tell_misfit(&any, false, kind, f->variant, p);
		return NULL;
	}
	field_words(&any, words, sizeof(words));
	problem_add(p, f->variant, "is missing; it is %s", words);
	return NULL;
}

/* Of FIELD_OBJECT; entered already. */
static int check_inner(const struct field *f, json_t *object, struct problems *p)
{
	if (f->variants == NULL)
		return f->inner != NULL ? check_object(f->inner, object, p) : 0;
	const struct field_variant *variant = choose_variant(f, object, p);

	if (variant == NULL)
		return ERR_SCHEMA; /* what it may hold is not known either */
	const struct field kind[] = {{.name = f->variant, .type = FIELD_ANY}, {0}};
	const struct field rows[] = {
		{.name = "", .type = FIELD_ROWS, .inner = kind},
		{.name = "", .type = FIELD_ROWS, .inner = f->inner},
		{.name = "", .type = FIELD_ROWS, .inner = variant->fields},
		{0},
	};

	return check_object(rows, object, p);
}

static int check_value(const struct field *f, bool item, json_t *value, struct problems *p);

/* Keep the first failure, but for the one of memory. */
static int worse(int rc, int other)
{
	return other == ERR_NOMEM || rc == 0 ? other : rc;
}

/* Most are; then no path need be made. */
static bool is_plain_and_fine(const struct field *f, bool item, const json_t *value)
{
	enum field_type type = item ? f->item : f->type;

	if (type == FIELD_OBJECT || type == FIELD_LIST || type == FIELD_MAP)
		return false;
	return fits(f, type, value) && (item || f->check == NULL || f->check(value) == NULL);
}

static int check_items(const struct field *f, json_t *list, struct problems *p)
{
	json_t *value;
	size_t i;
	int rc = 0;

	json_array_foreach (list, i, value) {
		if (is_plain_and_fine(f, true, value))
			continue;
		problem_enter(p, "[%zu]", i);
		rc = worse(rc, check_value(f, true, value, p));
		problem_leave(p);
	}
	return rc;
}

static int check_members(const struct field *f, json_t *map, struct problems *p)
{
	const char *key;
	json_t *value;
	int rc = 0;

	json_object_foreach (map, key, value) {
		if (is_plain_and_fine(f, true, value))
			continue;
		problem_enter(p, "%s", key);
		rc = worse(rc, check_value(f, true, value, p));
		problem_leave(p);
	}
	return rc;
}

/* A value that is there; its path is entered. */
static int check_value(const struct field *f, bool item, json_t *value, struct problems *p)
{
	enum field_type type = item ? f->item : f->type;
	int rc = 0;

	if (!item && json_is_null(value) && (f->flags & FIELD_NULLABLE) != 0)
		return 0;
	if (!fits(f, type, value)) {
		tell_misfit(f, item, value, "", p);
		return ERR_SCHEMA;
	}
	if (type == FIELD_OBJECT)
		rc = check_inner(f, value, p);
	else if (type == FIELD_LIST && !item)
		rc = check_items(f, value, p);
	else if (type == FIELD_MAP && !item)
		rc = check_members(f, value, p);
	const char *wrong = rc == 0 && !item && f->check != NULL ? f->check(value) : NULL;

	if (wrong != NULL)
		problem_add(p, "", "%s", wrong);
	return wrong != NULL ? ERR_SCHEMA : rc;
}

static int check_field(const struct field *f, json_t *object, struct problems *p)
{
	json_t *value = json_object_get(object, f->name);

	if (value == NULL && f->def != NULL) {
		value = make_default(f->def);
		if (json_object_set_new(object, f->name, value) < 0)
			return ERR_NOMEM;
	}
	if (value == NULL) {
		char words[FIELD_WORDS_MAX];

		if ((f->flags & FIELD_OPTIONAL) != 0)
			return 0;
		field_words(f, words, sizeof(words));
		problem_add(p, f->name, "is missing; it is %s", words);
		return ERR_SCHEMA;
	}
	if (is_plain_and_fine(f, false, value))
		return 0;
	problem_enter(p, "%s", f->name);
	int rc = check_value(f, false, value, p);
	problem_leave(p);
	return rc;
}

static int check_rows(const struct field *fields, json_t *object, struct problems *p)
{
	int rc = 0;

	for (const struct field *f = fields; f != NULL && f->name != NULL; f++)
		rc = worse(rc, is_rows(f) ? check_rows(f->inner, object, p)
					  : check_field(f, object, p));
	return rc;
}

static size_t collect_names(const struct field *fields, const char **names, size_t n)
{
	for (const struct field *f = fields; f != NULL && f->name != NULL; f++) {
		if (is_rows(f))
			n = collect_names(f->inner, names, n);
		else if (n < NAMES_MAX)
			names[n++] = f->name;
	}
	return n;
}

static void tell_unknown(const struct field *fields, const char *key, struct problems *p)
{
	const char *names[NAMES_MAX + 1] = {NULL};

	collect_names(fields, names, 0);
	const char *near = conf_near_name(names, key);

	if (near != NULL)
		problem_warn(p, key, "is not known (did you mean %s?)", near);
	else
		problem_warn(p, key, "is not known");
}

static int check_object(const struct field *fields, json_t *object, struct problems *p)
{
	const char *key;
	json_t *value;
	int rc = check_rows(fields, object, p);

	json_object_foreach (object, key, value) {
		if (fields_find(fields, key) == NULL)
			tell_unknown(fields, key, p);
	}
	return rc;
}

int fields_check(const struct field *fields, json_t *object, struct problems *p)
{
	if (!json_is_object(object)) {
		problem_add(p, "", "must be an object");
		return ERR_SCHEMA;
	}
	return check_object(fields, object, p);
}
