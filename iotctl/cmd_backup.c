/* cmd_backup.c - iotctl backup and restore: all that cannot be made again, in one file. */
#include "common/daemon.h"
#include "common/schema.h"
#include "common/util.h"
#include "iotctl/bundle.h"
#include "iotctl/iotctl.h"
#include "iotctl/parts.h"
#include "iotctl/restore.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- backup ---- */

struct collected {
	struct bundle_member members[PARTS];
	size_t n;
};

static void close_members(struct collected *c)
{
	while (c->n > 0)
		closep(&c->members[--c->n].fd);
}

static bool is_in_memory(const struct iotctl *app, int i)
{
	return parts[i].kind == PART_STORE &&
	       strcmp(schema_path(&app->settings, parts[i].store), ":memory:") == 0;
}

/* What can be taken of a set: a store that is kept in memory cannot. ret: 0 or ERR_INVAL */
static int leave_out(const struct iotctl *app, unsigned *set, struct err *err)
{
	unsigned left = *set;

	for (int i = 0; i < PARTS; i++) {
		if ((*set & 1u << i) == 0 || !is_in_memory(app, i))
			continue;
		if (part_is_needed(i, *set))
			return err_set(err, ERR_INVAL,
				       "the store is kept in memory only ([%s-db] url)",
				       parts[i].store == SCHEMA_CSM ? "core" : "gui");
		printf("%-16s left out: kept in memory only\n", parts[i].name);
		left &= ~(1u << i);
	}
	*set = left;
	return 0;
}

/* The store copies itself, in one state, while its daemon goes on writing. The copy lies beside the
 * backup for a moment, where there must be room for it anyway, and has no name any more when we
 * return. ret: a descriptor. */
static int copy_store(const char *url, enum schema_store store, const char *dest,
		      int64_t *ret_schema, struct err *err)
{
	CLEANUP(freep)
	char *copy = NULL;
	struct db *db = NULL;

	if (access(url, F_OK) < 0)
		return err_sys(err, "there is no store to back up, '%s'", url);
	if (asprintf(&copy, "%s.store.XXXXXX", dest) < 0) {
		copy = NULL;
		return err_set(err, ERR_NOMEM, "backup");
	}
	CLEANUP(closep)
	int fd = mkostemp(copy, O_CLOEXEC); /* 0600; empty: the store may write into it */

	if (fd < 0)
		return err_sys(err, "cannot write '%s'", copy);
	int rc = db_open_sqlite(url, &db, err);

	if (rc == 0)
		rc = schema_version(db, store, ret_schema, err);
	if (rc == 0)
		rc = db_backup(db, copy, err);
	db_close(db);
	unlink(copy);
	return rc < 0 ? rc : TAKE_FD(fd);
}

static int collect_part(const struct iotctl *app, int i, unsigned set, const char *dest,
			struct collected *c, struct err *err)
{
	const struct part *p = &parts[i];
	bool needed = part_is_needed(i, set);
	CLEANUP(freep)
	char *path = part_source(p, &app->settings, app->conf_path);
	struct bundle_member m = {.name = p->name, .fd = -1};

	if (path == NULL)
		return p->kind == PART_CONF ? 0 : err_set(err, ERR_NOMEM, "backup");
	if (!needed && access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	m.fd = p->kind == PART_STORE ? copy_store(path, p->store, dest, &m.schema, err)
				     : open(path, O_RDONLY | O_CLOEXEC);
	if (m.fd < 0 && p->kind == PART_STORE)
		return m.fd;
	if (m.fd < 0 && errno == ENOENT && !needed) /* gone just now */
		return 0;
	if (m.fd < 0)
		return err_sys(err, "cannot read '%s' (%s)", path, p->what);
	c->members[c->n++] = m;
	return bundle_measure(&c->members[c->n - 1], err);
}

/* Every restore brings a new key, while the old one is kept: another number says that there was
 * one. */
static ino_t key_number(const struct iotctl *app)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "key");
	struct stat st;

	return path != NULL && stat(path, &st) == 0 ? st.st_ino : 0;
}

static int backup(const struct iotctl *app, unsigned set, const char *dest, bool force,
		  struct collected *c, struct err *err)
{
	int rc = init_resume(app, err);
	ino_t key = key_number(app);

	if (rc == 0 && !force && access(dest, F_OK) == 0) /* made sure of after the work */
		rc = err_set(err, ERR_EXIST, "'%s' exists already; --force overwrites it", dest);
	if (rc == 0)
		rc = leave_out(app, &set, err);
	for (int i = 0; rc == 0 && i < PARTS; i++)
		rc = set & 1u << i ? collect_part(app, i, set, dest, c, err) : 0;
	if (rc == 0 && (daemon_runs(app, "restore") || key_number(app) != key))
		rc = err_set(err, ERR_BUSY, "a restore exchanges what is backed up; try again");
	return rc < 0 ? rc : bundle_save(dest, force, c->members, c->n, err);
}

int backup_parts(struct iotctl *app, const char *command, unsigned set, const char *dest,
		 bool force)
{
	struct collected c = {.n = 0};
	struct err err = {0};

	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	int rc = backup(app, set, dest, force, &c, &err);

	for (size_t i = 0; rc == 0 && i < c.n; i++)
		printf("%-16s %10lld bytes  %s\n", c.members[i].name, (long long)c.members[i].bytes,
		       parts[part_find(c.members[i].name)].what);
	if (rc == 0)
		printf("%s\n", dest);
	close_members(&c);
	return rc < 0 ? complain("%s: %s", command, err.text) : EXIT_OK;
}

int cmd_backup(struct iotctl *app, const struct options *o)
{
	return o->argc == 1
		       ? backup_parts(app, "backup", PARTS_ALL, o->argv[0], options_has(o, "force"))
		       : misused("backup: one file to write, please");
}

/* ---- restore ---- */

/* What is asked for, and those that use it and run. */
struct restoring {
	const char *command;
	unsigned set;
	const char *path;
	int fd;
	bool yes;
	char *argv[UNITS];
	int argc;
};

static void find_running(const struct iotctl *app, struct restoring *r)
{
	unsigned users = parts_users(r->set);

	for (unsigned i = 0; i < UNITS; i++)
		if ((users & 1u << i) && daemon_runs(app, unit_kinds[i].name))
			r->argv[r->argc++] = (char *)unit_kinds[i].name;
}

/* ret: enum exit_code */
static int run_for(struct iotctl *app, struct restoring *r,
		   int (*fn)(struct iotctl *app, const struct options *o))
{
	const struct options o = {.argc = r->argc, .argv = r->argv};

	return r->argc == 0 ? EXIT_OK : fn(app, &o);
}

/* Before anything is touched. ret: whether to go on; if not it was told. */
static bool may_go_on(const struct iotctl *app, const struct restoring *r, json_t *manifest)
{
	CLEANUP(freep)
	char *question = NULL;
	bool only_ccm = r->set == parts_of_store(SCHEMA_CCM);

	if (r->argc > 0 && !daemon_runs(app, "supervisor")) {
		complain("%s: %s runs and is not managed by iotctl: stop it first (`iotctl "
			 "stop`, or `systemctl stop` where systemd runs it)",
			 r->command, r->argv[0]);
		return false;
	}
	if (r->yes || (r->argc == 0 && !restore_replaces(&app->settings, r->set)))
		return true;
	if (asprintf(&question, "Replace %s %s by the backup of %s%s?",
		     only_ccm ? "all accounts and projects in" : "what is in",
		     only_ccm ? app->settings.gui_db.url : app->settings.core.userdir,
		     json_string_value(json_object_get(manifest, "time")),
		     r->argc > 0 ? ", and restart the daemons" : "") < 0) {
		question = NULL;
		complain("%s: out of memory", r->command);
		return false;
	}
	if (confirmed(question))
		return true;
	complain("%s: nothing was changed (it asks on the terminal; --yes goes without): "
		 "%s is fine",
		 r->command, r->path);
	return false;
}

static void print_restored(const json_t *report)
{
	const json_t *row;
	size_t i;

	json_array_foreach (report, i, row) {
		const char *name = json_string_value(json_object_get(row, "name"));
		const char *path = json_string_value(json_object_get(row, "path"));
		const char *kept = json_string_value(json_object_get(row, "kept"));

		if (path != NULL)
			printf("%-16s %s\n", name, path);
		if (kept != NULL)
			printf("%-16s %s\n", path != NULL ? "  before" : name, kept);
		if (path != NULL && parts[part_find(name)].kind == PART_CONF)
			puts("                 (not in force: compare it with yours)");
	}
}

/* While the daemons do not run. ret: enum exit_code */
static int exchange(const char *command, struct restore *r, bool *ret_begun)
{
	struct err err = {0};
	int rc = restore_commit(r, ret_begun, &err);

	if (rc == 0)
		print_restored(restore_report(r));
	else if (*ret_begun)
		complain("%s: half done: %s; when that is mended, `iotctl start` or "
			 "`iotctl initdb` finishes it",
			 command, err.text);
	else
		complain("%s: nothing was changed: %s", command, err.text);
	return rc < 0 ? EXIT_ERROR : EXIT_OK;
}

static int restore(struct iotctl *app, struct restoring *want)
{
	json_auto_t *manifest = NULL;
	struct restore *r = NULL;
	struct err err = {0};
	bool begun = false;

	if (leave_out(app, &want->set, &err) < 0)
		return complain("%s: %s", want->command, err.text);
	if (init_resume(app, &err) < 0 ||
	    restore_check(want->fd, want->path, want->set, &manifest, &err) < 0)
		return complain("%s: nothing was changed: %s", want->command, err.text);
	find_running(app, want);
	if (!may_go_on(app, want, manifest))
		return EXIT_ERROR;
	if (restore_stage(&app->settings, want->fd, want->path, want->set, &r, &err) < 0)
		return complain("%s: nothing was changed: %s", want->command, err.text);
	int rc = run_for(app, want, cmd_stop);

	if (rc == EXIT_OK)
		rc = exchange(want->command, r, &begun);
	restore_free(r);
	/* Also when nothing came of it; but not on files of two states. */
	if (rc == EXIT_OK || !begun) {
		int started = run_for(app, want, cmd_start);

		rc = rc != EXIT_OK ? rc : started;
	}
	return rc;
}

int restore_parts(struct iotctl *app, const char *command, unsigned set, const char *path, bool yes)
{
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	CLEANUP(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return complain("%s: cannot read '%s': %s", command, path, strerror(errno));
	struct restoring want = {
		.command = command, .set = set, .path = path, .fd = fd, .yes = yes};

	return restore(app, &want);
}

int cmd_restore(struct iotctl *app, const struct options *o)
{
	return o->argc == 1
		       ? restore_parts(app, "restore", PARTS_ALL, o->argv[0], options_has(o, "yes"))
		       : misused("restore: one file to read, please");
}
