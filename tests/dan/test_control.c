#include "common/util.h"
#include "dan/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
/* after the four above */
#include <cmocka.h>

static int parse(const char *text, struct control *ret, struct err *err)
{
	return control_parse(text, strlen(text), ret, err);
}

static void reads_every_command(void **state)
{
	static const struct {
		const char *text;
		enum control_command command;
		enum dan_mode mode;
		const char *feature, *topic;
	} cases[] = {
		{"{\"msg_id\":\"m\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"iottalk/"
		 "esm/1\"}",
		 CONTROL_CONNECT, DAN_IDF, "meow", "iottalk/esm/1"},
		{"{\"msg_id\":\"m\",\"odf\":\"meow\",\"command\":\"DISCONNECT\",\"topic\":\"t\"}",
		 CONTROL_DISCONNECT, DAN_ODF, "meow", "t"},
		{"{\"msg_id\":1,\"odf\":\"a-b\",\"command\":\"DISCONNECT\"}", CONTROL_DISCONNECT,
		 DAN_ODF, "a-b", NULL},
		{"{\"msg_id\":null,\"idf\":\"x\",\"command\":\"SUSPEND\",\"topic\":null}",
		 CONTROL_SUSPEND, DAN_IDF, "x", NULL},
		{"{\"msg_id\":\"m\",\"idf\":\"x\",\"command\":\"RESUME\",\"more\":[1]}",
		 CONTROL_RESUME, DAN_IDF, "x", NULL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct control c;
		struct err err = {0};
		if (parse(cases[i].text, &c, &err) != 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_int_equal(c.command, cases[i].command);
		assert_int_equal(c.mode, cases[i].mode);
		assert_string_equal(c.feature, cases[i].feature);
		if (cases[i].topic == NULL)
			assert_null(c.topic);
		else
			assert_string_equal(c.topic, cases[i].topic);
		assert_non_null(c.msg_id);
		control_done(&c);
	}
}

static void refuses_what_is_no_command_and_keeps_its_msg_id(void **state)
{
	static const struct {
		const char *text;
		int code;
		bool msg_id;
	} cases[] = {
		{"", ERR_PARSE, false},
		{"not json", ERR_PARSE, false},
		{"[]", ERR_PARSE, false},
		{"\"CONNECT\"", ERR_PARSE, false},
		{"{}", ERR_SCHEMA, false},
		{"{\"idf\":\"a\",\"command\":\"CONNECT\",\"topic\":\"t\"}", ERR_SCHEMA, false},
		{"{\"msg_id\":\"m\",\"command\":\"CONNECT\",\"topic\":\"t\"}", ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"odf\":\"a\",\"command\":\"CONNECT\",\"topic\":"
		 "\"t\"}",
		 ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":7,\"command\":\"CONNECT\",\"topic\":\"t\"}", ERR_SCHEMA,
		 true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"topic\":\"t\"}", ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"command\":\"connect\",\"topic\":\"t\"}",
		 ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"command\":\"CONNECT\"}", ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"command\":\"CONNECT\",\"topic\":\"\"}",
		 ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"command\":\"CONNECT\",\"topic\":\"a/#\"}",
		 ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"command\":\"CONNECT\",\"topic\":\"+\"}",
		 ERR_SCHEMA, true},
		{"{\"msg_id\":\"m\",\"idf\":\"a\",\"command\":\"DISCONNECT\",\"topic\":5}",
		 ERR_SCHEMA, true},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct control c;
		struct err err = {0};
		int rc = parse(cases[i].text, &c, &err);
		if (rc != cases[i].code)
			fail_msg("%s: got %s", cases[i].text, err_name(rc));
		assert_string_not_equal(err.text, "");
		assert_int_equal(c.msg_id != NULL, cases[i].msg_id);
		control_done(&c);
	}
}

static void survives_deep_nesting_and_odd_bytes(void **state)
{
	static char deep[50000];
	static const char nul[] =
		"{\"msg_id\":\"m\",\"idf\":\"a\\u0000b\",\"command\":\"SUSPEND\"}";
	static const char bad_utf8[] =
		"{\"msg_id\":\"m\",\"idf\":\"\xff\xfe\",\"command\":\"SUSPEND\"}";
	struct control c;
	(void)state;
	memset(deep, '[', sizeof(deep));
	assert_int_equal(control_parse(deep, sizeof(deep), &c, NULL), ERR_PARSE);
	control_done(&c);
	assert_int_equal(control_parse(nul, sizeof(nul) - 1, &c, NULL), ERR_PARSE);
	control_done(&c);
	assert_int_equal(control_parse(bad_utf8, sizeof(bad_utf8) - 1, &c, NULL), ERR_PARSE);
	control_done(&c);
	assert_int_equal(control_parse("{}\0{}", 5, &c, NULL), ERR_PARSE);
	control_done(&c);
}

static void answers_repeat_the_msg_id_as_it_came(void **state)
{
	json_auto_t *text_id = json_string("m-1"), *number_id = json_integer(12);
	CLEANUP(freep)
	char *ok = control_answer(text_id, NULL);
	CLEANUP(freep)
	char *refused = control_answer(number_id, "feature 'x' unknown");
	(void)state;
	assert_string_equal(ok, "{\"msg_id\":\"m-1\",\"state\":\"ok\"}");
	assert_string_equal(
		refused, "{\"msg_id\":12,\"state\":\"error\",\"reason\":\"feature 'x' unknown\"}");
}

static void states_carry_the_rev(void **state)
{
	CLEANUP(freep)
	char *online = control_state(true, "r1"), *offline = control_state(false, "r1");
	(void)state;
	assert_string_equal(online, "{\"state\":\"online\",\"rev\":\"r1\"}");
	assert_string_equal(offline, "{\"state\":\"offline\",\"rev\":\"r1\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_command),
		cmocka_unit_test(refuses_what_is_no_command_and_keeps_its_msg_id),
		cmocka_unit_test(survives_deep_nesting_and_odd_bytes),
		cmocka_unit_test(answers_repeat_the_msg_id_as_it_came),
		cmocka_unit_test(states_carry_the_rev),
	};
	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
