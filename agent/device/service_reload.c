/* service_reload.c - the device file: read at the start, and again when people say so. */
#include "agent/device/outbox.h"
#include "agent/device/service_int.h"
#include "agent/device/view.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* ---- reading ---- */

static void log_problem(void *arg, bool is_error, const char *text)
{
	const struct devices *d = arg;

	if (is_error)
		log_error("devices.wrong", KV("file", d->path), KV("what", text));
	else
		log_warn("devices.odd", KV("file", d->path), KV("what", text));
}

struct texts {
	json_t *errors, *warnings;
};

static void list_problem(void *arg, bool is_error, const char *text)
{
	const struct texts *t = arg;

	json_array_append_new(is_error ? t->errors : t->warnings, json_string(text));
}

/* ret: 0, or negative: p, or else err, says why. */
static int load(const struct devices *d, struct devices_conf *ret, struct problems *p,
		struct err *err)
{
	int rc = devices_conf_load(d->path, d->settings, ret, p, err);

	if (rc == 0 && problems_errors(p) > 0)
		rc = ERR_SCHEMA;
	if (rc < 0 && problems_errors(p) == 0)
		problem_add(p, "", "%s", err->text);
	return rc;
}

/* ---- starting ---- */

struct cleaning {
	struct devices *all;
	int rc;
};

/* A device application of ours that is in the file no more: it was taken out while we were away. */
static int on_registration(void *arg, const char *id, const char *key)
{
	struct cleaning *c = arg;
	struct devices *d = c->all;
	const struct entry *e = map_find(d->entries, key);
	struct err err = {0};

	if (e != NULL && strcmp(device_id(e->device), id) == 0)
		return 0;
	int rc = e == NULL ? outbox_purge(d->store, key, &err) : 0;
	if (rc == 0)
		rc = view_deregister(d->farewells, id, &err);
	if (rc < 0)
		log_error("device.remove_failed", KV("device", key), KV("why", err.text));
	return 0;
}

static int begin(struct devices *d, const struct devices_conf *conf, struct err *err)
{
	int rc = 0;

	if (d->store == NULL)
		rc = store_open(d->loop, d->settings, &d->store, err);
	if (rc == 0 && d->fetch == NULL)
		rc = fetch_new(d->loop, &d->fetch, err);
	if (rc == 0 && d->farewells == NULL)
		rc = view_farewells_new(d->loop, d->store, d->fetch, conf->csm_url, &d->farewells,
					err);
	if (rc < 0)
		return rc;
	d->env.store = d->store;
	d->env.fetch = d->fetch;
	d->env.farewells = d->farewells;
	d->env.gateway = conf->name;
	d->env.csm_url = conf->csm_url;
	for (size_t i = 0; rc == 0 && i < conf->n; i++)
		rc = devices_add(d, &conf->devices[i], true, err);
	struct cleaning cleaning = {.all = d};

	if (rc == 0)
		rc = store_each_registration(d->store, on_registration, &cleaning, err);
	if (rc >= 0)
		rc = devices_start_marks(d, conf->name, err);
	return rc < 0 ? rc : devices_connect(d, conf, err);
}

/* The first file that is good. */
static int start(struct devices *d, struct devices_conf *conf, struct err *err)
{
	int rc = begin(d, conf, err);

	if (rc < 0) {
		while (map_first(d->entries) != NULL)
			devices_drop(d, map_first(d->entries), false);
		d->farewells = view_farewells_free(d->farewells);
		return rc;
	}
	d->conf = *conf;
	*conf = (struct devices_conf){0};
	d->started = true;
	d->why[0] = '\0';
	log_info("devices.started", KV("file", d->path), KV("devices", map_count(d->entries)));
	return 0;
}

static void note_first(void *arg, bool is_error, const char *text)
{
	struct devices *d = arg;

	bool named =
		strncmp(text, d->path, strlen(d->path)) == 0; /* what is wrong with it as a file */

	if (is_error && d->why[0] == '\0')
		snprintf(d->why, sizeof(d->why), "%.200s%s%.390s", named ? "" : d->path,
			 named ? "" : ": ", text);
}

void devices_start(struct devices *d)
{
	struct devices_conf conf = {0};
	struct problems *p = problems_new();
	struct err err = {0};
	int rc = p != NULL ? load(d, &conf, p, &err) : err_set(&err, ERR_NOMEM, "device file");

	if (p != NULL) {
		problems_each(p, log_problem, d);
		problems_each(p, note_first, d);
	}
	if (rc == 0 && start(d, &conf, &err) < 0) {
		snprintf(d->why, sizeof(d->why), "%.590s", err.text);
		log_error("devices.start_failed", KV("why", err.text));
	}
	devices_conf_done(&conf);
	problems_free(p);
}

/* ---- again ---- */

static bool differs(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a != b;
	return strcmp(a, b) != 0;
}

/* What holds for all devices, and is read at the start only. */
static bool gateway_differs(const struct devices_conf *a, const struct devices_conf *b)
{
	return differs(a->name, b->name) || differs(a->mqtt_host, b->mqtt_host) ||
	       a->mqtt_port != b->mqtt_port || differs(a->username, b->username) ||
	       differs(a->password, b->password) || differs(a->csm_url, b->csm_url) ||
	       a->bus_loss_grace_s != b->bus_loss_grace_s || a->sync_timeout_s != b->sync_timeout_s;
}

/* One that a reading would have changed, added or removed. */
struct change {
	const struct device_conf *conf; /* NULL: it goes */
	struct entry *entry;            /* NULL: it comes */
};

struct changes {
	struct devices *all;
	const struct devices_conf *conf;
	const char *name;     /* NULL: all */
	struct change *items; /* owned */
	size_t n;
	char first_key[300]; /* of those that have the name */
	size_t named;        /* how many have it */
};

static bool is_named(struct changes *c, const char *type, const char *name)
{
	char key[sizeof(c->first_key)];

	if (c->name == NULL)
		return true;
	snprintf(key, sizeof(key), "%s/%s", type, name);
	if (strcmp(c->name, name) != 0 && strcmp(c->name, key) != 0)
		return false;
	if (c->named == 0 || strcmp(c->first_key, key) != 0)
		c->named++;
	snprintf(c->first_key, sizeof(c->first_key), "%s", key);
	return true;
}

static const struct device_conf *conf_of(const struct devices_conf *c, const struct device *d)
{
	for (size_t i = 0; i < c->n; i++) {
		const char *type = c->devices[i].type->name;
		size_t n = strlen(type);

		if (strncmp(device_key(d), type, n) == 0 && device_key(d)[n] == '/' &&
		    strcmp(device_name(d), c->devices[i].name) == 0)
			return &c->devices[i];
	}
	return NULL;
}

static void find_gone(void *arg, const char *key, void *value)
{
	struct changes *c = arg;
	struct entry *e = value;
	const char *name = device_name(e->device);
	char type[64];

	snprintf(type, sizeof(type), "%.*s", (int)(strlen(key) - strlen(name) - 1), key);
	if (is_named(c, type, name) && conf_of(c->conf, e->device) == NULL)
		c->items[c->n++] = (struct change){.entry = e};
}

/* ret: 0; ERR_NOENT, ERR_INVAL (whom the name means), ERR_NOMEM. */
static int find_changes(struct changes *c, struct err *err)
{
	c->items = calloc(c->conf->n + map_count(c->all->entries) + 1, sizeof(*c->items));
	if (c->items == NULL)
		return err_set(err, ERR_NOMEM, "device file");
	map_each(c->all->entries, find_gone, c);
	for (size_t i = 0; i < c->conf->n; i++) {
		const struct device_conf *conf = &c->conf->devices[i];
		char key[300];

		if (!is_named(c, conf->type->name, conf->name))
			continue;
		snprintf(key, sizeof(key), "%s/%s", conf->type->name, conf->name);
		struct entry *e = map_find(c->all->entries, key);

		if (e == NULL || !json_equal(device_conf(e->device), conf->json))
			c->items[c->n++] = (struct change){.conf = conf, .entry = e};
	}
	if (c->name != NULL && c->named == 0)
		return err_set(err, ERR_NOENT, "there is no device '%.100s'", c->name);
	return 0;
}

/* ret: how it went, for the answer. */
static const char *apply(struct devices *d, const struct change *ch, struct err *err)
{
	if (ch->entry != NULL)
		devices_drop(d, ch->entry, ch->conf == NULL);
	if (ch->conf == NULL)
		return "removed";
	if (devices_add(d, ch->conf, ch->entry == NULL, err) == 0)
		return ch->entry == NULL ? "added" : "changed";
	log_error("device.failed", KV("device", ch->conf->name), KV("why", err->text));
	return "failed";
}

static void apply_all(struct devices *d, const struct changes *c, json_t *answer)
{
	struct err err = {0};

	for (size_t i = 0; i < c->n; i++) {
		const struct change *ch = &c->items[i];
		char key[300];

		if (ch->conf != NULL)
			snprintf(key, sizeof(key), "%s/%s", ch->conf->type->name, ch->conf->name);
		else
			snprintf(key, sizeof(key), "%s", device_key(ch->entry->device));
		const char *done = apply(d, ch, &err);

		log_info("device.reloaded", KV("device", key), KV("done", done));
		json_array_append_new(json_object_get(answer, done), json_string(key));
	}
}

static void list_added(void *arg, const char *key, void *value)
{
	(void)value;
	json_array_append_new(arg, json_string(key));
}

static void answer_wrong(const struct devices *d, struct ctl_call *call, const struct problems *p)
{
	struct texts texts = {.errors = json_array(), .warnings = json_array()};
	char reason[600] = "the device file is wrong";

	problems_each(p, list_problem, &texts);
	const char *first = json_string_value(json_array_get(texts.errors, 0));
	if (first != NULL)
		snprintf(reason, sizeof(reason),
			 "the device file is wrong, nothing is changed: %.400s%s", first,
			 json_array_size(texts.errors) > 1 ? " (and more)" : "");
	ctl_answer(call,
		   json_pack("{s:s, s:s, s:s, s:o, s:o}", "state", "error", "reason", reason,
			     "file", d->path, "errors", texts.errors, "warnings", texts.warnings));
}

static void reload(struct devices *d, const char *name, const struct problems *p,
		   struct devices_conf *conf, struct ctl_call *call)
{
	struct changes c = {.all = d, .conf = conf, .name = name};
	struct texts texts = {.errors = json_array(), .warnings = json_array()};
	struct err err = {0};
	bool was_started = d->started;
	bool restart = was_started && gateway_differs(&d->conf, conf);
	int rc = was_started ? find_changes(&c, &err) : start(d, conf, &err);

	if (rc == 0 && c.named > 1)
		rc = err_set(&err, ERR_INVAL,
			     "'%.100s' is the name of several devices: give TYPE/NAME", name);
	json_t *answer = rc == 0 ? json_pack("{s:s, s:s, s:[], s:[], s:[], s:[], s:b}", "state",
					     "ok", "file", d->path, "added", "changed", "removed",
					     "failed", "restart_needed", restart)
				 : NULL;
	if (answer != NULL) {
		if (!was_started)
			map_each(d->entries, list_added, json_object_get(answer, "added"));
		apply_all(d, &c, answer);
		problems_each(p, list_problem, &texts);
		json_object_set(answer, "warnings", texts.warnings);
		if (restart)
			json_object_set_new(
				answer, "note",
				json_string("what the file says of the whole gateway (name, mqtt, "
					    "csm, bus_loss_grace, sync_timeout) has changed: it "
					    "holds after iotctl restart agent"));
	}
	if (rc < 0)
		ctl_answer_error(call, err.text);
	else
		ctl_answer(call, answer);
	json_decref(texts.errors);
	json_decref(texts.warnings);
	free(c.items);
}

void devices_on_reload(struct devices *d, json_t *request, struct ctl_call *call)
{
	const json_t *wanted = json_object_get(request, "name");
	const char *name = json_string_value(wanted);
	struct devices_conf conf = {0};
	struct err err = {0};

	if (name == NULL && wanted != NULL && !json_is_null(wanted)) {
		ctl_answer_error(call, "name must be a text: that of a device, or TYPE/NAME");
		return;
	}
	struct problems *p = problems_new();

	if (p == NULL) {
		ctl_answer_error(call, "out of memory");
		return;
	}
	if (load(d, &conf, p, &err) < 0)
		answer_wrong(d, call, p);
	else
		reload(d, name, p, &conf, call);
	devices_conf_done(&conf);
	problems_free(p);
}
