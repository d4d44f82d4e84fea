/* notify.h - hears what the daemons tell (sd_notify protocol) on a socket of the abstract
 * namespace. */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <sys/types.h>

struct notify;

enum notice { NOTICE_READY, NOTICE_ALIVE };

/* pid: of the sender, told by the kernel. */
typedef void notify_fn(void *arg, pid_t pid, enum notice notice);

int notify_new(struct loop *l, notify_fn *on_notice, void *arg, struct notify **ret,
	       struct err *err);
struct notify *notify_free(struct notify *n); /* NULL is fine */
/* The value of NOTIFY_SOCKET for the daemons; borrowed. */
const char *notify_address(const struct notify *n);
