/* master_type.h - what the device type modbus_master says of itself: its rows, checks, points and
 * page. */
#pragma once

#include "agent/device/driver.h"

extern const char master_help[], master_example[];
extern const struct field master_fields[];

void master_check(const json_t *conf, struct problems *p);
int master_points(const json_t *conf, struct point_list *ret, struct err *err);
