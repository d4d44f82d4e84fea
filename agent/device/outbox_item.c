/* outbox_item.c - items, their lists and addresses, and who wants to hear of them. */
#include "agent/device/outbox_int.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

#define ADDRESSES_FEW 4
#define HEARERS_MAX   64 /* of one item: of superseded ones, too */

const struct elapsed *outbox_clock(const struct outbox *o)
{
	static const struct elapsed own;

	return o->store != NULL ? store_clock(o->store) : &own;
}

/* ---- lists ---- */

static void put_before(struct item_list *l, struct item *it, struct item *next)
{
	it->list = l;
	it->next = next;
	it->prev = next != NULL ? next->prev : l->last;
	*(it->prev != NULL ? &it->prev->next : &l->first) = it;
	*(next != NULL ? &next->prev : &l->last) = it;
	l->n++;
}

void outbox_append(struct item_list *l, struct item *it)
{
	put_before(l, it, NULL);
}

/* What comes back is older than most. */
void outbox_insert(struct item_list *l, struct item *it)
{
	struct item *next = l->first;

	while (next != NULL && next->seq < it->seq)
		next = next->next;
	put_before(l, it, next);
}

void outbox_take(struct item *it)
{
	struct item_list *l = it->list;

	if (l == NULL)
		return;
	if (l == &it->q->live && it->keep == KEEP_NONE) {
		it->q->n_none--;
		it->q->none_bytes -= strlen(it->text);
	}
	*(it->prev != NULL ? &it->prev->next : &l->first) = it->next;
	*(it->next != NULL ? &it->next->prev : &l->last) = it->prev;
	l->n--;
	it->list = NULL;
	it->prev = it->next = NULL;
}

/* ---- addresses ---- */

struct address *outbox_address(struct outbox_queue *q, const char *name, bool make)
{
	struct address *a = q->addresses != NULL ? map_find(q->addresses, name) : NULL;
	size_t len = strlen(name) + 1;

	if (a != NULL || !make)
		return a;
	if (q->addresses == NULL && (q->addresses = map_new()) == NULL)
		return NULL;
	a = pieces_take(q->pieces, sizeof(*a) + len);
	if (a == NULL)
		return NULL;
	*a = (struct address){.q = q};
	memcpy(a->name, name, len);
	if (map_add(q->addresses, a->name, a) < 0) {
		outbox_address_free(a);
		return NULL;
	}
	if (map_count(q->addresses) > q->most_addresses)
		q->most_addresses = map_count(q->addresses);
	return a;
}

void outbox_address_free(void *address)
{
	struct address *a = address;

	pieces_give(a->q->pieces, a, sizeof(*a) + strlen(a->name) + 1);
}

void outbox_forget_address(struct address *a)
{
	if (a->closed || a->items > 0 || a->backlog > 0 || a->row != 0 || a->leaving > 0)
		return;
	struct outbox_queue *q = a->q;

	map_remove(q->addresses, a->name);
	outbox_address_free(a);
	/* a map keeps memory for what it had: after a burst, in many devices, that is a lot */
	if (map_count(q->addresses) == 0 && q->most_addresses > ADDRESSES_FEW) {
		q->addresses = map_free(q->addresses, NULL);
		q->most_addresses = 0;
	}
}

/* ---- items ---- */

bool outbox_is_state(const struct item *it)
{
	return it->keep == KEEP_LATEST || (it->keep == KEEP_NONE && it->state);
}

void outbox_item_free(struct item *it)
{
	pieces_give(it->q->pieces, it, sizeof(*it) + strlen(it->text) + 1);
}

struct item *outbox_item_new(struct outbox *o, struct address *a, const char *text)
{
	size_t len = strlen(text) + 1;
	struct item *it = pieces_take(a->q->pieces, sizeof(*it) + len);

	if (it == NULL)
		return NULL;
	*it = (struct item){.address = a, .q = a->q, .put_ms = loop_now_ms(o->loop)};
	memcpy(it->text, text, len);
	a->items++;
	return it;
}

void outbox_dispose(struct item *it)
{
	struct address *a = it->address;

	outbox_take(it);
	if (a->waiting == it)
		a->waiting = NULL;
	it->over = it->saving;
	if (it->over)
		return;
	a->items--;
	outbox_forget_address(a);
	outbox_item_free(it);
}

static void hearers_append(struct hearers *l, struct hearer *h)
{
	h->next = NULL;
	*(l->last != NULL ? &l->last->next : &l->first) = h;
	l->last = h;
	l->n++;
}

static struct hearer *hearers_pop(struct hearers *l)
{
	struct hearer *h = l->first;

	if (h == NULL)
		return NULL;
	l->first = h->next;
	if (l->first == NULL)
		l->last = NULL;
	l->n--;
	return h;
}

int outbox_hear(struct item *it, void (*done)(void *arg, int rc), void *arg)
{
	struct hearer *h = done != NULL ? malloc(sizeof(*h)) : NULL;

	if (h == NULL)
		return done != NULL ? ERR_NOMEM : 0;
	*h = (struct hearer){.done = done, .arg = arg};
	hearers_append(&it->hearers, h);
	return 0;
}

void outbox_settle(struct outbox *o, struct item *it, int rc)
{
	struct hearer *h;

	while ((h = hearers_pop(&it->hearers)) != NULL) {
		h->rc = rc;
		hearers_append(&o->ended, h);
	}
}

/* What the newer one says is what the older would have said: its hearers wait for the newer, unless
 * they become too many. */
void outbox_pass_hearers(struct outbox *o, struct item *from, struct item *to)
{
	struct hearers own = to->hearers;
	struct hearer *h;

	to->hearers = from->hearers;
	from->hearers = (struct hearers){0};
	while ((h = hearers_pop(&own)) != NULL)
		hearers_append(&to->hearers, h);
	while (to->hearers.n > HEARERS_MAX) {
		h = hearers_pop(&to->hearers);
		h->rc = ERR_LIMIT;
		hearers_append(&o->ended, h);
	}
}

/* A row of the open transaction is its address's as long as that may be rolled back. */
void outbox_drop_old(struct item *it)
{
	if (it->saving)
		outbox_take(it);
	else
		outbox_dispose(it);
}

void outbox_supersede(struct outbox *o, struct item *old, struct item *by)
{
	outbox_pass_hearers(o, old, by);
	outbox_drop_old(old);
}

/* Those who hear may put more, and so tell in our place. */
void outbox_tell(struct outbox *o)
{
	struct hearer *h;

	while ((h = hearers_pop(&o->ended)) != NULL) {
		h->done(h->arg, h->rc);
		free(h);
	}
}

void outbox_hearers_free(struct hearers *l)
{
	struct hearer *h;

	while ((h = hearers_pop(l)) != NULL)
		free(h);
}

void outbox_lose(struct outbox *o, struct item *it, int rc)
{
	struct address *a = it->address;
	struct outbox_queue *q = it->q;

	if (outbox_is_state(it) && a->newest == it->seq && a->row != 0) {
		a->newest = a->row;
		outbox_read_again(q, KEEP_LATEST);
	}
	outbox_settle(o, it, rc);
	outbox_dispose(it);
}

/* ---- waiting in memory ---- */

static void complain_dropped(struct outbox *o)
{
	if (log_allowed("outbox.dropped", o->device))
		log_warn("outbox.dropped", KV("device", o->device), KV("total", o->dropped),
			 KV("why", "too much waits in memory"));
}

/* An act that nobody will hear of is less of a loss than a state that nobody knows. */
static void drop_oldest(struct outbox *o, struct outbox_queue *q)
{
	struct item *victim = NULL;

	for (struct item *it = q->live.first; it != NULL; it = it->next) {
		if (it->keep != KEEP_NONE)
			continue;
		if (victim == NULL || !it->state)
			victim = it;
		if (!it->state)
			break;
	}
	if (victim == NULL)
		return;
	o->dropped++;
	complain_dropped(o);
	outbox_lose(o, victim, ERR_LIMIT);
}

void outbox_wait(struct outbox *o, struct item *it)
{
	struct outbox_queue *q = it->q;

	if (q->live.last == NULL || q->live.last->seq < it->seq)
		outbox_append(&q->live, it);
	else
		outbox_insert(&q->live, it);
	if (outbox_is_state(it))
		it->address->waiting = it;
	if (it->keep != KEEP_NONE)
		return;
	q->n_none++;
	q->none_bytes += strlen(it->text);
	while (q->n_none > OUTBOX_MEMORY_MAX ||
	       (q->none_bytes > OUTBOX_MEMORY_BYTES && q->n_none > 1))
		drop_oldest(o, q);
}
