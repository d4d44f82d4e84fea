#include "agent/device/doc.h"
#include "agent/device/conf.h"
#include "agent/device/template.h"
#include "common/options.h"
#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

/* The tables are ours: what would be cut is a mistake of ours. */
#define WIDTH      99
#define PATH_BYTES 200
#define TEXT_BYTES 1200

static void print_title(const char *title, char line, FILE *out)
{
	fprintf(out, "%s\n", title);
	for (const char *c = title; *c != '\0'; c++)
		fputc(line, out);
	fputs("\n\n", out);
}

/* ---- fields ---- */

static void print_fields(const struct field *fields, const char *path, const char *kind, FILE *out);

static void __attribute__((format(printf, 3, 4))) put(char *buf, size_t cap, const char *fmt, ...)
{
	size_t len = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(buf + len, cap - len, fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < cap - len);
}

/* Appends; what is between single backticks in the tables gets two of them. */
static void put_help(const char *help, char *buf, size_t cap)
{
	size_t n = strlen(buf);

	for (const char *c = help; *c != '\0'; c++) {
		bool single = *c == '`' && c[1] != '`' && (c == help || c[-1] != '`');

		assert(n + 2 < cap);
		buf[n++] = *c;
		if (single)
			buf[n++] = '`';
	}
	buf[n] = '\0';
}

/* "an integer from 1 to 9, in s; default ``5``" */
static void describe(const struct field *f, char *buf, size_t cap)
{
	char words[FIELD_WORDS_MAX], item[FIELD_WORDS_MAX] = "";
	const struct field of_item = {
		.type = f->item, .names = f->names, .min = f->min, .max = f->max};
	bool has_items = f->type == FIELD_LIST || f->type == FIELD_MAP;

	field_words(f, words, sizeof(words));
	words[0] = (char)toupper((unsigned char)words[0]);
	if (has_items && f->item != FIELD_ANY && f->item != FIELD_OBJECT)
		field_words(&of_item, item, sizeof(item));
	buf[0] = '\0';
	put(buf, cap, "%s", words);
	if (item[0] != '\0')
		put(buf, cap, "; each item: %s", item);
	if (f->unit != NULL)
		put(buf, cap, ", in %s", f->unit);
	if (f->def != NULL)
		put(buf, cap, "; default ``%s``", f->def);
	else if ((f->flags & FIELD_OPTIONAL) != 0)
		put(buf, cap, "; may be left out");
	put(buf, cap, "%s", f->help != NULL ? ". " : ".");
	if (f->help != NULL)
		put_help(f->help, buf, cap);
}

static void print_field(const struct field *f, const char *path, const char *kind, FILE *out)
{
	char text[TEXT_BYTES];

	describe(f, text, sizeof(text));
	fprintf(out, "``%s``", path);
	if (kind != NULL)
		fprintf(out, " (if ``%s``)", kind);
	fputc('\n', out);
	print_wrapped(text, 4, WIDTH, out);
}

/* What is in an object, or in the objects of a list. path: of the object. */
static void print_inner(const struct field *f, const char *path, const char *kind, FILE *out)
{
	char words[PATH_BYTES]; /* "type: TCP" */

	print_fields(f->inner, path, kind, out);
	if (f->variants == NULL)
		return;
	fprintf(out, "``%s.%s``", path, f->variant);
	if (kind != NULL)
		fprintf(out, " (if ``%s``)", kind);
	fputc('\n', out);
	for (const struct field_variant *v = f->variants; v->name != NULL; v++)
		fprintf(out, "%s``%s``%s%s", v == f->variants ? "    " : "; ", v->name,
			v->help != NULL ? ": " : "", v->help != NULL ? v->help : "");
	fputs("\n", out);
	for (const struct field_variant *v = f->variants; v->name != NULL; v++) {
		snprintf(words, sizeof(words), "%s: %s", f->variant, v->name);
		print_fields(v->fields, path, words, out);
	}
}

/* path: of the object that has them, or "". kind: of which kind of object they are; NULL: of every.
 */
static void print_fields(const struct field *fields, const char *path, const char *kind, FILE *out)
{
	char name[PATH_BYTES];

	for (const struct field *f = fields; f != NULL && f->name != NULL; f++) {
		bool is_list = f->type == FIELD_LIST, is_map = f->type == FIELD_MAP;

		if (f->type == FIELD_ROWS) {
			print_fields(f->inner, path, kind, out);
			continue;
		}
		size_t n = (size_t)snprintf(name, sizeof(name), "%s%s%s", path,
					    path[0] != '\0' ? "." : "", f->name);

		assert(n + strlen("[]") < sizeof(name));
		print_field(f, name, kind, out);
		if (f->type != FIELD_OBJECT && !((is_list || is_map) && f->item == FIELD_OBJECT))
			continue;
		snprintf(name + n, sizeof(name) - n, "%s", is_list ? "[]" : is_map ? ".*" : "");
		print_inner(f, name, kind, out);
	}
}

static void print_table(const char *title, const struct field *fields, FILE *out)
{
	print_title(title, '~', out);
	print_fields(fields, "", NULL, out);
	fputc('\n', out);
}

/* ---- types ---- */

/* Paragraphs may be one line each; what is set in, or short, stays as it is. */
static void print_paragraphs(const char *text, FILE *out)
{
	char line[4096];

	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		assert(len < sizeof(line));
		snprintf(line, sizeof(line), "%.*s", (int)len, text);
		if (len > WIDTH && line[0] != ' ')
			print_wrapped(line, 0, WIDTH, out);
		else
			fprintf(out, "%s\n", line);
		text += len + (text[len] == '\n');
	}
	fputc('\n', out);
}

static void print_indented(const char *text, FILE *out)
{
	while (*text != '\0') {
		int len = (int)strcspn(text, "\n");

		fprintf(out, "%s%.*s\n", len > 0 ? "    " : "", len, text);
		text += len + (text[len] == '\n');
	}
}

void doc_type(const struct device_type *type, FILE *out)
{
	print_title(type->name, '-', out);
	if (type->fields == NULL) {
		fprintf(out, "%s. Not part of this version.\n\n", type->title);
		return;
	}
	fprintf(out, "%s. In files of hat-gateway: ``hat.gateway.devices.%s``.\n\n", type->title,
		type->module);
	print_paragraphs(type->help, out);
	print_table("Fields", type->fields, out);
	print_title("Example", '~', out);
	fputs(".. code-block:: json\n\n", out);
	print_indented(type->example, out);
	fputc('\n', out);
}

void doc_all(FILE *out)
{
	size_t n;
	const struct device_type *const *types = device_types(&n);

	print_title("Fields of files", '-', out);
	print_table("The device file", devices_fields, out);
	print_table("Every device", device_fields, out);
	print_table("Templates", template_fields, out);
	for (size_t i = 0; i < n; i++) {
		if (types[i]->fields != NULL)
			doc_type(types[i], out);
	}
	print_title("Other device types", '-', out);
	fputs("A file may not have these yet:\n\n", out);
	for (size_t i = 0; i < n; i++) {
		if (types[i]->fields == NULL)
			fprintf(out, "- ``%s``: %s\n", types[i]->name, types[i]->title);
	}
}
