/* worker.h - one engine process behind the keeper: spoken to over its control socket, watched,
 * ended.
 *
 * A worker is one process from start to death; who wants another one makes another worker. Loop
 * thread only, nothing blocks.
 */
#pragma once

#include "agent/graph/keeper.h"
#include "common/err.h"
#include "common/tap.h"
#include <jansson.h>
#include <sys/types.h>

struct worker;

struct worker_events {
	/* The process is there: its pid and descriptors are known from now on. It says {"op":
	 * "ready"} by itself, after this. Not called for an adopted one. May be NULL. */
	void (*on_started)(void *arg);
	/* One control message; msg is borrowed. The worker must not be freed in here; worker_kill()
	 * is fine. */
	void (*on_message)(void *arg, json_t *msg);
	/* The process is gone, or was never there; how: "exit status 3", "killed by signal 9",
	 * "refused: ..." (killed for what it said), "could not start: ...". All messages it sent
	 * came before. The worker may be freed in here. */
	void (*on_exit)(void *arg, const char *how);
};

/* Ask for an engine. name: what the next agent knows it by; if an engine of that name exited and
 * was not freed, the new one takes its place. fds: all three, the caller's. Messages may be sent at
 * once. ret: yours; give it to worker_free() or worker_leave(). Errors: ERR_AGAIN (no keeper now),
 * ERR_NOMEM, ERR_SYS. */
int worker_new(struct keeper *k, const char *name, const struct tap_fds *fds,
	       const struct worker_events *events, void *arg, struct worker **ret, struct err *err);
/* In on_found, for an engine that lives: take it over. ret: as worker_new(). Errors: ERR_SYS,
 * ERR_NOMEM. */
int worker_adopt(struct keeper *k, struct keeper_found *found, const struct worker_events *events,
		 void *arg, struct worker **ret, struct err *err);

/* End the engine, without on_exit; the keeper forgets its rings. NULL is fine; returns NULL. */
struct worker *worker_free(struct worker *w);
/* Forget it here only: it lives on, or its rings wait, for the next agent. NULL is fine; returns
 * NULL. */
struct worker *worker_leave(struct worker *w);

/* Queue a control message (borrowed). Errors: ERR_LIMIT (longer than a message may be, or too much
 * waits), ERR_NOMEM. */
int worker_send(struct worker *w, const json_t *msg, struct err *err);
/* Tell the next agent, should this one die. text: at most 39 bytes. */
void worker_note(struct worker *w, const char *text);
/* Read what has arrived, now; for a judge who is about to call the worker silent. */
void worker_drain(struct worker *w);
/* SIGKILL; on_exit follows. */
void worker_kill(struct worker *w);

/* All -1 before on_started and after on_exit; the pid also in between, once the process is gone. */
pid_t worker_pid(const struct worker *w);
int worker_wake_fd(const struct worker *w);   /* write end: one byte makes it look at its ring */
int worker_result_fd(const struct worker *w); /* read end: a byte says results are on the ring */
