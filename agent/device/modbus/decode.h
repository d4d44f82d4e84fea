/* decode.h - what a block of registers may mean: for people who have a device and no map of it. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Rows {"address": of the first register, "type", "order", "value"}, by address: of every register
 * uint16, int16 (orders AB and BA), bits ("0001001000110100") and ascii; of every two and every
 * four that follow each other uint32, int32, float32 and uint64, int64, float64 in the orders ABCD,
 * CDAB, BADC and DCBA, A being the most significant byte. value: a number; a string of decimal
 * digits beyond 53 bits; null of a float that is none. The last rows are the ascii of all, in both
 * orders of bytes, '.' where a byte is none. ret: yours; NULL: out of memory. */
json_t *modbus_decode(unsigned address, const uint16_t *words, size_t n);
