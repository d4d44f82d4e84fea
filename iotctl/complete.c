/* complete.c - candidates for the last word of a command line. */
#include "iotctl/complete.h"
#include "common/ctl.h"
#include "common/util.h"
#include "iotctl/commands.h"
#include "iotctl/manual.h"
#include "iotctl/show.h"
#include "iotctl/units.h"
#include <stdio.h>
#include <string.h>

#define ASK_MS     1000
#define PAGE_APPS  1000
#define OFFERS_MAX 200 /* more are no help */

struct completion {
	struct iotctl *app;
	const char *begin;                    /* of the word */
	const char *before[OPERANDS_MAX + 1]; /* operands to its left, with the action */
	size_t n_before;
	unsigned offered;
	complete_fn *fn;
	void *arg;
};

/* Words that a shell would take apart are left out: they have an id that can be offered. */
static bool is_plain(const char *word)
{
	for (const char *c = word; *c != '\0'; c++)
		if (strchr(" \t\n\"'\\$`!*?[](){}<>|&;#~", *c) != NULL)
			return false;
	return true;
}

static void offer(struct completion *c, const char *word)
{
	if (word == NULL || strncmp(word, c->begin, strlen(c->begin)) != 0 || !is_plain(word) ||
	    c->offered == OFFERS_MAX)
		return;
	c->offered++;
	c->fn(c->arg, word);
}

/* The answer of a daemon; NULL: there is none. request: taken. */
static json_t *ask(struct completion *c, const char *daemon, json_t *request)
{
	json_auto_t *taken = request;
	json_t *answer = NULL;
	char relative[64];

	snprintf(relative, sizeof(relative), "run/%s.sock", daemon);
	CLEANUP(freep)
	char *path = c->app->has_settings ? settings_path(&c->app->settings, relative) : NULL;

	return path != NULL && taken != NULL && ctl_request(path, taken, ASK_MS, &answer, NULL) == 0
		       ? answer
		       : NULL;
}

/* ---- kinds of operands ---- */

static void offer_words(struct completion *c, const char *const *words)
{
	for (; *words != NULL; words++)
		offer(c, *words);
}

static void offer_units(struct completion *c, bool ours_only)
{
	for (unsigned i = 0; i < UNITS; i++)
		if (!ours_only || unit_kinds[i].program != NULL)
			offer(c, unit_kinds[i].name);
}

static void offer_apps(struct completion *c)
{
	char after[64] = "";

	for (bool more = true; more && c->offered < OFFERS_MAX;) {
		json_auto_t *answer = ask(c, "csm",
					  json_pack("{s:s, s:s, s:i}", "op", "apps", "after", after,
						    "limit", PAGE_APPS));
		json_t *page = json_object_get(answer, "apps"), *one;
		size_t i;

		json_array_foreach (page, i, one) {
			offer(c, json_string_value(json_object_get(one, "name")));
			/* ids are many, and nobody begins to type one but to have it completed */
			if (c->begin[0] != '\0')
				offer(c, json_string_value(json_object_get(one, "id")));
			snprintf(after, sizeof(after), "%s", text_of(one, "id"));
		}
		more = json_is_true(json_object_get(answer, "more"));
	}
}

static void offer_features(struct completion *c)
{
	static const char *const lists[] = {"idf_list", "odf_list"};
	json_auto_t *answer = ask(
		c, "csm", json_pack("{s:s, s:s}", "op", "app", "app", c->before[c->n_before - 1]));
	json_t *app = json_object_get(answer, "app"), *feature;
	size_t i;

	for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
		json_array_foreach (json_object_get(app, lists[k]), i, feature)
			offer(c,
			      json_string_value(json_is_array(feature) ? json_array_get(feature, 0)
								       : feature));
	}
}

static void offer_graphs(struct completion *c)
{
	json_auto_t *answer = ask(c, "agent", json_pack("{s:s}", "op", "graphs"));
	json_t *one;
	size_t i;

	json_array_foreach (json_object_get(answer, "graphs"), i, one)
		offer(c, json_string_value(json_object_get(one, "id")));
}

static void offer_devices(struct completion *c)
{
	json_auto_t *answer = ask(c, "agent", json_pack("{s:s}", "op", "device_list"));
	json_t *one;
	size_t i;

	json_array_foreach (json_object_get(answer, "devices"), i, one)
		offer(c, json_string_value(json_object_get(one, "name")));
}

static void offer_points(struct completion *c)
{
	json_auto_t *answer = ask(
		c, "agent",
		json_pack("{s:s, s:s}", "op", "device_show", "name", c->before[c->n_before - 1]));
	json_t *device = json_object_get(answer, "device"), *one;
	size_t i;

	json_array_foreach (json_object_get(device, "points_list"), i, one)
		offer(c, json_string_value(json_object_get(one, "name")));
}

/* Names of what ccm lists, page by page. */
static void offer_of_ccm(struct completion *c, const char *list, const char *id, const char *name)
{
	json_int_t after = 0;

	for (bool more = true; more && c->offered < OFFERS_MAX;) {
		json_auto_t *answer =
			ask(c, "ccm", json_pack("{s:s, s:I}", "op", list, "after", after));
		json_t *one;
		size_t i;

		json_array_foreach (json_object_get(answer, list), i, one) {
			offer(c, json_string_value(json_object_get(one, name)));
			after = json_integer_value(json_object_get(one, id));
		}
		more = json_is_true(json_object_get(answer, "more"));
	}
}

static void offer_modules(struct completion *c)
{
	json_auto_t *answer =
		ask(c, c->before[c->n_before - 1], json_pack("{s:s}", "op", "log-level"));
	const char *module;
	json_t *unused;

	offer(c, "all");
	json_object_foreach (json_object_get(answer, "modules"), module, unused)
		offer(c, module);
}

static void offer_pages(struct completion *c)
{
	for (size_t i = 0; manual_pages[i].name != NULL; i++)
		offer(c, manual_pages[i].name);
}

static void offer_operand(struct completion *c, enum operand kind)
{
	static const char *const modes[] = {"idf", "odf", NULL};
	static const char *const levels[] = {"error", "warn", "info", "debug", "default", NULL};
	static const char *const stores[] = {"csm", "ccm", "devices", NULL};
	static const char *const shells[] = {"bash", "zsh", NULL};
	/* gateway-agent, which has their table, is another program */
	static const char *const device_types[] = {"modbus_master", "modbus_slave", "ping", NULL};

	switch (kind) {
	case OPERAND_LOG:
		offer(c, "supervisor");
		offer_units(c, false);
		break;
	case OPERAND_UNIT:
	case OPERAND_DAEMON:
		offer_units(c, kind == OPERAND_DAEMON);
		break;
	case OPERAND_STORE:
		offer_words(c, stores);
		break;
	case OPERAND_APP:
		offer_apps(c);
		break;
	case OPERAND_FEATURE:
		offer_features(c);
		break;
	case OPERAND_MODE:
		offer_words(c, modes);
		break;
	case OPERAND_GRAPH:
		offer_graphs(c);
		break;
	case OPERAND_PROJECT:
		offer_of_ccm(c, "projects", "p_id", "p_name");
		break;
	case OPERAND_FUNCTION:
		offer_of_ccm(c, "functions", "fn_id", "fn_name");
		break;
	case OPERAND_USER:
		offer_of_ccm(c, "users", "u_id", "u_name");
		break;
	case OPERAND_DEVICE:
		offer_devices(c);
		break;
	case OPERAND_POINT:
		offer_points(c);
		break;
	case OPERAND_DEVICE_TYPE:
		offer_words(c, device_types);
		break;
	case OPERAND_MODULE:
		offer_modules(c);
		break;
	case OPERAND_LEVEL:
		offer_words(c, levels);
		break;
	case OPERAND_SHELL:
		offer_words(c, shells);
		break;
	case OPERAND_PAGE:
		offer_pages(c);
		break;
	case OPERAND_FILE: /* shells know files better */
	case OPERAND_ANY:
	case OPERAND_NONE:
		break;
	}
}

/* ---- places ---- */

static void offer_options(struct completion *c, const struct option_row *rows)
{
	char word[64];

	for (; rows != NULL && rows->name != NULL; rows++) {
		snprintf(word, sizeof(word), "--%s", rows->name);
		offer(c, word);
	}
	offer(c, "--help");
}

static const struct option_row *find_option(const struct option_row *rows, const char *word)
{
	for (; rows != NULL && rows->name != NULL; rows++)
		if ((word[0] == '-' && word[1] == rows->letter && rows->letter != '\0' &&
		     word[2] == '\0') ||
		    (strncmp(word, "--", 2) == 0 && strcmp(word + 2, rows->name) == 0))
			return rows;
	return NULL;
}

/* Options before the command. ret: where the command stands; n: it is not there yet. */
static int skip_global(struct completion *c, int n, char *const words[])
{
	int i = 0;

	while (i < n - 1 && words[i][0] == '-') {
		const struct option_row *o = find_option(global_options, words[i]);
		bool takes = o != NULL && o->arg != NULL;

		if (takes && strcmp(o->name, "config") == 0 && i + 1 < n - 1) {
			free(c->app->conf_path);
			c->app->conf_path = strdup(words[i + 1]);
		}
		i += takes ? 2 : 1;
	}
	return i;
}

static enum operand operand_at(const enum operand operands[OPERANDS_MAX], bool repeats, size_t at)
{
	size_t n = 0;

	while (n < OPERANDS_MAX && operands[n] != OPERAND_NONE)
		n++;
	if (at < n)
		return operands[at];
	return repeats && n > 0 ? operands[n - 1] : OPERAND_NONE;
}

/* The operands left of the word. ret: false if the word is the argument of an option. */
static bool read_before(struct completion *c, const struct command *cmd, int n, char *const words[])
{
	for (int i = 0; i < n - 1; i++) {
		const struct option_row *o = find_option(cmd->options, words[i]);

		if (o != NULL && o->arg != NULL && ++i == n - 1)
			return false;
		if (o == NULL && words[i][0] != '-' && c->n_before < ARRAY_LEN(c->before))
			c->before[c->n_before++] = words[i];
	}
	return true;
}

static void complete_command(struct completion *c, const struct command *cmd, int n,
			     char *const words[])
{
	const struct action *action = cmd->actions;

	if (!read_before(c, cmd, n, words))
		return;
	if (c->begin[0] == '-') {
		offer_options(c, cmd->options);
		return;
	}
	if (action == NULL) {
		offer_operand(c, operand_at(cmd->operands, cmd->repeats, c->n_before));
		return;
	}
	for (; c->n_before == 0 && action->name != NULL; action++)
		offer(c, action->name);
	if (c->n_before == 0)
		return;
	while (action->name != NULL && strcmp(action->name, c->before[0]) != 0)
		action++;
	if (action->name != NULL)
		offer_operand(c, operand_at(action->operands, action->repeats, c->n_before - 1));
}

void complete(struct iotctl *app, int n, char *const words[], complete_fn *fn, void *arg)
{
	struct completion c = {.app = app, .begin = words[n - 1], .fn = fn, .arg = arg};
	int at = skip_global(&c, n, words);

	if (at >= n) /* the argument of -c: a file */
		return;
	if (at == n - 1) {
		if (c.begin[0] == '-')
			offer_options(&c, global_options);
		for (size_t i = 0; c.begin[0] != '-' && i < n_commands; i++)
			if (commands[i].help != NULL && commands[i].run != NULL)
				offer(&c, commands[i].name);
		return;
	}
	const struct command *cmd = command_find(words[at]);

	if (cmd == NULL)
		return;
	if (!app->has_settings) {
		app->has_settings = true; /* even a failed load must be released */
		if (settings_load(app->conf_path, &app->settings, NULL, NULL, NULL) < 0) {
			settings_done(&app->settings);
			app->has_settings = false;
		}
	}
	complete_command(&c, cmd, n - at - 1, words + at + 1);
}
