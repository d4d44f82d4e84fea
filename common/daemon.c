/* daemon.c - what every daemon of the suite does the same way. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/options.h"
#include "common/pidfile.h"
#include "common/util.h"
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define HELP_COLUMN 24

void daemon_block_signals(void)
{
	static const int ours[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		sigaddset(&set, ours[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

void daemon_bound_heap(void)
{
	mallopt(M_MMAP_THRESHOLD, 256 * 1024);
	mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

void daemon_raise_descriptors(unsigned count)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= count)
		return;
	limit.rlim_cur = limit.rlim_max < count ? limit.rlim_max : count;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < count)
		log_warn("descriptors.few", KV("limit", (int64_t)limit.rlim_cur));
}

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	if (is_error)
		log_error("config.bad", KV("what", text));
	else
		log_warn("config.doubtful", KV("what", text));
}

const struct option_row daemon_options[] = {
	PROGRAM_OPTIONS("log at level debug"),
	{0},
};

static void print_help(const char *name)
{
	printf("usage: %s [-h] [-d] [-c INI_PATH] [--version]\n\n"
	       "One daemon of the IoTtalk suite; it stays in the foreground and logs to stderr. It "
	       "is usually\n"
	       "started by `iotctl start`.\n\n"
	       "options:\n",
	       name);
	options_print(daemon_options, HELP_COLUMN, stdout);
}

/* ret: 0 go on, 1 done (help, version), negative: wrong usage */
static int parse_options(struct daemon_opts *d, int argc, char *argv[], struct err *err)
{
	const char *name = program_invocation_short_name;
	struct options given;

	if (options_parse(daemon_options, false, argc, argv, &given) < 0)
		return err_set(err, ERR_INVAL, "wrong option; see %s --help", name);
	if (options_has(&given, "help")) {
		print_help(name);
		if (d->help != NULL)
			d->help(stdout);
		return 1;
	}
	if (options_has(&given, "version")) {
		printf("%s %s\n", name, IOTTALK_VERSION);
		return 1;
	}
	if (given.argc > 0)
		return err_set(err, ERR_INVAL, "unexpected argument '%s'; see %s --help",
			       given.argv[0], name);
	d->debug = options_has(&given, "debug");
	if (!options_has(&given, "config"))
		d->conf_path = settings_default_path();
	else if ((d->conf_path = strdup(options_value(&given, "config"))) == NULL)
		return err_set(err, ERR_NOMEM, "options");
	return 0;
}

/* Make a directory and those above it that are missing, ours with mode 0700. */
static int make_dir(const char *path, struct err *err)
{
	char partial[PATH_MAX];
	size_t len = strlen(path);

	if (len >= sizeof(partial))
		return err_set(err, ERR_RANGE, "path too long: %.100s...", path);
	memcpy(partial, path, len + 1);
	for (char *p = partial + 1;; p++) {
		char was = *p;

		if (was != '/' && was != '\0')
			continue;
		*p = '\0';
		if (mkdir(partial, 0700) < 0 && errno != EEXIST)
			return err_sys(err, "cannot make directory '%s'", partial);
		*p = was;
		if (was == '\0')
			return 0;
	}
}

int daemon_make_dirs(const struct settings *s, struct err *err)
{
	static const char *const below[] = {"run", "log"};
	int rc = make_dir(s->core.userdir, err);

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(below); i++) {
		CLEANUP(freep)
		char *path = settings_path(s, below[i]);

		if (path == NULL)
			return err_set(err, ERR_NOMEM, "userdir");
		rc = make_dir(path, err);
	}
	return rc;
}

static int take_lock(struct daemon_opts *d, struct err *err)
{
	char relative[64];

	snprintf(relative, sizeof(relative), "run/%s.pid", d->name);
	CLEANUP(freep)
	char *path = settings_path(&d->settings, relative);

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "pid file");
	int rc = pidfile_lock(path, getpid(), &d->lock_fd);

	if (rc == ERR_BUSY)
		return err_set(err, ERR_BUSY, "%s is already running with this userdir (%s)",
			       d->name, d->settings.core.userdir);
	if (rc < 0)
		return err_set(err, ERR_SYS, "cannot lock '%s': %s", path, strerror(-rc));
	return 0;
}

void daemon_set_log(const struct daemon_opts *d)
{
	log_init(d->name, d->debug ? LOG_LEVEL_DEBUG : (enum log_level)d->settings.core.log_level,
		 (enum log_format)d->settings.core.log_format);
}

/* With the lock held, so that no restore can begin after this look. */
static int refuse_half_restored(const struct daemon_opts *d, struct err *err)
{
	CLEANUP(freep)
	char *path = settings_path(&d->settings, RESTORE_JOURNAL);

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "userdir");
	if (access(path, F_OK) < 0)
		return 0;
	return err_set(err, ERR_BUSY,
		       "a restore was interrupted ('%s'): `iotctl initdb` or `iotctl start` "
		       "finishes it",
		       path);
}

int daemon_start(struct daemon_opts *d, const char *name, int argc, char *argv[], struct err *err)
{
	*d = (struct daemon_opts){.name = name, .help = d->help, .lock_fd = -1};
	log_init(name, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	int rc = parse_options(d, argc, argv, err);

	if (rc != 0)
		return rc;
	rc = settings_load(d->conf_path, &d->settings, on_note, NULL, err);
	if (rc < 0)
		return rc;
	daemon_set_log(d);
	rc = daemon_make_dirs(&d->settings, err);
	if (rc == 0)
		rc = take_lock(d, err);
	return rc < 0 ? rc : refuse_half_restored(d, err);
}

void daemon_stop(struct daemon_opts *d)
{
	settings_done(&d->settings);
	free(d->conf_path);
	d->conf_path = NULL;
	if (d->name != NULL) /* else never started, and 0 is not our descriptor */
		closep(&d->lock_fd);
	d->lock_fd = -1;
}

static void on_term(void *arg)
{
	daemon_notify("STOPPING=1");
	loop_quit(arg, 0);
}

/* From now on SIGINT does what it does by default, so the second one ends the process at once. */
static void on_int(void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	on_term(arg);
}

int daemon_handle_stop(struct loop *l, struct err *err)
{
	int rc = loop_add_signal(l, SIGTERM, on_term, l, err);

	return rc < 0 ? rc : loop_add_signal(l, SIGINT, on_int, l, err);
}
