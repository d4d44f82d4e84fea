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

/* The store copies itself, in one state, while csm goes on writing. The copy lies beside the backup
 * for a moment, where there must be room for it anyway, and has no name any more when we return.
 * ret: a descriptor. */
static int copy_store(const char *url, const char *dest, int64_t *ret_schema, struct err *err)
{
	CLEANUP(freep)
	char *copy = NULL;
	struct db *db = NULL;

	if (strcmp(url, ":memory:") == 0)
		return err_set(err, ERR_INVAL, "the store is kept in memory only ([core-db] url)");
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
		rc = schema_version(db, SCHEMA_CSM, ret_schema, err);
	if (rc == 0)
		rc = db_backup(db, copy, err);
	db_close(db);
	unlink(copy);
	return rc < 0 ? rc : TAKE_FD(fd);
}

static int collect_part(const struct iotctl *app, const struct part *p, const char *dest,
			struct collected *c, struct err *err)
{
	CLEANUP(freep)
	char *path = part_source(p, &app->settings, app->conf_path);
	struct bundle_member m = {.name = p->name, .fd = -1};

	if (path == NULL)
		return p->kind == PART_CONF ? 0 : err_set(err, ERR_NOMEM, "backup");
	m.fd = p->kind == PART_STORE ? copy_store(path, dest, &m.schema, err)
				     : open(path, O_RDONLY | O_CLOEXEC);
	if (m.fd < 0 && p->kind == PART_STORE)
		return m.fd;
	if (m.fd < 0 && errno == ENOENT && !p->needed)
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

static int backup(const struct iotctl *app, const char *dest, bool force, struct collected *c,
		  struct err *err)
{
	int rc = init_resume(app, err);
	ino_t key = key_number(app);

	if (rc == 0 && !force && access(dest, F_OK) == 0) /* made sure of after the work */
		rc = err_set(err, ERR_EXIST, "'%s' exists already; --force overwrites it", dest);
	for (size_t i = 0; rc == 0 && i < PARTS; i++)
		rc = collect_part(app, &parts[i], dest, c, err);
	if (rc == 0 && (daemon_runs(app, "restore") || key_number(app) != key))
		rc = err_set(err, ERR_BUSY, "a restore exchanges what is backed up; try again");
	return rc < 0 ? rc : bundle_save(dest, force, c->members, c->n, err);
}

int cmd_backup(struct iotctl *app, const struct options *o)
{
	struct collected c = {.n = 0};
	struct err err = {0};
	bool force = options_has(o, "force");

	if (o->argc != 1)
		return misused("backup: one file to write, please");
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	int rc = backup(app, o->argv[0], force, &c, &err);

	for (size_t i = 0; rc == 0 && i < c.n; i++)
		printf("%-16s %10lld bytes  %s\n", c.members[i].name, (long long)c.members[i].bytes,
		       parts[part_find(c.members[i].name)].what);
	if (rc == 0)
		printf("%s\n", o->argv[0]);
	close_members(&c);
	return rc < 0 ? complain("backup: %s", err.text) : EXIT_OK;
}

/* ---- restore ---- */

/* csm and agent, as far as they run: what holds files that are exchanged. */
struct running {
	char *argv[2];
	int argc;
};

static struct running find_running(const struct iotctl *app)
{
	static char csm[] = "csm", agent[] = "agent";
	struct running r = {.argc = 0};

	if (daemon_runs(app, csm))
		r.argv[r.argc++] = csm;
	if (daemon_runs(app, agent))
		r.argv[r.argc++] = agent;
	return r;
}

/* ret: enum exit_code */
static int run_for(struct iotctl *app, struct running *r,
		   int (*fn)(struct iotctl *app, const struct options *o))
{
	const struct options o = {.argc = r->argc, .argv = r->argv};

	return r->argc == 0 ? EXIT_OK : fn(app, &o);
}

/* Before anything is touched. ret: whether to go on; if not it was told. */
static bool may_go_on(const struct iotctl *app, const struct running *r, const char *path,
		      json_t *manifest, bool yes)
{
	CLEANUP(freep)
	char *question = NULL;

	if (r->argc > 0 && !daemon_runs(app, "supervisor")) {
		complain("restore: %s runs and is not managed by iotctl: stop it first (`iotctl "
			 "stop`, or `systemctl stop` where systemd runs it)",
			 r->argv[0]);
		return false;
	}
	if (yes || (r->argc == 0 && !restore_replaces(&app->settings)))
		return true;
	if (asprintf(&question, "Replace what is in %s by the backup of %s%s?",
		     app->settings.core.userdir,
		     json_string_value(json_object_get(manifest, "time")),
		     r->argc > 0 ? ", and restart the daemons" : "") < 0) {
		question = NULL;
		complain("restore: out of memory");
		return false;
	}
	if (confirmed(question))
		return true;
	complain("restore: nothing was changed (it asks on the terminal; --yes goes without): "
		 "%s is fine",
		 path);
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
static int exchange(struct restore *r, bool *ret_begun)
{
	struct err err = {0};
	int rc = restore_commit(r, ret_begun, &err);

	if (rc == 0)
		print_restored(restore_report(r));
	else if (*ret_begun)
		complain("restore: half done: %s; when that is mended, `iotctl start` or "
			 "`iotctl initdb` finishes it",
			 err.text);
	else
		complain("restore: nothing was changed: %s", err.text);
	return rc < 0 ? EXIT_ERROR : EXIT_OK;
}

static int restore(struct iotctl *app, int fd, const char *path, bool yes)
{
	json_auto_t *manifest = NULL;
	struct restore *r = NULL;
	struct err err = {0};
	bool begun = false;

	if (init_resume(app, &err) < 0 || restore_check(fd, path, &manifest, &err) < 0)
		return complain("restore: nothing was changed: %s", err.text);
	struct running running = find_running(app);

	if (!may_go_on(app, &running, path, manifest, yes))
		return EXIT_ERROR;
	if (restore_stage(&app->settings, fd, path, &r, &err) < 0)
		return complain("restore: nothing was changed: %s", err.text);
	int rc = run_for(app, &running, cmd_stop);

	if (rc == EXIT_OK)
		rc = exchange(r, &begun);
	restore_free(r);
	/* Also when nothing came of it; but not on files of two states. */
	if (rc == EXIT_OK || !begun) {
		int started = run_for(app, &running, cmd_start);

		rc = rc != EXIT_OK ? rc : started;
	}
	return rc;
}

int cmd_restore(struct iotctl *app, const struct options *o)
{
	bool yes = options_has(o, "yes");

	if (o->argc != 1)
		return misused("restore: one file to read, please");
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	const char *path = o->argv[0];
	CLEANUP(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return complain("restore: cannot read '%s': %s", path, strerror(errno));
	if (strcmp(app->settings.core_db.url, ":memory:") == 0)
		return complain("restore: the store is kept in memory only ([core-db] url)");
	return restore(app, fd, path, yes);
}
