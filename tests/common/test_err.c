#include "common/err.h"
#include "common/util.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void set_fills_code_and_text(void **state)
{
	(void)state;
	struct err e = {0};
	assert_int_equal(err_set(&e, ERR_SCHEMA, "%s is %d", "x", 7), ERR_SCHEMA);
	assert_int_equal(e.code, ERR_SCHEMA);
	assert_string_equal(e.text, "x is 7");
	assert_int_equal(err_set(NULL, ERR_DB, "nobody listens"), ERR_DB);
	assert_int_equal(err_wrap(NULL, ERR_DB, "nobody listens"), ERR_DB);
	assert_int_equal(err_sys(NULL, "nobody listens") != 0, true);
}

static void the_text_is_never_empty(void **state)
{
	(void)state;
	struct err e = {0};
	err_set(&e, ERR_LIMIT, "%s", "");
	assert_string_equal(e.text, "LIMIT");
}

static void sys_names_the_failure(void **state)
{
	(void)state;
	static const struct {
		int saved, code;
	} cases[] = {{ENOENT, ERR_NOENT}, {EACCES, ERR_ACCES}, {EEXIST, ERR_EXIST},
		     {ENOMEM, ERR_NOMEM}, {EBUSY, ERR_BUSY},   {EPIPE, ERR_SYS},
		     {ENOSPC, ERR_SYS}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		errno = cases[i].saved;
		assert_int_equal(err_sys(&e, "opening %s", "f"), cases[i].code);
		assert_memory_equal(e.text, "opening f: ", 11);
		assert_non_null(strstr(e.text, strerror(cases[i].saved)));
	}
}

static void wrap_goes_in_front(void **state)
{
	(void)state;
	struct err e = {0};
	err_set(&e, ERR_DB, "locked");
	assert_int_equal(err_wrap(&e, ERR_DB, "saving %d", 3), ERR_DB);
	assert_string_equal(e.text, "saving 3: locked");
}

/* What somebody sent is quoted in errors, and errors are told as JSON. */
static void what_is_no_utf8_is_replaced(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"near '\xcc'", "near '?'"},
		{"a\xff\xfe" "b", "a??b"},
		{"\xc0\x80", "??"},		       /* longer than need be */
		{"\xe0\x80\xaf", "???"},
		{"\xed\xa0\x80", "???"},	       /* half a pair */
		{"\xf4\x90\x80\x80", "????"},       /* beyond the last one */
		{"\x80", "?"},
		{"\xe4\xbd", "??"},
		{"\xc3\xa4 \xe4\xbd\xa0 \xf0\x9f\x98\x80", "\xc3\xa4 \xe4\xbd\xa0 \xf0\x9f\x98\x80"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		err_set(&e, ERR_PARSE, "%s", cases[i][0]);
		assert_string_equal(e.text, cases[i][1]);
		json_t *j = json_string(e.text);
		assert_non_null(j);
		json_decref(j);
	}
}

/* Cut text ends up in JSON, which takes nothing but whole characters. */
static void cut_text_is_still_utf8(void **state)
{
	(void)state;
	static const char *const letters[] = {"\xc3\xa4", "\xe4\xbd\xa0", "\xf0\x9f\x98\x80"};
	for (size_t l = 0; l < ARRAY_LEN(letters); l++) {
		for (size_t shift = 0; shift < 4; shift++) {
			char text[3000] = "xxxx";
			struct err e = {0};
			text[shift] = '\0';
			while (strlen(text) < 2900)
				strcat(text, letters[l]);
			err_set(&e, ERR_PARSE, "%s", text);
			assert_true(strlen(e.text) > sizeof(e.text) - 5);
			json_t *j = json_string(e.text);
			assert_non_null(j);
			json_decref(j);
			err_set(&e, ERR_PARSE, "old");
			err_wrap(&e, ERR_PARSE, "%s", text);
			j = json_string(e.text);
			assert_non_null(j);
			json_decref(j);
			errno = EIO;
			err_sys(&e, "%s", text);
			j = json_string(e.text);
			assert_non_null(j);
			json_decref(j);
			err_wrap(&e, ERR_PARSE, "%s", text);
			err_wrap(&e, ERR_PARSE, "%s", text);
			j = json_string(e.text);
			assert_non_null(j);
			json_decref(j);
		}
	}
}

static void every_code_has_a_name(void **state)
{
	(void)state;
	static const int codes[] = {ERR_NONE,  ERR_NOMEM,  ERR_INVAL,   ERR_NOENT, ERR_EXIST,
				    ERR_ACCES, ERR_AGAIN,  ERR_BUSY,    ERR_RANGE, ERR_TIMEOUT,
				    ERR_PARSE, ERR_SCHEMA, ERR_DB,      ERR_BUS,   ERR_PEER,
				    ERR_SYS,   ERR_LIMIT,  ERR_CONFLICT};
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(err_name(codes[i]), err_name(codes[k]));
	assert_string_equal(err_name(ERR_CONFLICT), "CONFLICT");
	assert_string_equal(err_name(-31337), "UNKNOWN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_fills_code_and_text),
		cmocka_unit_test(the_text_is_never_empty),
		cmocka_unit_test(sys_names_the_failure),
		cmocka_unit_test(wrap_goes_in_front),
		cmocka_unit_test(what_is_no_utf8_is_replaced),
		cmocka_unit_test(cut_text_is_still_utf8),
		cmocka_unit_test(every_code_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
