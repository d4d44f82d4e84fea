/* histogram.h - how often something took how long, in Prometheus text (exposition format 0.0.4).
 *
 * Bounds are the same for every histogram, three to a decade from 100 us to 10 s, so that
 * histograms can be added up. Observing allocates nothing. Not for several threads at once.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_BOUNDS 16

struct histogram {                             /* all zeros: nothing was observed */
	uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* each between two bounds; the last: over all */
	uint64_t sum_us;
};

/* us: microseconds; less than none (a clock that went back) counts as none. */
void histogram_observe(struct histogram *h, int64_t us);
uint64_t histogram_count(const struct histogram *h);
/* Lines of name_bucket, name_sum and name_count. labels: `a="b",c="d"`, escaped already; "": none.
 */
void histogram_write(const struct histogram *h, FILE *out, const char *name, const char *labels);
