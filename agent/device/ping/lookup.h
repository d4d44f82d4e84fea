/* lookup.h - the address of a host's name, without blocking the loop: numeric addresses and
 * localhost at once, other names on a short-lived thread. Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <sys/socket.h>

struct lookup;

struct lookup_address {
	struct sockaddr_storage addr;
	socklen_t len;
};

/* found: the first address, in the order of the system; NULL: none, why tells. Called once, in a
 * later turn; may call lookup_free(). */
typedef void lookup_fn(void *arg, const struct lookup_address *found, const char *why);

/* host is an address, or localhost (IPv4). */
bool lookup_numeric(const char *host, struct lookup_address *ret);
/* ret: yours. Errors: ERR_INVAL (no name: too long), ERR_NOMEM, ERR_SYS. */
int lookup_new(struct loop *l, const char *host, lookup_fn *fn, void *arg, struct lookup **ret,
	       struct err *err);
/* Gives up if it is not done: the thread ends by itself. NULL is fine; returns NULL. */
struct lookup *lookup_free(struct lookup *k);
