/* modbus_points.h - the rows of `data[]` that tell where a point is, for master and slave
 * (gateway-devices 2.1, 2.2).
 *
 * A point's object is one of several kinds, by its data_type; inner of the list is point_fields,
 * and the rows here are what the kinds have: MODBUS_POINT_ROWS and, where cells are registers,
 * MODBUS_ORDER_ROW, after those that only a master or a slave has.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/field.h"
#include "agent/device/modbus/bits.h"
#include <jansson.h>

/* clang-format off */
#define MODBUS_POINT_ROWS                                                                          \
	{.name = "name",                                                                           \
	 .type = FIELD_STR,                                                                        \
	 .help = "Name of the point: in the topics of its events, and its features are named after it."}, \
	{.name = "start_address",                                                                  \
	 .type = FIELD_INT,                                                                        \
	 .max = 65535,                                                                             \
	 .help = "First coil or register, counted from 0."},                                       \
	{.name = "bit_offset",                                                                     \
	 .type = FIELD_INT,                                                                        \
	 .max = 1048575,                                                                           \
	 .def = "0",                                                                               \
	 .help = "Bits to skip from there, in a register from the most significant one down."},    \
	{.name = "bit_count",                                                                      \
	 .type = FIELD_INT,                                                                        \
	 .min = 1,                                                                                 \
	 .max = MODBUS_BITS_MAX,                                                                   \
	 .help = "Bits of the value, the first of them the most significant."}

#define MODBUS_ORDER_ROW                                                                           \
	{.name = "order",                                                                          \
	 .type = FIELD_ENUM,                                                                       \
	 .names = modbus_order_names,                                                              \
	 .def = "\"big\"",                                                                         \
	 .help = "Order of bytes, if the value is whole registers: ``big`` is ABCD, ``little`` DCBA, " \
		 "``big_swap`` BADC, ``little_swap`` CDAB (A the most significant byte)."}
/* clang-format on */

/* Where a checked point is. */
void modbus_bits_parse(const json_t *point, struct modbus_bits *ret);
/* What the rows cannot say: a value beyond the last address; an order of what is not whole
 * registers. The point's rows have been checked, without an error. */
void modbus_bits_check(const json_t *point, struct problems *p);
/* Index of a text in a NULL-terminated list; -1: not there. */
int modbus_name_index(const char *const *names, const char *name);
