/* outbox.h - what one device has to say and the broker has not acknowledged yet, in order: in
 * memory while all is well, on the disk while the broker is away (gateway-devices 1.5, and the
 * device's `store`).
 *
 * Two sinks take things: events (the event view) and values of IDFs (the IoTtalk view). Each
 * address (topic, or feature) has a policy: KEEP_NONE is dropped with the memory (bounded, 4096: of
 * a state only the latest of each address, then the oldest act goes), KEEP_LATEST survives on disk
 * with its latest, KEEP_ALL survives with all, in order, within a quota and an age. What is full
 * loses its oldest, which is counted and told.
 *
 * How old a row is: elapsed.h. An item is on the disk before it counts as taken, whenever its sink
 * is down or has left it unacknowledged for a second. Catching up never makes what is new wait:
 * KEEP_NONE and KEEP_LATEST items go first, KEEP_ALL items of an address that has a backlog go
 * behind it, and the backlog shrinks by at most `catch_up_rate` a second.
 */
#pragma once

#include "agent/device/field.h"
#include "agent/device/pieces.h"
#include "agent/device/store.h"
#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outbox;

enum outbox_sink { OUTBOX_EVENTS, OUTBOX_VALUES, OUTBOX_SINKS };
enum outbox_keep { KEEP_NONE, KEEP_LATEST, KEEP_ALL };

/* Rows of a device's `store` (quota_bytes, max_age, catch_up_rate, and keep, the policy of points
 * that have none of their own). */
extern const struct field outbox_fields[];
/* The words of a policy in files: "none", "latest", "all"; NULL-terminated, in the order of the
 * enum. */
extern const char *const outbox_keep_names[];

struct outbox_item {
	enum outbox_sink sink;
	const char *address; /* topic or feature; copied */
	const char *text;    /* what is sent; copied */
	bool retain;
	bool state; /* only the latest of its address matters, to whoever comes */
	enum outbox_keep keep;
	/* NULL, or as emitted_fn: 0 once the sink has acknowledged it or it is on the disk; of a
	 * state that a newer one overtakes: what comes of that. Negative also from within
	 * outbox_put(). Not called any more once outbox_free() has begun. */
	void (*done)(void *arg, int rc);
	void *arg;
};

struct outbox_ops {
	/* Send it; answer later with outbox_sent(). ret: 0; ERR_AGAIN: not now, ask again after
	 * outbox_ready(); another negative: it cannot ever be sent, drop it. */
	int (*send)(void *arg, enum outbox_sink sink, uint64_t token, const char *address,
		    const char *text, bool retain);
};

struct outbox_status {
	size_t waiting; /* items, in memory and on disk */
	uint64_t disk_items, disk_bytes;
	int64_t oldest_us; /* when the oldest was put, by the wall's clock as it is now; 0: none */
	uint64_t dropped;  /* for want of room, since the start */
	uint64_t expired;  /* too old */
	uint64_t failed;   /* could not be kept: the disk refused */
};

/* conf: the device's checked `store` object, or NULL: nothing is kept on disk. device: "type/name",
 * the key of its items on disk; what an earlier process left there is sent first. pieces: for
 * items; outlives it; NULL: none. ret: yours. */
int outbox_new(struct loop *l, struct store *store, struct pieces *pieces, const char *device,
	       const json_t *conf, const struct outbox_ops *ops, void *arg, struct outbox **ret,
	       struct err *err);
/* What is on the disk stays there; the rest is written to it if its policy says so. */
struct outbox *outbox_free(struct outbox *o);

/* Errors: ERR_NOMEM; then it is lost and counted, and done is not called. */
int outbox_put(struct outbox *o, const struct outbox_item *item, struct err *err);
/* The sink is there (send what waits), or is not (what was sent and not acknowledged is sent again
 * when it is back). */
void outbox_up(struct outbox *o, enum outbox_sink sink, bool up);
/* One address of a sink that is up takes things, or does not for now (a feature that is in no graph
 * yet). Unknown addresses take. */
void outbox_open(struct outbox *o, enum outbox_sink sink, const char *address, bool open);
/* Drop what waits for an address: nobody wants it any more. */
void outbox_drop(struct outbox *o, enum outbox_sink sink, const char *address);
/* After ERR_AGAIN: there is room. */
void outbox_ready(struct outbox *o, enum outbox_sink sink);
/* The answer to a send: 0 acknowledged; ERR_AGAIN: it was lost, send it again; other negative:
 * drop. */
void outbox_sent(struct outbox *o, uint64_t token, int rc);
void outbox_get_status(const struct outbox *o, struct outbox_status *ret);
/* Forget what the store has of a device that is no more. */
int outbox_purge(struct store *store, const char *device, struct err *err);
