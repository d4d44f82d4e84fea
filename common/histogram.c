#include "common/histogram.h"

#include "common/util.h"
#include <inttypes.h>

static const struct {
	int64_t us;
	const char *seconds;
} bounds[HISTOGRAM_BOUNDS] = {
	{100, "0.0001"},  {250, "0.00025"}, {500, "0.0005"},  {1000, "0.001"},
	{2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},  {25000, "0.025"},
	{50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},
	{1000000, "1"},   {2500000, "2.5"}, {5000000, "5"},   {10000000, "10"},
};

void histogram_observe(struct histogram *h, int64_t us)
{
	size_t at = 0;
	if (us < 0)
		us = 0;
	while (at < HISTOGRAM_BOUNDS && us > bounds[at].us)
		at++;
	h->counts[at]++;
	h->sum_us += (uint64_t)us;
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t n = 0;
	for (size_t i = 0; i < ARRAY_LEN(h->counts); i++)
		n += h->counts[i];
	return n;
}

void histogram_write(const struct histogram *h, FILE *out, const char *name, const char *labels)
{
	const char *comma = *labels != '\0' ? "," : "", *open = *labels != '\0' ? "{" : "",
		   *close = *labels != '\0' ? "}" : "";
	uint64_t n = 0;
	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		n += h->counts[i];
		fprintf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma,
			bounds[i].seconds, n);
	}
	n += h->counts[HISTOGRAM_BOUNDS];
	fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, n);
	fprintf(out, "%s_sum%s%s%s %" PRIu64 ".%06" PRIu64 "\n", name, open, labels, close,
		h->sum_us / 1000000, h->sum_us % 1000000);
	fprintf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, n);
}
