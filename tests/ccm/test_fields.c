#include "ccm/fields.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *const colours[] = {"red", "black", NULL};
static const struct field item_fields[] = {{"id", .type = FIELD_INT}, {"echo", FIELD_ANY, .flags = FIELD_DROPPED}, {0}};
static const struct field deep_fields[] = {{"deep", FIELD_OBJECT, .flags = FIELD_OPTIONAL, .inner = deep_fields}, {0}};
static const struct field fields[] = {
	{"name", .type = FIELD_STR},
	{"n", FIELD_INT, .flags = FIELD_OPTIONAL | FIELD_NULLABLE},
	{"x", FIELD_NUMBER, .flags = FIELD_OPTIONAL},
	{"yes", FIELD_BOOL, .flags = FIELD_OPTIONAL},
	{"text", FIELD_TEXT, .flags = FIELD_OPTIONAL},
	{"blank", FIELD_STR, .flags = FIELD_EMPTY | FIELD_OPTIONAL},
	{"colour", FIELD_STR, .flags = FIELD_OPTIONAL, .names = colours},
	{"names", FIELD_LIST, .flags = FIELD_OPTIONAL, .item = FIELD_STR},
	{"items", FIELD_LIST, .flags = FIELD_OPTIONAL, .item = FIELD_OBJECT, .inner = item_fields},
	{"one", FIELD_OBJECT, .flags = FIELD_OPTIONAL, .inner = item_fields},
	{"deep", FIELD_OBJECT, .flags = FIELD_OPTIONAL, .inner = deep_fields},
	{"any", FIELD_ANY, .flags = FIELD_OPTIONAL},
	{"old", FIELD_ANY, .flags = FIELD_DROPPED},
	{0},
};

static void unquote(char *text)
{
	for (; *text != '\0'; text++)
		*text = *text == '\'' ? '"' : *text;
}

static json_t *load(const char *text)
{
	CLEANUP(freep) char *copy = strdup(text);
	json_error_t why;
	unquote(copy);
	json_t *v = json_loads(copy, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (v == NULL)
		fail_msg("%s: %s", text, why.text);
	return v;
}

static void takes(const char *given, bool coerce, const char *want)
{
	json_auto_t *object = load(given);
	json_auto_t *expected = load(want);
	json_auto_t *checked = NULL;
	struct err err = {0};
	if (fields_check(fields, object, coerce, &checked, &err) < 0)
		fail_msg("%s: %s", given, err.text);
	CLEANUP(freep) char *got = json_dumps(checked, 0);
	if (!json_equal(checked, expected))
		fail_msg("%s became %s", given, got);
}

static void takes_what_fits(void **state)
{
	(void)state;
	takes("{'name':'a'}", false, "{'name':'a'}");
	takes("{'name':'a','n':-3,'x':1,'yes':false,'text':'','blank':''}", false,
	      "{'name':'a','n':-3,'x':1,'yes':false,'text':'','blank':''}");
	takes("{'name':'a','n':null,'x':0.5}", false, "{'name':'a','n':null,'x':0.5}");
	takes("{'name':'a','colour':'red','any':[{'x':null}]}", false, "{'name':'a','colour':'red','any':[{'x':null}]}");
	takes("{'name':'a','old':[1,{}],'items':[{'id':1,'echo':{}}],'one':{'id':2,'echo':3},'names':['b','c']}", false,
	      "{'name':'a','items':[{'id':1}],'one':{'id':2},'names':['b','c']}");
	takes("{'name':'a','items':[],'names':[]}", false, "{'name':'a','items':[],'names':[]}");
}

static void browsers_send_numbers_as_text(void **state)
{
	(void)state;
	takes("{'name':'a','n':'12','x':'-1.5e2','ctx':{'deep':1},'items':[{'id':'7'}]}", true,
	      "{'name':'a','n':12,'x':-150.0,'items':[{'id':7}]}");
	takes("{'name':'7','n':'-9223372036854775808','x':'3'}", true, "{'name':'7','n':-9223372036854775808,'x':3}");
	takes("{'name':'a','yes':1}", true, "{'name':'a','yes':true}");
	takes("{'name':'a','yes':'0'}", true, "{'name':'a','yes':false}");
}

static void refuses(const char *given, bool coerce, const char *why)
{
	json_auto_t *object = load(given);
	json_t *checked = (json_t *)1;
	struct err err = {0};
	if (fields_check(fields, object, coerce, &checked, &err) != ERR_SCHEMA || strcmp(err.text, why) != 0)
		fail_msg("%s: '%s', not '%s'", given, err.text, why);
	assert_null(checked);
}

static void says_what_is_wrong_and_where(void **state)
{
	(void)state;
	static const struct {
		const char *given, *why;
	} cases[] = {
		{"[]", "it must be a JSON object"},
		{"7", "it must be a JSON object"},
		{"{}", "`name` is missing"},
		{"{'who':1}", "`name` is missing"}, /* that goes before what is not known */
		{"{'name':'a','who':1}", "`who` is not a known field"},
		{"{'name':1,'who':1}", "`who` is not a known field"},
		{"{'name':'a','ctx':1}", "`ctx` is not a known field"},
		{"{'name':7}", "`name` must be a string"},
		{"{'name':null}", "`name` must be a string"},
		{"{'name':''}", "`name` must not be empty"},
		{"{'name':'a\\u0000b'}", "`name` holds a NUL character"},
		{"{'name':'a','n':true}", "`n` must be an integer"},
		{"{'name':'a','n':1.0}", "`n` must be an integer"},
		{"{'name':'a','n':'1'}", "`n` must be an integer"},
		{"{'name':'a','x':'1'}", "`x` must be a number"},
		{"{'name':'a','x':null}", "`x` must be a number"},
		{"{'name':'a','yes':1}", "`yes` must be true or false"},
		{"{'name':'a','colour':'green'}", "`colour` has a value that is not one of those allowed"},
		{"{'name':'a','names':['b','']}", "`names[1]` must not be empty"},
		{"{'name':'a','names':'b'}", "`names` must be a list"},
		{"{'name':'a','items':[{'id':1},{'id':'x'}]}", "`items[1].id` must be an integer"},
		{"{'name':'a','items':[{'id':1},7]}", "`items[1]` must be an object"},
		{"{'name':'a','items':[{}]}", "`items[0].id` is missing"},
		{"{'name':'a','one':{'id':1,'ctx':1}}", "`one.ctx` is not a known field"},
		{"{'name':'a','one':[]}", "`one` must be an object"},
		{"{'name':'a','deep':{'deep':{'deep':{'deep':{'deep':{'deep':{'deep':{'deep':{}}}}}}}}}",
		 "`deep.deep.deep.deep.deep.deep.deep.deep` is nested too deeply"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		refuses(cases[i].given, false, cases[i].why);
}

static void text_that_is_no_decimal_number_stays_text(void **state)
{
	(void)state;
	static const char *const no[] = {
		"", " 1", "1 ", "0x10", "nan", "inf", "1e999", "1,5", "12a", "--1", "9223372036854775808", "1.0"};
	for (size_t i = 0; i < ARRAY_LEN(no); i++) {
		char given[80];
		snprintf(given, sizeof(given), "{'name':'a','n':'%s'}", no[i]);
		refuses(given, true, "`n` must be an integer");
	}
	refuses("{'name':'a','x':'0x10'}", true, "`x` must be a number");
	refuses("{'name':'a','x':'nan'}", true, "`x` must be a number");
	refuses("{'name':'a','x':'1e999'}", true, "`x` must be a number");
	refuses("{'name':'a','n':'1\\u0000'}", true, "`n` must be an integer");
	refuses("{'name':'a','yes':2}", true, "`yes` must be true or false");
	refuses("{'name':'a','one':{'id':1,'ctx':1}}", true, "`one.ctx` is not a known field");
}

/* ret: yours */
static char *repeated(const char *word, size_t count)
{
	size_t len = strlen(word);
	char *text = calloc(count, len + 1);
	assert_non_null(text);
	for (size_t i = 0; i < count; i++)
		memcpy(text + i * len, word, len);
	return text;
}

static void strings_are_counted_in_characters(void **state)
{
	(void)state;
	CLEANUP(freep) char *cats = repeated("\xe7\x8c\xab", 255), *most = NULL, *more = NULL, *text = NULL;
	CLEANUP(freep) char *long_text = repeated("x", 1000);
	assert_true(asprintf(&most, "{'name':'%s'}", cats) > 0);
	takes(most, false, most);
	assert_true(asprintf(&more, "{'name':'%sx'}", cats) > 0);
	refuses(more, false, "`name` is longer than 255 characters");
	assert_true(asprintf(&text, "{'name':'a','text':'%s'}", long_text) > 0);
	takes(text, false, text);
}

/* What a client may name a field must not make an answer that is no JSON. */
static void a_cut_path_ends_between_characters(void **state)
{
	(void)state;
	for (size_t shift = 0; shift < 5; shift++) {
		CLEANUP(freep) char *letters = repeated("\xc3\xa4\xf0\x9f\x90\x88", 30), *given = NULL;
		assert_true(asprintf(&given, "{'name':'a','one':{'id':1,'%.*s%s':1}}", (int)shift, "xxxxx", letters) > 0);
		json_auto_t *object = load(given);
		json_t *checked = NULL;
		struct err err = {0};
		assert_int_equal(fields_check(fields, object, false, &checked, &err), ERR_SCHEMA);
		json_auto_t *text = json_string(err.text);
		if (text == NULL)
			fail_msg("no UTF-8: %s", err.text);
		assert_non_null(strstr(err.text, "is not a known field"));
		assert_non_null(strstr(err.text, "`one.")); /* and as much as there is room for */
		assert_true(strlen(err.text) > 100);
	}
}

static void a_path_can_begin_elsewhere(void **state)
{
	(void)state;
	json_auto_t *object = load("{'name':''}");
	json_t *checked = NULL;
	struct err err = {0};
	assert_int_equal(fields_check_at(fields, object, "list[3]", false, &checked, &err), ERR_SCHEMA);
	assert_string_equal(err.text, "`list[3].name` must not be empty");
	json_auto_t *number = json_integer(1);
	assert_int_equal(fields_check_at(fields, number, "list[3]", false, &checked, &err), ERR_SCHEMA);
	assert_string_equal(err.text, "`list[3]` must be an object");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_what_fits),
		cmocka_unit_test(browsers_send_numbers_as_text),
		cmocka_unit_test(says_what_is_wrong_and_where),
		cmocka_unit_test(text_that_is_no_decimal_number_stays_text),
		cmocka_unit_test(strings_are_counted_in_characters),
		cmocka_unit_test(a_cut_path_ends_between_characters),
		cmocka_unit_test(a_path_can_begin_elsewhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
