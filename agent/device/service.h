/* service.h - the device service of the gateway-agent: devices of the field, each of them on the
 * event bus and in IoTtalk (gateway-devices; docs/devices.rst). Loop thread only.
 */
#pragma once

#include "common/ctl.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct devices;

struct devices_status {
	size_t devices, running, failed;
	bool bus; /* the event bus is reached */
	/* Why the bus is not reached; why there are no devices: the file is wrong; "". Borrowed for
	 * this turn. */
	const char *bus_why, *why;
	uint64_t backlog, dropped;
};

/* path: the device file. A file that is wrong is no error here: all that is wrong is logged, and
 * the status says so; a reload looks again. ret: yours. */
int devices_new(struct loop *l, const struct settings *settings, const char *path,
		struct devices **ret, struct err *err);
struct devices *devices_free(struct devices *d);

/* What the devices tell IoTtalk waits, as view_hold() has it. Not at first. */
void devices_hold_values(struct devices *d, bool held);

void devices_get_status(const struct devices *d, struct devices_status *ret);
/* For the page of metrics; a new object of names and numbers. */
json_t *devices_counters(const struct devices *d);

/* Ops of the control socket: device_list, device_show, device_enable, device_disable, device_read,
 * device_write, device_reload. Rows for the agent's table; arg is the devices. */
void devices_on_list(struct devices *d, json_t *request, struct ctl_call *call);
void devices_on_show(struct devices *d, json_t *request, struct ctl_call *call);
void devices_on_enable(struct devices *d, json_t *request, struct ctl_call *call);
void devices_on_disable(struct devices *d, json_t *request, struct ctl_call *call);
void devices_on_read(struct devices *d, json_t *request, struct ctl_call *call);
void devices_on_write(struct devices *d, json_t *request, struct ctl_call *call);
void devices_on_reload(struct devices *d, json_t *request, struct ctl_call *call);
