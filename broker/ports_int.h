/* ports_int.h - inside ports.h: ports.c (their life), routes.c (topics), flow.c (messages and
 * results). */
#pragma once

#include "broker/ports.h"
#include "common/tap.h"
#include "common/topic_table.h"
#include <sys/types.h>

struct route {              /* a topic's way to one port; in its port's table under its slot */
	struct route *next; /* of the same topic */
	struct topic *topic;
	struct port *port;
	uint32_t slot;
	uint64_t received, no_room, too_large;
};

struct echo {
	struct echo *next; /* in ps->echoes */
	struct topic *from;
	const void *owner;
	char to[];
};

struct topic { /* in the table while a route or an echo needs it */
	struct route *routes;
	unsigned n_echoes; /* of ps->echoes */
	char name[];
};

struct out { /* what a port may publish to */
	size_t name_len;
	char name[];
};

struct table {     /* by slot */
	void **at; /* n places, NULL: free */
	uint32_t n;
	uint32_t used; /* no slot from here on was ever given out */
};

struct port {
	struct ports *ps;
	uint32_t id;       /* its place in ps->port in the low bits, a number of its own above */
	const void *owner; /* NULL: it has gone */
	ino_t rings;       /* of the in-memfd: no two of a machine have the same */
	enum plug_state state;
	struct tap *tap;
	int wake_fd, result_fd; /* ours, -1: no engine */
	bool retired;           /* since the last engine */
	bool liar;              /* the engine broke the rules: nothing is taken from it any more */
	bool asleep;            /* what the engine was told about us */
	bool took;              /* results, since then */
	size_t fed_bytes, fed_messages; /* since the engine was looked at */
	bool fed;                       /* got messages and was not looked at: is in ps->fed */
	bool waits;                     /* the engine sleeps on for a while ... */
	int64_t waits_since_ns;         /* ... that began then */
	bool woken;                     /* its engine was, and nobody has been told yet */
	int64_t told_ms;                /* when somebody was told last */
	uint64_t pulled;                /* results since result_fd was drained */
	unsigned rest;                  /* drains to leave out: its engine kicks for nothing */
	struct table in;                /* struct route */
	struct table out; /* struct out; DROPPED: given before, results for it are late */
	char name[PLUG_NAME_MAX + 1];
};

struct port_counters {
	uint64_t received, no_room, too_large, broken;              /* messages */
	uint64_t published, late, result_too_large, publish_failed; /* results */
	uint64_t ports_broken, echoes;
};

struct ports {
	struct ports_conf conf;
	struct topic_table *topics;
	struct echo *echoes;          /* a few */
	struct port *port[PORTS_MAX]; /* NULL: free */
	unsigned n_port;              /* places in use, gaps included */
	struct port *fed[PORTS_MAX];
	unsigned n_fed;
	unsigned first; /* whose results come first next time */
	bool woken;     /* any port's */
	uint32_t next_number;
	size_t bytes; /* of PORTS_BYTES_MAX */
	struct port_counters n;
};

extern struct out port_dropped;
#define DROPPED (&port_dropped)

/* ports.c */
struct port *ports_find(const struct ports *ps, uint32_t id, struct err *err); /* NULL: ERR_NOENT */
int ports_charge(struct ports *ps, size_t bytes, struct err *err);             /* ERR_LIMIT */
void ports_uncharge(struct ports *ps, size_t bytes);
/* The engine broke the rules. A port that is held already has nobody to be told. */
void port_break(struct port *p, const char *why);

/* routes.c */
static inline void *table_at(const struct table *t, uint32_t slot)
{
	return slot < t->n ? t->at[slot] : NULL;
}
void port_drop_topics(struct port *p);
/* Answer those who wait for a message on the topic, which may be gone then. */
void topic_echo(struct ports *ps, struct topic *topic, const struct mosquitto_evt_message *m);

/* flow.c */
void port_wake(struct port *p);
/* Publish at most max results. ret: true if more are there. */
bool port_pull(struct port *p, unsigned max, size_t *bytes_left);
