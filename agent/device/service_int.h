/* service_int.h - shared by service.c (the broker, the way to each device), service_start.c and
 * service_reload.c (the device file), service_mark.c and service_ctl.c (the control socket) only.
 */
#pragma once

#include "agent/device/conf.h"
#include "agent/device/device.h"
#include "agent/device/eventbus.h"
#include "agent/device/service.h"
#include "agent/device/store.h"
#include "agent/device/strays.h"
#include "common/id.h"
#include "common/map.h"
#include "dan/fetch.h"

/* A device and its place in the queue for room on the event bus. */
struct entry {
	struct devices *all;
	struct device *device;
	struct device_conf conf; /* of the device, which has the JSON */
	bool listed;             /* for service_reload.c: it is in the file */
	struct entry *next_waiting;
	bool waits;
};

struct devices {
	struct loop *loop;
	const struct settings *settings;
	char *path;                  /* of the device file */
	struct devices_conf conf;    /* its gateway-wide part, as in force since the start */
	bool started;                /* a file was good, and what follows is there */
	char why[600];               /* it has not; "" */
	struct templates *templates; /* that the devices were made with; NULL: not known */
	struct reload *first_reload, **last_reload; /* the first one goes on, the others wait */
	struct loop_src *reload_timer;
	struct device_env env;
	struct store *store;
	struct fetch *fetch;
	struct view_farewells *farewells;
	struct eventbus *bus;
	struct map *entries; /* by device_key() */
	struct strays *strays;
	struct strays *last_words; /* of devices that are there no more */
	bool synced, complete;     /* as eventbus_events.on_synced() */
	bool trusted;              /* the broker has our mark: it has forgotten nothing */
	char mark[UUID_LEN + 1];   /* left with it after the last change of a state; "": not yet */
	bool marking;              /* one is due */
	struct loop_src *mark_timer;
	bool alone; /* we have waited for the broker long enough */
	struct loop_src *grace_timer, *alone_timer;
	struct entry *first_waiting, **last_waiting;
	uint64_t unknown;            /* events of devices we do not have */
	struct device_counters gone; /* of devices that are no more */
};

/* service_mark.c: */

/* The mark that an earlier process left; its timer. */
int devices_start_marks(struct devices *d, const char *gateway, struct err *err);
/* A state has changed, or the broker is being told what it forgot. */
void devices_mark_change(struct devices *d);
void devices_mark_sync(struct devices *d);
/* No more of them while the broker is away. */
void devices_lose_marks(struct devices *d);
/* Now, if one is due. */
void devices_end_marks(struct devices *d);

/* service.c: */

/* Connect to the broker of c. */
int devices_connect(struct devices *d, const struct devices_conf *c, struct err *err);
/* Add one, and let it run if it shall. is_new: it takes no other's place. */
int devices_add(struct devices *d, const struct device_conf *conf, bool is_new, struct err *err);
/* A said_fn: of a device that is there no more. */
void devices_on_last_word(void *arg, const char *topic, const char *text);
/* forget: it is in the configuration no more. */
void devices_drop(struct devices *d, struct entry *e, bool forget);

/* service_start.c: */

/* Read the file and start; what is wrong is logged and noted. */
void devices_start(struct devices *d);
/* Begin with the first file that is good. conf: the gateway-wide part is taken. */
int devices_begin(struct devices *d, struct devices_conf *conf, struct err *err);
/* Why it could not, for people: the first error of p (may be NULL), or else err. */
void devices_note_why(struct devices *d, const struct problems *p, const struct err *err);

/* service_reload.c: */

/* Those that are not done are given up; what they have changed is changed. */
void devices_end_reloads(struct devices *d);
