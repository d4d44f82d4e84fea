#include "common/err.h"
#include "common/log.h"
#include "common/util.h"
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What the code under test writes to stderr, read back through a file. */
struct capture {
	FILE *file;
	int saved;
	char text[1 << 16];
};

static int setup(void **state)
{
	struct capture *c = test_calloc(1, sizeof(*c));
	c->file = tmpfile();
	assert_non_null(c->file);
	fflush(stderr);
	c->saved = dup(2);
	dup2(fileno(c->file), 2);
	log_init("tester", LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct capture *c = *state;
	dup2(c->saved, 2);
	close(c->saved);
	fclose(c->file);
	test_free(c);
	return 0;
}

static const char *written(struct capture *c)
{
	ssize_t n = pread(fileno(c->file), c->text, sizeof(c->text) - 1, 0);
	assert_true(n >= 0);
	c->text[n] = '\0';
	assert_int_equal(ftruncate(fileno(c->file), 0), 0);
	lseek(fileno(c->file), 0, SEEK_SET);
	return c->text;
}

static json_t *written_json(struct capture *c)
{
	json_error_t why;
	const char *text = written(c);
	size_t len = strlen(text);
	assert_true(len > 0 && text[len - 1] == '\n');
	assert_ptr_equal(strchr(text, '\n'), text + len - 1); /* one line */
	json_t *o = json_loads(text, 0, &why);
	if (o == NULL)
		fail_msg("%s: %s", why.text, text);
	return o;
}

static void a_line_has_time_level_program_event_and_fields(void **state)
{
	struct capture *c = *state;
	const char *name = "x y";
	const bool yes = true; /* the macro alone is an int */
	log_warn("device.added", KV("device", "abc"), KV("name", name), KV("n", 42),
		 KV("ratio", 0.5), KV("ok", yes), KV("nothing", (char *)NULL));
	const char *t = written(c);
	assert_true(strlen(t) > 25 && t[4] == '-' && t[10] == 'T' && t[23] == 'Z');
	assert_string_equal(t + 24,
			    " warn tester device.added device=abc name=\"x y\" n=42 ratio=0.5 "
			    "ok=true nothing=\"\"\n");
}

static void no_fields_are_fine(void **state)
{
	struct capture *c = *state;
	log_info("started");
	assert_string_equal(written(c) + 24, " info tester started\n");
}

static void levels_below_the_setting_are_silent(void **state)
{
	struct capture *c = *state;
	log_init("tester", LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
	log_debug("a");
	log_info("b");
	assert_string_equal(written(c), "");
	log_error("c");
	log_warn("d");
	const char *t = written(c);
	assert_non_null(strstr(t, "error tester c\n"));
	assert_non_null(strstr(t, "warn tester d\n"));
}

static void a_value_cannot_break_the_line(void **state)
{
	struct capture *c = *state;
	log_info("e", KV("v", "a\nerror tester fake\r\t\x01\"\\ \x7f"));
	const char *t = written(c);
	assert_ptr_equal(strchr(t, '\n'), t + strlen(t) - 1);
	assert_null(strpbrk(t, "\r\t\x01\x7f"));
	log_info("e", KV("v", "a=b"));
	assert_non_null(strstr(written(c), "v=\"a=b\""));
}

static void json_lines_are_json(void **state)
{
	struct capture *c = *state;
	log_init("tester", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
	log_error("device.lost", KV("text", "quote \" back \\ line \n bell \x07 \xc3\xa4"),
		  KV("n", -5), KV("big", INT64_MAX), KV("ratio", 1e300), KV("ok", (bool)false));
	json_t *o = written_json(c);
	assert_string_equal(json_string_value(json_object_get(o, "level")), "error");
	assert_string_equal(json_string_value(json_object_get(o, "program")), "tester");
	assert_string_equal(json_string_value(json_object_get(o, "event")), "device.lost");
	assert_string_equal(json_string_value(json_object_get(o, "text")),
			    "quote \" back \\ line \n bell \x07 \xc3\xa4");
	assert_int_equal(json_integer_value(json_object_get(o, "n")), -5);
	assert_int_equal(json_integer_value(json_object_get(o, "big")), INT64_MAX);
	assert_true(json_real_value(json_object_get(o, "ratio")) > 1e299);
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);
}

static void json_lines_are_json_whatever_the_bytes(void **state)
{
	struct capture *c = *state;
	log_init("tester", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
	static const char *const nasty[] = {
		"\xff",     "a\xc3", "\xed\xa0\x80",          "\xc0\x80", "\xf5\x80\x80\x80",
		"\xe4\xbd", "\x80",  "ok \xf0\x9f\x98\x80 ok"};
	for (size_t i = 0; i < ARRAY_LEN(nasty); i++) {
		log_info("e", KV("v", nasty[i]), KV("after", 1));
		json_t *o = written_json(c);
		assert_int_equal(json_integer_value(json_object_get(o, "after")), 1);
		json_decref(o);
	}
	const double odd[] = {0.0 / 0.0, 1.0 / 0.0, -1.0 / 0.0};
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		log_info("e", KV("v", odd[i]));
		json_decref(written_json(c));
	}
}

static void a_long_value_is_not_cut_in_the_middle(void **state)
{
	struct capture *c = *state;
	static char value[9000];
	log_init("tester", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
	for (size_t len = 3700; len < sizeof(value) - 1; len += len < 4100 ? 1 : 500) {
		memset(value, 'x', len);
		value[len] = '\0';
		log_info("e", KV("v", value), KV("n", 123456789), KV("w", value),
			 KV("m", 987654321), KV("o", 1));
		json_decref(written_json(c));
	}
}

static void a_cut_value_keeps_its_beginning_and_says_so(void **state)
{
	struct capture *c = *state;
	static char value[9000];
	memset(value, 'x', sizeof(value) - 1);
	log_info("e", KV("v", value), KV("after", 1));
	const char *t = written(c);
	assert_non_null(strstr(t, "v=\"xxxxxxxxx"));
	assert_non_null(strstr(t, "x\" cut=true\n"));
	assert_true(strlen(t) > 4000);
	/* what is long but fits is whole */
	value[3000] = '\0';
	log_info("e", KV("v", value), KV("after", 1));
	assert_non_null(strstr(written(c), " after=1\n"));
}

static void levels_and_formats_have_names(void **state)
{
	(void)state;
	enum log_level level;
	enum log_format format;
	assert_int_equal(log_level_parse("error", &level), 0);
	assert_int_equal(level, LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("Debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_true(log_level_parse("loud", &level) < 0);
	assert_true(log_level_parse("", &level) < 0);
	assert_int_equal(log_format_parse("json", &format), 0);
	assert_int_equal(format, LOG_FORMAT_JSON);
	assert_int_equal(log_format_parse("text", &format), 0);
	assert_int_equal(format, LOG_FORMAT_TEXT);
	assert_true(log_format_parse("xml", &format) < 0);
}

static void a_source_complains_once_a_minute(void **state)
{
	(void)state;
	assert_true(log_allowed("bad.json", "device-1"));
	assert_false(log_allowed("bad.json", "device-1"));
	assert_true(log_allowed("bad.json", "device-2"));
	assert_true(log_allowed("bad.state", "device-1"));
	assert_true(log_allowed("bad.json", NULL));
	assert_false(log_allowed("bad.json", NULL));
	assert_false(log_allowed("bad.json", "device-2"));
}

static void *chatter(void *arg)
{
	for (int i = 0; i < 200; i++) {
		log_info("thread", KV("name", (const char *)arg), KV("i", i));
		log_allowed("thread", arg);
	}
	return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
	struct capture *c = *state;
	pthread_t threads[4];
	char names[] = "a\0b\0c\0d";
	log_init("tester", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, chatter, names + 2 * i), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	rewind(c->file);
	char line[512];
	unsigned lines = 0;
	for (; fgets(line, sizeof(line), c->file) != NULL; lines++) {
		json_t *o = json_loads(line, 0, NULL);
		assert_non_null(o);
		json_decref(o);
	}
	assert_int_equal(lines, 800);
}

struct seen {
	unsigned modules, own;
	enum log_level of_a, of_b;
	char last[64];
	bool sorted;
};

static void see(void *arg, const char *module, enum log_level level, bool own)
{
	struct seen *s = arg;
	s->sorted = s->sorted && strcmp(s->last, module) < 0;
	snprintf(s->last, sizeof(s->last), "%s", module);
	s->modules++;
	s->own += own;
	if (strcmp(module, "module_a") == 0)
		s->of_a = level;
	if (strcmp(module, "module_b") == 0)
		s->of_b = level;
}

static void a_module_has_a_level_of_its_own(void **state)
{
	struct capture *c = *state;
	struct seen seen = {.sorted = true};
	log_level_set(NULL, LOG_LEVEL_WARN);
	assert_int_equal(log_level_set("module_a", LOG_LEVEL_DEBUG), 0);
	log_debug("module_a.one");
	log_info("module_a");
	log_info("module_b.one");
	log_info("module.one"); /* the begin of a name is another name */
	const char *text = written(c);
	assert_non_null(strstr(text, "module_a.one"));
	assert_non_null(strstr(text, "module_a\n"));
	assert_null(strstr(text, "module_b"));
	assert_null(strstr(text, "module.one"));
	log_module_each(see, &seen);
	assert_true(seen.sorted && seen.modules >= 3);
	assert_int_equal(seen.own, 1);
	assert_int_equal(seen.of_a, LOG_LEVEL_DEBUG);
	assert_int_equal(seen.of_b, LOG_LEVEL_WARN);
	assert_int_equal(log_level_set("module_a", LOG_LEVEL_ERROR), 0); /* quieter than the others, too */
	log_warn("module_a.one");
	assert_string_equal(written(c), "");
	log_level_unset("module_a");
	log_level_unset("module_b"); /* has none: nothing happens */
	log_warn("module_a.one");
	log_debug("module_a.one");
	text = written(c);
	assert_non_null(strstr(text, "warn tester module_a.one"));
	assert_null(strstr(text, "debug"));
}

static void a_module_that_is_none_is_refused(void **state)
{
	(void)state;
	static const char *const none[] = {"", "no_such", "module_a.one", "thre",
					   "a_name_that_is_much_longer_than_any_module_has"};
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_int_equal(log_level_set(none[i], LOG_LEVEL_DEBUG), ERR_NOENT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_line_has_time_level_program_event_and_fields),
		T(no_fields_are_fine),
		T(levels_below_the_setting_are_silent),
		T(a_value_cannot_break_the_line),
		T(json_lines_are_json),
		T(json_lines_are_json_whatever_the_bytes),
		T(a_long_value_is_not_cut_in_the_middle),
		T(a_cut_value_keeps_its_beginning_and_says_so),
		T(levels_and_formats_have_names),
		T(a_source_complains_once_a_minute),
		T(lines_of_threads_do_not_mix),
		T(a_module_has_a_level_of_its_own),
		T(a_module_that_is_none_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
