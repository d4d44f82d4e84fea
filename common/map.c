#include "common/map.h"

#include "common/err.h"
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct map_entry {
	const char *key;
	void *value;
};

struct map {
	void *root; /* tsearch() tree of struct map_entry */
	size_t count;
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct map_entry *)a)->key, ((const struct map_entry *)b)->key);
}

struct map *map_new(void)
{
	return calloc(1, sizeof(struct map));
}

struct map *map_free(struct map *m, void (*free_value)(void *value))
{
	if (m == NULL)
		return NULL;
	while (m->root != NULL) {
		struct map_entry *e = *(struct map_entry **)m->root;
		void *value = e->value;
		tdelete(e, &m->root, compare);
		free(e);
		if (free_value != NULL)
			free_value(value);
	}
	free(m);
	return NULL;
}

int map_add(struct map *m, const char *key, void *value)
{
	struct map_entry *e = malloc(sizeof(*e));
	if (e == NULL)
		return ERR_NOMEM;
	*e = (struct map_entry){.key = key, .value = value};
	struct map_entry **at = tsearch(e, &m->root, compare);
	if (at == NULL || *at != e) {
		free(e);
		return at == NULL ? ERR_NOMEM : ERR_EXIST;
	}
	m->count++;
	return 0;
}

static struct map_entry *find(const struct map *m, const char *key)
{
	struct map_entry probe = {.key = key};
	struct map_entry **at = tfind(&probe, &m->root, compare);
	return at != NULL ? *at : NULL;
}

void *map_find(const struct map *m, const char *key)
{
	struct map_entry *e = find(m, key);
	return e != NULL ? e->value : NULL;
}

void *map_remove(struct map *m, const char *key)
{
	struct map_entry *e = find(m, key);
	if (e == NULL)
		return NULL;
	void *value = e->value;
	tdelete(e, &m->root, compare);
	free(e);
	m->count--;
	return value;
}

void *map_first(const struct map *m)
{
	/* the root node begins with the pointer to its entry (tsearch(3)) */
	return m->root != NULL ? (*(struct map_entry **)m->root)->value : NULL;
}

size_t map_count(const struct map *m)
{
	return m->count;
}

struct walk {
	map_fn *fn;
	void *arg;
};

static void visit(const void *node, VISIT which, void *closure)
{
	if (which != postorder && which != leaf)
		return;
	const struct map_entry *e = *(struct map_entry *const *)node;
	const struct walk *w = closure;
	w->fn(w->arg, e->key, e->value);
}

void map_each(const struct map *m, map_fn *fn, void *arg)
{
	struct walk w = {.fn = fn, .arg = arg};
	twalk_r(m->root, visit, &w);
}

static void collect(void *arg, const char *key, void *value)
{
	(void)key;
	void ***next = arg;
	*(*next)++ = value;
}

void **map_values(const struct map *m)
{
	void **all = calloc(m->count + 1, sizeof(*all)), **next = all;
	if (all != NULL)
		map_each(m, collect, &next);
	return all;
}
