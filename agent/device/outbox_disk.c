/* outbox_disk.c - the rows of what waits: written, read, deleted. */
#include "agent/device/outbox_int.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

#define ROW_BYTES 64 /* of a row besides its texts, about */
#define READ_ROWS 64

/* ---- rows that are over ---- */

bool outbox_is_gone(const struct outbox *o, const struct outbox_queue *q, enum outbox_keep keep,
		    int64_t seq)
{
	for (size_t i = 0; i < o->n_gone; i++)
		if (o->gone[i].seq == seq && o->gone[i].sink == q->sink && o->gone[i].keep == keep)
			return true;
	return false;
}

const struct item *outbox_in_flight(const struct outbox_queue *q, enum outbox_keep keep,
				    int64_t seq)
{
	for (const struct item *it = q->flight.first; it != NULL; it = it->next)
		if (it->seq == seq && it->keep == keep)
			return it;
	return NULL;
}

/* Without memory for it the row stays, and is sent once more after the next start. */
static void note_gone(struct outbox *o, const struct outbox_queue *q, enum outbox_keep keep,
		      int64_t seq, struct address *a)
{
	if (o->n_gone == o->gone_cap) {
		size_t cap = o->gone_cap != 0 ? 2 * o->gone_cap : 16;
		struct gone *gone = reallocarray(o->gone, cap, sizeof(*gone));

		if (gone == NULL)
			return;
		o->gone = gone;
		o->gone_cap = cap;
	}
	o->gone[o->n_gone++] = (struct gone){
		.seq = seq, .sink = (uint8_t)q->sink, .keep = (uint8_t)keep, .address = a};
	if (a != NULL)
		a->leaving++;
}

void outbox_delete_row(struct outbox *o, const struct outbox_queue *q, enum outbox_keep keep,
		       int64_t seq, int64_t bytes, struct address *a)
{
	note_gone(o, q, keep, seq, keep == KEEP_LATEST ? a : NULL);
	o->disk_items--;
	o->disk_bytes -= bytes;
	if (o->disk_items == 0)
		o->oldest_us = 0;
}

void outbox_delete(struct outbox *o, struct item *it)
{
	struct address *a = it->address;

	if (it->keep == KEEP_ALL && (it->stored || it->saving))
		outbox_delete_row(o, it->q, KEEP_ALL, it->seq, it->bytes, a);
	/* also the row of an older one, whose place it took */
	if (outbox_is_state(it) && a->row != 0 && a->row <= it->seq) {
		outbox_delete_row(o, it->q, KEEP_LATEST, a->row, a->row_bytes, a);
		a->row = 0;
		outbox_flush(o); /* the next one waits for it */
	}
}

/* ---- the end of a transaction ---- */

static void give_up(struct outbox *o, struct item *it)
{
	o->failed++;
	if (log_allowed("outbox.failed", o->device))
		log_error("outbox.failed", KV("device", o->device), KV("total", o->failed),
			  KV("why", "the disk refuses what is to be kept"));
	if (it->keep == KEEP_ALL)
		it->address->backlog--;
	outbox_lose(o, it, ERR_DB);
}

/* The disk is asked again, for a while. */
static void refused(struct outbox *o, struct item *it)
{
	struct address *a = it->address;

	if (outbox_is_state(it) && it->seq < a->newest) {
		outbox_superseded(o, it);
		return;
	}
	if (loop_now_ms(o->loop) - it->put_ms >= OUTBOX_GIVE_UP_MS ||
	    o->unsaved.n >= OUTBOX_MEMORY_MAX) {
		give_up(o, it);
		return;
	}
	if (o->unsaved.last == NULL || o->unsaved.last->seq < it->seq)
		outbox_append(&o->unsaved, it);
	else
		outbox_insert(&o->unsaved, it);
	if (it->keep == KEEP_ALL)
		a->unsaved++;
	else
		a->waiting = it;
}

static void committed(struct outbox *o, struct item *it)
{
	it->saving = false;
	outbox_settle(o, it, 0);
	if (it->list != NULL) {
		it->stored = true;
		return;
	}
	it->q->more[it->keep] = true;
	outbox_dispose(it);
}

/* It has been counted as deleted already, or what comes of it is over now: so is the row that it
 * had taken the place of. */
static void rolled_back_over(struct outbox *o, struct item *it)
{
	struct address *a = it->address;

	if (it->keep == KEEP_LATEST && a->row == it->seq) {
		outbox_delete_row(o, it->q, KEEP_LATEST, it->seq, it->bytes, a);
		a->row = 0;
	}
	if (it->replaced != 0)
		note_gone(o, it->q, KEEP_LATEST, it->replaced, a);
	if (it->list != NULL)
		return;
	outbox_settle(o, it, 0);
	outbox_dispose(it);
}

static void rolled_back(struct outbox *o, struct item *it)
{
	struct address *a = it->address;

	it->saving = false;
	if (it->over || (it->keep == KEEP_LATEST && a->row != it->seq)) {
		rolled_back_over(o, it);
		return;
	}
	o->disk_items -= it->replaced == 0;
	o->disk_bytes -= it->bytes - it->replaced_bytes;
	if (it->keep == KEEP_LATEST) {
		a->row = it->replaced;
		a->row_bytes = it->replaced_bytes;
	}
	if (it->list == NULL)
		refused(o, it);
}

static void forget_deleted(struct outbox *o)
{
	for (size_t i = 0; i < o->n_deleted; i++) {
		struct address *a = o->gone[i].address;

		if (a == NULL)
			continue;
		a->leaving--;
		outbox_forget_address(a);
	}
	o->n_gone -= o->n_deleted;
	if (o->n_deleted > 0)
		memmove(o->gone, o->gone + o->n_deleted, o->n_gone * sizeof(*o->gone));
}

static void on_commit(void *arg, int rc)
{
	struct outbox *o = arg;
	struct item *list = TAKE(o->saving), *ordered = NULL;

	o->listening = false;
	o->failing = rc < 0;
	if (rc == 0)
		forget_deleted(o);
	o->n_deleted = 0;
	while (list != NULL) {
		struct item *it = list;

		list = it->next_saving;
		if (rc < 0) { /* the latest first: each puts back what it found */
			rolled_back(o, it);
		} else {
			it->next_saving = ordered;
			ordered = it;
		}
	}
	while (ordered != NULL) {
		struct item *it = ordered;

		ordered = it->next_saving;
		committed(o, it);
	}
	outbox_retry(o); /* what came before this was told */
	for (int i = 0; i < OUTBOX_SINKS; i++)
		outbox_pump(o, &o->q[i]);
	outbox_schedule(o);
	outbox_tell(o);
}

/* ret: 0; ERR_AGAIN: what has come of the last transaction is to be told first; other negative */
static int begin(struct outbox *o, struct err *err)
{
	int rc = store_begin(o->store, err);

	if (rc < 0)
		return rc;
	if (o->listening)
		return o->transaction == store_transaction(o->store)
			       ? 0
			       : err_set(err, ERR_AGAIN, "the transaction before has just ended");
	rc = store_on_commit(o->store, on_commit, o, err);
	o->listening = rc == 0;
	o->transaction = store_transaction(o->store);
	return rc;
}

void outbox_flush(struct outbox *o)
{
	struct err err = {0};
	int rc = o->n_deleted < o->n_gone ? begin(o, &err) : 0;

	while (rc == 0 && o->n_deleted < o->n_gone) {
		const struct gone *g = &o->gone[o->n_deleted];

		rc = db_run(store_db(o->store), &err, NULL, NULL,
			    "DELETE" OUTBOX_OF_KIND "AND seq = $4", DB_V_TEXT(o->device),
			    DB_V_INT(g->sink), DB_V_INT(g->keep), DB_V_INT(g->seq));
		o->n_deleted += rc == 0;
	}
	if (rc < 0 && rc != ERR_AGAIN && log_allowed("outbox.not_deleted", o->device))
		log_warn("outbox.not_deleted", KV("device", o->device), KV("why", err.text));
}

/* ---- writing ---- */

static int on_changed(void *arg, const struct db_value *v, size_t n)
{
	(void)v;
	(void)n;
	*(bool *)arg = true;
	return 0;
}

int outbox_write(struct outbox *o, struct item *it, struct err *err)
{
	struct address *a = it->address;
	struct db *db = store_db(o->store);
	bool changed = false;
	int rc;

	if (it->keep == KEEP_LATEST && a->row >= it->seq)
		return 0;
	it->bytes = (int64_t)(strlen(a->name) + strlen(it->text)) + ROW_BYTES;
	if ((rc = begin(o, err)) < 0 || (rc = outbox_fit(o, it, err)) < 0)
		return rc;
	it->replaced = it->keep == KEEP_LATEST ? a->row : 0;
	it->replaced_bytes = it->replaced != 0 ? a->row_bytes : 0;
	if (it->replaced != 0)
		rc = db_run(db, err, on_changed, &changed,
			    "UPDATE outbox SET seq = $1, body = $2, retain = $3, put_us = $4, "
			    "size = $5 WHERE device = $6 AND sink = $7 AND keep = $8 AND seq = $9 "
			    "RETURNING 1",
			    DB_V_INT(it->seq), DB_V_TEXT(it->text), DB_V_INT(it->retain),
			    DB_V_INT(it->put_us), DB_V_INT(it->bytes),
			    OUTBOX_KIND(o, it->q, it->keep), DB_V_INT(it->replaced));
	if (rc == 0 && !changed)
		rc = db_run(db, err, NULL, NULL,
			    "INSERT INTO outbox (device, sink, keep, seq, address, body, retain, "
			    "put_us, size) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			    OUTBOX_KIND(o, it->q, it->keep), DB_V_INT(it->seq), DB_V_TEXT(a->name),
			    DB_V_TEXT(it->text), DB_V_INT(it->retain), DB_V_INT(it->put_us),
			    DB_V_INT(it->bytes));
	if (rc < 0)
		return rc;
	o->disk_items += it->replaced == 0;
	o->disk_bytes += it->bytes - it->replaced_bytes;
	if (it->keep == KEEP_LATEST) {
		a->row = it->seq;
		a->row_bytes = it->bytes;
	}
	if (o->oldest_us == 0 || it->put_us < o->oldest_us)
		o->oldest_us = it->put_us;
	it->saving = true;
	it->next_saving = o->saving;
	o->saving = it;
	store_keep_clock(o->store); /* in the same transaction */
	outbox_flush(o);
	return 0;
}

void outbox_keep_item(struct outbox *o, struct item *it)
{
	struct address *a = it->address;
	struct err err = {0};

	outbox_take(it);
	if (a->waiting == it)
		a->waiting = NULL;
	a->backlog += it->keep == KEEP_ALL;
	if (it->seq <= it->q->cursor[it->keep]) /* it was lost: what is behind it waits for it */
		outbox_read_again(it->q, it->keep);
	int rc = outbox_write(o, it, &err);

	if (rc == 0)
		return;
	if (rc != ERR_AGAIN && log_allowed("outbox.not_saved", o->device))
		log_warn("outbox.not_saved", KV("device", o->device), KV("why", err.text));
	if (rc != ERR_LIMIT) {
		refused(o, it);
		return;
	}
	o->dropped++;
	a->backlog -= it->keep == KEEP_ALL;
	outbox_lose(o, it, rc);
}

void outbox_retry(struct outbox *o)
{
	bool willing = o->unsaved.first != NULL && begin(o, NULL) == 0;

	for (struct item *it = o->unsaved.first, *next; it != NULL; it = next) {
		struct address *a = it->address;
		/* nothing of it is on the disk: it need not go there */
		bool sendable = it->q->up && (it->keep == KEEP_LATEST || a->backlog == a->unsaved);
		bool old = loop_now_ms(o->loop) - it->put_ms >= OUTBOX_GIVE_UP_MS;

		next = it->next;
		if (!sendable && !willing && !old)
			continue;
		outbox_take(it);
		a->unsaved -= it->keep == KEEP_ALL;
		if (!sendable && !willing) {
			give_up(o, it);
			continue;
		}
		a->backlog -= it->keep == KEEP_ALL;
		if (sendable)
			outbox_wait(o, it);
		else
			outbox_keep_item(o, it);
	}
}

/* ---- reading ---- */

struct reading {
	struct outbox *o;
	struct outbox_queue *q;
	enum outbox_keep keep;
	size_t rows;
};

static int on_waiting(void *arg, const struct db_value *v, size_t n)
{
	struct reading *r = arg;
	struct outbox_queue *q = r->q;
	int64_t seq = v[0].num;
	struct address *a = outbox_address(q, v[1].text, true);

	(void)n;
	if (a == NULL)
		return ERR_NOMEM;
	r->rows++;
	q->cursor[r->keep] = seq;
	/* a state that a newer one has overtaken goes when that has arrived */
	if (a->closed || outbox_in_flight(q, r->keep, seq) != NULL ||
	    outbox_is_gone(r->o, q, r->keep, seq) || (r->keep == KEEP_LATEST && seq < a->newest)) {
		outbox_forget_address(a);
		return 0;
	}
	struct item *it = outbox_item_new(r->o, a, v[2].text);

	if (it == NULL) {
		q->cursor[r->keep] = seq - 1;
		outbox_forget_address(a);
		return ERR_NOMEM;
	}
	it->seq = seq;
	it->keep = r->keep;
	it->retain = v[3].num != 0;
	it->put_us = v[4].num;
	it->bytes = v[5].num;
	it->stored = true;
	outbox_append(&q->window[r->keep], it);
	if (r->keep == KEEP_LATEST)
		a->waiting = it;
	return 0;
}

/* Rows of the open transaction are in memory, too, and may be no rows in the end; nothing goes
 * before what is to be one. */
static int64_t first_unsaved(const struct outbox *o, const struct outbox_queue *q,
			     enum outbox_keep keep)
{
	int64_t least = INT64_MAX;

	for (const struct item *it = o->saving; it != NULL; it = it->next_saving)
		if (it->q == q && it->keep == keep && it->seq < least)
			least = it->seq;
	for (const struct item *it = o->unsaved.first; it != NULL; it = it->next)
		if (it->q == q && it->keep == keep && it->seq < least)
			least = it->seq;
	return least;
}

size_t outbox_refill(struct outbox *o, struct outbox_queue *q, enum outbox_keep keep)
{
	struct reading r = {.o = o, .q = q, .keep = keep};
	struct err err = {0};

	if (!q->more[keep] || o->n_gone > OUTBOX_GONE_MAX)
		return 0;
	int rc = db_run(store_db(o->store), &err, on_waiting, &r,
			"SELECT seq, address, body, retain, put_us, size" OUTBOX_OF_KIND
			"AND seq > $4 AND seq < $5 ORDER BY seq LIMIT 64",
			OUTBOX_KIND(o, q, keep), DB_V_INT(q->cursor[keep]),
			DB_V_INT(first_unsaved(o, q, keep)));

	q->more[keep] = r.rows == READ_ROWS;
	q->unread |= rc < 0;
	if (rc < 0 && log_allowed("outbox.not_read", o->device))
		log_error("outbox.not_read", KV("device", o->device), KV("why", err.text));
	return q->window[keep].n;
}

/* ---- at the start ---- */

struct left {
	struct outbox *o;
	struct err *err;
};

static int on_left(void *arg, const struct db_value *v, size_t n)
{
	const struct left *l = arg;
	struct outbox *o = l->o;
	int64_t sink = v[0].num, keep = v[1].num, items = v[3].num, bytes = v[4].num;

	(void)n;
	if (sink < 0 || sink >= OUTBOX_SINKS || keep < KEEP_LATEST || keep > KEEP_ALL)
		return err_set(l->err, ERR_DB, "store: a row of no kind that is known");
	struct outbox_queue *q = &o->q[sink];
	struct address *a = outbox_address(q, v[2].text, true);

	if (a == NULL)
		return err_set(l->err, ERR_NOMEM, "address");
	if (keep == KEEP_ALL) {
		a->backlog = (size_t)items;
	} else {
		a->row = a->newest = v[5].num;
		a->row_bytes = bytes;
	}
	q->more[keep] = true;
	o->disk_items += items;
	o->disk_bytes += bytes;
	o->seq = v[5].num > o->seq ? v[5].num : o->seq;
	if (o->oldest_us == 0 || v[6].num < o->oldest_us)
		o->oldest_us = v[6].num;
	return 0;
}

int outbox_load(struct outbox *o, struct err *err)
{
	struct left l = {.o = o, .err = err};

	/* what this device wrote just now, before a reload, must not be taken back any more */
	store_commit(o->store);
	return db_run(store_db(o->store), err, on_left, &l,
		      "SELECT sink, keep, address, count(*), sum(size), max(seq), "
		      "min(put_us)" OUTBOX_OF_DEVICE "GROUP BY sink, keep, address",
		      DB_V_TEXT(o->device));
}

int outbox_purge(struct store *store, const char *device, struct err *err)
{
	int rc = store_begin(store, err);

	return rc == 0 ? db_run(store_db(store), err, NULL, NULL, "DELETE" OUTBOX_OF_DEVICE,
				DB_V_TEXT(device))
		       : rc;
}
