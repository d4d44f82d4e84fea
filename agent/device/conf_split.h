/* conf_split.h - the devices of a device file's text one after the other, without a look at what is
 * in them: each can be read for itself then. What is no JSON is not found here: it is wherever it
 * was, in the text of a device or in the rest. For conf_read.c only.
 */
#pragma once

#include "agent/device/file.h"
#include <stdbool.h>
#include <stddef.h>

struct split {
	const char *text; /* borrowed */
	size_t len;
	size_t head; /* bytes up to the first device */
	size_t tail; /* where the text goes on after the last one that was found */
	size_t n;    /* how many were found */
};

void split_begin(struct split *s, const char *text, size_t len);
/* The next object in the list `devices`: where, and how long. ret: false: what follows is none. */
bool split_next(struct split *s, size_t *ret_at, size_t *ret_len);
/* The text with `{}` for all that were found. ret: yours; NULL: out of memory. */
char *split_rest(const struct split *s, size_t *ret_len);
/* place: of what is wrong in that rest, and then in the text. ret: it is behind the devices. */
bool split_place(const struct split *s, const char *rest, struct place *place);
