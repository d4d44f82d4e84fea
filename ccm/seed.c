#include "ccm/seed.h"

#include "common/embed.h"
#include "common/util.h"
#include <string.h>

EMBED(ccm_seed, "conf/ccm-seed.json");

int seed_if_empty(struct db *db, struct imported *ret_made, struct err *err)
{
	json_auto_t *doc = NULL;
	int rc = import_is_empty(db, err);
	if (rc <= 0)
		return rc;
	rc = import_parse(ccm_seed, strlen(ccm_seed), &doc, err);
	if (rc == 0)
		rc = import_run(db, doc, ret_made, err);
	return rc < 0 ? rc : 1;
}
