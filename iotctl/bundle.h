/* bundle.h - one file that holds several: a POSIX tar (any tar can list it and take things out)
 * whose first member, manifest.json, says what the others are.
 *
 * Manifest: {"backup": "iottalk", "format": 1, "version": of the program, "time":
 * "YYYY-MM-DDThh:mm:ssZ", "members": [{"name", "bytes", "sha256", "schema": int, stores only}]}.
 * The digests find what was damaged, not what was forged.
 */
#pragma once

#include "common/err.h"
#include "common/id.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUNDLE_FORMAT 1

struct bundle_member {
	const char *name; /* borrowed */
	int fd;           /* of a regular file that does not change meanwhile; the caller's */
	int64_t schema;   /* version of a store's schema; 0: it is none */
	int64_t bytes;    /* set by bundle_measure(), like the digest */
	struct digest_text digest;
};

/* Read it once: size and digest. */
int bundle_measure(struct bundle_member *m, struct err *err);
/* Write n measured members to path (0600): complete under that name, or not there at all. force:
 * replace a file of that name. Errors: ERR_EXIST, ERR_SYS (disk full ...), ERR_CONFLICT (a member
 * changed), ERR_NOMEM. */
int bundle_save(const char *path, bool force, const struct bundle_member *members, size_t n,
		struct err *err);

/* What bundle_load() finds, in the order of the file; each may end the walk with a negative code.
 */
struct bundle_events {
	/* The manifest, checked for its shape. */
	int (*on_manifest)(void *arg, json_t *manifest, struct err *err);
	/* A piece of a member that the manifest names; may be NULL. */
	int (*on_data)(void *arg, const char *name, const void *data, size_t len, struct err *err);
	/* The member is whole, and its digest is the promised one; may be NULL. */
	int (*on_end)(void *arg, const char *name, struct err *err);
};

/* Read all of it from the descriptor, from its beginning; path: for the words of errors. Errors:
 * ERR_PARSE (no bundle, cut off or damaged: the text names the member), ERR_SCHEMA (of a newer
 * format), ERR_SYS, ERR_NOMEM, and what the events return. */
int bundle_load(int fd, const char *path, const struct bundle_events *events, void *arg,
		struct err *err);
