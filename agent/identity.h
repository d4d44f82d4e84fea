/* identity.h - the name of this machine's agent: [agent] id, or a random one that is kept in
 * userdir/agent-id. */
#pragma once

#include "agent/session.h"
#include "common/settings.h"

/* Makes one if there is none. Errors: a name or a file that holds no agent id; ERR_SYS. */
int identity_find(const struct settings *s, char ret_id[AGENT_ID_MAX + 1], struct err *err);
