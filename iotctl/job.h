/* job.h - work that blocks (probing a broker, adding a user), on a thread of its own; the result
 * comes back on the loop. */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <stdatomic.h>
#include <stdbool.h>

struct jobs; /* all running ones */
struct job;

typedef void job_work_fn(struct job *job,
			 void *arg); /* on the thread; looks at job_cancelled() now and then */
typedef void job_done_fn(void *owner, void *arg, bool cancelled); /* on the loop; frees arg */

int jobs_new(struct loop *l, void *owner, struct jobs **ret, struct err *err);
/* Cancels and waits for what runs; calls done for each. */
struct jobs *jobs_free(struct jobs *js);
int job_start(struct jobs *js, job_work_fn *work, job_done_fn *done, void *arg, struct err *err);
bool job_cancelled(const struct job *job);
void jobs_cancel(struct jobs *js); /* all that run now; their done comes with cancelled set */
bool jobs_idle(const struct jobs *js);
