/* eval.h - one message through all graphs it feeds: the steps of spec iottalk-core 6. */
#pragma once

#include "common/tap.h"
#include "engine/graph.h"
#include "engine/vals.h"

struct eval_stats {
	uint64_t drops[DROPS];
	uint64_t evaluated; /* messages, counted for each graph */
	uint64_t failed;    /* functions that raised, and results that could not be sent */
};

struct eval_sink {
	/* Hand a result to the other side, however long that takes. Errors: ERR_RANGE (would never
	 * fit), or what makes going on pointless. */
	int (*publish)(void *arg, const struct tap_rec *rec, const char *payload);
	/* What runs from now on. That the message is done is the caller's to know. */
	void (*doing)(void *arg, uint64_t what);
	/* A function failed; at most once a second for each graph. strike: what counts against it
	 * ("memory"), as often; NULL: nothing does. */
	void (*fault)(void *arg, const struct link *link, const struct graph *graph,
		      enum tap_kind kind, const char *msg, size_t len, const char *strike);
	void *arg;
};

struct eval {
	struct py *py;
	struct graphs *graphs;
	struct eval_sink sink;
	int qos;            /* 0..2: of all results; -1: as the message came */
	bool out_of_memory; /* the process met its limit; the caller decides and clears it */
	int64_t mark_ns;    /* monotonic time at the end of the last evaluation; 0: unknown */
	struct eval_stats stats;
	struct vals values; /* of the message */
	struct vals args;   /* of the call being made */
	struct text out, monitor, why, printed;
};

int eval_init(struct eval *ev, struct py *py, struct graphs *gs, const struct eval_sink *sink,
	      int qos, size_t max_payload, struct err *err);
void eval_done(struct eval *ev);

/* Evaluate a message. ret: 0, or what publish() failed with (not ERR_RANGE). The clock is read once
 * for each graph: an evaluation begins where the one before ended, unless eval_pause() came
 * between. */
int eval_message(struct eval *ev, const struct tap_rec *rec, const char *payload);
/* The time from now to the next message is none of evaluation. */
static inline void eval_pause(struct eval *ev)
{
	ev->mark_ns = 0;
}
/* So much of the evaluation under way was waiting, in publish(). */
static inline void eval_waited(struct eval *ev, int64_t ns)
{
	ev->mark_ns += ns;
}
