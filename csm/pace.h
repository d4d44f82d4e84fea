/* pace.h - commands to devices at most so many a second: when a broker comes back, or a graph of hundreds of links is made, devices
 * and broker are not flooded.
 *
 * What comes too early waits in order of arrival. A tenth of a second's worth may go at once. Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stdint.h>

struct pace;

/* Embedded in what waits; zero at first. */
struct paced {
	struct paced *prev, *next;
	bool waiting;
};

/* rate: a second's worth; borrowed, read anew each time. send: called when it is an item's turn; it waits no longer then. ret: yours. */
int pace_new(struct loop *loop, const int64_t *rate, void (*send)(struct paced *item), struct pace **ret, struct err *err);
struct pace *pace_free(struct pace *p); /* what waits is forgotten; NULL is fine; returns NULL */

/* Send it, at once or when it is its turn. One that waits keeps its place. */
void pace_ask(struct pace *p, struct paced *item);
/* It is not to be sent, or was sent without asking. One that does not wait is fine. */
void pace_leave(struct pace *p, struct paced *item);
