/* stream.h - bytes to and from the field: TCP connections made or accepted, and serial lines
 * (gateway-devices 1.7). Nothing blocks, name look-ups included.
 */
#pragma once

#include "agent/device/field.h"
#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_WRITE_MAX 65536 /* bytes that may wait to be sent */

struct stream;
struct stream_listener;

struct stream_address {
	char host[46]; /* numeric */
	unsigned port;
};

struct stream_handlers {
	void (*on_open)(void *arg); /* connected; not for accepted ones. May be NULL for those */
	void (*on_data)(void *arg, const uint8_t *bytes, size_t n); /* some hundred at most */
	void (*on_sent)(void *arg); /* all that was written has left us; may be NULL */
	/* Never opened, or over; once. The stream is still yours to free, here or later. */
	void (*on_close)(void *arg, const char *why);
};

/* A TCP connection; timeout_ms of the attempt, look-up included. ret: yours. */
int stream_connect(struct loop *l, const char *host, unsigned port, unsigned timeout_ms,
		   const struct stream_handlers *h, void *arg, struct stream **ret,
		   struct err *err);

/* The serial block, as rows for tables of device types; they stand flat in the object. */
extern const struct field serial_fields[];
/* What the rows cannot say (a baud rate that termios has not): with problem_add(). */
void serial_check(const json_t *block, struct problems *p);
/* Open a serial line by a checked block. Open at once: on_open is not called. Writes keep the
 * block's silent_interval. Errors: ERR_SYS and others of open(2) and termios. */
int stream_open_serial(struct loop *l, const json_t *block, const struct stream_handlers *h,
		       void *arg, struct stream **ret, struct err *err);
/* Time of one character on a serial line, microseconds; 0: not a serial line. */
unsigned stream_char_us(const struct stream *s);

typedef void stream_accept_fn(void *arg, struct stream *s, const struct stream_address *local,
			      const struct stream_address *remote);
/* host: an address (0.0.0.0 and :: are all of this machine) or localhost; a name would need a
 * look-up. fn gets connections as they come, s is yours: give it handlers with stream_start() or
 * free it. Errors: ERR_INVAL, ERR_SYS, ERR_NOMEM. */
int stream_listen(struct loop *l, const char *host, unsigned port, stream_accept_fn *fn, void *arg,
		  struct stream_listener **ret, struct err *err);
struct stream_listener *stream_listener_free(struct stream_listener *s);
int stream_start(struct stream *s, const struct stream_handlers *h, void *arg, struct err *err);
/* Of an accepted one: whether there are as many descriptors left for others as its listener has
 * connections, `own`. So no listener takes them all, and neither do many together. */
bool stream_leaves_descriptors(const struct stream *s, size_t own);

/* Queue bytes. Errors: ERR_LIMIT (too much waits), ERR_PEER (closed). */
int stream_write(struct stream *s, const uint8_t *bytes, size_t n, struct err *err);
/* on_data is not called, but for what a peer said last before it went, until it goes on. */
void stream_pause(struct stream *s, bool pause);
/* Forget what was received and not yet told. */
void stream_drop_input(struct stream *s);
/* Closes at once, and what has not left us is lost; no handler is called any more. Also from within
 * its handlers. NULL is fine; returns NULL. */
struct stream *stream_free(struct stream *s);
