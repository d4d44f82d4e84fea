/* master.h - the device type modbus_master: polls and writes the points of the remote devices of
 * one connection (gateway-devices 2.1).
 */
#pragma once

#include "agent/device/driver.h"

extern const struct device_type modbus_master_type;
