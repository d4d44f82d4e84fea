/* keeper.h - the agent's end of the keeper (docs/keeper-protocol.rst): finds a living one at its
 * socket or starts one, goes on when it dies, and says which engines live since an earlier agent.
 *
 * Engines are workers (worker.h); none can be made while no keeper is there. When the connection
 * breaks, every worker's engine is killed and its on_exit is called, then on_down; the keeper is
 * found or started again by itself, later and later. Loop thread only, nothing blocks but
 * keeper_quit().
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct keeper;

/* A keeper with other settings, or of another version, is ended and replaced. Strings are copied.
 */
struct keeper_conf {
	const char *program; /* absolute path of iottalk-engine */
	const char *socket;  /* path */
	const char *qos;     /* auto, 0, 1, 2 */
	const char *sandbox; /* strict, degraded */
	int64_t memory_mb, function_mb, max_payload_bytes;
};

/* An engine of an earlier agent. Lent for the callback; what is not taken of it is closed. */
struct keeper_found {
	const char *name;   /* as worker_new() was told */
	const char *note;   /* worker_note(); "": none */
	const char *exited; /* how it ended while no agent was there; NULL: it lives */
	int in_fd, out_fd;  /* its rings, for tap_fds_adopt(); who wants one takes it (TAKE_FD) */
	/* for worker_adopt() */
	uint32_t number;
	int wake_fd, result_fd, stdout_fd, stderr_fd, pidfd;
};

/* None of these may free the keeper. */
/* None of these may free the keeper. */
struct keeper_events {
	/* Called for each, before on_up. ret: whether it is wanted. One that lives must be adopted
	 * here (worker_adopt()) to be wanted; one that exited is kept by the keeper, for the next
	 * agent, until an engine of the same name is started. What is not wanted is ended and
	 * forgotten. */
	bool (*on_found)(void *arg, struct keeper_found *found);
	/* Workers can be made. */
	void (*on_up)(void *arg);
	/* No keeper, or none any more; called for each attempt that failed. */
	void (*on_down)(void *arg, const char *why);
};

/* ret: yours; give it to keeper_free(). A keeper that does not start is tried again for ever: that
 * is no error here. */
int keeper_new(struct loop *l, const struct keeper_conf *conf, const struct keeper_events *events,
	       void *arg, struct keeper **ret, struct err *err);
/* The keeper and its engines live on. All workers must be gone (worker_free(), worker_leave()).
 * NULL is fine; returns NULL. */
struct keeper *keeper_free(struct keeper *k);
/* End it with all its engines, and wait for that for at most 2 s; keeper_free() follows. No events
 * any more. */
void keeper_quit(struct keeper *k);

bool keeper_is_up(const struct keeper *k);
pid_t keeper_pid(const struct keeper *k); /* -1: none */
/* Its sandbox: list of {"name", "up": bool, "core": bool, "why"}; borrowed; NULL: none. */
const json_t *keeper_layers(const struct keeper *k);
/* Why there is none, for people; "" if there is one. Borrowed until the next turn of the loop. */
const char *keeper_why(const struct keeper *k);
