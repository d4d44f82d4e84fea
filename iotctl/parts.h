/* parts.h - what belongs to a backup: one row for each store and file. */
#pragma once

#include "common/settings.h"
#include <stdbool.h>
#include <stddef.h>

enum part_kind {
	PART_STORE, /* csm's; copied by the store itself, has a schema */
	PART_FILE,  /* below userdir; written whole by whoever writes it */
	PART_CONF,  /* the configuration; restored beside the one in force, never over it */
};

struct part {
	const char *name; /* in the backup */
	enum part_kind kind;
	const char *file;  /* below userdir: where it is restored to; NULL: where settings say */
	bool needed;       /* there is no backup without it */
	bool goes_if_none; /* the backup has none: one that is there does not belong to what is
			      restored */
	const char *what;  /* for people */
};

#define PARTS       5
#define PART_STAGED ".incoming" /* a part beside its place, until it is exchanged */

extern const struct part parts[PARTS];

/* ret: index, or -1: there is none of that name. */
int part_find(const char *name);
/* Where it is read from; NULL: out of memory, or (PART_CONF) there is none. Yours. */
char *part_source(const struct part *p, const struct settings *s, const char *conf_path);
/* Where it is restored to; yours. NULL: out of memory. */
char *part_target(const struct part *p, const struct settings *s);
