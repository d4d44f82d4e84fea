/* doc.h - pages about device types, made of the tables that check device files: docs/devices.rst
 * and `iotctl device doc`. reStructuredText.
 */
#pragma once

#include "agent/device/driver.h"
#include <stdio.h>

/* The section of one type; of one that this build has not: a line that says so. */
void doc_type(const struct device_type *type, FILE *out);
/* All: the device file, what every device has, templates, and the types. */
void doc_all(FILE *out);
