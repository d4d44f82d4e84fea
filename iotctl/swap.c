#include "iotctl/swap.h"

#include "common/util.h"
#include "iotctl/files.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

json_t *swap_step(const char *target, const char *staged, const char *kept)
{
	return json_pack("{s:s, s:s?, s:s?}", "target", target, "staged", staged, "kept", kept);
}

int swap_begin(const char *journal, json_t *steps, struct err *err)
{
	json_auto_t *doc = json_pack("{s:O}", "steps", steps);
	CLEANUP(freep)
	char *text = doc != NULL ? json_dumps(doc, JSON_INDENT(2)) : NULL;

	return text != NULL ? files_save(journal, text, strlen(text), err)
			    : err_set(err, ERR_NOMEM, "journal");
}

/* Put a file out of the way. Gone already: done before. */
static int put_away(const char *target, const char *kept, const char *suffix, struct err *err)
{
	CLEANUP(freep)
	char *from = NULL;
	CLEANUP(freep)
	char *to = NULL;

	if (asprintf(&from, "%s%s", target, suffix) < 0 || asprintf(&to, "%s%s", kept, suffix) < 0)
		return err_set(err, ERR_NOMEM, "'%s'", target);
	if (access(from, F_OK) < 0 && errno == ENOENT)
		return 0;
	int rc = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);

	if (rc < 0 && errno == EINVAL && access(to, F_OK) < 0) /* FAT */
		rc = rename(from, to);
	if (rc < 0 && errno == EEXIST)
		return err_set(err, ERR_EXIST,
			       "'%s' was made while it was being exchanged (what it was before is "
			       "'%s'): move one of them away",
			       from, to);
	return rc < 0 ? err_sys(err, "moving '%s' to '%s'", from, to) : 0;
}

static int do_step(const json_t *step, struct err *err)
{
	/* A log without its store is worse than a store without its log: that one goes first. */
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	const char *target = json_string_value(json_object_get(step, "target"));
	const char *staged = json_string_value(json_object_get(step, "staged"));
	const char *kept = json_string_value(json_object_get(step, "kept"));
	int rc = 0;

	if (target == NULL || (staged == NULL && kept == NULL))
		return err_set(err, ERR_PARSE, "a step is not described");
	/* What was staged is in its place: this step is done, and what stands there is the new
	 * file. */
	if (staged != NULL && access(staged, F_OK) < 0)
		return errno == ENOENT ? 0 : err_sys(err, "'%s'", staged);
	for (size_t i = 0; rc == 0 && kept != NULL && i < ARRAY_LEN(suffixes); i++)
		rc = put_away(target, kept, suffixes[i], err);
	if (rc == 0)
		rc = files_sync_dir(target, err);
	if (rc == 0 && staged != NULL && rename(staged, target) < 0)
		rc = err_sys(err, "moving '%s' to '%s'", staged, target);
	return rc < 0 ? rc : files_sync_dir(target, err);
}

int swap_finish(const char *journal, struct err *err)
{
	json_error_t why;
	const json_t *step;
	size_t i;

	if (access(journal, F_OK) < 0 && errno == ENOENT)
		return 0;
	json_auto_t *doc = json_load_file(journal, 0, &why);
	const json_t *steps = json_object_get(doc, "steps");

	if (!json_is_array(steps))
		return err_set(err, ERR_PARSE, "the journal '%s' cannot be read: %s", journal,
			       doc == NULL ? why.text : "it has no steps");
	json_array_foreach (steps, i, step) {
		int rc = do_step(step, err);

		if (rc < 0)
			return err_wrap(err, rc, "finishing '%s'", journal);
	}
	if (unlink(journal) < 0)
		return err_sys(err, "removing '%s'", journal);
	int rc = files_sync_dir(journal, err);

	return rc < 0 ? rc : 1;
}

bool swap_names(const char *journal, const char *target)
{
	json_auto_t *doc = json_load_file(journal, 0, NULL);
	const json_t *steps = json_object_get(doc, "steps"), *step;
	size_t i;

	json_array_foreach (steps, i, step) {
		const char *name = json_string_value(json_object_get(step, "target"));

		if (name == NULL || strcmp(name, target) == 0)
			return true;
	}
	return !json_is_array(steps);
}
