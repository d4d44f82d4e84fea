#include "engine/vals.h"

#include <stdlib.h>

#define FIRST_CAP 16

int vals_reserve(struct vals *s, size_t more)
{
	size_t cap = s->cap > 0 ? s->cap : FIRST_CAP;
	while (cap - s->n < more)
		cap *= 2;
	if (cap == s->cap)
		return 0;
	struct val **grown = realloc(s->v, cap * sizeof(*grown));
	if (grown == NULL)
		return ERR_NOMEM;
	s->v = grown;
	s->cap = cap;
	return 0;
}

int vals_spread(struct vals *s, struct val *seq)
{
	vals_clear(s);
	size_t n = val_count(seq);
	if (n > s->cap && vals_reserve(s, n) < 0)
		return ERR_NOMEM;
	val_items(seq, s->v);
	s->n = n;
	return 0;
}

void vals_done(struct vals *s)
{
	vals_clear(s);
	free(s->v);
	*s = (struct vals){0};
}
