/* broker.h - the broker: one that is there already, or one that iotctl runs (docs: README.rst, "The
 * broker").
 *
 * All of these block for up to some seconds (network, useradd), so the supervisor calls them on a
 * thread of their own.
 */
#pragma once

#include "common/err.h"
#include "common/settings.h"
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

struct broker_plan {
	bool managed;          /* ours to run; else one that answers already */
	char *conf_path;       /* generated; owned, managed only */
	char *program;         /* found; owned, managed only */
	char *data_dir;        /* owned, managed only */
	char *user;            /* it runs as; owned, managed only */
	char *plugin;          /* it loads; owned, managed only; NULL: none */
	char plugin_why[1000]; /* then: why none */
	json_t *lacks;         /* list of sentences; owned, not managed only */
};

/* Decide as [broker] managed says and write what a managed broker needs. program_dir: of our
 * programs, the plugin is found from there. Errors: ERR_BUSY (ports taken by something else; the
 * text names both remedies), ERR_NOENT (nothing answers and it is not ours to run; no program),
 * ERR_SYS. */
int broker_plan(const struct settings *s, const char *program_dir, struct broker_plan *ret,
		struct err *err);
/* The managed one without asking who answers: for a broker of ours that runs already, with the
 * plugin or without as it was started. */
int broker_plan_adopted(const struct settings *s, const char *program_dir, struct broker_plan *ret,
			struct err *err);
/* It did not start with the plugin: let it start without. Does not block. */
int broker_drop_plugin(const struct settings *s, struct broker_plan *p, const char *why,
		       struct err *err);
void broker_plan_done(struct broker_plan *p);

/* Whether both ports answer as they should. ret: 0, or ERR_AGAIN with the reason. */
int broker_probe(const struct settings *s, int timeout_ms, struct err *err);

/* What a broker at host:port lacks of what the suite wants, as far as it can be seen from outside:
 * a new list of sentences. NULL: out of memory. */
json_t *broker_lacks(const struct settings *s);
