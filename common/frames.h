/* frames.h - frames on a Unix stream socket: length, number, JSON, descriptors
 * (docs/keeper-protocol.rst).
 *
 * Never blocks. What a frame held is wiped when it is freed, since the process may be forked for
 * somebody who must not see it.
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_BODY_MAX (16u << 20)
#define FRAME_FDS_MAX  8u
#define FRAME_HEAD_MAX 8u

struct frame {
	struct frame *next;
	uint32_t number; /* 0 where heads have none */
	uint32_t len;
	unsigned n_fds;
	int fds[FRAME_FDS_MAX]; /* owned; TAKE_FD those that are wanted */
	char body[];            /* len bytes */
};

/* ret: yours, body and descriptors to be filled in; NULL: out of memory, or too long. */
struct frame *frame_new(uint32_t number, size_t len);
/* ret: yours; NULL: out of memory. Errors in *ret_code (may be NULL): ERR_NOMEM, ERR_LIMIT. */
struct frame *frame_of(uint32_t number, const json_t *msg, int *ret_code);
/* Give it a duplicate of fd. Errors: ERR_SYS. */
int frame_add_fd(struct frame *f, int fd, struct err *err);
struct frame *frame_free(struct frame *f); /* NULL is fine; returns NULL */

/* Length and number, or the length alone and no descriptors (a control socket). */
enum frames_head { FRAMES_PLAIN = 4, FRAMES_NUMBERED = 8 };

struct frames {
	int fd; /* borrowed, non-blocking */
	enum frames_head head;
	/* being read */
	unsigned char in_head[FRAME_HEAD_MAX];
	size_t in_have; /* bytes of it, head included */
	struct frame *in;
	int in_fds[FRAME_FDS_MAX]; /* came before the head was complete */
	unsigned n_in_fds;
	/* to be written */
	struct frame *first, *last;
	size_t sent;    /* bytes of the first, head included */
	size_t waiting; /* memory of all */
	size_t taken;   /* bytes of frames written whole, with heads of 8; the owner may reset it */
	bool stuck;     /* too many descriptors are on their way: flush again in a while */
};

void frames_init(struct frames *c, int fd, enum frames_head head);
void frames_done(struct frames *c);

/* The next whole frame that has arrived. ret: 1 and *ret (yours), 0: none yet; ERR_PEER: the other
 * side is gone (err says "closed") or talks rubbish; ERR_NOMEM. Its body is not looked at, but for
 * its first byte, which must begin an object. */
int frames_read(struct frames *c, struct frame **ret, struct err *err);
/* Queue; f is taken. Memory it needs while it waits: frame_size(). */
void frames_put(struct frames *c, struct frame *f);
/* Write what can be written. ret: 0 or ERR_PEER. */
int frames_flush(struct frames *c, struct err *err);
/* Forget what waits and has not begun to be written. */
void frames_drop(struct frames *c);
/* Wipe what is held, in a fork that must not see it; nothing works after this. */
void frames_wipe(struct frames *c);

static inline bool frames_waiting(const struct frames *c)
{
	return c->first != NULL;
}
static inline size_t frame_size(size_t len)
{
	return sizeof(struct frame) + len;
}
