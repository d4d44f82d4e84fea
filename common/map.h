/* map.h - values by string key, in key order; O(log n).
 *
 * Keys are borrowed from the values (or their owner) and must outlive the entry. Not to be changed inside map_each(). What was removed can
 * be added again without memory, unless others were added meanwhile: so a removal can be undone.
 */
#pragma once

#include <stddef.h>

struct map;
typedef void map_fn(void *arg, const char *key, void *value);

struct map *map_new(void);                    /* NULL: out of memory */
/* free_value may be NULL; NULL map is fine; returns NULL. */
struct map *map_free(struct map *m, void (*free_value)(void *value));
/* ret: 0, ERR_EXIST (nothing changed) or ERR_NOMEM. */
int map_add(struct map *m, const char *key, void *value);
void *map_find(const struct map *m, const char *key);  /* NULL: none */
void *map_remove(struct map *m, const char *key);      /* ret: the value, now the caller's; NULL: none */
void *map_first(const struct map *m);                  /* some value, to take a map apart; NULL: empty */
size_t map_count(const struct map *m);
void map_each(const struct map *m, map_fn *fn, void *arg);
/* All values in key order as a NULL-terminated array, yours to free(); for walks that change the map. NULL: no memory. */
void **map_values(const struct map *m);
