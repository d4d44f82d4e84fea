#include "common/shortage.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* For what nobody else gives: not touched, hence no memory, until it is needed. Twice the largest
 * message and a copy fit. */
#define RESERVE_BYTES (4u << 20)
#define ALIGN         16

static unsigned long count;
static _Alignas(ALIGN) char reserve[RESERVE_BYTES];
static size_t used; /* bytes */

/* Before each piece of the reserve. Pieces stand in the order they were taken. What is given back
 * is free again when all that was taken after it is: values that live long hold nothing but
 * themselves. */
struct piece {
	_Alignas(ALIGN) struct piece *before; /* NULL: the first */
	bool given_back;
};
static struct piece *last;

static void *counted_malloc(size_t size)
{
	void *p = malloc(size);
	if (p != NULL)
		return p;
	count++;
	if (size > RESERVE_BYTES - used || sizeof(*last) + ALIGN > RESERVE_BYTES - used - size)
		return NULL;
	struct piece *piece = (struct piece *)(reserve + used);
	*piece = (struct piece){.before = last};
	last = piece;
	used += sizeof(*piece) + ((size + ALIGN - 1) & ~(size_t)(ALIGN - 1));
	return piece + 1;
}

static void counted_free(void *p)
{
	char *at = p;
	if (at < reserve || at >= reserve + RESERVE_BYTES) {
		free(p);
		return;
	}
	((struct piece *)p - 1)->given_back = true;
	for (; last != NULL && last->given_back; last = last->before)
		used = (size_t)((char *)last - reserve);
}

void shortage_watch_json(void)
{
	json_set_alloc_funcs(counted_malloc, counted_free);
}

unsigned long shortage_count(void)
{
	return count;
}

char *shortage_dumps(const json_t *value)
{
	unsigned long before = count;
	char *text = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	json_free_t free_text;
	json_get_alloc_funcs(NULL, &free_text);
	bool whole = count == before;
	if (whole && (free_text == free || free_text == counted_free))
		return text; /* no text lives in the reserve: one that was short is not whole */
	char *copy = whole && text != NULL ? strdup(text) : NULL;
	free_text(text);
	return copy;
}

json_t *shortage_copy(const json_t *value)
{
	unsigned long before = count;
	json_t *copy = json_deep_copy(value);
	if (count == before)
		return copy;
	json_decref(copy);
	return NULL;
}
