#include "common/util.h"
#include "csm/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define GOOD "\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"AI\"}"

static void refuses_what_the_specification_refuses(void **state)
{
	static const struct {
		const char *body;
		unsigned status;
		const char *words;
	} cases[] = {
		{"[]", 400, "json object"},
		{"42", 400, "json object"},
		{"{\"profile\":{\"model\":\"AI\"}}", 403, "accept_protos"},
		{"{\"accept_protos\":7,\"profile\":{\"model\":\"AI\"}}", 403, "accept_protos"},
		{"{\"accept_protos\":[],\"profile\":{\"model\":\"AI\"}}", 403, "can not be empty"},
		{"{\"accept_protos\":[\"magic\"],\"profile\":{\"model\":\"AI\"}}", 403,
		 "Invalid protocol: 'magic'"},
		{"{\"accept_protos\":[1],\"profile\":{\"model\":\"AI\"}}", 403, "accept_protos"},
		{"{\"accept_protos\":[\"mqtt\"]}", 403, "profile"},
		{"{\"accept_protos\":[\"mqtt\"],\"profile\":[]}", 403, "json object"},
		{"{\"accept_protos\":[\"mqtt\"],\"profile\":{}}", 403, "profile.model"},
		{"{\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"\"}}", 403, "profile.model"},
		{"{\"idf_list\":[]," GOOD "}", 403, "can not be empty"},
		{"{\"odf_list\":\"x\"," GOOD "}", 403, "odf_list"},
		{"{\"idf_list\":[[]]," GOOD "}", 403, "idf_list"},
		{"{\"idf_list\":[[\"a\",[1]]]," GOOD "}", 403, "unit"},
		{"{\"idf_list\":[\"a/b\"]," GOOD "}", 403, "idf_list"},
		{"{\"idf_list\":[\"a+\"]," GOOD "}", 403, "idf_list"},
		{"{\"idf_list\":[\"\"]," GOOD "}", 403, "empty"},
		{"{\"name\":\"\"," GOOD "}", 403, "name"},
		{"{\"name\":3," GOOD "}", 403, "name"},
		{"{\"answer\":42," GOOD "}", 403, "Unknown field: 'answer'"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_auto_t *body = json_loads(cases[i].body, JSON_DECODE_ANY, NULL);
		struct profile p = {0};
		struct refusal why = {0};
		if (profile_parse(body, &p, &why) >= 0)
			fail_msg("accepted: %s", cases[i].body);
		if (why.status != cases[i].status || strstr(why.reason, cases[i].words) == NULL)
			fail_msg("%s: got %u %s", cases[i].body, why.status, why.reason);
		assert_null(p.accept_protos);
	}
}

static void accepts_every_form_of_feature(void **state)
{
	(void)state;
	json_auto_t *body = json_loads(
		"{\"accept_protos\":\"MQTT\",\"profile\":{\"model\":\"AI\",\"more\":1},\"name\":null,"
		"\"idf_list\":[[\"a\",[\"dB\",null]],[\"b\",null],[\"c\",[null]],[\"d\",\"type\"],\"e-I\",[\"f\"]],"
		"\"odf_list\":null}",
		0, NULL);
	struct profile p = {0};
	struct refusal why = {0};
	if (profile_parse(body, &p, &why) < 0)
		fail_msg("%s", why.reason);
	assert_string_equal(json_string_value(json_array_get(p.accept_protos, 0)), "mqtt");
	assert_null(p.name);
	assert_null(p.odf_list);
	for (const char *f = "abcdf"; *f != '\0'; f++)
		assert_true(profile_has_feature(&p, "idf", (char[]){*f, '\0'}));
	assert_true(profile_has_feature(&p, "idf", "e-I"));
	assert_false(profile_has_feature(&p, "odf", "a"));
	assert_string_equal(profile_model(&p), "AI");
	profile_done(&p);
}

static struct profile parsed(const char *text)
{
	json_auto_t *body = json_loads(text, 0, NULL);
	struct profile p = {0};
	struct refusal why = {0};
	if (profile_parse(body, &p, &why) < 0)
		fail_msg("%s", why.reason);
	return p;
}

static void merges_what_is_posted_and_checks_the_result(void **state)
{
	(void)state;
	static const struct {
		const char *path, *body, *where, *want; /* want NULL: refused with `where` in the reason */
	} cases[] = {
		{NULL, "{\"name\":\"Felix\"}", "name", "\"Felix\""},
		{"profile/model", "\"Cat\"", "profile", "{\"model\":\"Cat\",\"a\":{\"b\":1}}"},
		{"profile/a/c", "2", "profile", "{\"model\":\"AI\",\"a\":{\"b\":1,\"c\":2}}"},
		{NULL, "{\"profile\":{\"a\":null}}", "profile", "{\"model\":\"AI\"}"},
		{NULL, "{\"profile\":{\"model\":null}}", "profile.model", NULL},
		{NULL, "{\"answer\":1}", "Unknown field", NULL},
		{NULL, "7", "json object", NULL},
		{"idf_list", "[]", "can not be empty", NULL},
	};
	struct profile old = parsed(
		"{\"accept_protos\":[\"mqtt\"],\"name\":\"x\",\"profile\":{\"model\":\"AI\",\"a\":{\"b\":1}}}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_auto_t *body = json_loads(cases[i].body, JSON_DECODE_ANY, NULL);
		struct profile p = {0};
		struct refusal why = {0};
		int rc = profile_merge(&old, cases[i].path, body, &p, &why);
		if (cases[i].want == NULL) {
			if (rc >= 0 || strstr(why.reason, cases[i].where) == NULL)
				fail_msg("%s: %d %s", cases[i].body, rc, why.reason);
			continue;
		}
		if (rc < 0)
			fail_msg("%s: %s", cases[i].body, why.reason);
		json_auto_t *all = profile_to_json(&p);
		json_auto_t *want = json_loads(cases[i].want, JSON_DECODE_ANY, NULL);
		assert_true(json_equal(json_object_get(all, cases[i].where), want));
		profile_done(&p);
	}
	assert_string_equal(old.name, "x");
	profile_done(&old);
}

static void a_body_nested_too_deep_is_refused(void **state)
{
	(void)state;
	json_auto_t *deep = json_integer(1);
	for (int i = 0; i < 100; i++)
		deep = json_pack("[o]", deep);
	json_auto_t *body = json_pack("{s:[s], s:{s:s, s:O}}", "accept_protos", "mqtt", "profile", "model",
				      "AI", "deep", deep);
	struct profile p = {0};
	struct refusal why = {0};
	assert_true(profile_parse(body, &p, &why) < 0);
	assert_int_equal(why.status, 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_the_specification_refuses),
		cmocka_unit_test(accepts_every_form_of_feature),
		cmocka_unit_test(merges_what_is_posted_and_checks_the_result),
		cmocka_unit_test(a_body_nested_too_deep_is_refused),
	};
	return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
