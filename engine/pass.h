/* pass.h - a message on its way through one graph; used by eval.c and the files of its steps.
 *
 * The functions that tell about a failure or a loss count it, report it and write to the monitor.
 * ret: 0, or what publish() failed with: then nothing goes on.
 */
#pragma once

#include "engine/eval.h"
#include "engine/monitor.h"

struct pass {
	struct eval *ev;
	const struct tap_rec *rec;
	struct graph *graph;
	struct link *idf;
	size_t n_values; /* without the tag */
	struct val **tag;
	size_t n_tag;
	const struct pyfn *ran; /* the function that what goes on comes from; NULL: none */
	struct monitor monitor;
};

/* Steps 3 to 8 of spec iottalk-core 6. */
int pass_run(struct pass *p);

/* Send a result. ret: 0, ERR_RANGE (would never fit), or what ends all. */
int pass_publish(struct pass *p, uint32_t slot, const struct text *payload);
/* Send a monitor message, if it fits into its text. */
int pass_publish_monitor(struct pass *p, const struct text *message, bool fits);

/* What the function printed, in ev->printed, is for the monitor, up to some amount a second. */
int pass_printed(struct pass *p, enum tap_kind kind, const struct link *link);

/* A function raised, and Python knows what; code as pyfn_call() says. link: NULL: the join. */
int pass_raised(struct pass *p, enum tap_kind kind, const struct link *link,
		const struct fn_use *use, int code);
/* A stage failed for a reason of ours. */
int pass_refused(struct pass *p, enum tap_kind kind, const struct link *link,
		 const struct fn_use *use, int code, const char *reason);
int pass_no_memory(struct pass *p, enum tap_kind kind, const struct link *link,
		   const struct fn_use *use);
/* The message cannot be taken, or goes no further: nobody's fault here. */
int pass_drop(struct pass *p, enum tap_kind kind, const struct fn_use *use, enum eval_drop d,
	      const char *reason);
/* The same for all graphs at once, so it is counted for this one only. */
int pass_drop_shared(struct pass *p, enum eval_drop d, const char *reason);
