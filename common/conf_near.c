/* conf_near.c - the known name that a mistyped one is nearest to. */
#include "common/conf_near.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

/* Edit distance (insert, delete, replace, swap of neighbours), letters in either case alike. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][CONF_NAME_MAX + 1];
	size_t la = strnlen(a, CONF_NAME_MAX), lb = strnlen(b, CONF_NAME_MAX);

	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *now = rows[i % 3];
		const unsigned *before = rows[(i - 1) % 3], *two_before = rows[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			int ca = tolower((unsigned char)a[i - 1]);
			int cb = tolower((unsigned char)b[j - 1]);
			unsigned best = before[j - 1] + (ca != cb);

			if (before[j] + 1 < best)
				best = before[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
			    cb == tolower((unsigned char)a[i - 2]) && two_before[j - 2] + 1 < best)
				best = two_before[j - 2] + 1;
			now[j] = best;
		}
	}
	return rows[la % 3][lb];
}

/* How far apart two names may be and still be offered as "did you mean". */
static bool near_enough(size_t dist, const char *name)
{
	return dist <= 1 + strlen(name) / 3;
}

/* Names whose lengths are further apart than that need not be compared. */
static bool may_be_near(const char *name, const char *known)
{
	size_t a = strlen(name), b = strlen(known);

	return near_enough(a > b ? a - b : b - a, name);
}

const char *conf_near_section(const struct conf_row *rows, size_t n, const char *section)
{
	const char *best = NULL;
	unsigned best_dist = 0;

	for (size_t i = 0; i < n; i++) {
		if (i > 0 && strcmp(rows[i].section, rows[i - 1].section) == 0)
			continue; /* a section's rows stand together */
		if (!may_be_near(section, rows[i].section))
			continue;
		unsigned dist = distance(section, rows[i].section);

		if (best == NULL || dist < best_dist) {
			best = rows[i].section;
			best_dist = dist;
		}
	}
	return best != NULL && near_enough(best_dist, section) ? best : NULL;
}

const struct conf_row *conf_near_key(const struct conf_row *rows, size_t n, const char *section,
				     const char *key)
{
	const struct conf_row *best = NULL;
	unsigned best_dist = 0;

	for (size_t i = 0; i < n; i++) {
		const struct conf_row *row = &rows[i];
		unsigned dist = 1; /* the same name in another section */

		if (strcmp(section, row->section) != 0) {
			if (strcasecmp(key, row->key) != 0)
				continue;
		} else {
			if (!may_be_near(key, row->key))
				continue;
			dist = distance(key, row->key);
		}
		if (best == NULL || dist < best_dist) {
			best = row;
			best_dist = dist;
		}
	}
	return best != NULL && near_enough(best_dist, key) ? best : NULL;
}

const char *conf_near_name(const char *const *known, const char *name)
{
	const char *best = NULL;
	unsigned best_dist = 0;

	for (size_t i = 0; known[i] != NULL; i++) {
		if (!may_be_near(name, known[i]))
			continue;
		unsigned dist = distance(name, known[i]);

		if (best == NULL || dist < best_dist) {
			best = known[i];
			best_dist = dist;
		}
	}
	return best != NULL && near_enough(best_dist, name) ? best : NULL;
}
