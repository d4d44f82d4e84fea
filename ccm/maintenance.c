/* maintenance.c - what the program `ccm` does besides being a daemon. */
#include "ccm/maintenance.h"

#include "ccm/maintenance_export.h"
#include "ccm/maintenance_user.h"
#include "ccm/ops/import.h"
#include "ccm/seed.h"
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/schema.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HELP_COLUMN 24
#define DAEMON_MS   5000
#define FILE_MAX    (64 * 1024 * 1024)

int maintenance_transaction(struct maintenance *m, maintenance_fn *run, struct err *err)
{
	int rc = db_run(m->db, err, NULL, NULL, "BEGIN IMMEDIATE");
	if (rc < 0)
		return rc;
	rc = run(m, err);
	if (rc == 0 && shortage_count() != 0) /* what was read or made may lack something */
		rc = err_set(err, ERR_NOMEM, "out of memory");
	/* the store ends a transaction by itself when it lacks memory or room: then nothing holds that was done in it */
	if (rc == 0 && !db_in_transaction(m->db))
		rc = err_set(err, ERR_DB, "store: the transaction was given up: no memory or no room");
	if (rc == 0)
		rc = db_run(m->db, err, NULL, NULL, "COMMIT");
	if (rc < 0 && db_in_transaction(m->db))
		db_run(m->db, NULL, NULL, NULL, "ROLLBACK");
	return rc;
}

/* ---- import, init ---- */

/* A file of the command line. */
struct source {
	const char *name;
	json_t *doc; /* owned */
	struct imported made;
};

static int parse(struct source *source, const char *text, size_t len, struct err *err)
{
	int rc = import_parse(text, len, &source->doc, err);
	return rc < 0 ? err_wrap(err, rc, "%s", source->name) : 0;
}

static int import(struct maintenance *m, struct source *source, struct err *err)
{
	int rc = import_run(m->db, source->doc, &source->made, err);
	return rc < 0 ? err_wrap(err, rc, "%s", source->name) : 0;
}

static void say(const char *name, const struct imported *made)
{
	const struct {
		unsigned n;
		const char *one, *many;
	} rows[] = {{made->categories, "category", "categories"},
		    {made->units, "unit", "units"},
		    {made->tags, "tag", "tags"},
		    {made->functions, "function", "functions"},
		    {made->versions - made->functions, "new version of a function", "new versions of functions"},
		    {made->features, "feature", "features"},
		    {made->offers, "offer", "offers"},
		    {made->models, "model", "models"}};
	const char *before = ": ";
	printf("%s", name);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].n == 0)
			continue;
		printf("%s%u %s", before, rows[i].n, rows[i].n == 1 ? rows[i].one : rows[i].many);
		before = ", ";
	}
	printf("%s\n", before[0] == ':' ? ": nothing new" : " made");
}

/* ret_text: yours */
static int read_file(const char *path, char **ret_text, size_t *ret_len, struct err *err)
{
	CLEANUP(freep) char *text = NULL;
	struct stat st;
	size_t len = 0, room = 0;
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return err_sys(err, "opening %s", path);
	int rc = fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode) ? err_set(err, ERR_INVAL, "%s is a directory", path) : 0;
	while (rc == 0 && !feof(f)) {
		char *more = len == room ? realloc(text, room = room * 2 + 65536) : text;
		if (more == NULL)
			rc = err_set(err, ERR_NOMEM, "reading %s", path);
		else
			len += fread((text = more) + len, 1, room - len, f);
		if (rc == 0 && ferror(f))
			rc = err_sys(err, "reading %s", path);
		if (rc == 0 && len > FILE_MAX)
			rc = err_set(err, ERR_LIMIT, "%s is larger than %d MiB", path, FILE_MAX >> 20);
	}
	fclose(f);
	if (rc == 0) {
		*ret_text = TAKE(text);
		*ret_len = len;
	}
	return rc;
}

static int import_all(struct maintenance *m, struct err *err)
{
	struct source *sources = m->work;
	int rc = 0;
	for (int i = 0; rc == 0 && i < m->given.argc; i++)
		rc = import(m, &sources[i], err);
	return rc;
}

/* All are read before the transaction: a file may come slowly, and nobody else can write meanwhile. */
static int read_sources(struct maintenance *m, struct source *sources, struct err *err)
{
	int rc = 0;
	for (int i = 0; rc == 0 && i < m->given.argc; i++) {
		CLEANUP(freep) char *text = NULL;
		size_t len = 0;
		sources[i].name = m->given.argv[i];
		rc = read_file(sources[i].name, &text, &len, err);
		if (rc == 0)
			rc = parse(&sources[i], text, len, err);
	}
	return rc;
}

static int import_files(struct maintenance *m, struct err *err)
{
	CLEANUP(freep) struct source *sources = calloc((size_t)m->given.argc, sizeof(*sources));
	if (sources == NULL)
		return err_set(err, ERR_NOMEM, "import");
	int rc = read_sources(m, sources, err);
	m->work = sources;
	if (rc == 0)
		rc = maintenance_transaction(m, import_all, err);
	m->work = NULL;
	for (int i = 0; i < m->given.argc; i++) {
		if (rc == 0)
			say(sources[i].name, &sources[i].made);
		json_decref(sources[i].doc);
	}
	return rc;
}

/* A daemon that runs has graphs with the functions as they were. */
static void tell_daemon(const struct maintenance *m)
{
	CLEANUP(freep) char *socket = settings_path(m->settings, "run/ccm.sock");
	json_auto_t *request = json_pack("{s:s}", "op", "reconcile");
	json_auto_t *answer = NULL;
	struct err err = {0};
	if (socket == NULL || request == NULL)
		return;
	int rc = ctl_request(socket, request, DAEMON_MS, &answer, &err);
	if (rc < 0 && rc != ERR_NOENT)
		fprintf(stderr, "ccm: warning: the daemon was not told, its graphs change when it starts again: %s\n", err.text);
}

static int run_import(struct maintenance *m, struct err *err)
{
	int rc = import_files(m, err);
	if (rc == 0)
		tell_daemon(m);
	return rc;
}

static int seed(struct maintenance *m, struct err *err)
{
	int rc = seed_if_empty(m->db, m->work, err);
	return rc < 0 ? rc : 0;
}

static int run_init(struct maintenance *m, struct err *err)
{
	const char *name = schema_path(m->settings, SCHEMA_CCM);
	struct imported made = {0};
	m->work = &made;
	int rc = maintenance_transaction(m, seed, err);
	m->work = NULL;
	if (rc < 0)
		return err_wrap(err, rc, "%s", name);
	if (made.models > 0)
		say(name, &made);
	else
		printf("%s: it is there already, nothing was changed\n", name);
	return 0;
}

/* ---- modes ---- */

static const struct option_row plain_options[] = {MAINTENANCE_OPTIONS, {0}};

static const struct mode {
	const char *name, *operands, *help;
	int min, max; /* operands; max < 0: any number */
	const struct option_row *options;
	maintenance_fn *run;
} modes[] = {
	{"init", "",
	 "Make the store, or bring it to the newest version; a new one gets models, features and functions to begin with.", 0, 0,
	 plain_options, run_init},
	{"import", "FILE ...", "Add what is in bulk-import files: all of them, or, if there is a mistake in one, nothing.", 1, -1,
	 plain_options, run_import},
	{"export", "FILE", "Write what everybody has of models, features, functions, units and tags to a bulk-import file (-: standard output).", 1, 1,
	 export_mode_options, export_mode},
	{"user", "add [--admin] NAME | password NAME | list",
	 "Add a user, give one another password (its logins end), or list them. The password comes from the terminal, or is one line of "
	 "standard input.",
	 1, 2, user_mode_options, user_mode},
};

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	fprintf(stderr, "ccm: %s: %s\n", is_error ? "error" : "warning", text);
}

static int refuse_half_restored(const struct settings *s, struct err *err)
{
	CLEANUP(freep) char *path = settings_path(s, RESTORE_JOURNAL);
	if (path == NULL)
		return err_set(err, ERR_NOMEM, "userdir");
	if (access(path, F_OK) < 0)
		return 0;
	return err_set(err, ERR_BUSY, "a restore was interrupted ('%s'): `iotctl initdb` or `iotctl start` finishes it", path);
}

/* A store in memory is the daemon's alone: what a mode does to another one is forgotten at its end. */
static int refuse_in_memory(const struct settings *s, struct err *err)
{
	if (strcmp(schema_path(s, SCHEMA_CCM), ":memory:") != 0)
		return 0;
	return err_set(err, ERR_INVAL, "the store is kept in the memory of the daemon only ([gui-db] url)");
}

static int run_mode(const struct mode *mode, struct maintenance *m, struct settings *settings, struct err *err)
{
	const char *given = options_value(&m->given, "config");
	CLEANUP(freep) char *path = given == NULL ? settings_default_path() : NULL;
	int rc = settings_load(given != NULL ? given : path, settings, on_note, NULL, err);
	if (rc == 0)
		rc = refuse_in_memory(settings, err);
	if (rc == 0)
		rc = daemon_make_dirs(settings, err);
	if (rc == 0)
		rc = refuse_half_restored(settings, err);
	if (rc == 0)
		rc = schema_open(settings, SCHEMA_CCM, &m->db, err);
	/* the daemon writes for milliseconds; a person can wait for longer than its loop */
	if (rc == 0)
		rc = db_script(m->db, "PRAGMA busy_timeout=10000", err);
	return rc == 0 ? mode->run(m, err) : rc;
}

static void print_help(const struct mode *mode)
{
	printf("usage: ccm %s [-h] [-c INI_PATH]%s%s\n\n", mode->name, mode->operands[0] != '\0' ? " " : "", mode->operands);
	print_wrapped(mode->help, 0, 100, stdout);
	printf("\noptions:\n");
	options_print(mode->options, HELP_COLUMN, stdout);
}

static int run(const struct mode *mode, int argc, char *argv[])
{
	struct settings settings = {0};
	struct maintenance m = {.settings = &settings};
	struct err err = {0};
	if (options_parse(mode->options, false, argc, argv, &m.given) < 0)
		return 2;
	if (options_has(&m.given, "help")) {
		print_help(mode);
		return 0;
	}
	if (m.given.argc < mode->min || (mode->max >= 0 && m.given.argc > mode->max)) {
		fprintf(stderr, "ccm: usage: ccm %s [-h] [-c INI_PATH] %s\n", mode->name, mode->operands);
		return 2;
	}
	int rc = run_mode(mode, &m, &settings, &err);
	if (rc < 0)
		fprintf(stderr, "ccm: %s\n", err.text);
	db_close(m.db);
	settings_done(&settings);
	return m.misused ? 2 : rc < 0 ? 1 : 0;
}

void maintenance_help(FILE *out)
{
	fprintf(out, "\nmodes; `ccm MODE --help` tells more:\n");
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		fprintf(out, "  ccm %s%s%s\n", modes[i].name, modes[i].operands[0] != '\0' ? " " : "", modes[i].operands);
}

bool maintenance_run(int argc, char *argv[], int *ret_status)
{
	for (size_t i = 0; argc > 1 && i < ARRAY_LEN(modes); i++) {
		if (strcmp(argv[1], modes[i].name) == 0) {
			char program[32];
			snprintf(program, sizeof(program), "ccm %s", modes[i].name);
			argv[1] = program; /* whoever finds an option wrong says so in its name */
			shortage_watch_json();
			*ret_status = run(&modes[i], argc - 1, argv + 1);
			return true;
		}
	}
	return false;
}
