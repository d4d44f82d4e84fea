/* commands.h - the agent's requests, one packet each (common/plug.h), answered by one packet or,
 * LIST and SLOT_STATS, by many.
 *
 * Knows no socket: packets come as bytes and descriptors, answers are left in a struct reply. What
 * is in a packet is not trusted.
 */
#pragma once

#include "broker/ports.h"
#include <stdbool.h>

#define PACKET_MAX (sizeof(struct plug_request) + PLUG_TEXT_MAX)

struct reply {
	struct plug_answer head; /* head.len bytes of text follow */
	char text[PLUG_TEXT_MAX + 1];
};

struct session { /* of one connection */
	bool greeted;
	struct { /* the answer of many packets that is being given; op 0: none */
		uint32_t op, seq, port;
		uint64_t cursor;
	} walk;
};

struct commands {
	struct ports *ports;
	uint64_t born; /* for HELLO */
	uint64_t peers_refused;
};

struct packet {
	const void *data;
	size_t len;
	const int *fds; /* borrowed */
	size_t n_fds;
	bool cut; /* it was longer, or had more descriptors than PLUG_FDS_MAX */
};

/* ret: 0 with an answer; 1: none yet, commands_go_on() has them; ERR_PARSE: this cannot even be
 * answered. */
int commands_run(struct commands *c, struct session *s, const struct packet *p, struct reply *ret);
/* The next answer of a walk. ret: false if none is under way. */
bool commands_go_on(struct commands *c, struct session *s, struct reply *ret);
