#include "agent/device/conf_split.h"
#include <stdlib.h>
#include <string.h>

#define LIST     "\"devices\""
#define STAND_IN "{}" /* for all devices that were found */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(const struct split *s, size_t at)
{
	while (at < s->len && is_space(s->text[at]))
		at++;
	return at;
}

/* at: behind the quote that begins it. ret: behind the one that ends it, or the end of the text. */
static size_t skip_string(const struct split *s, size_t at)
{
	while (at < s->len && s->text[at] != '"')
		at += s->text[at] == '\\' ? 2 : 1;
	return at < s->len ? at + 1 : s->len;
}

/* An object, a list or a string; of what else there is a byte. ret: behind it; 0: it has no end. */
static size_t skip_value(const struct split *s, size_t at)
{
	size_t depth = 0;

	while (at < s->len) {
		char c = s->text[at++];

		if (c == '"')
			at = skip_string(s, at);
		else if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
		if (depth == 0)
			return at;
	}
	return 0;
}

static bool stands(const struct split *s, size_t at, char c)
{
	return at < s->len && s->text[at] == c;
}

/* ret: where its first item would be; 0: the file has no such list. */
static size_t find_list(const struct split *s)
{
	size_t at = skip_space(s, 0);

	if (!stands(s, at, '{'))
		return 0;
	for (at++; at > 0 && at < s->len;) {
		size_t key = at;

		at = skip_value(s, at);
		if (at - key != strlen(LIST) || memcmp(s->text + key, LIST, strlen(LIST)) != 0)
			continue;
		size_t value = skip_space(s, at);

		if (!stands(s, value, ':'))
			continue; /* a value with the same text */
		value = skip_space(s, value + 1);
		return stands(s, value, '[') ? value + 1 : 0;
	}
	return 0;
}

void split_begin(struct split *s, const char *text, size_t len)
{
	*s = (struct split){.text = text, .len = len};
	s->head = s->tail = find_list(s);
}

bool split_next(struct split *s, size_t *ret_at, size_t *ret_len)
{
	size_t at = skip_space(s, s->tail);

	if (s->head == 0 || (s->n > 0 && !stands(s, at, ',')))
		return false;
	if (s->n > 0)
		at = skip_space(s, at + 1);
	size_t end = stands(s, at, '{') ? skip_value(s, at) : 0;

	if (end == 0)
		return false;
	if (s->n++ == 0)
		s->head = at;
	s->tail = end;
	*ret_at = at;
	*ret_len = end - at;
	return true;
}

char *split_rest(const struct split *s, size_t *ret_len)
{
	const char *between = s->n > 0 ? STAND_IN : "";
	size_t n = strlen(between);
	char *rest = malloc(s->head + n + s->len - s->tail + 1);

	if (rest == NULL)
		return NULL;
	memcpy(rest, s->text, s->head);
	memcpy(rest + s->head, between, n);
	memcpy(rest + s->head + n, s->text + s->tail, s->len - s->tail);
	*ret_len = s->head + n + s->len - s->tail;
	rest[*ret_len] = '\0';
	return rest;
}

bool split_place(const struct split *s, const char *rest, struct place *place)
{
	struct place tail = file_place(rest, s->head + (s->n > 0 ? strlen(STAND_IN) : 0));

	if (file_is_before(*place, tail))
		return false;
	if (place->line == tail.line)
		place->column -= tail.column;
	place->line -= tail.line - 1;
	*place = file_place_within(file_place(s->text, s->tail), *place);
	return true;
}
