#include "agent/graph/strikes.h"
#include "common/log.h"
#include "common/map.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define MINUTE_MS     60000
#define HOUR_MS       (60 * MINUTE_MS)
#define QUARANTINE_AT 3 /* strikes within a minute */
#define APART_AT      2 /* strikes within an hour */
#define WHY_MAX       200
#define REASON_MAX    (WHY_MAX + 60)

struct use {
	struct use *next;
	char kind[5];
	uint32_t lid;
	struct digest_text code;
	int64_t last_ms[QUARANTINE_AT]; /* the latest strikes, newest first */
	unsigned n;                     /* all strikes */
	char *reason;                   /* NULL: not quarantined */
};

struct record {
	bool apart;
	struct use *uses;
	char graph[];
};

struct strikes {
	char *path; /* NULL: nothing is kept */
	struct map *by_graph;
	bool changed;
};

/* ---- records ---- */

static struct use *use_free(struct use *u)
{
	free(u->reason);
	free(u);
	return NULL;
}

static void record_free(void *value)
{
	struct record *r = value;

	for (struct use *u = r->uses, *next; u != NULL; u = next) {
		next = u->next;
		use_free(u);
	}
	free(r);
}

static struct record *find(const struct strikes *b, const char *graph)
{
	return map_find(b->by_graph, graph);
}

/* NULL: out of memory. */
static struct record *get(struct strikes *b, const char *graph)
{
	struct record *r = find(b, graph);
	size_t len = strlen(graph) + 1;

	if (r != NULL)
		return r;
	r = calloc(1, sizeof(*r) + len);
	if (r == NULL)
		return NULL;
	memcpy(r->graph, graph, len);
	if (map_add(b->by_graph, r->graph, r) < 0) {
		free(r);
		return NULL;
	}
	return r;
}

static struct use *find_use(const struct record *r, uint32_t lid, const struct digest_text *code)
{
	struct use *u = r != NULL ? r->uses : NULL;

	while (u != NULL && (u->lid != lid || strcmp(u->code.s, code->s) != 0))
		u = u->next;
	return u;
}

static struct use *get_use(struct record *r, const char *kind, uint32_t lid,
			   const struct digest_text *code)
{
	struct use *u = find_use(r, lid, code);

	if (u != NULL)
		return u;
	u = calloc(1, sizeof(*u));
	if (u == NULL)
		return NULL;
	snprintf(u->kind, sizeof(u->kind), "%s", kind);
	u->lid = lid;
	u->code = *code;
	u->next = r->uses;
	r->uses = u;
	return u;
}

static void tell(const struct use *u, strikes_fn *fn, void *arg)
{
	struct strikes_use told = {.kind = u->kind, .lid = u->lid, .reason = u->reason};

	if (fn != NULL && u->reason != NULL)
		fn(arg, &told);
}

/* A record that says nothing is none. */
static void drop_empty(struct strikes *b, struct record *r)
{
	if (r->apart || r->uses != NULL)
		return;
	map_remove(b->by_graph, r->graph);
	record_free(r);
}

/* ---- strikes ---- */

static int quarantine(struct use *u, const char *why)
{
	return asprintf(&u->reason, "quarantined: %.*s, %d times within a minute", WHY_MAX, why,
			QUARANTINE_AT);
}

enum strikes_verdict strikes_add(struct strikes *b, const char *graph, const char *kind,
				 uint32_t lid, const struct digest_text *code, int64_t now_ms,
				 const char *why)
{
	struct record *r = get(b, graph);
	struct use *u = r != NULL ? get_use(r, kind, lid, code) : NULL;

	if (u == NULL || u->reason != NULL)
		return STRIKES_NOTED;
	memmove(u->last_ms + 1, u->last_ms, sizeof(u->last_ms) - sizeof(u->last_ms[0]));
	u->last_ms[0] = now_ms;
	u->n++;
	if (u->n >= QUARANTINE_AT && now_ms - u->last_ms[QUARANTINE_AT - 1] <= MINUTE_MS &&
	    quarantine(u, why) > 0) {
		b->changed = true;
		return STRIKES_QUARANTINED;
	}
	if (u->n >= APART_AT && now_ms - u->last_ms[APART_AT - 1] <= HOUR_MS && !r->apart) {
		r->apart = true;
		b->changed = true;
		return STRIKES_APART;
	}
	return STRIKES_NOTED;
}

const char *strikes_reason(const struct strikes *b, const char *graph, uint32_t lid,
			   const struct digest_text *code)
{
	const struct use *u = find_use(find(b, graph), lid, code);

	return u != NULL ? u->reason : NULL;
}

bool strikes_apart(const struct strikes *b, const char *graph)
{
	const struct record *r = find(b, graph);

	return r != NULL && r->apart;
}

void strikes_together(struct strikes *b, const char *graph)
{
	struct record *r = find(b, graph);

	if (r == NULL)
		return;
	b->changed = b->changed || r->apart;
	r->apart = false;
	drop_empty(b, r);
}

/* ---- forgetting ---- */

void strikes_revise(struct strikes *b, const char *graph, strikes_keep_fn *keep, strikes_fn *fn,
		    void *arg)
{
	struct record *r = find(b, graph);

	if (r == NULL)
		return;
	for (struct use **at = &r->uses; *at != NULL;) {
		struct use *u = *at;

		if (keep(arg, u->lid, &u->code)) {
			at = &u->next;
			continue;
		}
		*at = u->next;
		b->changed = b->changed || u->reason != NULL;
		tell(u, fn, arg);
		use_free(u);
	}
	drop_empty(b, r);
}

void strikes_forget(struct strikes *b, const char *graph)
{
	struct record *r = map_remove(b->by_graph, graph);

	if (r == NULL)
		return;
	b->changed = true;
	record_free(r);
}

void strikes_sweep(struct strikes *b, bool (*keep)(void *arg, const char *graph), void *arg)
{
	CLEANUP(freep)
	struct record **all = (struct record **)map_values(b->by_graph);

	for (size_t i = 0; all != NULL && all[i] != NULL; i++)
		if (!keep(arg, all[i]->graph))
			strikes_forget(b, all[i]->graph);
}

/* ---- telling ---- */

void strikes_each(const struct strikes *b, const char *graph, strikes_fn *fn, void *arg)
{
	const struct record *r = find(b, graph);

	for (const struct use *u = r != NULL ? r->uses : NULL; u != NULL; u = u->next)
		tell(u, fn, arg);
}

static size_t quarantined_of(const struct record *r)
{
	size_t n = 0;

	for (const struct use *u = r != NULL ? r->uses : NULL; u != NULL; u = u->next)
		n += u->reason != NULL;
	return n;
}

size_t strikes_quarantined(const struct strikes *b, const char *graph)
{
	return quarantined_of(find(b, graph));
}

static void add_quarantined(void *arg, const char *key, void *value)
{
	size_t *n = arg;

	(void)key;
	*n += quarantined_of(value);
}

size_t strikes_all_quarantined(const struct strikes *b)
{
	size_t n = 0;

	map_each(b->by_graph, add_quarantined, &n);
	return n;
}

json_t *strikes_tell(const struct strikes *b, const char *graph, int64_t now_ms)
{
	const struct record *r = find(b, graph);
	json_t *list = json_array();

	for (const struct use *u = r != NULL ? r->uses : NULL; u != NULL; u = u->next)
		json_array_append_new(
			list, json_pack("{s:s, s:I, s:i, s:o, s:s?}", "kind", u->kind, "lid",
					(json_int_t)u->lid, "strikes", (int)u->n, "last_s",
					u->n > 0 ? json_integer((now_ms - u->last_ms[0]) / 1000)
						 : json_null(),
					"quarantined", u->reason));
	return list;
}

/* ---- the file ---- */

static void load_use(struct record *r, json_t *item)
{
	const char *kind = json_string_value(json_object_get(item, "kind"));
	const char *code = json_string_value(json_object_get(item, "code"));
	const char *reason = json_string_value(json_object_get(item, "reason"));
	json_int_t lid = json_integer_value(json_object_get(item, "lid"));
	struct digest_text digest;

	if (kind == NULL || code == NULL || reason == NULL || !digest_valid(code) || lid < 0 ||
	    lid > UINT32_MAX)
		return;
	memcpy(digest.s, code, sizeof(digest.s));
	struct use *u = get_use(r, kind, (uint32_t)lid, &digest);
	if (u != NULL && u->reason == NULL)
		u->reason = strndup(reason, REASON_MAX);
}

static int load(struct strikes *b, struct err *err)
{
	json_error_t why;
	const char *graph;
	json_t *item, *use;
	size_t i;

	if (access(b->path, F_OK) < 0 && errno == ENOENT)
		return 0;
	json_auto_t *all = json_load_file(b->path, JSON_REJECT_DUPLICATES, &why);
	if (all == NULL)
		return err_set(err, ERR_PARSE, "%s: %s", b->path, why.text);
	json_object_foreach (json_object_get(all, "graphs"), graph, item) {
		struct record *r = get(b, graph);

		if (r == NULL)
			return err_set(err, ERR_NOMEM, "%s", b->path);
		r->apart = json_is_true(json_object_get(item, "apart"));
		json_array_foreach (json_object_get(item, "quarantined"), i, use) {
			load_use(r, use);
		}
		drop_empty(b, r);
	}
	return 0;
}

static void save_record(void *arg, const char *graph, void *value)
{
	const struct record *r = value;
	json_auto_t *uses = json_array();

	for (const struct use *u = r->uses; u != NULL; u = u->next)
		if (u->reason != NULL)
			json_array_append_new(uses,
					      json_pack("{s:s, s:I, s:s, s:s}", "kind", u->kind,
							"lid", (json_int_t)u->lid, "code",
							u->code.s, "reason", u->reason));
	if (r->apart || json_array_size(uses) > 0)
		json_object_set_new(
			arg, graph,
			json_pack("{s:b, s:O}", "apart", r->apart, "quarantined", uses));
}

/* Written aside and moved into place. */
static int write_file(const char *path, const json_t *all, struct err *err)
{
	CLEANUP(freep)
	char *aside = NULL;
	CLEANUP(closep)
	int fd = -1;

	if (asprintf(&aside, "%s.new", path) < 0)
		return err_set(err, ERR_NOMEM, "%s", path);
	fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || json_dumpfd(all, fd, JSON_INDENT(1)) < 0 || fsync(fd) < 0 ||
	    rename(aside, path) < 0)
		return err_sys(err, "writing %s", path);
	return 0;
}

int strikes_save(struct strikes *b, struct err *err)
{
	if (!b->changed || b->path == NULL)
		return 0;
	json_auto_t *graphs = json_object();
	map_each(b->by_graph, save_record, graphs);
	json_auto_t *all = json_pack("{s:i, s:O}", "version", 1, "graphs", graphs);
	if (all == NULL)
		return err_set(err, ERR_NOMEM, "%s", b->path);
	int rc = write_file(b->path, all, err);
	if (rc == 0)
		b->changed = false; /* else the next change tries again */
	return rc;
}

int strikes_new(const char *path, struct strikes **ret, struct err *err)
{
	struct strikes *b = calloc(1, sizeof(*b));
	struct err why = {0};

	if (b != NULL)
		b->by_graph = map_new();
	if (b != NULL && path != NULL)
		b->path = strdup(path);
	if (b == NULL || b->by_graph == NULL || (path != NULL && b->path == NULL)) {
		strikes_free(b);
		return err_set(err, ERR_NOMEM, "strikes");
	}
	if (path != NULL && load(b, &why) < 0)
		log_warn("quarantine.not_read", KV("why", why.text));
	*ret = b;
	return 0;
}

struct strikes *strikes_free(struct strikes *b)
{
	if (b == NULL)
		return NULL;
	if (b->by_graph != NULL)
		map_free(b->by_graph, record_free);
	free(b->path);
	free(b);
	return NULL;
}
