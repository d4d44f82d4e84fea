/* parts.h - what belongs to a backup: one row for each store and file. */
#pragma once

#include "common/schema.h"
#include "iotctl/units.h"
#include <stdbool.h>
#include <stddef.h>

enum part_kind {
	PART_STORE, /* csm's, ccm's, the device service's; copied by the store itself, has a schema
		     */
	PART_FILE,  /* below userdir; written whole by whoever writes it */
	PART_CONF,  /* the configuration; restored beside the one in force, never over it */
};

struct part {
	const char *name; /* in the backup */
	enum part_kind kind;
	enum schema_store store; /* of PART_STORE: which */
	unsigned users;          /* bits of units that use the file while they run */
	const char *file;  /* below userdir: where it is restored to; NULL: where settings say */
	bool needed;       /* there is no backup without it */
	bool goes_if_none; /* the backup has none: one that is there does not belong to what is
			      restored */
	const char *what;  /* for people */
};

#define PARTS       7
#define PARTS_ALL   ((1u << PARTS) - 1)
#define PART_STAGED ".incoming" /* a part beside its place, until it is exchanged */

extern const struct part parts[PARTS];

/* ret: index, or -1: there is none of that name. */
int part_find(const char *name);
/* A set of parts is bits by index. That of one store alone: */
unsigned parts_of_store(enum schema_store store);
/* Whether a backup of a set must have a part. One of a single part is made for its sake. */
bool part_is_needed(int i, unsigned set);
/* Bits of units that use any of a set. */
unsigned parts_users(unsigned set);
/* Where it is read from; NULL: out of memory, or (PART_CONF) there is none. Yours. */
char *part_source(const struct part *p, const struct settings *s, const char *conf_path);
/* Where it is restored to; yours. NULL: out of memory. */
char *part_target(const struct part *p, const struct settings *s);
