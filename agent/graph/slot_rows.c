#include "agent/graph/slot_rows.h"
#include <stdlib.h>

void slot_rows_add(struct slot_rows *r, struct transport_slot_stats row)
{
	if (r->n == r->cap) {
		size_t cap = r->cap > 0 ? r->cap * 2 : 64;
		struct transport_slot_stats *more = realloc(r->rows, cap * sizeof(*more));

		if (more == NULL)
			return;
		r->rows = more;
		r->cap = cap;
	}
	r->rows[r->n++] = row;
}
