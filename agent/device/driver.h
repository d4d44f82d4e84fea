/* driver.h - what a device type is to the device service, and what the service is to an instance of
 * it (gateway-devices 1.3, 1.4, 4).
 *
 * A driver makes an instance of a checked configuration, speaks the field protocol on the loop, and
 * tells the service what happens through its port. It knows neither MQTT nor IoTtalk, and no other
 * device. Everything is on the loop's thread; nothing blocks.
 */
#pragma once

#include "agent/device/field.h"
#include "agent/device/value.h"
#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- points: what the IoTtalk view has features for ---- */

struct point_spec {
	const char *name;      /* borrowed of the configuration; the feature's name is made of it */
	const json_t *options; /* object with the options that all points share (point_fields);
				  borrowed; NULL: the configuration is gone */
	bool input;            /* has an IDF */
	bool output;           /* has an ODF (and its _ack) */
	uint8_t bits; /* of a VALUE_UINT bit string: 1 to 64; 0: a number of another kind */
};

struct point_list {
	struct point_spec *items; /* owned */
	size_t n;
};

/* The options of points of every type; a type's own table of points includes them. */
extern const struct field point_fields[];

/* ---- what an instance may do ---- */

struct port; /* the service's side of one instance; valid until ops->close() has returned */

enum link_state { LINK_DISCONNECTED, LINK_CONNECTING, LINK_CONNECTED };

/* What came of a write (the codes of _ack, gateway-devices 4.3). */
enum ack {
	ACK_OK,
	ACK_REJECTED,
	ACK_TIMEOUT,
	ACK_LINK_DOWN,
	ACK_BAD_VALUE,
	ACK_SELECT_REFUSED,
	ACK_CANCELLED
};

/* Called once: the emission is with the broker or on the disk (0), or was given up (negative). Not
 * called any more once close() has begun. */
typedef void emitted_fn(void *arg, int rc);

struct emission {
	const char *const *path; /* what follows <prefix>/gateway/; borrowed for the call */
	size_t n_path;
	json_t *payload;          /* taken, also on failure */
	bool retain;              /* a state; else an act (gateway-devices 1.2) */
	const int64_t *source_us; /* NULL: null */
	int point;                /* the emission tells a value of this point; -1: of none */
	struct value value;       /* of that point; VALUE_NONE: as before, but with this quality */
	emitted_fn *done;         /* NULL: nobody asks */
	void *arg;
};

struct loop *port_loop(const struct port *p);
const char *port_name(const struct port *p); /* of the device, for the log */
/* The name of a point, as the configuration has it; it outlives the instance. */
const char *port_point_name(const struct port *p, unsigned point);

/* Emit an event, and the value of a point with it. Order is kept. */
void port_emit(struct port *p, const struct emission *e);
/* The state of the device's link, for the IDF `link`; count: masters of a slave, else 0. Emits no
 * event: the `status` event is the driver's to emit. */
void port_link(struct port *p, enum link_state state, unsigned count);
/* A value for the IoTtalk view alone; most values come with an event. */
void port_value(struct port *p, unsigned point, const struct value *v);

/* The creation that create() began is done: RUNNING, running=true is emitted. Once, also from
 * within create(). */
void port_created(struct port *p);
/* An instance ends by itself, or its creation fails after create() has returned: close() is called
 * soon, not from within; running=false (if it was true) and FAILED follow. why: for the log and the
 * status. */
void port_ended(struct port *p, const char *why);

/* The answer to ops->write() and ops->read(), exactly once for each, also from within; those that
 * are open at close() get none. */
struct port_call; /* one of them under way */
/* why: what went wrong, for people; NULL: the name of ack says it. */
void port_written(struct port_call *call, enum ack ack, const char *why);
/* v NULL: it failed; why. */
void port_was_read(struct port_call *call, const struct value *v, const char *why);

/* The latest state that others told us before now: walk all kept `system/...` states of this device
 * (remote_device/<id>/enable, data/<name>); path as in ops->event(). payload: borrowed. */
typedef void port_state_fn(void *arg, const char *const *path, size_t n_path,
			   const json_t *payload);
void port_each_state(struct port *p, port_state_fn *fn, void *arg);

/* ---- a driver ---- */

struct driver_ops {
	/* Make an instance of a configuration that is checked and has its defaults. Tell
	 * port_created() once it runs, at once or later. conf: borrowed for the call; nobody else
	 * has it, so what is json_incref()ed of it stays, and the rest goes. ret: kept for the
	 * other calls. A failure leaves nothing behind. */
	int (*create)(struct port *p, const json_t *conf, void **ret, struct err *err);
	/* Close connections, emit what is to be said last (DISCONNECTED ...), release everything.
	 * Also while it is being created. */
	void (*close)(void *instance);
	/* An event `<prefix>/system/<path>`, but for enable of the device. payload: borrowed, any
	 * JSON. A failure is logged by the caller, and the device goes on. NULL: the type takes
	 * none. */
	int (*event)(void *instance, const char *const *path, size_t n_path, const json_t *payload,
		     struct err *err);
	/* Write a value to a point with `output`. NULL: no point has. */
	void (*write)(void *instance, unsigned point, const struct value *v,
		      struct port_call *call);
	/* Read a point of the field now. NULL: the last value told is what can be had. */
	void (*read)(void *instance, unsigned point, struct port_call *call);
	/* For people: counters and states as an object, yours; NULL: out of memory. NULL function:
	 * nothing to tell. */
	json_t *(*status)(const void *instance);
};

struct device_type {
	const char *name;    /* "modbus_master" */
	const char *module;  /* the reference's name of it, "modbus.master" */
	const char *title;   /* one line */
	const char *help;    /* paragraphs for its page of docs/devices.rst; reStructuredText */
	const char *example; /* a whole device object, JSON text, that a test runs */
	const struct field *fields; /* of its configuration, besides what all devices have; NULL:
				       this build does not have the type yet */
	/* What tables cannot say (names twice, ...): tell each with problem_add(). NULL: nothing.
	 */
	void (*check)(const json_t *conf, struct problems *p);
	/* The points of a checked configuration. ret: items owned by the caller. */
	int (*points)(const json_t *conf, struct point_list *ret, struct err *err);
	const struct driver_ops *ops;
};

/* All twelve; NULL: no such type. Takes the name, or "hat.gateway.devices." and the module. */
const struct device_type *device_type_find(const char *name);
/* The table, for walks. */
const struct device_type *const *device_types(size_t *ret_n);
