/* test_gui.c - the MQTT API of editors, its outside replaced: what is published is kept here, logins are made up. */
#include "ccm/gui/gui_int.h"
#include "common/log.h"
#include "common/schema.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define UUID	   "0e3c5d1a-9d6b-4f0e-8a55-3c1f7f6b2d10"
#define OTHER_UUID "1111111_-aaaa-BBBB-9999-zzzzzzzzzzzz"
#define REQUEST	   GUI_REQUEST_PREFIX UUID
#define ANSWER	   GUI_ANSWER_PREFIX UUID
#define TICKET	   "a ticket"
#define SESSION_MIN 10

struct bench {
	struct ccm ccm;
	struct settings settings;
	struct gui *gui;
	json_t *sent;	  /* [[topic, text], ...] not yet looked at */
	json_t *left;	  /* [uuid, ...] */
	struct op_call *slow; /* waits */
};

static struct bench *bench; /* of the test that runs: the port's functions know the ccm only */

/* ---- outside ---- */

static int64_t user_of(struct ccm *ccm, const char *ticket, const char *uuid)
{
	assert_ptr_equal(ccm, &bench->ccm);
	if (strcmp(ticket, "of a user that is gone") == 0)
		return 4711;
	if (strcmp(ticket, "while the disk is bad") == 0)
		return ERR_DB;
	return strcmp(ticket, TICKET) == 0 && strcmp(uuid, UUID) == 0 ? 1 : 0;
}

static int publish(struct ccm *ccm, const char *topic, const char *text, size_t len, struct err *err)
{
	(void)ccm, (void)err;
	assert_int_equal(strlen(text), len);
	json_array_append_new(bench->sent, json_pack("[s, s]", topic, text));
	return 0;
}

static void left(struct ccm *ccm, const char *uuid)
{
	(void)ccm;
	json_array_append_new(bench->left, json_string(uuid));
}

static const struct gui_port port = {.user_of = user_of, .publish = publish, .left = left};

/* ---- operations ---- */

static int run_echo(struct op_call *c)
{
	json_t *all = json_pack("{s:O, s:I, s:b, s:s}", "args", c->args, "u_id", (json_int_t)c->who.u_id, "is_admin",
				c->who.is_admin, "gui", c->who.gui);
	return op_result(c, all);
}

static int run_spoil(struct op_call *c)
{
	json_array_clear(json_object_get(c->args, "list"));
	return err_set(&c->err, ERR_NOENT, "project 7 not found");
}

static int run_null(struct op_call *c)
{
	(void)c;
	return 0;
}

static int run_many(struct op_call *c)
{
	json_t *list = json_array();
	for (json_int_t i = 0; i < op_int(c, "n"); i++)
		json_array_append_new(list, json_string("0123456789012345678901234567890123456789"));
	return op_result(c, list);
}

static void prepare_slow(struct op_call *c)
{
	bench->slow = c;
}

static const struct op echo = {.name = "echo", .run = run_echo}, spoil = {.name = "spoil", .run = run_spoil},
		       null = {.name = "null", .run = run_null, .reads = true}, many = {.name = "many", .run = run_many, .reads = true},
		       slow = {.name = "slow", .run = run_echo, .prepare = prepare_slow};

static const struct field echo_args[] = {{"p_id", .type = FIELD_INT, .flags = FIELD_OPTIONAL},
					 {"min", .type = FIELD_NUMBER, .flags = FIELD_OPTIONAL},
					 {"fn_id", .type = FIELD_INT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
					 {"name", .type = FIELD_STR, .flags = FIELD_OPTIONAL},
					 {"dfo_ids", .type = FIELD_LIST, .flags = FIELD_OPTIONAL, .item = FIELD_INT},
					 {0}};
static const struct field spoil_args[] = {{"list", .type = FIELD_LIST}, {0}};
static const struct field many_args[] = {{"n", .type = FIELD_INT}, {0}};
static const struct gui_op first_ops[] = {{"echo", &echo, echo_args}, {"spoil", &spoil, spoil_args}, {"null", &null, NULL}, {0}};
static const struct gui_op second_ops[] = {{"many", &many, many_args}, {"slow", &slow, echo_args}, {0}};
static const struct gui_op *const tables[] = {first_ops, second_ops, NULL};

/* ---- the bench ---- */

static void note(void *arg, bool is_error, const char *text)
{
	(void)arg, (void)is_error, (void)text;
}

static int setup(void **state)
{
	struct bench *b = bench = calloc(1, sizeof(*b));
	struct err err = {0};
	assert_int_equal(settings_load(NULL, &b->settings, note, NULL, &err), 0);
	free(b->settings.gui_db.url);
	b->settings.gui_db.url = strdup(":memory:");
	b->settings.gui.session_timeout_min = SESSION_MIN;
	b->settings.broker.message_size_limit = 8192;
	b->ccm.settings = &b->settings;
	b->sent = json_array();
	b->left = json_array();
	assert_int_equal(loop_new(&b->ccm.loop, &err), 0);
	assert_int_equal(schema_open(&b->settings, SCHEMA_CCM, &b->ccm.db, &err), 0);
	assert_int_equal(db_script(b->ccm.db, "INSERT INTO User (u_name) VALUES ('ann')", &err), 0);
	assert_int_equal(gui_new_with(&b->ccm, &port, tables, &b->gui, &err), 0);
	b->ccm.gui = b->gui;
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	gui_free(b->gui);
	db_close(b->ccm.db);
	loop_free(b->ccm.loop);
	settings_done(&b->settings);
	json_decref(b->sent);
	json_decref(b->left);
	free(b);
	return 0;
}

static void say_on(struct bench *b, const char *topic, const char *text)
{
	gui_on_message(b->gui, &(struct bus_msg){.topic = topic, .payload = text, .len = strlen(text), .qos = 2});
}

/* A request in JSON with ' for ", as JSON cannot be read in C. */
static void say(struct bench *b, const char *text)
{
	char json[4096];
	snprintf(json, sizeof(json), "%s", text);
	for (char *p = json; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	say_on(b, REQUEST, json);
}

static json_t *pop_on(struct bench *b, const char *topic)
{
	json_t *first = json_array_get(b->sent, 0);
	if (first == NULL)
		fail_msg("nothing was sent");
	assert_string_equal(json_string_value(json_array_get(first, 0)), topic);
	json_t *message = json_loads(json_string_value(json_array_get(first, 1)), JSON_ALLOW_NUL, NULL);
	assert_non_null(message);
	json_array_remove(b->sent, 0);
	return message;
}

static void expect_on(struct bench *b, const char *topic, const char *want)
{
	char json[4096];
	snprintf(json, sizeof(json), "%s", want);
	for (char *p = json; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	json_auto_t *wanted = json_loads(json, JSON_ALLOW_NUL, NULL), *got = pop_on(b, topic);
	assert_non_null(wanted);
	CLEANUP(freep) char *a = json_dumps(wanted, JSON_SORT_KEYS), *g = json_dumps(got, JSON_SORT_KEYS);
	assert_string_equal(g, a);
}

static void expect(struct bench *b, const char *want)
{
	expect_on(b, ANSWER, want);
}

static void expect_nothing(struct bench *b)
{
	assert_int_equal(json_array_size(b->sent), 0);
}

static void attach(struct bench *b)
{
	say(b, "{'op': 'attach'}");
	expect(b, "{'op': 'attach', 'state': 'ok'}");
}

/* ---- what is promised ---- */

static void every_attach_is_answered(void **state)
{
	struct bench *b = *state;
	for (int i = 0; i < 3; i++) {
		say(b, "{'op': 'attach', 'flag': 7, 'data': null, 'req_timestamp': 'then', 'state': 'x'}");
		expect(b, "{'op': 'attach', 'flag': 7, 'data': null, 'req_timestamp': 'then', 'state': 'ok'}");
	}
	assert_int_equal(gui_clients_count(b->gui->clients), 1);
	for (int i = 0; i < 2; i++) {
		say(b, "{'op': 'detach', 'data': {'credential_id': 'c'}}");
		expect(b, "{'op': 'detach', 'data': {'credential_id': 'c'}, 'state': 'ok'}");
	}
	assert_int_equal(gui_clients_count(b->gui->clients), 0);
	assert_int_equal(json_array_size(b->left), 1);
	assert_string_equal(json_string_value(json_array_get(b->left, 0)), UUID);
}

static void an_answer_is_the_request_with_state_and_data(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'echo', 'flag': {'any': [1]}, '_id': 'a ticket', 'req_timestamp': 12, 'more': null, 'data': {'p_id': 3}}");
	expect(b, "{'op': 'echo', 'flag': {'any': [1]}, '_id': 'a ticket', 'req_timestamp': 12, 'more': null, 'state': 'ok',"
		  " 'data': {'args': {'p_id': 3}, 'u_id': 1, 'is_admin': false, 'gui': '" UUID "'}}");
	say(b, "{'op': 'null', '_id': 'a ticket'}");
	expect(b, "{'op': 'null', '_id': 'a ticket', 'state': 'ok', 'data': null}");
	say(b, "{'op': 'null', '_id': 'a ticket', 'data': null}");
	expect(b, "{'op': 'null', '_id': 'a ticket', 'state': 'ok', 'data': null}");
	say(b, "{'op': 'null', '_id': 'a ticket', 'data': {'ctx': {'a': 1}}}");
	expect(b, "{'op': 'null', '_id': 'a ticket', 'state': 'ok', 'data': null}");
}

static void who_may_do_more_is_known(void **state)
{
	struct bench *b = *state;
	assert_int_equal(db_script(b->ccm.db, "UPDATE User SET is_admin = 1", NULL), 0);
	attach(b);
	say(b, "{'op': 'echo', '_id': 'a ticket'}");
	expect(b, "{'op': 'echo', '_id': 'a ticket', 'state': 'ok',"
		  " 'data': {'args': {}, 'u_id': 1, 'is_admin': true, 'gui': '" UUID "'}}");
}

static void an_error_gives_the_request_back(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'spoil', 'flag': 1, '_id': 'a ticket', 'data': {'list': [1, 2], 'ctx': 5}}");
	expect(b, "{'op': 'spoil', 'flag': 1, '_id': 'a ticket', 'data': {'list': [1, 2], 'ctx': 5},"
		  " 'state': 'error', 'msg': 'project 7 not found'}");
}

static void strangers_are_told_to_attach_and_to_log_in(void **state)
{
	struct bench *b = *state;
	say(b, "{'op': 'echo', 'flag': 3, '_id': 'a ticket', 'data': {'p_id': 1}}");
	expect(b, "{'op': 'anno', 'flag': 3, '_id': 'a ticket', 'data': {'p_id': 1},"
		  " 'state': 'Authentication Fail', 'msg': 'Please attach first.'}");
	say(b, "{'op': 'no such op'}");
	expect(b, "{'op': 'anno', 'state': 'Authentication Fail', 'msg': 'Please attach first.'}");
	attach(b);
	static const char *const strangers[] = {"'wrong'", "''", "null", "17", "{}", "'of a user that is gone'", "'a ticket\\u0000'"};
	for (size_t i = 0; i < ARRAY_LEN(strangers); i++) {
		char request[200], want[300];
		snprintf(request, sizeof(request), "{'op': 'echo', '_id': %s}", strangers[i]);
		snprintf(want, sizeof(want), "{'op': 'anno', '_id': %s, 'state': 'Authentication failed', 'msg': 'Please login first.'}",
			 strangers[i]);
		say(b, request);
		expect(b, want);
	}
	say(b, "{'op': 'detach'}");
	json_array_clear(b->sent);
	say(b, "{'op': 'echo', '_id': 'a ticket'}");
	expect(b, "{'op': 'anno', '_id': 'a ticket', 'state': 'Authentication Fail', 'msg': 'Please attach first.'}");
}

static void a_login_that_cannot_be_looked_up_is_an_error(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'echo', '_id': 'while the disk is bad'}");
	expect(b, "{'op': 'echo', '_id': 'while the disk is bad', 'state': 'error', 'msg': 'the store failed: try again'}");
}

static void a_ticket_is_of_one_client(void **state)
{
	struct bench *b = *state;
	say_on(b, GUI_REQUEST_PREFIX OTHER_UUID, "{\"op\": \"attach\"}");
	expect_on(b, GUI_ANSWER_PREFIX OTHER_UUID, "{'op': 'attach', 'state': 'ok'}");
	say_on(b, GUI_REQUEST_PREFIX OTHER_UUID, "{\"op\": \"echo\", \"_id\": \"" TICKET "\"}");
	expect_on(b, GUI_ANSWER_PREFIX OTHER_UUID,
		  "{'op': 'anno', '_id': 'a ticket', 'state': 'Authentication failed', 'msg': 'Please login first.'}");
}

static void some_messages_have_no_answer(void **state)
{
	struct bench *b = *state;
	static const char *const messages[] = {"",   "{",	     "[]",	   "7",		    "\"attach\"",
					       "{}", "{'data': 1}", "{'_id': 'a ticket', 'data': {}}", "{'op': 'echo', 'data': {}}"};
	static const char *const topics[] = {
		GUI_REQUEST_PREFIX,
		GUI_REQUEST_PREFIX "x",
		GUI_REQUEST_PREFIX UUID "0",
		GUI_REQUEST_PREFIX "0e3c5d1a-9d6b-4f0e-8a55-3c1f7f6b2d1",
		GUI_REQUEST_PREFIX "0e3c5d1a09d6b-4f0e-8a55-3c1f7f6b2d10",
		GUI_REQUEST_PREFIX "0e3c5d1a-9d6b-4f0e-8a55-3c1f7f6b2d1-",
		GUI_REQUEST_PREFIX "0e3c5d1a-9d6b-4f0e-8a55-3c1f7f6b2d\xc3\xa4",
	};
	attach(b);
	for (size_t i = 0; i < ARRAY_LEN(messages); i++)
		say(b, messages[i]);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		say_on(b, topics[i], "{\"op\": \"attach\"}");
	gui_on_message(b->gui, &(struct bus_msg){.topic = REQUEST, .payload = "{\"op\": \"attach\"}", .len = 16, .retained = true});
	expect_nothing(b);
	assert_int_equal(gui_clients_count(b->gui->clients), 1);
}

static void unknown_ops_and_bad_arguments_are_errors(void **state)
{
	struct bench *b = *state;
	static const struct {
		const char *request, *msg;
	} cases[] = {
		{"{'op': 'echoes', '_id': 'a ticket'}", "unknown op"},
		{"{'op': '', '_id': 'a ticket'}", "unknown op"},
		{"{'op': 'unknown', '_id': 'a ticket'}", "unknown op"},
		{"{'op': null, '_id': 'a ticket'}", "unknown op"},
		{"{'op': ['echo'], '_id': 'a ticket'}", "unknown op"},
		{"{'op': 'echo', '_id': 'a ticket', 'data': []}", "it must be a JSON object"},
		{"{'op': 'echo', '_id': 'a ticket', 'data': 'p_id'}", "it must be a JSON object"},
		{"{'op': 'echo', '_id': 'a ticket', 'data': {'q_id': 1}}", "`q_id` is not a known field"},
		{"{'op': 'echo', '_id': 'a ticket', 'data': {'p_id': '1x'}}", "`p_id` must be an integer"},
		{"{'op': 'echo', '_id': 'a ticket', 'data': {'p_id': true}}", "`p_id` must be an integer"},
		{"{'op': 'echo', '_id': 'a ticket', 'data': {'dfo_ids': ['1', '']}}", "`dfo_ids[1]` must be an integer"},
		{"{'op': 'null', '_id': 'a ticket', 'data': {'p_id': 1}}", "`p_id` is not a known field"},
		{"{'op': 'many', '_id': 'a ticket'}", "`n` is missing"},
	};
	attach(b);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		say(b, cases[i].request);
		json_auto_t *got = pop_on(b, ANSWER);
		assert_string_equal(json_string_value(json_object_get(got, "state")), "error");
		assert_string_equal(json_string_value(json_object_get(got, "msg")), cases[i].msg);
	}
}

static void numbers_may_be_strings(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'echo', '_id': 'a ticket', 'data': {'p_id': '12', 'min': '-1.5', 'fn_id': null, 'name': '7', 'dfo_ids': ['1', 2]}}");
	expect(b, "{'op': 'echo', '_id': 'a ticket', 'state': 'ok', 'data': {'args': {'p_id': 12, 'min': -1.5, 'fn_id': null, 'name': '7',"
		  " 'dfo_ids': [1, 2]}, 'u_id': 1, 'is_admin': false, 'gui': '" UUID "'}}");
}

static void an_answer_that_the_broker_would_not_take_is_an_error(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'many', '_id': 'a ticket', 'flag': 9, 'data': {'n': 150}}");
	json_auto_t *fits = pop_on(b, ANSWER);
	assert_int_equal(json_array_size(json_object_get(fits, "data")), 150);
	say(b, "{'op': 'many', '_id': 'a ticket', 'flag': 9, 'data': {'n': 300}}");
	expect(b, "{'op': 'many', '_id': 'a ticket', 'flag': 9, 'data': null, 'state': 'error',"
		  " 'msg': 'the answer is too large: 12961 bytes, and the broker takes 8192'}");
}

static void an_error_of_a_large_request_stays_that_error(void **state)
{
	struct bench *b = *state;
	char request[8192];
	attach(b);
	snprintf(request, sizeof(request), "{\"op\": \"spoil\", \"flag\": 4, \"_id\": \"" TICKET "\", \"data\": {\"list\": [\"%08000d\"]}}", 0);
	say_on(b, REQUEST, request);
	expect(b, "{'op': 'spoil', 'flag': 4, '_id': 'a ticket', 'data': null, 'state': 'error', 'msg': 'project 7 not found'}");
}

static void what_takes_time_is_answered_when_it_is_over(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'slow', '_id': 'a ticket', 'flag': 1}");
	struct op_call *first = b->slow;
	say(b, "{'op': 'slow', '_id': 'a ticket', 'flag': 2}");
	struct op_call *second = b->slow;
	expect_nothing(b);
	op_go_on(first);
	expect(b, "{'op': 'slow', '_id': 'a ticket', 'flag': 1, 'state': 'ok',"
		  " 'data': {'args': {}, 'u_id': 1, 'is_admin': false, 'gui': '" UUID "'}}");
	op_fail(second, err_set(&second->err, ERR_AGAIN, "not now"));
	expect(b, "{'op': 'slow', '_id': 'a ticket', 'flag': 2, 'state': 'error', 'msg': 'not now'}");
	assert_int_equal(b->gui->n_asked, 0);
}

static void too_many_that_take_time_are_refused(void **state)
{
	struct bench *b = *state;
	struct op_call *calls[257];
	attach(b);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		say(b, "{'op': 'slow', '_id': 'a ticket'}");
		calls[i] = b->slow;
	}
	json_auto_t *refusal = pop_on(b, ANSWER);
	assert_string_equal(json_string_value(json_object_get(refusal, "msg")), "too many requests are under way: try again");
	expect_nothing(b);
	for (size_t i = 0; i < ARRAY_LEN(calls) - 1; i++)
		op_go_on(calls[i * 7 % 256]); /* in some other order */
	assert_int_equal(json_array_size(b->sent), 256);
	say(b, "{'op': 'slow', '_id': 'a ticket'}");
	op_go_on(b->slow);
	assert_int_equal(json_array_size(b->sent), 257);
}

static void an_answer_may_come_when_nobody_is_left(void **state)
{
	struct bench *b = *state;
	attach(b);
	say(b, "{'op': 'slow', '_id': 'a ticket'}");
	struct op_call *first = b->slow;
	say(b, "{'op': 'slow', '_id': 'a ticket'}");
	struct op_call *second = b->slow;
	b->gui = gui_free(b->gui);
	op_go_on(first);
	op_fail(second, err_set(&second->err, ERR_AGAIN, "not now"));
	expect_nothing(b);
}

static void announcements_reach_those_who_are_attached(void **state)
{
	struct bench *b = *state;
	gui_alias_changed(&b->ccm, 5);
	gui_tell(b->gui, UUID, "monitor_anno", json_string("a/topic"));
	expect_nothing(b);
	attach(b);
	say_on(b, GUI_REQUEST_PREFIX OTHER_UUID, "{\"op\": \"attach\"}");
	json_array_clear(b->sent);
	gui_alias_changed(&b->ccm, 5);
	expect(b, "{'op': 'anno', 'type': 'change_alias', 'data': {'dfo_id': 5}}");
	expect_on(b, GUI_ANSWER_PREFIX OTHER_UUID, "{'op': 'anno', 'type': 'change_alias', 'data': {'dfo_id': 5}}");
	gui_tell(b->gui, OTHER_UUID, "monitor_anno", json_string("a/topic"));
	expect_on(b, GUI_ANSWER_PREFIX OTHER_UUID, "{'op': 'anno', 'type': 'monitor_anno', 'data': 'a/topic'}");
	say(b, "{'op': 'detach'}");
	json_array_clear(b->sent);
	gui_announce(b->gui, "online", json_pack("{s:i}", "d_id", 1));
	expect_on(b, GUI_ANSWER_PREFIX OTHER_UUID, "{'op': 'anno', 'type': 'online', 'data': {'d_id': 1}}");
	expect_nothing(b);
}

static void metrics_tell_what_was_asked(void **state)
{
	struct bench *b = *state;
	CLEANUP(freep) char *page = NULL;
	size_t size;
	FILE *out = open_memstream(&page, &size);
	attach(b);
	say(b, "{'op': 'null', '_id': 'a ticket'}");
	say(b, "{'op': 'null', '_id': 'nobody'}");
	say(b, "{'op': 'null', '_id': 'a ticket', 'data': 7}");
	say(b, "{'op': 'no such op', '_id': 'a ticket'}");
	say(b, "nonsense");
	gui_write_metrics(b->gui, out);
	fclose(out);
	static const char *const lines[] = {
		"iottalk_ccm_gui_clients 1\n",
		"iottalk_ccm_gui_dropped_total 1\n",
		"iottalk_ccm_gui_requests_total{op=\"attach\",state=\"ok\"} 1\n",
		"iottalk_ccm_gui_requests_total{op=\"null\",state=\"ok\"} 1\n",
		"iottalk_ccm_gui_requests_total{op=\"null\",state=\"error\"} 2\n",
		"iottalk_ccm_gui_requests_total{op=\"unknown\",state=\"error\"} 1\n",
		"iottalk_ccm_gui_request_seconds_count{op=\"null\"} 3\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		if (strstr(page, lines[i]) == NULL)
			fail_msg("no %s in %s", lines[i], page);
}

static void two_ops_of_one_name_are_noticed(void **state)
{
	struct bench *b = *state;
	static const struct gui_op *const twice[] = {first_ops, first_ops, NULL};
	struct gui *g = NULL;
	struct err err = {0};
	assert_int_equal(gui_new_with(&b->ccm, &port, twice, &g, &err), ERR_EXIST);
	assert_string_equal(err.text, "two gui ops are named echo");
	assert_null(g);
}

static void the_real_tables_have_no_name_twice(void **state)
{
	struct bench *b = *state;
	struct gui *g = NULL;
	struct err err = {0};
	if (gui_new(&b->ccm, &g, &err) < 0)
		fail_msg("%s", err.text);
	gui_free(g);
}

/* ---- who is attached ---- */

static void note_left(void *arg, const char *uuid, bool forgotten)
{
	json_array_append_new(arg, json_sprintf("%s%s", forgotten ? "forgot " : "", uuid));
}

static struct uuid36 {
	char s[GUI_UUID_LEN + 1];
} numbered(unsigned n)
{
	struct uuid36 u;
	snprintf(u.s, sizeof(u.s), "%08u-0000-0000-0000-000000000000", n);
	return u;
}

static void the_silent_are_forgotten(void **state)
{
	(void)state;
	json_auto_t *gone = json_array();
	struct gui_clients *c = gui_clients_new(note_left, gone);
	assert_int_equal(gui_clients_attach(c, numbered(1).s, 100), 0);
	assert_int_equal(gui_clients_attach(c, numbered(2).s, 100), 0);
	assert_int_equal(gui_clients_attach(c, numbered(3).s, 100), 0);
	assert_true(gui_clients_heard(c, numbered(2).s, 200));
	assert_int_equal(gui_clients_attach(c, numbered(3).s, 200), 0);
	assert_false(gui_clients_heard(c, numbered(4).s, 200));
	gui_clients_expire(c, 100);
	assert_int_equal(gui_clients_count(c), 3);
	gui_clients_expire(c, 101);
	assert_int_equal(gui_clients_count(c), 2);
	assert_false(gui_clients_has(c, numbered(1).s));
	gui_clients_detach(c, numbered(2).s);
	gui_clients_detach(c, numbered(2).s);
	CLEANUP(freep) char *told = json_dumps(gone, 0);
	assert_string_equal(told, "[\"forgot 00000001-0000-0000-0000-000000000000\", \"00000002-0000-0000-0000-000000000000\"]");
	gui_clients_free(c);
}

static void there_is_room_for_so_many(void **state)
{
	(void)state;
	json_auto_t *gone = json_array();
	struct gui_clients *c = gui_clients_new(note_left, gone);
	for (unsigned i = 0; i < GUI_CLIENTS_MAX; i++)
		assert_int_equal(gui_clients_attach(c, numbered(i).s, 1000 + i), 0);
	gui_clients_logged_in(c, numbered(0).s); /* silent longest, but a user's */
	assert_int_equal(gui_clients_attach(c, numbered(5).s, 9000), 0);
	assert_int_equal(json_array_size(gone), 0);
	for (unsigned i = 0; i < 2 * GUI_CLIENTS_MAX; i++)
		assert_int_equal(gui_clients_attach(c, numbered(GUI_CLIENTS_MAX + i).s, 10000 + i), 0);
	assert_int_equal(gui_clients_count(c), GUI_CLIENTS_MAX);
	assert_int_equal(json_array_size(gone), 2 * GUI_CLIENTS_MAX);
	assert_string_equal(json_string_value(json_array_get(gone, 0)), "forgot 00000001-0000-0000-0000-000000000000");
	assert_string_equal(json_string_value(json_array_get(gone, 4)), "forgot 00000006-0000-0000-0000-000000000000");
	assert_true(gui_clients_has(c, numbered(0).s));
	gui_clients_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_attach_is_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_is_the_request_with_state_and_data, setup, teardown),
		cmocka_unit_test_setup_teardown(who_may_do_more_is_known, setup, teardown),
		cmocka_unit_test_setup_teardown(an_error_gives_the_request_back, setup, teardown),
		cmocka_unit_test_setup_teardown(strangers_are_told_to_attach_and_to_log_in, setup, teardown),
		cmocka_unit_test_setup_teardown(a_login_that_cannot_be_looked_up_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(a_ticket_is_of_one_client, setup, teardown),
		cmocka_unit_test_setup_teardown(some_messages_have_no_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_ops_and_bad_arguments_are_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(numbers_may_be_strings, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_that_the_broker_would_not_take_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(an_error_of_a_large_request_stays_that_error, setup, teardown),
		cmocka_unit_test_setup_teardown(what_takes_time_is_answered_when_it_is_over, setup, teardown),
		cmocka_unit_test_setup_teardown(too_many_that_take_time_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_may_come_when_nobody_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(announcements_reach_those_who_are_attached, setup, teardown),
		cmocka_unit_test_setup_teardown(metrics_tell_what_was_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(two_ops_of_one_name_are_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(the_real_tables_have_no_name_twice, setup, teardown),
		cmocka_unit_test(the_silent_are_forgotten),
		cmocka_unit_test(there_is_room_for_so_many),
	};
	log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests_name("gui", tests, NULL, NULL);
}
