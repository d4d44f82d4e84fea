/* pieces.h - memory for what comes in bursts and lives shortly, apart from all else: among things
 * that stay it would leave holes that nothing fits into. What is empty goes back to the system.
 * Loop thread only.
 */
#pragma once

#include <stddef.h>

struct pieces;

/* ret: yours, empty; NULL: out of memory. */
struct pieces *pieces_new(void);
/* All pieces were given back. NULL is fine; returns NULL. */
struct pieces *pieces_free(struct pieces *p);
/* p NULL: a piece like any other of malloc(). ret: NULL: out of memory. */
void *pieces_take(struct pieces *p, size_t size);
/* p, size: as it was taken. NULL is fine. */
void pieces_give(struct pieces *p, void *piece, size_t size);
