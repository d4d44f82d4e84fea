/* check_store.c - the store: sound, of a version that is known, not swollen; a restore that was
 * interrupted. */
#include "common/daemon.h"
#include "common/schema.h"
#include "common/util.h"
#include "iotctl/check.h"
#include "iotctl/parts.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define WAL_WARN_BYTES (64 * 1024 * 1024) /* csm keeps it below 16 MiB */
#define SPOILT_REMEDY                                                                            \
	"iotctl restore of a backup; without one: stop everything, move the file (and its -wal " \
	"and "                                                                                   \
	"-shm) away, run iotctl initdb, and let the devices register again"

static int on_verdict(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	snprintf(arg, 200, "%s", v[0].type == DB_TEXT ? v[0].text : "no answer");
	return 0;
}

/* ret: 0: sound; else negative, with the reason */
static int judge(const char *path, int64_t *ret_version, struct err *err)
{
	char verdict[200] = "";
	struct db *db = NULL;
	int rc = db_open_sqlite_look(path, &db, err);

	if (rc == 0)
		rc = schema_version(db, SCHEMA_CSM, ret_version, err);
	if (rc == 0)
		rc = db_run(db, err, on_verdict, verdict, "PRAGMA quick_check(1)");
	if (rc == 0 && strcmp(verdict, "ok") != 0)
		rc = err_set(err, ERR_DB, "%s", verdict);
	db_close(db);
	return rc;
}

/* ret: 0 told as fine, -1 told as not */
static int look_inside(struct look *l, const char *path)
{
	struct err err = {0};
	int64_t version = 0;
	int rc = judge(path, &version, &err);

	/* A csm that starts just now writes under our eyes, which do not expect that; at a second
	 * look it is seen to run. */
	if (rc < 0)
		rc = judge(path, &version, &err);
	if (rc < 0) {
		look_says(l, "database", DOCTOR_MISSING, SPOILT_REMEDY, "%s: %s", path, err.text);
		return -1;
	}
	if (version > schema_newest(SCHEMA_CSM)) {
		look_says(l, "database", DOCTOR_MISSING,
			  "use the programs that made it, or iotctl restore of an older backup",
			  "%s has version %" PRId64 ", this program knows %" PRId64, path, version,
			  schema_newest(SCHEMA_CSM));
		return -1;
	}
	look_says(l, "database", DOCTOR_OK, NULL, "sound; version %" PRId64 "%s", version,
		  version < schema_newest(SCHEMA_CSM) ? ", brought up to date at the next start" : "");
	return 0;
}

static void look_at_size(struct look *l, const char *path)
{
	CLEANUP(freep)
	char *wal = NULL;
	struct stat st;

	if (asprintf(&wal, "%s-wal", path) < 0) {
		wal = NULL;
		return;
	}
	long long bytes = stat(path, &st) == 0 ? (long long)st.st_size : 0;
	long long wal_bytes = stat(wal, &st) == 0 ? (long long)st.st_size : 0;
	bool swollen = wal_bytes > WAL_WARN_BYTES;

	look_says(
		l, "size", swollen ? DOCTOR_WARNING : DOCTOR_OK,
		swollen ? "end what reads the store for a long time (an open sqlite3, a copy that "
			  "hangs), then iotctl restart csm"
			: NULL,
		"%lld KiB, its log %lld KiB", bytes / 1024, wal_bytes / 1024);
}

void check_store(struct look *l)
{
	const char *path = l->s->core_db.url;

	if (strcmp(path, ":memory:") == 0) {
		look_says(l, "database", DOCTOR_WARNING, "set [core-db] url to a file",
			  "kept in memory: registrations are forgotten when csm ends");
		return;
	}
	if (access(path, F_OK) < 0) {
		if (errno == ENOENT)
			look_says(l, "database", DOCTOR_WARNING,
				  "iotctl initdb, or start, makes it", "%s is not there yet", path);
		else
			look_says(l, "database", DOCTOR_MISSING,
				  "run doctor as the user who runs the suite", "%s: %s", path,
				  strerror(errno));
		return;
	}
	if (look_inside(l, path) == 0)
		look_at_size(l, path);
}

void check_restore(struct look *l)
{
	CLEANUP(freep)
	char *journal = settings_path(l->s, RESTORE_JOURNAL);

	if (journal != NULL && access(journal, F_OK) == 0) {
		look_says(l, "restore", DOCTOR_MISSING, "iotctl start, or initdb, finishes it",
			  "one was interrupted: %s", journal);
		return;
	}
	for (size_t i = 0; i < PARTS; i++) {
		CLEANUP(freep)
		char *target = part_target(&parts[i], l->s);
		CLEANUP(freep)
		char *left = NULL;
		char remedy[600];

		if (target == NULL || asprintf(&left, "%s" PART_STAGED, target) < 0) {
			left = NULL;
			continue;
		}
		snprintf(remedy, sizeof(remedy), "rm %s (unless a restore is running)", left);
		if (access(left, F_OK) == 0)
			look_says(l, "restore", DOCTOR_WARNING, remedy,
				  "%s is left of one that came to nothing", left);
	}
}
