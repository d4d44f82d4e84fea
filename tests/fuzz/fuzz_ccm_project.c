/* fuzz: ccm
 *
 * A project's document, as a user sends it to ccm. First byte, in turn: its text; or a document that is grown from the bytes,
 * right and wrong. One that is refused is refused in words, and not by the store; one that is taken makes whole applications, and
 * what is exported of it is taken again. Nothing is kept from one to the next. */
#include "ccm/ops/project.h"
#include "ccm/query.h"
#include "common/log.h"
#include "common/schema.h"
#include "common/util.h"
#include "tests/fuzz/input.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ccm ccm;
static struct op op;

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* ---- the store ---- */

static const char contents[] =
	"INSERT INTO User (u_name) VALUES ('a'), ('b');"
	"INSERT INTO DeviceFeature (df_name, df_type, param_no) VALUES ('i1', 'input', 1), ('o1', 'output', 1), ('i3', 'input', "
	"3),"
	" ('o2', 'output', 2), ('it', 'input', 1);"
	"INSERT INTO DeviceModel (dm_name) VALUES ('m'), ('n');"
	"INSERT INTO DM_DF (dm_id, df_id) VALUES (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 2);"
	"INSERT INTO Tag (tag_name) VALUES ('t'); INSERT INTO DM_DF_Tag (mf_id, tag_id) VALUES (5, 1);"
	"INSERT INTO DF_Parameter (mf_id, param_i) VALUES (1, 0), (2, 0), (3, 0), (3, 1);"
	"INSERT INTO Function (fn_name) VALUES ('f'), ('g'), ('h');"
	"INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, NULL, '2026-01-01', 'f'), (2, 1, '2026-01-01', 'g'),"
	" (3, 2, '2026-01-01', 'h');";

static const char *const rules[] = {
	"SELECT count(*) FROM pragma_foreign_key_check",
	"SELECT count(*) FROM NetworkApplication n WHERE 2 <> (SELECT count(DISTINCT d.df_type) FROM DF_Module m JOIN DFObject "
	"USING (dfo_id)"
	" JOIN DeviceFeature d USING (df_id) WHERE m.na_id = n.na_id)",
	"SELECT count(*) FROM (SELECT na_id, dfo_id FROM DF_Module JOIN DFObject USING (dfo_id) JOIN DeviceFeature d USING "
	"(df_id)"
	" WHERE d.df_type = 'input' EXCEPT SELECT na_id, dfo_id FROM MultipleJoin_Module)",
	"SELECT count(*) FROM (SELECT na_id, dfo_id FROM MultipleJoin_Module EXCEPT SELECT na_id, dfo_id FROM DF_Module"
	" JOIN DFObject USING (dfo_id) JOIN DeviceFeature d USING (df_id) WHERE d.df_type = 'input')",
	"SELECT count(*) FROM (SELECT 1 FROM DF_Module m JOIN DFObject USING (dfo_id) JOIN DeviceFeature d USING (df_id)"
	" GROUP BY m.na_id, m.dfo_id HAVING count(*) <> d.param_no OR max(m.param_i) <> d.param_no - 1)",
	"SELECT count(*) FROM DF_Module WHERE fn_id = 3", /* the other user's */
};

static void rules_hold(struct db *db)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		int64_t wrong = 0;
		must(q_int_of(db, NULL, &wrong, rules[i], NULL, 0) == 1 && wrong == 0);
	}
}

/* It worked: look, once more with what comes out, and undo all. */
static int run_and_undo(struct op_call *c)
{
	int rc = op_project_import.run(c);
	if (rc < 0)
		return rc;
	rules_hold(c->db);
	json_object_set(c->args, "p_id", json_object_get(c->data, "p_id"));
	must(op_project_export.run(c) == 0);
	json_object_del(c->args, "p_id");
	json_object_set(c->args, "document", c->data);
	json_object_set_new(c->args, "p_name", json_string("again"));
	must(op_project_import.run(c) == 0);
	rules_hold(c->db);
	return err_set(&c->err, ERR_BUSY, "undone");
}

static void on_done(void *arg, struct op_call *c, int rc)
{
	(void)arg;
	must(rc == ERR_INVAL || rc == ERR_EXIST || rc == ERR_AGAIN || rc == ERR_BUSY);
	json_t *text = json_string(c->err.text); /* clients are told as JSON */
	must(text != NULL && json_string_length(text) > 0);
	json_decref(text);
}

static void prepare(void)
{
	static struct settings settings;
	static char memory[] = ":memory:";
	settings.gui_db.url = memory;
	ccm.settings = &settings;
	log_init("fuzz", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	must(schema_open(&settings, SCHEMA_CCM, &ccm.db, NULL) == 0 && db_script(ccm.db, contents, NULL) == 0);
	op = (struct op){.name = "import", .prepare = op_project_import.prepare, .run = run_and_undo};
}

/* ---- documents ---- */

/* Seldom something else. */
static json_t *odd(struct input *in, json_t *value)
{
	static const char *const others[] = {
		"null", "true", "-1", "1e308", "\"\"", "\"7\"", "[]", "{}", "9223372036854775807", "\"\\u00e4\""};
	if (input_choose(in, 64) != 63)
		return value;
	json_decref(value);
	return json_loads(others[input_choose(in, ARRAY_LEN(others))], JSON_DECODE_ANY, NULL);
}

static json_t *word(struct input *in, const char *const *words, unsigned n)
{
	return odd(in, json_string(words[input_choose(in, n)]));
}

static const char *id_of(unsigned n)
{
	static const char *const ids[] = {"1", "2", "3", "4", "5", "6", "7", "8", "01", "x"};
	return ids[n];
}

static json_t *grow_objects(struct input *in)
{
	static const char *const models[] = {"m", "m", "m", "n", "?"}, *const features[] = {"i1", "o1", "i3", "o2", "it", "?"};
	json_t *objects = json_object();
	for (unsigned n = input_choose(in, 4); n > 0; n--) {
		json_t *dfo = json_object();
		for (unsigned k = input_choose(in, 5); k > 0; k--)
			json_object_set_new(dfo, id_of(input_choose(in, 10)),
					    odd(in, json_pack("{s:o, s:o}", "df_name", word(in, features, ARRAY_LEN(features)),
							      "alias_name", odd(in, json_string("alias")))));
		json_object_set_new(objects, id_of(input_choose(in, 10)),
				    odd(in, json_pack("{s:o, s:o, s:o}", "dm_name", word(in, models, ARRAY_LEN(models)), "do_idx",
						      odd(in, json_integer(input_choose(in, 4))), "dfo", odd(in, dfo))));
	}
	return objects;
}

static json_t *grow_function(struct input *in)
{
	static const char *const names[] = {"f", "g", "h", "?"};
	return input_choose(in, 2) ? json_null() : word(in, names, ARRAY_LEN(names));
}

static json_t *grow_nas(struct input *in)
{
	json_t *nas = json_array();
	for (unsigned n = input_choose(in, 4); n > 0; n--) {
		json_t *modules = json_array(), *joins = json_array();
		for (unsigned k = input_choose(in, 7); k > 0; k--)
			json_array_append_new(
				modules,
				odd(in, json_pack("{s:o, s:o, s:o, s:o, s:o}", "dfo_id", odd(in, json_integer(1 + input_choose(in, 8))),
						  "param_i", odd(in, json_integer(input_choose(in, 3) / 2)), "max",
						  odd(in, json_real(input_choose(in, 9))), "normalization",
						  odd(in, json_boolean(input_choose(in, 2))), "fn_name", grow_function(in))));
		for (unsigned k = input_choose(in, 4); k > 0; k--)
			json_array_append_new(
				joins,
				odd(in, json_pack("{s:o, s:o, s:o}", "dfo_id", odd(in, json_integer(1 + input_choose(in, 8))), "param_i",
						  odd(in, json_integer(input_choose(in, 5))), "fn_name", grow_function(in))));
		json_array_append_new(nas, odd(in, json_pack("{s:s, s:o, s:o, s:o}", "na_name", "n", "na_idx",
							     odd(in, json_integer(input_choose(in, 3))), "DF_Module", odd(in, modules),
							     "MultipleJoin_Module", odd(in, joins))));
	}
	return nas;
}

static json_t *grow(struct input *in)
{
	json_t *document = json_pack("{s:o}", "project",
				     odd(in, json_pack("{s:o, s:o}", "DeviceObject", odd(in, grow_objects(in)),
						       "NetworkApplication", odd(in, grow_nas(in)))));
	if (input_choose(in, 16) == 15)
		json_object_set_new(document, "Function",
				    odd(in, json_pack("[{s:o, s:s}]", "fn_name", grow_function(in), "code", "x")));
	return document;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct caller who = {.u_id = 1};
	if (ccm.db == NULL)
		prepare();
	if (size < 2)
		return 0;
	struct input in = {.data = data + 1, .left = size - 1};
	json_t *document = data[0] % 4 == 0 ? json_loadb((const char *)in.data, in.left, JSON_ALLOW_NUL, NULL) : grow(&in);
	if (document != NULL)
		op_start(&ccm, &op, &who, json_pack("{s:s, s:o}", "p_name", "p", "document", document), on_done, NULL);
	return 0;
}
