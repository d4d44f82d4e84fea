/* conf.h - the device file (gateway-devices 1.6): read, checked as a whole, templates put in.
 *
 * A device may name a template (template.h). Devices that are alike share what they have of JSON,
 * which nobody changes: many of them with the same points take the room of one.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/field.h"
#include "common/err.h"
#include "common/settings.h"
#include <jansson.h>

/* One device as it is to run. */
struct device_conf {
	const struct device_type *type;
	const char *name; /* in json */
	json_t *json;     /* owned: checked, with defaults, template put in; not to be changed */
};

struct devices_conf {
	json_t *json;     /* the whole file; owned */
	const char *name; /* of the gateway, and so on: in json */
	const char *mqtt_host;
	unsigned mqtt_port;
	const char *username;
	char *password; /* of password_file; owned; NULL: none */
	const char *csm_url;
	double bus_loss_grace_s, sync_timeout_s;
	struct device_conf *devices;
	size_t n;
};

/* Rows of the whole file, and of what every device has (type, name, restart_delay, store,
 * template); docs are made of them. */
extern const struct field devices_fields[];
extern const struct field device_fields[];

/* Read and check. settings: where the broker and csm are if the file does not say. All that is
 * wrong and odd goes to p. ret: 0; ERR_NOENT and others of open(2), ERR_LIMIT (more than 64 MiB),
 * ERR_PARSE (with line and column), all in err and in p; ERR_SCHEMA (in p), ERR_NOMEM.
 * devices_conf_done() in any case. */
int devices_conf_load(const char *path, const struct settings *settings, struct devices_conf *ret,
		      struct problems *p, struct err *err);
/* Of a text; dir: where `password_file` and templates of the file are relative to. For tests,
 * fuzzing. */
int devices_conf_parse(const char *text, size_t len, const char *dir,
		       const struct settings *settings, struct devices_conf *ret,
		       struct problems *p, struct err *err);
void devices_conf_done(struct devices_conf *c);
