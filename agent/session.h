/* session.h - who we talk to on the control plane: nonces, sequence numbers, what to accept
 * (docs/agent-protocol.rst).
 *
 * Bytes in, a verdict out; bytes out for what we send. No connection here and no time, so all of it
 * can be tested alone. A session stands from a hello of csm to the next hello or
 * session_connecting().
 */
#pragma once

#include "common/err.h"
#include "common/seal.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_ID_MAX 64

struct session;

enum session_verdict {
	SESSION_REQUEST,   /* a fresh message of our csm */
	SESSION_HELLO,     /* csm begins a session: publish session_state() now */
	SESSION_FORGED,    /* the tag does not fit */
	SESSION_REPLAYED,  /* not to our nonce, not from our csm, or an old number */
	SESSION_MALFORMED, /* not a sealed message, or its body is no request */
};

struct session_counters {
	uint64_t forged, replayed, malformed;
};

/* 1 to 64 characters of A-Z a-z 0-9 . _ - */
bool agent_id_valid(const char *id);

/* ret: yours. Errors: ERR_INVAL (agent id), ERR_NOMEM. */
int session_new(const struct seal_key *key, const char *agent_id, const char *version,
		struct session **ret, struct err *err);
struct session *session_free(struct session *s); /* NULL is fine; returns NULL */

const char *session_state_topic(const struct session *s);
const char *session_req_topic(const struct session *s);
const char *session_res_topic(const struct session *s);

/* A connection begins: new nonces, no csm yet. Makes the messages below. On error nothing changed.
 */
int session_connecting(struct session *s, struct err *err);
/* What stands retained on the state topic while we are there; borrowed until the next call that
 * changes the session. NULL before the first session_connecting(). */
const char *session_state(const struct session *s, size_t *ret_len);
/* The last will of this connection, and our goodbye; borrowed likewise. */
const char *session_will(const struct session *s, size_t *ret_len);
bool session_is_own_state(const struct session *s, const char *msg, size_t len);

/* Judge a message of the request topic; drops are counted. ret_body: set for SESSION_REQUEST only,
 * yours; an object with a string "op". After SESSION_HELLO the session is a new one. */
enum session_verdict session_accept(struct session *s, const char *msg, size_t len,
				    json_t **ret_body);
/* Count a request whose fields turned out to be no request after all. */
void session_count_malformed(struct session *s);

/* The number of the session that stands, never used twice; 0: none. */
uint64_t session_number(const struct session *s);
/* Seal an answer or report for csm under the next sequence number. ret_msg: yours to free().
 * Errors: ERR_PEER (no session), ERR_NOMEM. */
int session_seal(struct session *s, const json_t *body, char **ret_msg, size_t *ret_len,
		 struct err *err);

void session_get_counters(const struct session *s, struct session_counters *ret);
