/* agent.h - the gateway-agent: one session with csm, and the services it runs on this machine.
 *
 * One struct holds the process. There are two services: one for graphs, one for devices.
 */
#pragma once

#include "agent/device/service.h"
#include "agent/graph/service.h"
#include "agent/session.h"
#include "agent/trim.h"
#include "agent/uplink.h"
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/loop.h"
#include "common/reload.h"
#include "common/seal.h"

struct agent {
	struct daemon_opts daemon;
	struct loop *loop;
	struct seal_key key;
	char id[AGENT_ID_MAX + 1];
	struct service *graphs;
	struct devices *devices; /* NULL: no device file is set */
	struct trim *trim;       /* with devices */
	struct uplink *uplink;
	struct ctl *ctl;
	struct reload reload;
	char transport_why[300]; /* why it is not the plugin; empty: it is, or need not be */
	struct loop_src *stats_timer, *plugin_timer;
	int64_t plugin_lost_ms;   /* since when it does not answer; 0: it does */
	int64_t served_ms;        /* when graphs were in force last, or there was no broker */
	bool values_held;         /* of devices */
	json_t *reported;         /* stats as csm has them */
	bool link, ready;         /* the broker is reached; ready was announced */
	unsigned keeper_failures; /* before there was one */
	int64_t started_ms;
};

/* Start everything in order; a half-started agent is fine for agent_stop(). ret: 1 exit at once
 * (--help), 0, or negative. */
int agent_start(struct agent *a, int argc, char *argv[], struct err *err);
void agent_stop(struct agent *a);
