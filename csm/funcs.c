#include "csm/funcs.h"

#include "common/id.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/store.h"
#include <string.h>

#define FUNCS_MAX	100000
#define FUNCS_MAX_BYTES (512u * 1024 * 1024)

struct func {
	struct funcs *funcs;
	char digest[DIGEST_LEN + 1];
	unsigned refs;	 /* graph documents and effects that wait for the commit */
	bool doomed;	 /* removed, but still in use */
	bool unstored;	 /* its insertion was rolled back: nobody may begin to use it */
	char code[];
};

struct funcs {
	struct csm *csm;
	struct map *by_digest;
	size_t bytes; /* of all sources */
};

static struct func *find(const struct funcs *f, const char *digest)
{
	return map_find(f->by_digest, digest);
}

static struct func *insert(struct funcs *f, const char *digest, const char *code, bool doomed)
{
	size_t len = strlen(code) + 1;
	struct func *fn = calloc(1, sizeof(*fn) + len);
	if (fn == NULL)
		return NULL;
	fn->funcs = f;
	memcpy(fn->digest, digest, DIGEST_LEN);
	memcpy(fn->code, code, len);
	fn->doomed = doomed;
	if (map_add(f->by_digest, fn->digest, fn) < 0) {
		free(fn);
		return NULL;
	}
	f->bytes += len - 1;
	return fn;
}

struct loading {
	struct funcs *f;
	struct err *err;
};

static int load_row(void *arg, const struct db_value *v, size_t n)
{
	struct loading *l = arg;
	(void)n;
	if (v[0].type != DB_TEXT || v[1].type != DB_TEXT || !digest_valid(v[0].text))
		return err_set(l->err, ERR_DB, "store: a function does not read back");
	if (insert(l->f, v[0].text, v[1].text, v[2].num != 0) == NULL)
		return err_set(l->err, ERR_NOMEM, "loading functions");
	return 0;
}

int funcs_new(struct csm *csm, struct funcs **ret, struct err *err)
{
	struct funcs *f = calloc(1, sizeof(*f));
	if (f == NULL || (f->by_digest = map_new()) == NULL) {
		free(f);
		return err_set(err, ERR_NOMEM, "functions");
	}
	f->csm = csm;
	struct loading l = {.f = f, .err = err};
	int rc = db_run(store_db(csm->store), err, load_row, &l,
			"SELECT digest, code, doomed FROM func");
	if (rc < 0) {
		funcs_free(f);
		return rc;
	}
	*ret = f;
	return 0;
}

struct funcs *funcs_free(struct funcs *f)
{
	if (f == NULL)
		return NULL;
	map_free(f->by_digest, free);
	free(f);
	return NULL;
}

static void forget(struct func *fn)
{
	fn->funcs->bytes -= strlen(fn->code);
	map_remove(fn->funcs->by_digest, fn->digest);
	free(fn);
}

/* Drop a reference; the last one of a doomed function takes it away - but not when csm stops, which ends no use. */
static void release(struct func *fn)
{
	struct csm *csm = fn->funcs->csm;
	if (--fn->refs > 0 || !fn->doomed || csm->silent)
		return;
	if (!fn->unstored)
		store_exec(csm->store, "DELETE FROM func WHERE digest = $1", DB_V_TEXT(fn->digest));
	forget(fn);
}

/* A change of this turn, with what is needed to undo it. */
struct change {
	struct func *fn;
	bool was_doomed, is_new;
};

static void change_commit(void *arg, const char *why)
{
	struct change *c = arg;
	(void)why;
	release(c->fn);
	free(c);
}

static void change_rollback(void *arg, const char *why)
{
	struct change *c = arg;
	(void)why;
	c->fn->doomed = c->was_doomed;
	if (c->is_new)
		c->fn->doomed = c->fn->unstored = true;
	release(c->fn);
	free(c);
}

/* Doom or spare a function, undone if the commit fails. ret: 0 or ERR_NOMEM (nothing changed). */
static int set_doomed(struct func *fn, bool doomed, bool is_new)
{
	struct change *c = malloc(sizeof(*c));
	if (c == NULL)
		return ERR_NOMEM;
	*c = (struct change){.fn = fn, .was_doomed = fn->doomed, .is_new = is_new};
	fn->doomed = doomed;
	fn->refs++;
	store_then(fn->funcs->csm->store, change_commit, change_rollback, c);
	return 0;
}

int funcs_add(struct funcs *f, const char *digest, const char *code)
{
	struct func *fn = find(f, digest);
	bool is_new = fn == NULL;
	if (!is_new && !fn->doomed)
		return 0;
	size_t len = strlen(code);
	if (is_new && (map_count(f->by_digest) >= FUNCS_MAX || f->bytes + len > FUNCS_MAX_BYTES))
		return ERR_LIMIT;
	if (is_new && (fn = insert(f, digest, code, false)) == NULL)
		return ERR_NOMEM;
	if (set_doomed(fn, false, is_new || fn->unstored) < 0) {
		if (is_new)
			forget(fn);
		return ERR_NOMEM;
	}
	fn->unstored = false;
	store_exec(f->csm->store,
		   "INSERT INTO func (digest, code, doomed) VALUES ($1, $2, 0)"
		   " ON CONFLICT (digest) DO UPDATE SET doomed = 0",
		   DB_V_TEXT(digest), DB_V_TEXT(code));
	return 0;
}

void funcs_remove(struct funcs *f, const char *digest)
{
	struct func *fn = find(f, digest);
	if (fn == NULL || fn->doomed)
		return;
	if (set_doomed(fn, true, false) < 0)
		store_failed(f->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
	store_exec(f->csm->store, "UPDATE func SET doomed = 1 WHERE digest = $1", DB_V_TEXT(digest));
}

const char *funcs_find(const struct funcs *f, const char *digest)
{
	const struct func *fn = find(f, digest);
	return fn != NULL && !fn->doomed ? fn->code : NULL;
}

const char *funcs_source(const struct funcs *f, const char *digest)
{
	const struct func *fn = find(f, digest);
	return fn != NULL && !fn->unstored ? fn->code : NULL;
}

void funcs_ref(struct funcs *f, const char *digest)
{
	struct func *fn = find(f, digest);
	if (fn != NULL)
		fn->refs++;
}

void funcs_unref(struct funcs *f, const char *digest)
{
	struct func *fn = find(f, digest);
	if (fn != NULL)
		release(fn);
}

void funcs_sweep(struct funcs *f)
{
	CLEANUP(freep) struct func **all = (struct func **)map_values(f->by_digest);
	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		if (all[i]->doomed && all[i]->refs == 0) {
			all[i]->refs = 1;
			release(all[i]);
		}
	}
}
