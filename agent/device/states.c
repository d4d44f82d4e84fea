#include "agent/device/states.h"
#include "agent/device/echo.h"
#include "common/clock.h"
#include "common/map.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* Topics in the store of states that the broker has not heard of yet. */
#define UNTOLD "untold:"

struct state {
	char *topic, *text; /* the body as it was told */
	json_t *payload;
	int64_t changed_us;
	char *other_text; /* what the broker has, with no time, that differs; NULL: nothing */
	json_t *other_payload;
	bool seen;   /* the broker has it so, in this connection */
	bool live;   /* told in this connection, as it happened */
	bool untold; /* we changed it, the broker has not acknowledged that */
	struct echoes echoes;
	bool missed;
	struct state *next_missed;
};

struct states {
	struct store *store;
	char *prefix;
	struct map *by_topic;
	size_t bytes; /* of topics and texts */
	struct state *first_missed, **last_missed;
};

static void forget_other(struct state *st)
{
	free(TAKE(st->other_text));
	json_decref(TAKE(st->other_payload));
}

static void state_free(void *value)
{
	struct state *st = value;

	if (st == NULL)
		return;
	forget_other(st);
	echoes_clear(&st->echoes);
	free(st->topic);
	free(st->text);
	json_decref(st->payload);
	free(st);
}

/* Its place does not depend on what others fill theirs with. */
static bool is_enable(const struct states *s, const char *topic)
{
	return strcmp(topic + strlen(s->prefix), "system/enable") == 0;
}

static int room_for(const struct states *s, const char *topic, size_t bytes, struct err *err)
{
	bool more = map_find(s->by_topic, topic) == NULL;

	if (is_enable(s, topic))
		return 0;
	if (more && map_count(s->by_topic) >= STATES_MAX)
		return err_set(err, ERR_LIMIT, "a device has %d states already", STATES_MAX);
	if (bytes > STATES_BYTES_MAX || s->bytes > STATES_BYTES_MAX - bytes)
		return err_set(err, ERR_LIMIT, "the states of a device have %zu bytes already",
			       s->bytes);
	return 0;
}

static int check_size(const char *text, struct err *err)
{
	size_t n = strlen(text);

	return n <= STATE_BYTES_MAX
		       ? 0
		       : err_set(err, ERR_LIMIT, "a state of %zu bytes; %d are the most", n,
				 STATE_BYTES_MAX);
}

/* ret: that of the topic, made if need be; NULL: err (not NULL) says why. */
static struct state *state_of(struct states *s, const char *topic, struct err *err)
{
	struct state *st = map_find(s->by_topic, topic);

	if (st != NULL)
		return st;
	if (room_for(s, topic, strlen(topic), err) < 0)
		return NULL;
	st = calloc(1, sizeof(*st));
	if (st != NULL)
		st->topic = strdup(topic);
	if (st == NULL || st->topic == NULL || map_add(s->by_topic, st->topic, st) < 0) {
		state_free(st);
		err_set(err, ERR_NOMEM, "state");
		return NULL;
	}
	s->bytes += strlen(topic);
	return st;
}

/* ret: a copy of a text that the state may have; NULL: err (not NULL) says why. */
static char *copy_text(const struct states *s, const struct state *st, const char *text,
		       struct err *err)
{
	size_t n = strlen(text), was = st->text != NULL ? strlen(st->text) : 0;

	if (check_size(text, err) < 0 || (n > was && room_for(s, st->topic, n - was, err) < 0))
		return NULL;
	char *copy = strdup(text);

	if (copy == NULL)
		err_set(err, ERR_NOMEM, "state");
	return copy;
}

/* text: taken */
static void put_text(struct states *s, struct state *st, json_t *payload, char *text,
		     int64_t changed_us)
{
	s->bytes += strlen(text) - (st->text != NULL ? strlen(st->text) : 0);
	free(st->text);
	st->text = text;
	json_incref(payload);
	json_decref(st->payload);
	st->payload = payload;
	st->changed_us = changed_us;
}

/* Errors: ERR_LIMIT, ERR_NOMEM (then it is as it was). */
static int state_put(struct states *s, struct state *st, json_t *payload, const char *text,
		     int64_t changed_us, struct err *err)
{
	char *copy = copy_text(s, st, text, err);

	if (copy == NULL)
		return err->code;
	put_text(s, st, payload, copy, changed_us);
	return 0;
}

/* ---- the store ---- */

/* The broker has heard of it, or has not yet (changed_us). */
static int keep_untold(struct states *s, const struct state *st, bool untold, int64_t changed_us,
		       struct err *err)
{
	CLEANUP(freep)
	char *key = NULL;

	if (asprintf(&key, UNTOLD "%s", st->topic) < 0) {
		key = NULL;
		return err_set(err, ERR_NOMEM, "state");
	}
	int rc = store_begin(s->store, err);

	if (rc == 0)
		rc = untold ? store_keep_state(s->store, key, "null", changed_us, err)
			    : store_drop_states(s->store, key, err);
	return rc < 0 ? rc : 0;
}

static int mark_told(struct states *s, struct state *st, struct err *err)
{
	if (!st->untold)
		return 0;
	st->untold = false;
	return keep_untold(s, st, false, 0, err);
}

static int keep(struct states *s, const struct state *st, struct err *err)
{
	int rc = store_begin(s->store, err);

	if (rc == 0)
		rc = store_keep_state(s->store, st->topic, st->text, st->changed_us, err);
	return rc < 0 ? rc : 0;
}

static int on_stored(void *arg, const char *topic, const char *text, int64_t changed_us)
{
	struct states *s = arg;
	struct event_body body = {0};

	/* what has become unreadable is no state; the broker may have it */
	int rc = event_body_parse(text, strlen(text), &body, NULL);
	if (rc < 0)
		return rc == ERR_NOMEM ? rc : 0;
	struct err err = {0};
	struct state *st = state_of(s, topic, &err);

	rc = st != NULL ? state_put(s, st, body.payload, text, changed_us, &err) : err.code;
	event_body_done(&body);
	return rc == ERR_LIMIT ? 0 : rc;
}

static int on_untold(void *arg, const char *topic, const char *text, int64_t changed_us)
{
	struct states *s = arg;
	struct state *st = map_find(s->by_topic, topic + strlen(UNTOLD));

	(void)text;
	(void)changed_us;
	if (st != NULL)
		st->untold = true;
	return 0;
}

int states_new(struct store *store, const char *prefix, struct states **ret, struct err *err)
{
	struct states *s = calloc(1, sizeof(*s));
	CLEANUP(freep)
	char *key = NULL;

	if (s == NULL)
		return err_set(err, ERR_NOMEM, "states");
	s->store = store;
	s->last_missed = &s->first_missed;
	s->by_topic = map_new();
	/* with the slash: the device's own, not those of one with a longer name */
	if (asprintf(&s->prefix, "%s/", prefix) < 0)
		s->prefix = NULL;
	if (asprintf(&key, UNTOLD "%s/", prefix) < 0)
		key = NULL;
	if (s->by_topic == NULL || s->prefix == NULL || key == NULL) {
		states_free(s);
		return err_set(err, ERR_NOMEM, "states");
	}
	int rc = store_each_state(store, s->prefix, on_stored, s, err);

	if (rc >= 0)
		rc = store_each_state(store, key, on_untold, s, err);
	if (rc < 0) {
		states_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct states *states_free(struct states *s)
{
	if (s == NULL)
		return NULL;
	map_free(s->by_topic, state_free);
	free(s->prefix);
	free(s);
	return NULL;
}

int states_drop(struct states *s, struct err *err)
{
	CLEANUP(freep)
	char *key = NULL;

	if (asprintf(&key, UNTOLD "%s", s->prefix) < 0) {
		key = NULL;
		return err_set(err, ERR_NOMEM, "states");
	}
	int rc = store_begin(s->store, err);

	if (rc == 0)
		rc = store_drop_states(s->store, s->prefix, err);
	if (rc >= 0)
		rc = store_drop_states(s->store, key, err);
	return rc < 0 ? rc : 0;
}

/* ---- what is told ---- */

static void forget_sync(void *arg, const char *topic, void *value)
{
	struct state *st = value;

	(void)arg;
	(void)topic;
	st->seen = st->live = false;
	echoes_clear(&st->echoes);
	forget_other(st);
}

void states_begin_sync(struct states *s)
{
	map_each(s->by_topic, forget_sync, NULL);
}

/* It counts from now on. A time to come is taken for now. told_us 0: it has none. */
static int adopt(struct states *s, struct state *st, json_t *payload, const char *text,
		 int64_t told_us, struct err *err)
{
	int64_t now = wall_us(), changed = told_us != 0 && told_us < now ? told_us : now;

	if (changed <= st->changed_us)
		changed = st->changed_us + 1; /* the clock went back */
	int rc = state_put(s, st, payload, text, changed, err);

	if (rc < 0)
		return rc;
	st->seen = true;
	rc = mark_told(s, st, err);
	return rc == 0 ? keep(s, st, err) : rc;
}

int states_retained(struct states *s, const char *topic, const struct event_body *body,
		    const char *text, struct err *err)
{
	struct state *st = state_of(s, topic, err);

	if (st == NULL)
		return err->code;
	if (st->live)
		return 0;
	if (st->text != NULL && strcmp(st->text, text) == 0) {
		st->seen = true;
		mark_told(s, st, NULL); /* at worst it is told once more */
		return 0;
	}
	if (st->text != NULL && body->timestamp_us == 0) {
		forget_other(st);
		if (check_size(text, err) < 0)
			return err->code;
		st->other_text = strdup(text);
		if (st->other_text == NULL)
			return err_set(err, ERR_NOMEM, "state");
		st->other_payload = json_incref(body->payload);
		return 0;
	}
	if (st->text != NULL && body->timestamp_us <= st->changed_us)
		return 0;
	int rc = adopt(s, st, body->payload, text, body->timestamp_us, err);

	return rc < 0 ? rc : 1;
}

struct ending {
	struct states *all;
	bool trusted;
	states_fn *fn;
	void *arg;
};

static void end_one(void *arg, const char *topic, void *value)
{
	const struct ending *e = arg;
	struct state *st = value;
	struct err unused = {0};

	if (st->other_text != NULL && e->trusted && !st->untold && !st->live) {
		/* not on the disk it counts all the same: the broker has it */
		adopt(e->all, st, st->other_payload, st->other_text, 0, &unused);
		e->fn(e->arg, topic, st->text, st->payload);
	}
	forget_other(st);
}

void states_end_sync(struct states *s, bool trusted, states_fn *fn, void *arg)
{
	struct ending e = {.all = s, .trusted = trusted, .fn = fn, .arg = arg};

	map_each(s->by_topic, end_one, &e);
}

/* What is said now is newer than all before, whatever the clocks are. */
static int64_t changed_now(const struct state *st)
{
	int64_t now = wall_us();

	return now > st->changed_us ? now : st->changed_us + 1;
}

static int set_now(struct states *s, const char *topic, const struct event_body *body,
		   const char *text, struct err *err)
{
	struct state *st = state_of(s, topic, err);

	if (st == NULL)
		return err->code;
	/* what we said comes back */
	bool same = st->text != NULL && strcmp(st->text, text) == 0;
	int rc = same ? 0 : state_put(s, st, body->payload, text, changed_now(st), err);

	if (rc < 0)
		return rc;
	st->live = st->seen = true;
	rc = mark_told(s, st, err);
	return rc == 0 && !same ? keep(s, st, err) : rc;
}

/* What we told is no news for the driver: it may have changed since by other ways. What we told
 * before that is no news for anybody. */
int states_live(struct states *s, const char *topic, const struct event_body *body,
		const char *text, struct err *err)
{
	struct state *st = map_find(s->by_topic, topic);
	enum echo_kind kind = st != NULL ? echoes_take(&st->echoes, text) : ECHO_NONE;

	if (kind == ECHO_OLD)
		return 0;
	bool known = kind == ECHO_LAST && st->text != NULL && strcmp(st->text, text) == 0;
	int rc = set_now(s, topic, body, text, err);
	return rc < 0 ? rc : !known;
}

int states_set(struct states *s, const char *topic, const struct event_body *body, const char *text,
	       struct err *err)
{
	struct state *st = state_of(s, topic, err);
	CLEANUP(freep)
	char *copy = st != NULL ? copy_text(s, st, text, err) : NULL;

	if (copy == NULL)
		return err->code;
	int64_t changed_us = changed_now(st);
	int rc = keep_untold(s, st, true, changed_us, err);

	if (rc == 0 && (rc = store_keep_state(s->store, topic, text, changed_us, err)) < 0)
		keep_untold(s, st, st->untold, st->changed_us, NULL);
	if (rc >= 0 && (rc = store_commit(s->store)) < 0)
		err_set(err, rc, "the store is not written");
	if (rc < 0)
		return rc;
	put_text(s, st, body->payload, TAKE(copy), changed_us);
	st->live = st->untold = true;
	st->seen = false;
	return 0;
}

void states_telling(struct states *s, const char *topic, const char *text)
{
	struct state *st = map_find(s->by_topic, topic);

	if (st != NULL)
		echoes_add(&st->echoes, text);
}

void states_not_told(struct states *s, const char *topic, const char *text)
{
	struct state *st = map_find(s->by_topic, topic);

	if (st != NULL)
		echoes_remove(&st->echoes, text);
}

void states_told(struct states *s, const char *topic, const char *text)
{
	struct state *st = map_find(s->by_topic, topic);

	if (st == NULL || st->text == NULL || strcmp(st->text, text) != 0)
		return;
	st->seen = true;
	mark_told(s, st, NULL);
}

/* ---- looking ---- */

struct walk {
	states_fn *fn;
	void *arg;
	bool untold_only;
};

static void walk_one(void *arg, const char *topic, void *value)
{
	const struct walk *w = arg;
	const struct state *st = value;

	if (st->text != NULL && !(w->untold_only && st->seen))
		w->fn(w->arg, topic, st->text, st->payload);
}

void states_each(const struct states *s, states_fn *fn, void *arg)
{
	map_each(s->by_topic, walk_one, &(struct walk){.fn = fn, .arg = arg});
}

void states_each_untold(const struct states *s, states_fn *fn, void *arg)
{
	map_each(s->by_topic, walk_one, &(struct walk){.fn = fn, .arg = arg, .untold_only = true});
}

const json_t *states_find(const struct states *s, const char *topic)
{
	const struct state *st = map_find(s->by_topic, topic);

	return st != NULL ? st->payload : NULL;
}

/* ---- what the driver was not told ---- */

bool states_miss(struct states *s, const char *topic, const json_t *payload)
{
	struct state *st = map_find(s->by_topic, topic);

	if (st == NULL || !json_equal(st->payload, payload))
		return false;
	if (st->missed)
		return true;
	st->missed = true;
	st->next_missed = NULL;
	*s->last_missed = st;
	s->last_missed = &st->next_missed;
	return true;
}

const char *states_take_missed(struct states *s, const json_t **ret_payload)
{
	struct state *st = s->first_missed;

	if (st == NULL)
		return NULL;
	s->first_missed = st->next_missed;
	if (s->first_missed == NULL)
		s->last_missed = &s->first_missed;
	st->missed = false;
	*ret_payload = st->payload;
	return st->topic;
}

bool states_any_missed(const struct states *s)
{
	return s->first_missed != NULL;
}
