/* control.h - frames on the control socket: a 4-byte little-endian length and one JSON object
 * (docs/graph-document.rst). Never blocks. */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define CONTROL_FRAME_MAX (16u << 20)

struct control {
	int fd;
	unsigned char *in; /* bytes read, not yet handled: in[0..in_len) */
	size_t in_len, in_cap;
	char *out; /* bytes to write: out[out_at..out_len) */
	size_t out_at, out_len, out_cap;
};

/* fd: borrowed, made non-blocking. */
int control_init(struct control *c, int fd, struct err *err);
void control_done(struct control *c);

/* Read what is there and yield the next frame, if one is complete. ret: 1 and *ret_frame (yours),
 * 0: none yet; ERR_PEER: the other side is gone (err says "closed") or talks rubbish; ERR_NOMEM.
 * Call until 0. */
int control_read(struct control *c, json_t **ret_frame, struct err *err);
/* Queue a frame and write what can be written. frame: taken; NULL: ERR_NOMEM. Errors: ERR_NOMEM,
 * ERR_PEER. */
int control_write(struct control *c, json_t *frame, struct err *err);
/* Write on. ret: 0 or ERR_PEER. */
int control_flush(struct control *c, struct err *err);
/* Bytes that wait to be written. */
static inline size_t control_waiting(const struct control *c)
{
	return c->out_len - c->out_at;
}
