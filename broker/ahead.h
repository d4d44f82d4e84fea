/* ahead.h - whether mosquitto has more to do already. It waits in one epoll instance, which can
 * itself be polled: while there are events in it the next turn follows at once, and engines need
 * neither be woken for each message nor be told that we sleep. */
#pragma once

#include <stdbool.h>

/* The instance that watches listening TCP sockets, of the first descriptors of the process. ret: its
 * descriptor, not yours to close; -1: there is none, or more than one (another plugin may have a
 * server of its own). Once, when the broker turns. */
int ahead_find(void);
/* Whether the next wait on it will end at once. -1: false. */
bool ahead_events(int epoll_fd);
