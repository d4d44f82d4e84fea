/* files.h - files that must be there after a power cut too. All of it blocks. */
#pragma once

#include "common/err.h"
#include <stddef.h>

/* Bring the directory that path lies in to disk: names that were given or taken are lasting then.
 */
int files_sync_dir(const char *path, struct err *err);
/* Write a small file of mode 0600 whole, or leave what was there: aside, to disk, renamed,
 * directory to disk. */
int files_save(const char *path, const void *data, size_t len, struct err *err);
