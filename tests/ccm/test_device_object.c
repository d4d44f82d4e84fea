/* test_device_object.c - device objects, their features, and the devices that are bound to them. */
#include "tests/ccm/project_world.h"

/* ---- objects ---- */

static void an_object_has_what_was_chosen_of_its_model(void **state)
{
	struct world *w = *state;
	int64_t p_id = project(w, ALICE, "home");
	int64_t do_id = ok_id(w, "do_id", op_object_create, ALICE, "{s:I, s:i, s:[s, s]}", "p_id", (json_int_t)p_id, "dm_id",
			      DUMMY, "df", "Control", "Accel");
	same_happened(w, "['sim 1']");
	json_t *info = ok(w, op_object_info, ALICE, "{s:I, s:I}", "p_id", (json_int_t)p_id, "do_id", (json_int_t)do_id);
	same(json_object_get(info, "do"), "{'do_id': 1, 'dfo': ['Accel', 'Control']}");
	same(json_object_get(info, "dm_name"), "'Dummy'");
	assert_int_equal(json_array_size(json_object_get(info, "df_list")), 6);
	assert_int_equal(
		number_of(w, "SELECT count(*) FROM DFObject f JOIN DeviceFeature d USING (df_id) WHERE alias_name = df_name"), 2);
	/* the device's page shows as soon as there is a device */
	device(w, "mac", DUMMY, ALICE, 0);
	script(w, "UPDATE Device SET extra_setup_webpage = 'http://x/'; UPDATE DeviceObject SET d_id = 1");
	info = ok(w, op_object_info, ALICE, "{s:I, s:I}", "p_id", (json_int_t)p_id, "do_id", (json_int_t)do_id);
	same(json_object_get(info, "do"), "{'do_id': 1, 'dfo': ['Accel', 'Control'], 'extra_setup_webpage': 'http://x/'}");
}

static void creating_refuses_what_does_not_fit(void **state)
{
	struct world *w = *state;
	json_int_t mine = project(w, ALICE, "home"), others = project(w, BOB, "home");
#define CREATE "{s:I, s:i, s:o}", "p_id"
	refused(w, op_object_create, ALICE, ERR_NOENT, "project 2 not found", CREATE, others, "dm_id", DUMMY, "df",
		json_pack("[i]", SENSOR));
	refused(w, op_object_create, ALICE, ERR_NOENT, "project 99 not found", CREATE, (json_int_t)99, "dm_id", DUMMY, "df",
		json_pack("[i]", SENSOR));
	refused(w, op_object_create, ALICE, ERR_NOENT, "Device Model id \"99\" not found", CREATE, mine, "dm_id", 99, "df",
		json_pack("[i]", SENSOR));
	refused(w, op_object_create, ALICE, ERR_NOENT, "Device Feature id 99 not found", CREATE, mine, "dm_id", DUMMY, "df",
		json_pack("[i, i]", SENSOR, 99));
	refused(w, op_object_create, ALICE, ERR_NOENT, "Device Feature id 7 not found", CREATE, mine, "dm_id", DUMMY, "df",
		json_pack("[i]", STRAY));
	refused(w, op_object_create, ALICE, ERR_NOENT, "\"Stray\" not found", CREATE, mine, "dm_id", DUMMY, "df",
		json_pack("[s]", "Stray"));
	refused(w, op_object_create, ALICE, ERR_INVAL, "given twice", CREATE, mine, "dm_id", DUMMY, "df",
		json_pack("[i, i]", SENSOR, SENSOR));
	refused(w, op_object_create, ALICE, ERR_INVAL, "cannot be empty", CREATE, mine, "dm_id", DUMMY, "df", json_array());
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject"), 0);
}

static void updating_sets_exactly_that_list(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	script(w, "UPDATE DFObject SET alias_name = 'mine' WHERE dfo_id = 2");
	same(ok(w, op_object_update, ALICE, "{s:I, s:I, s:[i, i]}", "p_id", (json_int_t)s.p_id, "do_id", (json_int_t)s.do_id,
		"df", ACCEL, CONTROL),
	     "{'do_id': 1}");
	/* the sensor went, and with it its application: there was no other input */
	same_happened(w, "['touch 1', 'sim 1']");
	assert_int_equal(number_of(w, "SELECT count(*) FROM NetworkApplication"), 0);
	assert_int_equal(number_of(w, "SELECT sum(df_id) FROM DFObject"), ACCEL + CONTROL);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DFObject WHERE dfo_id = 2 AND alias_name = 'mine'"), 1);
	/* nothing is left: it goes */
	ok(w, op_object_update, ALICE, "{s:I, s:I, s:[]}", "p_id", (json_int_t)s.p_id, "do_id", (json_int_t)s.do_id, "df");
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject"), 0);
}

static void outputs_need_a_device_of_ones_own(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, ALICE, "home"), do_id = object(w, ALICE, p_id, SENSOR, 0);
	static const int owners[] = {0, BOB, ALICE};
	for (size_t i = 0; i < ARRAY_LEN(owners); i++) {
		char mac[] = {'m', (char)('0' + i), '\0'};
		json_int_t d_id = device(w, mac, DUMMY, owners[i], 1000);
		ok(w, op_device_bind, ALICE, "{s:I, s:I}", "do_id", do_id, "d_id", d_id);
		if (owners[i] == ALICE)
			ok(w, op_object_update, ALICE, "{s:I, s:[i, i]}", "do_id", do_id, "df", SENSOR, CONTROL);
		else
			refused(w, op_object_update, ALICE, ERR_INVAL, "The binded device cannot be use for odf",
				"{s:I, s:[i, i]}", "do_id", do_id, "df", SENSOR, CONTROL);
		if (owners[i] != ALICE)
			refused(w, op_dfobject_create, ALICE, ERR_INVAL, "The binded device cannot be use for odf",
				"{s:I, s:i, s:s}", "do_id", do_id, "df_id", CONTROL, "alias_name", "x");
	}
}

static void deleting_takes_links_and_one_sided_applications(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	int64_t second = object(w, ALICE, s.p_id, ACCEL, 0);
	ok(w, op_link_create, ALICE, "{s:I, s:I}", "na_id", (json_int_t)s.na_id, "dfo_id", (json_int_t)dfo(w, second, ACCEL));
	same(ok(w, op_object_delete, ALICE, "{s:I}", "do_id", (json_int_t)second), "{'do_id': 2}");
	same_happened(w, "['touch 1', 'sim 1']");
	assert_int_equal(number_of(w, "SELECT count(*) FROM NetworkApplication"), 1);
	ok(w, op_object_delete, ALICE, "{s:I}", "do_id", (json_int_t)s.do_id);
	same_happened(w, "['touch 1', 'sim 1']");
	assert_int_equal(number_of(w, "SELECT count(*) FROM NetworkApplication"), 0);
	refused(w, op_object_delete, ALICE, ERR_NOENT, "Device Object id 1 not found", "{s:I}", "do_id", (json_int_t)s.do_id);
}

/* ---- features ---- */

static void features_come_and_go_one_by_one(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, ALICE, "home"), do_id = object(w, ALICE, p_id, SENSOR, 0);
	same(ok(w, op_dfobject_create, ALICE, "{s:I, s:i, s:s}", "do_id", do_id, "df_id", ACCEL, "alias_name", "tilt"),
	     "{'dfo_id': 2}");
	same_happened(w, "['sim 1']");
	refused(w, op_dfobject_create, ALICE, ERR_EXIST, "already", "{s:I, s:i, s:s}", "do_id", do_id, "df_id", ACCEL,
		"alias_name", "x");
	refused(w, op_dfobject_create, ALICE, ERR_NOENT, "Device Feature id 7 not found", "{s:I, s:i, s:s}", "do_id", do_id,
		"df_id", STRAY, "alias_name", "x");
	refused(w, op_dfobject_create, BOB, ERR_NOENT, "not found", "{s:I, s:i, s:s}", "do_id", do_id, "df_id", TAGGED,
		"alias_name", "x");
	same(ok(w, op_dfobject_delete, ALICE, "{s:i, s:I}", "dfo_id", 2, "do_id", do_id), "{'dfo_id': 2, 'do_id': 1}");
	refused(w, op_dfobject_delete, BOB, ERR_NOENT, "not found", "{s:i, s:I}", "dfo_id", 1, "do_id", do_id);
	/* the last one takes the object along */
	ok(w, op_dfobject_delete, ALICE, "{s:i, s:I}", "dfo_id", 1, "do_id", do_id);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject"), 0);
}

static void a_feature_shows_what_its_user_has(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, ALICE, "home"), do_id = object(w, ALICE, p_id, SENSOR, ACCEL);
	same(ok(w, op_dfobject_info, ALICE, "{s:I, s:I, s:I}", "p_id", p_id, "do_id", do_id, "dfo_id",
		(json_int_t)dfo(w, do_id, SENSOR)),
	     "{'dfo_id': 1, 'alias_name': 'Sensor', 'df_id': 1, 'dm_name': 'Dummy', 'df_type': 'input', 'mf_id': 1,"
	     " 'df_mapping_func': [{'fn_id': 2, 'fn_name': 'f_alice', 'is_protect': false}, {'fn_id': 1, 'fn_name': 'f_general', "
	     "'is_protect': false}],"
	     " 'df_parameter': [{'dfp_id': 12, 'df_id': null, 'mf_id': 1, 'param_i': 0, 'param_type': 'int', 'u_id': null, "
	     "'idf_type': 'sample',"
	     " 'fn_id': 1, 'min': 0.0, 'max': 100.0, 'normalization': false, 'unit_id': 1}]}");
	const json_t *mine = json_object_get(ok(w, op_dfobject_info, ALICE, "{s:I}", "dfo_id", (json_int_t)dfo(w, do_id, ACCEL)),
					     "df_parameter");
	assert_int_equal(json_array_size(mine), 3);
	same(json_object_get(json_array_get(mine, 2), "max"), "30.0");
}

static void an_update_sets_the_alias_and_private_parameters(void **state)
{
	struct world *w = *state;
	struct small s = small(w, BOB, "home", ACCEL, CONTROL);
	same(ok(w, op_dfobject_update, BOB, "{s:I, s:s, s:[{s:f}, {}, {s:s, s:n}]}", "dfo_id", (json_int_t)s.in, "alias_name",
		"tilt", "df_parameter", "max", 5.0, "param_type", "int", "fn_id"),
	     "{'dfo_id': 1}");
	same_happened(w, "['alias 1']");
	/* for bob alone, at the model's level, and what was not said is as it was */
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Parameter WHERE mf_id = 3 AND u_id = 2 AND df_id IS NULL"), 3);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Parameter WHERE mf_id = 3 AND u_id = 2 AND param_i = 0 AND min = "
				      "-1 AND max = 5"),
			 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Parameter WHERE mf_id = 3 AND u_id = 2 AND param_i = 2 AND max = "
				      "3 AND param_type = 'int'"),
			 1);
	assert_int_equal(
		number_of(w, "SELECT count(*) FROM DF_Parameter WHERE mf_id = 3 AND u_id IS NULL AND param_i = 0 AND max = 1"),
		1);
	/* the link that is there keeps what it had; one made later has the new values */
	assert_int_equal(
		number_of(w, "SELECT count(*) FROM DF_Module WHERE na_id = 1 AND dfo_id = 1 AND param_i = 0 AND max = 1"), 1);
	int64_t na_id = ok_id(w, "na_id", op_na_create, BOB, "{s:I, s:s, s:i, s:[I, I]}", "p_id", (json_int_t)s.p_id, "na_name",
			      "n", "na_idx", 1, "dfo_ids", (json_int_t)s.in, (json_int_t)s.out);
	assert_int_equal(na_id, 2);
	assert_int_equal(
		number_of(w, "SELECT count(*) FROM DF_Module WHERE na_id = 2 AND dfo_id = 1 AND param_i = 0 AND max = 5"), 1);
	/* an empty list leaves them alone; the same alias is no news */
	ok(w, op_dfobject_update, BOB, "{s:I, s:s, s:[]}", "dfo_id", (json_int_t)s.in, "alias_name", "tilt", "df_parameter");
	same_happened(w, "[]");
	assert_int_equal(number_of(w, "SELECT count(*) FROM DF_Parameter WHERE mf_id = 3 AND u_id = 2"), 3);
	refused(w, op_dfobject_update, BOB, ERR_INVAL, "must have 3 elements", "{s:I, s:s, s:[{}]}", "dfo_id", (json_int_t)s.in,
		"alias_name", "tilt", "df_parameter");
	refused(w, op_dfobject_update, BOB, ERR_NOENT, "Function id 2 not found", "{s:I, s:s, s:[{s:i}, {}, {}]}", "dfo_id",
		(json_int_t)s.in, "alias_name", "tilt", "df_parameter", "fn_id", F_ALICE);
	refused(w, op_dfobject_update, ALICE, ERR_NOENT, "Device Feature Object id 1 not found", "{s:I, s:s, s:[]}", "dfo_id",
		(json_int_t)s.in, "alias_name", "x", "df_parameter");
}

static void an_alias_is_found_by_address_and_feature(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, ALICE, "home"), first = object(w, ALICE, p_id, SENSOR, 0),
		   second = object(w, ALICE, p_id, SENSOR, ACCEL);
	json_int_t d_id = device(w, "mac", DUMMY, ALICE, 0);
	refused(w, op_alias_get, ALICE, ERR_NOENT, "alias_name not find", "{s:s, s:s}", "mac_addr", "mac", "df_name", "Sensor");
	ok(w, op_device_bind, ALICE, "{s:I, s:I}", "do_id", first, "d_id", d_id);
	ok(w, op_device_bind, ALICE, "{s:I, s:I}", "do_id", second, "d_id", d_id);
	same(ok(w, op_alias_set, ALICE, "{s:s, s:s, s:s}", "mac_addr", "mac", "df_name", "Sensor", "alias_name", "warmth"),
	     "{'alias_name': 'warmth'}");
	same_happened(w, "['alias 1']"); /* of the first that matches */
	same(ok(w, op_alias_get, ALICE, "{s:s, s:s}", "mac_addr", "mac", "df_name", "Sensor"), "{'alias_name': 'warmth'}");
	same(ok(w, op_alias_get, ALICE, "{s:s, s:s}", "mac_addr", "mac", "df_name", "Accel"), "{'alias_name': 'Accel'}");
	refused(w, op_alias_get, ALICE, ERR_NOENT, "alias_name not find", "{s:s, s:s}", "mac_addr", "mac", "df_name", "Control");
	refused(w, op_alias_set, BOB, ERR_NOENT, "alias_name not find", "{s:s, s:s, s:s}", "mac_addr", "mac", "df_name", "Sensor",
		"alias_name", "x");
}

/* ---- binding ---- */

static void binding_replaces_what_is_bound(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	device(w, "first", DUMMY, ALICE, 0);
	device(w, "second", DUMMY, ALICE, 0);
#define BIND "{s:I, s:s}", "do_id", (json_int_t)s.do_id, "device"
	same(ok(w, op_device_bind, ALICE, BIND, "1"), "{'d_name': 'd-first'}");
	same_happened(w, "['touch 1', 'sim 1']");
	same(ok(w, op_device_bind, ALICE, BIND, "second"), "{'d_name': 'd-second'}");
	same_happened(w, "['touch 1', 'sim 1']");
	assert_int_equal(number_of(w, "SELECT d_id FROM DeviceObject"), 2);
	same(ok(w, op_device_bind, ALICE, BIND, "second"), "{'d_name': 'd-second'}");
	same_happened(w, "[]");
	same(ok(w, op_device_unbind, ALICE, "{s:I}", "do_id", (json_int_t)s.do_id), "{'do_id': 1}");
	same_happened(w, "['touch 1', 'sim 1']");
	same(ok(w, op_device_unbind, ALICE, "{s:I}", "do_id", (json_int_t)s.do_id), "{'do_id': 1}");
	same_happened(w, "[]");
	refused(w, op_device_unbind, ALICE, ERR_NOENT, "Device Object id 9 not found", "{s:i}", "do_id", 9);
	refused(w, op_device_bind, ALICE, ERR_NOENT, "Device Object id 9 not found", "{s:i, s:s}", "do_id", 9, "device", "first");
}

static void binding_refuses_what_is_not_there_or_does_not_fit(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	device(w, "phone", PHONE, ALICE, 0);
	device(w, "stand-in", DUMMY, ALICE, 0);
	script(w, "UPDATE Device SET is_sim = 1 WHERE d_id = 2");
	device(w, "bob's", DUMMY, BOB, 1000);
	device(w, "nobody's", DUMMY, 0, 0);
	refused(w, op_device_bind, ALICE, ERR_NOENT, "unknown mac_addr", BIND, "no such");
	refused(w, op_device_bind, ALICE, ERR_NOENT, "Device id 99 not found", BIND, "99");
	refused(w, op_device_bind, ALICE, ERR_NOENT, "Device id 99999999999999999999 not found", BIND, "99999999999999999999");
	refused(w, op_device_bind, ALICE, ERR_INVAL, "another Device Model", BIND, "phone");
	refused(w, op_device_bind, ALICE, ERR_NOENT, "unknown mac_addr", BIND, "stand-in");
	refused(w, op_device_bind, ALICE, ERR_NOENT, "Device id 2 not found", BIND, "2");
	refused(w, op_device_bind, ALICE, ERR_INVAL, "The binded device cannot be use for odf", BIND, "bob's");
	refused(w, op_device_bind, BOB, ERR_NOENT, "Device Object id 1 not found", BIND, "bob's");
	/* what nobody has claimed is there at once, and what others have can be read from */
	same(ok(w, op_device_bind, ALICE, BIND, "nobody's"), "{'d_name': 'd-nobody\\u0027s'}");
	json_int_t reader = object(w, ALICE, s.p_id, SENSOR, 0);
	ok(w, op_device_bind, ALICE, "{s:I, s:i}", "do_id", reader, "d_id", 3);
}

static void an_address_of_digits_is_one_when_it_is_no_id(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	device(w, "2", DUMMY, ALICE, 0);
	same(ok(w, op_device_bind, ALICE, BIND, "2"), "{'d_name': 'd-2'}");
	device(w, "007", DUMMY, ALICE, 0);
	device(w, "123456789012345678901234567890", DUMMY, ALICE, 0);
	same(ok(w, op_device_bind, ALICE, BIND, "2"), "{'d_name': 'd-007'}");
	same(ok(w, op_device_bind, ALICE, BIND, "007"), "{'d_name': 'd-007'}");
	same(ok(w, op_device_bind, ALICE, BIND, "123456789012345678901234567890"),
	     "{'d_name': 'd-123456789012345678901234567890'}");
	device(w, "77", DUMMY, ALICE, 0);
	same(ok(w, op_device_bind, ALICE, "{s:I, s:i}", "do_id", (json_int_t)s.do_id, "d_id", 77), "{'d_name': 'd-77'}");
}

/* The d_id that are offered, as text. */
static void offers(struct world *w, json_int_t do_id, const char *wanted)
{
	const json_t *list = json_object_get(ok(w, op_device_list_gui, ALICE, "{s:I}", "do_id", do_id), "device_list"), *one;
	json_auto_t *ids = json_array();
	size_t i;
	json_array_foreach (list, i, one)
		json_array_append(ids, json_object_get(one, "d_id"));
	same(ids, wanted);
}

static void devices_are_offered_by_owner_and_age(void **state)
{
	struct world *w = *state;
	json_int_t p_id = project(w, ALICE, "home"), reader = object(w, ALICE, p_id, SENSOR, 0),
		   writer = object(w, ALICE, p_id, SENSOR, CONTROL);
	device(w, "1: mine", DUMMY, ALICE, 0);
	device(w, "2: bob's", DUMMY, BOB, 0);
	device(w, "3: new", DUMMY, 0, 100);
	device(w, "4: old", DUMMY, 0, 1000);
	device(w, "5: phone", PHONE, ALICE, 1000);
	device(w, "6: stand-in", DUMMY, ALICE, 1000);
	device(w, "7: bound", DUMMY, ALICE, 0);
	script(w, "UPDATE Device SET is_sim = 1 WHERE d_id = 6; UPDATE Device SET status = 'offline' WHERE d_id = 1");
	ok(w, op_device_bind, ALICE, "{s:I, s:i}", "do_id", writer, "d_id", 7);
	offers(w, writer, "[1, 4, 7]");
	offers(w, reader, "[1, 2, 4, 7]");
	w->settings.gui.odf_single_bind = true;
	offers(w, writer, "[1, 4]");
	offers(w, reader, "[1, 2, 4, 7]");
	w->settings.gui.ownership_timeout_s = 0;
	offers(w, writer, "[1, 3, 4]");
	offers(w, reader, "[1, 3, 4, 7]");
	w->settings.gui.odf_single_bind = false;
	offers(w, writer, "[1, 3, 4, 7]");
	const json_t *rest = ok(w, op_device_list, ALICE, "{s:I, s:I}", "p_id", p_id, "do_id", writer);
	assert_int_equal(json_array_size(json_object_get(rest, "data")), 4);
	same(json_object_get(rest, "do_id"), "2");
	refused(w, op_device_list, BOB, ERR_NOENT, "not found", "{s:I}", "do_id", writer);
}

/* ---- whose ---- */

static void paths_must_be_true(void **state)
{
	struct world *w = *state;
	struct small s = small(w, ALICE, "home", SENSOR, CONTROL);
	json_int_t other = project(w, ALICE, "other"), empty = object(w, ALICE, other, SENSOR, 0);
	/* all mine, but not below that project, or that object; 0 is a number, too */
	const json_int_t wrong[] = {other, 0, 99};
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
#define PATH "p_id", wrong[i], "do_id", (json_int_t)s.do_id
		refused(w, op_object_info, ALICE, ERR_NOENT, "not found", "{s:I, s:I}", PATH);
		refused(w, op_object_update, ALICE, ERR_NOENT, "not found", "{s:I, s:I, s:[]}", PATH, "df");
		refused(w, op_object_delete, ALICE, ERR_NOENT, "not found", "{s:I, s:I}", PATH);
		refused(w, op_device_list, ALICE, ERR_NOENT, "not found", "{s:I, s:I}", PATH);
		refused(w, op_device_bind, ALICE, ERR_NOENT, "not found", "{s:I, s:I, s:s}", PATH, "device", "x");
		refused(w, op_device_unbind, ALICE, ERR_NOENT, "not found", "{s:I, s:I}", PATH);
		refused(w, op_dfobject_info, ALICE, ERR_NOENT, "not found", "{s:I, s:I, s:I}", PATH, "dfo_id", (json_int_t)s.in);
		refused(w, op_na_info, ALICE, ERR_NOENT, "NetworkApplication not find.", "{s:I, s:I}", "p_id", wrong[i], "na_id",
			(json_int_t)s.na_id);
		refused(w, op_na_update, ALICE, ERR_NOENT, "NetworkApplication not find.", "{s:I, s:I}", "p_id", wrong[i],
			"na_id", (json_int_t)s.na_id);
		refused(w, op_na_delete, ALICE, ERR_NOENT, "NetworkApplication not find.", "{s:I, s:I}", "p_id", wrong[i],
			"na_id", (json_int_t)s.na_id);
	}
	refused(w, op_dfobject_info, ALICE, ERR_NOENT, "not found", "{s:I, s:I, s:I}", "p_id", (json_int_t)s.p_id, "do_id", empty,
		"dfo_id", (json_int_t)s.in);
	refused(w, op_dfobject_update, ALICE, ERR_NOENT, "not found", "{s:I, s:I, s:s, s:[]}", "do_id", empty, "dfo_id",
		(json_int_t)s.in, "alias_name", "x", "df_parameter");
	refused(w, op_dfobject_delete, ALICE, ERR_NOENT, "not found", "{s:I, s:I}", "do_id", empty, "dfo_id", (json_int_t)s.in);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(an_object_has_what_was_chosen_of_its_model),
		TEST(creating_refuses_what_does_not_fit),
		TEST(updating_sets_exactly_that_list),
		TEST(outputs_need_a_device_of_ones_own),
		TEST(deleting_takes_links_and_one_sided_applications),
		TEST(features_come_and_go_one_by_one),
		TEST(a_feature_shows_what_its_user_has),
		TEST(an_update_sets_the_alias_and_private_parameters),
		TEST(an_alias_is_found_by_address_and_feature),
		TEST(binding_replaces_what_is_bound),
		TEST(binding_refuses_what_is_not_there_or_does_not_fit),
		TEST(an_address_of_digits_is_one_when_it_is_no_id),
		TEST(devices_are_offered_by_owner_and_age),
		TEST(paths_must_be_true),
	};
	return cmocka_run_group_tests_name("device_object", tests, NULL, NULL);
}
