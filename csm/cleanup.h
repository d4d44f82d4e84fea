/* cleanup.h - retained messages of deregistered devices, cleared a while later (spec iottalk-core 3, DELETE). */
#pragma once

#include "csm/csm.h"

/* Take up what an earlier run left to do. */
int cleanup_load(struct csm *csm, struct err *err);
void cleanup_schedule(struct csm *csm, const char *device_id);
/* The device is back: its retained messages are its own again. */
void cleanup_cancel(struct csm *csm, const char *device_id);
