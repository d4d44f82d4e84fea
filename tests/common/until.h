/* until.h - turns of a test's loop until something holds. */
#pragma once

#include "common/loop.h"
#include "common/util.h"
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PATIENCE_MS 20000 /* only a failure waits so long */

static MAYBE_UNUSED int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* loop: of the test */
#define AWAIT(loop, condition)                                              \
	do {                                                                \
		int64_t end_ = now_ms() + PATIENCE_MS;                      \
		while (!(condition)) {                                      \
			loop_turn((loop), 5);                               \
			if (now_ms() > end_)                                \
				fail_msg("waited in vain for " #condition); \
		}                                                           \
	} while (0)

/* w: whatever has the loop */
#define UNTIL(w, condition) AWAIT((w)->loop, condition)
