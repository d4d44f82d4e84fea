/* check_store.c - the stores: sound, of a version that is known, not swollen; a restore that was
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

#define WAL_WARN_BYTES (64 * 1024 * 1024) /* the daemons keep it below 16 MiB */
#define SPOILT_REMEDY                                                                            \
	"iotctl restore of a backup; without one: stop everything, move the file (and its -wal " \
	"and -shm) away, run iotctl initdb"

/* A store as it is looked at and talked of. */
struct kind {
	enum schema_store store;
	const char *database, *size; /* lines */
	const char *daemon, *setting;
	const char *spoilt, *forgotten; /* what to do about it; what is lost in memory */
	bool may_lack;                  /* nothing is said of one that is not there */
};

static const struct kind csm_kind = {
	.store = SCHEMA_CSM,
	.database = "database",
	.size = "size",
	.daemon = "csm",
	.setting = "[core-db] url",
	.spoilt = SPOILT_REMEDY ", and let the devices register again",
	.forgotten = "registrations are forgotten when csm ends",
};

static const struct kind ccm_kind = {
	.store = SCHEMA_CCM,
	.database = "ccm database",
	.size = "ccm size",
	.daemon = "ccm",
	.setting = "[gui-db] url",
	.spoilt = SPOILT_REMEDY "; accounts and projects are lost then",
	.forgotten = "accounts and projects are forgotten when ccm ends",
};

static const struct kind devices_kind = {
	.store = SCHEMA_DEVICES,
	.database = "devices database",
	.size = "devices size",
	.daemon = "agent",
	.setting = "[devices-db] url",
	.spoilt = "iotctl restore of a backup; without one: stop the agent, move the file (and its "
		  "-wal and -shm) away; what devices had still to say is lost then",
	.forgotten = "what devices say while the broker is away is forgotten when the agent ends",
	.may_lack = true,
};

static int on_verdict(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	snprintf(arg, 200, "%s", v[0].type == DB_TEXT ? v[0].text : "no answer");
	return 0;
}

/* ret: 0: sound; else negative, with the reason */
static int judge(const struct kind *k, const char *path, int64_t *ret_version, struct err *err)
{
	char verdict[200] = "";
	struct db *db = NULL;
	int rc = db_open_sqlite_look(path, &db, err);

	if (rc == 0)
		rc = schema_version(db, k->store, ret_version, err);
	if (rc == 0)
		rc = db_run(db, err, on_verdict, verdict, "PRAGMA quick_check(1)");
	if (rc == 0 && strcmp(verdict, "ok") != 0)
		rc = err_set(err, ERR_DB, "%s", verdict);
	db_close(db);
	return rc;
}

/* ret: 0 told as fine, -1 told as not */
static int look_inside(struct look *l, const struct kind *k, const char *path)
{
	struct err err = {0};
	int64_t version = 0;
	int rc = judge(k, path, &version, &err);

	/* A daemon that starts just now writes under our eyes, which do not expect that; at a
	 * second look it is seen to run. */
	if (rc < 0)
		rc = judge(k, path, &version, &err);
	if (rc < 0) {
		look_says(l, k->database, DOCTOR_MISSING, k->spoilt, "%s: %s", path, err.text);
		return -1;
	}
	if (version > schema_newest(k->store)) {
		look_says(l, k->database, DOCTOR_MISSING,
			  "use the programs that made it, or iotctl restore of an older backup",
			  "%s has version %" PRId64 ", this program knows %" PRId64, path, version,
			  schema_newest(k->store));
		return -1;
	}
	look_says(l, k->database, DOCTOR_OK, NULL, "sound; version %" PRId64 "%s", version,
		  version < schema_newest(k->store) ? ", brought up to date at the next start"
						    : "");
	return 0;
}

static void look_at_size(struct look *l, const struct kind *k, const char *path)
{
	char remedy[200];
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

	snprintf(remedy, sizeof(remedy),
		 "end what reads the store for a long time (an open sqlite3, a copy that hangs), "
		 "then iotctl restart %s",
		 k->daemon);
	look_says(l, k->size, swollen ? DOCTOR_WARNING : DOCTOR_OK, swollen ? remedy : NULL,
		  "%lld KiB, its log %lld KiB", bytes / 1024, wal_bytes / 1024);
}

static void look_at_store(struct look *l, const struct kind *k)
{
	const char *path = schema_path(l->s, k->store);
	char remedy[100];

	if (strcmp(path, ":memory:") == 0) {
		snprintf(remedy, sizeof(remedy), "set %s to a file", k->setting);
		look_says(l, k->database, DOCTOR_WARNING, remedy, "kept in memory: %s",
			  k->forgotten);
		return;
	}
	if (access(path, F_OK) < 0) {
		if (errno == ENOENT && k->may_lack)
			return; /* there may be no devices */
		if (errno == ENOENT)
			look_says(l, k->database, DOCTOR_WARNING,
				  "iotctl initdb, or start, makes it", "%s is not there yet", path);
		else
			look_says(l, k->database, DOCTOR_MISSING,
				  "run doctor as the user who runs the suite", "%s: %s", path,
				  strerror(errno));
		return;
	}
	if (look_inside(l, k, path) == 0)
		look_at_size(l, k, path);
}

void check_store(struct look *l)
{
	look_at_store(l, &csm_kind);
}

void check_ccm_store(struct look *l)
{
	look_at_store(l, &ccm_kind);
}

void check_devices_store(struct look *l)
{
	look_at_store(l, &devices_kind);
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
