/* outgoing.h - what csm says over the broker: csm_send(), csm_publish(), csm_answer() of csm.h, and answers that are begun with their
 * request.
 *
 * An answer ends its request, whatever happens: it goes out after the commit, or says why there was none; what lacks the memory for it
 * waits until there is some. When it goes out it is logged, counted and timed.
 */
#pragma once

#include "csm/csm.h"

struct outgoing;

int outgoing_start(struct csm *csm, struct err *err);
/* What waits for memory still is answered with an error. A csm that was not started is fine. */
void outgoing_stop(struct csm *csm);

/* An answer whose room is made with its request, so that later only the words can lack memory. from: as for csm_answer(). ret: yours;
 * NULL: out of memory. */
struct outgoing *outgoing_new(struct csm *csm, const char *topic, const struct asked *from);
struct outgoing *outgoing_free(struct outgoing *o); /* one that is not used; NULL is fine */
/* The id of the request, "" without `from`; valid as long as o. */
const char *outgoing_trace(const struct outgoing *o);
/* As csm_answer(). o, answer: taken. */
void outgoing_answer(struct outgoing *o, json_t *answer);
/* "state": "ok", without waiting for the store, and again until there is memory for it: of what is in force already, or (pending) will
 * be. o, answer: taken. */
void outgoing_answer_ok(struct outgoing *o, json_t *answer, bool pending);
