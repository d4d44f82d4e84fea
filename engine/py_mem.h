/* py_mem.h - who holds how much of the interpreter's memory.
 *
 * Each block that the interpreter takes from the system (a block of more than 512 bytes, or an
 * arena of 1 MiB in which it keeps the smaller ones) counts for its owner from when it is taken
 * until it is given back, whoever uses it by then. The owner is the one that mem_enter() named: a
 * function while it runs, 0 for the engine itself. An arena counts for whom it was taken, though
 * others may put objects into it: the count of a function can be off by what the last arenas hold
 * of others.
 *
 * What a library takes by its own means (numpy's arrays, OpenSSL) is not seen: the address-space
 * limit is the backstop.
 *
 * One interpreter for each process, so there is one such account. Sanitized builds count every
 * object by itself.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whose turn it is; only mem_enter() and py_mem.c use it. */
extern struct mem_now {
	uint32_t owner;
	bool refused;
} mem_now;

/* Put the account beneath the interpreter: once, before Py_PreInitialize(). */
void mem_hook(void);

/* A new owner. ret: 0 or ERR_NOMEM. */
int mem_owner_new(uint32_t *ret);
/* What it still holds is the engine's from now on; the number is used again, for another. 0 is
 * fine. */
void mem_owner_free(uint32_t owner);
size_t mem_held(uint32_t owner);

/* No owner but 0 holds more than that; 0: no limit. */
void mem_set_quota(size_t bytes);
size_t mem_quota(void);

/* What is taken from now on is this owner's. ret: the owner until now, to go back to. */
static inline uint32_t mem_enter(uint32_t owner)
{
	uint32_t before = mem_now.owner;
	mem_now.owner = owner;
	if (owner != 0)
		mem_now.refused = false;
	return before;
}
/* True if something was refused for the quota's sake since mem_enter() named an owner, or since the
 * last call. */
bool mem_was_refused(void);
