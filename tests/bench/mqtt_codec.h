/* mqtt_codec.h - a small MQTT 3.1.1 client codec for measuring: one read and one write for a batch
 * of packets, all QoS levels.
 *
 * Opening and subscribing block; then the socket is non-blocking and the caller polls mqtt_fd().
 * Nothing is repeated and no reconnection is made: a measurement that loses its connection has
 * failed.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mqtt_conn;

struct mqtt_message { /* borrowed for the callback; nothing is terminated */
	const char *topic, *payload;
	size_t topic_len, len;
	uint8_t qos;
	bool retained, dup;
};

typedef void mqtt_message_fn(void *arg, struct mqtt_conn *c, const struct mqtt_message *m);

/* Connect to 127.0.0.1:port with a clean session. fn may be NULL. ret: yours; give it to
 * mqtt_close(). */
int mqtt_open(unsigned port, const char *client_id, mqtt_message_fn *fn, void *arg,
	      struct mqtt_conn **ret, struct err *err);
struct mqtt_conn *mqtt_close(
	struct mqtt_conn *c); /* DISCONNECT if it can be written; NULL is fine; returns NULL */
/* Only before the first message is published. */
int mqtt_subscribe(struct mqtt_conn *c, const char *topic, uint8_t qos, struct err *err);

/* Put a message into the write buffer. Errors: ERR_AGAIN (all packet ids are in use), ERR_NOMEM. */
int mqtt_publish(struct mqtt_conn *c, const char *topic, size_t topic_len, const void *payload,
		 size_t len, uint8_t qos);
/* Read once, call fn for every message that is complete, acknowledge into the write buffer. Errors:
 * ERR_PEER (closed, or not MQTT), ERR_NOMEM. */
int mqtt_read(struct mqtt_conn *c, struct err *err);
/* Write what the socket takes. ret: 0 all written, 1 something is left (poll for writing),
 * ERR_PEER. */
int mqtt_flush(struct mqtt_conn *c, struct err *err);

int mqtt_fd(const struct mqtt_conn *c);
bool mqtt_pending(const struct mqtt_conn *c); /* the write buffer is not empty */
