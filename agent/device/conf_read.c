/* conf_read.c - the device file: read step by step, templates put in, checked as a whole. */
#include "agent/device/check.h"
#include "agent/device/conf_int.h"
#include "agent/device/conf_share.h"
#include "agent/device/conf_split.h"
#include "common/shortage.h"
#include "common/util.h"
#include <libgen.h>
#include <malloc.h>
#include <string.h>

/* A device in the file's text. */
struct span {
	size_t at, len;
};

struct conf_reading {
	int (*step)(struct conf_reading *r, struct err *err); /* the next one */
	const char *path;                                     /* NULL: it is no file */
	char *dir;                                            /* owned */
	const struct settings *settings;
	const struct conf_known *known;
	struct templates *templates; /* owned */
	struct problems *p;
	char *text; /* owned */
	struct split split;
	struct span *spans; /* of the text: the devices that were found one by one */
	size_t n, room;
	size_t at;      /* the next device */
	struct err why; /* what is wrong behind the devices */
	json_t *list;   /* of the file; borrowed of conf.json */
	int worst;      /* 0 or ERR_SCHEMA: something was told */
	struct devices_conf conf;
};

static int keep_worst(struct conf_reading *r, int rc)
{
	r->worst = rc < 0 ? rc : r->worst;
	return rc == ERR_NOMEM ? rc : 1;
}

/* ---- all is there ---- */

static int by_name(const void *a, const void *b)
{
	const struct device_conf *const *x = a, *const *y = b;
	int order = strcmp((*x)->type->name, (*y)->type->name);

	if (order == 0)
		order = strcmp((*x)->name, (*y)->name);
	return order != 0 ? order : (*x > *y) - (*x < *y);
}

/* ret: 0, ERR_SCHEMA (told) or ERR_NOMEM. */
static int find_twice(const struct devices_conf *c, struct problems *p)
{
	CLEANUP(freep)
	const struct device_conf **sorted = calloc(c->n + 1, sizeof(struct device_conf *));
	int rc = 0;

	if (sorted == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < c->n; i++)
		sorted[i] = &c->devices[i];
	qsort(sorted, c->n, sizeof(sorted[0]), by_name);
	for (size_t i = 1; i < c->n; i++) {
		const struct device_conf *d = sorted[i];

		if (d->type != sorted[i - 1]->type || strcmp(d->name, sorted[i - 1]->name) != 0)
			continue;
		problem_enter(p, "devices[%zu]", d->number);
		problem_add(p, "name", "there is another %s '%s'", d->type->name, d->name);
		problem_leave(p);
		rc = ERR_SCHEMA;
	}
	return rc;
}

static int finish(struct conf_reading *r, struct err *err)
{
	int rc = find_twice(&r->conf, r->p);

	(void)err;
	if (rc == 0 && r->worst == 0)
		rc = conf_fill(&r->conf, r->dir, r->settings, r->p);
	return rc < 0 ? rc : r->worst;
}

/* ---- devices ---- */

/* d goes into the list, where JSON is looked for by its number. */
static int enlist(struct conf_reading *r, size_t number, struct device_conf *d)
{
	d->number = number;
	json_t *json = d->json != NULL ? json_incref(d->json) : json_null();

	return json_array_set_new(r->list, number, json) == 0 ? 0 : ERR_NOMEM;
}

/* One that runs and is the same in all that counts takes no room a second time. ret: 0 or
 * ERR_NOMEM. */
static int share(struct conf_reading *r, struct device_conf *d, struct err *err)
{
	const struct device_conf *before = NULL;
	int rc = r->known != NULL ? r->known->find_same(r->known->arg, d, &before, err) : 0;

	if (rc == 0) {
		conf_share(&r->conf, d);
		d->name = json_string_value(json_object_get(d->json, "name"));
	}
	if (rc <= 0)
		return rc;
	json_decref(d->json);
	*d = *before;
	d->digest[0] = '\0';
	return 0;
}

/* The device at `number`, its path entered. ret: 0, ERR_SCHEMA (told) or ERR_NOMEM. */
static int read_device(struct conf_reading *r, size_t number, json_t *raw, struct err *err)
{
	struct device_conf *d = &r->conf.devices[r->conf.n];
	struct problems *p = r->p;
	json_auto_t *device = NULL;
	const char *of_template = NULL;

	int rc = templates_apply(r->templates, raw, p, &device, &of_template);
	if (rc < 0)
		return rc;
	const struct device_type *type = check_type(device, of_template, p);

	if (type == NULL)
		return ERR_SCHEMA;
	if (of_template == NULL && json_object_get(device, "device_id") != NULL) {
		problem_add(p, "device_id", "stands beside a template only");
		rc = ERR_SCHEMA;
	}
	int checked = check_device(type, device, p);

	const char *name = json_string_value(json_object_get(device, "name"));

	if (name == NULL)
		return checked;
	*d = (struct device_conf){.type = type, .name = name, .json = TAKE(device)};
	int shared = share(r, d, err);
	r->conf.n++;
	if (shared == 0)
		shared = enlist(r, number, d);
	if (shared < 0)
		return shared;
	return checked < 0 ? checked : rc;
}

static int parse_span(const struct conf_reading *r, const struct span *s, json_t **ret,
		      struct err *err)
{
	struct place place = {0};
	int rc = file_parse_json(r->text + s->at, s->len, ret, &place, err);

	if (rc == ERR_PARSE)
		file_tell_place(file_place_within(file_place(r->text, s->at), place), err);
	return rc;
}

static int read_one(struct conf_reading *r, struct err *err)
{
	size_t number = r->at++;
	const struct span *span = number < r->n ? &r->spans[number] : NULL;
	struct device_conf *d = &r->conf.devices[r->conf.n];
	char digest[FILE_DIGEST_LEN + 1] = "";
	json_auto_t *raw = json_incref(json_array_get(r->list, number));

	if (number == json_array_size(r->list)) {
		r->step = finish;
		return 1;
	}
	if (span != NULL) {
		file_digest(r->text + span->at, span->len, digest);
		const struct device_conf *known =
			r->known != NULL ? r->known->find_text(r->known->arg, digest) : NULL;

		if (known != NULL) {
			*d = *known;
			r->conf.n++;
			return enlist(r, number, d) == 0 ? 1 : ERR_NOMEM;
		}
		json_decref(TAKE(raw));
		int rc = parse_span(r, span, &raw, err);

		if (rc < 0)
			return rc;
	}
	if (!json_is_object(raw))
		return 1; /* told by the table */
	size_t before = problems_all(r->p);

	problem_enter(r->p, "devices[%zu]", number);
	int rc = read_device(r, number, raw, err);

	problem_leave(r->p);
	/* what is odd must be told the next time, too */
	if (rc == 0 && problems_all(r->p) == before)
		memcpy(d->digest, digest, sizeof(d->digest));
	return keep_worst(r, rc);
}

/* ---- the file ---- */

/* The rest is no JSON behind the devices; one of them may be wrong before. */
static int parse_one(struct conf_reading *r, struct err *err)
{
	json_auto_t *device = NULL;

	if (r->at < r->n) {
		int rc = parse_span(r, &r->spans[r->at++], &device, err);

		return rc < 0 ? rc : 1;
	}
	*err = r->why;
	return ERR_PARSE;
}

/* ret: 0, 1: it is no JSON, behind the devices; ERR_PARSE: before them, or there are none;
 * ERR_NOMEM. */
static int parse_rest(struct conf_reading *r, struct err *err)
{
	size_t len = 0;
	CLEANUP(freep)
	char *rest = split_rest(&r->split, &len);
	struct place place = {0};

	if (rest == NULL)
		return ERR_NOMEM;
	int rc = file_parse_json(rest, len, &r->conf.json, &place, err);

	if (rc != ERR_PARSE)
		return rc;
	bool behind = split_place(&r->split, rest, &place);

	file_tell_place(place, err);
	return behind && r->n > 0 ? 1 : ERR_PARSE;
}

/* The first device of the rest stands for all that were found. */
static int make_list(struct conf_reading *r)
{
	json_t *others = json_object_get(r->conf.json, "devices");
	json_auto_t *list = json_array();

	for (size_t i = 0; i < r->n; i++)
		if (json_array_append(list, json_array_get(others, 0)) < 0)
			return ERR_NOMEM;
	if (r->n > 0 && (json_array_remove(others, 0) < 0 || json_array_extend(list, others) < 0 ||
			 json_object_set(r->conf.json, "devices", list) < 0))
		return ERR_NOMEM;
	r->list = json_object_get(r->conf.json, "devices");
	return 0;
}

static int read_rest(struct conf_reading *r, struct err *err)
{
	int rc = parse_rest(r, err);

	if (rc > 0) {
		r->why = *err;
		*err = (struct err){0};
		r->step = parse_one;
		return 1;
	}
	if (rc == 0)
		rc = make_list(r);
	if (rc < 0)
		return rc;
	rc = fields_check(devices_fields, r->conf.json, r->p);
	r->conf.devices = calloc(json_array_size(r->list) + 1, sizeof(r->conf.devices[0]));
	if (r->templates == NULL)
		r->templates = templates_new(r->dir);
	if (r->conf.devices == NULL || r->templates == NULL)
		return ERR_NOMEM;
	r->step = read_one;
	return keep_worst(r, rc);
}

static int find_one(struct conf_reading *r, struct err *err)
{
	struct span span;

	(void)err;
	if (!split_next(&r->split, &span.at, &span.len)) {
		r->step = read_rest;
		return 1;
	}
	if (r->n == r->room) {
		size_t room = r->room > 0 ? 2 * r->room : 64;
		struct span *spans = reallocarray(r->spans, room, sizeof(*spans));

		if (spans == NULL)
			return ERR_NOMEM;
		r->spans = spans;
		r->room = room;
	}
	r->spans[r->n++] = span;
	return 1;
}

int conf_reading_step(struct conf_reading *r, struct err *err)
{
	unsigned long before = shortage_count();
	int rc = r->step(r, err);

	if (rc == ERR_NOMEM || shortage_count() != before)
		rc = err_set(err, ERR_NOMEM, "the device file");
	else if (rc == ERR_PARSE) {
		problems_clear(r->p); /* what a file means that is no JSON is not known */
		problem_add(r->p, "", "%s", err->text);
	} else if (rc == ERR_SCHEMA)
		err_set(err, ERR_SCHEMA, "%zu errors in the device file", problems_errors(r->p));
	return rc < 0 && r->path != NULL ? err_wrap(err, rc, "%s", r->path) : rc;
}

/* dir, text: taken. ret: NULL: out of memory; then they have been released. */
static struct conf_reading *begin(char *dir, char *text, size_t len,
				  const struct settings *settings, struct problems *p)
{
	struct conf_reading *r = calloc(1, sizeof(*r));

	if (r != NULL)
		*r = (struct conf_reading){
			.step = find_one,
			.dir = dir,
			.settings = settings,
			.p = p,
			.text = text,
		};
	if (r == NULL) {
		free(dir);
		free(text);
		return NULL;
	}
	if (r->dir == NULL || r->text == NULL)
		return conf_reading_free(r);
	split_begin(&r->split, r->text, len);
	return r;
}

int conf_reading_new(const char *path, const struct settings *settings,
		     const struct conf_known *known, struct problems *p, struct conf_reading **ret,
		     struct err *err)
{
	CLEANUP(freep)
	char *copy = strdup(path);
	char *text = NULL;
	size_t len = 0;
	int rc = copy != NULL ? file_load(path, FILE_BYTES_MAX, &text, &len, err)
			      : err_set(err, ERR_NOMEM, "%s", path);

	if (rc < 0) {
		problem_add(p, "", "%s", err->text);
		return rc;
	}
	struct conf_reading *r = begin(strdup(dirname(copy)), text, len, settings, p);

	if (r == NULL)
		return err_set(err, ERR_NOMEM, "%s", path);
	r->path = path;
	r->known = known;
	r->templates = known != NULL ? known->templates : NULL;
	*ret = r;
	return 0;
}

void conf_reading_take(struct conf_reading *r, struct devices_conf *ret,
		       struct templates **ret_templates)
{
	*ret = r->conf;
	r->conf = (struct devices_conf){0};
	*ret_templates = TAKE(r->templates);
}

struct conf_reading *conf_reading_free(struct conf_reading *r)
{
	if (r == NULL)
		return NULL;
	devices_conf_done(&r->conf);
	templates_free(r->templates);
	free(r->spans);
	free(r->text);
	free(r->dir);
	free(r);
	return NULL;
}

/* ---- all at once ---- */

int conf_reading_run(struct conf_reading *r, struct err *err)
{
	int rc = 1;

	while (rc > 0)
		rc = conf_reading_step(r, err);
	/* the tree as it was read, and what equal devices had each, is a large part of the heap */
	malloc_trim(0);
	return rc;
}

/* r: freed. ret: as devices_conf_load(). */
static int read_all(struct conf_reading *r, struct devices_conf *ret, struct err *err)
{
	struct templates *templates = NULL;
	int rc = conf_reading_run(r, err);

	conf_reading_take(r, ret, &templates);
	templates_free(templates);
	conf_reading_free(r);
	if (rc == ERR_PARSE)
		devices_conf_done(ret); /* there is nothing to count in it */
	return rc;
}

int devices_conf_parse(const char *text, size_t len, const char *dir,
		       const struct settings *settings, struct devices_conf *ret,
		       struct problems *p, struct err *err)
{
	char *copy = malloc(len + 1);

	*ret = (struct devices_conf){0};
	if (copy != NULL)
		memcpy(copy, text, len);
	struct conf_reading *r = begin(strdup(dir), copy, len, settings, p);

	return r != NULL ? read_all(r, ret, err) : err_set(err, ERR_NOMEM, "the device file");
}

int devices_conf_load(const char *path, const struct settings *settings, struct devices_conf *ret,
		      struct problems *p, struct err *err)
{
	struct conf_reading *r = NULL;
	int rc = conf_reading_new(path, settings, NULL, p, &r, err);

	*ret = (struct devices_conf){0};
	return r != NULL ? read_all(r, ret, err) : rc;
}
