#include "common/map.h"

#include "common/err.h"
#include "common/util.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_MAX 64

/* A treap: by key from left to right, by chance from the root down, hence about as flat as a
 * balanced tree. */
struct node {
	const char *key;
	void *value;
	struct node *left, *right;
	uint32_t rank; /* not lower than those beneath */
};

struct map {
	struct node *root;
	struct node *spare; /* of what was removed, linked by left */
	size_t count, n_spare;
	uint32_t chance; /* never 0 */
};

struct map *map_new(void)
{
	struct map *m = calloc(1, sizeof(*m));
	if (m != NULL)
		m->chance = (uint32_t)((uintptr_t)m >> 4) |
			    1; /* no system call: engines in their sandbox have maps too */
	return m;
}

static uint32_t next_rank(struct map *m)
{
	m->chance ^= m->chance << 13;
	m->chance ^= m->chance >> 17;
	m->chance ^= m->chance << 5;
	return m->chance;
}

static void nodes_free(struct node *n, void (*free_value)(void *value))
{
	while (n != NULL) {
		struct node *right = n->right;
		nodes_free(n->left, free_value);
		if (free_value != NULL)
			free_value(n->value);
		free(n);
		n = right;
	}
}

struct map *map_free(struct map *m, void (*free_value)(void *value))
{
	if (m == NULL)
		return NULL;
	/* the values' ends may look into the map: it is empty by then */
	m->count = 0;
	nodes_free(TAKE(m->root), free_value);
	nodes_free(m->spare, NULL);
	free(m);
	return NULL;
}

/* Where the node with that key hangs, or would. */
static struct node **find(struct node **at, const char *key)
{
	while (*at != NULL) {
		int order = strcmp(key, (*at)->key);
		if (order == 0)
			break;
		at = order < 0 ? &(*at)->left : &(*at)->right;
	}
	return at;
}

static void split(struct node *n, const char *key, struct node **before, struct node **behind)
{
	while (n != NULL) {
		if (strcmp(n->key, key) < 0) {
			*before = n;
			before = &n->right;
			n = n->right;
		} else {
			*behind = n;
			behind = &n->left;
			n = n->left;
		}
	}
	*before = *behind = NULL;
}

static struct node *join(struct node *before, struct node *behind)
{
	struct node *root, **at = &root;
	while (before != NULL && behind != NULL) {
		if (before->rank >= behind->rank) {
			*at = before;
			at = &before->right;
			before = before->right;
		} else {
			*at = behind;
			at = &behind->left;
			behind = behind->left;
		}
	}
	*at = before != NULL ? before : behind;
	return root;
}

static struct node *take_node(struct map *m)
{
	struct node *n = m->spare;
	if (n == NULL)
		return malloc(sizeof(*n));
	m->spare = n->left;
	m->n_spare--;
	return n;
}

int map_add(struct map *m, const char *key, void *value)
{
	if (*find(&m->root, key) != NULL)
		return ERR_EXIST;
	struct node *n = take_node(m), **at = &m->root;
	if (n == NULL)
		return ERR_NOMEM;
	*n = (struct node){.key = key, .value = value, .rank = next_rank(m)};
	while (*at != NULL && (*at)->rank >= n->rank)
		at = strcmp(key, (*at)->key) < 0 ? &(*at)->left : &(*at)->right;
	split(*at, key, &n->left, &n->right);
	*at = n;
	m->count++;
	return 0;
}

void *map_find(const struct map *m, const char *key)
{
	struct node *root = m->root, *n = *find(&root, key);
	return n != NULL ? n->value : NULL;
}

void *map_remove(struct map *m, const char *key)
{
	struct node **at = find(&m->root, key), *n = *at;
	if (n == NULL)
		return NULL;
	void *value = n->value;
	*at = join(n->left, n->right);
	m->count--;
	if (m->n_spare < SPARE_MAX) {
		*n = (struct node){.left = m->spare};
		m->spare = n;
		m->n_spare++;
	} else {
		free(n);
	}
	return value;
}

void *map_first(const struct map *m)
{
	return m->root != NULL ? m->root->value : NULL;
}

size_t map_count(const struct map *m)
{
	return m->count;
}

static void each(const struct node *n, map_fn *fn, void *arg)
{
	for (; n != NULL; n = n->right) {
		each(n->left, fn, arg);
		fn(arg, n->key, n->value);
	}
}

void map_each(const struct map *m, map_fn *fn, void *arg)
{
	each(m->root, fn, arg);
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
