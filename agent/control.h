/* control.h - the agent's control socket, run/agent.sock: how it is, what its services have. */
#pragma once

#include "agent/agent.h"
#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>

int control_listen(struct agent *a, const char *path, struct err *err);

bool agent_is_ready(const struct agent *a);
/* All we count, ours and the services'. A new object; NULL: out of memory. */
json_t *agent_counters(const struct agent *a);
