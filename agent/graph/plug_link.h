/* plug_link.h - the connection to the broker plugin (docs/plugin-protocol.rst): requests out, answers
 * and events in.
 *
 * It connects and reconnects by itself: at once, then after 50 ms doubling to 1 s. What was asked and
 * not answered when it breaks is answered with ERR_PEER; who wants it asks again after on_up. Loop
 * thread only; only plug_link_wait() blocks.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "common/plug.h"
#include <stdbool.h>
#include <stddef.h>

struct plug_link;

/* a: borrowed, so is text (a->len bytes, terminated). Answers of many packets come one by one, with
 * PLUG_MORE in all but the last. */
typedef void plug_answer_fn(void *arg, const struct plug_answer *a, const char *text);

struct plug_link_events {
	void (*on_up)(void *arg); /* HELLO is answered: requests may be made */
	void (*on_down)(void *arg, const char *why);
	void (*on_event)(void *arg, enum plug_event event, uint32_t port);
};

/* path: copied. ret: yours. It connects at once, and says so by on_up from within the call only if
 * plug_link_wait() is used. Errors: ERR_NOMEM, ERR_SYS. */
int plug_link_new(struct loop *l, const char *path, const struct plug_link_events *events, void *arg,
		  struct plug_link **ret, struct err *err);
struct plug_link *plug_link_free(struct plug_link *k); /* NULL is fine; returns NULL; answers nothing */
bool plug_link_is_up(const struct plug_link *k);
/* Why it is down, for people. */
const char *plug_link_why(const struct plug_link *k);

struct plug_ask {
	enum plug_op op;
	uint32_t port, slot, flags;
	const void *text; /* copied */
	size_t len;
	const int *fds; /* duplicated */
	size_t n_fds;
	plug_answer_fn *fn; /* NULL: the answer is of no interest, unless it is an error: that is logged */
	void *arg;
	const void *owner; /* for plug_link_forget() */
};

/* Errors: ERR_AGAIN (it is down), ERR_NOMEM, ERR_LIMIT (text too long), ERR_SYS. */
int plug_link_ask(struct plug_link *k, const struct plug_ask *ask, struct err *err);
/* The answers to what owner has asked are of no interest any more. */
void plug_link_forget(struct plug_link *k, const void *owner);
/* What owner has asked of op and was not answered is answered to fn instead, and has no owner. */
void plug_link_redirect(struct plug_link *k, const void *owner, enum plug_op op, plug_answer_fn *fn,
			void *arg);
/* Handle what comes until all is answered (connecting included), it is down, or timeout_ms are over.
 * ret: 0, ERR_PEER (down; err says why), ERR_TIMEOUT. */
int plug_link_wait(struct plug_link *k, int timeout_ms, struct err *err);
