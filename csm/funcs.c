#include "csm/funcs.h"

#include "common/id.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/store.h"
#include <string.h>

struct func {
	struct funcs *funcs;
	char digest[DIGEST_LEN + 1];
	unsigned refs;	 /* graph documents and effects that wait for the commit */
	bool doomed;	 /* removed, but still in use */
	bool was_doomed; /* before this turn, for undoing */
	char code[];
};

struct funcs {
	struct csm *csm;
	struct map *by_digest;
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

/* Drop a reference; the last one of a doomed function takes it away. */
static void release(struct func *fn)
{
	if (--fn->refs > 0 || !fn->doomed)
		return;
	store_exec(fn->funcs->csm->store, "DELETE FROM func WHERE digest = $1",
		   DB_V_TEXT(fn->digest));
	map_remove(fn->funcs->by_digest, fn->digest);
	free(fn);
}

static void change_commit(void *arg, const char *why)
{
	(void)why;
	release(arg);
}

static void change_rollback(void *arg, const char *why)
{
	struct func *fn = arg;
	(void)why;
	fn->doomed = fn->was_doomed;
	/* a function that was new is in no store: doomed, it leaves with its last reference */
	release(fn);
}

/* Doom or spare a function, undone if the commit fails. */
static void set_doomed(struct func *fn, bool was_doomed, bool doomed)
{
	fn->was_doomed = was_doomed;
	fn->doomed = doomed;
	fn->refs++;
	store_then(fn->funcs->csm->store, change_commit, change_rollback, fn);
}

int funcs_add(struct funcs *f, const char *digest, const char *code)
{
	struct func *fn = find(f, digest);
	bool is_new = fn == NULL;
	if (!is_new && !fn->doomed)
		return 0;
	if (is_new && (fn = insert(f, digest, code, false)) == NULL)
		return ERR_NOMEM;
	store_exec(f->csm->store,
		   "INSERT INTO func (digest, code, doomed) VALUES ($1, $2, 0)"
		   " ON CONFLICT (digest) DO UPDATE SET doomed = 0",
		   DB_V_TEXT(digest), DB_V_TEXT(code));
	set_doomed(fn, true, false);
	return 0;
}

void funcs_remove(struct funcs *f, const char *digest)
{
	struct func *fn = find(f, digest);
	if (fn == NULL || fn->doomed)
		return;
	store_exec(f->csm->store, "UPDATE func SET doomed = 1 WHERE digest = $1", DB_V_TEXT(digest));
	set_doomed(fn, false, true);
}

const char *funcs_find(const struct funcs *f, const char *digest)
{
	const struct func *fn = find(f, digest);
	return fn != NULL && !fn->doomed ? fn->code : NULL;
}

const char *funcs_source(const struct funcs *f, const char *digest)
{
	const struct func *fn = find(f, digest);
	return fn != NULL ? fn->code : NULL;
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
