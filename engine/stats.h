/* stats.h - what became of messages, and how long evaluation takes: counted for each graph.
 *
 * Times go into buckets, four for each doubling from 64 ns on, so a percentile is right to about 10
 * %. Older times lose weight: the buckets are halved whenever they hold STATS_TIMES_MAX times.
 */
#pragma once

#include <stdint.h>

#define STATS_BUCKETS   128
#define STATS_TIMES_MAX (1u << 20)

/* Why messages were not evaluated, or results not sent. */
enum eval_drop {
	DROP_NO_LINK, /* no graph uses the slot (any more) */
	DROP_NOT_JSON,
	DROP_WRONG_LENGTH, /* param_no + tag_param_no */
	DROP_TOO_LARGE,    /* longer than --max-payload */
	DROP_NO_MEMORY,
	DROP_MONITOR_TOO_LARGE, /* a monitor message that does not fit */
	DROP_QUARANTINED,       /* came to a function that is not run at present */
	DROPS
};
const char *eval_drop_name(enum eval_drop d);

struct graph_stats {
	uint64_t evaluated; /* messages */
	uint64_t failed;    /* functions that raised, and results that could not be sent */
	uint32_t n_times;   /* in all buckets */
	uint32_t times[STATS_BUCKETS];
	uint64_t drops[DROPS];
};

void stats_add_time(struct graph_stats *s, int64_t ns);
/* share: 0 to 1, of the evaluations that took no longer. In microseconds; negative: nothing is
 * known yet. */
double stats_time_us(const struct graph_stats *s, double share);
