#include "dan/features.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define UNITS_MAX    255  /* of one feature: their number stands before them in a byte */
#define SEARCH_BYTES 1024 /* of the lists of units, in which one is sought that is the same */
#define REF_BITS     7    /* of where a list is, in each byte; the last has the highest bit */
#define REF_BYTES    5

static size_t count(const struct features *f)
{
	return f->n_idfs + f->n_odfs;
}

/* ---- units: their number, and each with a NUL ---- */

static bool are_units(const char *list, const char *const *units, size_t n)
{
	if ((unsigned char)*list++ != n)
		return false;
	for (size_t i = 0; i < n; i++, list += strlen(list) + 1)
		if (strcmp(list, units[i]) != 0)
			return false;
	return true;
}

static const char *behind_units(const char *list)
{
	size_t n = (unsigned char)*list++;

	while (n-- > 0)
		list += strlen(list) + 1;
	return list;
}

static int append_units(struct features *f, const char *const *units, size_t n, uint32_t *ret_ref)
{
	size_t len = 1;

	for (size_t i = 0; i < n; i++)
		len += strlen(units[i]) + 1;
	if (n > UNITS_MAX || f->units_len + len >= UINT32_MAX)
		return ERR_LIMIT;
	char *grown = realloc(f->units, f->units_len + len), *at;

	if (grown == NULL)
		return ERR_NOMEM;
	f->units = grown;
	at = grown + f->units_len;
	*at++ = (char)n;
	for (size_t i = 0; i < n; i++)
		at = stpcpy(at, units[i]) + 1;
	*ret_ref = (uint32_t)f->units_len + 1;
	f->units_len += len;
	return 0;
}

/* ret_ref: where the list is, + 1; 0: there is none */
static int add_units(struct features *f, const char *const *units, uint32_t *ret_ref)
{
	size_t n = 0;

	*ret_ref = 0;
	if (units == NULL)
		return 0;
	while (units[n] != NULL)
		n++;
	for (size_t at = 0; at < f->units_len && at <= SEARCH_BYTES;) {
		const char *list = f->units + at;

		*ret_ref = (uint32_t)at + 1;
		if (are_units(list, units, n))
			return 0;
		at += (size_t)(behind_units(list) - list);
	}
	return append_units(f, units, n, ret_ref);
}

static char *put_ref(char *at, uint32_t ref)
{
	for (; ref >> REF_BITS != 0; ref >>= REF_BITS)
		*at++ = (char)(ref & ((1 << REF_BITS) - 1));
	*at++ = (char)(ref | 1 << REF_BITS);
	return at;
}

static const char *get_ref(const char *at, uint32_t *ret)
{
	unsigned shift = 0;

	for (*ret = 0; (*at & 1 << REF_BITS) == 0; shift += REF_BITS)
		*ret |= (uint32_t)*at++ << shift;
	*ret |= (uint32_t)(*at++ & ((1 << REF_BITS) - 1)) << shift;
	return at;
}

/* ---- the copy ---- */

static int by_name(const void *a, const void *b, void *arg)
{
	const struct features *f = arg;
	const uint32_t *x = a, *y = b;

	return strcmp(f->text + *x, f->text + *y);
}

/* What the text needs. refs: where the units of each are, meanwhile */
static int measure(struct features *f, uint32_t *refs, const struct dan_feature *list, size_t n,
		   size_t *len)
{
	char room[REF_BYTES];
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = add_units(f, list[i].units, &refs[i]);
		if (rc == 0)
			*len += (size_t)(put_ref(room, refs[i]) - room) + strlen(list[i].name) + 1;
	}
	return rc;
}

/* at: in text. ret: behind what was added */
static char *add(struct features *f, uint32_t *refs, const struct dan_feature *list, size_t n,
		 char *at)
{
	for (size_t i = 0; i < n; i++) {
		at = put_ref(at, refs[i]);
		refs[i] = (uint32_t)(at - f->text);
		at = stpcpy(at, list[i].name) + 1;
	}
	return at;
}

int features_copy(struct features *f, const struct dan_feature *idfs, size_t n_idfs,
		  const struct dan_feature *odfs, size_t n_odfs, struct err *err)
{
	size_t len = 0;

	*f = (struct features){.n_idfs = n_idfs, .n_odfs = n_odfs};
	f->by_name = malloc((count(f) + 1) * sizeof(*f->by_name));
	if (f->by_name == NULL)
		return err_set(err, ERR_NOMEM, "features");
	int rc = measure(f, f->by_name, idfs, n_idfs, &len);

	if (rc == 0)
		rc = measure(f, f->by_name + n_idfs, odfs, n_odfs, &len);
	if (rc == 0 && len >= UINT32_MAX)
		rc = ERR_LIMIT;
	if (rc == 0 && (f->text = malloc(len + 1)) == NULL)
		rc = ERR_NOMEM;
	if (rc < 0)
		return err_set(err, rc, "features");
	add(f, f->by_name + n_idfs, odfs, n_odfs, add(f, f->by_name, idfs, n_idfs, f->text));
	qsort_r(f->by_name, n_idfs, sizeof(*f->by_name), by_name, f);
	qsort_r(f->by_name + n_idfs, n_odfs, sizeof(*f->by_name), by_name, f);
	return 0;
}

void features_done(struct features *f)
{
	free(f->by_name);
	free(f->text);
	free(f->units);
	*f = (struct features){0};
}

const char *features_find(const struct features *f, enum dan_mode mode, const char *name)
{
	size_t low = mode == DAN_IDF ? 0 : f->n_idfs;
	size_t high = mode == DAN_IDF ? f->n_idfs : count(f);

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const char *found = f->text + f->by_name[mid];
		int order = strcmp(found, name);
		if (order == 0)
			return found;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* ---- the lists ---- */

/* at: of a feature in text. ret: the list of its units; NULL: there is none */
static const char *units_at(const struct features *f, const char *at, const char **ret_name)
{
	uint32_t ref;

	*ret_name = get_ref(at, &ref);
	return ref != 0 ? f->units + ref - 1 : NULL;
}

static size_t count_units(const struct features *f)
{
	const char *at = f->text, *name;
	size_t n = 0;

	for (size_t i = 0; i < count(f); i++, at = name + strlen(name) + 1) {
		const char *list = units_at(f, at, &name);

		n += list != NULL ? (size_t)(unsigned char)*list + 1 : 0;
	}
	return n;
}

int features_lists(const struct features *f, struct features_lists *ret, struct err *err)
{
	const char *at = f->text, **units;

	*ret = (struct features_lists){.items = calloc(count(f) + 1, sizeof(*ret->items)),
				       .units = calloc(count_units(f) + 1, sizeof(*ret->units))};
	if (ret->items == NULL || ret->units == NULL)
		return err_set(err, ERR_NOMEM, "features");
	units = ret->units;
	for (size_t i = 0; i < count(f); i++) {
		struct dan_feature *item = &ret->items[i];
		const char *list = units_at(f, at, &item->name);

		at = item->name + strlen(item->name) + 1;
		if (list == NULL)
			continue;
		item->units = units;
		for (size_t n = (unsigned char)*list++; n > 0; n--, list += strlen(list) + 1)
			*units++ = list;
		units++; /* the NULL */
	}
	return 0;
}

void features_lists_done(struct features_lists *l)
{
	free(l->items);
	free(l->units);
	*l = (struct features_lists){0};
}
