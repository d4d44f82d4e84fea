/* mqtt_subs.h - the topics a client wants from its broker, what the broker has of them, and who
 * waits for it.
 *
 * Changes share packets of up to 100 topics. On every connection all topics are asked for again,
 * also in a session that was taken up again: a broker that was killed may come back with the
 * session as it was a few seconds before. Pure but for the callbacks.
 */
#pragma once

#include "common/mqtt/mqtt_wire.h"

struct mqtt_subs;

/* rc: 0: the broker acknowledged it; ERR_ACCES: it refused; ERR_CONFLICT: a later call for the same
 * topic took its place. */
typedef void mqtt_done_fn(void *arg, int rc);

int mqtt_subs_new(struct mqtt_subs **ret, struct err *err);
struct mqtt_subs *mqtt_subs_free(struct mqtt_subs *s); /* no done is called; returns NULL */

/* topic: a filter. done: called once, never in here; NULL: nobody waits. ret: 0, ERR_INVAL (no
 * filter) or ERR_NOMEM. */
int mqtt_subs_set(struct mqtt_subs *s, const char *topic, bool want, uint8_t qos,
		  mqtt_done_fn *done, void *arg, struct err *err);
/* fresh: the broker has forgotten everything. */
void mqtt_subs_connected(struct mqtt_subs *s, bool fresh);
void mqtt_subs_disconnected(struct mqtt_subs *s);
/* While connected: write packets for what has changed, tell those whose wish is true already. ret:
 * 0 or ERR_NOMEM: to be called again. */
int mqtt_subs_flush(struct mqtt_subs *s, struct mqtt_bytes *w);
/* A SUBACK or UNSUBACK; mqtt_subs_flush() is due then. ret: 0, or ERR_PEER if it does not fit to
 * what was asked. */
int mqtt_subs_answered(struct mqtt_subs *s, const struct mqtt_packet *p, struct err *err);
/* All that was wanted at the beginning of the connection is answered. */
bool mqtt_subs_synced(const struct mqtt_subs *s);
