/* clock.h - what time it is, in microseconds. */
#pragma once

#include <stdint.h>
#include <time.h>

/* Any clock of clock_gettime(2). */
int64_t clock_us(clockid_t clock);
/* CLOCK_MONOTONIC, for differences: nobody sets it. */
int64_t monotonic_us(void);
/* CLOCK_REALTIME, since 1970: what people and protocols mean. */
int64_t wall_us(void);
