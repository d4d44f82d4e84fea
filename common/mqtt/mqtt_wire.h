/* mqtt_wire.h - MQTT 3.1.1 as bytes: a parser for what a broker sends, writers for what a client
 * sends.
 *
 * Pure functions over buffers: no socket, no clock, no session. The rules are those of OASIS MQTT
 * 3.1.1: 2.2 fixed header, 2.2.3 remaining length, 2.3.1 packet identifiers, 1.5.3 and 4.7 strings
 * and topics, 3.1 CONNECT, 3.2 CONNACK, 3.3 PUBLISH, 3.4 to 3.7 PUBACK, PUBREC, PUBREL, PUBCOMP,
 * 3.8 to 3.11 SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, 3.12 and 3.13 PINGREQ, PINGRESP, 3.14
 * DISCONNECT.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MQTT_TOPIC_MAX     65535
#define MQTT_REMAINING_MAX 268435455 /* 2.2.3 */
#define MQTT_SUB_REFUSED   0x80      /* in a SUBACK (3.9.3) */

enum mqtt_type {
	MQTT_CONNECT = 1,
	MQTT_CONNACK,
	MQTT_PUBLISH,
	MQTT_PUBACK,
	MQTT_PUBREC,
	MQTT_PUBREL,
	MQTT_PUBCOMP,
	MQTT_SUBSCRIBE,
	MQTT_SUBACK,
	MQTT_UNSUBSCRIBE,
	MQTT_UNSUBACK,
	MQTT_PINGREQ,
	MQTT_PINGRESP,
	MQTT_DISCONNECT,
};

/* ---- bytes that wait: read and not parsed, written and not sent ---- */

struct mqtt_bytes { /* all zero: empty */
	uint8_t *data;
	size_t begin, end, cap; /* what waits is data[begin] up to data[end - 1] */
};

void mqtt_bytes_done(struct mqtt_bytes *b);
/* Make room for n bytes at data[end]; moves what waits. ret: 0 or ERR_NOMEM. */
int mqtt_bytes_reserve(struct mqtt_bytes *b, size_t n);
int mqtt_bytes_append(struct mqtt_bytes *b, const void *from, size_t n);
/* The first n are dealt with. An emptied buffer of more than keep bytes gives its memory back. */
void mqtt_bytes_consume(struct mqtt_bytes *b, size_t n, size_t keep);

static inline size_t mqtt_bytes_waiting(const struct mqtt_bytes *b)
{
	return b->end - b->begin;
}

/* ---- from the broker ---- */

struct mqtt_publish {
	const char *topic;   /* not terminated */
	const void *payload; /* parsed: NULL if it is too large */
	size_t topic_len, len;
	uint16_t id; /* with QoS 1 and 2 */
	uint8_t qos;
	bool retained, dup;
};

struct mqtt_packet { /* pointers into the buffer */
	enum mqtt_type type;
	uint16_t id; /* 0: this type has none */
	union {
		struct {
			bool session_present;
			uint8_t code; /* 0: accepted; mqtt_connack_text() */
		} connack;
		struct {
			const uint8_t *codes; /* granted QoS or MQTT_SUB_REFUSED */
			size_t n;
		} suback;
		struct mqtt_publish publish;
	};
	size_t used; /* bytes of the buffer it takes */
	size_t skip; /* bytes that follow and belong to it: a payload that is too large */
};

/* Look for one packet at the beginning of data. A PUBLISH with more than max_payload bytes is found
 * as soon as its header is there, without its payload. ret: 1: *ret_packet; 0: not complete,
 * *ret_need (more than n) says how many bytes it takes to get further; ERR_PEER: no broker says
 * this, err names what is wrong. */
int mqtt_parse(const uint8_t *data, size_t n, size_t max_payload, struct mqtt_packet *ret_packet,
	       size_t *ret_need, struct err *err);

const char *mqtt_connack_text(uint8_t code); /* why a connection was refused (3.2.2.3) */

/* ---- to the broker: each appends one packet; ret: 0, ERR_NOMEM, or ERR_RANGE (too large) ---- */

struct mqtt_connect {
	const char *client_id;
	const char *username, *password; /* NULL: none; no password without a user name (3.1.2.9) */
	const struct mqtt_publish *will; /* NULL: none */
	bool clean_session;
	uint16_t keepalive_s;
};
int mqtt_put_connect(struct mqtt_bytes *b, const struct mqtt_connect *c);
size_t mqtt_publish_bytes(const struct mqtt_publish *p); /* size of the packet; 0: too large */
int mqtt_put_publish(struct mqtt_bytes *b, const struct mqtt_publish *p);
void mqtt_mark_dup(uint8_t *publish, bool dup); /* in a PUBLISH that was put */
/* PUBACK, PUBREC, PUBREL, PUBCOMP. */
int mqtt_put_ack(struct mqtt_bytes *b, enum mqtt_type type, uint16_t id);
/* PINGREQ, DISCONNECT. */
int mqtt_put_bare(struct mqtt_bytes *b, enum mqtt_type type);
/* SUBSCRIBE, or UNSUBSCRIBE, which has no qos: n (at least 1) topics in one packet. */
struct mqtt_filter {
	const char *topic;
	uint8_t qos;
};
int mqtt_put_subscribe(struct mqtt_bytes *b, uint16_t id, const struct mqtt_filter *filters,
		       size_t n);
int mqtt_put_unsubscribe(struct mqtt_bytes *b, uint16_t id, const struct mqtt_filter *filters,
			 size_t n);

/* A topic name: UTF-8 without NUL, + and #, 1 to 65535 bytes. */
bool mqtt_topic_valid(const char *topic, size_t len);
/* The same, and + and # may stand for whole levels (4.7.1). */
bool mqtt_filter_valid(const char *filter, size_t len);
