/* mqtt_link_int.h - inside a link: mqtt_link.c (connections, timers), mqtt_io.c (packets in and
 * out) and mqtt_end.c (goodbye). Private to the three.
 */
#pragma once

#include "common/dial.h"
#include "common/mqtt/mqtt_ids.h"
#include "common/mqtt/mqtt_link.h"
#include "common/mqtt/mqtt_out.h"

#define LINK_KEEP_BYTES  (1 << 20)  /* an emptied buffer larger than this gives its memory back */
#define LINK_WRITE_BYTES (1 << 20)  /* messages wait in the queue beyond */
#define LINK_WRITE_FEW   (64 << 10) /* of a frugal link */

enum mqtt_link_state {
	LINK_WAITING,   /* for the next attempt; or over, when it is closing */
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
	char *username, *password;     /* NULL: none */
	unsigned port;
	int64_t keepalive_ms, timeout_ms, retry_min_ms, retry_max_ms;
	size_t max_payload_bytes;
	bool clean_session, give_up, frugal, retry_at_once;

	enum mqtt_link_state state;
	bool forget; /* the session of an earlier process is still there */
	bool fresh, stopped;
	bool closing, bye; /* bye: and has said so */
	bool congested;    /* packets wait in `in` until the broker takes its acknowledgements */
	bool refused;      /* on_room is due */
	unsigned busy;     /* callbacks running */
	struct dial *dial;
	int fd;
	/* timer: next attempt; its end; keep alive, as the state is */
	struct loop_src *src, *timer, *soon_timer;
	uint32_t events;                                            /* watched */
	int64_t retry_ms, connected_ms, heard_ms, said_ms, ping_ms; /* ping_ms 0: none is due */
	int64_t end_ms;                                             /* of a goodbye */
	unsigned short_lives; /* connections in a row that the broker ended at once */

	struct mqtt_bytes in, out;
	size_t read_bytes; /* to ask for */
	size_t need;       /* bytes until the packet at the beginning of in is complete */
	size_t skip;       /* bytes to come of a payload that is too large */
	struct {
		uint16_t id;
		uint8_t qos;
	} skipped;  /* to be acknowledged then */
	bool batch; /* messages were taken */
	struct mqtt_out outgoing;
	struct mqtt_subs *subs;
	uint64_t connects, repeated, given_up;
	struct mqtt_ids taken; /* of QoS 2 messages between PUBREC and PUBREL */
};

/* What is sent and not acknowledged has no future; tells who waits for it. */
void mqtt_link_give_up(struct mqtt_link *k);
/* Take the connection down, whatever there is of it. */
void mqtt_link_hang_up(struct mqtt_link *k);
/* What the loop found on the socket. */
void mqtt_link_on_io(void *arg, uint32_t events);
/* After mqtt_io_read() and the like: what they led to. rc: their result. */
void mqtt_link_conclude(struct mqtt_link *k, int rc, const struct err *err);
/* In a goodbye: what is next. */
void mqtt_end_step(struct mqtt_link *k);
/* Wait until it is over or k->end_ms is there. */
void mqtt_end_wait(struct mqtt_link *k);

static inline size_t mqtt_link_keep_bytes(const struct mqtt_link *k)
{
	return k->frugal ? 0 : LINK_KEEP_BYTES;
}

static inline size_t mqtt_link_write_bytes(const struct mqtt_link *k)
{
	return k->frugal ? LINK_WRITE_FEW : LINK_WRITE_BYTES;
}

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
