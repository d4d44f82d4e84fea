/* eval.h - one message through all graphs it feeds: the steps of spec iottalk-core 6. */
#pragma once

#include "common/tap.h"
#include "engine/graph.h"
#include "engine/vals.h"

/* Why messages were not evaluated, or results not sent. */
enum eval_drop {
	DROP_NO_LINK, /* no graph uses the slot (any more) */
	DROP_NOT_JSON,
	DROP_WRONG_LENGTH, /* param_no + tag_param_no */
	DROP_TOO_LARGE,    /* longer than --max-payload */
	DROP_NO_MEMORY,
	DROP_MONITOR_TOO_LARGE, /* a monitor message that does not fit */
	DROPS
};

struct eval_stats {
	uint64_t drops[DROPS];
	uint64_t evaluated; /* messages, counted for each graph */
	uint64_t failed;    /* functions that raised, and results that could not be sent */
};

struct eval_sink {
	/* Hand a result to the other side, however long that takes. Errors: ERR_RANGE (would never
	 * fit), or what makes going on pointless. */
	int (*publish)(void *arg, const struct tap_rec *rec, const char *payload);
	void (*doing)(void *arg, uint64_t what);
	/* A function raised; at most once a second for each graph. */
	void (*fault)(void *arg, const struct link *link, const struct graph *graph,
		      enum tap_kind kind, const char *msg, size_t len);
	void *arg;
};

struct eval {
	struct py *py;
	struct graphs *graphs;
	struct eval_sink sink;
	int qos;            /* 0..2: of all results; -1: as the message came */
	bool out_of_memory; /* a function met its limit; the caller decides and clears it */
	struct eval_stats stats;
	struct vals values; /* of the message */
	struct vals args;   /* of the call being made */
	struct text out, monitor, why;
};

const char *eval_drop_name(enum eval_drop d);

int eval_init(struct eval *ev, struct py *py, struct graphs *gs, const struct eval_sink *sink,
	      int qos, size_t max_payload, struct err *err);
void eval_done(struct eval *ev);

/* Evaluate a message. ret: 0, or what publish() failed with (not ERR_RANGE). */
int eval_message(struct eval *ev, const struct tap_rec *rec, const char *payload);
