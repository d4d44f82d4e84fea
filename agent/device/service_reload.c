/* service_reload.c - the device file, read again when people say so: a little in each turn of the
 * loop, so that no device that is left as it is misses anything.
 */
#include "agent/device/service_int.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define TURN_US  3000 /* steps of a turn begin within it */
#define AGAIN_MS 10   /* until it is looked again whether the broker takes more */
#define WAIT_MS  5000 /* for that, of all devices together */

/* Somebody waits for it. One after the other: each finds the file as it is then. */
struct reload {
	struct devices *all;
	struct reload *next;
	struct ctl_call *call;
	char *name;                     /* of the device; NULL: all */
	bool (*step)(struct reload *r); /* the next one. ret: false: it was the last */
	struct problems *p;
	struct map *texts; /* of devices that run: struct entry by digest */
	struct conf_known known;
	struct conf_reading *reading;
	struct devices_conf conf;
	struct entry **gone; /* that are in the file no more */
	size_t n_gone, at;
	bool waits; /* for the last words of one that goes */
	unsigned waited_ms;
	bool is_key;         /* the name is TYPE/NAME of a device */
	char first_key[300]; /* of those that have the name */
	size_t named;        /* how many have it */
	bool restart;
	json_t *answer;
};

/* ---- answers ---- */

struct texts {
	json_t *errors, *warnings;
};

static void list_problem(void *arg, bool is_error, const char *text)
{
	struct texts *t = arg;

	json_array_append_new(is_error ? t->errors : t->warnings, json_string(text));
}

/* What is left of what was read is released in steps, too. */
static bool step_drop(struct reload *r)
{
	if (r->at == r->conf.n)
		return false;
	devices_conf_drop(&r->conf, r->at++);
	return true;
}

static bool end(struct reload *r)
{
	r->at = 0;
	r->step = step_drop;
	return true;
}

static bool answer_error(struct reload *r, const char *why)
{
	ctl_answer_error(TAKE(r->call), why);
	return end(r);
}

static bool answer_wrong(struct reload *r, const struct err *err)
{
	struct texts texts = {.errors = json_array(), .warnings = json_array()};
	char reason[600] = "the device file is wrong";

	if (problems_errors(r->p) == 0)
		problem_add(r->p, "", "%s", err->text);
	if (!r->all->started)
		devices_note_why(r->all, r->p, err);
	problems_each(r->p, list_problem, &texts);
	const char *first = json_string_value(json_array_get(texts.errors, 0));
	if (first != NULL)
		snprintf(reason, sizeof(reason),
			 "the device file is wrong, nothing is changed: %.400s%s", first,
			 json_array_size(texts.errors) > 1 ? " (and more)" : "");
	ctl_answer(TAKE(r->call), json_pack("{s:s, s:s, s:s, s:o, s:o}", "state", "error", "reason",
					    reason, "file", r->all->path, "errors", texts.errors,
					    "warnings", texts.warnings));
	return end(r);
}

static bool answer_done(struct reload *r)
{
	struct texts texts = {.errors = json_array(), .warnings = json_array()};

	problems_each(r->p, list_problem, &texts);
	json_object_set_new(r->answer, "warnings", texts.warnings);
	json_decref(texts.errors);
	if (r->restart)
		json_object_set_new(
			r->answer, "note",
			json_string("what the file says of the whole gateway (name, mqtt, csm, "
				    "bus_loss_grace, sync_timeout) has changed: it holds after "
				    "iotctl restart agent"));
	ctl_answer(TAKE(r->call), TAKE(r->answer));
	return end(r);
}

static json_t *begin_answer(const struct reload *r)
{
	return json_pack("{s:s, s:s, s:[], s:[], s:[], s:[], s:b}", "state", "ok", "file",
			 r->all->path, "added", "changed", "removed", "failed", "restart_needed",
			 r->restart);
}

static void list_added(void *arg, const char *key, void *value)
{
	(void)value;
	json_array_append_new(arg, json_string(key));
}

/* ---- what the file changes ---- */

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

static void make_key(const struct device_conf *conf, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s", conf->type->name, conf->name);
}

static bool is_named(const struct reload *r, const struct device_conf *conf, const char *key)
{
	return r->name == NULL || strcmp(r->name, r->is_key ? key : conf->name) == 0;
}

static void count_named(struct reload *r, const struct device_conf *conf, const char *key)
{
	if (r->name == NULL || !is_named(r, conf, key))
		return;
	if (r->named == 0 || strcmp(r->first_key, key) != 0)
		r->named++;
	snprintf(r->first_key, sizeof(r->first_key), "%s", key);
}

static void unlist(void *arg, const char *key, void *value)
{
	struct entry *e = value;

	(void)arg, (void)key;
	e->listed = false;
}

static void find_gone(void *arg, const char *key, void *value)
{
	struct reload *r = arg;
	struct entry *e = value;

	if (e->listed || !is_named(r, &e->conf, key))
		return;
	count_named(r, &e->conf, key);
	r->gone[r->n_gone++] = e;
}

/* What has no room on the event bus would go with the device, and what the broker has retained of
 * it stay. One that is told to run meanwhile is stopped again. ret: whether it may go. */
static bool has_said_all(struct reload *r, struct entry *e)
{
	device_stop(e->device);
	r->waits = e->waits && r->waited_ms < WAIT_MS;
	if (r->waits)
		r->waited_ms += AGAIN_MS;
	return !r->waits;
}

/* ret: how it went, for the answer. */
static const char *apply(struct reload *r, struct entry *e, const struct device_conf *conf,
			 struct err *err)
{
	struct devices *d = r->all;

	if (e != NULL)
		devices_drop(d, e, conf == NULL);
	if (conf == NULL)
		return "removed";
	if (devices_add(d, conf, e == NULL, err) == 0)
		return e == NULL ? "added" : "changed";
	log_error("device.failed", KV("device", conf->name), KV("why", err->text));
	return "failed";
}

/* e, conf: NULL: it comes, it goes. ret: false: not yet. */
static bool change(struct reload *r, const char *key, struct entry *e,
		   const struct device_conf *conf)
{
	struct err err = {0};

	if (e != NULL && !has_said_all(r, e))
		return false;
	const char *done = apply(r, e, conf, &err);

	log_info("device.reloaded", KV("device", key), KV("done", done));
	json_array_append_new(json_object_get(r->answer, done), json_string(key));
	return true;
}

/* ---- steps ---- */

static bool step_change(struct reload *r)
{
	const struct device_conf *conf = &r->conf.devices[r->at];
	char key[sizeof(r->first_key)];

	if (r->at == r->conf.n)
		return answer_done(r);
	make_key(conf, key, sizeof(key));
	struct entry *e = map_find(r->all->entries, key);

	if (e != NULL && conf->json == NULL)
		memcpy(e->conf.digest, conf->digest, sizeof(e->conf.digest));
	else if (is_named(r, conf, key) && !change(r, key, e, conf))
		return true;
	devices_conf_drop(&r->conf, r->at++);
	return true;
}

static bool step_remove(struct reload *r)
{
	char key[sizeof(r->first_key)];

	if (r->at == r->n_gone) {
		r->at = 0;
		r->step = step_change;
		return true;
	}
	struct entry *e = r->gone[r->at];

	make_key(&e->conf, key, sizeof(key));
	r->at += change(r, key, e, NULL);
	return true;
}

/* Which devices that run are in the file, and which of those in it the name means. */
static void find_listed(struct reload *r)
{
	struct map *entries = r->all->entries;
	char key[sizeof(r->first_key)];

	map_each(entries, unlist, NULL);
	r->is_key = r->name != NULL && map_find(entries, r->name) != NULL;
	for (size_t i = 0; i < r->conf.n; i++) {
		make_key(&r->conf.devices[i], key, sizeof(key));
		struct entry *e = map_find(entries, key);

		if (e != NULL)
			e->listed = true;
		r->is_key |= r->name != NULL && strcmp(r->name, key) == 0;
	}
	for (size_t i = 0; i < r->conf.n; i++) {
		make_key(&r->conf.devices[i], key, sizeof(key));
		count_named(r, &r->conf.devices[i], key);
	}
}

/* Whom the name means, and which devices go. */
static bool step_compare(struct reload *r)
{
	struct devices *d = r->all;
	char reason[300];

	r->gone = calloc(map_count(d->entries) + 1, sizeof(struct entry *));
	if (r->gone == NULL)
		return answer_error(r, "out of memory");
	find_listed(r);
	map_each(d->entries, find_gone, r);
	if (r->name != NULL && r->named != 1) {
		snprintf(reason, sizeof(reason),
			 r->named == 0 ? "there is no device '%.100s'"
				       : "'%.100s' is the name of several devices: give TYPE/NAME",
			 r->name);
		return answer_error(r, reason);
	}
	r->restart = gateway_differs(&d->conf, &r->conf);
	r->answer = begin_answer(r);
	r->at = 0;
	r->step = step_remove;
	return r->answer != NULL || answer_done(r);
}

/* There is no device yet that could miss anything. */
static bool start(struct reload *r)
{
	struct err err = {0};

	if (devices_begin(r->all, &r->conf, &err) < 0) {
		devices_note_why(r->all, r->p, &err);
		return answer_error(r, err.text);
	}
	r->answer = begin_answer(r);
	map_each(r->all->entries, list_added, json_object_get(r->answer, "added"));
	return answer_done(r);
}

static bool step_read(struct reload *r)
{
	struct err err = {0};
	int rc = conf_reading_step(r->reading, &err);

	if (rc > 0)
		return true;
	conf_reading_take(r->reading, &r->conf, &r->all->templates);
	if (rc < 0)
		return answer_wrong(r, &err);
	if (!r->all->started)
		return start(r);
	r->step = step_compare;
	return true;
}

static const struct device_conf *find_text(void *arg, const char *digest)
{
	const struct reload *r = arg;
	const struct entry *e = map_find(r->texts, digest);

	return e != NULL ? &e->conf : NULL;
}

static int find_same(void *arg, const struct device_conf *d, const struct device_conf **ret,
		     struct err *err)
{
	const struct reload *r = arg;
	char key[sizeof(r->first_key)];

	make_key(d, key, sizeof(key));
	const struct entry *e = map_find(r->all->entries, key);
	int same = e != NULL ? device_has_conf(e->device, d->json, err) : 0;

	if (same > 0)
		*ret = &e->conf;
	return same;
}

static void add_text(void *arg, const char *key, void *value)
{
	struct reload *r = arg;
	struct entry *e = value;

	(void)key;
	if (r->all->templates == NULL)
		e->conf.digest[0] = '\0'; /* it may have been made with another template */
	else if (e->conf.digest[0] != '\0')
		map_add(r->texts, e->conf.digest, e); /* without memory it is read again */
}

static bool step_load(struct reload *r)
{
	struct devices *d = r->all;
	struct err err = {0};

	r->p = problems_new();
	r->texts = map_new();
	if (r->p == NULL || r->texts == NULL)
		return answer_error(r, "out of memory");
	if (d->templates != NULL && !templates_same(d->templates))
		d->templates = templates_free(d->templates);
	map_each(d->entries, add_text, r);
	r->known = (struct conf_known){find_text, find_same, r, d->templates};
	if (conf_reading_new(d->path, d->settings, &r->known, r->p, &r->reading, &err) < 0)
		return answer_wrong(r, &err);
	d->templates = NULL; /* until it is read */
	r->step = step_read;
	return true;
}

/* ---- one after the other ---- */

static void free_reload(struct reload *r)
{
	if (r->call != NULL)
		ctl_answer_error(r->call, "the agent ends");
	conf_reading_free(r->reading);
	devices_conf_done(&r->conf);
	map_free(r->texts, NULL);
	problems_free(r->p);
	json_decref(r->answer);
	free(r->gone);
	free(r->name);
	free(r);
}

static void take_first(struct devices *d)
{
	struct reload *r = d->first_reload;

	d->first_reload = r->next;
	if (r->next == NULL)
		d->last_reload = &d->first_reload;
	free_reload(r);
}

static void on_timer(void *arg)
{
	struct devices *d = arg;
	struct reload *r = d->first_reload;
	int64_t until_us = monotonic_us() + TURN_US;
	bool more = true;

	r->waits = false;
	while (more && !r->waits && monotonic_us() < until_us)
		more = r->step(r);
	int64_t in_ms = r->waits ? AGAIN_MS : 0;

	if (!more)
		take_first(d);
	if (d->first_reload != NULL)
		loop_arm(d->loop, d->reload_timer, in_ms);
}

void devices_end_reloads(struct devices *d)
{
	while (d->first_reload != NULL)
		take_first(d);
	d->reload_timer = loop_remove(d->loop, d->reload_timer);
}

void devices_on_reload(struct devices *d, json_t *request, struct ctl_call *call)
{
	const json_t *wanted = json_object_get(request, "name");
	const char *name = json_string_value(wanted);

	if (name == NULL && wanted != NULL && !json_is_null(wanted)) {
		ctl_answer_error(call, "name must be a text: that of a device, or TYPE/NAME");
		return;
	}
	struct reload *r = calloc(1, sizeof(*r));

	if (r == NULL || (name != NULL && (r->name = strdup(name)) == NULL) ||
	    (d->reload_timer == NULL &&
	     loop_add_timer(d->loop, -1, 0, on_timer, d, &d->reload_timer, NULL) < 0)) {
		if (r != NULL)
			free(r->name);
		free(r);
		ctl_answer_error(call, "out of memory");
		return;
	}
	r->all = d;
	r->call = call;
	r->step = step_load;
	if (d->first_reload == NULL)
		loop_arm(d->loop, d->reload_timer, 0);
	*d->last_reload = r;
	d->last_reload = &r->next;
}
