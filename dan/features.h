/* features.h - the features of a device application, compactly: there may be tens of thousands of
 * them, most of which are in no graph. Numbered IDFs first, each in the order given.
 */
#pragma once

#include "common/err.h"
#include "dan/public/dan.h" /* enum dan_mode, struct dan_feature */
#include <stddef.h>
#include <stdint.h>

struct features {          /* all zero: none */
	uint32_t *by_name; /* where in text the names are, of IDFs and ODFs each sorted */
	char *text;        /* of each feature, in their order, where its units are, and its name */
	char *units;       /* the lists of units, each once as a rule */
	size_t n_idfs, n_odfs, units_len;
};

/* Copy lists. Release with features_done() in both cases. Errors: ERR_LIMIT, ERR_NOMEM. */
int features_copy(struct features *f, const struct dan_feature *idfs, size_t n_idfs,
		  const struct dan_feature *odfs, size_t n_odfs, struct err *err);
void features_done(struct features *f);

/* The name as it is kept here; NULL: there is none. */
const char *features_find(const struct features *f, enum dan_mode mode, const char *name);

/* The lists again, as they were given. They borrow the texts. */
struct features_lists {
	struct dan_feature *items; /* owned: the IDFs, then the ODFs */
	const char **units;        /* owned */
};
/* Release with features_lists_done() in both cases. Errors: ERR_NOMEM. */
int features_lists(const struct features *f, struct features_lists *ret, struct err *err);
void features_lists_done(struct features_lists *l);
