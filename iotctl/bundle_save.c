/* bundle_save.c - writing a bundle: under another name first, and only when all of it is on disk
 * under its own. */
#include "common/daemon.h"
#include "common/util.h"
#include "iotctl/bundle.h"
#include "iotctl/files.h"
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PIECE 65536

static void archive_freep(struct archive **a)
{
	if (*a != NULL)
		archive_write_free(*a);
	*a = NULL;
}

static void entry_freep(struct archive_entry **e)
{
	if (*e != NULL)
		archive_entry_free(*e);
	*e = NULL;
}

/* One turn over the file; to: also written there, unless NULL. */
static int read_through(const char *name, int fd, struct archive *to, int64_t *ret_bytes,
			struct digest_text *ret_digest, struct err *err)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	char buf[PIECE];
	int64_t at = 0;
	ssize_t n;

	crypto_hash_sha256_init(&state);
	while ((n = pread(fd, buf, sizeof(buf), at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "reading %s", name);
		crypto_hash_sha256_update(&state, (unsigned char *)buf, (size_t)n);
		if (to != NULL && archive_write_data(to, buf, (size_t)n) != n)
			return err_set(err, ERR_SYS, "writing %s: %s", name,
				       archive_error_string(to));
		at += n;
	}
	crypto_hash_sha256_final(&state, hash);
	sodium_bin2hex(ret_digest->s, sizeof(ret_digest->s), hash, sizeof(hash));
	*ret_bytes = at;
	return 0;
}

int bundle_measure(struct bundle_member *m, struct err *err)
{
	return read_through(m->name, m->fd, NULL, &m->bytes, &m->digest, err);
}

static json_t *manifest_of(const struct bundle_member *members, size_t n)
{
	json_auto_t *list = json_array();
	char when[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	for (size_t i = 0; i < n; i++) {
		json_t *m = json_pack("{s:s, s:I, s:s}", "name", members[i].name, "bytes",
				      (json_int_t)members[i].bytes, "sha256", members[i].digest.s);

		if (members[i].schema > 0)
			json_object_set_new(m, "schema", json_integer(members[i].schema));
		if (json_array_append_new(list, m) < 0)
			return NULL;
	}
	return json_pack("{s:s, s:i, s:s, s:s, s:O}", "backup", "iottalk", "format", BUNDLE_FORMAT,
			 "version", IOTTALK_VERSION, "time", when, "members", list);
}

static int put_header(struct archive *a, const char *name, int64_t bytes, struct err *err)
{
	CLEANUP(entry_freep)
	struct archive_entry *e = archive_entry_new();

	if (e == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	archive_entry_set_pathname(e, name);
	archive_entry_set_size(e, bytes);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0600);
	archive_entry_set_mtime(e, time(NULL), 0);
	return archive_write_header(a, e) == ARCHIVE_OK
		       ? 0
		       : err_set(err, ERR_SYS, "writing %s: %s", name, archive_error_string(a));
}

static int put_manifest(struct archive *a, const struct bundle_member *members, size_t n,
			struct err *err)
{
	json_auto_t *manifest = manifest_of(members, n);
	CLEANUP(freep)
	char *text = manifest != NULL ? json_dumps(manifest, JSON_INDENT(2)) : NULL;

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	int rc = put_header(a, "manifest.json", (int64_t)strlen(text), err);

	if (rc == 0 && archive_write_data(a, text, strlen(text)) != (la_ssize_t)strlen(text))
		rc = err_set(err, ERR_SYS, "writing manifest.json: %s", archive_error_string(a));
	return rc;
}

static int put_member(struct archive *a, const struct bundle_member *m, struct err *err)
{
	struct digest_text digest = {""};
	int64_t bytes = -1;
	int rc = put_header(a, m->name, m->bytes, err);

	if (rc == 0)
		rc = read_through(m->name, m->fd, a, &bytes, &digest, err);
	if (rc == 0 && (bytes != m->bytes || strcmp(digest.s, m->digest.s) != 0))
		rc = err_set(err, ERR_CONFLICT, "%s changed while it was copied; try again",
			     m->name);
	return rc;
}

static int write_all(int fd, const struct bundle_member *members, size_t n, struct err *err)
{
	CLEANUP(archive_freep)
	struct archive *a = archive_write_new();

	if (a == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	/* ustar, and where something does not fit into it (8 GiB) what POSIX added later */
	if (archive_write_set_format_pax_restricted(a) != ARCHIVE_OK ||
	    archive_write_add_filter_none(a) != ARCHIVE_OK ||
	    archive_write_open_fd(a, fd) != ARCHIVE_OK)
		return err_set(err, ERR_SYS, "backup: %s", archive_error_string(a));
	int rc = put_manifest(a, members, n, err);

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = put_member(a, &members[i], err);
	if (rc == 0 && archive_write_close(a) != ARCHIVE_OK)
		rc = err_set(err, ERR_SYS, "backup: %s", archive_error_string(a));
	if (rc < 0)
		archive_write_fail(a);
	return rc;
}

static int give_name(const char *next, const char *path, bool force, struct err *err)
{
	int rc = renameat2(AT_FDCWD, next, AT_FDCWD, path, force ? 0 : RENAME_NOREPLACE);

	/* Some file systems (FAT of a stick) cannot promise that. */
	if (rc < 0 && errno == EINVAL && !force && access(path, F_OK) < 0)
		rc = rename(next, path);
	if (rc < 0 && errno == EEXIST)
		return err_set(err, ERR_EXIST, "'%s' exists already; --force overwrites it", path);
	return rc < 0 ? err_sys(err, "cannot write '%s'", path) : 0;
}

int bundle_save(const char *path, bool force, const struct bundle_member *members, size_t n,
		struct err *err)
{
	CLEANUP(freep)
	char *next = NULL;
	struct stat st;

	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(err, ERR_EXIST, "'%s' is there and is not a file", path);
	if (asprintf(&next, "%s.XXXXXX", path) < 0) {
		next = NULL;
		return err_set(err, ERR_NOMEM, "backup");
	}
	CLEANUP(closep)
	int fd = mkostemp(next, O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, "cannot write '%s'", path);
	int rc = write_all(fd, members, n, err);

	if (rc == 0 && fsync(fd) < 0)
		rc = err_sys(err, "cannot write '%s'", path);
	if (rc == 0)
		rc = give_name(next, path, force, err);
	if (rc < 0) {
		unlink(next);
		return rc;
	}
	return files_sync_dir(path, err);
}
