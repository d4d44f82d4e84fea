/* restore.c - put the parts of a backup in their places, or leave everything as it is. */
#include "iotctl/restore.h"
#include "common/daemon.h"
#include "common/pidfile.h"
#include "common/schema.h"
#include "common/util.h"
#include "iotctl/bundle.h"
#include "iotctl/files.h"
#include "iotctl/parts.h"
#include "iotctl/swap.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct restore {
	const struct settings *s;
	unsigned set; /* of parts; others of the backup are passed over */
	int lock_fd;
	int out_fd; /* of the part that is being written */
	char stamp[32];
	char *target[PARTS]; /* owned */
	char *staged[PARTS]; /* owned; NULL: the backup has no such part */
	json_t *report;      /* owned */
};

/* ---- as whom ---- */

static void step_back(const bool *stepped_down)
{
	/* Root may always be root again. */
	if (*stepped_down && (seteuid(0) < 0 || setegid(0) < 0))
		abort();
}

/* Root becomes the owner of userdir until step_back(). A userdir that is not there yet is ours. */
static int step_down(const struct settings *s, bool *ret, struct err *err)
{
	struct stat st;

	if (geteuid() != 0 || stat(s->core.userdir, &st) < 0 || st.st_uid == 0)
		return 0;
	*ret = true;
	return setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0
		       ? err_sys(err, "becoming the owner of '%s'", s->core.userdir)
		       : 0;
}

/* ---- is it one? ---- */

static int judge_member(const json_t *m, unsigned set, struct err *err)
{
	const char *name = json_string_value(json_object_get(m, "name"));
	json_int_t schema = json_integer_value(json_object_get(m, "schema"));
	int i = part_find(name);

	if (i < 0)
		return err_set(err, ERR_SCHEMA,
			       "the backup has a part '%.100s' that this program does not know: it "
			       "was made by a newer one; use that",
			       name);
	if ((set & 1u << i) && parts[i].kind == PART_STORE &&
	    schema > schema_newest(parts[i].store))
		return err_set(err, ERR_SCHEMA,
			       "%s's store in the backup has version %" JSON_INTEGER_FORMAT
			       ", this program knows %" PRId64
			       ": it was made by a newer one; use that",
			       schema_name(parts[i].store), schema, schema_newest(parts[i].store));
	return 0;
}

static int judge(json_t *manifest, unsigned set, struct err *err)
{
	const json_t *members = json_object_get(manifest, "members"), *m;
	bool there[PARTS] = {false};
	size_t i;

	json_array_foreach (members, i, m) {
		int rc = judge_member(m, set, err);

		if (rc < 0)
			return rc;
		there[part_find(json_string_value(json_object_get(m, "name")))] = true;
	}
	for (i = 0; i < PARTS; i++) {
		if (part_is_needed((int)i, set) && !there[i])
			return err_set(err, ERR_SCHEMA, "the backup has no '%s' (%s)",
				       parts[i].name, parts[i].what);
	}
	return 0;
}

struct checked {
	unsigned set;
	json_t *manifest;
};

static int on_manifest_checked(void *arg, json_t *manifest, struct err *err)
{
	struct checked *c = arg;

	c->manifest = json_incref(manifest);
	return judge(manifest, c->set, err);
}

int restore_check(int fd, const char *path, unsigned set, json_t **ret_manifest, struct err *err)
{
	static const struct bundle_events events = {.on_manifest = on_manifest_checked};
	struct checked c = {.set = set};
	int rc = bundle_load(fd, path, &events, &c, err);

	if (rc < 0)
		json_decref(c.manifest);
	else
		*ret_manifest = c.manifest;
	return rc;
}

bool restore_replaces(const struct settings *s, unsigned set)
{
	bool any = false;

	for (size_t i = 0; i < PARTS; i++) {
		CLEANUP(freep)
		char *target = part_target(&parts[i], s);

		any = any ||
		      (part_is_needed((int)i, set) && target != NULL && access(target, F_OK) == 0);
	}
	return any;
}

/* ---- beside the old files ---- */

static int on_manifest(void *arg, json_t *manifest, struct err *err)
{
	const struct restore *r = arg;

	return judge(manifest, r->set, err);
}

static int open_part(struct restore *r, int i, struct err *err)
{
	if (asprintf(&r->staged[i], "%s" PART_STAGED, r->target[i]) < 0) {
		r->staged[i] = NULL;
		return err_set(err, ERR_NOMEM, "restore");
	}
	r->out_fd = open(r->staged[i], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->out_fd < 0)
		return err_sys(err, "cannot write '%s'", r->staged[i]);
	return fchmod(r->out_fd, 0600) < 0 ? err_sys(err, "the rights of '%s'", r->staged[i]) : 0;
}

static int on_data(void *arg, const char *name, const void *data, size_t len, struct err *err)
{
	struct restore *r = arg;
	int i = part_find(name);
	const char *p = data;

	if (!(r->set & 1u << i))
		return 0;
	if (r->staged[i] == NULL) {
		int rc = open_part(r, i, err);

		if (rc < 0)
			return rc;
	}
	while (len > 0) {
		ssize_t n = write(r->out_fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "cannot write '%s'", r->staged[i]);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The digest says that it is what was backed up; the store says whether that was one. */
static int check_store(const char *path, enum schema_store store, struct err *err)
{
	struct db *db = NULL;
	int64_t version = 0;
	int rc = db_open_sqlite_look(path, &db, err);

	if (rc == 0)
		rc = schema_version(db, store, &version, err);
	if (rc == 0 && version > schema_newest(store))
		rc = err_set(err, ERR_SCHEMA,
			     "it has version %" PRId64 ", this program knows %" PRId64, version,
			     schema_newest(store));
	db_close(db);
	return rc < 0 ? err_wrap(err, rc, "%s's store in the backup", schema_name(store)) : 0;
}

static int on_end(void *arg, const char *name, struct err *err)
{
	struct restore *r = arg;
	int i = part_find(name);

	if (!(r->set & 1u << i))
		return 0;
	int rc = r->staged[i] == NULL ? open_part(r, i, err) : 0; /* an empty one */

	if (rc == 0 && fsync(r->out_fd) < 0)
		rc = err_sys(err, "cannot write '%s'", r->staged[i]);
	closep(&r->out_fd);
	return rc == 0 && parts[i].kind == PART_STORE
		       ? check_store(r->staged[i], parts[i].store, err)
		       : rc;
}

static int take_lock(const struct settings *s, const char *relative, int *ret_fd, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(s, relative);

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "lock");
	int rc = pidfile_lock(path, getpid(), ret_fd);

	if (rc == ERR_BUSY)
		return err_set(err, rc, "somebody holds '%s'", path);
	return rc < 0 ? err_set(err, ERR_SYS, "cannot lock '%s': %s", path, strerror(-rc)) : 0;
}

static int begin(struct restore *r, struct err *err)
{
	time_t now = time(NULL);
	struct tm tm;

	strftime(r->stamp, sizeof(r->stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	for (size_t i = 0; i < PARTS; i++) {
		r->target[i] = part_target(&parts[i], r->s);
		if (r->target[i] == NULL)
			return err_set(err, ERR_NOMEM, "restore");
	}
	int rc = daemon_make_dirs(r->s, err);

	if (rc == 0)
		rc = take_lock(r->s, "run/restore.pid", &r->lock_fd, err);
	if (rc == ERR_BUSY)
		err_set(err, rc, "another restore is running");
	return rc;
}

int restore_stage(const struct settings *s, int fd, const char *path, unsigned set,
		  struct restore **ret, struct err *err)
{
	static const struct bundle_events events = {
		.on_manifest = on_manifest, .on_data = on_data, .on_end = on_end};
	struct restore *r = calloc(1, sizeof(*r));
	CLEANUP(step_back)
	bool stepped_down = false;

	if (r == NULL)
		return err_set(err, ERR_NOMEM, "restore");
	*r = (struct restore){
		.s = s, .set = set, .lock_fd = -1, .out_fd = -1, .report = json_array()};
	int rc = r->report != NULL ? step_down(s, &stepped_down, err)
				   : err_set(err, ERR_NOMEM, "restore");

	if (rc == 0)
		rc = begin(r, err);

	if (rc == 0)
		rc = bundle_load(fd, path, &events, r, err);
	if (rc < 0) {
		restore_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

/* ---- the exchange ---- */

/* While we hold their locks they do not run and cannot start. */
struct held {
	int fds[UNITS]; /* 0: none */
};

static int hold_daemons(const struct settings *s, unsigned units, struct held *h, struct err *err)
{
	char lock[64];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < UNITS; i++) {
		if (!(units & 1u << i))
			continue;
		snprintf(lock, sizeof(lock), "run/%s.pid", unit_kinds[i].name);
		rc = take_lock(s, lock, &h->fds[i], err);
		if (rc == ERR_BUSY)
			err_set(err, rc, "%s is running; stop it first", unit_kinds[i].name);
	}
	return rc;
}

static void let_daemons(struct held *h)
{
	for (unsigned i = 0; i < UNITS; i++)
		if (h->fds[i] > 0)
			closep(&h->fds[i]);
}

/* Does something kept by an earlier restore have this name? */
static bool stamp_is_taken(const struct restore *r, const char *stamp)
{
	static const char *const suffixes[] = {"", "-wal"};

	for (size_t i = 0; i < PARTS * ARRAY_LEN(suffixes); i++) {
		CLEANUP(freep)
		char *kept = NULL;

		if (asprintf(&kept, "%s.before-%s%s", r->target[i / ARRAY_LEN(suffixes)], stamp,
			     suffixes[i % ARRAY_LEN(suffixes)]) < 0) {
			kept = NULL;
			continue; /* the exchange itself replaces nothing */
		}
		if (access(kept, F_OK) == 0)
			return true;
	}
	return false;
}

/* A restore within the second of the one before is numbered: nothing that was kept is lost. */
static void choose_stamp(struct restore *r)
{
	char second[sizeof(r->stamp)];

	memcpy(second, r->stamp, sizeof(second));
	for (int n = 2; stamp_is_taken(r, r->stamp) && n < 1000; n++)
		snprintf(r->stamp, sizeof(r->stamp), "%.20s.%d", second, n);
}

static int add_step(struct restore *r, json_t *steps, int i, struct err *err)
{
	bool is_there = access(r->target[i], F_OK) == 0;
	CLEANUP(freep)
	char *kept = NULL;

	if (r->staged[i] == NULL && !((r->set & 1u << i) && is_there && parts[i].goes_if_none))
		return 0;
	if (parts[i].kind != PART_CONF &&
	    asprintf(&kept, "%s.before-%s", r->target[i], r->stamp) < 0) {
		kept = NULL;
		return err_set(err, ERR_NOMEM, "restore");
	}
	json_t *row = json_pack("{s:s, s:s?, s:s?}", "name", parts[i].name, "path",
				r->staged[i] != NULL ? r->target[i] : NULL, "kept",
				is_there ? kept : NULL);

	if (json_array_append_new(r->report, row) < 0 ||
	    json_array_append_new(steps, swap_step(r->target[i], r->staged[i], kept)) < 0)
		return err_set(err, ERR_NOMEM, "restore");
	return 0;
}

static int exchange(struct restore *r, bool *ret_begun, struct err *err)
{
	json_auto_t *steps = json_array();
	CLEANUP(freep)
	char *journal = settings_path(r->s, RESTORE_JOURNAL);
	int rc = steps != NULL && journal != NULL ? 0 : err_set(err, ERR_NOMEM, "restore");

	choose_stamp(r);
	for (int i = 0; rc == 0 && i < PARTS; i++)
		rc = add_step(r, steps, i, err);
	for (int i = 0; rc == 0 && i < PARTS; i++)
		rc = r->set & 1u << i ? files_sync_dir(r->target[i], err) : 0;
	if (rc == 0)
		rc = swap_begin(journal, steps, err);
	if (rc < 0)
		return rc;
	*ret_begun = true;
	rc = swap_finish(journal, err);
	return rc < 0 ? rc : 0;
}

int restore_commit(struct restore *r, bool *ret_begun, struct err *err)
{
	struct held held = {0};
	CLEANUP(step_back)
	bool stepped_down = false;
	int rc = step_down(r->s, &stepped_down, err);

	*ret_begun = false;
	if (rc == 0)
		rc = hold_daemons(r->s, parts_users(r->set), &held, err);
	if (rc == 0)
		rc = exchange(r, ret_begun, err);
	let_daemons(&held);
	for (size_t i = 0; *ret_begun && i < PARTS; i++)
		freep(&r->staged[i]); /* the journal's business now */
	return rc;
}

json_t *restore_report(const struct restore *r)
{
	return r->report;
}

struct restore *restore_free(struct restore *r)
{
	if (r == NULL)
		return NULL;
	closep(&r->out_fd);
	for (size_t i = 0; i < PARTS; i++) {
		if (r->staged[i] != NULL)
			unlink(r->staged[i]);
		free(r->staged[i]);
		free(r->target[i]);
	}
	json_decref(r->report);
	closep(&r->lock_fd);
	free(r);
	return NULL;
}

/* Who uses what is still to be exchanged; what is not known is used by all. */
static unsigned users_of_journal(const struct settings *s, const char *journal)
{
	unsigned set = 0;

	for (int i = 0; i < PARTS; i++) {
		CLEANUP(freep)
		char *target = part_target(&parts[i], s);

		if (target == NULL)
			return parts_users(PARTS_ALL);
		set |= swap_names(journal, target) ? 1u << i : 0;
	}
	return set != 0 ? parts_users(set) : parts_users(PARTS_ALL);
}

int restore_resume(const struct settings *s, struct err *err)
{
	CLEANUP(freep)
	char *journal = settings_path(s, RESTORE_JOURNAL);
	CLEANUP(closep)
	int lock = -1;
	struct held held = {0};

	if (journal == NULL)
		return err_set(err, ERR_NOMEM, "restore");
	if (access(journal, F_OK) < 0 && errno == ENOENT)
		return 0;
	CLEANUP(step_back)
	bool stepped_down = false;
	int rc = step_down(s, &stepped_down, err);

	if (rc == 0)
		rc = take_lock(s, "run/restore.pid", &lock, err);
	if (rc == ERR_BUSY)
		return err_set(err, rc, "a restore is running");
	if (rc == 0)
		rc = hold_daemons(s, users_of_journal(s, journal), &held, err);
	if (rc == 0)
		rc = swap_finish(journal, err);
	let_daemons(&held);
	return rc;
}
