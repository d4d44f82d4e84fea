/* check_files.c - configuration, state directory, disk. */
#include "common/schema.h"
#include "common/seal.h"
#include "common/util.h"
#include "iotctl/check.h"
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

/* ---- configuration ---- */

struct notes {
	unsigned errors, warnings;
	char first[400]; /* of the worse kind */
};

static void on_note(void *arg, bool is_error, const char *text)
{
	struct notes *n = arg;

	if (n->errors + n->warnings == 0 || (is_error && n->errors == 0))
		snprintf(n->first, sizeof(n->first), "%s", text);
	*(is_error ? &n->errors : &n->warnings) += 1;
}

void check_config(struct look *l)
{
	const char *path = l->app->conf_path;
	struct notes n = {0};
	struct settings s;
	struct err err = {0};
	int rc = settings_load(path, &s, on_note, &n, &err);

	settings_done(&s);
	if (rc < 0)
		look_says(
			l, "file", DOCTOR_MISSING,
			"mend it; iotctl config check tells all there is. The other checks need it",
			"%s%s", n.errors > 0 ? n.first : err.text,
			n.errors > 1 ? " (and more)" : "");
	else if (n.warnings > 0)
		look_says(l, "file", DOCTOR_WARNING, "iotctl config check tells all there is",
			  "%s%s", n.first, n.warnings > 1 ? " (and more)" : "");
	else
		look_says(l, "file", DOCTOR_OK, NULL, "%s",
			  path != NULL ? path : "none; defaults are used");
}

/* ---- directories and files ---- */

struct place {
	const char *name; /* of the line */
	const char *file; /* below userdir; "": itself; NULL: a store: */
	enum schema_store store;
	bool is_dir;
	enum doctor_state open; /* others may get at it */
	/* What stands in it; NULL: any may. */
	int (*check)(const char *path, struct err *err);
	const char *remedy; /* then */
	bool may_lack;      /* the agent makes it if it is needed */
};

static int check_key(const char *path, struct err *err)
{
	struct seal_key unused;

	return seal_key_load(path, &unused, err);
}

static const struct place places[] = {
	{"userdir", "", 0, true, DOCTOR_WARNING, NULL, NULL, false},
	{"run", "run", 0, true, DOCTOR_WARNING, NULL, NULL, false},
	{"log", "log", 0, true, DOCTOR_WARNING, NULL, NULL, false},
	/* The daemons refuse one that others can read. */
	{"key", "key", 0, false, DOCTOR_MISSING, check_key,
	 "put back a copy (iotctl restore), or stop everything, move it away and run iotctl "
	 "initdb: "
	 "agents on other machines need the new one",
	 false},
	{"store file", NULL, SCHEMA_CSM, false, DOCTOR_WARNING, NULL, NULL, false},
	{"ccm store file", NULL, SCHEMA_CCM, false, DOCTOR_WARNING, NULL, NULL, false},
	{"devices store file", NULL, SCHEMA_DEVICES, false, DOCTOR_WARNING, NULL, NULL, true},
	{"agent-id", "agent-id", 0, false, DOCTOR_WARNING, NULL, NULL, true},
};

static const char *user_name(uid_t uid, char *buf, size_t cap)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw != NULL)
		snprintf(buf, cap, "%s", pw->pw_name);
	else
		snprintf(buf, cap, "uid %u", (unsigned)uid);
	return buf;
}

/* The nearest directory above an absolute path that is there. */
static void existing_above(char *path)
{
	while (access(path, F_OK) < 0 && path[1] != '\0') {
		char *slash = strrchr(path, '/');

		slash[slash == path ? 1 : 0] = '\0';
	}
}

static void say_no_userdir(struct look *l)
{
	CLEANUP(freep)
	char *above = strdup(l->s->core.userdir);

	if (above == NULL)
		return;
	existing_above(above);
	if (access(above, W_OK | X_OK) == 0)
		look_says(l, "userdir", DOCTOR_WARNING, "iotctl initdb, or start, makes it",
			  "%s is not there yet", l->s->core.userdir);
	else
		look_says(
			l, "userdir", DOCTOR_MISSING,
			"make it and give it to the user who runs the suite, or set [core] userdir",
			"%s is not there, and this user cannot make it in %s", l->s->core.userdir,
			above);
}

/* A thing that is there: whose is it, and who may get at it? owner: of userdir. */
static void look_at(struct look *l, const struct place *p, const char *path, const struct stat *st,
		    uid_t owner)
{
	char is[64], should[64], remedy[600];
	struct err err = {0};

	if (S_ISDIR(st->st_mode) != p->is_dir || (!p->is_dir && !S_ISREG(st->st_mode))) {
		look_says(l, p->name, DOCTOR_MISSING,
			  "move it away; iotctl initdb makes a right one", "%s is not a %s", path,
			  p->is_dir ? "directory" : "file");
	} else if (st->st_uid != owner) {
		snprintf(remedy, sizeof(remedy), "chown %s %s (as root)",
			 user_name(owner, should, sizeof(should)), path);
		look_says(l, p->name, DOCTOR_MISSING, remedy, "%s belongs to %s, not to %s", path,
			  user_name(st->st_uid, is, sizeof(is)), should);
	} else if (st->st_mode & 077) {
		snprintf(remedy, sizeof(remedy), "chmod %s %s", p->is_dir ? "0700" : "0600", path);
		look_says(l, p->name, p->open, remedy, "%s has mode %04o: others get at it", path,
			  (unsigned)st->st_mode & 07777);
	} else if (p->check != NULL && p->check(path, &err) < 0) {
		look_says(l, p->name, DOCTOR_MISSING, p->remedy, "%s", err.text);
	} else {
		look_says(l, p->name, DOCTOR_OK, NULL, "%s, mode %04o", path,
			  (unsigned)st->st_mode & 07777);
	}
}

static void look_for(struct look *l, const struct place *p, uid_t owner)
{
	CLEANUP(freep)
	char *path = p->file == NULL      ? strdup(schema_path(l->s, p->store))
		     : p->file[0] == '\0' ? strdup(l->s->core.userdir)
					  : settings_path(l->s, p->file);
	struct stat st;

	if (path == NULL || strcmp(path, ":memory:") == 0)
		return;
	if (stat(path, &st) == 0)
		look_at(l, p, path, &st, owner);
	else if (errno != ENOENT)
		look_says(l, p->name, DOCTOR_MISSING, "run doctor as the user who runs the suite",
			  "%s: %s", path, strerror(errno));
	else if (!p->may_lack)
		look_says(l, p->name, DOCTOR_WARNING, "iotctl initdb, or start, makes it",
			  "%s is not there yet", path);
}

/* It is there, and of no use to this user. */
static void say_closed(struct look *l, const struct stat *st, int why)
{
	char name[64];

	look_says(l, "userdir", DOCTOR_MISSING,
		  why == EROFS ? "mount its file system for writing"
			       : "run iotctl as the user it belongs to, or set [core] userdir",
		  "%s: %s; it belongs to %s", l->s->core.userdir, strerror(why),
		  user_name(st->st_uid, name, sizeof(name)));
}

void check_dirs(struct look *l)
{
	const char *userdir = l->s->core.userdir;
	bool closed = false;
	struct stat st;

	if (stat(userdir, &st) < 0) {
		if (errno == ENOENT)
			say_no_userdir(l);
		else
			look_says(l, "userdir", DOCTOR_MISSING,
				  "run iotctl as the user it belongs to, or set [core] userdir",
				  "%s: %s", userdir, strerror(errno));
		return;
	}
	if (access(userdir, R_OK | W_OK | X_OK) < 0) {
		closed = true;
		say_closed(l, &st, errno);
		if (access(userdir, X_OK) < 0)
			return;
	}
	for (size_t i = closed ? 1 : 0; i < ARRAY_LEN(places);
	     i++) /* the first is userdir itself */
		look_for(l, &places[i], st.st_uid);
}

/* ---- disk ---- */

#define MIB            (1024 * 1024)
#define FREE_WARN_MIB  200
#define FREE_NEED_MIB  16
#define INODES_WARN    1000
#define INODES_NEED    20
#define SYNC_WRITES    20
#define SYNC_BYTES     4096
#define SYNC_MS        3000 /* enough was seen then */
#define SYNC_MEDIAN_MS 20.0
#define SYNC_WORST_MS  250.0

static void check_space(struct look *l, const char *path)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0) {
		look_says(l, "space", DOCTOR_MISSING, "see that it can be read", "%s: %s", path,
			  strerror(errno));
		return;
	}
	uint64_t mib = (uint64_t)v.f_bavail * v.f_frsize / MIB;
	bool counted = v.f_files > 0; /* btrfs counts none */
	char files[64] = "";

	if (counted)
		snprintf(files, sizeof(files), " and %llu files", (unsigned long long)v.f_favail);
	enum doctor_state state =
		mib < FREE_NEED_MIB || (counted && v.f_favail < INODES_NEED)   ? DOCTOR_MISSING
		: mib < FREE_WARN_MIB || (counted && v.f_favail < INODES_WARN) ? DOCTOR_WARNING
									       : DOCTOR_OK;

	look_says(l, "space", state,
		  state == DOCTOR_OK
			  ? NULL
			  : "free some: old logs, backups, *.before-*, *.bak; or set [core] "
			    "userdir to a larger disk",
		  "%" PRIu64 " MiB%s more fit at %s", mib, files, path);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* A file without a name: nothing is left behind, however this ends. */
static int open_unnamed(const char *dir)
{
	char path[4200];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	snprintf(path, sizeof(path), "%s/.doctor-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

/* ret: how many were measured, or -1 (errno) */
static int measure(int fd, double ms[SYNC_WRITES])
{
	static const char block[SYNC_BYTES];
	double begin = now_ms();
	int n = 0;

	while (n < SYNC_WRITES && now_ms() - begin < SYNC_MS) {
		double before = now_ms();

		if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block) || fdatasync(fd) < 0)
			return -1;
		ms[n++] = now_ms() - before;
	}
	return n;
}

static void check_sync(struct look *l, const char *dir)
{
	double ms[SYNC_WRITES];
	CLEANUP(closep)
	int fd = open_unnamed(dir);
	int n = fd >= 0 ? measure(fd, ms) : -1;

	if (n <= 0) {
		look_says(l, "sync time", DOCTOR_MISSING,
			  "see that this user can write there, and that the disk is not full or "
			  "broken",
			  "cannot write in %s: %s", dir, strerror(errno));
		return;
	}
	qsort(ms, (size_t)n, sizeof(ms[0]), by_size);
	double median = ms[n / 2], worst = ms[n - 1];
	bool slow = median > SYNC_MEDIAN_MS || worst > SYNC_WORST_MS;

	look_says(l, "sync time", slow ? DOCTOR_WARNING : DOCTOR_OK,
		  slow ? "each answer of csm waits for one: use another disk than an SD card or a "
			 "network file system, or look what else writes to it"
		       : NULL,
		  "of %d writes to %s the median took %.1f ms, the worst %.1f ms", n, dir, median,
		  worst);
}

/* Of userdir, and of the store where it lies elsewhere. */
void check_disk(struct look *l)
{
	CLEANUP(freep)
	char *dir = strdup(l->s->core.userdir);
	CLEANUP(freep)
	char *store = strdup(l->s->core_db.url);
	struct stat a, b;

	if (dir == NULL || store == NULL)
		return;
	existing_above(dir);
	check_space(l, dir);
	if (strcmp(dir, l->s->core.userdir) == 0)
		check_sync(l, dir);
	char *slash = strrchr(store, '/');

	if (slash == NULL) /* :memory: */
		return;
	*slash = '\0';
	if (stat(dir, &a) == 0 && stat(store, &b) == 0 && a.st_dev != b.st_dev) {
		check_space(l, store);
		check_sync(l, store);
	}
}
