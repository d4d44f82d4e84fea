/* registry.h - the registered device applications (spec iottalk-core 3 and 4).
 *
 * Changes are made in memory and in the turn's transaction at once, announced when it commits, undone if it does not.
 */
#pragma once

#include "common/id.h"
#include "csm/csm.h"
#include "csm/profile.h"

struct registry;

struct device { /* owned by the registry; read-only for others */
	struct uuid_text id, rev;
	struct profile info;
	double register_time; /* seconds since 1970 */
	double state_since;   /* when it came online or went offline */
	bool online;
	bool removed; /* deregistered in this turn: about to be freed */
	const char *why_removed; /* a literal */
	struct trace_text trace; /* of the request that removed it; "": none */
	struct loop_src *expiry;
	struct csm *csm;
};

/* Load what the store has; expiration timers start from when each went offline. */
int registry_new(struct csm *csm, struct registry **ret, struct err *err);
struct registry *registry_free(struct registry *r);

struct device *registry_find(const struct registry *r, const char *id); /* lower-case id; NULL: none */
size_t registry_count(const struct registry *r);
size_t registry_online(const struct registry *r);

/* PUT: register, or register again with a new revision. p: taken on success; a missing name is generated. trace: whose request it
 * is, for the log; copied.
 * ret_dev: borrowed until the end of the turn. Errors: ERR_NOMEM. */
int registry_put(struct registry *r, const struct uuid_text *id, struct profile *p, const char *trace,
		 struct device **ret_dev, struct err *err);
/* POST: replace the profile, same revision. p: taken on success. */
int registry_update(struct registry *r, struct device *d, struct profile *p, const char *trace,
		    struct err *err);
/* DELETE, or expiration (trace NULL). why: a literal. */
void registry_remove(struct registry *r, struct device *d, const char *why, const char *trace);
/* From the control channel; announces and sends CONNECTs. Not undone: it is a fact, whatever the store says. */
void registry_set_online(struct registry *r, struct device *d, bool online);

/* [core] da-expiration has changed. */
void registry_rearm(const struct registry *r);

/* The device as the device API tells it (spec 5.1); a new object, NULL: out of memory. */
json_t *device_to_json(const struct device *d);
/* Each device by id; fn changes nothing. */
typedef void registry_fn(void *arg, struct device *d);
void registry_each(const struct registry *r, registry_fn *fn, void *arg);
/* All devices by id, NULL-terminated, yours to free(); NULL: out of memory. */
struct device **registry_all(const struct registry *r);
