/* supervisor.h - the process that starts the daemons and keeps them running.
 *
 * Control socket userdir/run/supervisor.sock: {"op":"start"|"stop","names":[...]} answered when it
 * is done, {"op":"status"}. No names: all; after a stop of all the supervisor ends. Its death
 * leaves the daemons alone; the next one adopts them.
 */
#pragma once

#include "common/err.h"
#include "iotctl/iotctl.h"

/* Run until stopped. ready_fd: told "ready\n" once the control socket listens, then closed (-1:
 * nobody waits). foreground: start mask at once, follow the daemons' logs on stderr. ret: enum
 * exit_code. */
int supervisor_run(struct iotctl *app, int ready_fd, bool foreground, unsigned mask);
