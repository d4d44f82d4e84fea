/* device.h - one simulated device: registers with csm, pushes values of its features every second, leaves. */
#pragma once

#include "ccm/ccm.h"
#include "dan/dan.h"

struct sim_device;

struct sim_device_conf {
	struct fetch *fetch;
	const char *csm_url;
	const char *id;
	json_t *profile; /* borrowed for the call */
	/* [{name, input: bool, params: [{param_type, min, max}]}]; referred to as long as the device lives */
	json_t *features;
};

/* It has left csm, or could not; called once, in a turn after that of sim_device_leave(). The device may be freed in it. */
typedef void sim_gone_fn(void *arg);
int sim_device_new(struct ccm *ccm, const struct sim_device_conf *conf, struct sim_device **ret, struct err *err);
/* NULL is fine; returns NULL. Keeps the registration unless it has left. */
struct sim_device *sim_device_free(struct sim_device *s);
/* Not twice. */
void sim_device_leave(struct sim_device *s, sim_gone_fn *gone, void *arg);
bool sim_device_is_online(const struct sim_device *s);
/* A value for each parameter of each input feature that takes part in a graph. */
void sim_device_push(struct sim_device *s);

/* One value of a parameter {param_type, min, max}; equal ends: no range. NULL: out of memory. */
json_t *sim_value(const json_t *param);
