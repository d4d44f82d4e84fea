/* conf.c - settings: an INI file checked against a table of rows. */
#include "common/conf.h"
#include "common/conf_near.h"
#include "common/util.h"
#include <ctype.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#define EXPAND_DEPTH_MAX 10
#define VALUE_MAX        65536 /* bytes after interpolation */
#define NOTES_MAX        100   /* complaints about one file; more help nobody */

/* One `key = value` as it stands in the file; alias names are already replaced. */
struct entry {
	char *section, *key, *value;
	unsigned line;
};

struct loading {
	const char *path;
	FILE *file;
	const struct conf_row *rows;
	size_t n_rows;
	const char *const *aliases;
	struct entry *entries;
	size_t n_entries;
	unsigned line; /* the one being read */
	unsigned n_notes;
	unsigned n_errors;
	bool out_of_memory;
	conf_note_fn *note;
	void *note_arg;
};

/* Control characters in a quoted piece of the file must not reach a terminal. */
static void printable(char *text)
{
	for (; *text != '\0'; text++) {
		if (iscntrl((unsigned char)*text))
			*text = '?';
	}
}

static void complain(struct loading *ld, bool is_error, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void complain(struct loading *ld, bool is_error, unsigned line, const char *fmt, ...)
{
	char text[1000];
	int used = 0;

	if (is_error)
		ld->n_errors++;
	if (++ld->n_notes > NOTES_MAX || ld->note == NULL)
		return;
	if (ld->path != NULL)
		used = snprintf(text, sizeof(text), "%.400s:%u: ", ld->path, line);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text + used, sizeof(text) - (size_t)used, fmt, ap);
	va_end(ap);
	printable(text);
	ld->note(ld->note_arg, is_error, text);
}

/* ---- reading the file ---- */

/* One line for the parser, as fgets would give it; counts lines, since the parser does not tell
 * them to its handler. */
static char *read_line(char *buf, int cap, void *arg)
{
	struct loading *ld = arg;
	int used = 0, c;
	bool has_nul = false, too_long = false;

	while ((c = getc(ld->file)) != EOF && c != '\n') {
		has_nul |= c == '\0';
		too_long |= used >= CONF_LINE_MAX || used + 2 >= cap;
		if (!has_nul && !too_long)
			buf[used++] = (char)c;
	}
	if (c == EOF && used == 0 && !has_nul)
		return NULL;
	ld->line++;
	if (has_nul)
		complain(ld, true, ld->line, "a zero byte; this is not a text file");
	else if (too_long)
		complain(ld, true, ld->line, "the line is longer than %d bytes", CONF_LINE_MAX);
	if (has_nul || too_long)
		used = 0;
	buf[used++] = '\n';
	buf[used] = '\0';
	return buf;
}

static const char *alias_of(const struct loading *ld, const char *name)
{
	for (const char *const *a = ld->aliases; a != NULL && a[0] != NULL; a += 2) {
		if (strcmp(a[0], name) == 0)
			return a[1];
	}
	return NULL;
}

static const struct entry *find_entry(const struct loading *ld, const char *section,
				      const char *key)
{
	for (size_t i = ld->n_entries; i > 0; i--) { /* the last one counts */
		const struct entry *e = &ld->entries[i - 1];

		if (strcmp(e->section, section) == 0 && strcmp(e->key, key) == 0)
			return e;
	}
	return NULL;
}

static const struct conf_row *find_row(const struct loading *ld, const char *section,
				       const char *key)
{
	for (size_t i = 0; i < ld->n_rows; i++) {
		if (strcmp(ld->rows[i].section, section) == 0 && strcmp(ld->rows[i].key, key) == 0)
			return &ld->rows[i];
	}
	return NULL;
}

static void warn_unknown(struct loading *ld, const char *section, const char *key)
{
	bool known_section = false;

	for (size_t i = 0; i < ld->n_rows; i++)
		known_section |= strcmp(ld->rows[i].section, section) == 0;
	if (!known_section) {
		const char *like = conf_near_section(ld->rows, ld->n_rows, section);

		complain(ld, false, ld->line, "unknown section [%s] (key '%s' ignored)%s%s%s",
			 section, key, like != NULL ? "; did you mean [" : "",
			 like != NULL ? like : "", like != NULL ? "]?" : "");
		return;
	}
	const struct conf_row *like = conf_near_key(ld->rows, ld->n_rows, section, key);

	if (like == NULL)
		complain(ld, false, ld->line, "unknown key '%s' in section [%s], ignored", key,
			 section);
	else if (strcmp(like->section, section) == 0)
		complain(ld, false, ld->line,
			 "unknown key '%s' in section [%s], ignored; did you mean '%s'?", key,
			 section, like->key);
	else
		complain(ld, false, ld->line,
			 "unknown key '%s' in section [%s], ignored; it belongs in section [%s]",
			 key, section, like->section);
}

static bool has_blank_comment(const char *value)
{
	for (const char *p = value; (p = strpbrk(p, ";#")) != NULL; p++) {
		if (p > value && isblank((unsigned char)p[-1]))
			return true;
	}
	return false;
}

static bool add_entry(struct loading *ld, const char *section, const char *key, const char *value)
{
	struct entry *more = realloc(ld->entries, (ld->n_entries + 1) * sizeof(*more));

	if (more == NULL)
		return false;
	ld->entries = more;
	more[ld->n_entries] = (struct entry){
		.section = strdup(section),
		.key = strdup(key),
		.value = strdup(value),
		.line = ld->line,
	};
	struct entry *e = &more[ld->n_entries];

	if (e->section != NULL && e->key != NULL && e->value != NULL) {
		ld->n_entries++;
		return true;
	}
	free(e->section); /* the lines that follow are compared with whole ones only */
	free(e->key);
	free(e->value);
	return false;
}

static int on_entry(void *arg, const char *section, const char *key, const char *value)
{
	struct loading *ld = arg;
	const char *renamed = alias_of(ld, section);
	char full[2 * CONF_NAME_MAX], as_section[CONF_NAME_MAX + 1];

	if (renamed != NULL)
		section = renamed;
	snprintf(full, sizeof(full), "%.60s:%.60s", section, key);
	if ((renamed = alias_of(ld, full)) != NULL) {
		snprintf(as_section, sizeof(as_section), "%.*s", (int)strcspn(renamed, ":"),
			 renamed);
		section = as_section;
		key = strchr(renamed, ':') + 1;
	}
	if (section[0] == '\0') {
		complain(ld, true, ld->line, "key '%s' stands before the first [section]", key);
		return 1;
	}
	if (find_row(ld, section, key) == NULL) {
		warn_unknown(ld, section, key);
	} else {
		const struct entry *before = find_entry(ld, section, key);

		if (before != NULL)
			complain(ld, false, ld->line,
				 "%s.%s was already set in line %u; this one counts", section, key,
				 before->line);
		if (has_blank_comment(value))
			complain(ld, false, ld->line,
				 "%s.%s: ; and # begin a comment only at the start of a line, here "
				 "they are part of the value",
				 section, key);
	}
	if (!add_entry(ld, section, key, value))
		ld->out_of_memory = true;
	return 1;
}

static int read_file(struct loading *ld, struct err *err)
{
	ld->file = fopen(ld->path, "re");
	if (ld->file == NULL)
		return err_sys(err, "cannot read configuration '%s'", ld->path);
	/* The library's switches are variables; always the same values, so this is harmless to
	 * repeat. */
	ini_allow_inline_comments = false;
	ini_allow_multiline = false;
	ini_use_stack = false;
	ini_initial_alloc = CONF_LINE_MAX + 100;
	ini_max_line = CONF_LINE_MAX + 100;
	int rc = ini_parse_stream(read_line, ld, on_entry, ld);

	if (rc == -2 || ld->out_of_memory)
		return err_set(err, ERR_NOMEM, "reading '%s'", ld->path);
	if (ferror(ld->file))
		return err_sys(err, "reading '%s'", ld->path);
	if (rc > 0)
		complain(ld, true, (unsigned)rc,
			 "neither [section], nor key = value, nor a comment");
	return 0;
}

/* ---- interpolation ---- */

struct text {
	char *s;
	size_t len;
};

static int text_add(struct text *t, const char *s, size_t len)
{
	if (t->len + len > VALUE_MAX)
		return ERR_LIMIT;
	char *more = realloc(t->s, t->len + len + 1);

	if (more == NULL)
		return ERR_NOMEM;
	memcpy(more + t->len, s, len);
	t->s = more;
	t->len += len;
	t->s[t->len] = '\0';
	return 0;
}

/* Append value to out with references replaced. *ret_bad: the reference that could not be, borrowed
 * from value. */
static int expand(const struct loading *ld, const char *section, const char *value, unsigned depth,
		  struct text *out, char *bad, size_t bad_cap)
{
	int rc = text_add(out, "", 0);

	while (rc == 0 && *value != '\0') {
		const char *end;

		if (value[0] == '$' && value[1] == '$') {
			rc = text_add(out, "$", 1);
			value += 2;
		} else if (value[0] == '$' && value[1] == '{' &&
			   (end = strchr(value, '}')) != NULL) {
			char name[2 * CONF_NAME_MAX + 2];
			int len = (int)(end - value - 2);

			snprintf(bad, bad_cap, "%.*s", len, value + 2);
			snprintf(name, sizeof(name), "%.*s", len, value + 2);
			char *colon = strchr(name, ':');
			const char *key = colon != NULL ? colon + 1 : name;

			if (colon != NULL)
				*colon = '\0';
			const char *of = colon != NULL ? name : section;

			if (alias_of(ld, of) != NULL)
				of = alias_of(ld, of);
			const struct entry *e = find_entry(ld, of, key);
			const struct conf_row *row = find_row(ld, of, key);

			if ((e == NULL && row == NULL) || depth == EXPAND_DEPTH_MAX)
				return e == NULL && row == NULL ? ERR_NOENT : ERR_RANGE;
			rc = expand(ld, of, e != NULL ? e->value : row->def, depth + 1, out, bad,
				    bad_cap);
			value = end + 1;
		} else {
			size_t plain = 1 + strcspn(value + 1, "$");

			rc = text_add(out, value, plain);
			value += plain;
		}
	}
	return rc;
}

/* ---- values ---- */

static bool parse_bool(const char *value, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on", "1"};
	static const char *const no[] = {"false", "no", "off", "0"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
			*ret = strcasecmp(value, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

static bool parse_int(const char *value, int64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)value[0]) && value[0] != '-')
		return false;
	errno = 0;
	*ret = strtoll(value, &end, 10);
	return errno == 0 && end != value && *end == '\0';
}

/* Store value in the target. why: what is wrong with it, on ERR_SCHEMA. */
static int store(const struct conf_row *row, const char *value, void *target, char *why, size_t cap)
{
	void *at = (char *)target + row->offset;
	char range[300];

	switch (row->type) {
	case CONF_STR:
		free(*(char **)at);
		*(char **)at = strdup(value);
		if (*(char **)at == NULL)
			return ERR_NOMEM;
		break;
	case CONF_INT: {
		int64_t number;

		if (!parse_int(value, &number) || number < row->min || number > row->max) {
			conf_range(row, range, sizeof(range));
			snprintf(why, cap, "must be a whole number from %s", range);
			return ERR_SCHEMA;
		}
		*(int64_t *)at = number;
		break;
	}
	case CONF_BOOL:
		if (!parse_bool(value, at)) {
			snprintf(why, cap, "must be true or false");
			return ERR_SCHEMA;
		}
		value = *(bool *)at ? "true" : "false";
		break;
	case CONF_ENUM: {
		int i = 0;

		while (row->names[i] != NULL && strcasecmp(row->names[i], value) != 0)
			i++;
		if (row->names[i] == NULL) {
			conf_range(row, range, sizeof(range));
			snprintf(why, cap, "must be %s", range);
			return ERR_SCHEMA;
		}
		*(int *)at = i;
		value = row->names[i];
		break;
	}
	}
	const char *wrong = row->check != NULL ? row->check(value) : NULL;

	if (wrong == NULL)
		return 0;
	snprintf(why, cap, "%s", wrong);
	return ERR_SCHEMA;
}

static int apply_row(struct loading *ld, const struct conf_row *row, void *target)
{
	const struct entry *e = find_entry(ld, row->section, row->key);
	const char *raw = e != NULL ? e->value : row->def;
	unsigned line = e != NULL ? e->line : 0;
	char why[400] = "", bad[2 * CONF_NAME_MAX + 2] = "";
	struct text value = {0};
	int rc = expand(ld, row->section, raw, 0, &value, bad, sizeof(bad));

	if (rc == 0)
		rc = store(row, value.s, target, why, sizeof(why));
	if (rc == ERR_SCHEMA)
		complain(ld, true, line, "%s.%s = %.200s: %s", row->section, row->key, value.s,
			 why);
	else if (rc == ERR_NOENT)
		complain(ld, true, line, "%s.%s: there is no '%s' to put in place of ${%s}",
			 row->section, row->key, bad, bad);
	else if (rc == ERR_RANGE || rc == ERR_LIMIT)
		complain(ld, true, line, "%s.%s: ${%s} leads in a circle or grows too long",
			 row->section, row->key, bad);
	free(value.s);
	return rc == ERR_NOMEM ? rc : 0;
}

int conf_load(const char *path, const struct conf_row *rows, size_t n, const char *const *aliases,
	      void *target, conf_note_fn *note, void *arg, struct err *err)
{
	struct loading ld = {
		.path = path,
		.rows = rows,
		.n_rows = n,
		.aliases = aliases,
		.note = note,
		.note_arg = arg,
	};
	int rc = path != NULL ? read_file(&ld, err) : 0;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = apply_row(&ld, &rows[i], target);
		if (rc < 0)
			err_set(err, rc, "out of memory reading the configuration");
	}
	if (rc == 0 && ld.n_errors > 0)
		rc = err_set(err, ERR_SCHEMA, "%s: %u error%s", path != NULL ? path : "defaults",
			     ld.n_errors, ld.n_errors == 1 ? "" : "s");
	if (ld.file != NULL)
		fclose(ld.file);
	for (size_t i = 0; i < ld.n_entries; i++) {
		free(ld.entries[i].section);
		free(ld.entries[i].key);
		free(ld.entries[i].value);
	}
	free(ld.entries);
	return rc;
}

void conf_done(const struct conf_row *rows, size_t n, void *target)
{
	for (size_t i = 0; i < n; i++) {
		if (rows[i].type == CONF_STR) {
			char **at = (char **)((char *)target + rows[i].offset);

			free(*at);
			*at = NULL;
		}
	}
}
