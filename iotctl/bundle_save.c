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

/* Where the archive goes. libarchive does not give back all that it has after a failed write, so it
 * hears of none: the first is kept here, and what comes after it is dropped. */
struct sink {
	struct archive *a;
	int fd;
	int why; /* errno; 0: all is written */
};

static la_ssize_t on_write(struct archive *a, void *arg, const void *data, size_t len)
{
	struct sink *to = arg;
	const char *p = data;

	(void)a;
	for (size_t left = len; left > 0 && to->why == 0;) {
		ssize_t n = write(to->fd, p, left);

		if (n < 0 && errno != EINTR)
			to->why = errno;
		p += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return (la_ssize_t)len;
}

/* What became of a call of libarchive's, and of what it wrote. */
static int sink_check(const struct sink *to, const char *name, bool called_well, struct err *err)
{
	if (to->why != 0)
		return err_set(err, ERR_SYS, "writing %s: %s", name, strerror(to->why));
	return called_well
		       ? 0
		       : err_set(err, ERR_SYS, "writing %s: %s", name, archive_error_string(to->a));
}

/* One turn over the file; to: also written there, unless NULL. */
static int read_through(const char *name, int fd, const struct sink *to, int64_t *ret_bytes,
			struct digest_text *ret_digest, struct err *err)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	char buf[PIECE];
	int64_t at = 0;
	ssize_t n;
	int rc = 0;

	crypto_hash_sha256_init(&state);
	while ((n = pread(fd, buf, sizeof(buf), at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "reading %s", name);
		crypto_hash_sha256_update(&state, (unsigned char *)buf, (size_t)n);
		if (to != NULL)
			rc = sink_check(to, name, archive_write_data(to->a, buf, (size_t)n) == n,
					err);
		if (rc < 0)
			return rc;
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

static int put_header(const struct sink *to, const char *name, int64_t bytes, struct err *err)
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
	return sink_check(to, name, archive_write_header(to->a, e) == ARCHIVE_OK, err);
}

static int put_manifest(const struct sink *to, const struct bundle_member *members, size_t n,
			struct err *err)
{
	json_auto_t *manifest = manifest_of(members, n);
	CLEANUP(freep)
	char *text = manifest != NULL ? json_dumps(manifest, JSON_INDENT(2)) : NULL;

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	la_ssize_t len = (la_ssize_t)strlen(text);
	int rc = put_header(to, "manifest.json", len, err);

	if (rc == 0)
		rc = sink_check(to, "manifest.json",
				archive_write_data(to->a, text, (size_t)len) == len, err);
	return rc;
}

static int put_member(const struct sink *to, const struct bundle_member *m, struct err *err)
{
	struct digest_text digest = {""};
	int64_t bytes = -1;
	int rc = put_header(to, m->name, m->bytes, err);

	if (rc == 0)
		rc = read_through(m->name, m->fd, to, &bytes, &digest, err);
	if (rc == 0 && (bytes != m->bytes || strcmp(digest.s, m->digest.s) != 0))
		rc = err_set(err, ERR_CONFLICT, "%s changed while it was copied; try again",
			     m->name);
	return rc;
}

static int write_all(int fd, const struct bundle_member *members, size_t n, struct err *err)
{
	struct sink to = {
		.fd = fd}; /* outlives the archive, which writes its end when it is freed */
	CLEANUP(archive_freep)
	struct archive *a = archive_write_new();

	if (a == NULL)
		return err_set(err, ERR_NOMEM, "backup");
	to.a = a;
	/* ustar, and where something does not fit into it (8 GiB) what POSIX added later; a file
	 * needs no padding */
	if (archive_write_set_format_pax_restricted(a) != ARCHIVE_OK ||
	    archive_write_add_filter_none(a) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
	    archive_write_open(a, &to, NULL, on_write, NULL) != ARCHIVE_OK)
		return err_set(err, ERR_SYS, "backup: %s", archive_error_string(a));
	int rc = put_manifest(&to, members, n, err);

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = put_member(&to, &members[i], err);
	if (rc == 0)
		rc = sink_check(&to, "the end", archive_write_close(a) == ARCHIVE_OK, err);
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
