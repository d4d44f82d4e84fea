/* text.h - text of bounded length, in memory that is taken once: writing never allocates. */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct text {
	char *data; /* cap + 1 bytes, so there is always room for a NUL */
	size_t len, cap;
};

int text_init(struct text *t, size_t cap, struct err *err);
void text_done(struct text *t);

/* All of the put functions: false, and nothing written, if it does not fit. */
static inline bool text_put(struct text *t, const void *bytes, size_t n)
{
	if (n > t->cap - t->len)
		return false;
	memcpy(t->data + t->len, bytes, n);
	t->len += n;
	return true;
}
static inline bool text_puts(struct text *t, const char *s)
{
	return text_put(t, s, strlen(s));
}
static inline bool text_putc(struct text *t, char c)
{
	return text_put(t, &c, 1);
}
/* UTF-8 as a JSON string, quotes included. */
bool text_put_json(struct text *t, const char *utf8, size_t n);
/* The same without the quotes: a part of a string. */
bool text_put_json_part(struct text *t, const char *utf8, size_t n);

static inline void text_clear(struct text *t)
{
	t->len = 0;
}
static inline const char *text_str(struct text *t)
{
	t->data[t->len] = '\0';
	return t->data;
}

/* How many of the n bytes fit into max without cutting a character. */
size_t text_whole(const char *utf8, size_t n, size_t max);
/* Put s in front; what then is too long loses its end. */
void text_prepend(struct text *t, const char *s);
/* Set to the n bytes, leaving `spare` bytes free for text_prepend(). What is too long loses its
 * middle, never a part of a character. */
void text_set_bounded(struct text *t, const char *utf8, size_t n, size_t spare);
