/* logfile.h - the log files of the daemons: userdir/log/<name>.log and, one generation back,
 * <name>.log.1. */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define LOG_ROTATE_BYTES (10 * 1024 * 1024)

/* Open for appending; close-on-exec. ret: descriptor or negative. */
int logfile_open(const char *path, struct err *err);
/* Once the file is larger than max_bytes, its content becomes path.1 and the file starts anew. Its
 * writers have it open for appending and notice nothing; a line written in the very moment of the
 * change may be lost. ret: 1 rotated, 0, negative. */
int logfile_rotate(const char *path, off_t max_bytes, struct err *err);
/* The last lines (at most max_lines, and of at most 16 KiB) written at or after `from`: a new list
 * of strings. NULL: out of memory. */
json_t *logfile_tail(const char *path, off_t from, unsigned max_lines);
/* Size now; 0: no such file. */
off_t logfile_size(const char *path);
/* Copy what was written since *at to fd and move *at. */
void logfile_follow(const char *path, off_t *at, int fd);
