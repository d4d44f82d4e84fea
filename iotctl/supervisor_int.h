/* supervisor_int.h - the supervisor's state, shared by its own files only. */
#pragma once

#include "common/ctl.h"
#include "common/loop.h"
#include "iotctl/broker.h"
#include "iotctl/iotctl.h"
#include "iotctl/job.h"
#include "iotctl/notify.h"
#include "iotctl/service.h"
#include "iotctl/units.h"

struct unit {
	const struct unit_kind *kind;
	struct service *sv;
	bool wanted;
	char *log_path, *pid_path, *sock_path; /* owned */
	off_t followed;                        /* foreground: how far its log was shown */
};

/* A start or stop request that is not answered yet. */
struct waiting {
	struct waiting *next;
	struct supervisor *sup;
	struct ctl_call *call; /* NULL: the foreground start */
	bool is_stop;
	unsigned mask;
	struct loop_src *deadline;
	bool overdue;
};

struct supervisor {
	struct iotctl *app;
	struct settings settings;
	struct loop *loop;
	struct ctl *ctl;
	struct notify *notify;
	struct jobs *jobs;
	struct loop_src *poll_timer, *tidy_timer;
	int lock_fd;
	char *log_path; /* its own, NULL in the foreground */
	struct unit units[UNITS];
	struct broker_plan plan;
	bool external; /* the broker is one that was there */
	struct waiting *waitings;
	bool step_posted, foreground, stopping_all;
	int exit_code;
	int64_t started_ms;
};

/* supervisor.c */
void supervisor_want(struct supervisor *sup, unsigned mask);
void supervisor_unwant(struct supervisor *sup, unsigned mask);
void supervisor_stop_all(struct supervisor *sup);
bool supervisor_anything_alive(const struct supervisor *sup);
/* The file may have changed since; kept as it is while somebody uses it. */
int supervisor_reload(struct supervisor *sup, struct err *err);
/* Look at everything again at the end of the turn. */
void supervisor_post_step(struct supervisor *sup);

/* supervisor_broker.c */
/* Find out which broker to use, then start it or stand for it. */
void supervisor_plan_broker(struct supervisor *sup);
/* Its process was started: READY when both ports answer. */
void supervisor_await_broker(struct supervisor *sup);
/* The broker that runs is ours (it has our lock): what would be needed to start it again. */
void supervisor_plan_adopted_broker(struct supervisor *sup);
/* Its state changed: if it died before it was ready, it is tried without its plugin. */
void supervisor_broker_died(struct supervisor *sup);

/* supervisor_ctl.c */
int supervisor_listen(struct supervisor *sup, struct err *err);
/* Answer the requests that are settled. */
void supervisor_answer(struct supervisor *sup);
int supervisor_wait(struct supervisor *sup, struct ctl_call *call, bool is_stop, unsigned mask,
		    struct err *err);
void supervisor_forget_waiting(struct supervisor *sup);
