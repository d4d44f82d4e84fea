/* mqtt_link_int.h - inside a link: mqtt_link.c (connections, timers) and mqtt_io.c (packets in
 * and out). Private to the two.
 */
#pragma once

#include "common/dial.h"
#include "common/mqtt/mqtt_link.h"
#include "common/mqtt/mqtt_out.h"

#define LINK_KEEP_BYTES  (1 << 20) /* an emptied buffer larger than this gives its memory back */
#define LINK_WRITE_BYTES (1 << 20) /* messages wait in the queue beyond */
#define LINK_ID_MAX      65535

enum mqtt_link_state {
	LINK_WAITING,   /* for the next attempt */
	LINK_DIALING,   /* TCP */
	LINK_GREETING,  /* CONNACK is due */
	LINK_FORGOTTEN, /* the session of an earlier process: this connection was only for that */
	LINK_CONNECTED, /* and topics are not all acknowledged */
	LINK_UP,
};

struct mqtt_link {
	struct loop *loop;
	struct mqtt_link_handlers handlers;
	void *arg;
	char *host, *client_id, *name; /* name: for the log */
	unsigned port;
	int64_t keepalive_ms, timeout_ms;
	size_t max_payload_bytes;

	enum mqtt_link_state state;
	bool forget; /* the session of an earlier process is still there */
	bool fresh, stopped, closing;
	bool congested; /* packets wait in `in` until the broker takes its acknowledgements */
	bool refused;   /* on_room is due */
	unsigned busy;  /* callbacks running */
	struct dial *dial;
	int fd;
	struct loop_src *src, *retry_timer, *soon_timer, *watch_timer;
	uint32_t events;                                            /* watched */
	int64_t retry_ms, connected_ms, heard_ms, said_ms, ping_ms; /* ping_ms 0: none is due */

	struct mqtt_bytes in, out;
	size_t need; /* bytes until the packet at the beginning of in is complete */
	size_t skip; /* bytes to come of a payload that is too large */
	struct {
		uint16_t id;
		uint8_t qos;
	} skipped;  /* to be acknowledged then */
	bool batch; /* messages were taken */
	struct mqtt_out outgoing;
	struct mqtt_subs *subs;
	uint64_t connects, repeated;
	uint8_t taken[LINK_ID_MAX / 8 + 1]; /* QoS 2 identifiers between PUBREC and PUBREL */
};

/* Send what the socket takes. An error is no news: the loop is about to tell. */
void mqtt_io_send(struct mqtt_link *k);
bool mqtt_io_reading(const struct mqtt_link *k); /* or else what comes has to wait */
/* Watch the socket for what is of use now. */
void mqtt_io_watch(struct mqtt_link *k);
/* Read once and deal with it; mqtt_io_process(): with what was left. ret: 0, or ERR_PEER,
 * ERR_NOMEM, ERR_SYS: the connection is over. */
int mqtt_io_read(struct mqtt_link *k, struct err *err);
int mqtt_io_process(struct mqtt_link *k, struct err *err);
/* Write what has changed in the topics; tells when all are there. */
void mqtt_io_flush_subs(struct mqtt_link *k);
