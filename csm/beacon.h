/* beacon.h - the discovery beacon: says by UDP broadcast that this server is here, and answers who asks (spec iottalk-core 8).
 *
 * Off unless [core] beacon = true. Answers go to the sender alone and are limited, in all and for each address: whoever forges senders cannot
 * make much of us.
 */
#pragma once

#include "csm/csm.h"

struct beacon;

/* *ret is NULL if the settings leave it off. Errors: the port cannot be had. */
int beacon_start(struct csm *csm, struct beacon **ret, struct err *err);
struct beacon *beacon_stop(struct beacon *b); /* NULL is fine; returns NULL */
