/* wake.h - how the broker's thread is told that there is something to do before its wait ends by
 * itself (100 ms).
 *
 * Descriptors in signal-driven mode interrupt mosquitto's epoll_wait with SIGIO, which it does not
 * block; the tick follows. A signal that comes just before the wait begins would be missed, so
 * unless it has ended a wait its handler starts a timer that repeats it until the next turn stops
 * it. Nothing here allocates or blocks. One user per process, for signals belong to the process:
 * the broker's thread.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>

/* On the broker's thread, and not before it is known that it turns: nobody else would stop the
 * timer. Errors: ERR_SYS, ERR_BUSY (somebody else uses SIGIO); then everything goes on at the
 * pace of mosquitto's ticks. */
int wake_start(struct err *err);
void wake_stop(void); /* nothing interrupts any more; SIGIO is ignored from now on */

/* Let input on fd wake the broker; it becomes non-blocking. Without wake_start() that is all. */
int wake_watch(int fd, struct err *err);
/* The description of fd may be somebody else's as well: leave it as quiet as it was. */
void wake_unwatch(int fd);

/* A turn begins. ret: true if a watched descriptor may have something. */
bool wake_turn(void);
/* The next turn seems to follow at once, so nobody was told to wake us: see to it that it does, within
 * 2 ms. Cheap from turn to turn, until wake_rest(): a turn ends of which that is not so. */
void wake_guard(void);
void wake_rest(void);
/* There is more to do than this turn had time for: the next one shall come soon. */
void wake_soon(void);
