/* strays.h - states of devices that we do not have, as the broker told them: a device that comes
 * with the next reading of the file hears them then. Anybody can make them: they have limits.
 */
#pragma once

#include <stdbool.h>

struct strays;

/* ret: yours; NULL: out of memory. */
struct strays *strays_new(void);
/* NULL is fine; returns NULL. */
struct strays *strays_free(struct strays *s);
/* All go: the broker will tell them anew. */
void strays_clear(struct strays *s);

/* The latest of a topic counts. What finds no room is lost. */
void strays_put(struct strays *s, const char *topic, const char *text);
/* Something was lost since the last strays_clear(): what is here is not all. */
bool strays_lost(const struct strays *s);

/* ret: 0, or negative: it is lost. */
typedef int stray_fn(void *arg, const char *topic, const char *text);
/* In the order of their topics; they stay. */
void strays_each(const struct strays *s, stray_fn *fn, void *arg);
/* Take out those whose topics go on after `base` and a '/', in the order of their topics. */
void strays_take(struct strays *s, const char *base, stray_fn *fn, void *arg);
