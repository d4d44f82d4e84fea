/* types.h - the device types that this build has; their rows are with their drivers. */
#pragma once

#include "agent/device/driver.h"

extern const struct device_type modbus_master_type, modbus_slave_type, ping_type;
