/* worker_exec.h - one engine process: started, spoken to over its control socket, watched, ended.
 *
 * A worker is one process from start to death; who wants another one makes another worker. Loop
 * thread only, nothing blocks (worker_free() waits for a process that has just been killed).
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <sys/types.h>

struct worker;

struct worker_conf {
	const char *program; /* absolute path */
	const char *qos;     /* auto, 0, 1, 2 */
	int64_t budget_ms, memory_mb, max_payload_bytes;
	int in_fd, out_fd; /* memfds of its tap; the caller's */
};

struct worker_events {
	/* One control message; msg is borrowed. The worker must not be freed in here; worker_kill()
	 * is fine. */
	void (*on_message)(void *arg, json_t *msg);
	/* The process is gone; how: "exit status 3", "killed by signal 9". The worker may be freed
	 * in here. */
	void (*on_exit)(void *arg, const char *how);
};

/* ret: yours; give it to worker_free(). Errors: ERR_SYS, ERR_NOMEM. */
int worker_new(struct loop *l, const struct worker_conf *conf, const struct worker_events *events,
	       void *arg, struct worker **ret, struct err *err);
/* Kills what still runs, without on_exit. NULL is fine; returns NULL. */
struct worker *worker_free(struct worker *w);

/* Queue a control message (borrowed). Errors: ERR_LIMIT (longer than a message may be, or too much
 * waits), ERR_NOMEM. */
int worker_send(struct worker *w, const json_t *msg, struct err *err);
/* Read what has arrived, now; for a judge who is about to call the worker silent. */
void worker_drain(struct worker *w);
/* SIGKILL; on_exit follows. */
void worker_kill(struct worker *w);

pid_t worker_pid(const struct worker *w);
int worker_wake_fd(const struct worker *w);   /* write end: one byte makes it look at its ring */
int worker_result_fd(const struct worker *w); /* read end: a byte says results are on the ring */
