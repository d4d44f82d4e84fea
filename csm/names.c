#include "csm/names.h"

#include "common/err.h"
#include "common/map.h"
#include "common/util.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A number far beyond those in use is only noted in the bitmap when the count gets there: a name such as "9999999.Model" must
 * not cost memory for all the numbers below it. */
#define FAR_AHEAD(taken) (8 * (taken) + 4096)

/* How many devices have a name. */
struct used {
	unsigned count;
	bool noted; /* its number is in the bitmap of its model */
	char name[];
};

/* Numbers taken for one model: a bitmap, and above it a bitmap of its full words, and so on up to one word. */
struct model {
	uint64_t *level[5];
	size_t words[5];
	unsigned levels;
	size_t taken;
	char name[];
};

struct names {
	struct map *used;   /* name -> struct used */
	struct map *models; /* model -> struct model */
};

static void model_free(void *arg)
{
	struct model *m = arg;
	for (unsigned i = 0; i < m->levels; i++)
		free(m->level[i]);
	free(m);
}

struct names *names_new(void)
{
	struct names *n = calloc(1, sizeof(*n));
	if (n == NULL)
		return NULL;
	n->used = map_new();
	n->models = map_new();
	return n->used != NULL && n->models != NULL ? n : names_free(n);
}

struct names *names_free(struct names *n)
{
	if (n == NULL)
		return NULL;
	map_free(n->used, free);
	map_free(n->models, model_free);
	free(n);
	return NULL;
}

/* "05.Model" -> 5 and "Model"; only the form names_make() writes. */
static bool split(const char *name, unsigned *ret_number, const char **ret_model)
{
	size_t digits = strspn(name, "0123456789");
	if (digits < 2 || digits > 7 || name[digits] != '.' || name[digits + 1] == '\0' ||
	    (digits > 2 && name[0] == '0'))
		return false;
	*ret_number = (unsigned)strtoul(name, NULL, 10);
	*ret_model = name + digits + 1;
	return true;
}

/* Make room for `number`. ret: 0 or ERR_NOMEM; the bitmap is sound in both cases. */
static int grow(struct model *m, unsigned number)
{
	size_t words = 1;
	while (words * 64 <= number)
		words *= 2;
	if (m->levels > 0 && m->words[0] >= words)
		return 0;
	struct model next = {0};
	size_t need = words;
	for (;;) {
		next.level[next.levels] = calloc(need, sizeof(uint64_t));
		next.words[next.levels] = need;
		if (next.level[next.levels++] == NULL) {
			for (unsigned i = 0; i < next.levels; i++)
				free(next.level[i]);
			return ERR_NOMEM;
		}
		if (need == 1)
			break;
		need = (need + 63) / 64;
	}
	if (m->levels > 0)
		memcpy(next.level[0], m->level[0], m->words[0] * sizeof(uint64_t));
	for (unsigned l = 1; l < next.levels; l++)
		for (size_t w = 0; w < next.words[l - 1]; w++)
			if (next.level[l - 1][w] == UINT64_MAX)
				next.level[l][w / 64] |= 1ull << (w % 64);
	for (unsigned i = 0; i < m->levels; i++)
		free(m->level[i]);
	memcpy(m->level, next.level, sizeof(m->level));
	memcpy(m->words, next.words, sizeof(m->words));
	m->levels = next.levels;
	return 0;
}

static void set_bit(struct model *m, size_t bit, bool on)
{
	for (unsigned l = 0; l < m->levels; l++) {
		uint64_t *word = &m->level[l][bit / 64], mask = 1ull << (bit % 64);
		bool was_full = *word == UINT64_MAX;
		*word = on ? *word | mask : *word & ~mask;
		bool full = *word == UINT64_MAX;
		if (full == was_full)
			return;
		on = full;
		bit /= 64;
	}
}

static unsigned lowest_free(const struct model *m)
{
	if (m->levels == 0)
		return 0;
	size_t at = 0;
	for (unsigned l = m->levels; l-- > 0;) {
		/* only the topmost word can be full: then every number there is room for is taken */
		uint64_t free_bits = ~m->level[l][at];
		if (free_bits == 0 || at * 64 + (size_t)__builtin_ctzll(free_bits) >=
					      (l > 0 ? m->words[l - 1] : m->words[0] * 64))
			return (unsigned)(m->words[0] * 64);
		at = at * 64 + (size_t)__builtin_ctzll(free_bits);
	}
	return (unsigned)at;
}

static struct model *model_get(struct names *n, const char *name)
{
	struct model *m = map_find(n->models, name);
	if (m != NULL)
		return m;
	size_t len = strlen(name) + 1;
	m = calloc(1, sizeof(*m) + len);
	if (m == NULL)
		return NULL;
	memcpy(m->name, name, len);
	if (map_add(n->models, m->name, m) < 0) {
		free(m);
		return NULL;
	}
	return m;
}

static void model_put(struct names *n, struct model *m)
{
	if (m != NULL && m->taken == 0)
		model_free(map_remove(n->models, m->name));
}

/* Put the number of a name into the bitmap of its model. */
static int note(struct names *n, struct used *u, unsigned number, const char *model_name)
{
	struct model *m = model_get(n, model_name);
	if (m == NULL || grow(m, number) < 0) {
		model_put(n, m);
		return ERR_NOMEM;
	}
	set_bit(m, number, true);
	m->taken++;
	u->noted = true;
	return 0;
}

int names_use(struct names *n, const char *name)
{
	struct used *u = map_find(n->used, name);
	unsigned number;
	const char *model_name;
	if (u != NULL) {
		u->count++;
		return 0;
	}
	size_t len = strlen(name) + 1;
	u = calloc(1, sizeof(*u) + len);
	if (u == NULL)
		return ERR_NOMEM;
	u->count = 1;
	memcpy(u->name, name, len);
	if (map_add(n->used, u->name, u) < 0) {
		free(u);
		return ERR_NOMEM;
	}
	if (!split(name, &number, &model_name))
		return 0;
	const struct model *m = map_find(n->models, model_name);
	if (number > FAR_AHEAD(m != NULL ? m->taken : 0))
		return 0;
	int rc = note(n, u, number, model_name);
	if (rc < 0)
		free(map_remove(n->used, name));
	return rc;
}

void names_release(struct names *n, const char *name)
{
	struct used *u = map_find(n->used, name);
	unsigned number;
	const char *model_name;
	if (u == NULL || --u->count > 0)
		return;
	if (u->noted && split(name, &number, &model_name)) {
		struct model *m = map_find(n->models, model_name);
		set_bit(m, number, false);
		m->taken--;
		model_put(n, m);
	}
	free(map_remove(n->used, name));
}

int names_make(struct names *n, const char *model, char *ret_name, size_t size)
{
	for (;;) {
		const struct model *m = map_find(n->models, model);
		unsigned number = m != NULL ? lowest_free(m) : 0;
		int len = snprintf(ret_name, size, "%02u.%s", number, model);
		if (len < 0 || (size_t)len >= size)
			return ERR_RANGE;
		struct used *u = map_find(n->used, ret_name);
		if (u == NULL)
			return 0;
		/* in use but not in the bitmap yet: it was far ahead when it came */
		const char *model_name;
		if (!split(ret_name, &number, &model_name))
			return ERR_RANGE;
		int rc = note(n, u, number, model_name);
		if (rc < 0)
			return rc;
	}
}
