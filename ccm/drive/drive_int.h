/* drive_int.h - inside of the drive; only files of ccm/drive look in here (and their tests).
 *
 *   drive.c    topics, who is told what, whether csm answers
 *   effects.c  what operations ask for
 *   graphs.c   which graphs there are and whose turn it is     graph.c   one of them: ask, compare, send the difference
 *   devices.c  the store's devices                             check.c   code that is to be compiled
 */
#pragma once

#include "ccm/drive/drive.h"
#include "common/map.h"

#define DRIVE_PREFIX_REQ "iottalk/api/req/ccm"
#define DRIVE_PREFIX_RES "iottalk/api/res/ccm"
#define DRIVE_TOOLS	 "functions" /* the graph that has no links: functions are checked, and forgotten, there */
#define REF_MAX		 48

struct ref_text {
	char s[REF_MAX];
};

struct drive {
	struct ccm *ccm;
	char run[16];	  /* of this run; part of every ref, so that no two requests are the same bytes */
	uint64_t last_ref;
	struct loop_src *pulse;
	/* A message to csm; tests put theirs here. ret: 0, ERR_LIMIT, ERR_BUS */
	int (*publish)(struct drive *d, const char *topic, const char *payload, size_t len, struct err *err);

	bool up;		/* the broker is there */
	int64_t heard_ms;	/* csm's last answer of any kind */
	bool silent;		/* it was asked and does not answer */

	/* `list`: what csm has of us */
	struct ref_text list_ref; /* "": none is out */
	int64_t list_sent_ms, list_heard_ms;
	unsigned list_wait_ms;	  /* before it is asked once more */
	json_t *listed;		  /* graphs, as far as they came */
	char csm_run[REF_MAX];	  /* the start of csm that told us its devices; "": it did not say */
	bool knows_graphs;	  /* in this connection a list was complete: a graph that is not among ours is not attached */

	/* the device API (devices.c) */
	bool attached;
	struct ref_text attach_ref;
	int64_t attach_sent_ms;
	unsigned attach_wait_ms;
	struct news *news, **last_news; /* not in the store yet */
	bool lost_news;
	json_t *seen;			/* ids of the snapshot under way */
	struct loop_src *news_timer;
	bool leaving;

	/* graphs (graphs.c) */
	struct map *graphs; /* by id */
	struct graph *next, **last_next; /* whose turn comes, in order */
	unsigned busy, waiting;		 /* passes under way, graphs that wait for their turn */
	bool lost_touch;		 /* no memory, or no store, to look at one of them: all are looked at */
	unsigned held;			 /* no turns now: somebody walks through the graphs */
	json_t *added;	    /* digests that csm was given and was not told to forget: {digest: true} */
	int64_t added_ms;   /* when the last one was */
	uint64_t repairs, changes, refusals;

	/* checks (check.c) */
	struct check *checks, **last_check;
	unsigned checking;
	char check_owner[64];
};

/* ---- drive.c ---- */

/* request: taken, gets a `ref`; NULL: out of memory. rest: "", "/device", "/graph/<id>". ret: 0 and the ref, or negative. */
int drive_send(struct drive *d, const char *rest, json_t *request, struct ref_text *ret_ref, struct err *err);
bool drive_ready(const struct drive *d); /* csm has told us its devices in this connection */
/* Ask now what csm has of us. */
void drive_list(struct drive *d);
/* "ok": true, "error": false with its reason (or a word instead). */
bool answer_is_ok(const json_t *answer, const char **ret_reason);
bool answer_has_ref(const json_t *answer, const struct ref_text *ref);

/* ---- graphs.c ---- */

enum graph_cause { CAUSE_CHANGE, CAUSE_REPAIR };

int graphs_start(struct drive *d, struct err *err);
void graphs_stop(struct drive *d);
void graphs_touch(struct drive *d, int64_t na_id, enum graph_cause cause);
void graphs_touch_running(struct drive *d); /* all of the projects that are on */
void graphs_on_answer(struct drive *d, const char *id, json_t *answer);
void graphs_on_down(struct drive *d);
/* csm answers again: what was asked before is asked anew. */
void graphs_on_back(struct drive *d);
/* {id: revision}: all that csm has of us */
void graphs_on_list(struct drive *d, const json_t *listed);
/* What was to be looked at is not known: all are, soon. */
void graphs_lost(struct drive *d, const char *why);
/* The one of a network application, made if need be. NULL: out of memory, and graphs_lost(). */
struct graph *graphs_get(struct drive *d, int64_t na_id);
/* For a walk that begins passes: between the two no graph gets its turn, so none goes. */
void graphs_hold(struct drive *d);
void graphs_release(struct drive *d);
/* Give the next ones their turn. */
void graphs_pump(struct drive *d);
void graphs_forget_functions(struct drive *d);

/* ---- devices.c ---- */

int devices_start(struct drive *d, struct err *err);
void devices_stop(struct drive *d);
/* Ask for a snapshot; until it is in the store, graphs wait. */
void devices_attach(struct drive *d);
void devices_on_message(struct drive *d, json_t *message);
void devices_on_down(struct drive *d);
/* Something that was said of devices was not understood: all of them are asked for anew, later. */
void devices_lost(struct drive *d);

/* ---- check.c ---- */

void checks_on_answer(struct drive *d, const json_t *answer);
void checks_on_pulse(struct drive *d);
void checks_fail(struct drive *d, const char *why);
