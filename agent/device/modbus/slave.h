/* slave.h - the device type `modbus_slave`: masters read and write its points (gateway-devices
 * 2.2). */
#pragma once

#include "agent/device/driver.h"

extern const struct device_type modbus_slave_type;
