/* ccm.h - creation, configuration and management: projects, models, functions, accounts, bindings (spec ccm).
 *
 * One struct holds the process; each module touches only its own member. Everything runs on the loop's thread, except the
 * hashing of passwords (web/passwords.h).
 *
 *   web/   REST API v0, logins, pages          gui/    the MQTT API of editors
 *   ops/   what a user can do to the store, the same for both of them (op.h)
 *   drive/ makes csm's graphs equal to the stored projects, and the store's devices equal to csm's
 *   sim/   devices that stand in for real ones
 *
 * Order of one request: check (fields.h), run inside one transaction (op.h), commit, effects (drive_touch() ...), answer.
 */
#pragma once

#include "common/bus.h"
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/db.h"
#include "common/http.h"
#include "common/loop.h"
#include "common/reload.h"
#include <stdint.h>

struct ccm {
	struct daemon_opts daemon;
	const struct settings *settings; /* = &daemon.settings */
	struct loop *loop;
	struct db *db;
	struct drive *drive;
	struct gui *gui;
	struct sim *sim;
	struct web *web;
	struct bus *bus;
	struct ctl *ctl;
	struct reload reload;
	bool bus_was_up; /* once: then we said that we are ready */
	bool stopping;
	int64_t started_ms;
};

/* Start everything in order; a half-started ccm is fine for ccm_stop(). ret: 1 exit at once (--help), 0, negative. */
int ccm_start(struct ccm *ccm, int argc, char *argv[], struct err *err);
void ccm_stop(struct ccm *ccm);

/* Now as the store keeps it: UTC, "YYYY-MM-DD HH:MM:SS". */
struct utc_text {
	char s[32];
};
struct utc_text utc_text(int64_t seconds_since_1970);
