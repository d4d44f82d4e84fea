/* store.h - what the device service keeps on disk: states that others told us, registrations, and
 * what waits for the broker (userdir/devices.db; gateway-devices 1.5). Changes of one turn share a
 * transaction; what waits for it hears when it is on the disk.
 */
#pragma once

#include "agent/device/elapsed.h"
#include "common/db.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include <stdint.h>

struct store;

/* Open, migrate. ret: yours. */
int store_open(struct loop *l, const struct settings *settings, struct store **ret,
	       struct err *err);
/* Commits. NULL is fine; returns NULL. */
struct store *store_close(struct store *s);

/* To read, or to write after store_begin(). */
struct db *store_db(struct store *s);
/* A transaction is open from here to the end of this turn, when it is committed. */
int store_begin(struct store *s, struct err *err);
/* End it now; those who wait hear of it when the turn has ended. ret: 0: nothing is open, all is on
 * the disk; negative: it has been rolled back (logged). */
int store_commit(struct store *s);
/* The number of the open transaction, or of the next one. */
uint64_t store_transaction(const struct store *s);
/* fn is called once what has been written so far is on the disk (0), or could not be (negative: it
 * has been rolled back, all of it). */
typedef void store_done_fn(void *arg, int rc);
int store_on_commit(struct store *s, store_done_fn *fn, void *arg, struct err *err);
/* Forget callbacks with this arg. */
void store_forget(struct store *s, const void *arg);
/* By which it is told how old what is kept is. */
const struct elapsed *store_clock(const struct store *s);
/* Where something is kept that becomes old, and now and then while it is: a later process is to
 * know the clock, too. In the transaction that is open, or in one of its own. */
void store_keep_clock(struct store *s);

/* ---- kept states: the newest of each topic, of system/ states and entry ids ---- */

/* Keep it if it is newer than what is kept. changed_us: when it was set. ret: 1 kept, 0 older. */
int store_keep_state(struct store *s, const char *topic, const char *body, int64_t changed_us,
		     struct err *err);
typedef int store_state_fn(void *arg, const char *topic, const char *body, int64_t changed_us);
/* All whose topic begins with prefix. */
int store_each_state(struct store *s, const char *prefix, store_state_fn *fn, void *arg,
		     struct err *err);
int store_drop_states(struct store *s, const char *prefix, struct err *err);

/* ---- registrations: which device applications of ours csm knows ---- */

int store_add_registration(struct store *s, const char *id, const char *device, struct err *err);
int store_drop_registration(struct store *s, const char *id, struct err *err);
typedef int store_registration_fn(void *arg, const char *id, const char *device);
int store_each_registration(struct store *s, store_registration_fn *fn, void *arg, struct err *err);
