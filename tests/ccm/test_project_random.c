/* test_project_random.c - thousands of operations of several users, right ones and wrong ones. After each of them every
 * application is whole, nobody has changed or seen what is another's, and every graph that became another one was touched. */
#include "tests/ccm/project_world.h"

#define STEPS 5000

static uint64_t seed;

static unsigned any(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 20) % n;
}

/* ---- what holds at any time: each gives 0 ---- */

static const struct {
	const char *what, *sql;
} rules[] = {
	{"references", "SELECT count(*) FROM pragma_foreign_key_check"},
	{"an application without an input or an output", "SELECT count(*) FROM NetworkApplication n WHERE 2 <> (SELECT "
							 "count(DISTINCT d.df_type) FROM DF_Module m JOIN DFObject USING (dfo_id)"
							 " JOIN DeviceFeature d USING (df_id) WHERE m.na_id = n.na_id)"},
	{"an input that is no argument",
	 "SELECT count(*) FROM DF_Module m JOIN DFObject USING (dfo_id) JOIN DeviceFeature d USING (df_id)"
	 " WHERE d.df_type = 'input'"
	 " AND NOT EXISTS (SELECT 1 FROM MultipleJoin_Module j WHERE j.na_id = m.na_id AND j.dfo_id = m.dfo_id)"},
	{"an argument that is no input",
	 "SELECT count(*) FROM MultipleJoin_Module j WHERE NOT EXISTS (SELECT 1 FROM DF_Module m JOIN DFObject USING (dfo_id)"
	 " JOIN DeviceFeature d USING (df_id) WHERE m.na_id = j.na_id AND m.dfo_id = j.dfo_id AND d.df_type = 'input')"},
	{"arguments with different functions",
	 "SELECT count(*) FROM (SELECT 1 FROM MultipleJoin_Module GROUP BY na_id HAVING count(DISTINCT coalesce(fn_id, 0)) > 1)"},
	{"a link with parameters missing",
	 "SELECT count(*) FROM (SELECT 1 FROM DF_Module m JOIN DFObject USING (dfo_id) JOIN DeviceFeature d USING (df_id)"
	 " GROUP BY m.na_id, m.dfo_id HAVING count(*) <> d.param_no OR max(m.param_i) <> d.param_no - 1)"},
	{"a link into another project", "SELECT count(*) FROM DF_Module m JOIN NetworkApplication n USING (na_id) JOIN DFObject "
					"USING (dfo_id) JOIN DeviceObject o USING (do_id)"
					" WHERE n.p_id <> o.p_id"},
	{"links with different tags",
	 "SELECT count(*) FROM (SELECT 1 FROM DF_Module m JOIN DFObject f USING (dfo_id) JOIN DeviceObject o USING (do_id)"
	 " JOIN DM_DF x ON x.dm_id = o.dm_id AND x.df_id = f.df_id"
	 " GROUP BY m.na_id HAVING count(DISTINCT (SELECT count(*) FROM DM_DF_Tag t WHERE t.mf_id = x.mf_id)) > 1)"},
	{"a feature that its model has not",
	 "SELECT count(*) FROM DFObject f JOIN DeviceObject o USING (do_id)"
	 " WHERE NOT EXISTS (SELECT 1 FROM DM_DF x WHERE x.dm_id = o.dm_id AND x.df_id = f.df_id)"},
	{"an object without features",
	 "SELECT count(*) FROM DeviceObject o WHERE NOT EXISTS (SELECT 1 FROM DFObject f WHERE f.do_id = o.do_id)"},
	{"a device of another model", "SELECT count(*) FROM DeviceObject o JOIN Device v USING (d_id) WHERE v.dm_id <> o.dm_id"},
	{"another's device that is written to",
	 "SELECT count(*) FROM DeviceObject o JOIN Device v USING (d_id) JOIN Project p USING (p_id)"
	 " JOIN DFObject f USING (do_id)"
	 " JOIN DeviceFeature d USING (df_id) WHERE v.u_id <> p.u_id AND d.df_type = 'output'"},
	{"a function that the owner does not see",
	 "SELECT count(*) FROM (SELECT na_id, fn_id FROM DF_Module UNION SELECT na_id, fn_id FROM MultipleJoin_Module) u"
	 " JOIN NetworkApplication USING (na_id) JOIN Project p USING (p_id) WHERE u.fn_id IS NOT NULL AND NOT EXISTS"
	 " (SELECT 1 FROM FunctionVersion v WHERE v.fn_id = u.fn_id AND (v.u_id IS NULL OR v.u_id = p.u_id))"},
	{"red lines in the store", "SELECT count(*) FROM DF_Module WHERE color = 'red'"},
};

/* ---- ids ---- */

/* One of those that the statement gives; 0: none. */
static int64_t one_of(struct world *w, const char *sql, int64_t u_id)
{
	static const struct column columns[] = {{"id", COL_INT}, {0}};
	json_auto_t *rows = NULL;
	const struct db_value args[] = {DB_V_INT(u_id)};
	assert_int_equal(q_rows_of(w->ccm.db, NULL, columns, &rows, sql, args, 1), 0);
	size_t n = json_array_size(rows);
	return n > 0 ? id_of(json_array_get(rows, any((unsigned)n)), "id") : 0;
}

enum thing { PROJECT, OBJECT, FEATURE, APPLICATION };

static const struct {
	const char *key, *mine, *all, *owner;
} things[] = {
	[PROJECT] = {"p_id", "SELECT p_id FROM Project WHERE u_id = $1", "SELECT p_id FROM Project WHERE $1 = $1",
		     "SELECT u_id FROM Project WHERE p_id = $1"},
	[OBJECT] = {"do_id", "SELECT do_id FROM DeviceObject JOIN Project p USING (p_id) WHERE p.u_id = $1",
		    "SELECT do_id FROM DeviceObject WHERE $1 = $1",
		    "SELECT u_id FROM DeviceObject JOIN Project USING (p_id) WHERE do_id = $1"},
	[FEATURE] = {"dfo_id",
		     "SELECT dfo_id FROM DFObject JOIN DeviceObject USING (do_id) JOIN Project p USING (p_id) WHERE p.u_id = $1",
		     "SELECT dfo_id FROM DFObject WHERE $1 = $1",
		     "SELECT u_id FROM DFObject JOIN DeviceObject USING (do_id) JOIN Project USING (p_id) WHERE dfo_id = $1"},
	[APPLICATION] = {"na_id", "SELECT na_id FROM NetworkApplication JOIN Project p USING (p_id) WHERE p.u_id = $1",
			 "SELECT na_id FROM NetworkApplication WHERE $1 = $1",
			 "SELECT u_id FROM NetworkApplication JOIN Project USING (p_id) WHERE na_id = $1"},
};

/* Mostly the user's own, sometimes another's, seldom nothing's. */
static int64_t pick(struct world *w, enum thing thing, int64_t u_id)
{
	unsigned how = any(20);
	return how < 16 ? one_of(w, things[thing].mine, u_id) : how < 19 ? one_of(w, things[thing].all, 0) : (int64_t)any(100000);
}

/* The project of an object or an application, or sometimes another one. */
static int64_t parent(struct world *w, const char *sql, int64_t id, int64_t u_id)
{
	return any(10) == 0 ? pick(w, PROJECT, u_id) : one_of(w, sql, id);
}

#define OF_OBJECT "SELECT p_id FROM DeviceObject WHERE do_id = $1"
#define OF_NA	  "SELECT p_id FROM NetworkApplication WHERE na_id = $1"

static json_t *features(void)
{
	json_t *list = json_array();
	for (unsigned n = any(5); n > 0; n--)
		json_array_append_new(list, json_integer(any(20) == 0 ? 99 : 1 + any(7)));
	return list;
}

/* Features of one project, such as an application could have. */
static json_t *links(struct world *w, int64_t p_id)
{
	json_t *list = json_array();
	for (unsigned n = 1 + any(5); n > 0; n--)
		json_array_append_new(
			list, json_integer(one_of(w,
						  any(30) > 0 ? "SELECT dfo_id FROM DFObject JOIN DeviceObject USING (do_id)"
								" WHERE p_id = $1"
							      : "SELECT dfo_id FROM DFObject WHERE $1 = $1",
						  p_id)));
	return list;
}

/* ---- operations ---- */

typedef json_t *args_fn(struct world *w, int64_t u_id);

static json_t *new_name(struct world *w, int64_t u_id)
{
	char name[8];
	(void)w, (void)u_id;
	snprintf(name, sizeof(name), "p%u", any(4));
	return json_pack("{s:s}", "p_name", name);
}

static json_t *a_project(struct world *w, int64_t u_id)
{
	return json_pack("{s:I}", "p_id", (json_int_t)pick(w, PROJECT, u_id));
}

static json_t *rename_to(struct world *w, int64_t u_id)
{
	char name[8];
	snprintf(name, sizeof(name), "p%u", any(6));
	return json_pack("{s:I, s:s}", "p_id", (json_int_t)pick(w, PROJECT, u_id), "newname", name);
}

static json_t *a_status(struct world *w, int64_t u_id)
{
	return json_pack("{s:I, s:s}", "p_id", (json_int_t)pick(w, PROJECT, u_id), "status",
			 any(3) > 0   ? "on"
			 : any(8) > 0 ? "off"
				      : "?");
}

static json_t *new_object(struct world *w, int64_t u_id)
{
	return json_pack("{s:I, s:i, s:o}", "p_id", (json_int_t)pick(w, PROJECT, u_id), "dm_id", any(6) > 0 ? DUMMY : (int)any(4),
			 "df", features());
}

static json_t *an_object(struct world *w, int64_t u_id)
{
	int64_t do_id = pick(w, OBJECT, u_id);
	return any(2) ? json_pack("{s:I}", "do_id", (json_int_t)do_id)
		      : json_pack("{s:I, s:I}", "do_id", (json_int_t)do_id, "p_id",
				  (json_int_t)parent(w, OF_OBJECT, do_id, u_id));
}

static json_t *changed_object(struct world *w, int64_t u_id)
{
	json_t *args = an_object(w, u_id);
	json_object_set_new(args, "df", features());
	return args;
}

static json_t *a_binding(struct world *w, int64_t u_id)
{
	json_t *args = an_object(w, u_id);
	json_object_set_new(args, "d_id", json_integer(1 + any(14)));
	return args;
}

static json_t *new_feature(struct world *w, int64_t u_id)
{
	return json_pack("{s:I, s:i, s:s}", "do_id", (json_int_t)pick(w, OBJECT, u_id), "df_id", 1 + any(7), "alias_name",
			 "alias");
}

static json_t *a_feature(struct world *w, int64_t u_id)
{
	return json_pack("{s:I}", "dfo_id", (json_int_t)pick(w, FEATURE, u_id));
}

static json_t *changed_feature(struct world *w, int64_t u_id)
{
	json_t *args = a_feature(w, u_id), *list = json_array();
	for (unsigned n = any(2) ? 0 : any(2) ? 1 : 3; n > 0; n--)
		json_array_append_new(list, json_pack("{s:i, s:i}", "max", any(9), "fn_id", any(5)));
	json_object_set_new(args, "alias_name", json_string(any(2) ? "a" : "b"));
	json_object_set_new(args, "df_parameter", list);
	return args;
}

static json_t *new_na(struct world *w, int64_t u_id)
{
	int64_t p_id = pick(w, PROJECT, u_id);
	return json_pack("{s:I, s:s, s:i, s:o}", "p_id", (json_int_t)p_id, "na_name", "n", "na_idx", (int)any(4), "dfo_ids",
			 links(w, p_id));
}

static json_t *an_na(struct world *w, int64_t u_id)
{
	int64_t na_id = pick(w, APPLICATION, u_id);
	return any(2) ? json_pack("{s:I}", "na_id", (json_int_t)na_id)
		      : json_pack("{s:I, s:I}", "na_id", (json_int_t)na_id, "p_id", (json_int_t)parent(w, OF_NA, na_id, u_id));
}

static json_t *changed_na(struct world *w, int64_t u_id)
{
	json_t *args = an_na(w, u_id), *list = json_array();
	int64_t na_id = json_integer_value(json_object_get(args, "na_id"));
	if (any(2))
		json_object_set_new(args, "multiplejoin_fn_id", any(3) ? json_integer(any(5)) : json_null());
	for (unsigned n = any(3); n > 0; n--) {
		int64_t dfo_id = one_of(w,
					any(10) ? "SELECT dfo_id FROM DF_Module WHERE na_id = $1"
						: "SELECT dfo_id FROM DFObject WHERE $1 = $1",
					na_id);
		json_array_append_new(list, json_pack("{s:I, s:[{s:i, s:i, s:b, s:i}]}", "dfo_id", (json_int_t)dfo_id,
						      "dfmp_list", "param_i", any(10) ? 0 : (int)any(4), "fn_id", (int)any(5) - 1,
						      "normalization", any(2), "max", (int)any(100)));
	}
	json_object_set_new(args, "dfm_list", list);
	return args;
}

static json_t *a_link(struct world *w, int64_t u_id)
{
	int64_t na_id = pick(w, APPLICATION, u_id);
	int64_t dfo_id =
		any(4) ? one_of(w,
				"SELECT dfo_id FROM DFObject JOIN DeviceObject USING (do_id)"
				" JOIN NetworkApplication USING (p_id) WHERE na_id = $1",
				na_id)
		       : pick(w, FEATURE, u_id);
	return json_pack("{s:I, s:I}", "na_id", (json_int_t)na_id, "dfo_id", (json_int_t)dfo_id);
}

/* What was exported comes in again, perhaps with functions, perhaps broken. */
static json_t *a_document(struct world *w, int64_t u_id)
{
	json_t *args = new_name(w, u_id);
	run(w, &op_project_export, u_id, "{s:I, s:b}", "p_id", (json_int_t)pick(w, PROJECT, u_id), "functions", any(2));
	json_t *document = json_deep_copy(w->result), *project_part = json_object_get(document, "project");
	if (any(4) == 0)
		json_object_del(json_object_get(project_part, "DeviceObject"),
				json_object_iter_key(json_object_iter(json_object_get(project_part, "DeviceObject"))) ?: "");
	json_object_set_new(args, "document", document);
	return args;
}

static const struct {
	const struct op *op;
	args_fn *args;
	unsigned often;
} moves[] = {
	{&op_project_create, new_name, 4},
	{&op_project_delete, a_project, 1},
	{&op_project_rename, rename_to, 1},
	{&op_project_status, a_status, 3},
	{&op_project_info, a_project, 2},
	{&op_simulation_turn_on, a_project, 1},
	{&op_object_create, new_object, 30},
	{&op_object_update, changed_object, 3},
	{&op_object_delete, an_object, 1},
	{&op_object_info, an_object, 1},
	{&op_device_list, an_object, 1},
	{&op_device_bind, a_binding, 8},
	{&op_device_unbind, an_object, 3},
	{&op_dfobject_create, new_feature, 4},
	{&op_dfobject_update, changed_feature, 2},
	{&op_dfobject_delete, a_feature, 2},
	{&op_dfobject_info, a_feature, 1},
	{&op_na_create, new_na, 40},
	{&op_na_update, changed_na, 8},
	{&op_na_delete, an_na, 1},
	{&op_na_info, an_na, 3},
	{&op_na_monitor, an_na, 1},
	{&op_link_create, a_link, 20},
	{&op_link_delete, a_link, 5},
	{&op_project_import, a_document, 2},
	{&op_project_export, a_project, 1},
	{&op_na_list, a_project, 1},
};

static size_t next_move(void)
{
	unsigned all = 0, at;
	for (size_t i = 0; i < ARRAY_LEN(moves); i++)
		all += moves[i].often;
	at = any(all);
	for (size_t i = 0;; i++) {
		if (at < moves[i].often)
			return i;
		at -= moves[i].often;
	}
}

/* ---- graphs ---- */

/* What each graph is made from: {"na_id": [p_id, text]}. ret: yours */
static json_t *graphs(struct world *w)
{
	static const struct column columns[] = {{"na_id", COL_INT}, {"p_id", COL_INT}, {"text", COL_TEXT}, {0}};
	json_auto_t *rows = NULL;
	json_t *made = json_object();
	struct err err = {0};
	if (q_rows(w->ccm.db, &err, columns, &rows,
		   "SELECT n.na_id, n.p_id, p.status || (SELECT group_concat(m.dfo_id || '/' || m.param_i || '/' || m.idf_type"
		   " || '/' || coalesce(m.fn_id, 0) || '/' || m.min || '/' || m.max || '/' || m.normalization || '/' ||"
		   " coalesce(o.d_id, 0)) FROM DF_Module m JOIN DFObject USING (dfo_id) JOIN DeviceObject o USING (do_id)"
		   " WHERE m.na_id = n.na_id) || '|' || (SELECT group_concat(j.param_i || '/' || j.dfo_id || '/' ||"
		   " coalesce(j.fn_id, 0)) FROM MultipleJoin_Module j"
		   " WHERE j.na_id = n.na_id) FROM NetworkApplication n JOIN Project p USING (p_id)") < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		const json_t *row = json_array_get(rows, i);
		char key[24];
		snprintf(key, sizeof(key), "%lld", (long long)id_of(row, "na_id"));
		json_object_set_new(made, key, json_pack("[O, O]", json_object_get(row, "p_id"), json_object_get(row, "text")));
	}
	return made;
}

static bool was_told(struct world *w, const char *what, const char *id)
{
	char text[64];
	size_t i;
	const json_t *one;
	snprintf(text, sizeof(text), "%s %s", what, id);
	json_array_foreach (w->happened, i, one)
		if (strcmp(json_string_value(one), text) == 0)
			return true;
	return false;
}

/* Every graph of `a` that is not the same in `b` was touched, or all of its project. */
static void differences_were_told(struct world *w, json_t *a, json_t *b)
{
	const char *na_id;
	json_t *graph;
	json_object_foreach (a, na_id, graph) {
		char p_id[24];
		if (json_equal(graph, json_object_get(b, na_id)))
			continue;
		snprintf(p_id, sizeof(p_id), "%lld", (long long)json_integer_value(json_array_get(graph, 0)));
		if (!was_told(w, "touch", na_id) && !was_told(w, "project", p_id))
			fail_msg("graph %s became another one, and nobody was told", na_id);
	}
}

/* ---- */

/* now: the graphs; before and after */
static void make_move(struct world *w, json_t **now)
{
	size_t at = next_move();
	int64_t u_id = 1 + any(3), owners[ARRAY_LEN(things)] = {0};
	json_t *args = moves[at].args(w, u_id);
	for (size_t i = 0; i < ARRAY_LEN(things); i++) {
		const json_t *id = json_object_get(args, things[i].key);
		if (id != NULL)
			owners[i] = one_of(w, things[i].owner, json_integer_value(id));
	}
	json_auto_t *before = *now, *said = json_deep_copy(args);
	run_args(w, moves[at].op, u_id, args);
	json_t *after = *now = graphs(w);
	for (size_t i = 0; w->rc == 0 && i < ARRAY_LEN(things); i++)
		if (json_object_get(said, things[i].key) != NULL && owners[i] != u_id)
			fail_msg("%s: user %d has used the %s of user %d", moves[at].op->name, (int)u_id, things[i].key,
				 (int)owners[i]);
	if (w->rc == ERR_DB || w->rc == ERR_NOMEM)
		fail_msg("%s: %s", moves[at].op->name, w->text);
	if (w->rc < 0 || moves[at].op->reads)
		assert_true(json_equal(before, after));
	differences_were_told(w, before, after);
	differences_were_told(w, after, before);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (number_of(w, rules[i].sql) != 0)
			fail_msg("after %s: %s", moves[at].op->name, rules[i].what);
	json_array_clear(w->kept);
}

static void whatever_users_do_the_rules_hold(void **state)
{
	struct world *w = *state;
	const char *given = getenv("SEED");
	unsigned worked = 0, largest = 0;
	seed = given != NULL ? strtoull(given, NULL, 10) : 20261129;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (int i = 0; i < 12; i++) {
		char mac[8];
		snprintf(mac, sizeof(mac), "mac%d", i);
		device(w, mac, i % 6 == 5 ? PHONE : DUMMY, i % 4, 1000);
	}
	json_t *now = graphs(w);
	for (int i = 0; i < STEPS; i++) {
		make_move(w, &now);
		unsigned n = (unsigned)number_of(w, "SELECT count(*) FROM NetworkApplication");
		largest = n > largest ? n : largest;
		worked += w->rc == 0;
	}
	json_decref(now);
	/* that something happened at all */
	assert_in_range(worked, STEPS / 4, STEPS);
	assert_in_range(largest, 5, STEPS);
	print_message("%u of %d operations worked; %u applications at most\n", worked, STEPS, largest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whatever_users_do_the_rules_hold, world_up, world_down)};
	return cmocka_run_group_tests_name("project_random", tests, NULL, NULL);
}
