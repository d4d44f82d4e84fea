/* said.h - what each point of a device said last as an event, to be said again to a broker that may
 * have forgotten it. There may be very many points: their texts lie in one piece of memory, without
 * what can be put together again.
 */
#pragma once

#include "agent/device/driver.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct said_points;

/* One event, as it is put in. */
struct said_event {
	const char *suffix; /* of its topic: what follows <prefix>/gateway/ */
	int64_t timestamp_us;
	const int64_t *source_us; /* NULL: null */
	const char *payload;      /* JSON text */
	unsigned connection;      /* the caller's */
};

/* points: borrowed, outlives it; for their names. ret: NULL: out of memory. */
struct said_points *said_points_new(const struct point_list *points);
struct said_points *said_points_free(struct said_points *s);
/* ret: false: the point has said something under another topic before. Without memory it is
 * forgotten. */
bool said_points_put(struct said_points *s, unsigned point, const struct said_event *e);

struct said_text {
	char *suffix, *body; /* owned */
};
/* ret: 1; 0: it has said nothing, or that in connection `but`; ERR_NOMEM. Release with
 * said_text_done() in all cases. */
int said_points_get(const struct said_points *s, unsigned point, unsigned but,
		    struct said_text *ret);
void said_text_done(struct said_text *t);
