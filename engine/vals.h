/* vals.h - a growing array of references to values, owned. */
#pragma once

#include "common/err.h"
#include "engine/pyfn.h"

struct vals {
	struct val **v;
	size_t n, cap;
};

void vals_done(struct vals *s);
/* Make room for so many more. ret: 0 or ERR_NOMEM. */
int vals_reserve(struct vals *s, size_t more);
/* Set to the items of a list or tuple. ret: 0 or ERR_NOMEM. */
int vals_spread(struct vals *s, struct val *seq);

static inline void vals_clear(struct vals *s)
{
	if (s->n > 0)
		val_drop_all(s->v, s->n);
	s->n = 0;
}
/* Takes v, also on failure. v NULL: there was no memory for it. ret: 0 or ERR_NOMEM. */
static inline int vals_add(struct vals *s, struct val *v)
{
	if (v == NULL)
		return ERR_NOMEM;
	if (s->n == s->cap && vals_reserve(s, 1) < 0) {
		val_drop(v);
		return ERR_NOMEM;
	}
	s->v[s->n++] = v;
	return 0;
}
