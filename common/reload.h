/* reload.h - a running daemon reads its configuration again: at SIGHUP, and when its control socket
 * is asked to `reload`.
 *
 * Settings marked live in the table take effect at once; others that differ are told, and wait for
 * a restart. A file that is wrong changes nothing.
 */
#pragma once

#include "common/ctl.h"
#include "common/daemon.h"

struct reload {
	struct daemon_opts *daemon;
	/* After a live setting has changed: for what does not read it anew each time. */
	void (*on_change)(void *arg);
	void *arg;
};

/* Take SIGHUP. r: borrowed as long as the loop runs. */
int reload_start(struct reload *r, struct loop *l, struct err *err);
/* Answers {"file": path or null, "changed": ["core.log-level", ...], "restart": ["core.http-port",
 * ...]}, or what is wrong with the file. */
void reload_ctl(struct reload *r, struct ctl_call *call);
/* {"op": "log-level", "module"?, "level"?}: sets the level of a module, or of all that have none of
 * their own; level "default": as the settings say. Answers {"modules": {"device": {"level": "info",
 * "own": false}, ...}}. */
void reload_ctl_log_level(struct reload *r, json_t *request, struct ctl_call *call);
