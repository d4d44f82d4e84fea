/* test_reconcile.c - the drive against a csm that the test plays: what is asked, in which order, and what comes of each answer. */
#include "tests/ccm/drive_world.h"

#include "ccm/drive/wanted.h"

#define G "/graph/1"

static struct graph *graph_1(struct world *w)
{
	return map_find(w->ccm.drive->graphs, "1");
}

/* The list that follows an attach to the device API; graphs: taken */
static void answer_list(struct world *w, json_t *graphs)
{
	answer(w, "", asked(w, "", "list"), "ok", json_pack("{s:o, s:b}", "graphs", graphs, "device", true));
}

/* Attached, and application 1 made with its three links and in the list. */
static void make_graph(struct world *w)
{
	script(w, "UPDATE DeviceObject SET d_id = NULL");
	arrive(w);
	ok(w, G, "attach");
	answer_list(w, json_pack("{s:i}", "1", 0));
	/* that made it; its revision is not known before it was found equal */
	script(w, "UPDATE DeviceObject SET d_id = do_id");
	answer(w, G, asked(w, G, "attach"), "ok", json_pack("{s:{s:i, s:s, s:[]}}", "graph", "rev", 0, "owner", "alice", "links"));
	ok(w, G, "add_link");
	ok(w, G, "add_link");
	ok(w, G, "add_link");
	nothing_is_asked(w);
}

/* The state of what make_graph() made. */
static json_t *state(struct world *w)
{
	struct wanted is;
	assert_int_equal(wanted_read(w->ccm.db, 1, &is, NULL), 0);
	json_t *s = json_pack("{s:i, s:s, s:O, s:n, s:{}}", "rev", 5, "owner", "alice", "links", is.links, "join", "join_depends");
	wanted_done(&is);
	return json_pack("{s:o}", "graph", s);
}

/* The next pass finds the graph as it should be. */
static void is_found_equal(struct world *w)
{
	answer(w, G, asked(w, G, "attach"), "ok", state(w));
	nothing_is_asked(w);
	assert_int_equal(graph_1(w)->phase, GRAPH_IDLE);
}

/* ---- devices ---- */

static void the_snapshot_becomes_the_stores_devices(void **st)
{
	struct world *w = *st;
	script(w, "INSERT INTO Device (d_id, mac_addr, d_name, dm_id, register_time) VALUES (7, 'gone', 'gone', 1, '');"
		  "UPDATE DeviceObject SET d_id = 7 WHERE do_id = 1");
	drive_on_up(w->ccm.drive);
	json_t *attach = asked(w, "/device", "attach");
	answer(w, "/device", json_deep_copy(attach), "ok",
	       json_pack("{s:{s:{s:s, s:s, s:f, s:s, s:{s:s, s:s}}}, s:b}", "da_list", DEVICE_1, "id", DEVICE_1, "name", "one", "register_time",
			 1000.5, "state", "online", "profile", "model", "M", "u_name", "alice", "more", true));
	turn(w);
	/* that it is not in the first message says nothing */
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device"), 2);
	answer(w, "/device", attach, "ok",
	       json_pack("{s:{s:{s:s, s:{s:s}}, s:{s:s, s:{s:s}}}}", "da_list", DEVICE_2, "id", DEVICE_2, "profile", "model", "N", "x", "id", "x",
			 "profile", "model", "unknown"));
	turn(w);
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device"), 2);
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device WHERE d_name = 'one' AND u_id = 1 AND dm_id = 1 AND status = 'online'"
				      " AND register_time = 'time 1000'"),
			 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device WHERE d_name = mac_addr AND u_id IS NULL AND dm_id = 2 AND status = 'offline'"), 1);
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject WHERE d_id IS NOT NULL"), 0);
	json_auto_t *told = json_pack("[[s, s, {s:i}]]", "", "deregister", "d_id", 7);
	assert_true(json_equal(w->heard, told));
}

static void announce_device(struct world *w, const char *type, json_t *da)
{
	say(w, "/device", json_pack("{s:s, s:s, s:o}", "op", "anno", "type", type, "da", da));
	turn(w);
}

static void announcements_are_taken_and_passed_on(void **st)
{
	struct world *w = *st;
	arrive(w);
	announce_device(w, "offline", json_string(DEVICE_1));
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device WHERE status = 'offline'"), 1);
	announce_device(w, "offline", json_string(DEVICE_1));
	announce_device(w, "online", json_string(DEVICE_1));
	announce_device(w, "online", json_string("unknown"));
	assert_int_equal(json_array_size(w->heard), 2);
	const json_t *data = json_array_get(json_array_get(w->heard, 1), 2);
	assert_string_equal(json_string_value(json_array_get(json_array_get(w->heard, 1), 1)), "online");
	assert_string_equal(json_string_value(json_object_get(data, "id")), DEVICE_1);
	assert_true(json_is_integer(json_object_get(data, "d_id")));
	assert_string_equal(json_string_value(json_object_get(json_object_get(data, "profile"), "model")), "M");
	announce_device(w, "changed", json_pack("{s:s, s:s}", "id", DEVICE_1, "name", "new name"));
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device WHERE d_name = 'new name' AND u_id = 1"), 1);
	announce_device(w, "deregister", json_string(DEVICE_1));
	assert_int_equal(number_of(w, "SELECT count(*) FROM Device"), 1);
	/* what is no announcement at all */
	announce_device(w, "online", json_object());
	announce_device(w, "register", json_string("x"));
	announce_device(w, "register", json_pack("{s:n, s:i}", "id", "profile", 3));
	announce_device(w, "changed", json_pack("{s:s, s:s}", "id", DEVICE_2, "profile", "x"));
	say(w, "/device", json_pack("{s:i}", "op", 3));
}

/* What csm was told before may be lost to whoever the device is now. */
static void a_bound_device_that_is_back_has_its_graphs_looked_at(void **st)
{
	struct world *w = *st;
	make_graph(w);
	announce_device(w, "register", json_pack("{s:s, s:{s:s, s:s}}", "id", DEVICE_1, "profile", "model", "M", "u_name", "alice"));
	is_found_equal(w);
	announce_device(w, "offline", json_string(DEVICE_1));
	nothing_is_asked(w);
	announce_device(w, "online", json_string(DEVICE_1));
	is_found_equal(w);
}

static void another_model_ends_bindings(void **st)
{
	struct world *w = *st;
	make_graph(w);
	announce_device(w, "changed", json_pack("{s:s, s:{s:s}}", "id", DEVICE_1, "profile", "model", "N"));
	assert_int_equal(number_of(w, "SELECT count(*) FROM DeviceObject WHERE do_id = 1 AND d_id IS NULL"), 1);
	answer(w, G, asked(w, G, "attach"), "ok", NULL); /* csm had lost it */
	ok(w, G, "add_link");
	ok(w, G, "add_link");
	nothing_is_asked(w);
}

static void a_detach_that_is_not_ours_is_answered_by_an_attach(void **st)
{
	struct world *w = *st;
	make_graph(w);
	say(w, "/device", json_pack("{s:s, s:s}", "op", "detach", "state", "ok"));
	json_decref(asked(w, "/device", "attach"));
	nothing_is_asked(w);
	drive_goodbye(w->ccm.drive);
	ok(w, "/device", "detach");
	nothing_is_asked(w);
}

/* ---- graphs ---- */

static void a_graph_is_made_and_found_equal(void **st)
{
	struct world *w = *st;
	make_graph(w);
	assert_int_equal(w->ccm.drive->changes, 0);
	assert_int_equal(w->ccm.drive->repairs, 2);
	drive_touch(&w->ccm, 1);
	is_found_equal(w);
	assert_int_equal(graph_1(w)->rev, 5);
	script(w, "UPDATE DeviceObject SET d_id = NULL WHERE do_id = 1");
	drive_touch(&w->ccm, 1);
	json_auto_t *before = state(w);
	json_auto_t *extra = json_pack("{s:s, s:s, s:s}", "da_id", DEVICE_1, "mode", "idf", "feature", "I");
	json_array_append(json_object_get(json_object_get(before, "graph"), "links"), extra);
	answer(w, G, asked(w, G, "attach"), "ok", json_deep_copy(before));
	ok(w, G, "rm_link");
	nothing_is_asked(w);
	assert_int_equal(w->ccm.drive->changes, 1);
}

static void functions_go_before_what_names_them_and_only_once(void **st)
{
	struct world *w = *st;
	make_graph(w);
	script(w, "UPDATE DF_Module SET fn_id = 1 WHERE dfo_id IN (1, 2)");
	json_t *before = json_pack("{s:{s:i, s:s, s:[]}}", "graph", "rev", 1, "owner", "alice", "links");
	drive_touch(&w->ccm, 1);
	answer(w, G, asked(w, G, "attach"), "ok", before);
	json_auto_t *funcs = asked(w, G, "add_funcs");
	/* the function, and the wrapper, which is the same for both */
	assert_int_equal(json_array_size(json_object_get(funcs, "codes")), 3);
	json_array_clear(w->sent);
	drive_touch(&w->ccm, 1); /* it is looked at when this pass is over */
	nothing_is_asked(w);
	graph_abandon(graph_1(w));
	answer(w, G, asked(w, G, "attach"), "ok", NULL);
	ok(w, G, "add_link");
	ok(w, G, "add_link");
	ok(w, G, "add_link");
	nothing_is_asked(w);
}

static void a_function_that_csm_forgot_is_sent_again(void **st)
{
	struct world *w = *st;
	make_graph(w);
	script(w, "UPDATE MultipleJoin_Module SET fn_id = 1");
	drive_touch(&w->ccm, 1);
	json_auto_t *before = state(w);
	answer(w, G, asked(w, G, "attach"), "ok", json_deep_copy(before));
	ok(w, G, "add_funcs");
	answer(w, G, asked(w, G, "set_join"), "error", json_pack("{s:s}", "reason", "New function not found: x"));
	assert_true(graph_1(w)->backs_off);
	drive_touch(&w->ccm, 1);
	answer(w, G, asked(w, G, "attach"), "ok", json_deep_copy(before));
	ok(w, G, "add_funcs");
	ok(w, G, "set_join");
	nothing_is_asked(w);
	assert_false(graph_1(w)->backs_off);
}

static void what_is_refused_waits_longer_each_time(void **st)
{
	struct world *w = *st;
	unsigned last = 0;
	make_graph(w);
	script(w, "UPDATE MultipleJoin_Module SET fn_id = 1");
	for (int i = 0; i < 12; i++) {
		graphs_touch(w->ccm.drive, 1, CAUSE_REPAIR);
		answer(w, G, asked(w, G, "attach"), "ok", state(w));
		if (i == 0)
			ok(w, G, "add_funcs");
		answer(w, G, asked(w, G, "set_join"), "error", json_pack("{s:s}", "reason", "`run` not found"));
		nothing_is_asked(w);
		assert_true(graph_1(w)->backoff_ms > last || last == 120000);
		last = graph_1(w)->backoff_ms;
	}
	assert_int_equal(last, 120000);
	assert_int_equal(w->ccm.drive->refusals, 12);
	drive_touch(&w->ccm, 1); /* somebody changed something: begin anew */
	assert_int_equal(graph_1(w)->backoff_ms, 0);
}

static void a_project_that_is_off_has_no_graph(void **st)
{
	struct world *w = *st;
	make_graph(w);
	script(w, "UPDATE Project SET status = 'off'");
	drive_touch_project(&w->ccm, 1);
	ok(w, G, "detach");
	nothing_is_asked(w);
	assert_null(graph_1(w));
	drive_touch_project(&w->ccm, 1); /* nothing to say */
	drive_touch(&w->ccm, 1);
	nothing_is_asked(w);
}

static void a_project_that_is_gone_has_no_graph(void **st)
{
	struct world *w = *st;
	make_graph(w);
	script(w, "DELETE FROM Project");
	drive_touch_project(&w->ccm, 1);
	answer(w, G, asked(w, G, "detach"), "error", json_pack("{s:s}", "reason", "Unknown graph id 1"));
	nothing_is_asked(w);
	assert_null(graph_1(w));
}

static void a_graph_of_another_owner_is_made_anew(void **st)
{
	struct world *w = *st;
	arrive(w);
	answer(w, G, asked(w, G, "attach"), "ok", json_pack("{s:{s:i, s:s, s:[]}}", "graph", "rev", 1, "owner", "bob", "links"));
	answer_list(w, json_object());
	ok(w, G, "detach");
	json_auto_t *attach = asked(w, G, "attach");
	assert_string_equal(json_string_value(json_object_get(attach, "owner")), "alice");
}

static void a_change_during_a_pass_is_looked_at_after_it(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_touch(&w->ccm, 1);
	json_t *attach = asked(w, G, "attach");
	drive_touch(&w->ccm, 1);
	drive_touch(&w->ccm, 1);
	nothing_is_asked(w);
	answer(w, G, attach, "ok", state(w));
	is_found_equal(w);
}

static void a_late_refusal_and_answers_of_old_are_no_harm(void **st)
{
	struct world *w = *st;
	make_graph(w);
	say(w, G, json_pack("{s:s, s:s, s:s}", "op", "attach", "state", "ok", "ref", "somebody-1"));
	say(w, G, json_pack("{s:s, s:s}", "op", "add_link", "state", "ok"));
	say(w, "/graph/77", json_pack("{s:s, s:s}", "op", "attach", "state", "ok"));
	say(w, "/graph/", json_object());
	say(w, "/nothing", json_object());
	drive_on_message(w->ccm.drive, &(struct bus_msg){.topic = DRIVE_PREFIX_RES G, .payload = "rubbish", .len = 7});
	nothing_is_asked(w);
	say(w, G, json_pack("{s:s, s:s, s:s, s:s}", "op", "anno", "type", "graph", "state", "error", "reason", "quarantined"));
	is_found_equal(w);
}

static void every_function_that_is_edited_is_looked_for(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_touch_function(&w->ccm, 1);
	nothing_is_asked(w);
	script(w, "UPDATE DF_Module SET fn_id = 1 WHERE dfo_id = 3 AND param_i = 1");
	drive_touch_function(&w->ccm, 1);
	json_decref(asked(w, G, "attach"));
	script(w, "UPDATE MultipleJoin_Module SET fn_id = 2");
	drive_touch_function(&w->ccm, 2);
	assert_true(graph_1(w)->dirty);
}

/* ---- what csm has ---- */

static void the_list_finds_what_is_not_as_it_was(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_list(w->ccm.drive);
	answer_list(w, json_pack("{s:i}", "1", 1));
	is_found_equal(w); /* we changed it: its revision is not known before it was found equal */
	drive_list(w->ccm.drive);
	answer_list(w, json_pack("{s:i}", "1", 5));
	nothing_is_asked(w);
	drive_list(w->ccm.drive);
	answer_list(w, json_pack("{s:i}", "1", 6));
	is_found_equal(w);
	drive_list(w->ccm.drive);
	answer_list(w, json_object());
	ok(w, G, "attach");
	assert_int_equal(json_array_size(w->sent), 3);
}

static void graphs_that_the_store_does_not_have_end(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_list(w->ccm.drive);
	json_t *list = asked(w, "", "list");
	answer(w, "", json_deep_copy(list), "ok", json_pack("{s:{s:i, s:i, s:i, s:i}, s:b}", "graphs", "42", 1, DRIVE_TOOLS, 0, "007", 1, "x", 1, "more", true));
	nothing_is_asked(w);
	answer(w, "", list, "ok", json_pack("{s:{s:i}, s:b}", "graphs", "1", 5, "device", true));
	json_decref(asked(w, G, "attach"));
	ok(w, "/graph/42", "detach");
	nothing_is_asked(w);
	assert_null(map_find(w->ccm.drive->graphs, "42"));
}

static void a_csm_that_tells_us_nothing_of_devices_is_attached_to(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_list(w->ccm.drive);
	answer(w, "", asked(w, "", "list"), "ok", json_pack("{s:{}, s:b}", "graphs", "device", false));
	json_decref(asked(w, "/device", "attach"));
	nothing_is_asked(w);
}

static void a_silent_csm_is_not_pestered_and_asked_anew_when_it_is_back(void **st)
{
	struct world *w = *st;
	struct drive *d = w->ccm.drive;
	make_graph(w);
	drive_touch(&w->ccm, 1);
	json_decref(asked(w, G, "attach"));
	drive_list(d);
	json_t *list = asked(w, "", "list");
	d->list_sent_ms -= 3000;
	loop_turn(w->ccm.loop, 600);
	assert_true(d->silent);
	json_decref(asked(w, "", "list"));
	loop_arm(w->ccm.loop, graph_1(w)->timer, 0);
	turn(w);
	drive_touch(&w->ccm, 1);
	nothing_is_asked(w);
	answer(w, "", list, "ok", json_pack("{s:{}, s:b}", "graphs", "device", true)); /* late, but it lives */
	assert_false(d->silent);
	json_decref(asked(w, G, "attach"));
	answer_list(w, json_pack("{s:i}", "1", 5));
	nothing_is_asked(w);
}

static void what_is_not_answered_in_time_is_asked_again(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_touch(&w->ccm, 1);
	json_decref(asked(w, G, "attach"));
	loop_arm(w->ccm.loop, graph_1(w)->timer, 0);
	turn(w);
	assert_true(graph_1(w)->backs_off);
	loop_arm(w->ccm.loop, graph_1(w)->timer, 0);
	turn(w);
	is_found_equal(w);
}

static void a_lost_connection_begins_all_anew(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_touch(&w->ccm, 1);
	json_decref(asked(w, G, "attach"));
	drive_on_down(w->ccm.drive);
	drive_touch(&w->ccm, 1);
	nothing_is_asked(w);
	arrive(w);
	answer(w, G, asked(w, G, "attach"), "ok", state(w));
	answer_list(w, json_pack("{s:i}", "1", 5));
	nothing_is_asked(w);
}

static void many_graphs_take_turns(void **st)
{
	struct world *w = *st;
	char sql[200];
	for (int i = 2; i <= 100; i++) {
		snprintf(sql, sizeof(sql), "INSERT INTO NetworkApplication (na_id, na_name, na_idx, p_id) VALUES (%d, '', %d, 1)", i, i);
		script(w, sql);
	}
	arrive(w);
	assert_int_equal(w->ccm.drive->busy, 32);
	assert_int_equal(json_array_size(w->sent), 33); /* and the list */
	while (json_array_size(w->sent) > 0) {
		json_auto_t *topic = json_incref(json_array_get(json_array_get(w->sent, 0), 0));
		if (json_string_length(topic) == 0)
			json_array_remove(w->sent, 0); /* csm takes its time */
		else
			ok(w, json_string_value(topic), "attach");
		assert_true(w->ccm.drive->busy <= 32);
	}
	assert_int_equal(w->ccm.drive->repairs, 100);
	assert_int_equal(w->ccm.drive->busy + w->ccm.drive->waiting, 0);
}

static void functions_that_nobody_needs_are_forgotten_when_it_is_quiet(void **st)
{
	struct world *w = *st;
	make_graph(w);
	script(w, "UPDATE MultipleJoin_Module SET fn_id = 1");
	drive_touch(&w->ccm, 1);
	answer(w, G, asked(w, G, "attach"), "ok", NULL);
	ok(w, G, "add_funcs");
	ok(w, G, "add_link");
	ok(w, G, "add_link");
	graphs_forget_functions(w->ccm.drive);
	ok(w, G, "set_join");
	ok(w, G, "add_link");
	graphs_forget_functions(w->ccm.drive);
	nothing_is_asked(w);
	w->ccm.drive->added_ms -= 5000;
	graphs_forget_functions(w->ccm.drive);
	ok(w, "/graph/" DRIVE_TOOLS, "attach");
	json_auto_t *rm = asked(w, "/graph/" DRIVE_TOOLS, "rm_funcs");
	assert_int_equal(json_array_size(json_object_get(rm, "digests")), 2);
	assert_int_equal(json_object_size(w->ccm.drive->added), 0);
}

/* ---- monitors ---- */

static void expect_told(struct world *w, size_t n, const char *uuid, const char *topic)
{
	json_auto_t *one = json_pack("[s, s, s]", uuid, "monitor_anno", topic);
	assert_int_equal(json_array_size(w->heard), n);
	assert_true(json_equal(json_array_get(w->heard, n - 1), one));
}

static void watchers_get_the_topic_and_the_last_one_ends_it(void **st)
{
	struct world *w = *st;
	make_graph(w);
	drive_monitor(&w->ccm, 1, "gui-1");
	answer(w, G, asked(w, G, "attach"), "ok", state(w));
	answer(w, G, asked(w, G, "start_monitor"), "ok", json_pack("{s:s}", "monitor_topics", "m/1"));
	expect_told(w, 1, "gui-1", "m/1");
	json_auto_t *watched = state(w);
	json_object_set_new(json_object_get(watched, "graph"), "monitor_topics", json_string("m/1"));
	drive_monitor(&w->ccm, 1, "gui-2");
	answer(w, G, asked(w, G, "attach"), "ok", json_deep_copy(watched));
	nothing_is_asked(w);
	expect_told(w, 2, "gui-2", "m/1");
	drive_unmonitor(&w->ccm, "gui-1");
	nothing_is_asked(w);
	drive_unmonitor(&w->ccm, "gui-2");
	answer(w, G, asked(w, G, "attach"), "ok", json_deep_copy(watched));
	ok(w, G, "stop_monitor");
	nothing_is_asked(w);
	assert_int_equal(json_array_size(w->heard), 2);
}

static void a_graph_that_does_not_run_has_nothing_to_see_yet(void **st)
{
	struct world *w = *st;
	script(w, "UPDATE Project SET status = 'off'");
	arrive(w);
	answer_list(w, json_object());
	drive_monitor(&w->ccm, 1, "gui-1");
	expect_told(w, 1, "gui-1", "");
	script(w, "UPDATE Project SET status = 'on'");
	drive_touch_project(&w->ccm, 1);
	ok(w, G, "attach");
	answer(w, G, asked(w, G, "start_monitor"), "ok", json_pack("{s:s}", "monitor_topics", "m/1"));
	expect_told(w, 2, "gui-1", "m/1");
}

/* ---- checks ---- */

struct checked {
	int calls, rc;
	char why[200];
};

static void note_check(void *arg, int rc, const char *why)
{
	struct checked *k = arg;
	k->calls++;
	k->rc = rc;
	snprintf(k->why, sizeof(k->why), "%s", why != NULL ? why : "");
}

#define TOOLS "/graph/" DRIVE_TOOLS

static void code_is_checked_by_csm(void **st)
{
	struct world *w = *st;
	struct checked k = {0};
	drive_check_code(&w->ccm, "x", note_check, &k);
	assert_int_equal(k.rc, ERR_AGAIN);
	make_graph(w);
	static const struct {
		const char *state, *extra;
		int rc;
		const char *why;
	} cases[] = {
		{"ok", "{\"results\": [{\"state\": \"ok\"}]}", 0, ""},
		{"ok", "{\"results\": [{\"state\": \"error\", \"reason\": \"`run` not found\"}]}", ERR_INVAL, "`run` not found"},
		{"ok", "{\"results\": []}", ERR_AGAIN, "csm gave no reason"},
		{"error", "{\"reason\": \"no agent\"}", ERR_AGAIN, "no agent"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		k = (struct checked){0};
		drive_check_code(&w->ccm, "x", note_check, &k);
		ok(w, TOOLS, "attach");
		answer(w, TOOLS, asked(w, TOOLS, "check_funcs"), cases[i].state, json_loads(cases[i].extra, 0, NULL));
		assert_int_equal(k.calls, 1);
		assert_int_equal(k.rc, cases[i].rc);
		assert_string_equal(k.why, cases[i].why);
	}
}

static void checks_wait_for_each_other_and_not_for_ever(void **st)
{
	struct world *w = *st;
	struct checked k = {0}, long_one = {0};
	make_graph(w);
	for (int i = 0; i < 20; i++)
		drive_check_code(&w->ccm, "x", note_check, &k);
	assert_int_equal(json_array_size(w->sent), 16); /* eight, each with an attach */
	ok(w, TOOLS, "attach");
	answer(w, TOOLS, asked(w, TOOLS, "check_funcs"), "ok", json_pack("{s:[{s:s}]}", "results", "state", "ok"));
	assert_int_equal(k.calls, 1);
	assert_int_equal(json_array_size(w->sent), 16);
	drive_on_down(w->ccm.drive);
	assert_int_equal(k.calls, 20);
	assert_int_equal(k.rc, ERR_AGAIN);
	char *big = calloc(1, 256 * 1024 + 2);
	memset(big, '#', 256 * 1024 + 1);
	drive_check_code(&w->ccm, big, note_check, &long_one);
	assert_int_equal(long_one.rc, ERR_INVAL);
	free(big);
}

/* ---- the rest ---- */

static void the_last_word_is_a_detach_and_never_the_same(void **st)
{
	struct world *w = *st;
	struct bus_will a, b;
	assert_true(drive_will(w->ccm.drive, &a));
	assert_true(drive_will(w->ccm.drive, &b));
	assert_string_equal(a.topic, "iottalk/api/req/ccm/device");
	assert_int_equal(a.qos, 2);
	assert_false(a.retain);
	assert_string_not_equal(a.payload, b.payload);
	json_auto_t *body = json_loads(a.payload, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(body, "op")), "detach");
	assert_int_equal(a.len, strlen(a.payload));
}

static void a_request_that_the_broker_would_not_take_is_not_sent(void **st)
{
	struct world *w = *st;
	struct ref_text ref;
	struct err err;
	w->settings.broker.message_size_limit = 2048;
	json_t *big = json_pack("{s:s, s:s+}", "op", "x", "y", "0123456789", "0123456789");
	assert_int_equal(drive_send(w->ccm.drive, "", big, &ref, &err), 0);
	json_array_clear(w->sent);
	char text[1200];
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(drive_send(w->ccm.drive, "", json_pack("{s:s}", "op", text), &ref, &err), ERR_LIMIT);
	nothing_is_asked(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_snapshot_becomes_the_stores_devices),
		TEST(announcements_are_taken_and_passed_on),
		TEST(a_bound_device_that_is_back_has_its_graphs_looked_at),
		TEST(another_model_ends_bindings),
		TEST(a_detach_that_is_not_ours_is_answered_by_an_attach),
		TEST(a_graph_is_made_and_found_equal),
		TEST(functions_go_before_what_names_them_and_only_once),
		TEST(a_function_that_csm_forgot_is_sent_again),
		TEST(what_is_refused_waits_longer_each_time),
		TEST(a_project_that_is_off_has_no_graph),
		TEST(a_project_that_is_gone_has_no_graph),
		TEST(a_graph_of_another_owner_is_made_anew),
		TEST(a_change_during_a_pass_is_looked_at_after_it),
		TEST(a_late_refusal_and_answers_of_old_are_no_harm),
		TEST(every_function_that_is_edited_is_looked_for),
		TEST(the_list_finds_what_is_not_as_it_was),
		TEST(graphs_that_the_store_does_not_have_end),
		TEST(a_csm_that_tells_us_nothing_of_devices_is_attached_to),
		TEST(a_silent_csm_is_not_pestered_and_asked_anew_when_it_is_back),
		TEST(what_is_not_answered_in_time_is_asked_again),
		TEST(a_lost_connection_begins_all_anew),
		TEST(many_graphs_take_turns),
		TEST(functions_that_nobody_needs_are_forgotten_when_it_is_quiet),
		TEST(watchers_get_the_topic_and_the_last_one_ends_it),
		TEST(a_graph_that_does_not_run_has_nothing_to_see_yet),
		TEST(code_is_checked_by_csm),
		TEST(checks_wait_for_each_other_and_not_for_ever),
		TEST(the_last_word_is_a_detach_and_never_the_same),
		TEST(a_request_that_the_broker_would_not_take_is_not_sent),
	};
	return cmocka_run_group_tests_name("reconcile", tests, NULL, NULL);
}
