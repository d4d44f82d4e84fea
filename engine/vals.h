/* vals.h - a growing array of references to values, owned. */
#pragma once

#include "engine/pyfn.h"

struct vals {
	struct val **v;
	size_t n, cap;
};

void vals_clear(struct vals *s);
void vals_done(struct vals *s);
/* Takes v, also on failure. v NULL: there was no memory for it. ret: 0 or ERR_NOMEM. */
int vals_add(struct vals *s, struct val *v);
/* Set to the items of a sequence, or to the one value that is none. ret: 0 or ERR_NOMEM. */
int vals_spread(struct vals *s, struct val *v);
