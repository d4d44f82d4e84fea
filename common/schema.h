/* schema.h - the versions of each store, as SQL under conf/sql/, and the way forward from one to the next. */
#pragma once

#include "common/db.h"
#include "common/err.h"
#include "common/settings.h"

/* csm's: registrations, graphs, functions that run. ccm's: projects, models, functions, accounts. The device
 * service's: states that others told it, what waits for the broker. */
enum schema_store { SCHEMA_CSM, SCHEMA_CCM, SCHEMA_DEVICES, SCHEMA_STORES };

/* "csm", "ccm", "devices" */
const char *schema_name(enum schema_store which);
/* Its file as the settings say, or ":memory:"; borrowed. */
const char *schema_path(const struct settings *s, enum schema_store which);

/* Open a store as settings say and bring it to the newest version. A store that is older is copied first, beside itself, as
 * <file>.v<N>.bak. A store that is newer than this program is refused. ret: yours (db_close()). */
int schema_open(const struct settings *s, enum schema_store which, struct db **ret, struct err *err);
/* The same for `iotctl initdb`: open, migrate, close. */
int schema_migrate(const struct settings *s, enum schema_store which, struct err *err);

/* The newest version that this program knows. */
int64_t schema_newest(enum schema_store which);
/* The version of a store that is open to look at. ret: 0, or ERR_DB: it is none of this kind. */
int schema_version(struct db *db, enum schema_store which, int64_t *ret, struct err *err);
