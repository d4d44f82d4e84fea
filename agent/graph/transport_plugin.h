/* transport_plugin.h - the transport over the broker plugin (docs/plugin-protocol.rst), and whether it
 * can be used here. */
#pragma once

#include "agent/graph/transport.h"

extern const struct transport_ops transport_plugin;

/* Whether a plugin answers, and is in the broker that devices are told of: a message goes there and
 * back. Blocks for at most 4 s, as a rule for some milliseconds. ret: 0, or why not: ERR_NOENT (nobody
 * listens), ERR_PEER (no echo: another broker, or one that gives no ticks), ERR_BUS (the broker is not
 * reached). */
int transport_plugin_probe(const struct settings *s, const char *agent_id, struct err *err);
