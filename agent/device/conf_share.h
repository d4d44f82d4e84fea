/* conf_share.h - the trees of a device file in little memory. For conf.c only. */
#pragma once

#include "agent/device/conf.h"

/* What the device has in common with the last one before it of its type is one value for both:
 * devices of one kind mostly hold the same lists of points. Nothing changes them any more. */
void conf_share(const struct devices_conf *c, const struct device_conf *d);
/* Copy what each device has for itself: in between lay the lists that it shares now, and little of
 * their memory could be used for anything else. list: the file's, of just these devices. */
void conf_compact(struct devices_conf *c, json_t *list);
