/* file.h - JSON files that people write: device files and templates. */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stddef.h>

#define FILE_BYTES_MAX (64u << 20)

/* A text as JSON, in which no object says a key twice. Errors: ERR_PARSE (line and column in err),
 * ERR_NOMEM. */
int file_parse_json(const char *text, size_t len, json_t **ret, struct err *err);
/* ret: yours. Errors: ERR_NOENT, ERR_PARSE, ERR_LIMIT (larger than FILE_BYTES_MAX), ERR_NOMEM, and
 * others of open(2); err names the file. */
int file_load_json(const char *path, json_t **ret, struct err *err);
/* The text of a regular file of at most max bytes; a NUL follows it. ret: yours. */
int file_load(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err);
