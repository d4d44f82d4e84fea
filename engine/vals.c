#include "engine/vals.h"

#include "common/err.h"
#include <stdlib.h>

void vals_clear(struct vals *s)
{
	while (s->n > 0)
		val_drop(s->v[--s->n]);
}

int vals_add(struct vals *s, struct val *v)
{
	if (v != NULL && s->n == s->cap) {
		size_t cap = s->cap > 0 ? s->cap * 2 : 16;
		struct val **grown = realloc(s->v, cap * sizeof(*grown));
		if (grown == NULL) {
			val_drop(v);
			return ERR_NOMEM;
		}
		s->v = grown;
		s->cap = cap;
	}
	if (v == NULL)
		return ERR_NOMEM;
	s->v[s->n++] = v;
	return 0;
}

int vals_spread(struct vals *s, struct val *v)
{
	struct val *item;
	vals_clear(s);
	if (!val_is_seq(v))
		return vals_add(s, val_keep(v));
	for (size_t i = 0; (item = val_item(v, i)) != NULL; i++)
		if (vals_add(s, item) < 0)
			return ERR_NOMEM;
	return 0;
}

void vals_done(struct vals *s)
{
	vals_clear(s);
	free(s->v);
	*s = (struct vals){0};
}
