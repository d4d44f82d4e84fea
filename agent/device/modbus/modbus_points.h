/* modbus_points.h - the rows of `data[]` that master and slave share: where a point is
 * (gateway-devices 2.1, 2.2).
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/field.h"
#include "agent/device/modbus/bits.h"
#include <jansson.h>
#include <stdbool.h>

/* name, data_type, start_address, bit_offset, bit_count, order, and the rows of point_fields: to
 * stand in a table as FIELD_ROWS. */
extern const struct field modbus_point_fields[];

/* Where a checked point is. */
void modbus_bits_parse(const json_t *point, struct modbus_bits *ret);
/* What the rows cannot say: a value beyond the last address; an order of what is not whole
 * registers. point: its rows have been checked, without an error. ret: none was found. */
bool modbus_bits_check(const json_t *point, struct problems *p);
/* Values in events: an integer; a string of decimal digits from 2^63 on, where JSON integers of
 * many end. Both are read. modbus_value_json(): new; NULL: out of memory. modbus_value_parse():
 * errors: ERR_SCHEMA, ERR_RANGE (more bits than the point has). */
json_t *modbus_value_json(uint64_t value);
int modbus_value_parse(const json_t *json, const struct modbus_bits *b, uint64_t *ret,
		       struct err *err);
/* Index of a text in a NULL-terminated list; -1: not there. */
int modbus_name_index(const char *const *names, const char *name);
