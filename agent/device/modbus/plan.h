/* plan.h - which requests read the points of a device, and which write one (gateway-devices 2.1,
 * "Reader" and "Writing").
 */
#pragma once

#include "agent/device/modbus/bits.h"
#include "agent/device/modbus/pdu.h"
#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A point to be polled. */
struct plan_item {
	uint32_t point; /* the caller's number of it */
	uint32_t interval_ms;
	const struct modbus_bits *bits; /* borrowed for plan_new() */
};

/* A point in its group. */
struct plan_point {
	uint32_t point;
	uint16_t address, cells;
};

/* Points that one request reads: same table, same interval. */
struct plan_group {
	int64_t due_ms;    /* the reader's, as is `reading` */
	uint32_t first, n; /* of plan->points */
	uint32_t interval_ms;
	uint16_t address, quantity;
	uint8_t type;
	bool gaps; /* cells are read that no point has */
	bool reading;
};

struct plan {
	struct plan_point *points;
	struct plan_group *groups; /* by table, interval, address */
	size_t n_groups;
};

/* How many cells one request reads. */
unsigned plan_limit(enum modbus_data_type type);

/* Group items, sorted here, into the least number of requests: the next point joins if it begins at
 * most merge_gap cells after the end, and the whole is within plan_limit(); a point is never split.
 * Each item's cells are within plan_limit(). ret: plan_done(). Errors: ERR_NOMEM. */
int plan_new(struct plan_item *items, size_t n, unsigned merge_gap, struct plan *ret,
	     struct err *err);
void plan_done(struct plan *p);
/* Put a group's parts between its gaps in its place, with its times; there is at least one. ret:
 * how many they are, or ERR_NOMEM (nothing changed). */
int plan_split(struct plan *p, size_t group);
/* The request of a group, or of one point. */
void plan_read(enum modbus_data_type type, uint32_t address, uint32_t cells,
	       struct modbus_request *ret);

/* Steps that write a point of a table that can be written: masked registers at its ends, whole ones
 * between them. */
unsigned plan_write_steps(const struct modbus_bits *b);
void plan_write(const struct modbus_bits *b, uint64_t value, unsigned step,
		struct modbus_request *ret);
