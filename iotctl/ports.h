/* ports.h - who listens on a port of this machine, as /proc tells it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

struct listener {
	unsigned long inode;
	uid_t uid;
};

/* Find in a table (/proc/net/tcp or tcp6) who listens on port where `address` (numeric) would
 * listen, too. */
bool ports_find(FILE *table, const char *address, unsigned port, struct listener *ret);
/* The same in both tables of this machine. */
bool ports_look(const char *address, unsigned port, struct listener *ret);
/* The process that has the socket, as far as we may see: its own ones, or for root all. ret: pid,
 * 0: unknown; name: of it. */
pid_t ports_holder(const struct listener *of, char *name, size_t cap);
/* Whether nobody could listen there, because somebody does. address: numeric. */
bool port_is_taken(const char *address, unsigned port);
