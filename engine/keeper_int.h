/* keeper_int.h - what the files of the keeper share. */
#pragma once

#include "common/frames.h"
#include "common/loop.h"
#include "engine/keeper.h"
#include "engine/sandbox.h"
#include <sys/types.h>

#define KEEPER_WINDOW (1u << 20) /* bytes that may wait for an engine, or for the agent */

struct keeper {
	const struct keeper_conf *conf;
	struct loop *loop;
	struct py *py;
	struct sandbox *sandbox;
	json_t *layers; /* as sandbox_report() */
	int lock_fd, listen_fd;
	uid_t starter; /* who started us, as it looks from here */
	pid_t pid;
	struct loop_src *orphan_timer, *retry_timer;
	/* the agent */
	int agent_fd; /* -1: none */
	struct frames agent;
	struct loop_src *agent_src;
	uint32_t agent_events;
	/* engines, living and exited ones */
	struct child *children;
	uint32_t last_number; /* the highest that was used */
	bool full; /* the agent does not keep up: engines are not read */
};

/* One engine, from its spawn until it is forgotten. */
struct child {
	struct keeper *keeper;
	struct child *next;
	uint32_t number;
	char *name;
	char how[120];     /* exited: how; killed for what it did: what; else empty */
	char note[40];     /* of the agent, for the next one */
	int in_fd, out_fd; /* its rings */
	/* while it lives */
	pid_t pid; /* -1: reaped */
	int pidfd, control_fd, wake_fd, result_fd, stdout_fd, stderr_fd;
	struct frames control;
	struct loop_src *control_src, *exit_src;
	uint32_t control_events;
	bool deaf;      /* nothing comes from its control socket any more */
	bool mute;      /* nothing can be said to it any more */
	bool ending;    /* the agent does not want it: forget it once it is gone */
	size_t queued;  /* bytes of the agent's frames that it has not taken */
	size_t took;    /* taken, not told yet */
	size_t foreign; /* of a frame of an earlier agent that is being written to it */
};

/* keeper.c */
int keeper_serve(struct keeper *k, struct err *err);
/* Queue a frame for the agent; without one it is dropped. f: taken; NULL: out of memory, which ends
 * the agent's connection, since it would wait for ever. */
void keeper_tell(struct keeper *k, struct frame *f);

/* keeper_child.c */
struct child *child_find(struct keeper *k, uint32_t number);
/* Fork an engine. fds: three, borrowed. What fails is told to the agent. ret: 0 or ERR_NOMEM. */
int child_spawn(struct keeper *k, uint32_t number, const char *name, const int *fds);
void child_end(struct child *c);
/* Tell the agent of it, as at its hello. */
void child_announce(struct child *c);
/* A frame for it, taken. ret: 0, or ERR_PEER: the agent sends more than it may. */
int child_put(struct child *c, struct frame *f);
/* Its agent is gone. */
void child_orphan(struct child *c);
/* keeper->full has changed. */
void child_watch(struct child *c);
void children_kill(struct keeper *k);
