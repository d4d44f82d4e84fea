/* ctl_addr.h - socket addresses of paths of any length. */
#pragma once

#include "common/err.h"
#include <sys/socket.h>
#include <sys/un.h>

/* Socket addresses are short (108 bytes), paths are not: go through the descriptor of the
 * directory. ret: that descriptor, to be kept open until bind() or connect() is done. */
int ctl_address(const char *path, struct sockaddr_un *ret, struct err *err);
