/* device.h - one device: its life (gateway-devices 1.3), the queue of its events (1.4), what it
 * says on the event bus and in IoTtalk. It knows no other device. Loop thread only.
 *
 * A device exists, enabled or not, from device_new() to device_free(); its instance, which the
 * driver makes, exists while it is enabled. A device with a `store` keeps its instance without a
 * broker; the others have none until device_synced() and from device_hold() on.
 */
#pragma once

#include "agent/device/conf.h"
#include "agent/device/driver.h"
#include "agent/device/event.h"
#include "agent/device/states.h"
#include "agent/device/store.h"
#include "agent/device/view.h"
#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct device;

/* What all devices share; outlives them. */
struct device_env {
	struct loop *loop;
	struct store *store;
	struct pieces *pieces; /* for what waits for the broker; NULL: none */
	struct fetch *fetch;
	struct view_farewells *farewells;
	const char *gateway, *csm_url;
	bool values_held; /* now, for one that is made; device_hold_values() for the others */
	/* Publish. ret: 0, then device_sent() answers; ERR_AGAIN: device_ready() tells when;
	 * another negative: never. */
	int (*send)(void *owner, uint64_t token, const char *topic, const char *text, bool retain);
};

enum device_state {
	DEVICE_DISABLED, /* or it may not run for now: device_hold() */
	DEVICE_CREATING,
	DEVICE_RUNNING,
	DEVICE_FAILED,
};

struct device_counters {
	uint64_t events, dropped,
		failed;         /* from the bus: handled; not taken; refused by the driver */
	uint64_t emitted, lost; /* by the device; lost: not even queued */
	uint64_t creations;
	uint64_t backlog, shed; /* waiting for the broker; and what did not get there */
};

/* env, the type: borrowed. conf: for the call. owner: for env->send().
 * ret: yours, disabled. */
int device_new(const struct device_env *env, const struct device_conf *conf, void *owner,
	       struct device **ret, struct err *err);
/* Closes the instance, with all that it has to say, and says goodbye in IoTtalk without waiting.
 * Who frees many stops each first, and waits once. */
void device_stop(struct device *d);
/* The same, and waits. NULL is fine; returns NULL. */
struct device *device_free(struct device *d);
/* The same, and all that is kept of the device is forgotten, on disk and in csm: it is in the
 * configuration no more. */
struct device *device_remove(struct device *d);
/* running=false: that of an earlier process may still be said to run. */
void device_announce(struct device *d);

/* ---- the broker ---- */

/* A system event: path is what follows `system`. */
void device_event(struct device *d, const char *const *path, size_t n, const char *topic,
		  const struct event_body *body, const char *text, bool retained);
/* All states that the broker has retained are told (complete), or as many as will be. trusted: as
 * states_end_sync(). */
void device_synced(struct device *d, bool complete, bool trusted);
void device_lost(struct device *d);
/* The broker has been away for too long. */
void device_hold(struct device *d);
/* As view_hold(). */
void device_hold_values(struct device *d, bool held);
/* There is no broker, and has not been: start by what is kept. */
void device_start_alone(struct device *d);
/* The answer to env->send(), and that there is room again after its ERR_AGAIN. */
void device_sent(struct device *d, uint64_t token, int rc);
void device_ready(struct device *d);

/* Is the broker being told states that it does not have as they are kept? */
bool device_is_telling(const struct device *d);
/* All that is kept of what others told it. */
void device_each_state(const struct device *d, states_fn *fn, void *arg);
typedef void said_fn(void *arg, const char *topic, const char *text);
/* All retained that it said itself, but of its points: what was said last. */
void device_each_said(const struct device *d, said_fn *fn, void *arg);
/* The last word of a device that was taken out of the configuration while we were away; key: as
 * device_key(). */
int device_say_gone(const char *gateway, const char *key, said_fn *fn, void *arg, struct err *err);
/* An earlier device of this name has said it. told: the broker that is there has heard it. */
void device_said_before(struct device *d, const char *topic, const char *text, bool told);

/* ---- people ---- */

/* As a system/enable would; the broker is told, now or when it is back. It is on the disk then.
 * Errors: nothing has changed. */
int device_set_enabled(struct device *d, bool enabled, struct err *err);

const char *device_name(const struct device *d);
const char *device_key(const struct device *d);   /* "type/name" */
const char *device_topic(const struct device *d); /* what its events' topics begin with, no '/' */
const char *device_id(const struct device *d);    /* of its device application */
/* Whether it is made of this. ret: 1, 0 or ERR_NOMEM. */
int device_has_conf(const struct device *d, const json_t *conf, struct err *err);
enum device_state device_get_state(const struct device *d);
void device_get_counters(const struct device *d, struct device_counters *ret);
/* A row of the list; all: everything there is to tell. A new object; NULL: out of memory. */
json_t *device_tell(const struct device *d, bool all);

/* The point of that name, of the configuration or of a feature. ret: its number, ERR_NOENT. */
int device_find_point(const struct device *d, const char *name, struct err *err);

/* What came of it; ack: of a write; v: of a read, NULL: it failed. Called once, also from within;
 * not after device_free(). */
typedef void device_done_fn(void *arg, enum ack ack, const struct value *v, const char *why);
void device_write(struct device *d, unsigned point, const struct value *v, unsigned timeout_ms,
		  device_done_fn *done, void *arg);
void device_read(struct device *d, unsigned point, unsigned timeout_ms, device_done_fn *done,
		 void *arg);
/* The value as IoTtalk has it, a new array, with its quality, and back. NULL: nothing to show;
 * errors as point_from_odf(). */
json_t *device_show_value(const struct device *d, unsigned point, const struct value *v,
			  unsigned *ret_quality);
int device_parse_value(const struct device *d, unsigned point, const json_t *values,
		       struct value *ret, struct err *err);
const char *ack_name(enum ack ack);
