/* figures.h - what graphs have done, gathered from engines and transport for people to read
 * (docs/engines.rst). Private to agent/graph.
 */
#pragma once

#include "agent/graph/pool.h"

/* The engine of a place is gone, or the place itself: it will not answer. */
void figures_fell(struct place *p);
void figures_done(struct place *p);
/* Whoever waits hears what is known. */
void figures_free(struct service *s);
