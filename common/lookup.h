/* lookup.h - the addresses of a host's name, without blocking the loop: numeric ones and those of
 * localhost at once, those of other names on a short-lived thread. No more than LOOKUP_THREADS_MAX
 * are there at once, whatever becomes of those who ask: the others wait in line. Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <sys/socket.h>

#define LOOKUP_ADDRS_MAX   8
#define LOOKUP_HOST_MAX    255
#define LOOKUP_THREADS_MAX 256

struct lookup;

struct lookup_addrs {
	unsigned n;
	struct lookup_addr {
		struct sockaddr_storage addr;
		socklen_t len;
	} items[LOOKUP_ADDRS_MAX]; /* in the order of the system */
};

/* found: at least one; NULL: why tells. Called once, in a later turn; may call lookup_free(). */
typedef void lookup_fn(void *arg, const struct lookup_addrs *found, const char *why);

/* host is an address, or localhost (IPv4 first). port: what the addresses get; 0: none. */
bool lookup_numeric(const char *host, unsigned port, struct lookup_addrs *ret);
/* ret: yours. Errors: ERR_INVAL (too long for a name), ERR_NOMEM, ERR_SYS. */
int lookup_new(struct loop *l, const char *host, unsigned port, lookup_fn *fn, void *arg,
	       struct lookup **ret, struct err *err);
/* Gives up if it is not done: the thread ends by itself. NULL is fine; returns NULL. */
struct lookup *lookup_free(struct lookup *k);
