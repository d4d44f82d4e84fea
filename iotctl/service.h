/* service.h - one supervised process: started, adopted, watched, restarted with growing pauses,
 * stopped.
 *
 * Loop thread only. Death is seen by a pidfd, so a process that somebody else started is watched
 * like one of our own.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

enum service_state {
	SERVICE_STOPPED,
	SERVICE_WAITING,  /* wanted; something it needs is not ready yet */
	SERVICE_STARTING, /* runs, not ready yet (or is being prepared) */
	SERVICE_READY,
	SERVICE_BACKOFF, /* died; the next try comes after a pause */
	SERVICE_STOPPING,
	SERVICE_FAILED, /* died again and again before it was ready once, or could not be started */
};

struct service;

struct service_conf {
	const char *name;     /* borrowed, like all strings here; they outlive the service */
	const char *log_path; /* stdout and stderr of the process */
	const char *pid_path;
	bool locks_itself;    /* takes the pid lock itself; else it inherits it from us */
	bool notifies;        /* says READY=1; else the owner calls service_set_ready() */
	unsigned watchdog_ms; /* once it has said WATCHDOG=1 it does so again within this time, or
				 is killed; 0: not asked to */
};

struct service_events {
	/* The process was started (again) or adopted; state is STARTING. */
	void (*on_started)(void *arg, struct service *sv);
	/* The state changed, for better or worse. */
	void (*on_change)(void *arg, struct service *sv);
};

int service_new(struct loop *l, const struct service_conf *conf, const struct service_events *ev,
		void *arg, struct service **ret, struct err *err);
struct service *service_free(struct service *sv); /* the process, if there is one, lives on */

/* What to run: argv[0] is the program's path. Copied. notify_address: NULL for none. */
int service_set_command(struct service *sv, char *const argv[], const char *notify_address,
			struct err *err);
/* Start the process; a failure to do so makes it FAILED. */
void service_start(struct service *sv);
/* Take over the process that holds the pid lock. ret: true if there is one. */
bool service_adopt(struct service *sv);
/* SIGTERM, after 10 s SIGKILL; STOPPED at the end. */
void service_stop(struct service *sv);

void service_set_ready(struct service *sv);
/* It said WATCHDOG=1. */
void service_alive(struct service *sv);
/* Stand for a process that is not ours (a broker found running): READY without one. */
void service_set_external(struct service *sv);
void service_set_waiting(struct service *sv);
void service_set_starting(struct service *sv); /* is being prepared */
void service_fail(struct service *sv, const char *reason);

enum service_state service_state(const struct service *sv);
const char *service_state_name(enum service_state state);
const char *service_name(const struct service *sv);
pid_t service_pid(const struct service *sv); /* 0: none */
bool service_has_process(const struct service *sv);
bool service_was_ready(const struct service *sv); /* since it was started by service_start() */
const char *service_last_exit(const struct service *sv); /* how it ended last; empty: not yet */
/* {name, state, pid, uptime_s, restarts, reason, last_exit}: a new object. */
json_t *service_status(const struct service *sv);
/* The last lines of its log since its process was last started, none if that never came about: a
 * new list. */
json_t *service_log_tail(const struct service *sv, unsigned max_lines);
