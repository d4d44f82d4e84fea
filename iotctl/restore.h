/* restore.h - put the parts of a backup in their places, or leave everything as it is. All of it
 * blocks.
 *
 * In this order: restore_check() looks at the whole backup, restore_stage() writes its parts beside
 * their places, and restore_commit() exchanges them while the daemons that use them do not run. A
 * process that dies in between has changed nothing or has left a journal (RESTORE_JOURNAL below
 * userdir); with one no daemon starts, and restore_resume() does the rest. Root works as the owner
 * of userdir meanwhile, so that the files are that user's.
 */
#pragma once

#include "common/err.h"
#include "common/settings.h"
#include <jansson.h>
#include <stdbool.h>

struct restore;

/* fd, path: of the backup, as for bundle_load(). set: the parts that are wanted (parts.h); what
 * else the backup has is checked for damage only. */
/* Whole, undamaged, of a format and of schemas that this program knows, and nothing needed is
 * missing? ret_manifest: yours. */
int restore_check(int fd, const char *path, unsigned set, json_t **ret_manifest, struct err *err);
/* What would be replaced is there already. */
bool restore_replaces(const struct settings *s, unsigned set);

/* Make the directories as far as they are missing, and the new files beside the old. Nobody else
 * restores until restore_free(). Errors: those of the check, ERR_BUSY (another restore), ERR_DB
 * (its store is not sound), ERR_SYS (disk full ...): nothing is left behind. ret: yours. */
int restore_stage(const struct settings *s, int fd, const char *path, unsigned set,
		  struct restore **ret, struct err *err);
/* Exchange. Errors: ERR_BUSY (one that uses a part runs; nothing has changed), ERR_SYS, ERR_NOMEM.
 * ret_begun: whether it is up to restore_resume() after an error. */
int restore_commit(struct restore *r, bool *ret_begun, struct err *err);
/* {"name": of the part, "path": where it is now, "kept": where the old one is, or null} for each;
 * borrowed. */
json_t *restore_report(const struct restore *r);
/* Takes away what was staged and not used. NULL is fine; returns NULL. */
struct restore *restore_free(struct restore *r);

/* Finish a restore that was interrupted. ret: 1 did, 0 there was none. Errors: as restore_commit().
 */
int restore_resume(const struct settings *s, struct err *err);
