/* label.c - categories, units, tags. */
#include "ccm/ops/label.h"

#include "ccm/ops/catalogue.h"
#include "ccm/ops/rows.h"

static int ensure(struct db *db, struct err *err, const char *find, const char *make, const char *name, int64_t *ret_id)
{
	int64_t id = 0;
	int rc = q_int(db, err, &id, find, DB_V_TEXT(name));
	bool made = rc == 0;
	if (made)
		rc = q_int(db, err, &id, make, DB_V_TEXT(name));
	if (rc >= 0 && ret_id != NULL)
		*ret_id = id;
	return rc < 0 ? rc : made;
}

int label_category(struct db *db, struct err *err, const char *name, int64_t *ret_id)
{
	return ensure(db, err, "SELECT dfc_id FROM DeviceFeatureCategory WHERE dfc_name = $1",
		      "INSERT INTO DeviceFeatureCategory (dfc_name) VALUES ($1) RETURNING dfc_id", name, ret_id);
}

int label_unit(struct db *db, struct err *err, const char *name, int64_t *ret_id)
{
	return ensure(db, err, "SELECT unit_id FROM Unit WHERE unit_name = $1",
		      "INSERT INTO Unit (unit_name) VALUES ($1) RETURNING unit_id", name, ret_id);
}
