/* outbox.c - what waits: items, addresses, and what their owner says of them. */
#include "agent/device/outbox_int.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

const char *const outbox_keep_names[] = {"none", "latest", "all", NULL};

const struct field outbox_fields[] = {
	{.name = "quota_bytes",
	 .type = FIELD_INT,
	 .min = 4096,
	 .max = 1099511627776,
	 .def = "67108864",
	 .unit = "bytes",
	 .help = "Room on the disk for what waits; when it is full, the oldest is dropped and "
		 "counted."},
	{.name = "max_age",
	 .type = FIELD_NUMBER,
	 .min = 0.1,
	 .max = 315360000,
	 .def = "604800",
	 .unit = "s",
	 .help = "What has waited on the disk for longer is dropped and counted."},
	{.name = "catch_up_rate",
	 .type = FIELD_NUMBER,
	 .min = 1,
	 .max = 1000000,
	 .def = "500",
	 .unit = "1/s",
	 .help = "By how many items a second the backlog shrinks at most once the broker is back; "
		 "what is new does not wait for it."},
	{.name = "keep",
	 .type = FIELD_ENUM,
	 .names = outbox_keep_names,
	 .def = "\"all\"",
	 .help = "What is kept of points that do not say so themselves. none: nothing; latest: the "
		 "last value; all: all values, in order."},
	{0}};

/* ---- from outside ---- */

static struct item *make_item(struct outbox *o, const struct outbox_item *spec)
{
	struct outbox_queue *q = &o->q[spec->sink];
	struct address *a = outbox_address(q, spec->address, true);

	if (a == NULL)
		return NULL;
	struct item *it = outbox_item_new(o, a, spec->text);

	if (it == NULL) {
		outbox_forget_address(a);
		return NULL;
	}
	it->keep = o->keeping ? spec->keep : KEEP_NONE;
	it->retain = spec->retain;
	it->state = spec->state;
	it->put_us = elapsed_now_us(outbox_clock(o));
	if (outbox_hear(it, spec->done, spec->arg) < 0) {
		outbox_dispose(it);
		return NULL;
	}
	it->seq = ++o->seq;
	return it;
}

/* What is in memory only may not become much. */
static void make_room(struct outbox *o, struct outbox_queue *q)
{
	if (q->live.n - q->n_none < OUTBOX_MEMORY_MAX)
		return;
	for (struct item *it = q->live.first, *next; it != NULL; it = next) {
		next = it->next;
		if (it->keep != KEEP_NONE)
			outbox_keep_item(o, it);
	}
}

int outbox_put(struct outbox *o, const struct outbox_item *spec, struct err *err)
{
	struct item *it = make_item(o, spec);

	if (it == NULL) {
		o->failed++;
		return err_set(err, ERR_NOMEM, "%s: what it says is lost", o->device);
	}
	struct outbox_queue *q = it->q;
	struct address *a = it->address;

	if (outbox_is_state(it)) {
		a->newest = it->seq;
		if (a->waiting != NULL)
			outbox_supersede(o, a->waiting, it);
	}
	if (it->keep == KEEP_NONE ||
	    (q->up && (it->keep == KEEP_LATEST ? a->row == 0 : a->backlog == 0))) {
		outbox_wait(o, it);
		make_room(o, q);
	} else {
		o->arrived += q->up && it->keep == KEEP_ALL;
		outbox_keep_item(o, it);
	}
	outbox_pump(o, q);
	outbox_schedule(o);
	outbox_tell(o);
	return 0;
}

void outbox_read_again(struct outbox_queue *q, enum outbox_keep keep)
{
	while (q->window[keep].first != NULL)
		outbox_dispose(q->window[keep].first);
	q->cursor[keep] = 0;
	q->more[keep] = true;
}

void outbox_open(struct outbox *o, enum outbox_sink sink, const char *address, bool open)
{
	struct outbox_queue *q = &o->q[sink];
	struct address *a = outbox_address(q, address, !open);

	/* without memory to note it, what is sent there is refused, and comes back */
	if (a == NULL || a->closed == !open)
		return;
	a->closed = !open;
	outbox_read_again(q, KEEP_LATEST);
	outbox_read_again(q, KEEP_ALL);
	outbox_forget_address(a);
	outbox_pump(o, q);
	outbox_schedule(o);
	outbox_tell(o);
}

void outbox_drop(struct outbox *o, enum outbox_sink sink, const char *address)
{
	struct outbox_queue *q = &o->q[sink];
	struct address *a = outbox_address(q, address, false);
	struct item_list *const lists[] = {&q->live, &o->unsaved};

	if (a == NULL)
		return;
	a->items++; /* it stays until we are done */
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		for (struct item *it = lists[i]->first, *next; it != NULL; it = next) {
			next = it->next;
			if (it->address != a)
				continue;
			if (it->list == &o->unsaved && it->keep == KEEP_ALL) {
				a->backlog--;
				a->unsaved--;
			}
			outbox_settle(o, it, ERR_NOENT);
			outbox_dispose(it);
		}
	}
	for (struct item *it = q->flight.first; it != NULL; it = it->next)
		if (it->address == a)
			it->unwanted = true;
	outbox_read_again(q, KEEP_LATEST);
	outbox_read_again(q, KEEP_ALL);
	if (a->backlog > 0 || a->row != 0)
		outbox_drop_rows(o, q, a);
	a->items--;
	outbox_forget_address(a);
	outbox_schedule(o);
	outbox_tell(o);
}

/* What is in memory only. */
static size_t count_waiting(const struct item_list *l, int64_t *oldest_us)
{
	size_t n = 0;

	for (const struct item *it = l->first; it != NULL; it = it->next) {
		if (it->stored || it->saving)
			continue;
		n++;
		if (*oldest_us == 0 || it->put_us < *oldest_us)
			*oldest_us = it->put_us;
	}
	return n;
}

void outbox_get_status(const struct outbox *o, struct outbox_status *ret)
{
	*ret = (struct outbox_status){
		.disk_items = (uint64_t)o->disk_items,
		.disk_bytes = (uint64_t)o->disk_bytes,
		.oldest_us = o->disk_items > 0 ? outbox_oldest_row(o) : 0,
		.dropped = o->dropped,
		.expired = o->expired,
		.failed = o->failed,
	};
	ret->waiting = (size_t)o->disk_items + count_waiting(&o->unsaved, &ret->oldest_us);
	for (int i = 0; i < OUTBOX_SINKS; i++)
		ret->waiting += count_waiting(&o->q[i].live, &ret->oldest_us) +
				count_waiting(&o->q[i].flight, &ret->oldest_us);
	if (ret->oldest_us != 0)
		ret->oldest_us = elapsed_wall_us(outbox_clock(o), ret->oldest_us);
}

/* ---- the timer ---- */

#define SOON_MS     5    /* rows wait that may be sent at once */
#define CATCH_UP_MS 50   /* rows wait for their turn */
#define KEEP_MS     250  /* something in memory may have to go to the disk */
#define EXPIRE_MS   1000 /* rows become old */

static int64_t next_ms(const struct outbox *o)
{
	int64_t next = o->disk_items > 0 ? EXPIRE_MS : -1;

	if (o->unsaved.n > 0 || o->n_gone > o->n_deleted)
		next = KEEP_MS;
	for (int i = 0; i < OUTBOX_SINKS; i++) {
		const struct outbox_queue *q = &o->q[i];

		if (o->keeping && (next < 0 || next > KEEP_MS) &&
		    (q->flight.n > 0 || q->live.n > q->n_none))
			next = KEEP_MS;
		if (outbox_catches_up(q) && (next < 0 || next > CATCH_UP_MS))
			next = CATCH_UP_MS;
		if ((q->lost || q->unread) && (next < 0 || next > KEEP_MS))
			next = KEEP_MS;
		if (q->up && !q->stalled && o->saving == NULL &&
		    (q->window[KEEP_LATEST].n > 0 || q->more[KEEP_LATEST]))
			next = SOON_MS;
	}
	return next;
}

void outbox_schedule(struct outbox *o)
{
	int64_t next = next_ms(o), due = loop_now_ms(o->loop) + next;

	if (next < 0 || (o->due_ms >= 0 && o->due_ms <= due))
		return;
	o->due_ms = due;
	loop_arm(o->loop, o->timer, next);
}

/* ---- new, free ---- */

int outbox_new(struct loop *l, struct store *store, struct pieces *pieces, const char *device,
	       const json_t *conf, const struct outbox_ops *ops, void *arg, struct outbox **ret,
	       struct err *err)
{
	struct outbox *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return err_set(err, ERR_NOMEM, "%s: outbox", device);
	*o = (struct outbox){
		.loop = l,
		.store = store,
		.due_ms = -1,
		.device = strdup(device),
		.ops = ops,
		.arg = arg,
		.keeping = store != NULL && conf != NULL,
		/* what an earlier process left is sent, even if nothing new is kept */
		.quota_bytes = INT64_MAX,
		.max_age_us = INT64_MAX,
		.rate = 500,
	};
	if (o->keeping) {
		o->quota_bytes = json_integer_value(json_object_get(conf, "quota_bytes"));
		o->max_age_us =
			(int64_t)(json_number_value(json_object_get(conf, "max_age")) * 1e6);
		o->rate = json_number_value(json_object_get(conf, "catch_up_rate"));
	}
	for (int i = 0; i < OUTBOX_SINKS; i++) {
		o->q[i].sink = (enum outbox_sink)i;
		o->q[i].pieces = pieces;
	}
	int rc = o->device != NULL ? loop_add_timer(l, -1, 0, outbox_tick, o, &o->timer, err)
				   : err_set(err, ERR_NOMEM, "%s: outbox", device);

	if (rc == 0 && store != NULL && (rc = outbox_load(o, err)) < 0)
		err_wrap(err, rc, "%s: what waits to be sent", device);
	if (rc < 0) {
		outbox_free(o);
		return rc;
	}
	outbox_schedule(o);
	*ret = o;
	return 0;
}

/* What is in memory and is to be kept. */
static void save_all(struct outbox *o)
{
	struct err err = {0};

	for (int i = 0; i < OUTBOX_SINKS * 3; i++) {
		struct outbox_queue *q = &o->q[i / 3];
		struct item_list *const lists[] = {&o->unsaved, &q->flight, &q->live};

		for (struct item *it = lists[i % 3]->first; it != NULL; it = it->next) {
			bool old = outbox_is_state(it) && it->seq < it->address->newest;

			if (it->unwanted)
				outbox_delete(o, it);
			else if (it->q == q && it->keep != KEEP_NONE && !it->stored &&
				 !it->saving && !old && outbox_write(o, it, &err) < 0)
				o->failed++;
		}
	}
	outbox_flush(o);
	if (err.code != 0 && log_allowed("outbox.not_saved", o->device))
		log_error("outbox.not_saved", KV("device", o->device), KV("why", err.text));
}

static void items_free(struct item_list *l)
{
	while (l->first != NULL) {
		struct item *it = l->first;

		outbox_take(it);
		outbox_hearers_free(&it->hearers);
		if (!it->saving)
			outbox_item_free(it);
	}
}

struct outbox *outbox_free(struct outbox *o)
{
	if (o == NULL)
		return NULL;
	if (o->store != NULL)
		store_forget(o->store, o);
	o->listening = false;
	if (o->keeping)
		save_all(o);
	if (o->store != NULL)
		store_forget(o->store, o);
	items_free(&o->unsaved);
	for (int i = 0; i < OUTBOX_SINKS; i++) {
		struct outbox_queue *q = &o->q[i];

		items_free(&q->live);
		items_free(&q->flight);
		items_free(&q->window[KEEP_LATEST]);
		items_free(&q->window[KEEP_ALL]);
		map_free(q->addresses, outbox_address_free);
	}
	for (struct item *it = o->saving, *next; it != NULL; it = next) {
		next = it->next_saving;
		outbox_hearers_free(&it->hearers);
		outbox_item_free(it);
	}
	outbox_hearers_free(&o->ended);
	loop_remove(o->loop, o->timer);
	free(o->gone);
	free(o->device);
	free(o);
	return NULL;
}
