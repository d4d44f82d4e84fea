#include "agent/device/tool.h"
#include "agent/device/conf.h"
#include "agent/device/doc.h"
#include "agent/device/tool_modbus.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/options.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* ---- check ---- */

static const struct option_row check_options[] = {
	{"config", 'c', "INI_PATH", "settings that say what the file does not"},
	{"json", 0, NULL, "as JSON, for programs"},
	{0},
};

struct told {
	bool as_json;
	json_t *errors, *warnings; /* texts */
};

static void on_problem(void *arg, bool is_error, const char *text)
{
	struct told *t = arg;

	json_array_append_new(is_error ? t->errors : t->warnings, json_string(text));
	if (!t->as_json)
		fprintf(stderr, "%s: %s\n", is_error ? "error" : "warning", text);
}

static void on_setting(void *arg, bool is_error, const char *text)
{
	(void)arg;
	if (is_error)
		fprintf(stderr, "error: %s\n", text);
}

/* ret: whether it could be told whole. */
static bool tell(const char *path, const struct devices_conf *conf, const struct problems *problems,
		 bool as_json)
{
	json_auto_t *errors = json_array(), *warnings = json_array();
	struct told t = {as_json, errors, warnings};
	size_t n_warnings;

	problems_each(problems, on_problem, &t);
	n_warnings = json_array_size(warnings);
	if (as_json) {
		json_auto_t *all =
			json_pack("{s:s, s:I, s:O, s:O}", "file", path, "devices",
				  (json_int_t)conf->n, "errors", errors, "warnings", warnings);
		CLEANUP(freep)
		char *text = shortage_dumps(all);

		return text != NULL && puts(text) >= 0;
	}
	if (problems_errors(problems) == 0)
		printf("%s: %zu device%s, no error, %zu warning%s\n", path, conf->n,
		       conf->n == 1 ? "" : "s", n_warnings, n_warnings == 1 ? "" : "s");
	return true;
}

static int check(const char *path, const struct settings *settings, bool as_json)
{
	struct devices_conf conf = {0};
	struct problems *problems = problems_new();
	struct err err = {0};
	int rc = problems != NULL ? devices_conf_load(path, settings, &conf, problems, &err)
				  : err_set(&err, ERR_NOMEM, "%s", path);

	if (rc < 0 && (problems == NULL || problems_errors(problems) == 0))
		fprintf(stderr, "error: %s\n", err.text);
	else if (!tell(path, &conf, problems, as_json))
		rc = ERR_NOMEM;
	problems_free(problems);
	devices_conf_done(&conf);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_check(const struct options *o)
{
	struct settings settings = {0};
	struct err err = {0};

	int rc = settings_load(options_value(o, "config"), &settings, on_setting, NULL, &err);

	if (rc < 0)
		fprintf(stderr, "error: %s\n", err.text);
	int status = rc < 0 ? EXIT_FAILURE : check(o->argv[0], &settings, options_has(o, "json"));

	settings_done(&settings);
	return status;
}

/* ---- doc ---- */

static int run_doc(const struct options *o)
{
	if (o->argc == 0) {
		doc_all(stdout);
		return EXIT_SUCCESS;
	}
	const struct device_type *type = device_type_find(o->argv[0]);
	size_t n;
	const struct device_type *const *types = device_types(&n);

	if (type != NULL) {
		doc_type(type, stdout);
		return EXIT_SUCCESS;
	}
	fprintf(stderr, "error: %s is no device type; there are:", o->argv[0]);
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, " %s", types[i]->name);
	fputc('\n', stderr);
	return EXIT_WRONG_LINE;
}

/* ---- words ---- */

static const struct word {
	const char *name, *args;
	int min, max; /* operands; max -1: any number */
	const struct option_row *options;
	int (*run)(const struct options *o);
} words[] = {
	{"check", "FILE", 1, 1, check_options, run_check},
	{"doc", "[TYPE]", 0, 1, NULL, run_doc},
	{"scan", "HOST[:PORT]|LINE", 1, 1, scan_options, tool_scan},
	{"decode", "REGISTER ...", 1, -1, decode_options, tool_decode},
};

static int usage(void)
{
	fputs("usage: gateway-agent device ...\n", stderr);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		fprintf(stderr, "  %s %s\n", words[i].name, words[i].args);
		options_print(words[i].options, 24, stderr);
	}
	return EXIT_WRONG_LINE;
}

int device_tool(int argc, char *argv[])
{
	const struct word *w = argc > 1 ? words : NULL;
	struct options o;

	log_init("gateway-agent", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	shortage_watch_json();
	while (w != NULL && strcmp(w->name, argv[1]) != 0)
		w = w + 1 < words + ARRAY_LEN(words) ? w + 1 : NULL;
	if (w == NULL || options_parse(w->options, false, argc - 1, argv + 1, &o) < 0 ||
	    o.argc < w->min || (w->max >= 0 && o.argc > w->max))
		return usage();
	int status = w->run(&o);

	if (fflush(stdout) != 0 || ferror(stdout)) {
		fputs("error: the output cannot be written\n", stderr);
		return EXIT_FAILURE;
	}
	return status;
}
