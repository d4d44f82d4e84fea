/* outbox_limit.c - rows that go unsent: over the quota, too old, wanted by nobody. */
#include "agent/device/outbox_int.h"
#include "common/log.h"
#include "common/util.h"

#define SEEN_ROWS   16
#define EXPIRE_ROWS 128 /* at a time */

/* ---- the oldest rows ---- */

struct row {
	int64_t seq, bytes, put_us;
	struct address *address; /* NULL: unknown */
};

/* Rows of a kind, the oldest first, some at a time. */
struct rows {
	struct outbox_queue *q;
	enum outbox_keep keep;
	const char *of; /* the name of their address; NULL: all */
	int64_t after;  /* seq */
	bool last;      /* there are no more in the store */
	size_t n, at;
	struct row row[SEEN_ROWS];
};

#define ROWS "SELECT seq, size, put_us, address" OUTBOX_OF_KIND

static int on_row(void *arg, const struct db_value *v, size_t n)
{
	struct rows *r = arg;

	(void)n;
	r->row[r->n++] = (struct row){.seq = v[0].num,
				      .bytes = v[1].num,
				      .put_us = v[2].num,
				      .address = outbox_address(r->q, v[3].text, false)};
	return 0;
}

/* Until the end of a transaction that was rolled back is told, rows show that it has replaced. */
static bool can_go(const struct outbox *o, const struct outbox_queue *q, enum outbox_keep keep,
		   const struct row *row)
{
	bool replaced =
		keep == KEEP_LATEST && row->address != NULL && row->address->row != row->seq;

	return !replaced && outbox_in_flight(q, keep, row->seq) == NULL &&
	       !outbox_is_gone(o, q, keep, row->seq);
}

static int look(struct outbox *o, struct rows *r, struct err *err)
{
	struct db *db = store_db(o->store);

	r->n = r->at = 0;
	int rc = r->of == NULL
			 ? db_run(db, err, on_row, r, ROWS "AND seq > $4 ORDER BY seq LIMIT $5",
				  OUTBOX_KIND(o, r->q, r->keep), DB_V_INT(r->after),
				  DB_V_INT(SEEN_ROWS))
			 : db_run(db, err, on_row, r,
				  ROWS "AND seq > $4 AND address = $5 ORDER BY seq LIMIT $6",
				  OUTBOX_KIND(o, r->q, r->keep), DB_V_INT(r->after),
				  DB_V_TEXT(r->of), DB_V_INT(SEEN_ROWS));
	r->last = r->n < SEEN_ROWS;
	return rc;
}

/* The next one that is not under way. ret: 1, 0: there is none, negative */
static int next_row(struct outbox *o, struct rows *r, struct row *ret, struct err *err)
{
	for (;;) {
		while (r->at < r->n) {
			*ret = r->row[r->at++];
			r->after = ret->seq;
			if (can_go(o, r->q, r->keep, ret))
				return 1;
		}
		int rc = r->last ? 0 : look(o, r, err);

		if (rc < 0 || r->n == r->at)
			return rc < 0 ? rc : 0;
	}
}

static int oldest(struct outbox *o, struct outbox_queue *q, enum outbox_keep keep, struct row *ret,
		  struct err *err)
{
	struct rows r = {.q = q, .keep = keep};

	return next_row(o, &r, ret, err);
}

/* A row goes unsent. rc: what those who may still wait for its commit hear. */
static void lose_row(struct outbox *o, struct outbox_queue *q, enum outbox_keep keep,
		     const struct row *row, int rc)
{
	struct address *a = row->address;
	struct item *it = q->window[keep].first;

	if (a != NULL)
		a->items++; /* it stays until we are done */
	while (it != NULL && it->seq != row->seq)
		it = it->next;
	for (struct item *s = o->saving; it == NULL && s != NULL; s = s->next_saving)
		if (!s->over && s->q == q && s->keep == keep && s->seq == row->seq)
			it = s;
	outbox_delete_row(o, q, keep, row->seq, row->bytes, a);
	if (it != NULL) {
		outbox_settle(o, it, rc);
		outbox_dispose(it);
	}
	if (a == NULL)
		return;
	if (keep == KEEP_ALL)
		a->backlog--;
	else if (a->row == row->seq)
		a->row = 0;
	a->items--;
	outbox_forget_address(a);
}

/* The oldest row of all goes: one of KEEP_ALL first. ret: 1, 0: there is none, negative */
static int lose_oldest(struct outbox *o, struct err *err)
{
	for (int keep = KEEP_ALL; keep >= KEEP_LATEST; keep--) {
		struct outbox_queue *q = NULL;
		struct row victim = {0};

		for (int i = 0; i < OUTBOX_SINKS; i++) {
			struct row row;
			int rc = oldest(o, &o->q[i], (enum outbox_keep)keep, &row, err);

			if (rc < 0)
				return rc;
			if (rc == 0 || (q != NULL && victim.seq < row.seq))
				continue;
			q = &o->q[i];
			victim = row;
		}
		if (q == NULL)
			continue;
		lose_row(o, q, (enum outbox_keep)keep, &victim, ERR_LIMIT);
		o->dropped++;
		return 1;
	}
	return 0;
}

int64_t outbox_oldest_row(const struct outbox *o)
{
	int64_t least = 0;

	for (int i = 0; i < OUTBOX_SINKS * 2; i++) {
		struct rows r = {.q = (struct outbox_queue *)&o->q[i / 2]};

		/* a status without it is better than none */
		if (db_run(store_db(o->store), NULL, on_row, &r, ROWS "ORDER BY seq LIMIT 1",
			   OUTBOX_KIND(o, r.q, i % 2 == 0 ? KEEP_LATEST : KEEP_ALL)) == 0 &&
		    r.n > 0 && (least == 0 || r.row[0].put_us < least))
			least = r.row[0].put_us;
	}
	return least;
}

void outbox_expire(struct outbox *o)
{
	int64_t limit = elapsed_now_us(outbox_clock(o)) - o->max_age_us;
	struct err err = {0};
	struct row row;
	int rc = 0;

	if (o->disk_items > 0)
		store_keep_clock(o->store);
	if (o->max_age_us == INT64_MAX || o->oldest_us == 0 || o->oldest_us >= limit)
		return;
	for (int i = 0; i < OUTBOX_SINKS * 2; i++) {
		struct outbox_queue *q = &o->q[i / 2];
		enum outbox_keep keep = i % 2 == 0 ? KEEP_LATEST : KEEP_ALL;

		for (int n = 0; n < EXPIRE_ROWS; n++) {
			rc = oldest(o, q, keep, &row, &err);
			if (rc <= 0 || row.put_us >= limit)
				break;
			lose_row(o, q, keep, &row, ERR_TIMEOUT);
			o->expired++;
			outbox_flush(o);
		}
	}
	o->oldest_us = o->disk_items > 0 ? outbox_oldest_row(o) : 0;
	if (log_allowed("outbox.expired", o->device))
		log_warn("outbox.expired", KV("device", o->device), KV("total", o->expired));
}

void outbox_drop_rows(struct outbox *o, struct outbox_queue *q, struct address *a)
{
	struct row latest = {.seq = a->row, .bytes = a->row_bytes, .address = a}, kept;
	struct rows all = {.q = q, .keep = KEEP_ALL, .of = a->name};
	struct err err = {0};
	int rc;

	while ((rc = next_row(o, &all, &kept, &err)) > 0)
		lose_row(o, q, KEEP_ALL, &kept, ERR_NOENT);
	/* rows of a transaction that was rolled back do not show */
	for (struct item *it = o->saving; it != NULL; it = it->next_saving) {
		struct row row = {.seq = it->seq, .bytes = it->bytes, .address = a};

		if (it->address == a && it->keep == KEEP_ALL && !it->over &&
		    can_go(o, q, KEEP_ALL, &row))
			lose_row(o, q, KEEP_ALL, &row, ERR_NOENT);
	}
	if (a->row != 0 && can_go(o, q, KEEP_LATEST, &latest))
		lose_row(o, q, KEEP_LATEST, &latest, ERR_NOENT);
	outbox_flush(o);
	if (rc < 0 && log_allowed("outbox.not_deleted", o->device))
		log_warn("outbox.not_deleted", KV("device", o->device), KV("why", err.text));
}

/* ---- the quota ---- */

int outbox_fit(struct outbox *o, const struct item *it, struct err *err)
{
	const struct address *a = it->address;

	for (;;) {
		int64_t freed = it->keep == KEEP_LATEST && a->row != 0 ? a->row_bytes : 0;

		if (o->disk_bytes - freed + it->bytes <= o->quota_bytes)
			return 0;
		int rc = lose_oldest(o, err);

		if (rc <= 0)
			return rc < 0 ? rc : err_set(err, ERR_LIMIT, "it is larger than its quota");
		outbox_flush(o);
		if (log_allowed("outbox.dropped", o->device))
			log_warn("outbox.dropped", KV("device", o->device), KV("total", o->dropped),
				 KV("why", "what waits fills its quota"));
	}
}
