/* The catalogue of a store makes the same catalogue in another one, and nothing that is somebody's own goes with it. */
#include "ccm/ops/export.h"
#include "ccm/ops/import.h"
#include "ccm/query.h"
#include "common/schema.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char catalogue[] =
	"{\"DeviceFeatureCategory\": [{\"dfc_name\": \"Sight\"}], \"Unit\": [{\"unit_name\": \"lx\"}],"
	"\"Tag\": [{\"tag_name\": \"left\", \"param_no\": 1}, {\"tag_name\": \"right\"}],"
	"\"Function\": [{\"fn_name\": \"double\", \"is_protect\": true, \"code\": \"def run(x): return 2 * x\\n\"},"
	"{\"fn_name\": \"total\", \"code\": \"def run(*x): return sum(x)\\n\"}],"
	"\"DeviceFeature\": [{\"df_name\": \"Light\", \"df_type\": \"input\", \"df_category\": \"Sight\", \"comment\": \"how bright\","
	"\"df_parameter\": [{\"param_type\": \"float\", \"min\": -0.5, \"max\": 1e5, \"unit\": \"lx\", \"fn_name\": \"double\"},"
	"{\"param_type\": \"json\", \"idf_type\": \"variant\", \"normalization\": true}]},"
	"{\"df_name\": \"Lamp\", \"df_type\": \"output\", \"df_parameter\": [{\"param_type\": \"int\"}]}],"
	"\"FunctionSDF\": [{\"fn_list\": [{\"fn_name\": \"total\"}]}, {\"df_name\": \"Light\", \"fn_list\": [{\"fn_name\": \"double\"}]}],"
	"\"DeviceModel\": [{\"dm_name\": \"Room\", \"dm_type\": \"wearable\", \"device_only\": true, \"df_list\": [\"Lamp\","
	"{\"df_name\": \"Light\", \"df_parameter\": [{\"max\": 7}], \"tags\": [\"left\", \"right\"]}]}]}";

static struct db *new_store(void)
{
	struct settings s = {.gui_db.url = ":memory:"};
	struct db *db = NULL;
	struct err err;
	if (schema_open(&s, SCHEMA_CCM, &db, &err) < 0)
		fail_msg("%s", err.text);
	return db;
}

static struct imported import_into(struct db *db, const char *text)
{
	struct imported made = {0};
	json_auto_t *doc = NULL;
	struct err err;
	if (import_parse(text, strlen(text), &doc, &err) < 0 || import_run(db, doc, &made, &err) < 0)
		fail_msg("%s", err.text);
	return made;
}

/* ret: yours */
static char *export_of(struct db *db)
{
	json_auto_t *doc = NULL;
	struct err err;
	if (export_catalogue(db, &doc, &err) < 0)
		fail_msg("%s", err.text);
	return json_dumps(doc, JSON_INDENT(1) | JSON_SORT_KEYS);
}

static void what_is_exported_makes_the_same_elsewhere(void **state)
{
	struct db *one = new_store(), *two = new_store();
	(void)state;
	import_into(one, catalogue);
	CLEANUP(freep) char *first = export_of(one);
	import_into(two, first);
	CLEANUP(freep) char *second = export_of(two);
	assert_string_equal(first, second);
	for (const char *const *word = (const char *const[]){"how bright", "2 * x", "\"left\"", "100000.0", "-0.5", "wearable", "variant", NULL};
	     *word != NULL; word++)
		if (strstr(first, *word) == NULL)
			fail_msg("no %s in %s", *word, first);
	db_close(one);
	db_close(two);
}

static void read_into_the_same_store_it_changes_nothing(void **state)
{
	struct db *db = new_store();
	(void)state;
	import_into(db, catalogue);
	CLEANUP(freep) char *text = export_of(db);
	struct imported made = import_into(db, text), nothing = {0};
	assert_memory_equal(&made, &nothing, sizeof(made));
	db_close(db);
}

static void what_is_somebodys_own_is_left_out(void **state)
{
	struct db *db = new_store();
	struct err err;
	(void)state;
	import_into(db, catalogue);
	CLEANUP(freep) char *before = export_of(db);
	int rc = db_script(db,
			   "INSERT INTO User (u_id, u_name) VALUES (1, 'ann');"
			   "INSERT INTO Function (fn_id, fn_name) VALUES (99, 'secret');"
			   "INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (99, 1, '2026-01-01', 'def run(): return 1');"
			   "INSERT INTO FunctionVersion (fn_id, u_id, date, code) SELECT fn_id, 1, '2026-01-01', 'mine' FROM Function "
			   "WHERE fn_name = 'double';"
			   "INSERT INTO FunctionSDF (fn_id, u_id, df_id) VALUES (99, 1, NULL);"
			   "INSERT INTO FunctionSDF (fn_id, u_id, df_id) VALUES (99, NULL, NULL);"
			   "INSERT INTO DF_Parameter (df_id, param_i, u_id, max) SELECT df_id, 0, 1, 55 FROM DeviceFeature;"
			   "INSERT INTO DeviceFeature (df_id, df_name, df_type) VALUES (99, 'Own', 'input');"
			   "INSERT INTO DF_Parameter (df_id, param_i, u_id) VALUES (99, 0, 1);"
			   "INSERT INTO DeviceModel (dm_id, dm_name) VALUES (99, 'Own');"
			   "INSERT INTO DM_DF (dm_id, df_id) VALUES (99, 99);"
			   "UPDATE DF_Parameter SET fn_id = 99 WHERE fn_id IS NULL AND u_id IS NULL",
			   &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	CLEANUP(freep) char *after = export_of(db);
	assert_string_equal(before, after);
	db_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_exported_makes_the_same_elsewhere),
		cmocka_unit_test(read_into_the_same_store_it_changes_nothing),
		cmocka_unit_test(what_is_somebodys_own_is_left_out),
	};
	return cmocka_run_group_tests_name("export", tests, NULL, NULL);
}
