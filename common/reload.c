/* reload.c - settings and log levels of a running daemon. */
#include "common/reload.h"
#include "common/log.h"
#include "common/util.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* One reading of the file. */
struct reading {
	json_t *changed, *restart;
	char wrong[400]; /* the first error of the file; empty: none */
};

static void on_note(void *arg, bool is_error, const char *text)
{
	struct reading *r = arg;

	if (!is_error)
		log_warn("config.doubtful", KV("what", text));
	else
		log_error("config.bad", KV("what", text));
	if (is_error && r->wrong[0] == '\0')
		snprintf(r->wrong, sizeof(r->wrong), "%s", text);
}

static void on_difference(void *arg, const struct conf_row *row, bool adopted)
{
	struct reading *r = arg;
	char name[128];

	snprintf(name, sizeof(name), "%s.%s", row->section, row->key);
	json_array_append_new(adopted ? r->changed : r->restart, json_string(name));
	if (adopted)
		log_info("config.changed", KV("setting", name));
	else
		log_warn("config.needs_restart", KV("setting", name));
}

/* ret: 0, or negative and the settings are as they were. */
static int read_again(struct reload *r, struct reading *reading, struct err *err)
{
	struct daemon_opts *d = r->daemon;
	struct settings fresh;
	int rc = settings_load(d->conf_path, &fresh, on_note, reading, err);

	if (rc == 0)
		settings_adopt(&d->settings, &fresh, on_difference, reading);
	settings_done(&fresh);
	if (rc < 0) {
		log_error("config.not_reloaded", KV("why", err->text));
		return rc;
	}
	log_info("config.reloaded", KV("changed", json_array_size(reading->changed)),
		 KV("need_restart", json_array_size(reading->restart)));
	if (json_array_size(reading->changed) == 0)
		return 0;
	daemon_set_log(d);
	if (r->on_change != NULL)
		r->on_change(r->arg);
	return 0;
}

static void on_hup(void *arg)
{
	struct reading reading = {.changed = json_array(), .restart = json_array()};
	struct err err = {0};

	read_again(arg, &reading, &err);
	json_decref(reading.changed);
	json_decref(reading.restart);
}

int reload_start(struct reload *r, struct loop *l, struct err *err)
{
	return loop_add_signal(l, SIGHUP, on_hup, r, err);
}

void reload_ctl(struct reload *r, struct ctl_call *call)
{
	struct reading reading = {.changed = json_array(), .restart = json_array()};
	struct err err = {0};

	if (read_again(r, &reading, &err) < 0) {
		json_decref(reading.changed);
		json_decref(reading.restart);
		ctl_answer_error(call, reading.wrong[0] != '\0' ? reading.wrong : err.text);
		return;
	}
	ctl_answer(call,
		   json_pack("{s:s, s:s?, s:o, s:o}", "state", "ok", "file", r->daemon->conf_path,
			     "changed", reading.changed, "restart", reading.restart));
}

/* ---- log levels ---- */

static void add_module(void *arg, const char *module, enum log_level level, bool own)
{
	json_object_set_new(arg, module,
			    json_pack("{s:s, s:b}", "level", log_level_name(level), "own", own));
}

/* ret: NULL, or what is wrong, in buf. */
static const char *set_level(struct reload *r, const char *module, const char *name, char *buf,
			     size_t cap)
{
	enum log_level level;

	if (strcmp(name, "default") == 0 && module == NULL) {
		daemon_set_log(r->daemon);
		return NULL;
	}
	if (strcmp(name, "default") == 0) {
		log_level_unset(module);
		return NULL;
	}
	if (log_level_parse(name, &level) < 0) {
		snprintf(buf, cap, "'%.40s' is none of error, warn, info, debug, default", name);
		return buf;
	}
	int rc = log_level_set(module, level);
	if (rc == 0)
		return NULL;
	snprintf(buf, cap,
		 rc == ERR_NOENT ? "there is no module '%.40s'"
				 : "no room for a level of '%.40s': set some to default",
		 module);
	return buf;
}

void reload_ctl_log_level(struct reload *r, json_t *request, struct ctl_call *call)
{
	const char *module = json_string_value(json_object_get(request, "module"));
	const char *level = json_string_value(json_object_get(request, "level"));
	char buf[128];
	const char *wrong = level != NULL ? set_level(r, module, level, buf, sizeof(buf)) : NULL;

	if (wrong != NULL) {
		ctl_answer_error(call, wrong);
		return;
	}
	if (level != NULL)
		log_info("log.level", KV("module", module != NULL ? module : "all"),
			 KV("level", level));
	json_t *modules = json_object();

	if (modules != NULL)
		log_module_each(add_module, modules);
	ctl_answer(call, json_pack("{s:s, s:o}", "state", "ok", "modules", modules));
}
