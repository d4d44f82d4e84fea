/* wanted.h - what one graph should be, as the store has it (spec ccm 5.2, 5.3). Only reads. */
#pragma once

#include "common/db.h"
#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define OWNER_MAX 255 /* bytes, as csm takes them */

struct wanted {
	bool on;      /* its project runs; false too if there is no such network application: then the rest is empty */
	int64_t p_id; /* 0: there is no such network application */
	char owner[OWNER_MAX + 1];
	json_t *links;	      /* as csm tells them: [{da_id, feature, mode, func, depends, param_no, tag_param_no; idf: input_type, order}] */
	json_t *join;	      /* digest or null */
	json_t *join_depends; /* {alias: digest} */
	json_t *sources;      /* {digest: source} of all that links and join name */
};

/* Only on, p_id and owner. ret: 0, ERR_DB or ERR_NOMEM. */
int wanted_peek(struct db *db, int64_t na_id, struct wanted *ret, struct err *err);
/* All of it, to be released with wanted_done(); after an error there is nothing to release. */
int wanted_read(struct db *db, int64_t na_id, struct wanted *ret, struct err *err);
void wanted_done(struct wanted *w);
