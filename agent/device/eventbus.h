/* eventbus.h - the event view's connection to the broker (gateway-devices 1.2, 1.5): subscribes to
 * the system events of this gateway, collects what is retained before it says `synced`, and
 * publishes at QoS 1.
 */
#pragma once

#include "agent/device/event.h"
#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct eventbus;

struct eventbus_conf {
	const char *gateway; /* name; strings are copied */
	const char *host;
	unsigned port;
	const char *username, *password; /* NULL: none */
	unsigned sync_timeout_ms;
};

struct eventbus_events {
	/* Connected, and the retained states have been told by on_event (retained). complete: all
	 * of them; false: the broker did not say so in time, or does not let us hear them. mark:
	 * the one of eventbus_mark() that the broker remembers; "": none. */
	void (*on_synced)(void *arg, bool complete, const char *mark);
	/* Once after each on_synced, or after an on_event. */
	void (*on_lost)(void *arg, const char *why);
	/* path: of the whole topic, six segments at least, the fifth is `system`. topic: as
	 * event_topic() writes it, however it was said. What is stale (retained acts) or twice (DUP
	 * acts within 10 s) never gets here. */
	void (*on_event)(void *arg, const struct event_path *path, const char *topic,
			 const struct event_body *body, const char *text, size_t len,
			 bool retained);
	/* Of eventbus_send(): 0 or ERR_AGAIN. There is room for one more. */
	void (*on_sent)(void *arg, void *who, uint64_t token, int rc);
};

struct eventbus_stats {
	bool up, synced;
	uint64_t received, dropped, stale, twice, published;
	const char *why; /* it is not up, or hears nothing; "". Borrowed for this turn */
};

int eventbus_new(struct loop *l, const struct eventbus_conf *conf, const struct eventbus_events *e,
		 void *arg, struct eventbus **ret, struct err *err);
/* Says goodbye: `offline`. NULL is fine; returns NULL. */
struct eventbus *eventbus_free(struct eventbus *b);
/* who: whose token it is. ret: 0, on_sent() answers; ERR_AGAIN (away, or too much under way);
 * another negative: it cannot be sent. */
int eventbus_send(struct eventbus *b, void *who, uint64_t token, const char *topic,
		  const char *text, bool retain);
/* Leave a mark with the broker (retained): if it is there at the next connection, the broker has
 * not forgotten what it heard before it. While it is away nothing is left. */
void eventbus_mark(struct eventbus *b, const char *mark);
bool eventbus_has_room(const struct eventbus *b);
/* Nobody answers to this name any more: on_sent() is not called for it. */
void eventbus_forget(struct eventbus *b, const void *who);
void eventbus_get_stats(const struct eventbus *b, struct eventbus_stats *ret);
