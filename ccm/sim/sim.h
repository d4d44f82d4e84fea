/* sim.h - devices that stand in for real ones while a project's simulation is on (spec ccm 5.5).
 *
 * Each object of such a project that has no real device gets one of its model, which csm knows like any other; it says for which object
 * it stands and is bound by that (drive/devices.h). Not with [gui-simtalk] simtalk-endpoint: then somebody else simulates.
 */
#pragma once

#include "ccm/ccm.h"
#include "ccm/op.h"

struct sim;

int sim_new(struct ccm *ccm, struct sim **ret, struct err *err);
/* Stops and deregisters them all; takes up to three seconds, in which the loop goes on. NULL is fine; returns NULL. */
struct sim *sim_free(struct sim *s);
/* csm is there: start those of all projects, and deregister those that nobody needs any more. */
void sim_begin(struct ccm *ccm);
/* An effect: a project's simulation, objects or bindings may have changed; look, start and stop. */
void sim_touch(struct ccm *ccm, int64_t p_id);
