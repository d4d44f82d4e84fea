#include "common/util.h"
#include "dan/registration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the four above */
#include <cmocka.h>

#define ANSWER(more)                                                                             \
	"{\"id\":\"i\",\"state\":\"ok\",\"rev\":\"r\",\"name\":\"00.Cat\",\"url\":{\"scheme\":"  \
	"\"mqtt\",\"host\":\"h\","                                                               \
	"\"port\":1883,\"ws_scheme\":\"ws\",\"ws_port\":1884},\"ctrl_chans\":[\"i/ctrl/i\",\"i/" \
	"ctrl/o\"]" more "}"

#define MANY 100000

static const char *const one_unit[] = {"dB", NULL};
static const char *const no_units[] = {NULL};

static void body_holds_feature_tuples(void **state)
{
	static const struct dan_feature idfs[] = {{"meow", one_unit}, {"purr", NULL}};
	static const struct dan_feature odfs[] = {{"meow", no_units}};
	json_auto_t *profile = json_pack("{s:s}", "model", "Cat");
	const struct dan_conf conf = {.name = "Tom",
				      .idfs = idfs,
				      .n_idfs = 2,
				      .odfs = odfs,
				      .n_odfs = 1,
				      .profile = profile};
	CLEANUP(freep)
	char *body = NULL;
	(void)state;
	assert_int_equal(registration_body(&conf, &body, NULL), 0);
	assert_string_equal(
		body,
		"{\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"Cat\"},\"name\":\"Tom\","
		"\"idf_list\":[[\"meow\",[\"dB\"]],[\"purr\",null]],\"odf_list\":[[\"meow\",[]]]}");
}

static void body_leaves_out_what_is_empty(void **state)
{
	json_auto_t *profile = json_pack("{s:s}", "model", "Cat");
	const struct dan_conf conf = {.profile = profile};
	CLEANUP(freep)
	char *body = NULL;
	(void)state;
	assert_int_equal(registration_body(&conf, &body, NULL), 0);
	assert_string_equal(body, "{\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"Cat\"}}");
}

static void body_refuses_what_csm_would(void **state)
{
	static char long_name[257];
	memset(long_name, 'x', 256);
	const struct {
		const char *why, *profile;
		struct dan_feature list[2];
		size_t n;
	} cases[] = {
		{"no model", "{}", {{"a", NULL}}, 1},
		{"model is no string", "{\"model\":1}", {{"a", NULL}}, 1},
		{"profile is no object", "[]", {{"a", NULL}}, 1},
		{"empty name", "{\"model\":\"m\"}", {{"", NULL}}, 1},
		{"long name", "{\"model\":\"m\"}", {{long_name, NULL}}, 1},
		{"slash", "{\"model\":\"m\"}", {{"a/b", NULL}}, 1},
		{"plus", "{\"model\":\"m\"}", {{"a+", NULL}}, 1},
		{"control character", "{\"model\":\"m\"}", {{"a\nb", NULL}}, 1},
		{"not UTF-8", "{\"model\":\"m\"}", {{"\xff", NULL}}, 1},
		{"twice", "{\"model\":\"m\"}", {{"a", NULL}, {"a", NULL}}, 2},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_auto_t *profile = json_loads(cases[i].profile, 0, NULL);
		const struct dan_conf conf = {
			.odfs = cases[i].list, .n_odfs = cases[i].n, .profile = profile};
		char *body = NULL;
		int rc = registration_body(&conf, &body, NULL);
		if (rc != ERR_SCHEMA)
			fail_msg("%s: got %s", cases[i].why, err_name(rc));
		assert_null(body);
	}
}

/* Of a device with very many points; each must not be compared with all others. */
static void many_features_are_looked_through_once(void **state)
{
	static struct dan_feature list[MANY];
	static char names[MANY][12];
	json_auto_t *profile = json_pack("{s:s}", "model", "m");
	const struct dan_conf conf = {.idfs = list, .n_idfs = MANY, .profile = profile};
	CLEANUP(freep)
	char *body = NULL;
	struct err err = {0};
	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "f%u", MANY - i);
		list[i].name = names[i];
	}
	assert_int_equal(registration_body(&conf, &body, &err), 0);
	json_auto_t *doc = json_loads(body, 0, NULL);
	const json_t *told = json_object_get(doc, "idf_list");
	assert_int_equal(json_array_size(told), MANY);
	assert_string_equal(json_string_value(json_array_get(json_array_get(told, 1), 0)),
			    names[1]);
	list[MANY / 2].name = names[7];
	free(TAKE(body));
	assert_int_equal(registration_body(&conf, &body, &err), ERR_SCHEMA);
	assert_non_null(strstr(err.text, names[7]));
}

static void reads_the_answer(void **state)
{
	static const char text[] = ANSWER(",\"username\":\"u\",\"password\":\"p\"");
	struct registration r;
	struct err err = {0};
	(void)state;
	if (registration_parse(200, text, sizeof(text) - 1, &r, &err) != 0)
		fail_msg("%s", err.text);
	assert_string_equal(r.rev, "r");
	assert_string_equal(r.name, "00.Cat");
	assert_string_equal(r.host, "h");
	assert_int_equal(r.port, 1883);
	assert_string_equal(r.ctrl_up, "i/ctrl/i");
	assert_string_equal(r.ctrl_down, "i/ctrl/o");
	assert_string_equal(r.username, "u");
	assert_string_equal(r.password, "p");
	registration_done(&r);
	assert_null(r.rev);
}

static void tells_csm_s_reason_for_a_refusal(void **state)
{
	static const char text[] = "{\"state\":\"error\",\"reason\":\"Invalid protocol: 'magic'\"}";
	struct registration r;
	struct err err = {0};
	(void)state;
	assert_int_equal(registration_parse(403, text, sizeof(text) - 1, &r, &err), ERR_PEER);
	assert_string_equal(err.text, "csm answers 403: Invalid protocol: 'magic'");
	registration_done(&r);
	assert_int_equal(registration_parse(502, "<html>", 6, &r, &err), ERR_PEER);
	assert_string_equal(err.text, "csm answers 502");
	registration_done(&r);
}

static void refuses_wrong_answers(void **state)
{
	static const struct {
		const char *text;
		int code;
	} cases[] = {
		{"", ERR_PARSE},
		{"<html>", ERR_PARSE},
		{"[]", ERR_SCHEMA},
		{"{}", ERR_SCHEMA},
		{"{\"rev\":\"r\"}", ERR_SCHEMA},
		{"{\"rev\":5,\"url\":{\"host\":\"h\",\"port\":1},\"ctrl_chans\":[\"a\",\"b\"]}",
		 ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":{\"host\":\"h\",\"port\":0},\"ctrl_chans\":[\"a\",\"b\"]}",
		 ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":{\"host\":\"h\",\"port\":65536},\"ctrl_chans\":[\"a\","
		 "\"b\"]}",
		 ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":{\"host\":\"\",\"port\":1},\"ctrl_chans\":[\"a\",\"b\"]}",
		 ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":\"mqtt://h\",\"ctrl_chans\":[\"a\",\"b\"]}", ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":{\"host\":\"h\",\"port\":1},\"ctrl_chans\":[\"a\"]}",
		 ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":{\"host\":\"h\",\"port\":1},\"ctrl_chans\":[\"#\",\"b\"]}",
		 ERR_SCHEMA},
		{"{\"rev\":\"r\",\"url\":{\"scheme\":\"amqp\",\"host\":\"h\",\"port\":1},\"ctrl_"
		 "chans\":[\"a\",\"b\"]}",
		 ERR_SCHEMA},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct registration r;
		struct err err = {0};
		int rc = registration_parse(200, cases[i].text, strlen(cases[i].text), &r, &err);
		if (rc != cases[i].code)
			fail_msg("%s: got %s", cases[i].text, err_name(rc));
		assert_string_not_equal(err.text, "");
		registration_done(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(body_holds_feature_tuples),
		cmocka_unit_test(body_leaves_out_what_is_empty),
		cmocka_unit_test(body_refuses_what_csm_would),
		cmocka_unit_test(many_features_are_looked_through_once),
		cmocka_unit_test(reads_the_answer),
		cmocka_unit_test(tells_csm_s_reason_for_a_refusal),
		cmocka_unit_test(refuses_wrong_answers),
	};
	return cmocka_run_group_tests_name("registration", tests, NULL, NULL);
}
