/* cmd_init.c - iotctl initdb, genconf, config check: what there must be before anything runs. */
#include "common/daemon.h"
#include "common/pidfile.h"
#include "common/schema.h"
#include "common/seal.h"
#include "common/util.h"
#include "iotctl/iotctl.h"
#include "iotctl/restore.h"
#include "iotctl/units.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- initdb ---- */

static bool exists(const char *path)
{
	struct stat st;

	return path != NULL && stat(path, &st) == 0;
}

bool daemon_runs(const struct iotctl *app, const char *name)
{
	char relative[64];
	pid_t pid;

	snprintf(relative, sizeof(relative), "run/%s.pid", name);
	CLEANUP(freep)
	char *path = settings_path(&app->settings, relative);
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	return pidfd >= 0;
}

bool init_was_done(const struct iotctl *app)
{
	CLEANUP(freep)
	char *key = settings_path(&app->settings, "key");
	const char *store = app->settings.core_db.url;

	return key != NULL && exists(key) && (strcmp(store, ":memory:") == 0 || exists(store));
}

int init_resume(const struct iotctl *app, struct err *err)
{
	int rc = restore_resume(&app->settings, err);

	if (rc > 0)
		puts("a restore that was interrupted has been finished");
	return rc < 0 ? rc : 0;
}

int init_all(struct iotctl *app, bool quiet)
{
	const struct settings *s = &app->settings;
	bool in_memory = strcmp(s->core_db.url, ":memory:") == 0;
	struct seal_key unused;
	struct err err = {0};
	int rc = daemon_make_dirs(s, &err);
	CLEANUP(freep)
	char *key = settings_path(s, "key");

	if (rc == 0)
		rc = init_resume(app, &err);
	bool had_store = !in_memory && exists(s->core_db.url);

	if (rc == 0 && key == NULL)
		rc = err_set(&err, ERR_NOMEM, "key");
	if (rc == 0 && !exists(key) && (daemon_runs(app, "csm") || daemon_runs(app, "agent")))
		rc = err_set(&err, ERR_BUSY,
			     "the key %s is missing and daemons with the old one are running; stop "
			     "them first (iotctl stop), or put the old key back",
			     key);
	if (rc == 0)
		rc = seal_key_create(key, &err);
	if (rc == 0) /* was there: is it one? */
		rc = seal_key_load(key, &unused, &err);
	bool new_key = rc == 1;

	if (rc >= 0)
		rc = schema_migrate(s, SCHEMA_CSM, &err);
	if (rc < 0) {
		complain("initdb: %s", err.text);
		return rc;
	}
	if (quiet && had_store && !new_key)
		return 0;
	printf("userdir  %s\n", s->core.userdir);
	printf("key      %s (%s)\n", key, new_key ? "new" : "was there");
	printf("store    %s (%s)\n", s->core_db.url,
	       in_memory   ? "kept in memory only"
	       : had_store ? "was there, up to date"
			   : "new");
	return 0;
}

bool confirmed(const char *question)
{
	FILE *tty = fopen("/dev/tty", "r+e");
	char answer[16] = "";

	if (tty == NULL)
		return false;
	fprintf(tty, "%s [y/N] ", question);
	fflush(tty);
	bool yes = fgets(answer, sizeof(answer), tty) != NULL &&
		   (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0);

	fclose(tty);
	return yes;
}

static int reset_store(const struct iotctl *app)
{
	static const char *const parts[] = {"", "-wal", "-shm"};
	const char *store = app->settings.core_db.url;

	if (daemon_runs(app, "csm"))
		return complain("initdb: csm is running; stop it first");
	if (strcmp(store, ":memory:") == 0 || !exists(store))
		return EXIT_OK;
	CLEANUP(freep)
	char *question = NULL;

	if (asprintf(&question, "Delete all registrations, graphs and functions in %s?", store) <
	    0) {
		question = NULL;
		return complain("out of memory");
	}
	if (!confirmed(question))
		return complain("initdb: nothing was deleted (--reset asks on the terminal)");
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		CLEANUP(freep)
		char *path = NULL;

		if (asprintf(&path, "%s%s", store, parts[i]) < 0) {
			path = NULL;
			return complain("out of memory");
		}
		if (unlink(path) < 0 && errno != ENOENT)
			return complain("cannot delete '%s': %s", path, strerror(errno));
	}
	return EXIT_OK;
}

int cmd_initdb(struct iotctl *app, const struct options *o)
{
	bool reset = options_has(o, "reset");

	for (int i = 0; i < o->argc; i++) {
		if (strcmp(o->argv[i], "ccm") == 0)
			return complain("initdb ccm: not part of this build");
		if (strcmp(o->argv[i], "csm") != 0)
			return misused("initdb: unknown name '%s' (choose from csm)", o->argv[i]);
	}
	if (iotctl_settings(app) < 0 || iotctl_own(app) < 0)
		return EXIT_ERROR;
	if (reset && reset_store(app) != EXIT_OK)
		return EXIT_ERROR;
	return init_all(app, false) < 0 ? EXIT_ERROR : EXIT_OK;
}

/* ---- genconf ---- */

int cmd_genconf(struct iotctl *app, const struct options *o)
{
	bool force = options_has(o, "force");
	struct stat st;

	(void)app;
	if (o->argc != 1)
		return misused("genconf: one destination path, please (-: standard output)");
	const char *dest = o->argv[0];

	if (strcmp(dest, "-") == 0) {
		settings_sample(stdout);
		return fflush(stdout) == 0 ? EXIT_OK : complain("genconf: %s", strerror(errno));
	}
	int fd = open(dest, O_WRONLY | O_CREAT | O_CLOEXEC | (force ? O_TRUNC : O_EXCL), 0600);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

	if (f == NULL) {
		int why = errno;

		closep(&fd);
		if (why == EISDIR || (stat(dest, &st) == 0 && S_ISDIR(st.st_mode)))
			return complain("genconf: '%s' is a directory; name a file in it", dest);
		if (why == EEXIST)
			return complain("genconf: '%s' exists already; --force overwrites it",
					dest);
		return complain("genconf: cannot write '%s': %s", dest, strerror(why));
	}
	settings_sample(f);
	bool bad = ferror(f) != 0;

	if (fclose(f) != 0 || bad)
		return complain("genconf: cannot write '%s': %s", dest, strerror(errno));
	printf("%s\n", dest);
	return EXIT_OK;
}

/* ---- config check ---- */

struct counts {
	unsigned errors, warnings;
};

static void on_note(void *arg, bool is_error, const char *text)
{
	struct counts *n = arg;

	*(is_error ? &n->errors : &n->warnings) += 1;
	fprintf(stderr, "%s: %s\n", is_error ? "error" : "warning", text);
}

int cmd_config(struct iotctl *app, const struct options *o)
{
	struct counts n = {0};
	struct settings s;
	struct err err = {0};

	if (o->argc < 1 || strcmp(o->argv[0], "check") != 0 || o->argc > 2)
		return misused("config: usage: iotctl config check [FILE]");
	const char *path = o->argc == 2 ? o->argv[1] : app->conf_path;

	if (path == NULL) {
		puts("no configuration file; defaults are used");
		return EXIT_OK;
	}
	int rc = settings_load(path, &s, on_note, &n, &err);

	settings_done(&s);
	if (rc < 0 && n.errors == 0)
		return complain("config: %s", err.text);
	if (n.errors + n.warnings > 0)
		fprintf(stderr, "%s: %u errors, %u warnings\n", path, n.errors, n.warnings);
	else
		printf("%s: ok\n", path);
	return n.errors > 0 ? EXIT_ERROR : EXIT_OK;
}
