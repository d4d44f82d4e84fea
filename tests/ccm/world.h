/* world.h - a store in memory with three users, and operations that are run as the gui API would: arguments as JSON text, checked
 * against the table. Graphs and engines are not there; what would be asked of them is noted. */
#pragma once

#include "ccm/drive/drive.h"
#include "ccm/gui/gui.h"
#include "ccm/ops/rows.h"
#include "common/log.h"
#include "common/schema.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { NOBODY, ANN, BOB, EVE };

static struct ccm ccm;
static struct err answer_err;
static json_t *answer; /* of the last operation */
static int answer_rc;
static char touched[2000]; /* "na 3, function 4, " */
static bool compiler_is_away;

/* ---- what drive would do ---- */

#ifndef WORLD_WITH_DRIVE /* a test that links all of ccm has it */
static void note(const char *what, int64_t id)
{
	size_t at = strlen(touched);
	snprintf(touched + at, sizeof(touched) - at, "%s %lld, ", what, (long long)id);
}

void drive_touch(struct ccm *app, int64_t na_id)
{
	(void)app;
	note("na", na_id);
}

void drive_touch_function(struct ccm *app, int64_t fn_id)
{
	(void)app;
	note("function", fn_id);
}

void drive_check_code(struct ccm *app, const char *code, drive_checked_fn *fn, void *arg)
{
	(void)app;
	if (compiler_is_away)
		fn(arg, ERR_AGAIN, "no agent is connected");
	else if (strstr(code, "def run") == NULL)
		fn(arg, ERR_INVAL, "SyntaxError: not a function");
	else
		fn(arg, 0, NULL);
}
#endif

/* ---- the store ---- */

MAYBE_UNUSED static void sql(const char *text)
{
	struct err err;
	if (db_script(ccm.db, text, &err) < 0)
		fail_msg("%s: %s", text, err.text);
}

#define number(statement, ...)                                                    \
	({                                                                        \
		int64_t number_ = -1;                                             \
		struct err err_;                                                  \
		if (q_int(ccm.db, &err_, &number_, statement, ##__VA_ARGS__) < 0) \
			fail_msg("%s: %s", statement, err_.text);                 \
		number_;                                                          \
	})

static int setup(void **state)
{
	char memory[] = ":memory:";
	struct settings settings = {.gui_db.url = memory};
	struct err err;
	(void)state;
	log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	touched[0] = '\0';
	compiler_is_away = false;
	if (schema_open(&settings, SCHEMA_CCM, &ccm.db, &err) < 0)
		return -1;
	sql("INSERT INTO User (u_name, is_admin) VALUES ('ann', 0), ('bob', 0), ('eve', 1)");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(answer);
	answer = NULL;
	ccm.db = db_close(ccm.db);
	return 0;
}

/* ---- operations ---- */

static void on_done(void *arg, struct op_call *c, int rc)
{
	(void)arg;
	answer_rc = rc;
	answer_err = c->err;
	answer = c->data;
	c->data = NULL;
}

static const struct gui_op *find_op(const char *name)
{
	for (const struct gui_op *o = gui_catalogue_ops; o->name != NULL; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	fail_msg("there is no operation %s", name);
	return NULL;
}

/* args: JSON with ' for ", a printf format. */
MAYBE_UNUSED static int call(int64_t u_id, const char *name, const char *args, ...) __attribute__((format(printf, 3, 4)));
static int call(int64_t u_id, const char *name, const char *args, ...)
{
	static const struct field nothing[] = {{0}};
	const struct gui_op *o = find_op(name);
	const struct caller who = {.u_id = u_id};
	char text[8000];
	json_error_t why;
	va_list ap;
	va_start(ap, args);
	vsnprintf(text, sizeof(text), args, ap);
	va_end(ap);
	for (char *p = text; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	json_auto_t *given = json_loads(text, 0, &why);
	json_t *checked = NULL;
	if (given == NULL)
		fail_msg("%s: %s", text, why.text);
	json_decref(answer);
	answer = NULL;
	answer_err = (struct err){0};
	answer_rc = fields_check(o->args != NULL ? o->args : nothing, given, true, &checked, &answer_err);
	if (answer_rc == 0)
		op_start(&ccm, o->op, &who, checked, on_done, NULL);
	if (db_in_transaction(ccm.db))
		fail_msg("%s left a transaction open", name);
	return answer_rc;
}

#define ok(...)                                          \
	do {                                             \
		if (call(__VA_ARGS__) != 0)              \
			fail_msg("%s", answer_err.text); \
	} while (0)

#define refused(code, words, ...)                                                                                          \
	do {                                                                                                               \
		if (call(__VA_ARGS__) != (code) || strstr(answer_err.text, words) == NULL)                                 \
			fail_msg("got %s '%s', not %s '%s'", err_name(answer_rc), answer_err.text, err_name(code), words); \
	} while (0)

/* What the answer is, or what stands at a path of it ("df_list.0.tags"); JSON with ' for ". */
static const json_t *at(const char *path)
{
	const json_t *here = answer;
	char copy[200], *rest = copy;
	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name; here != NULL && (name = strsep(&rest, ".")) != NULL;)
		if (*name != '\0')
			here = json_is_array(here) ? json_array_get(here, strtoul(name, NULL, 10)) : json_object_get(here, name);
	return here;
}

MAYBE_UNUSED static void is_at(const char *path, const char *want)
{
	CLEANUP(freep) char *text = strdup(want);
	for (char *p = text; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	json_auto_t *expected = json_loads(text, JSON_DECODE_ANY, NULL);
	CLEANUP(freep) char *got = at(path) != NULL ? json_dumps(at(path), JSON_ENCODE_ANY | JSON_SORT_KEYS) : strdup("nothing");
	if (expected == NULL)
		fail_msg("no JSON: %s", text);
	if (!json_equal(at(path), expected))
		fail_msg("`%s` is %s, not %s", path, got, text);
}
#define is(want) is_at("", want)

MAYBE_UNUSED static int64_t id_at(const char *path)
{
	if (!json_is_integer(at(path)))
		fail_msg("`%s` is no number", path);
	return json_integer_value(at(path));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
