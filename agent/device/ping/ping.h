/* ping.h - the device type `ping`: which hosts answer echo requests (gateway-devices 2.10). */
#pragma once

#include "agent/device/driver.h"

extern const struct device_type ping_type;
