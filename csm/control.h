/* control.h - what devices say on <uuid>/ctrl/i (spec iottalk-core 4). */
#pragma once

#include "csm/csm.h"

/* A message on a topic that ends in /ctrl/i. Anything that does not fit is dropped, counted, logged once a minute. */
void control_on_message(struct csm *csm, const struct bus_msg *m);
