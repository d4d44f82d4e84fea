/* file.h - JSON files that people write: device files and templates. */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define FILE_BYTES_MAX (64u << 20)

/* Digits that two texts have in common only if they are the same. */
#define FILE_DIGEST_LEN 32
void file_digest(const char *text, size_t len, char *buf); /* buf: FILE_DIGEST_LEN + 1 */

/* How people find a place of a text: from line 1 and column 0 on, columns in characters. */
struct place {
	size_t line, column;
};

struct place file_place(const char *text, size_t at);
bool file_is_before(struct place a, struct place b);
/* Of what is at `inner` in a part of a text that begins at `start` of it. */
struct place file_place_within(struct place start, struct place inner);
/* Put it before what err says. */
void file_tell_place(struct place place, struct err *err);

/* A text as JSON, in which no object says a key twice. ret: yours. Errors: ERR_PARSE (err says
 * what, ret_place where), ERR_NOMEM. */
int file_parse_json(const char *text, size_t len, json_t **ret, struct place *ret_place,
		    struct err *err);
/* digest: of the file's text. ret: yours. Errors: ERR_NOENT, ERR_PARSE, ERR_LIMIT (larger than
 * FILE_BYTES_MAX), ERR_NOMEM, and others of open(2); err names the file, and where it is wrong. */
int file_load_json(const char *path, json_t **ret, char *digest, struct err *err);
/* The text of a regular file of at most max bytes; a NUL follows it. ret: yours. */
int file_load(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err);
