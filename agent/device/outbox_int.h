/* outbox_int.h - what the files of the outbox share.
 *
 * An item is numbered when it is put, and keeps its number on disk. It waits in `live`, is sent and
 * stands in `flight` until it is answered, and is over. What goes to the disk meanwhile is a row of
 * the same number; once the row is committed the item leaves memory, unless it is in flight. Rows
 * come back through a `window` of a few items.
 *
 * The order of an address: its KEEP_ALL items that wait on disk or on the way there are its
 * backlog; while it has one, whatever is new goes behind it. Of KEEP_LATEST items, and of states
 * that are not kept, only the newest matters: an older one that has not been sent is superseded.
 * While there is a row of a state a newer one takes its place there, and is sent from there: else
 * the older would come back after a crash, and stand.
 */
#pragma once

#include "agent/device/outbox.h"
#include "common/map.h"

#define OUTBOX_MEMORY_MAX    4096     /* items of a sink that are in memory only and wait */
#define OUTBOX_MEMORY_BYTES  16777216 /* of their texts */
#define OUTBOX_FLIGHT_MAX    4096     /* items of a sink that are sent and not answered */
#define OUTBOX_UNANSWERED_MS 1000     /* then it is written to the disk */
#define OUTBOX_GIVE_UP_MS    2000     /* an item that the disk refuses is kept so long */
#define OUTBOX_GONE_MAX      4096     /* rows to be deleted; more: nothing is read */

struct item;

struct item_list {
	struct item *first, *last;
	size_t n;
};

/* Somebody who wants to hear what comes of an item. */
struct hearer {
	void (*done)(void *arg, int rc);
	void *arg;
	int rc; /* once it is known */
	struct hearer *next;
};

struct hearers {
	struct hearer *first, *last;
	size_t n;
};

/* There as long as anything of it is to be remembered. */
struct address {
	struct outbox_queue *q;
	bool closed;
	size_t items;           /* in memory that name it */
	size_t backlog;         /* KEEP_ALL items on disk or on the way there, not in flight */
	size_t unsaved;         /* of them, those the disk has refused so far */
	struct item *waiting;   /* the one that a newer state takes the place of; NULL: none */
	int64_t newest;         /* number of the newest state */
	int64_t row, row_bytes; /* the row of KEEP_LATEST; 0: none */
	size_t leaving; /* rows of KEEP_LATEST that are over and may come back after a crash */
	char name[];
};

struct item {
	struct item *prev, *next;
	struct item_list *list;   /* NULL: in none */
	struct item *next_saving; /* in the open transaction, the one before it */
	struct address *address;
	struct outbox_queue *q;
	uint64_t token;
	int64_t seq;
	int64_t put_us, put_ms;           /* by the store's clock, by the loop's */
	int64_t bytes;                    /* of its row */
	int64_t replaced, replaced_bytes; /* the row that it took the place of; 0: none */
	enum outbox_keep keep;
	bool retain, state;
	bool stored;   /* its row is on the disk */
	bool saving;   /* its row is in the open transaction */
	bool over;     /* it is only there because its row is in the open transaction */
	bool unwanted; /* not to be sent again */
	struct hearers hearers;
	char text[];
};

/* A row that is over and not deleted yet, for good: a transaction may fail. */
struct gone {
	int64_t seq;
	uint8_t sink, keep;
	struct address *address; /* of KEEP_LATEST, for whom it is `leaving`; NULL: none */
};

/* Of one sink. */
struct outbox_queue {
	enum outbox_sink sink;
	struct pieces *pieces; /* for items and addresses; NULL: none */
	bool up;
	bool stalled;          /* it takes nothing now */
	bool lost;             /* it has lost some: asked again after a while */
	bool unread;           /* rows could not be read: tried again after a while */
	struct map *addresses; /* NULL: none */
	size_t most_addresses; /* that it had at a time */
	struct item_list live, flight;
	size_t n_none, none_bytes;             /* KEEP_NONE in live */
	struct item_list window[KEEP_ALL + 1]; /* rows that were read and wait, by policy */
	int64_t cursor[KEEP_ALL + 1];          /* number of the last row that was read */
	bool more[KEEP_ALL + 1];               /* there may be rows behind it */
};

struct outbox {
	struct loop *loop;
	struct store *store; /* NULL: none */
	struct loop_src *timer;
	int64_t due_ms; /* of the timer; -1: not armed */
	char *device;
	const struct outbox_ops *ops;
	void *arg;
	bool keeping; /* it may put things on the disk */
	int64_t quota_bytes, max_age_us;
	double rate; /* of catching up, a second */

	int64_t seq;
	uint64_t token;
	struct outbox_queue q[OUTBOX_SINKS];
	struct item_list unsaved; /* the disk refused them; it is asked again */
	struct item *saving;      /* rows of the open transaction, the latest first */
	bool failing;             /* the last transaction was rolled back */
	bool listening;           /* hears of its end */
	uint64_t transaction;     /* of which */
	struct gone *gone;
	size_t n_gone, gone_cap;
	size_t n_deleted;     /* of gone, in the open transaction */
	struct hearers ended; /* to be told */

	int64_t disk_items, disk_bytes;
	int64_t oldest_us; /* no row is older; 0: there is none */
	uint64_t dropped, expired, failed;
	double credit;     /* rows of the backlog that may be sent */
	unsigned arrived;  /* in this tick, behind a backlog: as many more may be sent */
	int64_t credit_ms; /* when it was given */
};

/* Statements begin with these parameters. */
#define OUTBOX_OF_DEVICE        " FROM outbox WHERE device = $1 "
#define OUTBOX_OF_KIND          OUTBOX_OF_DEVICE "AND sink = $2 AND keep = $3 "
#define OUTBOX_KIND(o, q, keep) DB_V_TEXT((o)->device), DB_V_INT((q)->sink), DB_V_INT(keep)

/* ---- outbox_item.c ---- */

const struct elapsed *outbox_clock(const struct outbox *o);
/* ret: NULL: out of memory */
struct item *outbox_item_new(struct outbox *o, struct address *a, const char *text);
void outbox_item_free(struct item *it); /* no more than its memory */
void outbox_address_free(void *address);
/* Also NULL: out of memory; make: if there is none. */
struct address *outbox_address(struct outbox_queue *q, const char *name, bool make);
/* Nothing is to be remembered of it any more? Then it is no more. */
void outbox_forget_address(struct address *a);
void outbox_append(struct item_list *l, struct item *it);
void outbox_insert(struct item_list *l, struct item *it); /* by number */
void outbox_take(struct item *it);                        /* out of its list */
/* The item leaves memory; a row of the open transaction stays until that ends. */
void outbox_dispose(struct item *it);
/* done: NULL: nobody asks. ret: 0 or ERR_NOMEM */
int outbox_hear(struct item *it, void (*done)(void *arg, int rc), void *arg);
void outbox_hearers_free(struct hearers *l);
/* Its hearers are to be told. */
void outbox_settle(struct outbox *o, struct item *it, int rc);
/* To a newer one, which says what this one would have said. */
void outbox_pass_hearers(struct outbox *o, struct item *from, struct item *to);
/* A newer one takes its place, and its hearers. */
void outbox_supersede(struct outbox *o, struct item *old, struct item *by);
/* The same without anybody in its place. */
void outbox_drop_old(struct item *it);
/* It never arrives: the state that is on the disk is the newest again. */
void outbox_lose(struct outbox *o, struct item *it, int rc);
void outbox_tell(struct outbox *o);
bool outbox_is_state(const struct item *it);
/* Into live, at the end or by number; what is too much there goes. */
void outbox_wait(struct outbox *o, struct item *it);

/* ---- outbox.c ---- */

void outbox_schedule(struct outbox *o);
/* From the first row: others are to come, or in another order. */
void outbox_read_again(struct outbox_queue *q, enum outbox_keep keep);

/* ---- outbox_disk.c ---- */

int outbox_load(struct outbox *o, struct err *err);
/* To the disk: into the open transaction, or when the disk is willing again. */
void outbox_keep_item(struct outbox *o, struct item *it);
/* Write the row of an item that stays where it is. ret: 0 or negative */
int outbox_write(struct outbox *o, struct item *it, struct err *err);
void outbox_retry(struct outbox *o);
void outbox_delete(struct outbox *o, struct item *it); /* its row */
void outbox_flush(struct outbox *o);                   /* deletions */
/* Read a few rows into the window. ret: items read */
size_t outbox_refill(struct outbox *o, struct outbox_queue *q, enum outbox_keep keep);

bool outbox_is_gone(const struct outbox *o, const struct outbox_queue *q, enum outbox_keep keep,
		    int64_t seq);
const struct item *outbox_in_flight(const struct outbox_queue *q, enum outbox_keep keep,
				    int64_t seq);
/* a: of the row; NULL: unknown */
void outbox_delete_row(struct outbox *o, const struct outbox_queue *q, enum outbox_keep keep,
		       int64_t seq, int64_t bytes, struct address *a);

/* ---- outbox_limit.c ---- */

/* Make room for a row in the quota. ret: 0; ERR_LIMIT: it is larger; other negative */
int outbox_fit(struct outbox *o, const struct item *it, struct err *err);
void outbox_expire(struct outbox *o);
void outbox_drop_rows(struct outbox *o, struct outbox_queue *q, struct address *a);
int64_t outbox_oldest_row(const struct outbox *o); /* when it was put; 0: there is none */

/* ---- outbox_send.c ---- */

void outbox_pump(struct outbox *o, struct outbox_queue *q);
bool outbox_catches_up(const struct outbox_queue *q);
void outbox_tick(void *arg);
/* An older state that comes back after a newer one: its hearers hear what comes of that. */
void outbox_superseded(struct outbox *o, struct item *it);
