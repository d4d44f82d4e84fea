/* project_world.h - a store in memory with models, users and functions, operations that are run on it, and what they set off. */
#pragma once

#include "ccm/drive/drive.h"
#include "ccm/gui/gui.h"
#include "ccm/ops/project.h"
#include "ccm/query.h"
#include "ccm/sim/sim.h"
#include "common/log.h"
#include "common/schema.h"
#include "common/util.h"
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ALICE = 1, BOB, CAROL };
enum { DUMMY = 1, PHONE };
/* features; of DUMMY all but STRAY, of PHONE SENSOR and ACCEL. mf_id of DUMMY's are the same numbers */
enum { SENSOR = 1, CONTROL, ACCEL, ACCEL_O, TAGGED, TAGGED_O, STRAY };
enum { F_GENERAL = 1, F_ALICE, F_BOB };

struct world {
	struct ccm ccm;
	struct settings settings;
	json_t *happened; /* ["touch 7", ...], in order */
	json_t *kept;	  /* results that tests hold on to */
	int rc;		  /* of the last operation */
	char text[sizeof(((struct err *)0)->text)];
	json_t *result; /* borrowed from kept */
	int checks;	/* codes that were compiled */
	bool no_agent;
};

static struct world *world; /* of the test that runs: effects know the ccm only */

/* ---- what operations set off ---- */

static void happens(const char *what, int64_t id)
{
	char text[128];
	snprintf(text, sizeof(text), "%s %lld", what, (long long)id);
	json_array_append_new(world->happened, json_string(text));
}

void drive_touch(struct ccm *ccm, int64_t na_id)
{
	(void)ccm;
	happens("touch", na_id);
}

void drive_touch_project(struct ccm *ccm, int64_t p_id)
{
	(void)ccm;
	happens("project", p_id);
}

void drive_touch_function(struct ccm *ccm, int64_t fn_id)
{
	(void)ccm;
	happens("function", fn_id);
}

void drive_check_code(struct ccm *ccm, const char *code, drive_checked_fn *fn, void *arg)
{
	(void)ccm;
	world->checks++;
	if (world->no_agent)
		fn(arg, ERR_AGAIN, "no agent runs");
	else if (strstr(code, "def run") == NULL)
		fn(arg, ERR_INVAL, "there is no run");
	else
		fn(arg, 0, NULL);
}

void drive_monitor(struct ccm *ccm, int64_t na_id, const char *gui_uuid)
{
	char what[100];
	(void)ccm;
	snprintf(what, sizeof(what), "monitor for %s", gui_uuid);
	happens(what, na_id);
}

void sim_touch(struct ccm *ccm, int64_t p_id)
{
	(void)ccm;
	happens("sim", p_id);
}

void gui_alias_changed(struct ccm *ccm, int64_t dfo_id)
{
	(void)ccm;
	happens("alias", dfo_id);
}

/* ---- the world ---- */

static const char contents[] =
	"INSERT INTO User (u_name) VALUES ('alice'), ('bob'), ('carol');"
	"INSERT INTO DeviceFeature (df_name, df_type, param_no) VALUES ('Sensor', 'input', 1), ('Control', 'output', 1),"
	" ('Accel', 'input', 3), ('Accel-O', 'output', 3), ('Tagged', 'input', 1), ('Tagged-O', 'output', 1), ('Stray', 'input', "
	"1);"
	"INSERT INTO DeviceModel (dm_name) VALUES ('Dummy'), ('Phone');"
	"INSERT INTO DM_DF (dm_id, df_id) VALUES (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 1), (2, 3);"
	"INSERT INTO Tag (tag_name) VALUES ('alpha'), ('beta');"
	"INSERT INTO DM_DF_Tag (mf_id, tag_id) VALUES (5, 2), (5, 1), (6, 1), (6, 2);"
	"INSERT INTO Function (fn_name) VALUES ('f_general'), ('f_alice'), ('f_bob');"
	"INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, NULL, '2026-01-01', 'def run(*a): return 1'),"
	" (2, 1, '2026-01-01', 'def run(*a): return 2'), (3, 2, '2026-01-01', 'def run(*a): return 3');"
	"INSERT INTO FunctionSDF (fn_id, u_id, df_id) VALUES (1, NULL, NULL), (1, NULL, 1), (2, 1, 1), (3, 2, NULL);"
	/* of features: plain; of DUMMY: with ranges; alice has her own of DUMMY's Accel */
	"INSERT INTO DF_Parameter (df_id, param_i, param_type) VALUES (1, 0, 'int'), (2, 0, 'int'), (3, 0, 'float'), (3, 1, "
	"'float'),"
	" (3, 2, 'float'), (4, 0, 'float'), (4, 1, 'float'), (4, 2, 'float'), (5, 0, 'int'), (6, 0, 'int'), (7, 0, 'int');"
	"INSERT INTO DF_Parameter (mf_id, param_i, min, max, fn_id) VALUES (1, 0, 0, 100, 1), (2, 0, 0, 10, NULL), (3, 0, -1, 1, "
	"NULL),"
	" (3, 1, -2, 2, NULL), (3, 2, -3, 3, NULL), (4, 0, 0, 0, NULL), (4, 1, 0, 0, NULL), (4, 2, 0, 0, NULL), (5, 0, 0, 0, 3),"
	" (6, 0, 0, 0, NULL);"
	"INSERT INTO DF_Parameter (mf_id, u_id, param_i, min, max, idf_type, normalization) VALUES (3, 1, 0, -10, 10, 'variant', "
	"1),"
	" (3, 1, 1, -20, 20, 'sample', 0), (3, 1, 2, -30, 30, 'sample', 0);";

static void script(struct world *w, const char *sql)
{
	struct err err = {0};
	if (db_script(w->ccm.db, sql, &err) < 0)
		fail_msg("%s", err.text);
}

static int64_t number_of(struct world *w, const char *sql)
{
	int64_t n = 0;
	struct err err = {0};
	if (q_int_of(w->ccm.db, &err, &n, sql, NULL, 0) < 0)
		fail_msg("%s: %s", sql, err.text);
	return n;
}

static int world_up(void **state)
{
	struct err err = {0};
	world = calloc(1, sizeof(*world));
	world->settings.gui_db.url = (char *)":memory:";
	world->settings.gui.ownership_timeout_s = 180;
	world->ccm.settings = &world->settings;
	world->happened = json_array();
	world->kept = json_array();
	log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	if (schema_open(&world->settings, SCHEMA_CCM, &world->ccm.db, &err) < 0)
		fail_msg("%s", err.text);
	script(world, contents);
	*state = world;
	return 0;
}

static int world_down(void **state)
{
	struct world *w = *state;
	db_close(w->ccm.db);
	json_decref(w->happened);
	json_decref(w->kept);
	free(w);
	return 0;
}

/* ---- operations ---- */

static void on_done(void *arg, struct op_call *c, int rc)
{
	struct world *w = arg;
	w->rc = rc;
	snprintf(w->text, sizeof(w->text), "%s", rc < 0 ? c->err.text : "");
	w->result = rc < 0 ? json_null() : c->data;
	assert_non_null(w->result);
	json_array_append(w->kept, w->result);
}

static void run_args(struct world *w, const struct op *op, int64_t u_id, json_t *args)
{
	struct caller who = {.u_id = u_id, .gui = "uuid"};
	w->rc = 4711;
	json_array_clear(w->happened);
	assert_non_null(args);
	op_start(&w->ccm, op, &who, args, on_done, w);
	assert_int_not_equal(w->rc, 4711);
	assert_false(db_in_transaction(w->ccm.db));
}

MAYBE_UNUSED static void run(struct world *w, const struct op *op, int64_t u_id, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	run_args(w, op, u_id, json_vpack_ex(NULL, 0, fmt, ap));
	va_end(ap);
}

/* It must work. ret: the result, borrowed from the world. */
#define ok(w, op, u_id, ...) (run(w, &(op), u_id, __VA_ARGS__), worked(w, #op))
/* It must give this one number. */
#define ok_id(w, key, op, u_id, ...) (run(w, &(op), u_id, __VA_ARGS__), id_of(worked(w, #op), key))
/* It must be refused with this code and words in the text, and nothing may happen. */
#define refused(w, op, u_id, code, words, ...) (run(w, &(op), u_id, __VA_ARGS__), was_refused(w, #op, code, words))

MAYBE_UNUSED static json_t *worked(struct world *w, const char *name)
{
	if (w->rc < 0)
		fail_msg("%s: %s %s", name, err_name(w->rc), w->text);
	return w->result;
}

MAYBE_UNUSED static int64_t id_of(const json_t *result, const char *key)
{
	const json_t *id = json_object_get(result, key);
	assert_true(json_is_integer(id));
	return json_integer_value(id);
}

MAYBE_UNUSED static void was_refused(struct world *w, const char *name, int code, const char *words)
{
	if (w->rc != code || strstr(w->text, words) == NULL)
		fail_msg("%s: %s, text '%s'; wanted %s and '%s'", name, w->rc < 0 ? err_name(w->rc) : "it worked", w->text,
			 err_name(code), words);
	assert_int_equal(json_array_size(w->happened), 0);
}

/* ---- JSON ---- */

/* a: as `text` says, with ' for ". */
MAYBE_UNUSED static void same(const json_t *a, const char *text)
{
	CLEANUP(freep) char *quoted = strdup(text);
	json_error_t why;
	for (char *p = quoted; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	json_auto_t *b = json_loads(quoted, JSON_DECODE_ANY, &why);
	if (b == NULL)
		fail_msg("%s: %s", why.text, quoted);
	if (!json_equal(a, b)) {
		CLEANUP(freep) char *has = json_dumps(a, JSON_ENCODE_ANY);
		fail_msg("\n%s\nrather than\n%s", has, quoted);
	}
}

MAYBE_UNUSED static void same_happened(struct world *w, const char *text)
{
	same(w->happened, text);
}

/* ---- things ---- */

MAYBE_UNUSED static int64_t device(struct world *w, const char *mac, int64_t dm_id, int64_t u_id, int64_t age_s)
{
	int64_t d_id = 0;
	assert_int_equal(q_int(w->ccm.db, NULL, &d_id,
			       "INSERT INTO Device (mac_addr, d_name, dm_id, u_id, register_time) VALUES ($1, 'd-' || $1, $2, "
			       "nullif($3, 0), $4)"
			       " RETURNING d_id",
			       DB_V_TEXT(mac), DB_V_INT(dm_id), DB_V_INT(u_id), DB_V_TEXT(utc_text(time(NULL) - age_s).s)),
			 1);
	return d_id;
}

MAYBE_UNUSED static int64_t project(struct world *w, int64_t u_id, const char *name)
{
	return ok_id(w, "p_id", op_project_create, u_id, "{s:s}", "p_name", name);
}

/* An object of DUMMY with one or two features (0: none). */
MAYBE_UNUSED static int64_t object(struct world *w, int64_t u_id, int64_t p_id, int a, int b)
{
	json_t *list = b != 0 ? json_pack("[i, i]", a, b) : json_pack("[i]", a);
	return ok_id(w, "do_id", op_object_create, u_id, "{s:I, s:i, s:o}", "p_id", (json_int_t)p_id, "dm_id", DUMMY, "df", list);
}

MAYBE_UNUSED static int64_t dfo(struct world *w, int64_t do_id, int df_id)
{
	int64_t dfo_id = 0;
	assert_int_equal(q_int(w->ccm.db, NULL, &dfo_id, "SELECT dfo_id FROM DFObject WHERE do_id = $1 AND df_id = $2",
			       DB_V_INT(do_id), DB_V_INT(df_id)),
			 1);
	return dfo_id;
}

/* A project with one object that has both, and an application between them. */
struct small {
	int64_t p_id, do_id, in, out, na_id;
};

MAYBE_UNUSED static struct small small(struct world *w, int64_t u_id, const char *name, int in, int out)
{
	struct small s = {.p_id = project(w, u_id, name)};
	s.do_id = object(w, u_id, s.p_id, in, out);
	s.in = dfo(w, s.do_id, in);
	s.out = dfo(w, s.do_id, out);
	s.na_id = ok_id(w, "na_id", op_na_create, u_id, "{s:I, s:s, s:i, s:[I, I]}", "p_id", (json_int_t)s.p_id, "na_name",
			"Join 1", "na_idx", 0, "dfo_ids", (json_int_t)s.in, (json_int_t)s.out);
	return s;
}
