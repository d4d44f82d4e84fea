/* drive.h - csm's graphs as the stored projects want them, the store's devices as csm knows them (spec ccm 5).
 *
 * Only the public graph and device API of csm is used. What a graph should be is read from the store each time (wanted.h), what it
 * is comes with csm's answers; the difference is sent. So every change is the same few words: drive_touch().
 */
#pragma once

#include "ccm/ccm.h"
#include "ccm/op.h"

struct drive;

int drive_new(struct ccm *ccm, struct drive **ret, struct err *err);
struct drive *drive_free(struct drive *d); /* NULL is fine; returns NULL */

/* For the bus: what is said when we are lost, what we listen to, what happens. */
bool drive_will(struct drive *d, struct bus_will *will);
int drive_subscribe(struct drive *d, struct err *err);
void drive_on_up(struct drive *d);
void drive_on_down(struct drive *d);
void drive_on_message(struct drive *d, const struct bus_msg *m);
/* Before the bus is closed: detach from the device API. */
void drive_goodbye(struct drive *d);
/* Add to the answer of `status`: "csm" (attached or not), "graphs", "repairs" ... */
void drive_status(struct drive *d, json_t *answer);

/* Ask csm for everything anew and look at every graph, simulators too. */
void drive_reconcile(struct drive *d);

/* Effects. The graph of a network application may differ from the store now: look, and mend. The row may be gone, then the graph goes. */
void drive_touch(struct ccm *ccm, int64_t na_id);
/* The same for all of a project, and for every graph that uses a function. */
void drive_touch_project(struct ccm *ccm, int64_t p_id);
void drive_touch_function(struct ccm *ccm, int64_t fn_id);

/* Compile code in an engine's sandbox (graph API op check_funcs). rc: 0; ERR_INVAL with what is wrong with the code; ERR_AGAIN: there
 * is no agent, or csm is away. Calls back once, perhaps at once. */
typedef void drive_checked_fn(void *arg, int rc, const char *why);
void drive_check_code(struct ccm *ccm, const char *code, drive_checked_fn *fn, void *arg);

/* Ask csm to monitor a graph for one gui client; the topic comes to it as `monitor_anno`. */
void drive_monitor(struct ccm *ccm, int64_t na_id, const char *gui_uuid);
/* That client watches nothing any more. */
void drive_unmonitor(struct ccm *ccm, const char *gui_uuid);
