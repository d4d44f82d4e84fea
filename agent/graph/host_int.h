/* host_int.h - inside the host: its struct; host.c keeps an engine running, host_watch.c watches
 * its time. */
#pragma once

#include "agent/graph/host.h"
#include "agent/graph/worker.h"
#include "common/tap.h"

struct asked {
	struct asked *next;
	uint64_t seq;
	host_answer_fn *fn;
	void *arg;
};

enum host_state {
	HOST_DOWN,     /* no process: the transport is asked how it stood, or the respawn timer is
			  armed */
	HOST_STARTING, /* waiting for "ready" */
	HOST_LOADING,  /* ready, graphs are being loaded, messages wait */
	HOST_RUNNING,
};

struct host {
	struct loop *loop;
	const struct settings *settings;
	struct keeper *keeper;
	char *name;
	const struct transport_ops *ops;
	struct host_events events;
	void *arg;
	struct tap_fds fds;
	struct tap_watch *watch; /* of the present engine; NULL: none */
	struct transport_port *port;
	struct worker *worker;
	struct worker *
		dead; /* the last one, until there is another: the keeper keeps its rings so long */
	enum host_state state;
	struct loop_src *tick_timer, *respawn_timer;
	bool ticking;
	struct asked *first, *last; /* requests not answered yet, in the order sent */
	uint64_t first_seq, seq;    /* below first_seq: an earlier agent's */
	uint64_t answered;
	/* watching */
	int64_t tick_ms, last_tick_ms, started_ms;
	int64_t stalled_ms, unanswered_ms; /* observed standing still; observed without an answer */
	int64_t unmoved_ms;                /* observed at one message, whatever it says of it */
	int64_t idle_ms;                   /* observed with nothing to do */
	int64_t computed_ms;               /* its own use of processors in unmoved_ms */
	struct cpu {
		bool known;
		int64_t ran_ms, starved_ms; /* starved: it could have run, others did */
	} cpu;                              /* of its life, when it was last seen standing still */
	uint64_t seen_done, seen_doing, seen_answered, seen_taken;
	char kill_why[120]; /* why we killed it; empty: we did not */
	bool hung;
	/* the fall that is being looked into */
	struct fall {
		bool was_running;
		uint64_t doing, doing_at;
		char how[64];
	} fall;
	/* over several falls */
	unsigned early_deaths; /* in a row, unexplained */
	bool used_out;         /* the out-ring has been an engine's: the next one gets another */
	bool no_keeper;        /* spawning waits for one */
	bool check_done;       /* adopted: whether the dead engine stood where the ring says */
	uint64_t last_done;    /* where it said it stood */
	uint64_t restarts;
	void *suspect;         /* request at the head of the last fall */
	uint64_t suspect_done; /* where the engine stood in its ring at the last fall without a
				  confession */
	bool have_suspect_done;
};

/* ---- host_watch.c ---- */

/* The loop's timer for looking at the engine. */
void host_on_tick(void *arg);
/* Watch from now on; what was observed before does not count. */
void host_start_watch(struct host *h);
/* What was observed so far is not held against the engine any more. */
void host_forgive(struct host *h);

/* ---- host.c ---- */

/* hung: it was for its time. why: in a sentence. */
void host_kill_engine(struct host *h, bool hung, const char *why);
