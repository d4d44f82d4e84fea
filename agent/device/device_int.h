/* device_int.h - shared by device.c (life), device_make.c, device_queue.c (events), port.c (the
 * driver's side), device_calls.c (reads and writes) and device_tell.c (for people) only.
 */
#pragma once

#include "agent/device/device.h"
#include "agent/device/outbox.h"
#include "agent/device/packed.h"
#include "agent/device/said.h"
#include "agent/device/states.h"
#include "agent/device/view.h"
#include "common/map.h"

/* The driver's side of a device. */
struct port {
	struct device *device;
};

struct device {
	const struct device_env *env;
	void *owner; /* for env->send() */
	const struct device_type *type;
	struct packed *conf;
	char *name, *key, *prefix; /* prefix: topic */
	char id[37];
	struct point_list points; /* without their options */
	char *point_names;        /* of all points, which borrow them */
	uint8_t *keeps;           /* enum outbox_keep of each point */
	struct value *lasts;      /* what each point was said to be; text: owned */
	bool has_store;
	enum outbox_keep keep_default; /* of what tells no point */
	int64_t restart_ms;            /* -1: never */

	enum device_state state;
	bool want;   /* enabled, as was told last */
	bool synced; /* the broker's states are told; or we begin without */
	bool up;     /* the broker is there */
	bool ending, closing;
	char why[200];                   /* what failed last; "" */
	int64_t enabled_ms, enabling_us; /* the last turn in which it was switched, and its cost */
	unsigned flips;                  /* that wait for the next turn */
	int64_t created_ms, logged_ms;
	int64_t ended_us; /* not said yet; 0: nothing */
	struct port port;
	void *instance;
	struct loop_src *end_timer, *restart_timer, *flip_timer;

	struct states *states;
	struct outbox *outbox;
	struct view *view;
	enum link_state link;
	unsigned link_count;

	struct queued *first, **last; /* of the queue */
	size_t n_queued;
	struct loop_src *queue_timer;

	struct telling *tellings;  /* states that the broker is being told */
	struct emitting *emitting; /* whose done is still to be called */
	struct port_call *calls;
	struct said_points *said_points;
	struct map *said; /* the other states that we told the broker: struct said by topic */
	void **again;     /* those to say again, from again_at on; NULL: none */
	size_t again_at, again_point;
	unsigned connections; /* to the broker that were lost */
	struct device_counters counters;
};

/* port.c */
void device_emit_running(struct device *d, bool running);
/* That it does not run any more: said when what was told is on the disk, as others take it for the
 * answer; and now, if it has not been said yet. */
void device_emit_end_when_kept(struct device *d);
void device_emit_end(struct device *d);
/* No done is called any more. */
void device_forget_emitting(struct device *d);
/* Nothing is under way any more. */
void device_free_emitting(struct device *d);
void device_forget_said(struct device *d);
/* Say the states again, as many as the outbox has room for. */
void device_say_again(struct device *d);
void device_begin_say_again(struct device *d);
/* device.c */
int device_make_timers(struct device *d, struct err *err);
void device_free_tellings(struct device *d);
void device_state_failed(const struct device *d, const struct err *err);
/* An instance, by what is kept. */
void device_create(struct device *d);
void device_created(struct device *d);
/* Its instance, if there is one. when_kept: that it has ended is said when the disk has the word
 * that ended it (device_emit_end_when_kept()). */
void device_close(struct device *d, bool when_kept);
void device_fail_soon(struct device *d, const char *why);
/* device_queue.c */
/* An event for the driver, if there is one. A state that comes while it is being created waits. */
void device_offer(struct device *d, const char *topic, const json_t *payload, bool is_state);
/* The device runs: what waits is due. */
void device_arm_queue(struct device *d);
/* There is no instance any more that it could wait for. */
void device_clear_queue(struct device *d);
void device_on_queue_timer(void *device);
/* device_calls.c */
void device_end_calls(struct device *d);
void device_on_view_write(void *arg, unsigned point, const struct value *v, uint64_t number);

/* ---- device_enable.c ---- */

/* What is kept, or a person, says it: nothing else counts any more. */
void device_enable(struct device *d, bool on);
/* The broker says it, now: each such word is done, in its order, now or in the next turns. */
void device_flip(struct device *d, bool on);
void device_forget_flips(struct device *d);
void device_on_flip_timer(void *arg);
