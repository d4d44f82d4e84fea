/* lines.h - what an engine prints, line by line to the log as event engine.output.
 *
 * At most 20 lines a second; the rest is counted and the count is logged with the next line that is
 * let through. At most 256 KiB a second are read: who prints more finds its pipe full, and pays for it
 * alone. Control characters and broken UTF-8 are replaced, long lines are cut.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"

struct lines;

/* Watch fd (taken, also on failure; non-blocking). stream: "stdout" or "stderr", a literal. ret:
 * yours. */
int lines_new(struct loop *l, int fd, const char *stream, struct lines **ret, struct err *err);
/* Logs what is still there, then closes. NULL is fine; returns NULL. */
struct lines *lines_free(struct lines *s);
