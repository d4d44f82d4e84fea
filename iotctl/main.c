/* main.c - iotctl: the one command people use. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/util.h"
#include "iotctl/commands.h"
#include "iotctl/iotctl.h"
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- settings ---- */

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	fprintf(stderr, "iotctl: %s: %s\n", is_error ? "error" : "warning", text);
}

int iotctl_settings(struct iotctl *app)
{
	struct err err = {0};

	if (app->has_settings)
		return 0;
	app->has_settings = true; /* even a failed load must be released */
	int rc = settings_load(app->conf_path, &app->settings, on_note, NULL, &err);

	if (rc < 0)
		complain("%s", err.text);
	return rc;
}

int iotctl_look(const struct iotctl *app)
{
	static const char *const below[] = {"", "run", "log"};

	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		CLEANUP(freep)
		char *path = settings_path(&app->settings, below[i]);

		if (path != NULL && access(path, X_OK) < 0 && errno != ENOENT) {
			int code = -errno;

			complain("cannot look into '%s': %s", path, strerror(-code));
			return code;
		}
	}
	return 0;
}

int iotctl_own(const struct iotctl *app)
{
	CLEANUP(freep)
	char *key = settings_path(&app->settings, "key");
	struct stat st;

	if (key == NULL || stat(key, &st) < 0 || st.st_uid == geteuid())
		return 0;
	complain("the suite in '%s' is user %u's, and you are user %u: use `systemctl start "
		 "iottalk.target` if systemd shall keep it, or run this as that user",
		 app->settings.core.userdir, (unsigned)st.st_uid, (unsigned)geteuid());
	return ERR_ACCES;
}

/* ---- main ---- */

static int set_conf_path(struct iotctl *app, const char *given, struct err *err)
{
	free(app->conf_path);
	/* Absolute, because the daemons get it too; a file that is not there yet is told when it is
	 * read. */
	app->conf_path = realpath(given, NULL);
	if (app->conf_path == NULL && errno == ENOENT)
		return err_set(err, ERR_NOENT,
			       "there is no configuration file '%s' (iotctl genconf makes one)",
			       given);
	return app->conf_path == NULL ? err_sys(err, "configuration '%s'", given) : 0;
}

static int find_ourselves(struct iotctl *app, struct err *err)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		return err_sys(err, "/proc/self/exe");
	path[n] = '\0';
	app->program_path = strdup(path);
	*strrchr(path, '/') = '\0';
	app->program_dir = strdup(path);
	return app->program_path != NULL && app->program_dir != NULL
		       ? 0
		       : err_set(err, ERR_NOMEM, "out of memory");
}

/* ret: -1 go on with what is left, else the exit status. */
static int read_options(struct iotctl *app, int argc, char *argv[], struct options *ret)
{
	struct err err = {0};

	if (options_parse(global_options, true, argc, argv, ret) < 0) {
		commands_usage(stderr);
		return EXIT_USAGE;
	}
	if (options_has(ret, "help")) {
		commands_help(stdout);
		return EXIT_OK;
	}
	if (options_has(ret, "version")) {
		printf("iotctl %s\n", IOTTALK_VERSION);
		return EXIT_OK;
	}
	app->debug = options_has(ret, "debug");
	if (options_has(ret, "config") &&
	    set_conf_path(app, options_value(ret, "config"), &err) < 0)
		return complain("%s", err.text);
	if (app->conf_path == NULL)
		app->conf_path = settings_default_path();
	return -1;
}

int main(int argc, char *argv[])
{
	struct iotctl app = {0};
	struct err err = {0};

	log_init("iotctl", LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
	if (sodium_init() < 0)
		return complain("the crypto library does not start");
	struct options given = {0};
	int rc = find_ourselves(&app, &err) < 0 ? complain("%s", err.text)
						: read_options(&app, argc, argv, &given);

	if (rc == -1 && given.argc == 0) {
		commands_help(stdout);
		rc = EXIT_USAGE;
	} else if (rc == -1) {
		rc = command_run(&app, given.argc, given.argv);
	}
	if (app.has_settings)
		settings_done(&app.settings);
	free(app.conf_path);
	free(app.program_path);
	free(app.program_dir);
	return rc;
}
