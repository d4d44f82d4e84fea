/* links.h - links (device application, feature, mode), their data topics, and the commands that tell devices of them.
 *
 * A link exists while any graph document names it (references), and is live while it is in force in at least one graph: then
 * its device is told to CONNECT, at each `online` anew (spec iottalk-core 4).
 */
#pragma once

#include "csm/csm.h"
#include "csm/registry.h"

struct links;
struct link;

struct links *links_new(struct csm *csm); /* NULL: out of memory */
struct links *links_free(struct links *l);
size_t links_count(const struct links *l);

/* Take a reference, making the link if need be; topic NULL: a new random data topic. mode: "idf" or "odf".
 * NULL: out of memory. */
struct link *links_ref(struct links *l, const char *da_id, const char *feature, const char *mode,
		       const char *topic);
void links_unref(struct links *l, struct link *link);
struct link *links_find(const struct links *l, const char *da_id, const char *feature,
			const char *mode);

/* One more, or one less, graph has it in force: the first sends CONNECT, the last DISCONNECT. */
void links_enliven(struct links *l, struct link *link);
void links_quiet(struct links *l, struct link *link);

/* What happened to devices. */
void links_on_online(struct links *l, const char *da_id);
void links_on_offline(struct links *l, const char *da_id);
void links_on_removed(struct links *l, const char *da_id);
/* old: what it declared before. */
void links_on_profile(struct links *l, const struct device *d, const struct profile *old);
/* Whether a CONNECT of this link is decided and not sent yet: it waits for its turn, or for memory. */
bool links_connects_later(const struct links *l, const char *da_id, const char *feature, const char *mode);
/* The answer of a device to a command. ret: false if no command with that msg_id is open. */
bool links_on_answer(struct links *l, const char *da_id, const char *msg_id, bool ok,
		     const char *reason);

/* Once, after all is loaded and commands may go out: repeat those that an earlier run may not have brought to their devices. */
int links_resend(struct links *l, struct err *err);

/* [{"mode", "feature", "topic", "state", "reason"?, "graphs"}] of a device, graphs: in how many it is in force; a new list, NULL: out of memory. */
json_t *links_of(const struct links *l, const char *da_id);

const char *link_topic(const struct link *link);
const char *link_state(const struct link *link);  /* "waiting", "connecting", "connected", "error" */
const char *link_reason(const struct link *link); /* NULL unless "error" */
