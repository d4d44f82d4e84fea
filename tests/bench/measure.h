/* measure.h - time, latencies and the CPU time of other processes, for measuring programs. */
#pragma once

#include "common/err.h"
#include <stdint.h>

uint64_t measure_now_ns(void);

/* Latencies in buckets of at most 1/128 relative width. */
struct latency;
struct latency *latency_new(void); /* NULL: no memory */
struct latency *latency_free(struct latency *l);
void latency_move(struct latency *from, struct latency *to); /* from is empty afterwards */
void latency_add(struct latency *l, uint64_t ns);
/* share: 0 to 1. In microseconds; 0 when nothing was added. */
double latency_at_us(const struct latency *l, double share);

/* CPU time of all threads of a process so far; 0 when it is gone. */
double measure_cpu_s(int pid);
