/* conf_share.h - the trees of a device file in little memory. For conf_read.c only. */
#pragma once

#include "agent/device/conf.h"

/* What the device has in common with the last one before it of its type is one value for both:
 * devices of one kind mostly hold the same lists of points. Nothing changes them any more. */
void conf_share(const struct devices_conf *c, const struct device_conf *d);
