/* pidfile.h - which process is the one: a file with its pid, locked for as long as the process
 * lives.
 *
 * The lock is what counts (the kernel drops it with the process); the number in the file only says
 * who holds it. It is a lock of the open file description: asking does not take it, and a program
 * that knows nothing of it can inherit it over exec.
 */
#pragma once

#include "common/err.h"
#include <sys/types.h>

/* Lock path for pid and write its number there. ret_fd: keeps the lock while open, close-on-exec.
 * Async-signal-safe, so it may be used between fork and exec. ret: 0, ERR_BUSY (another process
 * holds it) or -errno. */
int pidfile_lock(const char *path, pid_t pid, int *ret_fd);
/* The same for a program that is executed next and knows nothing of it: the descriptor stays open
 * over exec and cannot be written, so that program, if it runs as somebody else, cannot put another
 * pid there. Async-signal-safe. */
int pidfile_lock_for_exec(const char *path, pid_t pid);
/* Who holds the lock. ret: a pidfd of that process, close-on-exec, and *ret_pid; ERR_NOENT: nobody;
 * or -errno. */
int pidfile_owner(const char *path, pid_t *ret_pid);
