/* stream_int.h - inside streams: stream.c (bytes, connections), serial.c (lines), listen.c
 * (connections accepted). Private to them.
 */
#pragma once

#include "agent/device/stream.h"
#include "common/dial.h"
#include <stdbool.h>

struct chunk; /* one write, or what is left of it */

struct stream {
	struct loop *loop;
	struct loop_src *src;
	struct loop_src *timer; /* limit of the attempt to connect; silence of a serial line */
	struct dial *dial;
	struct stream_handlers h;
	void *arg;
	int fd; /* -1: not connected yet, or closed */
	uint32_t events;
	struct chunk *first, *last; /* what waits to be sent */
	unsigned chunks;
	size_t waiting;    /* bytes in them */
	unsigned char_us;  /* 0: no serial line */
	int64_t silent_us; /* between writes */
	int64_t quiet_us;  /* monotonic: when the last byte is through, theirs or ours */
	int failed;        /* errno of a write; on_close follows */
	unsigned busy;     /* handlers that are running */
	bool over;         /* on_close was called */
	bool tell_sent;    /* on_sent is due */
	bool paused;       /* nothing is read */
	bool freed;        /* the memory goes when no handler runs any more */
};

/* fd: taken, on failure too; non-blocking. ret: yours; NULL: out of memory. */
struct stream *stream_new(struct loop *l, int fd, struct err *err);
/* keepalive and no delay; what fails is not needed. */
void stream_tune_socket(int fd);
/* The silence in front of a write may be over. */
void stream_on_silence(void *arg);
