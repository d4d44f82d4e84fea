/* op.h - one operation of a user: the same for the REST API and for the MQTT gui API.
 *
 * An operation gets checked arguments, runs inside one transaction and gives a result or an error. What must happen besides
 * (graphs that change, announcements) is named by op_then() and happens after the commit, in order, each once; on an error
 * nothing is changed and nothing happens.
 *
 * Errors: ERR_NOENT (not there, or not the caller's), ERR_INVAL, ERR_EXIST, ERR_CONFLICT (in use), ERR_ACCES (may not),
 * ERR_AGAIN (try later), and ERR_DB and ERR_NOMEM, which are nobody's fault but ours. err.text is what the client reads.
 */
#pragma once

#include "ccm/ccm.h"
#include "common/err.h"
#include <jansson.h>

struct caller {
	int64_t u_id; /* 0: nobody is logged in */
	bool is_admin;
	char gui[64]; /* uuid of the gui client; "": not by the gui API */
};

struct op_call {
	struct ccm *ccm;
	struct db *db;
	struct caller who;
	json_t *args; /* an object, owned by the call; run() may change it */
	json_t *data; /* what run() made; owned by the call; NULL: null */
	struct err err;
	void *prepared; /* prepare()'s for run(); released with free() */
};

typedef int op_run_fn(struct op_call *c);
struct op {
	const char *name; /* as logs tell it */
	op_run_fn *run;	  /* ret: 0 or negative with c->err set */
	/* For what takes time: called before, outside of a transaction; ends in op_go_on() or op_fail(), at once or later. NULL: none. */
	void (*prepare)(struct op_call *c);
	bool reads; /* only; nothing is written */
	/* After the commit and the effects, before the answer: what needs more of the call than op_then() carries. NULL: none. */
	void (*after)(struct op_call *c);
};

/* c is valid for the call. rc: 0 or negative. c->data may be taken. */
typedef void op_done_fn(void *arg, struct op_call *c, int rc);

/* Run it. args: taken; NULL: out of memory. done is called once, perhaps before this returns. */
void op_start(struct ccm *ccm, const struct op *op, const struct caller *who, json_t *args, op_done_fn *done, void *arg);
void op_go_on(struct op_call *c);
void op_fail(struct op_call *c, int rc); /* c->err is set */

/* Inside run(): after the commit call fn(ccm, id). The same fn and id again: once. ret: 0 or ERR_NOMEM (c->err set). */
typedef void op_effect_fn(struct ccm *ccm, int64_t id);
int op_then(struct op_call *c, op_effect_fn *fn, int64_t id);
/* The same for each number that a statement with the one parameter id gives. ret: 0, or negative (c->err set). */
int op_then_each(struct op_call *c, op_effect_fn *fn, const char *sql, int64_t id);

/* Of the arguments; after fields_check() they are there, or absent (or null) where that is allowed. */
int64_t op_int(const struct op_call *c, const char *name);	/* absent or null: 0 */
const char *op_str(const struct op_call *c, const char *name);	/* absent or null: NULL */
bool op_has(const struct op_call *c, const char *name);		/* there, and not null */
/* { name: value } as the result. ret: 0 or ERR_NOMEM. */
int op_result_int(struct op_call *c, const char *name, int64_t value);
/* Take the result; NULL: out of memory. ret: 0 or ERR_NOMEM. */
int op_result(struct op_call *c, json_t *data);
