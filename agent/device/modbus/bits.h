/* bits.h - Modbus points as strings of bits over coils or registers, one unsigned integer each
 * (gateway-devices 2.1, "Data value model"), with the orders in which devices put bytes and words.
 *
 * Bits are counted from the start address upwards, inside a register from the most significant one
 * down; `offset` of them are skipped, the next `count` are the value, the first of them its most
 * significant. Cells, that is coils or registers, are uint16_t each as in pdu.h: a coil is 0 or 1.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MODBUS_BITS_MAX 64 /* of a value */

enum modbus_data_type {
	MODBUS_COIL,
	MODBUS_DISCRETE_INPUT,
	MODBUS_HOLDING_REGISTER,
	MODBUS_INPUT_REGISTER,
	MODBUS_QUEUE,
};

/* How whole registers make a number; A is the most significant byte. */
enum modbus_order {
	MODBUS_BIG,         /* ABCD: as the bits come */
	MODBUS_LITTLE,      /* DCBA */
	MODBUS_BIG_SWAP,    /* BADC: bytes changed places in each register */
	MODBUS_LITTLE_SWAP, /* CDAB: the last register is the most significant one */
};

/* Names as configured, NULL-terminated, in the order of the enums. */
extern const char *const modbus_data_type_names[];
extern const char *const modbus_order_names[];

/* Where a value is. */
struct modbus_bits {
	uint32_t offset;  /* bits skipped */
	uint16_t address; /* the first cell, before the bits skipped */
	uint8_t type;     /* enum modbus_data_type */
	uint8_t order; /* enum modbus_order; not MODBUS_BIG only if the value is whole registers */
	uint8_t count; /* bits of the value, 1 to MODBUS_BITS_MAX */
};

/* Bits of one cell: 1 or 16. */
unsigned modbus_cell_bits(enum modbus_data_type type);
/* Cells from the address on, those skipped included. */
uint32_t modbus_bits_cells(const struct modbus_bits *b);
/* The largest value: all bits 1. */
uint64_t modbus_bits_max(const struct modbus_bits *b);
/* An order other than MODBUS_BIG fits: no bits skipped, whole registers. */
bool modbus_bits_whole(const struct modbus_bits *b);

/* cells: modbus_bits_cells() of them, the one of the address first. */
uint64_t modbus_bits_get(const struct modbus_bits *b, const uint16_t *cells);
/* Put a value in; other bits stay. */
void modbus_bits_set(const struct modbus_bits *b, uint64_t value, uint16_t *cells);
/* Which bits of the cell with this index (0: that of the address) are the point's; 0: none. */
uint16_t modbus_bits_mask(const struct modbus_bits *b, uint32_t index);
