/* test_project.c - projects as wholes. */
#include "tests/ccm/project_world.h"

static void names_are_unique_for_each_user(void **state)
{
	struct world *w = *state;
	int64_t mine = project(w, ALICE, "home");
	int64_t others = project(w, BOB, "home");
	assert_int_not_equal(mine, others);
	refused(w, op_project_create, ALICE, ERR_EXIST, "project name already exists", "{s:s}", "p_name", "home");
	same(ok(w, op_project_list, BOB, "{}"),
	     "[{'p_id': 2, 'p_name': 'home', 'u_id': 2, 'status': 'off', 'restart': false, 'exception': '', 'sim': 'off'}]");
	same(ok(w, op_project_search, BOB, "{s:s}", "p_name", "home"), "2");
	same(ok(w, op_project_search, CAROL, "{s:s}", "p_name", "home"), "null");
	/* not an injection, just a name */
	int64_t odd = project(w, CAROL, "'; DROP TABLE Project; --");
	assert_int_equal(json_integer_value(ok(w, op_project_search, CAROL, "{s:s}", "p_name", "'; DROP TABLE Project; --")),
			 odd);
}

static void renaming_keeps_names_unique(void **state)
{
	struct world *w = *state;
	int64_t a = project(w, ALICE, "a");
	project(w, ALICE, "b");
	same(ok(w, op_project_rename, ALICE, "{s:I, s:s}", "p_id", (json_int_t)a, "newname", "c"), "{'p_id': 1, 'p_name': 'c'}");
	same(ok(w, op_project_rename, ALICE, "{s:I, s:s}", "p_id", (json_int_t)a, "newname", "c"), "{'p_id': 1, 'p_name': 'c'}");
	refused(w, op_project_rename, ALICE, ERR_EXIST, "project name already exists", "{s:I, s:s}", "p_id", (json_int_t)a,
		"newname", "b");
	refused(w, op_project_rename, BOB, ERR_NOENT, "not found", "{s:I, s:s}", "p_id", (json_int_t)a, "newname", "d");
}

static void a_switch_touches_the_graphs_once(void **state)
{
	struct world *w = *state;
	int64_t p_id = project(w, ALICE, "a");
	same(ok(w, op_project_is_on, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "'off'");
	same(ok(w, op_project_status, ALICE, "{s:I, s:s}", "p_id", (json_int_t)p_id, "status", "on"),
	     "{'p_id': 1, 'status': 'on'}");
	same_happened(w, "['project 1']");
	same(ok(w, op_project_status, ALICE, "{s:I, s:s}", "p_id", (json_int_t)p_id, "status", "on"),
	     "{'p_id': 1, 'status': 'on'}");
	same_happened(w, "[]");
	same(ok(w, op_project_is_on, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "'on'");
	refused(w, op_project_status, ALICE, ERR_INVAL, "invalid status", "{s:I, s:s}", "p_id", (json_int_t)p_id, "status",
		"maybe");
	refused(w, op_project_status, BOB, ERR_NOENT, "project 1 not found", "{s:I, s:s}", "p_id", (json_int_t)p_id, "status",
		"off");
	refused(w, op_project_is_on, BOB, ERR_NOENT, "project 1 not found", "{s:I}", "p_id", (json_int_t)p_id);
}

static void simulation_is_a_flag_that_the_simulator_hears_of(void **state)
{
	struct world *w = *state;
	int64_t p_id = project(w, ALICE, "a");
	same(ok(w, op_simulation_get, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "'off'");
	same(ok(w, op_simulation_set, ALICE, "{s:I, s:s}", "p_id", (json_int_t)p_id, "sim", "on"), "{'p_id': 1, 'sim': 'on'}");
	same_happened(w, "['sim 1']");
	same(ok(w, op_simulation_turn_on, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "'on'");
	same_happened(w, "[]");
	same(ok(w, op_simulation_turn_off, ALICE, "{s:I}", "p_id", (json_int_t)p_id), "'off'");
	same_happened(w, "['sim 1']");
	refused(w, op_simulation_set, ALICE, ERR_INVAL, "invalid sim", "{s:I, s:s}", "p_id", (json_int_t)p_id, "sim", "1");
	refused(w, op_simulation_set, BOB, ERR_NOENT, "not found", "{s:I, s:s}", "p_id", (json_int_t)p_id, "sim", "on");
	refused(w, op_simulation_turn_on, BOB, ERR_NOENT, "not found", "{s:I}", "p_id", (json_int_t)p_id);
	refused(w, op_simulation_get, BOB, ERR_NOENT, "not found", "{s:I}", "p_id", (json_int_t)p_id);
}

static void info_shows_objects_by_kind_and_applications(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", TAGGED, TAGGED_O);
	int64_t real = device(w, "real", DUMMY, ALICE, 0);
	ok(w, op_device_bind, ALICE, "{s:I, s:I}", "do_id", (json_int_t)s.do_id, "d_id", (json_int_t)real);
	same(ok(w, op_project_info, ALICE, "{s:I}", "p_id", (json_int_t)s.p_id),
	     "{'p_id': 1, 'p_name': 'home', 'u_id': 1, 'status': 'off', 'restart': false, 'exception': '', 'sim': 'off',"
	     " 'na': [{'na_id': 1, 'na_name': 'Join 1', 'na_idx': 0, 'p_id': 1, 'input': [{'dfo_id': 1, 'color': 'black', "
	     "'df_type': 'input'}],"
	     "  'output': [{'dfo_id': 2, 'color': 'black', 'df_type': 'output'}]}],"
	     " 'ido': [{'do_id': 1, 'd_id': 1, 'dm_id': 1, 'dm_name': 'Dummy', 'd_name': 'd-real', 'status': 'online', 'dfo':"
	     "  [{'dfo_id': 1, 'df_id': 5, 'alias_name': 'Tagged', 'df_type': 'input', 'src': '/static/images/ec_icon/B.png'}]}],"
	     " 'odo': [{'do_id': 1, 'd_id': 1, 'dm_id': 1, 'dm_name': 'Dummy', 'd_name': 'd-real', 'status': 'online', 'dfo':"
	     "  [{'dfo_id': 2, 'df_id': 6, 'alias_name': 'Tagged-O', 'df_type': 'output', 'src': "
	     "'/static/images/ec_icon/A.png'}]}]}");
	/* by name it is the same */
	json_t *by_id = w->result;
	assert_true(json_equal(ok(w, op_project_info, ALICE, "{s:s}", "p_name", "home"), by_id));
	refused(w, op_project_info, BOB, ERR_NOENT, "not found", "{s:I}", "p_id", (json_int_t)s.p_id);
	refused(w, op_project_info, BOB, ERR_NOENT, "project home not found", "{s:s}", "p_name", "home");
}

static void info_of_a_simulated_device_has_its_id_only(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	device(w, "stand-in", DUMMY, ALICE, 0);
	script(w, "UPDATE Device SET is_sim = 1; UPDATE DeviceObject SET d_id = 1");
	json_t *object_info =
		json_array_get(json_object_get(ok(w, op_project_info, ALICE, "{s:I}", "p_id", (json_int_t)s.p_id), "ido"), 0);
	same(object_info, "{'do_id': 1, 'd_id': 1, 'dm_id': 1, 'dm_name': 'Dummy', 'd_name': null, 'status': null, 'dfo':"
			  " [{'dfo_id': 1, 'df_id': 1, 'alias_name': 'Sensor', 'df_type': 'input', 'src': null}]}");
}

static void deleting_takes_everything_and_tells_every_graph(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	struct small other = small(w, BOB, "home", SENSOR, CONTROL);
	ok(w, op_na_create, ALICE, "{s:I, s:s, s:i, s:[I, I]}", "p_id", (json_int_t)s.p_id, "na_name", "Join 2", "na_idx", 1,
	   "dfo_ids", (json_int_t)s.in, (json_int_t)s.out);
	refused(w, op_project_delete, BOB, ERR_NOENT, "project 1 not found", "{s:I}", "p_id", (json_int_t)s.p_id);
	same(ok(w, op_project_delete, ALICE, "{s:I}", "p_id", (json_int_t)s.p_id), "{'p_id': 1}");
	same_happened(w, "['touch 1', 'touch 3', 'sim 1']");
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Module"), 2);
	ok(w, op_project_info, BOB, "{s:I}", "p_id", (json_int_t)other.p_id);
	refused(w, op_project_delete, ALICE, ERR_NOENT, "project 1 not found", "{s:I}", "p_id", (json_int_t)s.p_id);
	assert_int_equal(project(w, ALICE, "home"), 3); /* an id is not used again */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(names_are_unique_for_each_user),
		TEST(renaming_keeps_names_unique),
		TEST(a_switch_touches_the_graphs_once),
		TEST(simulation_is_a_flag_that_the_simulator_hears_of),
		TEST(info_shows_objects_by_kind_and_applications),
		TEST(info_of_a_simulated_device_has_its_id_only),
		TEST(deleting_takes_everything_and_tells_every_graph),
	};
	return cmocka_run_group_tests_name("project", tests, NULL, NULL);
}
