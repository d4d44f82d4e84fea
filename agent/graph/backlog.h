/* backlog.h - messages that found no room on a ring, in order, up to a number of bytes. */
#pragma once

#include "common/tap.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backlog_msg {
	struct backlog_msg *next;
	struct tap_rec rec;
	uint64_t serial; /* of the tap it came by: a slot number may come to mean another topic */
	char payload[];
};

struct backlog {
	struct backlog_msg *first, *last;
	size_t bytes, max_bytes;
};

/* True for any message while it is empty. */
bool backlog_has_room(const struct backlog *b, size_t len);
/* ret: 0, ERR_LIMIT (no room) or ERR_NOMEM. payload is copied. */
int backlog_add(struct backlog *b, const struct tap_rec *rec, uint64_t serial, const void *payload);
void backlog_drop_first(struct backlog *b);
void backlog_done(struct backlog *b);
