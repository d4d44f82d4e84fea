/* turns.h - what many connections of one device may do in a turn of the loop. What they do not get
 * done waits in a row for a coming turn, so that the loop's other work has its turn in between.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>

struct turns;

typedef void turns_fn(void *arg);

/* A connection's place in the row. {fn, arg} is the caller's to set, the rest is ours. */
struct turns_place {
	turns_fn
		*fn; /* it is its turn: begin, work until turns_are_over(), wait again if need be */
	void *arg;
	struct turns_place *next, **at; /* at NULL: does not wait */
};

/* ret: yours. Errors: ERR_NOMEM. */
int turns_new(struct loop *l, struct turns **ret, struct err *err);
/* Nobody waits any more, and no fn is running. NULL is fine; returns NULL. */
struct turns *turns_free(struct turns *t);

/* Work begins and ends: the time in between counts. Both may be nested. */
void turns_begin(struct turns *t);
void turns_end(struct turns *t);
/* Between begin and end: all time of this turn is used up, or others wait, who come first. */
bool turns_are_over(const struct turns *t);
/* At the end of the row, if it does not stand there already. */
void turns_wait(struct turns *t, struct turns_place *p);
bool turns_waits(const struct turns_place *p);
void turns_leave(struct turns *t, struct turns_place *p);
