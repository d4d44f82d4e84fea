#include "ccm/web/openapi.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int run(struct op_call *c)
{
	(void)c;
	return 0;
}

static const struct op op = {.name = "test", .run = run, .reads = true};
static const char *const words[] = {"on", "off", NULL};
static const struct field inner[] = {{.name = "i", .type = FIELD_INT}, {.name = "echo", .type = FIELD_STR, .flags = FIELD_DROPPED}, {0}};
static const struct field body[] = {
	{.name = "s", .type = FIELD_STR, .help = "a word"},
	{.name = "t", .type = FIELD_TEXT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE, .names = words},
	{.name = "n", .type = FIELD_NUMBER, .flags = FIELD_NULLABLE},
	{.name = "l", .type = FIELD_LIST, .inner = inner},
	{.name = "ids", .type = FIELD_LIST, .item = FIELD_INT, .flags = FIELD_OPTIONAL},
	{.name = "o", .type = FIELD_OBJECT, .inner = inner, .flags = FIELD_OPTIONAL},
	{.name = "x", .type = FIELD_ANY, .flags = FIELD_OPTIONAL},
	{0},
};
static const struct field open_body[] = {{.name = "s", .type = FIELD_STR}, FIELD_OTHERS, {0}};
static const struct web_route first[] = {
	{"GET", "/a/{a_id:int}", WEB_USER, &op, NULL, 200, 404, 0, "data", "one"},
	{"GET", "/a/{name}", WEB_USER, &op, NULL, 200, 404, 0, "data", "the same"},
	{"POST", "/a/{a_id:int}/b/{word}", WEB_ADMIN, &op, body, 201, 400, 404, NULL, "two"},
	{0},
};
static const struct web_route second[] = {
	{"DELETE", "/a/{other}", WEB_ANYONE, &op, NULL, 200, 404, 0, NULL, "three"},
	{"GET", "/a", WEB_ANYONE, &op, NULL, 200, 404, 0, NULL, "four"},
	{"PUT", "/a", WEB_ANYONE, &op, open_body, 200, 404, 0, NULL, "five"},
	{0},
};

/* The value at "a.b.0.c"; steps with a slash in front go to its end: paths are names. */
static json_t *at(json_t *value, const char *const *steps)
{
	for (; *steps != NULL && value != NULL; steps++)
		value = json_is_array(value) ? json_array_get(value, (size_t)(**steps - '0')) : json_object_get(value, *steps);
	return value;
}

#define AT(doc, ...) at(doc, (const char *const[]){__VA_ARGS__, NULL})

static void assert_json(json_t *value, const char *text)
{
	json_auto_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL);
	assert_non_null(wanted);
	if (!json_equal(value, wanted)) {
		CLEANUP(freep) char *is = json_dumps(value, JSON_ENCODE_ANY);
		fail_msg("%s instead of %s", is, text);
	}
}

static void tables_become_a_description(void **state)
{
	static const struct web_route *const tables[] = {first, second, NULL};
	(void)state;
	CLEANUP(freep) char *text = openapi_text(tables);
	assert_non_null(text);
	json_auto_t *doc = json_loads(text, 0, NULL);
	json_t *paths = json_object_get(doc, "paths");
	assert_int_equal(json_object_size(paths), 3);
	/* two routes that differ in what a segment may be */
	json_t *get = AT(paths, "/a/{a_id}", "get");
	assert_json(AT(get, "parameters", "0", "schema"), "{\"type\": [\"integer\", \"string\"]}");
	assert_json(AT(get, "security"), "[{\"session\": []}]");
	assert_json(AT(get, "responses", "200", "content", "application/json", "schema", "allOf", "1", "required"), "[\"data\"]");
	assert_non_null(AT(get, "responses", "401"));
	/* the name of a segment is that of the first */
	json_t *remove = AT(paths, "/a/{a_id}", "delete");
	assert_json(AT(remove, "parameters", "0", "name"), "\"a_id\"");
	assert_json(AT(remove, "parameters", "0", "schema"), "{\"type\": \"string\"}");
	assert_json(AT(remove, "security"), "[]");
	assert_json(AT(paths, "/a", "get", "operationId"), "\"get_a\"");
	/* bodies */
	json_t *open = AT(paths, "/a", "put", "requestBody", "content", "application/json", "schema");
	assert_json(AT(open, "additionalProperties"), "true");
	assert_int_equal(json_object_size(AT(open, "properties")), 1);
	json_t *post = AT(paths, "/a/{a_id}/b/{word}", "post");
	assert_json(AT(post, "x-role"), "\"administrator\"");
	assert_json(AT(post, "parameters", "1", "schema"), "{\"type\": \"string\"}");
	static const char *const statuses[] = {"201", "400", "404", "403", "503"};
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		assert_non_null(AT(post, "responses", statuses[i]));
	json_t *schema = AT(post, "requestBody", "content", "application/json", "schema");
	assert_json(AT(schema, "required"), "[\"s\", \"n\", \"l\"]");
	assert_json(AT(schema, "additionalProperties"), "false");
	assert_json(AT(schema, "properties", "s"), "{\"type\": \"string\", \"minLength\": 1, \"maxLength\": 255, \"description\": \"a word\"}");
	assert_json(AT(schema, "properties", "t"), "{\"type\": [\"string\", \"null\"], \"enum\": [\"on\", \"off\", null]}");
	assert_json(AT(schema, "properties", "n"), "{\"type\": [\"number\", \"null\"]}");
	assert_json(AT(schema, "properties", "ids"), "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}}");
	assert_json(AT(schema, "properties", "x"), "{}");
	assert_json(AT(schema, "properties", "l", "items"),
		    "{\"type\": \"object\", \"properties\": {\"i\": {\"type\": \"integer\"}, \"echo\": {\"description\": "
		    "\"taken, and not looked at\"}}, \"required\": [\"i\"], \"additionalProperties\": false}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(tables_become_a_description)};
	return cmocka_run_group_tests_name("openapi", tests, NULL, NULL);
}
