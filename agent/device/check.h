/* check.h - one device of the file: which type it is, and whether it has what the type's tables
 * say.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/field.h"
#include <jansson.h>

/* The device's `type`, `module`, or the type of its template (NULL: it has none). ret: one that
 * this build has; NULL: told to p. */
const struct device_type *check_type(const json_t *device, const char *of_template,
				     struct problems *p);
/* Its fields, what the type looks at besides, and its points. Sets defaults. ret: 0, ERR_SCHEMA
 * (told), ERR_NOMEM. */
int check_device(const struct device_type *type, json_t *device, struct problems *p);
