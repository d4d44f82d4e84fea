/* sandbox.h - the walls around user code: what this process can do once sandbox_close() has
 * returned is compute, and read and write the descriptors it has.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>

/* Before anything is loaded: forget the environment, /dev/null as standard input, close all
 * descriptors from first_free on. */
int sandbox_tidy(int first_free, struct err *err);

/* Close the walls: rlimits, no_new_privs, not dumpable, seccomp. memory_bytes: address space; must
 * leave room above what is in use. Refuses to go on (an error) if any layer cannot be put up. */
int sandbox_close(size_t memory_bytes, unsigned descriptors, struct err *err);

/* Whether `bytes` more of address space could be had. */
bool sandbox_memory_left(size_t bytes);
