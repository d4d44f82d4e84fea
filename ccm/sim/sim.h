/* sim.h - devices that stand in for real ones while a project's simulation is on (spec ccm 5.5). */
#pragma once

#include "ccm/ccm.h"
#include "ccm/op.h"

struct sim;

int sim_new(struct ccm *ccm, struct sim **ret, struct err *err);
/* Stops and deregisters them all. NULL is fine; returns NULL. */
struct sim *sim_free(struct sim *s);
/* csm is there: start those of all projects. */
void sim_begin(struct ccm *ccm);
/* An effect: a project's simulation, objects or bindings may have changed; look, start and stop. */
void sim_touch(struct ccm *ccm, int64_t p_id);
