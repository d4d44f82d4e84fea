/* topic_table.h - values by exact topic, for the path every message takes: open addressing, one
 * probe as a rule.
 *
 * Keys are borrowed from the values and must outlive the entry. Topics are hashed with a secret of
 * the process, so nobody can choose topics that collide.
 */
#pragma once

#include <stddef.h>

struct topic_table;

struct topic_table *topic_table_new(void); /* NULL: out of memory */
/* free_value may be NULL. NULL table is fine; returns NULL. */
struct topic_table *topic_table_free(struct topic_table *t, void (*free_value)(void *value));
/* ret: 0, ERR_EXIST (nothing changed) or ERR_NOMEM. */
int topic_table_add(struct topic_table *t, const char *topic, void *value);
void *topic_table_find(const struct topic_table *t, const char *topic);
/* The same for a topic that is not terminated. */
void *topic_table_find_bytes(const struct topic_table *t, const char *topic, size_t len);
void *topic_table_remove(struct topic_table *t,
			 const char *topic); /* ret: the value, yours again; NULL: none */
size_t topic_table_count(const struct topic_table *t);
/* fn must not add or remove. */
void topic_table_each(const struct topic_table *t, void (*fn)(void *arg, void *value), void *arg);
