#include "tests/bench/measure.h"

#include "common/util.h"
#include <dirent.h>
#include <stdio.h>
#include <time.h>

#define SUB_BITS 7 /* 128 buckets for each power of two */
#define BUCKETS  ((64 - SUB_BITS + 1) << SUB_BITS)

struct latency {
	uint64_t n;
	uint64_t counts[BUCKETS];
};

uint64_t measure_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct latency *latency_new(void)
{
	return calloc(1, sizeof(struct latency));
}

struct latency *latency_free(struct latency *l)
{
	free(l);
	return NULL;
}

void latency_move(struct latency *from, struct latency *to)
{
	for (unsigned b = 0; b < BUCKETS; b++)
		to->counts[b] += from->counts[b];
	to->n += from->n;
	*from = (struct latency){0};
}

/* Values below 2^SUB_BITS have a bucket each; above, the SUB_BITS bits after the leading one choose
 * it. */
static unsigned bucket_of(uint64_t ns)
{
	if (ns >> SUB_BITS == 0)
		return (unsigned)ns;
	unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
	return ((shift + 1) << SUB_BITS) + (unsigned)(ns >> shift & ((1u << SUB_BITS) - 1));
}

static double bucket_middle_ns(unsigned bucket)
{
	unsigned above = bucket >> SUB_BITS, within = bucket & ((1u << SUB_BITS) - 1);
	if (above == 0)
		return bucket;
	double width = (double)(1ull << (above - 1));
	return ((1u << SUB_BITS) + within + 0.5) * width;
}

void latency_add(struct latency *l, uint64_t ns)
{
	l->counts[bucket_of(ns)]++;
	l->n++;
}

double latency_at_us(const struct latency *l, double share)
{
	uint64_t rank = (uint64_t)(share * (double)(l->n > 0 ? l->n - 1 : 0)), seen = 0;
	for (unsigned b = 0; b < BUCKETS; b++) {
		seen += l->counts[b];
		if (seen > rank)
			return bucket_middle_ns(b) / 1000;
	}
	return 0;
}

double measure_cpu_s(int pid)
{
	char path[300];
	double sum_ns = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	if (tasks == NULL)
		return 0;
	for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
		unsigned long long ns = 0;
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", pid, e->d_name);
		FILE *f = fopen(path, "re");
		if (f == NULL)
			continue;
		if (fscanf(f, "%llu", &ns) == 1)
			sum_ns += (double)ns;
		fclose(f);
	}
	closedir(tasks);
	return sum_ns / 1e9;
}
