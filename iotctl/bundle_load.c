/* bundle_load.c - reading a bundle: nothing in it is believed before it is checked. */
#include "common/util.h"
#include "iotctl/bundle.h"
#include <archive.h>
#include <archive_entry.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MANIFEST     "manifest.json"
#define MANIFEST_MAX (1024 * 1024)
#define PIECE        65536

struct load {
	const char *path;
	struct archive *a;
	const struct bundle_events *events;
	void *arg;
	json_t *manifest; /* owned */
	json_t *seen;     /* object of names; owned */
};

static void archive_freep(struct archive **a)
{
	if (*a != NULL)
		archive_read_free(*a);
	*a = NULL;
}

/* ---- the manifest ---- */

static int damaged(const struct load *l, const char *member, const char *why, struct err *err)
{
	return err_set(err, ERR_PARSE, "'%s' is cut off or damaged%s%s: %s", l->path,
		       member != NULL ? ", in its member " : "", member != NULL ? member : "",
		       why != NULL ? why : "unknown");
}

static int foreign(const struct load *l, const char *why, struct err *err)
{
	return err_set(err, ERR_PARSE, "'%s' is not a backup of this suite: %s", l->path, why);
}

static bool member_is_sound(const json_t *m)
{
	const char *digest = json_string_value(json_object_get(m, "sha256"));
	const json_t *schema = json_object_get(m, "schema");

	return json_is_string(json_object_get(m, "name")) &&
	       json_integer_value(json_object_get(m, "bytes")) >= 0 &&
	       json_is_integer(json_object_get(m, "bytes")) && digest != NULL &&
	       digest_valid(digest) && (schema == NULL || json_is_integer(schema));
}

static int check_manifest(struct load *l, struct err *err)
{
	const char *kind = json_string_value(json_object_get(l->manifest, "backup"));
	const json_t *format = json_object_get(l->manifest, "format");
	const json_t *members = json_object_get(l->manifest, "members"), *m;
	size_t i;

	if (kind == NULL || strcmp(kind, "iottalk") != 0)
		return foreign(l, MANIFEST " is about something else", err);
	if (!json_is_integer(format) || json_integer_value(format) < 1)
		return damaged(l, MANIFEST, "it has no format", err);
	if (json_integer_value(format) > BUNDLE_FORMAT)
		return err_set(err, ERR_SCHEMA,
			       "'%s' has format %" JSON_INTEGER_FORMAT
			       ", this program knows %d: it was made by a newer one; use that",
			       l->path, json_integer_value(format), BUNDLE_FORMAT);
	if (!json_is_array(members))
		return damaged(l, MANIFEST, "it names no members", err);
	json_array_foreach (members, i, m)
		if (!member_is_sound(m))
			return damaged(l, MANIFEST, "a member is not described", err);
	return l->events->on_manifest(l->arg, l->manifest, err);
}

static int read_manifest(struct load *l, struct archive_entry *e, struct err *err)
{
	CLEANUP(freep)
	char *text = malloc(MANIFEST_MAX + 1);
	json_error_t why;
	size_t len = 0;
	la_ssize_t n;

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	if (archive_entry_pathname(e) == NULL || strcmp(archive_entry_pathname(e), MANIFEST) != 0 ||
	    archive_entry_filetype(e) != AE_IFREG)
		return foreign(l, "it does not begin with " MANIFEST, err);
	while ((n = archive_read_data(l->a, text + len, MANIFEST_MAX + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return damaged(l, MANIFEST, archive_error_string(l->a), err);
	if (len > MANIFEST_MAX)
		return foreign(l, MANIFEST " is too large", err);
	l->manifest = json_loadb(text, len, 0, &why);
	if (l->manifest == NULL)
		return damaged(l, MANIFEST, why.text, err);
	return check_manifest(l, err);
}

/* ---- the members ---- */

static json_t *described(const struct load *l, const char *name)
{
	json_t *m;
	size_t i;

	json_array_foreach (json_object_get(l->manifest, "members"), i, m)
		if (strcmp(json_string_value(json_object_get(m, "name")), name) == 0)
			return m;
	return NULL;
}

static int read_pieces(struct load *l, const char *name, int64_t *ret_bytes,
		       struct digest_text *ret_digest, struct err *err)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	char buf[PIECE];
	la_ssize_t n;
	int rc = 0;

	*ret_bytes = 0;
	crypto_hash_sha256_init(&state);
	while (rc == 0 && (n = archive_read_data(l->a, buf, sizeof(buf))) != 0) {
		if (n < 0)
			return damaged(l, name, archive_error_string(l->a), err);
		crypto_hash_sha256_update(&state, (unsigned char *)buf, (size_t)n);
		*ret_bytes += n;
		if (l->events->on_data != NULL)
			rc = l->events->on_data(l->arg, name, buf, (size_t)n, err);
	}
	crypto_hash_sha256_final(&state, hash);
	sodium_bin2hex(ret_digest->s, sizeof(ret_digest->s), hash, sizeof(hash));
	return rc;
}

static int read_member(struct load *l, struct archive_entry *e, struct err *err)
{
	const char *name = archive_entry_pathname(e);
	struct digest_text digest = {""};
	int64_t bytes = -1;
	const json_t *m = name != NULL ? described(l, name) : NULL;

	if (m == NULL || archive_entry_filetype(e) != AE_IFREG)
		return damaged(l, name, "its manifest does not name this", err);
	if (json_object_get(l->seen, name) != NULL)
		return damaged(l, name, "it is there twice", err);
	json_object_set_new(l->seen, name, json_true());
	/* The name of the entry is gone with the next header; the manifest's stays. */
	name = json_string_value(json_object_get(m, "name"));
	int rc = read_pieces(l, name, &bytes, &digest, err);

	if (rc < 0)
		return rc;
	if (bytes != json_integer_value(json_object_get(m, "bytes")) ||
	    strcmp(digest.s, json_string_value(json_object_get(m, "sha256"))) != 0)
		return damaged(l, name, "its digest is another one than when it was made", err);
	return l->events->on_end != NULL ? l->events->on_end(l->arg, name, err) : 0;
}

static int read_all(struct load *l, struct err *err)
{
	struct archive_entry *e;
	const json_t *m;
	int rc = 0, found;
	size_t i;

	while (rc == 0 && (found = archive_read_next_header(l->a, &e)) != ARCHIVE_EOF) {
		if (found < ARCHIVE_WARN && l->manifest == NULL)
			return foreign(l, archive_error_string(l->a), err);
		if (found < ARCHIVE_WARN)
			return damaged(l, NULL, archive_error_string(l->a), err);
		rc = l->manifest == NULL ? read_manifest(l, e, err) : read_member(l, e, err);
	}
	if (rc < 0)
		return rc;
	if (l->manifest == NULL)
		return foreign(l, "it is empty", err);
	json_array_foreach (json_object_get(l->manifest, "members"), i, m) {
		const char *name = json_string_value(json_object_get(m, "name"));

		if (json_object_get(l->seen, name) == NULL)
			return damaged(l, name, "it is missing", err);
	}
	return 0;
}

int bundle_load(int fd, const char *path, const struct bundle_events *events, void *arg,
		struct err *err)
{
	CLEANUP(archive_freep)
	struct archive *a = archive_read_new();
	json_auto_t *seen = json_object();
	struct load l = {.path = path, .a = a, .events = events, .arg = arg, .seen = seen};
	struct stat st;

	if (a == NULL || seen == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	if (fstat(fd, &st) < 0)
		return err_sys(err, "cannot read '%s'", path);
	if (!S_ISREG(st.st_mode))
		return foreign(&l, "it is not a file", err);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(err, "cannot read '%s'", path);
	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_support_filter_none(a) != ARCHIVE_OK)
		return err_set(err, ERR_SYS, "backup: %s", archive_error_string(a));
	if (archive_read_open_fd(a, fd, PIECE) != ARCHIVE_OK)
		return foreign(&l, archive_error_string(a), err);
	int rc = read_all(&l, err);

	json_decref(l.manifest);
	return rc;
}
