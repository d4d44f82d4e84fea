/* fuzz: ccm
 *
 * What comes to ccm as JSON. First byte, in turn: the text of a bulk-import file, which goes into a store; the text of an object
 * for one of the tables of fields; an object, or a file, grown along its table, right and wrong. What is taken is taken again and
 * stays the same; what is refused is refused in words. */
#include "ccm/gui/gui.h"
#include "ccm/ops/import.h"
#include "ccm/web/web.h"
#include "common/schema.h"
#include "common/util.h"
#include "tests/fuzz/input.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TABLES_MAX 200
#define VALUES_MAX 300 /* in one document */

/* ---- the tables ---- */

static const struct field *tables[TABLES_MAX];
static size_t n_tables;

static void add_table(const struct field *fields)
{
	if (fields != NULL && n_tables < TABLES_MAX)
		tables[n_tables++] = fields;
}

static void add_routes(const struct web_route *routes)
{
	for (; routes != NULL && routes->method != NULL; routes++)
		add_table(routes->body);
}

static void add_ops(const struct gui_op *ops)
{
	for (; ops != NULL && ops->name != NULL; ops++)
		add_table(ops->args);
}

static void find_tables(void)
{
	add_table(import_fields);
	add_routes(web_account_routes);
	add_routes(web_project_routes);
	add_routes(web_catalogue_routes);
	add_ops(gui_project_ops);
	add_ops(gui_catalogue_ops);
}

/* ---- documents ---- */

static const char *const words[] = {"a",       "b",          "input",    "output", "int",   "float",        "string", "sample",
				    "variant", "None",       "Other",    "x1",     "Stove", "def run(): 1", "7",      "-1.5",
				    "1e99",    "smartphone", "\xc3\xa4", "",       "on",    "red"};

static json_t *grow_any(struct input *in)
{
	unsigned what = input_take(in);
	switch (what % 8) {
	case 0:
		return json_null();
	case 1:
		return json_boolean(what & 8);
	case 2:
		return json_integer((json_int_t)input_take(in) - 2);
	case 3:
		return json_real((double)input_take(in) / 4 - 2);
	case 4:
		return json_array();
	case 5:
		return json_object();
	default:
		return json_string(words[input_take(in) % ARRAY_LEN(words)]);
	}
}

static json_t *grow_object(struct input *in, const struct field *fields, unsigned depth);

static json_t *grow_string(struct input *in, const char *const *names)
{
	unsigned which = input_take(in);
	for (size_t i = 0; names != NULL && names[i] != NULL && which < 200; i++)
		if (names[i + 1] == NULL || which % 3 == i)
			return json_string(names[i]);
	return json_string(words[which % ARRAY_LEN(words)]);
}

static json_t *grow(struct input *in, const struct field *f, unsigned depth)
{
	if (in->made++ > VALUES_MAX || depth > 10 || input_take(in) > 240)
		return grow_any(in);
	switch (f->type) {
	case FIELD_INT:
		return json_integer((json_int_t)input_take(in) % 40 - 2);
	case FIELD_NUMBER:
		return json_real((double)input_take(in) - 100);
	case FIELD_BOOL:
		return json_boolean(input_take(in) & 1);
	case FIELD_STR:
	case FIELD_TEXT:
		return grow_string(in, f->names);
	case FIELD_LIST: {
		const struct field item = {
			.type = f->inner != NULL ? FIELD_OBJECT : f->item, .inner = f->inner, .names = f->names};
		json_t *list = json_array();
		for (unsigned n = input_take(in) % 4; n > 0; n--)
			json_array_append_new(list, grow(in, &item, depth + 1));
		return list;
	}
	case FIELD_OBJECT:
		return f->inner != NULL ? grow_object(in, f->inner, depth + 1) : json_object();
	case FIELD_ANY:
		break;
	}
	/* of an import file: a feature of a model */
	return input_take(in) & 1 ? grow_string(in, NULL) : grow_any(in);
}

static json_t *grow_object(struct input *in, const struct field *fields, unsigned depth)
{
	json_t *object = json_object();
	for (const struct field *f = fields; f->name != NULL; f++) {
		unsigned what = input_take(in);
		if (what < 250 && (!(f->flags & FIELD_OPTIONAL) || what & 1))
			json_object_set_new(object, f->name, grow(in, f, depth));
	}
	if (input_take(in) > 250)
		json_object_set_new(object, "ctx", json_null());
	return object;
}

/* ---- what must hold ---- */

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* An error is told to clients as JSON. */
static void must_be_told(const struct err *err)
{
	json_t *text = json_string(err->text);
	must(text != NULL && json_string_length(text) > 0);
	json_decref(text);
}

static void check(const struct field *fields, const json_t *object, bool coerce)
{
	json_t *once = NULL, *twice = NULL;
	struct err err = {0};
	if (fields_check(fields, object, coerce, &once, &err) < 0) {
		must(once == NULL);
		must_be_told(&err);
		return;
	}
	must(fields_check(fields, once, false, &twice, &err) == 0 && json_equal(once, twice));
	json_decref(once);
	json_decref(twice);
}

static unsigned made(const struct imported *m)
{
	return m->categories + m->units + m->tags + m->functions + m->versions + m->features + m->offers + m->models;
}

/* again: the same a second time; takes as long */
static void import(const char *text, size_t len, bool again)
{
	static struct db *db;
	static char memory[] = ":memory:";
	const struct settings settings = {.gui_db.url = memory};
	struct imported first, second;
	struct err err = {0};
	json_t *doc = NULL;
	if (db == NULL)
		must(schema_open(&settings, SCHEMA_CCM, &db, &err) == 0);
	int rc = import_parse(text, len, &doc, &err);
	if (rc < 0) {
		must(doc == NULL);
		must_be_told(&err);
		return;
	}
	must(db_script(db, "BEGIN", &err) == 0);
	rc = import_run(db, doc, &first, &err);
	must(rc == 0 || rc == ERR_SCHEMA); /* never what the store refuses */
	if (rc < 0)
		must_be_told(&err);
	else if (again)
		must(import_run(db, doc, &second, &err) == 0 && made(&second) == 0);
	must(db_script(db, "ROLLBACK", &err) == 0);
	json_decref(doc);
}

static void grown(struct input *in, bool coerce)
{
	unsigned which = input_take(in);
	/* half of them are import files */
	const struct field *fields = which & 1 ? import_fields : tables[which / 2 % n_tables];
	json_t *object = grow_object(in, fields, 0);
	check(fields, object, coerce);
	if (fields == import_fields) {
		char *text = json_dumps(object, 0);
		must(text != NULL);
		import(text, strlen(text), input_take(in) % 4 == 0);
		free(text);
	}
	json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (n_tables == 0)
		find_tables();
	if (size < 2)
		return 0;
	struct input in = {.data = data + 1, .left = size - 1};
	switch (data[0] % 4) {
	case 0:
		import((const char *)in.data, in.left, data[0] & 4);
		break;
	case 1: {
		const struct field *fields = tables[input_take(&in) % n_tables];
		json_t *object = json_loadb((const char *)in.data, in.left, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
		if (object != NULL)
			check(fields, object, data[0] & 4);
		json_decref(object);
		break;
	}
	default:
		grown(&in, data[0] & 4);
	}
	return 0;
}
