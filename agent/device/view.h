/* view.h - the IoTtalk view of one device: a device application whose features are its points
 * (gateway-devices 4).
 *
 * The device tells it values and link states, and is asked to write; dan registers, reconnects and
 * carries the data; the outbox keeps what the broker has not acknowledged.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/outbox.h"
#include "agent/device/point.h"
#include "common/err.h"
#include "common/loop.h"
#include "dan/fetch.h"

struct view;
struct view_farewells;

struct view_conf {
	const char *gateway, *type, *name; /* of the device; borrowed */
	const char *csm_url;
	struct fetch *fetch;              /* shared */
	struct store *store;              /* remembers the registration */
	struct view_farewells *farewells; /* a device that is back is none of them; NULL: there
					     are none */
	const struct point_list *points;  /* borrowed, outlives the view; but not their options */
	const json_t *device;  /* its configuration, for the policies; borrowed for the call */
	struct outbox *outbox; /* of the device; borrowed */
};

struct view_events {
	/* An ODF wants a point written; answer with view_written(), once, also from within. number:
	 * of the write. */
	void (*write)(void *arg, unsigned point, const struct value *v, uint64_t number);
};

struct view_status {
	bool registered, online;
	const char *id, *app; /* of the device application; borrowed for this turn */
	uint64_t pushed, writes, refused;
	const char *why; /* the last thing that failed since it is on line; "" */
};

/* Not registered yet. ret: yours. Errors: ERR_SCHEMA, ERR_NOMEM. */
int view_new(struct loop *l, const struct view_conf *conf, const struct view_events *e, void *arg,
	     struct view **ret, struct err *err);
struct view *view_free(struct view *v);

/* The device is RUNNING: register, go online. It stops: offline, the registration stays; what is on
 * its way to the broker is waited for by the next view_start() or view_free(). */
void view_start(struct view *v);
void view_stop(struct view *v);

/* done: also from within, and with 0 when nobody wants the value. */
void view_value(struct view *v, unsigned point, const struct value *value, emitted_fn *done,
		void *arg);
void view_link(struct view *v, enum link_state state, unsigned count);
/* A number that is not known any more is ignored. */
void view_written(struct view *v, uint64_t number, enum ack ack);

/* Values wait, though the broker is there: whom they are for does not listen yet. It applies from
 * the next connection on; that it is over applies at once. Not at first. */
void view_hold(struct view *v, bool held);

/* An IDF value of the outbox goes out here; ops->send of OUTBOX_VALUES. */
int view_send(struct view *v, uint64_t token, const char *feature, const char *text);

void view_get_status(const struct view *v, struct view_status *ret);
/* How a point is converted; as long as the view. */
const struct point *view_point(const struct view *v, unsigned point);
/* The last value of a point, as pushed; a new array, and its quality; NULL: none. */
json_t *view_last(const struct view *v, unsigned point, unsigned *ret_quality);
/* The feature's name of a point's IDF (output false) or ODF; in buf, or borrowed; NULL: it has
 * none. */
#define VIEW_FEATURE_MAX (FEATURE_NAME_MAX + 5) /* with suffix and NUL */
const char *view_feature(const struct view *v, unsigned point, bool output, char *buf);
/* The point that a name of the configuration or of a feature stands for; -1: none. */
int view_find(const struct view *v, const char *name);

/* The UUIDv5 of <gateway>/<type>/<name>. buf: 37 bytes. */
void view_id(const char *gateway, const char *type, const char *name, char *buf);

/* ---- devices that are in the configuration no more ---- */

/* All that are to be deregistered; they share fetch, which outlives them. ret: yours. */
int view_farewells_new(struct loop *l, struct store *store, struct fetch *fetch,
		       const char *csm_url, struct view_farewells **ret, struct err *err);
/* Those that csm has not heard of yet are still registrations in the store: begin with them again.
 * NULL is fine; returns NULL. */
struct view_farewells *view_farewells_free(struct view_farewells *f);
/* Deregister a device application and forget it; tries until it is done, or view_start() of the
 * same device. Not known to csm any more: done as well. Errors: ERR_NOMEM. */
int view_deregister(struct view_farewells *f, const char *id, struct err *err);
