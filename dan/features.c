#include "dan/features.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NO_UNITS  UINT32_MAX /* the units are not told */
#define LOOK_BACK 4
#define UNITS_MAX 255 /* of one feature: their number stands before them in a byte */

struct feature {
	uint32_t name, units; /* where in the text */
};

static size_t count(const struct features *f)
{
	return f->n_idfs + f->n_odfs;
}

static const char *name_of(const struct features *f, uint32_t number)
{
	return f->text + f->items[number].name;
}

/* ---- the copy ---- */

/* ret: where it is; UINT32_MAX: no memory, or far too much text */
static uint32_t add_text(struct features *f, const char *text)
{
	size_t len = strlen(text) + 1, at = f->text_len;
	if (at + len >= UINT32_MAX)
		return UINT32_MAX;
	if (at + len > f->text_cap) {
		size_t cap = 2 * (at + len);
		char *grown = realloc(f->text, cap);
		if (grown == NULL)
			return UINT32_MAX;
		f->text = grown;
		f->text_cap = cap;
	}
	memcpy(f->text + at, text, len);
	f->text_len += len;
	return (uint32_t)at;
}

static bool are_units(const char *text, const char *const *units, size_t n)
{
	if ((unsigned char)*text++ != n)
		return false;
	for (size_t i = 0; i < n; i++, text += strlen(text) + 1)
		if (strcmp(text, units[i]) != 0)
			return false;
	return true;
}

/* Many features have the same units as one just before: IDF, acknowledgement and so on in turn. */
static uint32_t same_units(const struct features *f, const struct feature *end,
			   const char *const *units, size_t n)
{
	for (const struct feature *e = end; e > f->items && end - e < LOOK_BACK; e--)
		if (e[-1].units != NO_UNITS && are_units(f->text + e[-1].units, units, n))
			return e[-1].units;
	return NO_UNITS;
}

static int add_units(struct features *f, struct feature *item, const char *const *units)
{
	size_t n = 0;

	item->units = NO_UNITS;
	if (units == NULL)
		return 0;
	while (units[n] != NULL)
		n++;
	if (n > UNITS_MAX)
		return ERR_LIMIT;
	item->units = same_units(f, item, units, n);
	if (item->units != NO_UNITS)
		return 0;
	item->units = add_text(f, (const char[]){(char)n, '\0'});
	if (item->units == NO_UNITS)
		return ERR_NOMEM;
	if (n > 0)
		f->text_len--; /* the NUL behind the number */
	for (size_t i = 0; i < n; i++)
		if (add_text(f, units[i]) == NO_UNITS)
			return ERR_NOMEM;
	return 0;
}

static int add(struct features *f, struct feature *item, const struct dan_feature *from)
{
	item->name = add_text(f, from->name);
	return item->name != UINT32_MAX ? add_units(f, item, from->units) : ERR_NOMEM;
}

static int by_name(const void *a, const void *b, void *arg)
{
	const uint32_t *x = a, *y = b;
	return strcmp(name_of(arg, *x), name_of(arg, *y));
}

int features_copy(struct features *f, const struct dan_feature *idfs, size_t n_idfs,
		  const struct dan_feature *odfs, size_t n_odfs, struct err *err)
{
	size_t n = n_idfs + n_odfs;
	int rc = 0;

	*f = (struct features){.items = malloc((n + 1) * sizeof(*f->items)),
			       .by_name = malloc((n + 1) * sizeof(*f->by_name))};
	if (f->items == NULL || f->by_name == NULL)
		return err_set(err, ERR_NOMEM, "features");
	for (size_t i = 0; i < n && rc == 0; i++) {
		f->by_name[i] = (uint32_t)i;
		rc = add(f, &f->items[i], i < n_idfs ? &idfs[i] : &odfs[i - n_idfs]);
	}
	if (rc < 0)
		return err_set(err, rc, "features");
	f->n_idfs = n_idfs;
	f->n_odfs = n_odfs;
	char *fitting = f->text_len > 0 ? realloc(f->text, f->text_len) : NULL;
	if (fitting != NULL)
		f->text = fitting;
	qsort_r(f->by_name, n_idfs, sizeof(*f->by_name), by_name, f);
	qsort_r(f->by_name + n_idfs, n_odfs, sizeof(*f->by_name), by_name, f);
	return 0;
}

void features_done(struct features *f)
{
	free(f->items);
	free(f->by_name);
	free(f->text);
	*f = (struct features){0};
}

const char *features_find(const struct features *f, enum dan_mode mode, const char *name)
{
	size_t low = mode == DAN_IDF ? 0 : f->n_idfs;
	size_t high = mode == DAN_IDF ? f->n_idfs : count(f);

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const char *found = name_of(f, f->by_name[mid]);
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

static size_t units_of(const struct features *f, size_t i)
{
	return (unsigned char)f->text[f->items[i].units];
}

int features_lists(const struct features *f, struct features_lists *ret, struct err *err)
{
	size_t n = count(f), n_units = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		n_units += f->items[i].units != NO_UNITS ? units_of(f, i) + 1 : 0;
	*ret = (struct features_lists){.items = calloc(n + 1, sizeof(*ret->items)),
				       .units = calloc(n_units + 1, sizeof(*ret->units))};
	if (ret->items == NULL || ret->units == NULL)
		return err_set(err, ERR_NOMEM, "features");
	for (size_t i = 0; i < n; i++) {
		const struct feature *item = &f->items[i];
		ret->items[i].name = f->text + item->name;
		if (item->units == NO_UNITS)
			continue;
		ret->items[i].units = &ret->units[at];
		const char *text = f->text + item->units + 1;
		for (size_t k = 0; k < units_of(f, i); k++, text += strlen(text) + 1)
			ret->units[at++] = text;
		at++; /* the NULL */
	}
	return 0;
}

void features_lists_done(struct features_lists *l)
{
	free(l->items);
	free(l->units);
	*l = (struct features_lists){0};
}
