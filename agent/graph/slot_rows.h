/* slot_rows.h - figures of slots, as they are gathered for a transport_slots_fn. */
#pragma once

#include "agent/graph/transport.h"

struct slot_rows {
	struct transport_slot_stats *rows; /* owned: free() */
	size_t n, cap;
};

/* Without memory it is a row less. */
void slot_rows_add(struct slot_rows *r, struct transport_slot_stats row);
