/* quick_time.h - a loop's waits take no time: the clock of this process goes on by as much. Include
 * it in a test of one thread that waits for timers only, or for what is there at once.
 */
#pragma once

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t quick_time_ms; /* that did not pass */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);

	ts->tv_sec += quick_time_ms / 1000;
	ts->tv_nsec += quick_time_ms % 1000 * 1000000;
	ts->tv_sec += ts->tv_nsec / 1000000000;
	ts->tv_nsec %= 1000000000;
	return rc;
}

/* A wait without an end waits: nothing but an event can end it. */
int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	int wait_ms = timeout_ms < 0 ? -1 : 0;
	int n = (int)syscall(SYS_epoll_pwait, fd, events, max, wait_ms, NULL, 0);

	if (n == 0 && timeout_ms > 0)
		quick_time_ms += timeout_ms;
	return n;
}
