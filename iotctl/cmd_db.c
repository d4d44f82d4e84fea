/* cmd_db.c - iotctl db, user: what ccm's store holds, and who may log in. */
#include "common/util.h"
#include "iotctl/ccm_program.h"
#include "iotctl/parts.h"
#include <stdio.h>
#include <string.h>

/* What writes the store as another user than its owner would leave files that ccm cannot use. ret:
 * enum exit_code */
static int run_program(struct iotctl *app, const char *command, const char *mode,
		       char *const words[], int n)
{
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0 || iotctl_own(app) < 0)
		return EXIT_ERROR;
	if (strcmp(app->settings.gui_db.url, ":memory:") == 0)
		return complain("%s: the store is kept in ccm's memory only ([gui-db] url)",
				command);
	if (init_make(app, INIT_CCM, true) < 0)
		return EXIT_ERROR;
	return ccm_program(app, command, mode, words, n, false);
}

/* ---- db ---- */

static int run_import(struct iotctl *app, const struct options *o)
{
	return run_program(app, "db import", "import", o->argv + 1, o->argc - 1);
}

static int run_export(struct iotctl *app, const struct options *o)
{
	char *words[2] = {o->argv[1], "--force"};

	return run_program(app, "db export", "export", words, options_has(o, "force") ? 2 : 1);
}

static int run_backup(struct iotctl *app, const struct options *o)
{
	return backup_parts(app, "db backup", parts_of_store(SCHEMA_CCM), o->argv[1],
			    options_has(o, "force"));
}

static int run_restore(struct iotctl *app, const struct options *o)
{
	return restore_parts(app, "db restore", parts_of_store(SCHEMA_CCM), o->argv[1],
			     options_has(o, "yes"));
}

static const struct {
	const char *name;
	bool many; /* files; else one */
	int (*run)(struct iotctl *app, const struct options *o);
} db_actions[] = {
	{"import", true, run_import},
	{"export", false, run_export},
	{"backup", false, run_backup},
	{"restore", false, run_restore},
};

int cmd_db(struct iotctl *app, const struct options *o)
{
	if (o->argc == 0)
		return misused("db: import FILE ..., export FILE, backup FILE or restore FILE?");
	for (size_t i = 0; i < ARRAY_LEN(db_actions); i++) {
		if (strcmp(o->argv[0], db_actions[i].name) != 0)
			continue;
		if (o->argc < 2 || (o->argc > 2 && !db_actions[i].many))
			return misused("db: %s takes %s", o->argv[0],
				       db_actions[i].many ? "one file or more" : "one file");
		return db_actions[i].run(app, o);
	}
	return misused("db: '%s' is none of import, export, backup, restore", o->argv[0]);
}

/* ---- user ---- */

static const struct {
	const char *name;
	int names; /* of accounts it takes */
} user_actions[] = {{"add", 1}, {"password", 1}, {"list", 0}};

int cmd_user(struct iotctl *app, const struct options *o)
{
	char *words[4];
	int n = 0;

	if (o->argc == 0)
		return misused("user: add NAME, password NAME or list?");
	for (size_t i = 0; i < ARRAY_LEN(user_actions); i++) {
		if (strcmp(o->argv[0], user_actions[i].name) != 0)
			continue;
		if (o->argc != 1 + user_actions[i].names)
			return misused("user: %s takes %s", o->argv[0],
				       user_actions[i].names > 0 ? "one name"
								 : "no further argument");
		if (options_has(o, "admin") && strcmp(o->argv[0], "add") != 0)
			return misused("user: --admin is for add");
		words[n++] = o->argv[0];
		if (options_has(o, "admin"))
			words[n++] = "--admin";
		if (o->argc > 1) {
			words[n++] = "--"; /* whatever the name begins with */
			words[n++] = o->argv[1];
		}
		return run_program(app, "user", "user", words, n);
	}
	return misused("user: '%s' is none of add, password, list", o->argv[0]);
}
