/* modbus_line.h - what a serial line must be for Modbus, of a master and of a slave
 * (gateway-devices 1.7, 3.13).
 */
#pragma once

#include "agent/device/field.h"
#include <jansson.h>

/* What the rows of a serial block cannot say, for this modbus_type: serial_check(), and characters
 * that are too short for the framing. */
void modbus_line_check(const json_t *block, const char *modbus_type, struct problems *p);
