/* plug.h - what an agent and the broker plugin say to each other (docs/plugin-protocol.rst).
 *
 * One packet each on a SOCK_SEQPACKET Unix socket: a request or an answer, followed by `len` bytes of text. Native byte order:
 * both ends are on one machine. Every request is answered, in order; events come in between and carry seq 0.
 */
#pragma once

#include <stdint.h>

#define PLUG_VERSION  1u
#define PLUG_TEXT_MAX 65535u /* of a topic, the longest text */
#define PLUG_NAME_MAX 128u   /* of a port */
#define PLUG_FDS_MAX  4

enum plug_op {
	PLUG_HELLO = 1,   /* slot: PLUG_VERSION. Answer: slot: the plugin's, a: a number made at its start, text: its version */
	PLUG_PORT_ADD,    /* text: name; fds: in (read-write), out, wake (write end), result (read end), or in and out alone: no
			     engine yet. Answer: port, slot: enum plug_state; flags PLUG_LIVING: it was there with
			     these rings and goes on, the other descriptors are not used. One of that name with other rings goes */
	PLUG_PORT_HOLD,   /* the engine is dead: take the results that are there. Answer: as struct plug_answer says; flags PLUG_MORE:
			     there are more results, ask again */
	PLUG_PORT_RETIRE, /* after HOLD; flags PLUG_SKIP: the record at the cursor is skipped */
	PLUG_PORT_RESUME, /* after RETIRE; fds: out, wake, result of the next engine, which is woken at once */
	PLUG_PORT_REMOVE,
	PLUG_TAP,      /* port, slot, text: topic. The same again is fine. ERR_EXIST: the slot is another topic's */
	PLUG_UNTAP,    /* port, slot */
	PLUG_OUT,      /* port, slot, text: topic: likewise, for results */
	PLUG_DROP_OUT, /* port, slot: results for it are counted and dropped until it is given out again */
	PLUG_LIST,     /* port. One answer for each topic: slot, flags PLUG_OUTWARD, text: topic; with PLUG_MORE, but the last, which
			  has a: below that all tapped slots are and were, b: likewise for results */
	PLUG_STATS,    /* Answer: text: lines "name total" */
	PLUG_SLOT_STATS, /* port. One answer for each tapped slot: slot, a: received, b: dropped for want of room, c: dropped for
			    size; with PLUG_MORE, but the last, which is empty */
	PLUG_ECHO,       /* text: topic, a NUL, topic: one message on the first is answered by one on the second, once */
	PLUG_PUBLISH,    /* port, slot of an out topic, flags: QoS, text: payload */
	PLUG_SWEEP,      /* text: how their names begin: such ports that nobody who is connected has added are removed.
			    Answer: a: how many */
	PLUG_OPS
};

/* Events of the plugin. */
enum plug_event {
	PLUG_BROKEN = 100, /* port: its engine broke the rules of the ring; it is left alone until HOLD */
	PLUG_FED           /* port: its engine was woken; at most every 20 ms, none is lost for more than a tick of the broker */
};

enum plug_state {
	PLUG_STATE_RUNNING,
	PLUG_STATE_HELD,  /* messages queue up for the next engine */
	PLUG_STATE_BROKEN /* its engine broke the rules */
};

enum plug_flag {
	PLUG_LIVING = 1,
	PLUG_MORE = 2,
	PLUG_SKIP = 4,
	PLUG_OUTWARD = 8,
	PLUG_SANE = 16,      /* HOLD: the engine's cursor is possible, a: cursor */
	PLUG_AT_MESSAGE = 32 /* HOLD: a record is there, slot: its slot */
};

struct plug_request {
	uint32_t op, seq; /* seq: not 0; repeated in the answer */
	uint32_t port, slot, flags;
	uint32_t len;
};

struct plug_answer {
	uint32_t op, seq;
	int32_t code; /* 0 or ERR_* of common/err.h; then the text says more */
	uint32_t port, slot, flags;
	uint64_t a, b, c;
	uint32_t len, zero;
};
