/* ctl.h - the local control socket of a daemon: userdir/run/<name>.sock (0600), one JSON object per
 * line each way.
 *
 * Request {"op": "...", ...}; answer {"state": "ok", ...} or {"state": "error", "reason": "..."}.
 * {"op": "help"} is answered with the table of ops by ctl itself. Only the owner of the daemon and
 * root may connect; a path may be longer than a socket address. One connection has one request
 * answered at a time. Every daemon answers
 * {"op": "status"} with at least: name, pid, version, uptime_s, ready (bool), health ("ok" or what
 * is wrong).
 */
#pragma once

/* Bytes of one request; a whole project comes in one. */
#define CTL_LINE_MAX (8 * 1024 * 1024)

#include "common/err.h"
#include "common/loop.h"
#include <jansson.h>

struct ctl;
struct ctl_call; /* one request waiting for its answer */

struct ctl_op {
	const char *op;
	const char *help;
	/* request: borrowed. Answer now or later with ctl_answer(), exactly once. */
	void (*handler)(void *arg, json_t *request, struct ctl_call *call);
};

/* Listen. ops: borrowed table of n rows. ret: yours. A stale socket file is replaced. */
int ctl_listen(struct loop *l, const char *path, const struct ctl_op *ops, size_t n, void *arg,
	       struct ctl **ret, struct err *err);
/* Calls not answered yet may still be answered, to nobody. NULL is fine; returns NULL. */
struct ctl *ctl_close(struct ctl *c);

/* answer: taken (a reference is consumed), NULL allowed (out of memory: an error is sent). One that
 * there is no memory to send now is sent as soon as there is: what it tells has happened. */
void ctl_answer(struct ctl_call *call, json_t *answer);
void ctl_answer_error(struct ctl_call *call, const char *reason);

/* Client, blocking up to timeout_ms; for commands, not for loops. request: borrowed. ret_answer:
 * yours. Errors: ERR_NOENT (nobody listens), ERR_TIMEOUT, ERR_PARSE, ERR_LIMIT (request). An answer
 * of state "error" is ERR_PEER with the reason. */
int ctl_request(const char *path, json_t *request, int timeout_ms, json_t **ret_answer,
		struct err *err);
/* The same, but an answer of state "error" is an answer, too: it may have more than a reason. */
int ctl_exchange(const char *path, json_t *request, int timeout_ms, json_t **ret_answer,
		 struct err *err);
