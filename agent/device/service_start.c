/* service_start.c - the first device file that is good: all devices that it names, and what is left
 * of others.
 */
#include "agent/device/outbox.h"
#include "agent/device/service_int.h"
#include "agent/device/view.h"
#include "common/log.h"
#include <stdio.h>
#include <string.h>

static void log_problem(void *arg, bool is_error, const char *text)
{
	const struct devices *d = arg;

	if (is_error)
		log_error("devices.wrong", KV("file", d->path), KV("what", text));
	else
		log_warn("devices.odd", KV("file", d->path), KV("what", text));
}

/* ret: 0, or negative: p, or else err, says why. */
static int load(struct devices *d, struct devices_conf *ret, struct problems *p, struct err *err)
{
	struct conf_reading *r = NULL;
	int rc = conf_reading_new(d->path, d->settings, NULL, p, &r, err);

	if (rc < 0)
		return rc;
	rc = conf_reading_run(r, err);
	conf_reading_take(r, ret, &d->templates);
	conf_reading_free(r);
	return rc;
}

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
	if (rc == 0 && e == NULL)
		rc = device_say_gone(d->env.gateway, key, devices_on_last_word, d, &err);
	if (rc == 0)
		rc = view_deregister(d->farewells, id, &err);
	if (rc < 0)
		log_error("device.remove_failed", KV("device", key), KV("why", err.text));
	return 0;
}

/* The devices are taken out of conf one by one: as trees they are larger than what is made of them.
 */
static int begin(struct devices *d, struct devices_conf *conf, struct err *err)
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
	for (size_t i = 0; rc == 0 && i < conf->n; i++) {
		rc = devices_add(d, &conf->devices[i], true, err);
		devices_conf_drop(conf, i);
	}
	struct cleaning cleaning = {.all = d};

	if (rc == 0)
		rc = store_each_registration(d->store, on_registration, &cleaning, err);
	if (rc >= 0)
		rc = devices_start_marks(d, conf->name, err);
	return rc < 0 ? rc : devices_connect(d, conf, err);
}

int devices_begin(struct devices *d, struct devices_conf *conf, struct err *err)
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

void devices_note_why(struct devices *d, const struct problems *p, const struct err *err)
{
	d->why[0] = '\0';
	if (p != NULL)
		problems_each(p, note_first, d);
	if (d->why[0] == '\0')
		snprintf(d->why, sizeof(d->why), "%.590s", err->text);
}

void devices_start(struct devices *d)
{
	struct devices_conf conf = {0};
	struct problems *p = problems_new();
	struct err err = {0};
	int rc = p != NULL ? load(d, &conf, p, &err) : err_set(&err, ERR_NOMEM, "device file");

	if (rc < 0 && p != NULL && problems_errors(p) == 0)
		problem_add(p, "", "%s", err.text);
	if (p != NULL)
		problems_each(p, log_problem, d);
	if (rc == 0 && (rc = devices_begin(d, &conf, &err)) < 0)
		log_error("devices.start_failed", KV("why", err.text));
	if (rc < 0)
		devices_note_why(d, p, &err);
	devices_conf_done(&conf);
	problems_free(p);
}
