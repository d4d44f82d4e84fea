/* server.h - the command socket: who may connect, packets and descriptors in, answers and events
 * out. Never waits; a peer that does not read gets no more until it does.
 */
#pragma once

#include "broker/commands.h"
#include <sys/types.h>

#define CONNECTIONS_MAX 8u

struct server;

/* Listen at path (mode 0600, or 0666 if `allow` is not -1: then that user may connect, too, beside
 * ours and root). c: borrowed. ret: yours. Errors: ERR_EXIST (another broker answers there),
 * ERR_SYS, ERR_NOMEM, ERR_RANGE. */
int server_new(struct commands *c, const char *path, uid_t allow, struct server **ret,
	       struct err *err);
struct server *server_free(struct server *s); /* NULL is fine; returns NULL */
/* From now on input wakes the broker: after wake_start(). */
int server_watch(struct server *s, struct err *err);

/* Tell everybody, as soon as they read. */
void server_tell(struct server *s, uint32_t port, enum plug_event event);
/* True if serving would do something even if no descriptor has input. */
bool server_has_news(const struct server *s);
/* Take connections and requests, a bounded number, and send what is due. ret: true if there is
 * more to do. */
bool server_serve(struct server *s);
