/* loop.h - the one event loop of a process: descriptors, timers, signals, work posted by other threads.
 *
 * Everything but loop_post() is for the loop's own thread. Callbacks return within about a millisecond. A source may be
 * removed in its own callback or in another one of the same turn; it will not be called again. Times are milliseconds of
 * CLOCK_MONOTONIC.
 */
#pragma once

#include "common/err.h"
#include <stdint.h>

struct loop;
struct loop_src; /* one source; owned by the loop until loop_remove() */

typedef void loop_fn(void *arg);
typedef void loop_fd_fn(void *arg, uint32_t events); /* EPOLL* bits */

/* ret: yours; give it to loop_free(). */
int loop_new(struct loop **ret, struct err *err);
struct loop *loop_free(struct loop *l); /* removes what is left; NULL is fine; returns NULL */

/* Watch fd (which stays the caller's). ret: borrowed until loop_remove(); may be NULL if never removed. */
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *arg,
		struct loop_src **ret, struct err *err);
int loop_set_events(struct loop *l, struct loop_src *src, uint32_t events);

/* A timer. first_ms < 0: not armed yet. every_ms 0: once (the source lives on and may be armed again). Any number of timers:
 * adding, arming, removing cost O(log n). */
int loop_add_timer(struct loop *l, int64_t first_ms, int64_t every_ms, loop_fn *fn, void *arg,
		   struct loop_src **ret, struct err *err);
void loop_arm(struct loop *l, struct loop_src *timer, int64_t in_ms); /* < 0: disarm */

/* signo must be blocked already (daemon_block_signals()). */
int loop_add_signal(struct loop *l, int signo, loop_fn *fn, void *arg, struct err *err);

/* Call fn at the end of every turn, after all events of the turn and before the loop sleeps: group commit hangs here (at most 8 hooks). fn may
 * make new work by loop_post(), which then starts the next turn at once. */
int loop_add_turn(struct loop *l, loop_fn *fn, void *arg, struct err *err);

/* Remove and forget; NULL is fine. ret: NULL. */
struct loop_src *loop_remove(struct loop *l, struct loop_src *src);

/* From any thread: run fn on the loop's thread in a coming turn, in the order posted. ret: 0 or ERR_NOMEM. */
int loop_post(struct loop *l, loop_fn *fn, void *arg);

int64_t loop_now_ms(struct loop *l); /* the time this turn began */

/* Until loop_quit(). ret: its code, or ERR_SYS when epoll itself fails. */
int loop_run(struct loop *l);
/* One turn, waiting at most timeout_ms (-1: as long as it takes). For tests and for libraries that lend us their wait. */
int loop_turn(struct loop *l, int timeout_ms);
void loop_quit(struct loop *l, int code);

/* For a loop inside another one: a descriptor that is readable when there is something to do, and how long to wait for it at
 * most (-1: as long as it takes). After either, loop_turn(l, 0). */
int loop_fd(const struct loop *l);
int loop_wait_ms(const struct loop *l);
