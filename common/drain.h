/* drain.h - read and discard what a client still sends after its final answer.
 *
 * Closing a socket with unread input makes the kernel reset the connection, and the client may lose
 * the answer it was about to read (413, say). A drain keeps a duplicate of the descriptor, discards
 * input until the client closes, for a few seconds and megabytes, then closes. Bounded in number:
 * past that the reset is what it is.
 */
#pragma once

#include "common/loop.h"

struct drain;

struct drain *drain_new(struct loop *l);   /* NULL: out of memory */
struct drain *drain_free(struct drain *g); /* closes all; NULL is fine */
/* fd: duplicated, stays the caller's. */
void drain_add(struct drain *g, int fd);
