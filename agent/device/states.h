/* states.h - the states that others told one device: its enable, remote_device/<id>/enable,
 * data/... (gateway-devices 1.2, 1.5). They are kept in the store, and the newer of what the broker
 * and the store have wins. Loop thread only.
 */
#pragma once

#include "agent/device/event.h"
#include "agent/device/store.h"
#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Anybody can make topics. What is more than this is not kept; the device's own enable always is.
 */
#define STATE_BYTES_MAX  8192       /* of a body */
#define STATES_MAX       65536      /* of one device */
#define STATES_BYTES_MAX (16 << 20) /* of their topics and bodies */

struct states;

/* prefix: topic of the device, "gateway/<gateway>/<type>/<name>". Reads what the store has. ret:
 * yours. */
int states_new(struct store *store, const char *prefix, struct states **ret, struct err *err);
/* NULL is fine; returns NULL. The store keeps them. */
struct states *states_free(struct states *s);
/* The device is no more: the store forgets them too. */
int states_drop(struct states *s, struct err *err);

/* In what follows err is never NULL; ERR_LIMIT: too large, or there are too many.
 * A new connection to the broker: what it has retained is told next. */
void states_begin_sync(struct states *s);
/* What the broker has retained. ret: 1 it is news to us, and kept; 0 we have it, or a newer one, or
 * it has no time: then states_end_sync() decides; negative: not kept on disk, but news all the
 * same. */
int states_retained(struct states *s, const char *topic, const struct event_body *body,
		    const char *text, struct err *err);
/* Somebody says it now. ret: 1; 0 it is what the broker was told, which comes back, and has been
 * overtaken or is known; negative: it is not on the disk, but counts. */
int states_live(struct states *s, const char *topic, const struct event_body *body,
		const char *text, struct err *err);
/* We say it now, and the broker shall hear of it: until states_told() it is newer than anything
 * that has no time. It is on the disk when this returns: the loop waits for that. Errors: nothing
 * has changed. */
int states_set(struct states *s, const char *topic, const struct event_body *body, const char *text,
	       struct err *err);
/* The broker is being told this text, and will repeat it; or will not, after all. */
void states_telling(struct states *s, const char *topic, const char *text);
void states_not_told(struct states *s, const char *topic, const char *text);
/* The broker has this text. */
void states_told(struct states *s, const char *topic, const char *text);

typedef void states_fn(void *arg, const char *topic, const char *text, const json_t *payload);
/* All that is retained has been told. trusted: the broker has not lost what it heard of late, so
 * what it has without a time was set since: fn is told each that is. Else what we have counts. */
void states_end_sync(struct states *s, bool trusted, states_fn *fn, void *arg);
void states_each(const struct states *s, states_fn *fn, void *arg);
/* What the broker does not have as we do, after all it has retained was told. */
void states_each_untold(const struct states *s, states_fn *fn, void *arg);
/* There was no room to tell the driver of this one: it will be, of what it is by then. ret: false:
 * the payload is not that of a state that is kept. */
bool states_miss(struct states *s, const char *topic, const json_t *payload);
/* The one that was missed first, which it is no more. ret: its topic, borrowed; NULL: there is
 * none. */
const char *states_take_missed(struct states *s, const json_t **ret_payload);
bool states_any_missed(const struct states *s);
/* ret: borrowed; NULL: nobody ever told it. */
const json_t *states_find(const struct states *s, const char *topic);
