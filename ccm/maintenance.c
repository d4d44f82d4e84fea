/* maintenance.c - what the program `ccm` does besides being a daemon. */
#include "ccm/maintenance.h"

#include "ccm/maintenance_export.h"
#include "ccm/maintenance_user.h"
#include "ccm/ops/import.h"
#include "common/daemon.h"
#include "common/embed.h"
#include "common/schema.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HELP_COLUMN 24
#define FILE_MAX (64 * 1024 * 1024)

EMBED(seed, "conf/ccm-seed.json");

int maintenance_transaction(struct maintenance *m, maintenance_fn *run, struct err *err)
{
	int rc = db_run(m->db, err, NULL, NULL, "BEGIN IMMEDIATE");
	if (rc < 0)
		return rc;
	rc = run(m, err);
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

static int import_text(struct maintenance *m, const char *name, const char *text, size_t len, struct imported *ret_made, struct err *err)
{
	json_auto_t *doc = NULL;
	int rc = import_parse(text, len, &doc, err);
	if (rc == 0)
		rc = import_run(m->db, doc, ret_made, err);
	return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

static void say(const char *name, const struct imported *made)
{
	const struct {
		unsigned n;
		const char *what;
	} rows[] = {{made->categories, "categories"}, {made->units, "units"},	{made->tags, "tags"},
		    {made->functions, "functions"},   {made->versions, "versions of functions"},
		    {made->features, "features"},     {made->offers, "offers"}, {made->models, "models"}};
	const char *before = ": ";
	printf("%s", name);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].n == 0)
			continue;
		printf("%s%u %s", before, rows[i].n, rows[i].what);
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

static int import_files(struct maintenance *m, struct err *err)
{
	CLEANUP(freep) struct imported *made = calloc((size_t)m->given.argc, sizeof(*made));
	int rc = made != NULL ? 0 : err_set(err, ERR_NOMEM, "import");
	for (int i = 0; rc == 0 && i < m->given.argc; i++) {
		CLEANUP(freep) char *text = NULL;
		size_t len = 0;
		rc = read_file(m->given.argv[i], &text, &len, err);
		if (rc == 0)
			rc = import_text(m, m->given.argv[i], text, len, &made[i], err);
	}
	for (int i = 0; rc == 0 && i < m->given.argc; i++)
		say(m->given.argv[i], &made[i]);
	return rc;
}

static int run_import(struct maintenance *m, struct err *err)
{
	return maintenance_transaction(m, import_files, err);
}

static int seed_if_new(struct maintenance *m, struct err *err)
{
	struct imported made;
	int rc = import_is_empty(m->db, err);
	if (rc == 0)
		printf("%s: it is there already, nothing was changed\n", schema_path(m->settings, SCHEMA_CCM));
	if (rc <= 0)
		return rc;
	rc = import_text(m, "seed", seed, strlen(seed), &made, err);
	if (rc == 0)
		say(schema_path(m->settings, SCHEMA_CCM), &made);
	return rc;
}

static int run_init(struct maintenance *m, struct err *err)
{
	return maintenance_transaction(m, seed_if_new, err);
}

/* ---- modes ---- */

static const struct option_row plain_options[] = {MAINTENANCE_OPTIONS, {0}};

static const struct mode {
	const char *name, *operands, *help;
	int min, max; /* operands; max < 0: any number */
	const struct option_row *options;
	maintenance_fn *run;
} modes[] = {
	{"init", "", "Make the store, or bring it to the newest version; a new one gets models, features and functions to begin with.", 0, 0,
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

static int run_mode(const struct mode *mode, struct maintenance *m, struct settings *settings, struct err *err)
{
	const char *given = options_value(&m->given, "config");
	CLEANUP(freep) char *path = given == NULL ? settings_default_path() : NULL;
	int rc = settings_load(given != NULL ? given : path, settings, on_note, NULL, err);
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
	return rc < 0 ? 1 : 0;
}

bool maintenance_run(int argc, char *argv[], int *ret_status)
{
	for (size_t i = 0; argc > 1 && i < ARRAY_LEN(modes); i++) {
		if (strcmp(argv[1], modes[i].name) == 0) {
			*ret_status = run(&modes[i], argc - 1, argv + 1);
			return true;
		}
	}
	return false;
}
