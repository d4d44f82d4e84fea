/* schema.h - the versions of each store, as SQL under conf/sql/, and the way forward from one to the next. */
#pragma once

#include "common/db.h"
#include "common/err.h"
#include "common/settings.h"

/* Open csm's store as settings say and bring it to the newest version. A store that is older is copied first, beside itself, as
 * <file>.v<N>.bak. A store that is newer than this program is refused. ret: yours (db_close()). */
int schema_open_csm(const struct settings *s, struct db **ret, struct err *err);
/* The same for `iotctl initdb`: open, migrate, close. */
int schema_migrate_csm(const struct settings *s, struct err *err);

/* The newest version of csm's store that this program knows. */
int64_t schema_csm_newest(void);
/* The version of a store that is open to look at. ret: 0, or ERR_DB: it is none of csm's. */
int schema_csm_version(struct db *db, int64_t *ret, struct err *err);
