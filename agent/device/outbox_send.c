/* outbox_send.c - what waits goes out, and is answered: what is new first, then the latest of what
 * was kept, then the backlog, as fast as it may. */
#include "agent/device/outbox_int.h"
#include "common/log.h"
#include "common/util.h"

#define LATEST_AT_ONCE 256 /* rows of KEEP_LATEST in one turn of the loop */
#define BACKLOG_FLIGHT 512 /* unanswered; more would stand before what is new */
#define BURST_MS       100 /* credit that is saved up at most */

/* ---- sending ---- */

/* 0: it has arrived; negative: it never can. */
static void answered(struct outbox *o, struct item *it, int rc)
{
	if (rc < 0) {
		o->dropped++;
		if (log_allowed("outbox.refused", it->address->name))
			log_warn("outbox.refused", KV("device", o->device),
				 KV("address", it->address->name), KV("why", rc));
	}
	outbox_delete(o, it);
	outbox_settle(o, it, rc);
	outbox_dispose(it);
}

/* ret: whether the next may be tried */
static bool send_item(struct outbox *o, struct item *it)
{
	struct outbox_queue *q = it->q;
	struct address *a = it->address;
	struct item_list *from = it->list;
	bool was_waiting = a->waiting == it;

	if (q->flight.n >= OUTBOX_FLIGHT_MAX) {
		q->stalled = true; /* until one is answered */
		return false;
	}
	outbox_take(it);
	outbox_append(&q->flight, it);
	if (was_waiting)
		a->waiting = NULL;
	it->token = ++o->token;
	int rc = o->ops->send(o->arg, q->sink, it->token, a->name, it->text, it->retain);

	if (rc == 0)
		return true;
	if (rc != ERR_AGAIN) {
		answered(o, it, rc);
		return true;
	}
	outbox_take(it);
	if (from == &q->live)
		outbox_wait(o, it);
	else
		outbox_insert(from, it);
	if (was_waiting)
		a->waiting = it;
	q->stalled = true;
	return false;
}

static bool send_live(struct outbox *o, struct outbox_queue *q)
{
	for (struct item *it = q->live.first, *next; it != NULL; it = next) {
		next = it->next;
		if (it->address->closed ||
		    (it->keep == KEEP_LATEST && it->address->leaving > 0 && !o->failing))
			continue;
		if (it->keep == KEEP_ALL && it->address->backlog > 0)
			outbox_keep_item(o, it); /* behind it */
		else if (!send_item(o, it))
			return false;
	}
	return true;
}

static bool send_latest(struct outbox *o, struct outbox_queue *q)
{
	struct item_list *w = &q->window[KEEP_LATEST];

	for (size_t n = 0; n < LATEST_AT_ONCE; n++) {
		if (w->first == NULL && outbox_refill(o, q, KEEP_LATEST) == 0)
			return true;
		if (!send_item(o, w->first))
			return false;
	}
	return true;
}

static void send_backlog(struct outbox *o, struct outbox_queue *q)
{
	struct item_list *w = &q->window[KEEP_ALL];

	while (o->credit + o->arrived >= 1 && q->flight.n < BACKLOG_FLIGHT) {
		if (w->first == NULL && outbox_refill(o, q, KEEP_ALL) == 0)
			return;
		struct item *it = w->first;
		struct address *a = it->address;

		a->backlog--;
		if (!send_item(o, it)) {
			a->backlog++;
			return;
		}
		if (o->arrived > 0)
			o->arrived--;
		else
			o->credit -= 1;
	}
}

/* As much as has come due since the last time. */
static void give_credit(struct outbox *o)
{
	int64_t now = loop_now_ms(o->loop);
	double most = o->rate * BURST_MS / 1000;

	if (most < 1)
		most = 1;
	o->credit += o->rate * (double)(now - o->credit_ms) / 1000;
	if (o->credit > most)
		o->credit = most;
	o->credit_ms = now;
	o->arrived = 0;
}

void outbox_pump(struct outbox *o, struct outbox_queue *q)
{
	if (!q->up || q->stalled)
		return;
	if (send_live(o, q) && send_latest(o, q))
		send_backlog(o, q);
}

bool outbox_catches_up(const struct outbox_queue *q)
{
	return q->up && !q->stalled && (q->window[KEEP_ALL].n > 0 || q->more[KEEP_ALL]);
}

/* ---- answers ---- */

/* The newest of its address that has not been answered. */
static struct item *newer_of(const struct item *it)
{
	if (it->address->waiting != NULL)
		return it->address->waiting;
	for (struct item *f = it->q->flight.last; f != NULL; f = f->prev)
		if (f->address == it->address && f->seq > it->seq && outbox_is_state(f))
			return f;
	return NULL;
}

void outbox_superseded(struct outbox *o, struct item *it)
{
	struct item *by = newer_of(it);

	if (by != NULL && !by->stored) {
		outbox_supersede(o, it, by);
		return;
	}
	outbox_settle(o, it, 0); /* the newer one has arrived, or is on the disk */
	outbox_drop_old(it);
}

/* Its row is read again. */
static void leave_on_disk(struct item *it)
{
	struct outbox_queue *q = it->q;

	outbox_read_again(q, it->keep);
	it->address->backlog += it->keep == KEEP_ALL;
	if (it->stored)
		outbox_dispose(it);
	else
		outbox_take(it); /* the end of the transaction does the rest */
}

/* It was sent, and is as if it had not been. */
static void take_back(struct outbox *o, struct item *it)
{
	struct outbox_queue *q = it->q;

	if (it->unwanted) {
		outbox_delete(o, it);
		outbox_settle(o, it, ERR_NOENT);
		outbox_dispose(it);
	} else if (outbox_is_state(it) && it->seq < it->address->newest) {
		outbox_superseded(o, it);
	} else if (it->stored || it->saving) {
		leave_on_disk(it);
	} else {
		outbox_take(it);
		if (it->keep == KEEP_NONE ||
		    (q->up && (it->keep == KEEP_LATEST || it->address->backlog == 0)))
			outbox_wait(o, it);
		else
			outbox_keep_item(o, it);
	}
}

static struct item *find_token(const struct outbox *o, uint64_t token)
{
	for (int i = 0; i < OUTBOX_SINKS; i++)
		for (struct item *it = o->q[i].flight.first; it != NULL; it = it->next)
			if (it->token == token)
				return it;
	return NULL;
}

void outbox_sent(struct outbox *o, uint64_t token, int rc)
{
	struct item *it = find_token(o, token);

	if (it == NULL) /* taken back meanwhile */
		return;
	struct outbox_queue *q = it->q;

	if (rc == ERR_AGAIN) {
		/* others that went with it come back as well, one after the other: none is sent
		 * before they have */
		take_back(o, it);
		q->stalled = q->lost = true;
	} else {
		answered(o, it, rc);
		q->stalled = q->lost;
		outbox_pump(o, q);
	}
	outbox_schedule(o);
	outbox_tell(o);
}

void outbox_ready(struct outbox *o, enum outbox_sink sink)
{
	o->q[sink].stalled = o->q[sink].lost = false;
	outbox_pump(o, &o->q[sink]);
	outbox_schedule(o);
	outbox_tell(o);
}

void outbox_up(struct outbox *o, enum outbox_sink sink, bool up)
{
	struct outbox_queue *q = &o->q[sink];

	q->stalled = q->lost = false;
	if (!up) {
		q->up = false;
		/* the newest first: what is older sees whether there is something newer */
		while (q->flight.last != NULL)
			take_back(o, q->flight.last);
		for (struct item *it = q->live.first, *next; it != NULL; it = next) {
			next = it->next;
			if (it->keep != KEEP_NONE)
				outbox_keep_item(o, it);
		}
		outbox_read_again(q, KEEP_LATEST);
		outbox_read_again(q, KEEP_ALL);
	} else {
		q->up = true;
		give_credit(o);
		outbox_pump(o, q);
	}
	outbox_schedule(o);
	outbox_tell(o);
}

/* ---- the timer ---- */

static void try_again(struct outbox_queue *q)
{
	if (q->lost)
		q->lost = q->stalled = false;
	if (q->unread)
		q->more[KEEP_LATEST] = q->more[KEEP_ALL] = true;
	q->unread = false;
}

/* An item in flight goes to the disk, and stays until it is answered. In place of an old state the
 * newest of its address goes, whatever has come of that. */
static int keep_sent(struct outbox *o, struct item *it, struct err *err)
{
	struct item *newest = it;

	if (outbox_is_state(it) && it->seq < it->address->newest) {
		newest = newer_of(it);
		if (newest == NULL || newest->stored) /* it has arrived, or is on the disk */
			outbox_settle(o, it, 0);
		else
			outbox_pass_hearers(o, it, newest);
	}
	if (newest == NULL || newest->stored || newest->saving)
		return 0;
	if (newest->list == &it->q->flight)
		return outbox_write(o, newest, err);
	if (newest->list == &it->q->live)
		outbox_keep_item(o, newest);
	return 0;
}

/* What has been in memory for long goes to the disk. */
static void keep_old(struct outbox *o, struct outbox_queue *q)
{
	int64_t limit = loop_now_ms(o->loop) - OUTBOX_UNANSWERED_MS;
	struct err err = {0};
	int rc = 0;

	for (struct item *it = q->flight.first; it != NULL && rc == 0; it = it->next)
		if (it->keep != KEEP_NONE && !it->stored && !it->saving && it->put_ms <= limit)
			rc = keep_sent(o, it, &err);
	if (rc < 0 && rc != ERR_AGAIN && log_allowed("outbox.not_saved", o->device))
		log_warn("outbox.not_saved", KV("device", o->device), KV("why", err.text));
	for (struct item *it = q->live.first, *next; it != NULL; it = next) {
		next = it->next;
		if (it->keep != KEEP_NONE &&
		    (it->put_ms <= limit || (it->keep == KEEP_ALL && it->address->backlog > 0)))
			outbox_keep_item(o, it);
	}
}

void outbox_tick(void *arg)
{
	struct outbox *o = arg;

	o->due_ms = -1;
	for (int i = 0; i < OUTBOX_SINKS; i++)
		try_again(&o->q[i]);
	outbox_retry(o);
	if (o->keeping)
		for (int i = 0; i < OUTBOX_SINKS; i++)
			keep_old(o, &o->q[i]);
	if (o->store != NULL) {
		outbox_expire(o);
		outbox_flush(o);
	}
	give_credit(o);
	for (int i = 0; i < OUTBOX_SINKS; i++)
		outbox_pump(o, &o->q[i]);
	outbox_schedule(o);
	outbox_tell(o);
}
