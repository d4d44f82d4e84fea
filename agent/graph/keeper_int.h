/* keeper_int.h - what keeper.c, keeper_exec.c and worker.c share. */
#pragma once

#include "agent/graph/keeper.h"
#include "agent/graph/lines.h"
#include "agent/graph/worker.h"
#include "common/frames.h"

/* ---- keeper_exec.c: the program that becomes the keeper ---- */

struct launch;

/* error: why it failed; NULL: the keeper serves. The launch is over, and may be freed in here. */
typedef void launch_fn(void *arg, const char *error);

int launch_new(struct loop *l, const struct keeper_conf *conf, launch_fn *fn, void *arg,
	       struct launch **ret, struct err *err);
/* Kills a program that has not become the keeper yet. NULL is fine; returns NULL. */
struct launch *launch_free(struct launch *la);

/* ---- keeper.c ---- */

#define KEEPER_WINDOW     (1u << 20) /* what an agent may send an engine beyond what it took */
#define KEEPER_NUMBER_MAX INT32_MAX  /* of engines */
#define KEEPER_ANSWER_MS  5000       /* a keeper that does not answer for so long is killed */

enum keeper_state {
	KEEPER_IDLE,      /* the timer is armed: another try */
	KEEPER_LAUNCHING, /* the program has been started */
	KEEPER_GREETING,  /* connected; waiting for its hello */
	KEEPER_FINDING,   /* waiting for the engines it has announced */
	KEEPER_UP,
	KEEPER_QUITTING, /* it is not what we want: waiting for its end */
};

struct keeper {
	struct loop *loop;
	struct keeper_conf conf; /* strings owned */
	struct keeper_events events;
	void *arg;
	enum keeper_state state;
	struct loop_src *timer; /* the next try, or the limit of an answer */
	unsigned failures;      /* in a row */
	char why[700];
	struct launch *launch;
	int fd; /* -1: not connected */
	pid_t pid;
	struct frames frames;
	struct loop_src *src, *again;
	bool writing;
	/* frames read and not handled yet: keeper_drain() reads ahead */
	struct frame *first, **end;
	bool closed; /* after those */
	json_t *layers;
	size_t to_find;
	uint32_t last_number;
	struct worker *workers;
};

void keeper_ask(struct keeper *k, const char *op);
void keeper_watch(struct keeper *k); /* after a flush */
void keeper_hang_up(struct keeper *k);
/* There is none, or none any more: all that follows from that. */
void keeper_fail(struct keeper *k, const char *why);
/* Kill it: it is not what it should be. */
void keeper_shoot(const struct keeper *k);

uint32_t keeper_number(struct keeper *k); /* for a new engine */
void keeper_enroll(struct keeper *k, struct worker *w);
void keeper_strike(struct keeper *k, struct worker *w);
struct loop *keeper_loop(const struct keeper *k);
/* Send; f: taken. */
void keeper_put(struct keeper *k, struct frame *f);

/* ---- keeper_talk.c ---- */

loop_fd_fn keeper_on_socket;
loop_fn keeper_on_again; /* what keeper_drain() has left */
struct worker *keeper_find(const struct keeper *k, uint32_t number); /* NULL: none */
/* Hand w what has arrived for it, before its end; nothing else. */
void keeper_drain(struct keeper *k, struct worker *w);

/* ---- worker.c, called by the keeper ---- */

struct worker *worker_next(const struct worker *w);
void worker_set_next(struct worker *w, struct worker *next);
uint32_t worker_number(const struct worker *w);
bool worker_has_exited(const struct worker *w);
/* A frame of its engine. f stays the caller's. */
void worker_on_frame(struct worker *w, const struct frame *f);
/* Its engine is there: descriptors are taken from f. */
void worker_on_spawned(struct worker *w, struct frame *f);
void worker_on_took(struct worker *w, size_t bytes);
void worker_on_exited(struct worker *w, const char *how); /* may free w */
