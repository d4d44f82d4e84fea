#include "common/shortage.h"

#include <stdatomic.h>
#include <stdlib.h>

static atomic_ulong count; /* of the process, as jansson's allocator is */

static void *counted_malloc(size_t size)
{
	void *p = malloc(size);
	if (p == NULL)
		count++;
	return p;
}

void shortage_watch_json(void)
{
	json_set_alloc_funcs(counted_malloc, free);
}

unsigned long shortage_count(void)
{
	return count;
}

char *shortage_dumps(const json_t *value)
{
	unsigned long before = count;
	char *text = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	if (count == before)
		return text;
	free(text);
	return NULL;
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
