/* bus_subs.h - the subscriptions of a bus: what is wanted, what the broker has, and who waits for
 * it. Only for bus.c.
 *
 * Changes of one loop turn share packets (up to 100 topics each). Loop thread only, but for the
 * library's callbacks inside.
 */
#pragma once

#include "common/bus.h"
#include <MQTTAsync.h>

#define BUS_CALL_TOPICS 100

struct bus_subs;
struct bus_sub;

/* One SUBSCRIBE or UNSUBSCRIBE on its way. */
struct bus_call {
	struct bus_subs *owner;
	struct bus_call *prev, *next; /* all calls not answered yet or answered and not handled */
	struct bus_call *next_answered;
	unsigned generation; /* of the connection: an older call's subs may be gone */
	bool subscribe, lost;
	int n;
	struct bus_sub *subs[BUS_CALL_TOPICS];
	int codes[BUS_CALL_TOPICS]; /* granted QoS or 0x80 */
};

/* on_answered: on a thread of the library; give the call to bus_subs_answered() on the loop.
 * on_synced: after bus_subs_connected(), once everything wanted then was acknowledged. */
int bus_subs_new(struct loop *l, void (*on_answered)(void *arg, struct bus_call *call),
		 void (*on_synced)(void *arg, bool fresh), void *arg, struct bus_subs **ret,
		 struct err *err);
struct bus_subs *bus_subs_free(
	struct bus_subs *s); /* after the client is destroyed; no done is called */

/* Errors: ERR_INVAL (no topic filter, bad qos), ERR_NOMEM. */
int bus_subs_set(struct bus_subs *s, const char *topic, bool want, uint8_t qos, bus_done_fn *done,
		 void *arg, struct err *err);
void bus_subs_connected(struct bus_subs *s, MQTTAsync client, bool fresh);
void bus_subs_disconnected(struct bus_subs *s);
void bus_subs_answered(struct bus_subs *s, struct bus_call *calls);
