#include "engine/stats.h"

#define LEAST_LOG2 6 /* 64 ns: what is shorter counts as that */
#define PER_DOUBLE 4

static const char *const drop_names[DROPS] = {
	[DROP_NO_LINK] = "no_link",           [DROP_NOT_JSON] = "not_json",
	[DROP_WRONG_LENGTH] = "wrong_length", [DROP_TOO_LARGE] = "too_large",
	[DROP_NO_MEMORY] = "no_memory",       [DROP_MONITOR_TOO_LARGE] = "monitor_too_large",
	[DROP_QUARANTINED] = "quarantined",
};

const char *eval_drop_name(enum eval_drop d)
{
	return drop_names[d];
}

static unsigned bucket_of(int64_t ns)
{
	if (ns < 1 << LEAST_LOG2)
		return 0;
	unsigned log2 = 63u - (unsigned)__builtin_clzll((uint64_t)ns);
	unsigned i =
		(log2 - LEAST_LOG2) * PER_DOUBLE + ((uint64_t)ns >> (log2 - 2) & (PER_DOUBLE - 1));
	return i < STATS_BUCKETS ? i : STATS_BUCKETS - 1;
}

/* The middle of a bucket. */
static double ns_of(unsigned bucket)
{
	double begin = (double)((uint64_t)1 << (LEAST_LOG2 + bucket / PER_DOUBLE));
	double width = begin / PER_DOUBLE;
	return begin + width * (bucket % PER_DOUBLE + 0.5);
}

static void halve(struct graph_stats *s)
{
	s->n_times = 0;
	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		s->n_times += s->times[i] /= 2;
}

void stats_add_time(struct graph_stats *s, int64_t ns)
{
	s->times[bucket_of(ns)]++;
	if (++s->n_times >= STATS_TIMES_MAX)
		halve(s);
}

double stats_time_us(const struct graph_stats *s, double share)
{
	double wanted = share * s->n_times, seen = 0;
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		seen += s->times[i];
		if (s->times[i] > 0 && seen >= wanted)
			return ns_of(i) / 1000;
	}
	return -1;
}
