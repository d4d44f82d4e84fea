#include "ccm/web/multipart.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TYPE "multipart/form-data; boundary=B"

/* The parts as "name=data;" or "name@data;" for files, and how it ended. In memory of its exact size, so that a read beyond it shows. */
static const char *parse(const char *type, const char *body)
{
	static char text[512];
	struct multipart m;
	struct part p;
	size_t n = 0, len = strlen(body);
	char *exact = test_malloc(len + 1);
	memcpy(exact, body, len);
	text[0] = '\0';
	int rc = multipart_begin(&m, type, exact, len);
	while (rc >= 0 && (rc = multipart_next(&m, &p)) > 0)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s%.*s;", p.name, p.is_file ? "@" : "=", (int)p.len, p.data);
	snprintf(text + n, sizeof(text) - n, "%s", rc == 0 ? "end" : rc == ERR_INVAL ? "bad" : "?");
	test_free(exact);
	return text;
}

static void forms_are_taken_apart(void **state)
{
	(void)state;
	static const struct {
		const char *type, *body, *parts;
	} cases[] = {
		{TYPE, "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B--\r\n", "a=1;end"},
		{TYPE, "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--B--", "a=;end"},
		{TYPE, "--B\r\nContent-Disposition: form-data; name=a; filename=f\r\nContent-Type: x/y\r\n\r\n1\r\n2\r\n--B--", "a@1\r\n2;end"},
		{TYPE, "--B\r\ncontent-disposition: form-data; filename=\"n;ame=\\x\"; name=\"b\"\r\n\r\nx\r\n--B--", "b@x;end"},
		{TYPE, "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"\"\r\n\r\n\r\n--B--", "a=;end"},
		{TYPE, "--B\r\n\r\nx\r\n--B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\ny\r\n--B--", "=x;b=y;end"},
		{TYPE, "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"longer than any.json\"\r\n\r\n--\r\n-B\r\n--B--", "a@--\r\n-B;end"},
		{"Multipart/Form-Data;charset=x;  boundary=\"B\"", "--B--", "end"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(parse(cases[i].type, cases[i].body), cases[i].parts);
}

static void what_is_no_form_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *type, *body;
	} cases[] = {
		{NULL, "--B--"},
		{"application/json", "--B--"},
		{"multipart/form-data", "--B--"},
		{"multipart/form-databoundary=B", "--B--"},
		{"multipart/form-data; boundary=", "--B--"},
		{"multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789012345", "--B--"},
		{TYPE, ""},
		{TYPE, "-"},
		{TYPE, "--C--"},
		{TYPE, "--B"},
		{TYPE, "--B\r"},
		{TYPE, "--B\r\n"},
		{TYPE, "--B\r\n\r"},
		{TYPE, "--B\r\n\r\n"},
		{TYPE, "--B\r\nX: y\r\n"},
		{TYPE, "--B\r\n\r\nx\r\n--"},
		{TYPE, "--B\r\n\r\nx\r\n--B"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *parts = parse(cases[i].type, cases[i].body);
		if (strstr(parts, "bad") == NULL)
			fail_msg("case %zu: %s", i, parts);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_are_taken_apart),
		cmocka_unit_test(what_is_no_form_is_refused),
	};
	return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
