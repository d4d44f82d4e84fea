/* cache.h - what a Modbus slave has: the cells (coils and registers) of its points, by device id
 * and table (gateway-devices 2.2).
 *
 * A cell is there if a point has a bit of it. Bits of a cell that no point has are 0. Points may
 * share bits. Points are known by the number of their addition.
 */
#pragma once

#include "agent/device/modbus/bits.h"
#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct modbus_cache;

/* ret: yours, empty. NULL: out of memory. */
struct modbus_cache *modbus_cache_new(void);
struct modbus_cache *modbus_cache_free(struct modbus_cache *c);
/* Add a point that is 0. bits: checked; of any table but MODBUS_QUEUE. Errors: ERR_NOMEM. */
int modbus_cache_add(struct modbus_cache *c, uint8_t device_id, const struct modbus_bits *bits,
		     struct err *err);

bool modbus_cache_has_device(const struct modbus_cache *c, uint8_t device_id);
size_t modbus_cache_count(const struct modbus_cache *c);
const struct modbus_bits *modbus_cache_bits(const struct modbus_cache *c, unsigned point);
uint64_t modbus_cache_get(const struct modbus_cache *c, unsigned point);
/* value: of the point's bits. */
void modbus_cache_set(struct modbus_cache *c, unsigned point, uint64_t value);

/* Cells from an address on. ret: false: one of them is not there. */
bool modbus_cache_read(const struct modbus_cache *c, uint8_t device_id, enum modbus_data_type type,
		       uint16_t address, unsigned quantity, uint16_t *ret_cells);

/* A master's wish; the cache does not change. */
struct modbus_cache_write {
	uint8_t device_id;
	enum modbus_data_type type;
	uint16_t address;
	unsigned quantity;
	const uint16_t *cells; /* as they shall be */
	uint16_t bits;         /* of each cell, those that are written */
};
struct modbus_cache_hit {
	unsigned point;
	uint64_t value; /* the whole of it, as it would be */
};
/* ret: the points with a bit that is written, in their order; hits: modbus_cache_count() of them.
 * ERR_NOENT: a cell is not there. */
int modbus_cache_hits(const struct modbus_cache *c, const struct modbus_cache_write *w,
		      struct modbus_cache_hit *ret_hits);
