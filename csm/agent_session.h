/* agent_session.h - whom to believe: csm's half of a session with one agent (docs/agent-protocol.rst, Session). Pure state. */
#pragma once

#include "common/seal.h"
#include <jansson.h>
#include <stdbool.h>

#define AGENT_ID_MAX	64
#define AGENT_NONCES	64 /* remembered, to count states that are played again rather than to ask who it is */

struct agent_session {
	struct seal_nonce challenge; /* who answers to it is there now; a new one after each answer */
	struct seal_nonce ours;	     /* the challenge that began the session, csm's nonce in it */
	struct seal_nonce theirs;    /* the agent's, while up */
	struct seal_nonce will;	     /* whose `offline` counts */
	struct seal_nonce asked;     /* who had our last hello: asked again if it shows up again before it answered */
	bool up;
	uint64_t seq_in, seq_out; /* of this session */
	struct seal_nonce seen[AGENT_NONCES];
	unsigned n_seen;
};

void agent_session_init(struct agent_session *s);

enum agent_state_result {
	AGENT_STATE_DROP,  /* not to be believed; *ret_reason says why */
	AGENT_STATE_SAME,  /* nothing new */
	AGENT_STATE_HELLO, /* ask: send a hello with *ret_hello */
	AGENT_STATE_UP,	   /* a session begins: send everything */
	AGENT_STATE_DOWN   /* the session is over */
};

/* A message on the state topic whose tag fits. */
enum agent_state_result agent_session_state(struct agent_session *s, const struct seal_head *head,
					    const json_t *body, struct seal_head *ret_hello,
					    const char **ret_reason);
/* A message on the answer topic whose tag fits: whether it belongs to the session and is new. */
bool agent_session_accept(struct agent_session *s, const struct seal_head *head);
/* Head of the next message to the agent. */
struct seal_head agent_session_next(struct agent_session *s);
