/* cmd_init.c - iotctl initdb, genconf, config check: what there must be before anything runs. */
#include "common/daemon.h"
#include "common/pidfile.h"
#include "common/schema.h"
#include "common/seal.h"
#include "common/util.h"
#include "iotctl/ccm_program.h"
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

/* A store that is kept in memory is never missing. */
static bool is_there(const struct settings *s, enum schema_store store)
{
	const char *path = schema_path(s, store);

	return strcmp(path, ":memory:") == 0 || exists(path);
}

bool init_was_done(const struct iotctl *app)
{
	CLEANUP(freep)
	char *key = settings_path(&app->settings, "key");

	return key != NULL && exists(key) && is_there(&app->settings, SCHEMA_CSM) &&
	       is_there(&app->settings, SCHEMA_CCM);
}

int init_resume(const struct iotctl *app, struct err *err)
{
	int rc = restore_resume(&app->settings, err);

	if (rc > 0)
		puts("a restore that was interrupted has been finished");
	return rc < 0 ? rc : 0;
}

/* ret: 1: made, 0: was there, negative */
static int make_key(const struct iotctl *app, const char *key, struct err *err)
{
	struct seal_key unused;

	if (key == NULL)
		return err_set(err, ERR_NOMEM, "key");
	if (!exists(key) && (daemon_runs(app, "csm") || daemon_runs(app, "agent")))
		return err_set(err, ERR_BUSY,
			       "the key %s is missing and daemons with the old one are running; "
			       "stop them first (iotctl stop), or put the old key back",
			       key);
	int rc = seal_key_create(key, err);

	return rc == 0 ? seal_key_load(key, &unused, err) : rc; /* was there: is it one? */
}

static void print_store(const struct settings *s, enum schema_store store, bool was_there)
{
	bool in_memory = strcmp(schema_path(s, store), ":memory:") == 0;

	static const char *const titles[] = {
		[SCHEMA_CSM] = "store", [SCHEMA_CCM] = "projects", [SCHEMA_DEVICES] = "devices"};

	printf("%-8s %s (%s)\n", titles[store], schema_path(s, store),
	       in_memory   ? "kept in memory only"
	       : was_there ? "was there, up to date"
			   : "new");
}

static int make_store(const struct settings *s, enum schema_store store, bool quiet,
		      struct err *err)
{
	bool was_there = is_there(s, store);
	int rc = schema_migrate(s, store, err);

	if (rc == 0 && !(quiet && was_there))
		print_store(s, store, was_there);
	return rc;
}

/* ccm knows what belongs into a new one. ret: 0 or negative (told) */
static int make_ccm_store(const struct iotctl *app, bool quiet)
{
	const struct settings *s = &app->settings;
	bool was_there = is_there(s, SCHEMA_CCM);

	if (strcmp(schema_path(s, SCHEMA_CCM), ":memory:") != 0 &&
	    ccm_program(app, "initdb", "init", NULL, 0, true) != EXIT_OK)
		return ERR_PEER;
	if (!(quiet && was_there))
		print_store(s, SCHEMA_CCM, was_there);
	return 0;
}

int init_make(struct iotctl *app, unsigned what, bool quiet)
{
	const struct settings *s = &app->settings;
	struct err err = {0};
	int rc = daemon_make_dirs(s, &err);
	CLEANUP(freep)
	char *key = settings_path(s, "key");

	if (rc == 0)
		rc = init_resume(app, &err);
	if (rc == 0)
		rc = make_key(app, key, &err);
	if (rc >= 0 && !(quiet && rc == 0)) {
		printf("userdir  %s\n", s->core.userdir);
		printf("key      %s (%s)\n", key, rc == 1 ? "new" : "was there");
	}
	if (rc >= 0 && (what & INIT_CSM))
		rc = make_store(s, SCHEMA_CSM, quiet, &err);
	if (rc >= 0 && (what & INIT_DEVICES))
		rc = make_store(s, SCHEMA_DEVICES, quiet, &err);
	if (rc < 0) {
		complain("initdb: %s", err.text);
		return rc;
	}
	return what & INIT_CCM ? make_ccm_store(app, quiet) : 0;
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

/* By bit of INIT_*. */
static const struct {
	enum schema_store store;
	const char *daemon; /* whose it is */
	const char *what;   /* it holds */
} stores[] = {
	{SCHEMA_CSM, "csm", "registrations, graphs and functions"},
	{SCHEMA_CCM, "ccm", "accounts, projects, models and devices"},
	{SCHEMA_DEVICES, "agent", "states of field devices and what they have still to say"},
};

/* ret: enum exit_code */
static int delete_store(const char *store)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		CLEANUP(freep)
		char *path = NULL;

		if (asprintf(&path, "%s%s", store, suffixes[i]) < 0) {
			path = NULL;
			return complain("out of memory");
		}
		if (unlink(path) < 0 && errno != ENOENT)
			return complain("cannot delete '%s': %s", path, strerror(errno));
	}
	return EXIT_OK;
}

/* One question for all that goes. ret: enum exit_code */
static int reset_stores(const struct iotctl *app, unsigned what)
{
	CLEANUP(freep)
	char *question = NULL;
	size_t size;
	unsigned doomed = 0;
	FILE *out = open_memstream(&question, &size);

	if (out == NULL)
		return complain("out of memory");
	for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
		const char *path = schema_path(&app->settings, stores[i].store);

		if ((what & 1u << i) == 0 || strcmp(path, ":memory:") == 0 || !exists(path))
			continue;
		fprintf(out, "%s all %s in %s", doomed == 0 ? "Delete" : ", and", stores[i].what,
			path);
		doomed |= 1u << i;
	}
	fputs("?", out);
	if (fclose(out) != 0)
		return complain("out of memory");
	for (size_t i = 0; i < ARRAY_LEN(stores); i++)
		if ((what & 1u << i) && daemon_runs(app, stores[i].daemon))
			return complain("initdb: %s is running; stop it first", stores[i].daemon);
	if (doomed != 0 && !confirmed(question))
		return complain("initdb: nothing was deleted (--reset asks on the terminal)");
	for (size_t i = 0; i < ARRAY_LEN(stores); i++)
		if ((doomed & 1u << i) &&
		    delete_store(schema_path(&app->settings, stores[i].store)) != EXIT_OK)
			return EXIT_ERROR;
	return EXIT_OK;
}

/* ret: a bit of INIT_*; 0: there is no such store */
static unsigned store_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(stores); i++)
		if (strcmp(name, schema_name(stores[i].store)) == 0)
			return 1u << i;
	return 0;
}

int cmd_initdb(struct iotctl *app, const struct options *o)
{
	unsigned what = 0;

	for (int i = 0; i < o->argc; i++) {
		unsigned bit = store_named(o->argv[i]);

		if (bit == 0)
			return misused("initdb: unknown name '%s' (choose from csm, ccm, devices)",
				       o->argv[i]);
		what |= bit;
	}
	if (iotctl_settings(app) < 0 || iotctl_own(app) < 0)
		return EXIT_ERROR;
	if (what == 0)
		what = INIT_ALL |
		       (exists(schema_path(&app->settings, SCHEMA_DEVICES)) ? INIT_DEVICES : 0);
	if (options_has(o, "reset") && reset_stores(app, what) != EXIT_OK)
		return EXIT_ERROR;
	return init_make(app, what, false) < 0 ? EXIT_ERROR : EXIT_OK;
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
