#include "csm/store.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/schema.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/metrics.h"
#include <stdio.h>
#include <string.h>

struct effect {
	store_effect_fn *on_commit, *on_rollback;
	void *arg;
	struct effect *next;
};

/* Effects for a turn that lacks memory: its requests must be able to end as all do. More are refused where they come in. */
#define SPARE_EFFECTS 1024

struct store {
	struct csm *csm;
	struct db *db;
	bool open, failed; /* a transaction is open; this turn must not commit */
	uint64_t statements; /* of the open transaction */
	unsigned long shortages; /* shortage_count() when the turn began */
	struct err why;
	char trouble[256]; /* of the last commit that failed; empty: all is well */
	struct effect *first, **last;
	store_commit_fn *before, *after; /* NULL: none */
	void *commit_arg;
	struct effect *spare;		   /* those that are free, linked by next */
	struct effect spares[SPARE_EFFECTS];
};

struct kept {
	char *value;
	size_t cap;
};

static int on_kept(void *arg, const struct db_value *v, size_t n)
{
	const struct kept *k = arg;
	(void)n;
	snprintf(k->value, k->cap, "%s", v[0].type == DB_TEXT ? v[0].text : "");
	return 0;
}

int store_keep(struct store *s, const char *name, const char *first, char *ret_value, size_t cap, struct err *err)
{
	struct kept k = {.value = ret_value, .cap = cap};
	ret_value[0] = '\0';
	int rc = db_run(s->db, err, on_kept, &k, "SELECT value FROM meta WHERE name = $1", DB_V_TEXT(name));
	if (rc < 0 || ret_value[0] != '\0')
		return rc;
	snprintf(ret_value, cap, "%s", first);
	return db_run(s->db, err, NULL, NULL, "INSERT INTO meta (name, value) VALUES ($1, $2)", DB_V_TEXT(name),
		      DB_V_TEXT(first));
}

struct db *store_db(struct store *s)
{
	return s->db;
}

const char *store_trouble(const struct store *s)
{
	return s->trouble[0] != '\0' ? s->trouble : NULL;
}

bool store_lacks_memory(const struct store *s)
{
	return shortage_count() != s->shortages || (s->failed && s->why.code == ERR_NOMEM);
}

void store_failed(struct store *s, const struct err *why)
{
	if (!s->failed)
		s->why = *why;
	s->failed = true;
}

/* SQLite ends a transaction by itself when it lacks memory or room, in a SELECT too: what came then would stand alone. */
static bool given_up(struct store *s)
{
	if (db_in_transaction(s->db))
		return false;
	store_failed(s, &(struct err){.code = ERR_DB, .text = "store: the transaction was given up: no memory or no room"});
	return true;
}

int store_begin(struct store *s)
{
	struct err err = {0};
	if (s->failed)
		return ERR_DB;
	s->statements++;
	if (s->open)
		return given_up(s) ? ERR_DB : 0;
	/* one whose ROLLBACK lacked memory is there still */
	int rc = db_in_transaction(s->db) ? db_run(s->db, &err, NULL, NULL, "ROLLBACK") : 0;
	if (rc < 0 || db_run(s->db, &err, NULL, NULL, "BEGIN IMMEDIATE") < 0) {
		store_failed(s, &err);
		return ERR_DB;
	}
	s->open = true;
	return 0;
}

void store_then(struct store *s, store_effect_fn *on_commit, store_effect_fn *on_rollback, void *arg)
{
	struct effect *e = malloc(sizeof(*e));
	if (e == NULL) {
		store_failed(s, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		e = s->spare;
		s->spare = e != NULL ? e->next : NULL;
	}
	if (e == NULL) {
		if (on_rollback != NULL)
			on_rollback(arg, "out of memory");
		return;
	}
	*e = (struct effect){.on_commit = on_commit, .on_rollback = on_rollback, .arg = arg};
	*s->last = e;
	s->last = &e->next;
}

void store_with_commits(struct store *s, store_commit_fn *before, store_commit_fn *after, void *arg)
{
	s->before = before;
	s->after = after;
	s->commit_arg = arg;
}

static void effect_free(struct store *s, struct effect *e)
{
	if (e < s->spares || e >= s->spares + SPARE_EFFECTS) {
		free(e);
		return;
	}
	e->next = s->spare;
	s->spare = e;
}

static struct effect *reversed(struct effect *e)
{
	struct effect *out = NULL;
	while (e != NULL) {
		struct effect *next = e->next;
		e->next = out;
		out = e;
		e = next;
	}
	return out;
}

/* Commit or roll back this turn's transaction. ret: whether the effects may go out; if not, why. */
static bool settle(struct store *s, char why[sizeof(s->trouble)])
{
	struct err err = {0};
	bool was_open = s->open;
	int64_t began_us = was_open ? monotonic_us() : 0;
	if (shortage_count() != s->shortages)
		store_failed(s, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
	if (s->open && !s->failed && s->before != NULL)
		s->before(s->commit_arg);
	if (s->open && !s->failed && !given_up(s) && db_run(s->db, &err, NULL, NULL, "COMMIT") < 0)
		store_failed(s, &err);
	if (s->open && s->failed)
		db_run(s->db, NULL, NULL, NULL, "ROLLBACK"); /* SQLite may have done it already */
	if (s->failed) {
		snprintf(why, sizeof(s->trouble), "%.255s", s->why.text);
		if (s->why.code != ERR_NOMEM) /* that is no state of the store, and over with the turn */
			memcpy(s->trouble, why, sizeof(s->trouble));
		if (log_allowed("store.failed", why))
			log_error("store.failed", KV("why", why));
	} else if (s->open) {
		s->trouble[0] = '\0';
		if (s->after != NULL)
			s->after(s->commit_arg);
	}
	bool ok = !s->failed;
	if (was_open || !ok)
		metrics_commit(s->csm->metrics, ok, s->statements, monotonic_us() - began_us);
	s->open = s->failed = false;
	s->statements = 0;
	s->shortages = shortage_count();
	return ok;
}

static void end_of_turn(void *arg)
{
	struct store *s = arg;
	char why[sizeof(s->trouble)] = "";
	while (s->first != NULL || s->open || s->failed) {
		struct effect *e = TAKE(s->first);
		s->last = &s->first;
		bool ok = settle(s, why);
		if (!ok)
			e = reversed(e);
		while (e != NULL) {
			struct effect *next = e->next;
			store_effect_fn *fn = ok ? e->on_commit : e->on_rollback;
			if (fn != NULL)
				fn(e->arg, ok ? NULL : why);
			effect_free(s, e);
			e = next;
		}
	}
	s->shortages = shortage_count();
}

int store_open(struct csm *csm, struct store **ret, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "store");
	s->csm = csm;
	s->last = &s->first;
	for (size_t i = 0; i < SPARE_EFFECTS; i++)
		effect_free(s, &s->spares[i]);
	int rc = schema_open(csm->settings, SCHEMA_CSM, &s->db, err);
	if (rc == 0)
		rc = loop_add_turn(csm->loop, end_of_turn, s, err);
	if (rc < 0) {
		db_close(s->db);
		free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct store *store_close(struct store *s)
{
	if (s == NULL)
		return NULL;
	end_of_turn(s);
	db_close(s->db);
	free(s);
	return NULL;
}
