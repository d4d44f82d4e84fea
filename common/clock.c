#include "common/clock.h"

int64_t clock_us(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int64_t wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}
