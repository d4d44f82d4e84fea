/* mqtt.h - a few packets of MQTT 3.1.1 over a blocking socket: enough to see whether a broker
 * answers and what it can.
 *
 * Not for daemons (those use common/bus.h). Every call ends at the deadline given at mqtt_open().
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a port looks from outside. */
enum probe {
	PROBE_NOTHING, /* no connection */
	PROBE_OTHER,   /* something listens there and does not speak the protocol */
	PROBE_ANSWERS,
};

/* MQTT: a CONNECT is answered by a CONNACK. WebSocket: an upgrade with subprotocol mqtt is
 * accepted. why: one sentence. */
enum probe probe_mqtt(const char *host, unsigned port, int timeout_ms, char *why, size_t cap);
enum probe probe_websocket(const char *host, unsigned port, int timeout_ms, char *why, size_t cap);
/* Whether host is an address of this machine. */
bool host_is_local(const char *host);

struct mqtt; /* one connection */

struct mqtt_packet {
	uint8_t type;  /* 2 CONNACK, 3 PUBLISH, 4 PUBACK, 9 SUBACK ... */
	uint8_t flags; /* low half of the first byte */
	uint8_t *body; /* len bytes, valid until the next read */
	size_t len;
};

/* Connect the socket. ret: yours; give it to mqtt_close(). Errors: ERR_NOENT (nothing there),
 * ERR_TIMEOUT. */
int mqtt_open(const char *host, unsigned port, int timeout_ms, struct mqtt **ret, struct err *err);
struct mqtt *mqtt_close(struct mqtt *m); /* NULL is fine */
int mqtt_connect(struct mqtt *m, const char *client_id, bool clean_session, struct err *err);
int mqtt_subscribe(struct mqtt *m, const char *topic, uint8_t qos, struct err *err);
/* QoS 0 or 1; the PUBACK is not awaited. */
int mqtt_publish(struct mqtt *m, const char *topic, const void *payload, size_t len, uint8_t qos,
		 uint16_t packet_id, struct err *err);
int mqtt_puback(struct mqtt *m, uint16_t packet_id, struct err *err);
int mqtt_disconnect(struct mqtt *m, struct err *err);
/* The next packet. ret: 0, ERR_TIMEOUT after wait_ms, ERR_PEER (closed, or not MQTT). */
int mqtt_read(struct mqtt *m, int wait_ms, struct mqtt_packet *ret, struct err *err);
/* Payload and, for QoS above 0, packet id of a PUBLISH. ret: false if it is malformed. */
bool mqtt_parse_publish(const struct mqtt_packet *p, const uint8_t **ret_payload, size_t *ret_len,
			uint16_t *ret_id);
