#include "agent/device/store.h"

#include "common/log.h"
#include "common/schema.h"
#include "common/util.h"
#include <stdbool.h>

/* While a burst lasts a transaction stays open over several turns: each commit waits for the disk,
 * and the loop with it. What comes after a quiet while does not wait. */
#define COMMIT_EVERY_MS 20
/* After a failure nothing is tried for so long: the next one may hold the loop as well. */
#define RETRY_MS 1000

/* Pages that nobody uses are given back to the file system, but for some that the next backlog will
 * need, and so many at a time that the loop does not notice. */
#define VACUUM_EVERY_MS 1000
#define FREE_PAGES_MAX  256
#define VACUUM          "PRAGMA incremental_vacuum(256)"

#define CACHE "PRAGMA cache_size=-4000"

#define CLOCK "clock:" /* the topic of its note */

struct waiter {
	store_done_fn *fn; /* NULL: forgotten */
	void *arg;
	int rc; /* once it is known */
	struct waiter *next;
};

struct waiters {
	struct waiter *first, **last;
};

struct store {
	struct loop *loop;
	struct db *db;
	struct loop_src *timer;
	uint64_t number;          /* of transactions that have ended */
	bool open;                /* a transaction is */
	int64_t committed_ms;     /* the last time */
	int64_t refused_until_ms; /* after a failure */
	int64_t vacuum_ms;        /* when free pages are looked for; 0: nothing has changed */
	struct elapsed clock;     /* of what becomes old */
	struct waiters waiting;   /* for the next commit */
	struct waiters decided;   /* they hear of theirs when the turn has ended */
};

/* ---- transactions ---- */

/* SQLite ends a transaction by itself when it lacks memory or room: what came then would stand
 * alone. */
static bool given_up(const struct store *s)
{
	return s->open && !db_in_transaction(s->db);
}

/* The timer that is due at once fires as soon as this turn has ended. */
static void arm(struct store *s)
{
	int64_t now = loop_now_ms(s->loop), due = s->vacuum_ms;

	if (s->open)
		due = s->committed_ms + COMMIT_EVERY_MS;
	if (s->decided.first != NULL || (!s->open && s->waiting.first != NULL))
		due = now;
	if (due != 0)
		loop_arm(s->loop, s->timer, due > now ? due - now : 0);
}

int store_begin(struct store *s, struct err *err)
{
	if (s->open)
		return given_up(s) ? err_set(err, ERR_DB, "store: the transaction was given up")
				   : 0;
	if (loop_now_ms(s->loop) < s->refused_until_ms)
		return err_set(err, ERR_DB, "store: it failed a moment ago");
	/* one whose ROLLBACK lacked memory is there still */
	int rc = db_in_transaction(s->db) ? db_run(s->db, err, NULL, NULL, "ROLLBACK") : 0;

	if (rc == 0)
		rc = db_run(s->db, err, NULL, NULL, "BEGIN IMMEDIATE");
	if (rc < 0) {
		s->refused_until_ms = loop_now_ms(s->loop) + RETRY_MS;
		return rc;
	}
	s->open = true;
	arm(s);
	return 0;
}

static void decide(struct store *s, int rc)
{
	if (s->waiting.first == NULL)
		return;
	for (struct waiter *w = s->waiting.first; w != NULL; w = w->next)
		w->rc = rc;
	*s->decided.last = s->waiting.first;
	s->decided.last = s->waiting.last;
	s->waiting = (struct waiters){.last = &s->waiting.first};
}

int store_commit(struct store *s)
{
	if (!s->open)
		return 0;

	struct err err = {0};
	int rc = given_up(s) ? err_set(&err, ERR_DB,
				       "the transaction was given up: no memory or no room")
			     : db_run(s->db, &err, NULL, NULL, "COMMIT");

	s->open = false;
	s->number++;
	s->committed_ms = loop_now_ms(s->loop);
	decide(s, rc);
	if (rc == 0 && s->vacuum_ms == 0)
		s->vacuum_ms = s->committed_ms + VACUUM_EVERY_MS;
	arm(s);
	if (rc == 0)
		return 0;
	db_run(s->db, NULL, NULL, NULL, "ROLLBACK"); /* SQLite may have done it already */
	s->clock.noted_us = 0;
	s->refused_until_ms = s->committed_ms + RETRY_MS;
	if (log_allowed("store.failed", err.text))
		log_error("store.failed", KV("why", err.text));
	return rc;
}

/* Those who hear may write more, and wait for that. */
static void tell(struct store *s)
{
	while (s->decided.first != NULL) {
		struct waiter *w = s->decided.first;

		s->decided.first = w->next;
		if (w->next == NULL)
			s->decided.last = &s->decided.first;
		if (w->fn != NULL)
			w->fn(w->arg, w->rc);
		free(w);
	}
}

static int on_number(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(int64_t *)arg = v[0].type == DB_INT ? v[0].num : 0;
	return 0;
}

/* A failure is none of anybody's data: what is not given back now is later. */
static void give_pages_back(struct store *s)
{
	int64_t pages = 0;
	struct err err = {0};
	int rc = db_run(s->db, &err, on_number, &pages, "PRAGMA freelist_count");

	s->vacuum_ms = 0;
	if (rc == 0 && pages <= FREE_PAGES_MAX)
		return;
	if (rc == 0)
		rc = db_script(s->db, VACUUM, &err);
	if (rc == 0)
		rc = db_run(s->db, &err, on_number, &pages, "PRAGMA freelist_count");
	/* the file ends where it should once the log has been put into it */
	if (rc == 0 && pages <= FREE_PAGES_MAX)
		rc = db_script(s->db, "PRAGMA wal_checkpoint(PASSIVE)", &err);
	if (rc < 0 && log_allowed("store.vacuum_failed", ""))
		log_warn("store.vacuum_failed", KV("why", err.text));
	if (rc < 0 || pages > FREE_PAGES_MAX)
		s->vacuum_ms = loop_now_ms(s->loop) + VACUUM_EVERY_MS;
}

static void on_timer(void *arg)
{
	struct store *s = arg;
	int64_t now = loop_now_ms(s->loop);

	if (!s->open)
		decide(s, 0);
	else if (given_up(s) || now - s->committed_ms >= COMMIT_EVERY_MS)
		store_commit(s);
	if (!s->open && s->vacuum_ms != 0 && now >= s->vacuum_ms)
		give_pages_back(s);
	tell(s);
	arm(s);
}

int store_on_commit(struct store *s, store_done_fn *fn, void *arg, struct err *err)
{
	struct waiter *w = malloc(sizeof(*w));

	if (w == NULL)
		return err_set(err, ERR_NOMEM, "store");
	*w = (struct waiter){.fn = fn, .arg = arg};
	*s->waiting.last = w;
	s->waiting.last = &w->next;
	if (!s->open)
		arm(s);
	return 0;
}

uint64_t store_transaction(const struct store *s)
{
	return s->number;
}

void store_forget(struct store *s, const void *arg)
{
	struct waiter *const lists[] = {s->waiting.first, s->decided.first};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		for (struct waiter *w = lists[i]; w != NULL; w = w->next)
			if (w->arg == arg)
				w->fn = NULL;
}

struct db *store_db(struct store *s)
{
	return s->db;
}

/* ---- the clock ---- */

const struct elapsed *store_clock(const struct store *s)
{
	return &s->clock;
}

/* Without it what is kept is taken for younger than it is, at worst. */
void store_keep_clock(struct store *s)
{
	char note[ELAPSED_NOTE_BYTES];
	struct err err = {0};

	if (!elapsed_is_due(&s->clock) || store_begin(s, NULL) < 0)
		return;
	int64_t at_us = elapsed_note(&s->clock, note);

	if (store_keep_state(s, CLOCK, note, at_us, &err) < 0 && log_allowed("store.clock", ""))
		log_warn("store.clock", KV("why", err.text));
}

static int on_clock(void *arg, const char *topic, const char *note, int64_t noted_us)
{
	(void)topic;
	elapsed_begin(arg, note, noted_us, 0);
	return 0;
}

/* Before there was one, rows were put by the wall's clock. */
static int begin_clock(struct store *s, struct err *err)
{
	int64_t newest_us = 0;
	int rc = store_each_state(s, CLOCK, on_clock, &s->clock, err);

	if (rc < 0 || s->clock.offset_us != 0)
		return rc;
	rc = db_run(s->db, err, on_number, &newest_us, "SELECT max(put_us) FROM outbox");
	if (rc == 0)
		elapsed_begin(&s->clock, NULL, 0, newest_us);
	return rc;
}

/* ---- open, close ---- */

/* What can be lost silently is read once: a store that is damaged there is found now. And files of
 * before, and new ones, learn to shrink. */
static int prepare(struct db *db, struct err *err)
{
	int64_t vacuum = 0, unused = 0;
	int rc = db_script(db, CACHE, err);

	if (rc == 0)
		rc = db_run(db, err, on_number, &unused,
			    "SELECT count(*) FROM (SELECT topic, body, changed_us FROM state) AS s "
			    "WHERE body <> ''");
	if (rc == 0)
		rc = db_run(db, err, on_number, &unused,
			    "SELECT count(*) FROM registration WHERE device <> ''");
	if (rc == 0)
		rc = db_run(db, err, on_number, &vacuum, "PRAGMA auto_vacuum");
	if (rc == 0 && vacuum != 2)
		rc = db_script(db, "PRAGMA auto_vacuum=INCREMENTAL; VACUUM", err);
	return rc;
}

int store_open(struct loop *l, const struct settings *settings, struct store **ret, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_set(err, ERR_NOMEM, "store");
	*s = (struct store){.loop = l};
	s->waiting.last = &s->waiting.first;
	s->decided.last = &s->decided.first;
	s->committed_ms = loop_now_ms(l) - COMMIT_EVERY_MS;
	int rc = schema_open(settings, SCHEMA_DEVICES, &s->db, err);

	if (rc == 0 && ((rc = prepare(s->db, err)) < 0 || (rc = begin_clock(s, err)) < 0))
		err_wrap(err, rc, "opening store %s", schema_path(settings, SCHEMA_DEVICES));
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_timer, s, &s->timer, err);
	if (rc < 0) {
		store_close(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct store *store_close(struct store *s)
{
	if (s == NULL)
		return NULL;
	do { /* those who hear may begin anew */
		store_commit(s);
		decide(s, 0);
		tell(s);
	} while (s->open);
	loop_remove(s->loop, s->timer);
	db_close(s->db);
	free(s);
	return NULL;
}

/* ---- kept states ---- */

/* Sorts behind all that begins with it. */
#define PAST_PREFIX "$1 || '\xf4\x8f\xbf\xbf'"

int store_keep_state(struct store *s, const char *topic, const char *body, int64_t changed_us,
		     struct err *err)
{
	int64_t kept = 0;
	int rc = db_run(s->db, err, on_number, &kept,
			"INSERT INTO state (topic, body, changed_us) VALUES ($1, $2, $3) "
			"ON CONFLICT (topic) DO UPDATE SET body = excluded.body, "
			"changed_us = excluded.changed_us "
			"WHERE excluded.changed_us > state.changed_us RETURNING 1",
			DB_V_TEXT(topic), DB_V_TEXT(body), DB_V_INT(changed_us));

	return rc < 0 ? rc : (int)kept;
}

struct walk {
	store_state_fn *on_state;
	store_registration_fn *on_registration;
	void *arg;
};

static int on_state(void *arg, const struct db_value *v, size_t n)
{
	const struct walk *w = arg;

	(void)n;
	return w->on_state(w->arg, v[0].text, v[1].text, v[2].num);
}

int store_each_state(struct store *s, const char *prefix, store_state_fn *fn, void *arg,
		     struct err *err)
{
	struct walk w = {.on_state = fn, .arg = arg};

	return db_run(s->db, err, on_state, &w,
		      "SELECT topic, body, changed_us FROM state "
		      "WHERE topic >= $1 AND topic < " PAST_PREFIX " ORDER BY topic",
		      DB_V_TEXT(prefix));
}

int store_drop_states(struct store *s, const char *prefix, struct err *err)
{
	return db_run(s->db, err, NULL, NULL,
		      "DELETE FROM state WHERE topic >= $1 AND topic < " PAST_PREFIX,
		      DB_V_TEXT(prefix));
}

/* ---- registrations ---- */

int store_add_registration(struct store *s, const char *id, const char *device, struct err *err)
{
	return db_run(s->db, err, NULL, NULL,
		      "INSERT INTO registration (id, device) VALUES ($1, $2) "
		      "ON CONFLICT (id) DO UPDATE SET device = excluded.device",
		      DB_V_TEXT(id), DB_V_TEXT(device));
}

int store_drop_registration(struct store *s, const char *id, struct err *err)
{
	return db_run(s->db, err, NULL, NULL, "DELETE FROM registration WHERE id = $1",
		      DB_V_TEXT(id));
}

static int on_registration(void *arg, const struct db_value *v, size_t n)
{
	const struct walk *w = arg;

	(void)n;
	return w->on_registration(w->arg, v[0].text, v[1].text);
}

int store_each_registration(struct store *s, store_registration_fn *fn, void *arg, struct err *err)
{
	struct walk w = {.on_registration = fn, .arg = arg};

	return db_run(s->db, err, on_registration, &w,
		      "SELECT id, device FROM registration ORDER BY id");
}
