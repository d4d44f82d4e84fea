#include "common/schema.h"

#include "common/embed.h"
#include "common/util.h"
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

EMBED(schema_csm_0001, "conf/sql/csm/0001.sql");
EMBED(schema_csm_0002, "conf/sql/csm/0002.sql");
EMBED(schema_csm_0003, "conf/sql/csm/0003.sql");

EMBED(schema_ccm_0001, "conf/sql/ccm/0001.sql");

EMBED(schema_devices_0001, "conf/sql/devices/0001.sql");

static const char *const csm_versions[] = {schema_csm_0001, schema_csm_0002, schema_csm_0003};
static const char *const ccm_versions[] = {schema_ccm_0001};
static const char *const devices_versions[] = {schema_devices_0001};

/* mark: a table that only stores of this kind have; url: in the settings */
static const struct {
	const char *name, *mark;
	size_t url;
	const char *const *versions;
	size_t newest;
} stores[SCHEMA_STORES] = {
	[SCHEMA_CSM] = {"csm", "meta", offsetof(struct settings, core_db.url), csm_versions, ARRAY_LEN(csm_versions)},
	[SCHEMA_CCM] = {"ccm", "NetworkApplication", offsetof(struct settings, gui_db.url), ccm_versions, ARRAY_LEN(ccm_versions)},
	[SCHEMA_DEVICES] = {"devices", "outbox", offsetof(struct settings, devices_db.url), devices_versions,
			    ARRAY_LEN(devices_versions)},
};

const char *schema_name(enum schema_store which)
{
	return stores[which].name;
}

const char *schema_path(const struct settings *s, enum schema_store which)
{
	return *(char *const *)((const char *)s + stores[which].url);
}

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

/* Two kinds of store in one file would take each other's version for their own; what another program keeps there is none. */
static int check_kind(struct db *db, enum schema_store which, const char *path, struct err *err)
{
	int64_t foreign = 0;
	int found = db_run(db, err, on_version, &foreign,
			   "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite@_%' ESCAPE '@'"
			   " AND NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'schema_version')");
	if (found < 0)
		return found;
	if (foreign > 0)
		return err_set(err, ERR_DB, "store %s is another program's: it has tables, and no version of ours", path);
	for (int other = 0; other < SCHEMA_STORES; other++) {
		int64_t there = 0;
		int rc = other == (int)which ? 0
					     : db_run(db, err, on_version, &there,
						      "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
						      DB_V_TEXT(stores[other].mark));
		if (rc == 0 && there > 0)
			rc = err_set(err, ERR_DB, "store %s is %s's, not %s's: each needs a file of its own", path,
				     stores[other].name, stores[which].name);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int schema_open(const struct settings *s, enum schema_store which, struct db **ret, struct err *err)
{
	const char *path = schema_path(s, which);
	struct db *db;
	int rc = db_open_sqlite(path, &db, err);
	if (rc < 0)
		return rc;
	if ((rc = check_kind(db, which, path, err)) < 0 ||
	    (rc = migrate(db, path, stores[which].versions, stores[which].newest, err)) < 0) {
		db_close(db);
		return rc;
	}
	*ret = db;
	return 0;
}

int schema_migrate(const struct settings *s, enum schema_store which, struct err *err)
{
	struct db *db;
	int rc = schema_open(s, which, &db, err);
	if (rc == 0)
		db_close(db);
	return rc;
}

int64_t schema_newest(enum schema_store which)
{
	return (int64_t)stores[which].newest;
}

int schema_version(struct db *db, enum schema_store which, int64_t *ret, struct err *err)
{
	int64_t have = 0, marks = 0;
	int rc = db_run(db, err, on_version, &have, "SELECT max(version) FROM schema_version");
	if (rc == 0)
		rc = db_run(db, err, on_version, &marks,
			    "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1", DB_V_TEXT(stores[which].mark));
	if (rc == 0 && (have <= 0 || marks == 0))
		rc = err_set(err, ERR_DB, "it is not a store of %s", stores[which].name);
	if (rc == 0)
		*ret = have;
	return rc;
}
