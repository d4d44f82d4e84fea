/* cmd_tune.c - iotctl reload, log-level: settings and log levels of daemons that run. */
#include "common/util.h"
#include "iotctl/show.h"
#include "iotctl/units.h"
#include <stdio.h>
#include <string.h>

#define ASK_MS 10000

/* Daemons that have a control socket: all of ours, not the broker. */
static bool is_ours(unsigned unit)
{
	return unit_kinds[unit].program != NULL;
}

/* ---- reload ---- */

static void print_settings(const char *name, json_t *settings, const char *what)
{
	json_t *one;
	size_t i;

	json_array_foreach (settings, i, one)
		printf("%s: %s %s\n", name, json_string_value(one), what);
}

static int reload_one(const struct iotctl *app, const char *name, json_t *told)
{
	json_auto_t *answer = NULL;
	int rc = ask_daemon(app, "reload", name, json_pack("{s:s}", "op", "reload"), ASK_MS,
			    &answer);

	if (rc != EXIT_OK)
		return rc;
	json_t *changed = json_object_get(answer, "changed"),
	       *restart = json_object_get(answer, "restart");

	if (told != NULL)
		return json_object_set(told, name, answer) < 0 ? complain("reload: out of memory")
							       : EXIT_OK;
	print_settings(name, changed, "changed");
	print_settings(name, restart, "takes effect with `iotctl restart`");
	if (json_array_size(changed) + json_array_size(restart) == 0)
		printf("%s: nothing changed\n", name);
	return EXIT_OK;
}

int cmd_reload(struct iotctl *app, const struct options *o)
{
	struct err err = {0};
	unsigned mask;
	int rc = EXIT_OK;

	if (units_parse(o->argv, o->argc, &mask, &err) < 0)
		return refuse_names("reload", &err);
	if (o->argc > 0 && (mask & 1u << UNIT_BROKER))
		return misused(
			"reload: the broker is not reloaded; `iotctl restart broker` restarts it");
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	json_auto_t *told = options_has(o, "json") ? json_object() : NULL;

	for (unsigned i = 0; i < UNITS; i++) {
		if ((mask & 1u << i) == 0 || !is_ours(i))
			continue;
		int one = reload_one(app, unit_kinds[i].name, told);

		rc = rc == EXIT_OK ? one : rc;
	}
	if (told != NULL)
		print_json(told);
	return rc;
}

/* ---- log-level ---- */

static int print_levels(json_t *modules)
{
	const char *module;
	json_t *m;

	json_object_foreach (modules, module, m)
		printf("%-16s %s%s\n", module, text_of(m, "level"),
		       json_is_true(json_object_get(m, "own")) ? "  (its own)" : "");
	return EXIT_OK;
}

int cmd_log_level(struct iotctl *app, const struct options *o)
{
	char *const *words = o->argv;
	struct err err = {0};
	unsigned mask;

	if (o->argc != 1 && o->argc != 3)
		return misused("log-level: usage: iotctl log-level NAME [MODULE LEVEL]");
	if (units_parse(words, 1, &mask, &err) < 0)
		return refuse_names("log-level", &err);
	if (mask & 1u << UNIT_BROKER)
		return misused("log-level: the broker's log has no levels that can be changed "
			       "while it runs");
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	const char *module = o->argc == 3 && strcmp(words[1], "all") != 0 ? words[1] : NULL;
	json_auto_t *answer = NULL;
	int rc = ask_daemon(app, "log-level", words[0],
			    json_pack("{s:s, s:s*, s:s*}", "op", "log-level", "module", module,
				      "level", o->argc == 3 ? words[2] : NULL),
			    ASK_MS, &answer);

	if (rc != EXIT_OK)
		return rc;
	json_t *modules = json_object_get(answer, "modules");

	return options_has(o, "json") ? print_json(modules) : print_levels(modules);
}
