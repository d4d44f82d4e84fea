/* template.h - templates of devices: a JSON file for each type of meter or PLC that a device file
 * may name instead of writing its register map again (docs/devices.rst, "Templates").
 *
 *	{"template": "NAME", "version": 1, "title": "...", "type": "modbus_master",
 *	 "vendor": "...", "notes": "...", "device": {...}}
 *
 * is in NAME.json, or NAME@1.json for a version beside a newer one. What its `device` has is the
 * device's, unless the device says otherwise: objects are put together key by key, lists of objects
 * item by item (the same `name`, or, without names, the same `device_id`); else the device's value
 * is taken. A device, or one of its remote devices, names a template by `template` ("NAME" or
 * "NAME@VERSION"), beside it `device_id` for the template's remote device and `prefix` for the
 * names of its points.
 */
#pragma once

#include "agent/device/field.h"
#include <jansson.h>

/* Those that were read, each once. */
struct templates;

extern const struct field template_fields[];

/* dir: where the device file is; its folder `templates` is looked into first, then the one that
 * lies with the programs. Copied. ret: yours; NULL: out of memory. */
struct templates *templates_new(const char *dir);
struct templates *templates_free(struct templates *t);
/* Whether their files hold what they held when they were read; reads them. */
bool templates_same(const struct templates *t);

/* Put in what a device (its path is entered in p) and its remote devices name. ret_device: a new
 * reference: the device itself, if it names none, or one that shares what it took; kept as it is,
 * apart from defaults that its table sets. ret_type: that of the template; NULL: none; borrowed of
 * t. ret: 0, ERR_SCHEMA (told to p), ERR_NOMEM. */
int templates_apply(struct templates *t, json_t *device, struct problems *p, json_t **ret_device,
		    const char **ret_type);
