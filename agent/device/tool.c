#include "agent/device/tool.h"
#include "agent/device/conf.h"
#include "agent/device/doc.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/options.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

enum { EXIT_WRONG_LINE = 2 };

/* ---- check ---- */

static const struct option_row check_options[] = {
	{"config", 'c', "INI_PATH", "settings that say what the file does not"},
	{0},
};

struct counts {
	size_t errors, warnings;
};

static void on_problem(void *arg, bool is_error, const char *text)
{
	struct counts *n = arg;

	*(is_error ? &n->errors : &n->warnings) += 1;
	fprintf(stderr, "%s: %s\n", is_error ? "error" : "warning", text);
}

static void on_setting(void *arg, bool is_error, const char *text)
{
	(void)arg;
	if (is_error)
		fprintf(stderr, "error: %s\n", text);
}

static int check(const char *path, const struct settings *settings)
{
	struct devices_conf conf = {0};
	struct problems *problems = problems_new();
	struct counts n = {0};
	struct err err = {0};

	if (problems == NULL) {
		fputs("error: out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	int rc = devices_conf_load(path, settings, &conf, problems, &err);

	problems_each(problems, on_problem, &n);
	if (rc < 0 && problems_errors(problems) == 0)
		fprintf(stderr, "error: %s\n", err.text);
	if (rc == 0)
		printf("%s: %zu devices, no error, %zu warnings\n", path, conf.n, n.warnings);
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
	int status = rc < 0 ? EXIT_FAILURE : check(o->argv[0], &settings);

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
	return EXIT_FAILURE;
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

	log_init("gateway-agent", LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
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
