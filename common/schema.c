#include "common/schema.h"

#include "common/util.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The SQL files are part of the program: no path to lose on a gateway. */
#define EMBED(name, file)                                                                          \
	__asm__(".section .rodata\n" #name ":\n.incbin \"" file "\"\n.byte 0\n.previous\n");            \
	extern const char name[] __attribute__((visibility("hidden")))

EMBED(schema_csm_0001, "conf/sql/csm/0001.sql");
EMBED(schema_csm_0002, "conf/sql/csm/0002.sql");
EMBED(schema_csm_0003, "conf/sql/csm/0003.sql");

static const char *const csm_versions[] = {schema_csm_0001, schema_csm_0002, schema_csm_0003};

static int on_version(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(int64_t *)arg = v[0].type == DB_INT ? v[0].num : 0;
	return 0;
}

static int migrate(struct db *db, const char *path, const char *const *versions, size_t newest,
		   struct err *err)
{
	int64_t have = 0;
	int rc = db_script(db, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)",
			   err);
	if (rc == 0)
		rc = db_run(db, err, on_version, &have, "SELECT max(version) FROM schema_version");
	if (rc < 0)
		return rc;
	if (have > (int64_t)newest)
		return err_set(err, ERR_DB, "store %s has version %lld, this program knows %zu: use the program that made it, "
			       "or put back a copy from before (<file>.v<N>.bak), or move the file away and "
			       "run `iotctl initdb`", path,
			       (long long)have, newest);
	if (have > 0 && have < (int64_t)newest && strcmp(path, ":memory:") != 0) {
		char copy[PATH_MAX];
		snprintf(copy, sizeof(copy), "%s.v%lld.bak", path, (long long)have);
		unlink(copy);
		rc = db_backup(db, copy, err);
		if (rc < 0)
			return err_wrap(err, rc, "copying the store to %s before migrating", copy);
	}
	while (have < (int64_t)newest) {
		/* look again inside the transaction: another process may be migrating too */
		rc = db_script(db, "BEGIN IMMEDIATE", err);
		if (rc == 0)
			rc = db_run(db, err, on_version, &have,
				    "SELECT max(version) FROM schema_version");
		size_t v = (size_t)have;
		if (rc == 0 && v < newest)
			rc = db_script(db, versions[v], err);
		if (rc == 0 && v < newest)
			rc = db_run(db, err, NULL, NULL,
				    "INSERT INTO schema_version (version) VALUES ($1)",
				    DB_V_INT((int64_t)v + 1));
		if (rc == 0)
			rc = db_script(db, "COMMIT", err);
		if (rc < 0) {
			db_script(db, "ROLLBACK", NULL);
			return err_wrap(err, rc, "bringing store %s to version %zu", path, v + 1);
		}
		have = (int64_t)v + 1;
	}
	return 0;
}

int schema_open_csm(const struct settings *s, struct db **ret, struct err *err)
{
	struct db *db;
	int rc = db_open_sqlite(s->core_db.url, &db, err);
	if (rc < 0)
		return rc;
	rc = migrate(db, s->core_db.url, csm_versions, ARRAY_LEN(csm_versions), err);
	if (rc < 0) {
		db_close(db);
		return rc;
	}
	*ret = db;
	return 0;
}

int schema_migrate_csm(const struct settings *s, struct err *err)
{
	struct db *db;
	int rc = schema_open_csm(s, &db, err);
	if (rc == 0)
		db_close(db);
	return rc;
}

int64_t schema_csm_newest(void)
{
	return ARRAY_LEN(csm_versions);
}

int schema_csm_version(struct db *db, int64_t *ret, struct err *err)
{
	int64_t have = 0;
	int rc = db_run(db, err, on_version, &have, "SELECT max(version) FROM schema_version");
	if (rc == 0 && have <= 0)
		rc = err_set(err, ERR_DB, "it has no version: it is not a store of csm");
	if (rc == 0)
		*ret = have;
	return rc;
}
