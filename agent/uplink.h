/* uplink.h - the agent's connection to csm over the broker: session, requests in, answers and
 * reports out.
 *
 * Loop thread only. The agent's own state topic is watched: who overwrites it is overwritten again,
 * at most once a second.
 */
#pragma once

#include "agent/request.h"
#include "agent/session.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/seal.h"
#include "common/settings.h"

struct uplink;

struct uplink_events {
	void (*on_link)(void *arg, bool up);      /* the broker */
	void (*on_session)(void *arg, bool open); /* csm */
};

struct uplink_status {
	bool up;      /* the broker is reached */
	bool session; /* csm has said hello since */
	struct session_counters counters;
	uint64_t overwritten; /* times somebody else wrote to our state topic */
};

/* ops: borrowed rows that verified requests are given to, with ops_arg. ret: yours. */
int uplink_new(struct loop *l, const struct settings *settings, const struct seal_key *key,
	       const char *agent_id, const struct request_op *ops, size_t n_ops, void *ops_arg,
	       const struct uplink_events *events, void *arg, struct uplink **ret, struct err *err);
/* Says goodbye (offline) and disconnects. NULL is fine; returns NULL. */
struct uplink *uplink_free(struct uplink *u);

/* answer: taken; NULL stands for "out of memory". Fields op and id are added. */
void uplink_answer(struct uplink *u, const struct request_tag *tag, json_t *answer);
/* report: taken; an object with op. ret: 0, or ERR_PEER without a session (the report is dropped).
 */
int uplink_report(struct uplink *u, json_t *report);

void uplink_get_status(const struct uplink *u, struct uplink_status *ret);
