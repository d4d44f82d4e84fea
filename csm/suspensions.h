/* suspensions.h - features that an operator has suspended: the commands SUSPEND and RESUME and what devices said to them
 * (spec iottalk-core 4).
 *
 * A suspension belongs to a feature of a device application, whether a graph links it or not, and is kept until it is taken back or
 * the device application is deregistered. The device is told when it is online, and anew at each `online` and after each CONNECT: one that
 * reconnects forgets. It is asked, not forced: the state says whether it did what it was told.
 */
#pragma once

#include "csm/csm.h"
#include "csm/registry.h"

struct suspensions;

int suspensions_new(struct csm *csm, struct suspensions **ret, struct err *err); /* loads the store */
struct suspensions *suspensions_free(struct suspensions *s);

/* How it came out, once; state as in suspensions_of(), "active" (RESUME was done, or there was nothing to resume), or "error": it was not kept.
 * reason: NULL if there is none. */
typedef void suspension_done_fn(void *arg, const char *state, const char *reason);
/* Suspend or resume a feature of a device; mode "idf" or "odf". done is called when the device has answered, has not in time, or is offline; it
 * may be called at once. */
void suspensions_set(struct suspensions *s, const struct device *d, const char *mode, const char *feature, bool suspend,
		     suspension_done_fn *done, void *arg);

/* What happened to devices; on_online comes after the CONNECTs went out. */
void suspensions_on_online(struct suspensions *s, const char *da_id);
void suspensions_on_offline(struct suspensions *s, const char *da_id);
void suspensions_on_removed(struct suspensions *s, const char *da_id);
/* A CONNECT has just been sent. */
void suspensions_on_connect(struct suspensions *s, const char *da_id, const char *mode, const char *feature);
/* The answer of a device to a command. ret: false if no command with that msg_id is open. */
bool suspensions_on_answer(struct suspensions *s, const char *da_id, const char *msg_id, bool ok, const char *reason);
/* Once, when commands may go out: tell what an earlier run may not have told. */
void suspensions_resend(struct suspensions *s);

/* [{"mode", "feature", "state", "since", "reason"?}] of a device; a new list, NULL: out of memory. state: "suspending", "suspended", "resuming"
 * (told, not answered), "waiting" (told when it is online), "refused" (reason says why; the device was asked and goes on as before). */
json_t *suspensions_of(const struct suspensions *s, const char *da_id);
size_t suspensions_count(const struct suspensions *s, const char *da_id);
/* The state of one feature as above; NULL: nothing is suspended there. */
const char *suspension_state(const struct suspensions *s, const char *da_id, const char *mode, const char *feature);
