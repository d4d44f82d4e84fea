/* dial.h - one TCP connection being made, without blocking the loop.
 *
 * Numeric addresses and localhost need no resolver; other names are looked up on a short-lived
 * thread. The addresses of a name are tried one after the other. Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"

struct dial;

/* fd: connected, non-blocking, with TCP_NODELAY, yours; -1: why tells what failed last. */
typedef void dial_fn(void *arg, int fd, const char *why);

/* Begin; fn is called once, in a later turn, and may call dial_free(). There is no time limit: that
 * is the caller's. ret: yours. */
int dial_new(struct loop *l, const char *host, unsigned port, dial_fn *fn, void *arg,
	     struct dial **ret, struct err *err);
/* Gives up if it is not done; NULL is fine; returns NULL. */
struct dial *dial_free(struct dial *d);
