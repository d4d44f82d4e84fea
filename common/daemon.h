/* daemon.h - what every daemon of the suite does the same way: options, signals, pid lock, notices
 * to whoever keeps it.
 *
 * Options: -c INI, -d (debug log level), --version, -h. Daemons stay in the foreground and log to
 * stderr; iotctl or systemd keeps them. The pid file userdir/run/<name>.pid is locked for as long
 * as the daemon lives (common/pidfile.h).
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "common/options.h"
#include "common/settings.h"

#ifndef IOTTALK_VERSION
#define IOTTALK_VERSION "0.1.0"
#endif

/* Below userdir: the steps of a restore that is under way. No daemon runs while it is there: one
 * that does would use, or make, files that are being exchanged. */
#define RESTORE_JOURNAL "restore.journal"

/* What every program of the suite takes; `debug` says what -d does. */
#define PROGRAM_OPTIONS(debug)                                                               \
	{"help", 'h', NULL, "show this help message and exit"}, {"debug", 'd', NULL, debug}, \
		{"config", 'c', "INI_PATH",                                                  \
		 "IoTtalk ini config file ($HOME/.iottalk/iottalk.ini, or else that of the " \
		 "system, if "                                                               \
		 "it exists)"},                                                              \
	{                                                                                    \
		"version", 0, NULL, "show program's version number and exit"                 \
	}

/* Those of a daemon. */
extern const struct option_row daemon_options[];

/* Zero it before daemon_start(), but for `help`. */
struct daemon_opts {
	const char *name;        /* "csm" */
	void (*help)(FILE *out); /* what --help says besides; NULL: nothing */
	char *conf_path;         /* owned; NULL: no file, defaults */
	struct settings settings;
	int lock_fd;
	bool debug; /* -d: log everything, whatever the settings say */
};

/* Block SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE; first thing in main(), before any thread exists.
 */
void daemon_block_signals(void);
/* Let the heap give back what a burst needed, and when: glibc by itself raises both of its thresholds with the
 * largest block that was freed, so that a daemon that saw one message of 1 MB keeps tens of MB for good. */
void daemon_bound_heap(void);
/* Allow the process so many descriptors, as far as the system lets it; less is logged. */
void daemon_raise_descriptors(unsigned count);
/* Parse argv, load the settings (complaints go to the log), init the log, make userdir (0700) and
 * its run/ and log/, take the pid lock. Without -c the configuration is settings_default_path().
 * ret: 1 if the program should exit at once with success (--help, --version), 0, or negative
 * (ERR_BUSY: already running, or a restore is not finished). */
int daemon_start(struct daemon_opts *d, const char *name, int argc, char *argv[], struct err *err);
/* Make userdir, run/ and log/ (0700) as far as they are missing; part of daemon_start(). */
int daemon_make_dirs(const struct settings *s, struct err *err);
void daemon_stop(struct daemon_opts *d);
/* Log as the settings (and -d) say; part of daemon_start(). */
void daemon_set_log(const struct daemon_opts *d);
/* SIGTERM and SIGINT end the loop with code 0, and the supervisor is told; a second SIGINT exits
 * the process at once. */
int daemon_handle_stop(struct loop *l, struct err *err);

/* daemon_notify.c: to the supervisor, by the sd_notify protocol on $NOTIFY_SOCKET; without one they
 * do nothing. */

/* One assignment or more, each on a line: "STOPPING=1". Does not wait; a failure is logged. */
void daemon_notify(const char *message);
void daemon_notify_ready(void);
/* What it does now, one line for people: "connected to the broker". */
void daemon_notify_status(const char *text);
/* If the supervisor wants signs of life ($WATCHDOG_USEC, and $WATCHDOG_PID is ours or not given),
 * give them from the loop, twice in each interval: a loop that hangs gives none. */
int daemon_watch(struct loop *l, struct err *err);
