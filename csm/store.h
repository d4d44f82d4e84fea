/* store.h - csm's store: one transaction for all requests of a loop turn, effects after the commit (design section 4).
 *
 * store_exec() queues nothing: it runs the statement now, inside the turn's transaction. A statement that fails (disk full,
 * I/O) fails the whole turn: nothing of it is stored, every effect is rolled back. So callers need not look at each
 * statement; they say with store_then() what happens after either outcome.
 */
#pragma once

#include "common/db.h"
#include "common/err.h"
#include "csm/csm.h"

struct store;

int store_open(struct csm *csm, struct store **ret, struct err *err);
/* Commits what is open. */
struct store *store_close(struct store *s);

/* A change; its failure is remembered for the end of the turn. */
#define store_exec(s, sql, ...)                                                                    \
	do {                                                                                       \
		struct err store_err_ = {0};                                                       \
		if (store_begin(s) == 0 &&                                                         \
		    db_run(store_db(s), &store_err_, NULL, NULL, (sql), ##__VA_ARGS__) < 0)        \
			store_failed((s), &store_err_);                                            \
	} while (0)

/* A value that is kept for good: what the store has under the name, else `first`, which it has from then on. value: of cap bytes; first
 * must fit. Outside of a turn's transaction, for the start. */
int store_keep(struct store *s, const char *name, const char *first, char *ret_value, size_t cap, struct err *err);

struct db *store_db(struct store *s);
int store_begin(struct store *s); /* before each statement. ret: 0, negative if this turn has failed already */
void store_failed(struct store *s, const struct err *why);

typedef void store_effect_fn(void *arg, const char *why);
/* At the end of the turn exactly one of the two is called: on_commit(arg, NULL), in the order given, or on_rollback(arg, reason),
 * in reverse order. Either may be NULL. Effects may store and queue again: that is done before the loop sleeps. If no memory
 * is left the turn fails; there is room for the effects of all that one turn takes up. */
void store_then(struct store *s, store_effect_fn *on_commit, store_effect_fn *on_rollback, void *arg);

/* Called before each commit, to add to it, and after each that succeeded. One pair. */
typedef void store_commit_fn(void *arg);
void store_with_commits(struct store *s, store_commit_fn *before, store_commit_fn *after, void *arg);

/* Whether this turn has run out of memory somewhere: then it will fail, and what was read or built in it may lack something. */
bool store_lacks_memory(const struct store *s);

/* NULL while the store works, else what it said last. */
const char *store_trouble(const struct store *s);
