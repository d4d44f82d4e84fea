/* maintenance_export.c - the catalogue into a file. */
#include "ccm/maintenance_export.h"

#include "ccm/ops/export.h"
#include "common/shortage.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

const struct option_row export_mode_options[] = {
	MAINTENANCE_OPTIONS,
	{"force", 'f', NULL, "overwrite an existing file"},
	{0},
};

static int write_json(FILE *f, const json_t *doc)
{
	return json_dumpf(doc, f, JSON_INDENT(2)) < 0 || fputc('\n', f) < 0 || fflush(f) != 0 ? -1 : 0;
}

/* Aside, to disk, renamed: whole under its name, or not there. */
static int save(const char *path, const json_t *doc, struct err *err)
{
	CLEANUP(freep) char *aside = NULL;
	if (asprintf(&aside, "%s.new", path) < 0) {
		aside = NULL;
		return err_set(err, ERR_NOMEM, "export");
	}
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (f == NULL) {
		int rc = err_sys(err, "cannot write '%s'", path);
		closep(&fd);
		return rc;
	}
	int rc = write_json(f, doc) < 0 || fsync(fd) < 0 ? err_sys(err, "cannot write '%s'", path) : 0;
	fclose(f);
	if (rc == 0 && rename(aside, path) < 0)
		rc = err_sys(err, "cannot write '%s'", path);
	if (rc < 0)
		unlink(aside);
	return rc;
}

static int read_all(struct maintenance *m, json_t **ret, struct err *err)
{
	/* all of it as it was at one moment */
	int rc = db_run(m->db, err, NULL, NULL, "BEGIN");
	if (rc == 0)
		rc = export_catalogue(m->db, ret, err);
	if (rc == 0 && shortage_count() != 0) /* it may lack something */
		rc = err_set(err, ERR_NOMEM, "export");
	if (db_in_transaction(m->db))
		db_run(m->db, NULL, NULL, NULL, "ROLLBACK");
	return rc;
}

int export_mode(struct maintenance *m, struct err *err)
{
	const char *path = m->given.argv[0];
	bool to_stdout = strcmp(path, "-") == 0;
	json_auto_t *doc = NULL;
	if (!to_stdout && !options_has(&m->given, "force") && access(path, F_OK) == 0)
		return err_set(err, ERR_EXIST, "'%s' exists already; --force overwrites it", path);
	int rc = read_all(m, &doc, err);
	if (rc < 0)
		return rc;
	if (to_stdout)
		return write_json(stdout, doc) < 0 ? err_sys(err, "standard output") : 0;
	rc = save(path, doc, err);
	if (rc == 0)
		printf("%s\n", path);
	return rc;
}
