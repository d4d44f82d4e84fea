/* service.c - the device service: the way between the event bus and each device. */
#include "agent/device/service_int.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define TYPE_AT   2
#define NAME_AT   3
#define SYSTEM_AT 4

static void tell(struct entry *e, const struct event_path *path, const char *topic,
		 const struct event_body *body, const char *text, bool retained)
{
	device_event(e->device, path->segments + SYSTEM_AT + 1, path->n - SYSTEM_AT - 1, topic,
		     body, text, retained);
}

static int on_stray(void *arg, const char *topic, const char *text)
{
	struct event_path path = {0};
	struct event_body body = {0};
	int rc = event_path_parse(topic, &path, NULL);

	if (rc == 0)
		rc = event_body_parse(text, strlen(text), &body, NULL);
	if (rc == 0)
		tell(arg, &path, topic, &body, text, true);
	event_path_done(&path);
	event_body_done(&body);
	return rc;
}

void devices_on_last_word(void *arg, const char *topic, const char *text)
{
	struct devices *d = arg;

	strays_put(d->last_words, topic, text);
}

static void on_state_left(void *arg, const char *topic, const char *text, const json_t *payload)
{
	(void)payload;
	strays_put(arg, topic, text);
}

/* ---- all devices ---- */

typedef void entry_fn(struct entry *e);

static void walk_one(void *arg, const char *key, void *value)
{
	entry_fn *const *fn = arg;

	(void)key;
	(*fn)(value);
}

static void each(struct devices *d, entry_fn *fn)
{
	map_each(d->entries, walk_one, &fn);
}

static void hold(struct entry *e)
{
	device_hold(e->device);
}

static void lose(struct entry *e)
{
	device_lost(e->device);
}

static void sync_one(struct entry *e)
{
	device_synced(e->device, e->all->complete, e->all->trusted);
}

static void start_alone(struct entry *e)
{
	device_start_alone(e->device);
}

/* ---- the event bus ---- */

static int say_last_word(void *arg, const char *topic, const char *text)
{
	struct devices *d = arg;

	return eventbus_send(d->bus, NULL, 0, topic, text, true);
}

static void on_synced(void *arg, bool complete, const char *mark)
{
	struct devices *d = arg;

	d->synced = d->alone = true;
	d->complete = complete;
	d->trusted = d->mark[0] != '\0' && strcmp(mark, d->mark) == 0;
	loop_arm(d->loop, d->grace_timer, -1);
	loop_arm(d->loop, d->alone_timer, -1);
	strays_each(d->last_words, say_last_word, d); /* it may have forgotten them */
	log_info("devices.synced", KV("devices", map_count(d->entries)), KV("complete", complete),
		 KV("trusted", d->trusted));
	each(d, sync_one);
	if (complete && !d->trusted)
		devices_mark_sync(d);
}

static void on_grace_timer(void *arg)
{
	struct devices *d = arg;

	log_warn("devices.held", KV("why", "the broker is away: devices without a store stop"));
	each(d, hold);
}

static void on_lost(void *arg, const char *why)
{
	struct devices *d = arg;
	int64_t grace_ms = llround(d->conf.bus_loss_grace_s * 1000);

	log_warn("devices.bus_lost", KV("why", why));
	d->synced = false;
	devices_lose_marks(d);
	while (d->first_waiting != NULL) { /* told by outbox_up() */
		d->first_waiting->waits = false;
		d->first_waiting = d->first_waiting->next_waiting;
	}
	d->last_waiting = &d->first_waiting;
	strays_clear(d->strays);
	each(d, lose);
	if (grace_ms == 0)
		each(d, hold);
	else
		loop_arm(d->loop, d->grace_timer, grace_ms);
}

static void on_alone_timer(void *arg)
{
	struct devices *d = arg;

	d->alone = true;
	log_warn("devices.alone", KV("why", "the broker is not reached: devices with a store start "
					    "by what is kept"));
	each(d, start_alone);
}

static void on_event(void *arg, const struct event_path *path, const char *topic,
		     const struct event_body *body, const char *text, size_t len, bool retained)
{
	struct devices *d = arg;
	CLEANUP(freep)
	char *key = NULL;

	(void)len;
	if (asprintf(&key, "%s/%s", path->segments[TYPE_AT], path->segments[NAME_AT]) < 0) {
		key = NULL;
		log_error("event.dropped", KV("topic", topic), KV("why", "out of memory"));
		return;
	}
	struct entry *e = map_find(d->entries, key);

	bool is_state = event_is_state(path->segments + SYSTEM_AT + 1, path->n - SYSTEM_AT - 1);

	if (!retained && is_state)
		devices_mark_change(d);
	if (e != NULL) {
		tell(e, path, topic, body, text, retained);
		return;
	}
	d->unknown++;
	if (is_state)
		strays_put(d->strays, topic, text);
}

/* Room is given in turns: the device that waits longest takes what there is. */
static void on_sent(void *arg, void *who, uint64_t token, int rc)
{
	struct devices *d = arg;
	struct entry *of = who;

	if (of != NULL)
		device_sent(of->device, token, rc);
	while (d->first_waiting != NULL && eventbus_has_room(d->bus)) {
		struct entry *e = d->first_waiting;

		d->first_waiting = e->next_waiting;
		if (d->first_waiting == NULL)
			d->last_waiting = &d->first_waiting;
		e->waits = false;
		device_ready(e->device);
	}
}

static int on_device_send(void *owner, uint64_t token, const char *topic, const char *text,
			  bool retain)
{
	struct entry *e = owner;
	struct devices *d = e->all;
	int rc = eventbus_send(d->bus, e, token, topic, text, retain);

	if (rc == ERR_AGAIN && d->synced && !e->waits) {
		e->waits = true;
		e->next_waiting = NULL;
		*d->last_waiting = e;
		d->last_waiting = &e->next_waiting;
	}
	return rc;
}

int devices_connect(struct devices *d, const struct devices_conf *c, struct err *err)
{
	static const struct eventbus_events events = {
		.on_synced = on_synced,
		.on_lost = on_lost,
		.on_event = on_event,
		.on_sent = on_sent,
	};
	unsigned sync_timeout_ms = (unsigned)llround(c->sync_timeout_s * 1000);
	const struct eventbus_conf conf = {
		.gateway = c->name,
		.host = c->mqtt_host,
		.port = c->mqtt_port,
		.username = c->username,
		.password = c->password,
		.sync_timeout_ms = sync_timeout_ms,
	};
	int rc = 0;

	if (d->grace_timer == NULL)
		rc = loop_add_timer(d->loop, -1, 0, on_grace_timer, d, &d->grace_timer, err);
	if (rc == 0 && d->alone_timer == NULL)
		rc = loop_add_timer(d->loop, -1, 0, on_alone_timer, d, &d->alone_timer, err);
	if (rc == 0)
		rc = eventbus_new(d->loop, &conf, &events, d, &d->bus, err);
	if (rc == 0)
		loop_arm(d->loop, d->alone_timer, sync_timeout_ms);
	return rc;
}

/* ---- devices that come and go ---- */

static void add_counters(struct device_counters *sum, const struct device_counters *c)
{
	sum->events += c->events;
	sum->dropped += c->dropped;
	sum->failed += c->failed;
	sum->emitted += c->emitted;
	sum->lost += c->lost;
	sum->backlog += c->backlog;
	sum->shed += c->shed;
}

static int on_said_before(void *arg, const char *topic, const char *text)
{
	struct entry *e = arg;

	device_said_before(e->device, topic, text, e->all->synced);
	return 0;
}

int devices_add(struct devices *d, const struct device_conf *conf, bool is_new, struct err *err)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return err_set(err, ERR_NOMEM, "device");
	e->all = d;
	int rc = device_new(&d->env, conf, e, &e->device, err);

	if (rc == 0 && map_add(d->entries, device_key(e->device), e) < 0) {
		device_free(e->device);
		rc = err_set(err, ERR_NOMEM, "device");
	}
	if (rc < 0) {
		free(e);
		return rc;
	}
	e->conf = *conf;
	e->conf.name = device_name(e->device);
	e->conf.json = NULL;
	strays_take(d->last_words, device_topic(e->device), on_said_before, e);
	if (is_new)
		device_announce(e->device);
	if (is_new && d->synced)
		strays_take(d->strays, device_topic(e->device), on_stray, e);
	/* what the broker has of a changed one is not told again: nothing is missing there */
	if (d->synced)
		device_synced(e->device, is_new && d->complete && !strays_lost(d->strays),
			      d->trusted);
	else if (d->alone)
		device_start_alone(e->device);
	return 0;
}

void devices_drop(struct devices *d, struct entry *e, bool forget)
{
	struct device_counters counters;

	map_remove(d->entries, device_key(e->device));
	device_stop(e->device); /* its last words are counted, too */
	if (d->last_words != NULL)
		device_each_said(e->device, devices_on_last_word, d);
	device_get_counters(e->device, &counters);
	counters.backlog = 0; /* it waits for nobody any more */
	add_counters(&d->gone, &counters);
	if (forget && d->synced)
		device_each_state(e->device, on_state_left, d->strays); /* it may come again */
	e->device = forget ? device_remove(e->device) : device_free(e->device);
	if (d->bus != NULL)
		eventbus_forget(d->bus, e);
	for (struct entry **at = &d->first_waiting; *at != NULL;) {
		if (*at == e)
			*at = e->next_waiting;
		else
			at = &(*at)->next_waiting;
		if (*at == NULL)
			d->last_waiting = at;
	}
	free(e);
}

/* ---- the service ---- */

int devices_new(struct loop *l, const struct settings *settings, const char *path,
		struct devices **ret, struct err *err)
{
	struct devices *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return err_set(err, ERR_NOMEM, "devices");
	d->loop = l;
	d->settings = settings;
	d->last_waiting = &d->first_waiting;
	d->last_reload = &d->first_reload;
	d->path = strdup(path);
	d->entries = map_new();
	d->strays = strays_new();
	d->last_words = strays_new();
	d->env = (struct device_env){.loop = l, .send = on_device_send, .pieces = pieces_new()};
	if (d->path == NULL || d->entries == NULL || d->strays == NULL || d->last_words == NULL ||
	    d->env.pieces == NULL) {
		devices_free(d);
		return err_set(err, ERR_NOMEM, "devices");
	}
	devices_start(d);
	*ret = d;
	return 0;
}

static void stop_one(void *arg, const char *key, void *value)
{
	struct entry *e = value;

	(void)arg, (void)key;
	device_stop(e->device);
}

struct devices *devices_free(struct devices *d)
{
	if (d == NULL)
		return NULL;
	devices_end_reloads(d);
	d->last_words = strays_free(d->last_words);
	/* all say goodbye, and then it is waited once */
	if (d->entries != NULL)
		map_each(d->entries, stop_one, NULL);
	while (d->entries != NULL && map_first(d->entries) != NULL)
		devices_drop(d, map_first(d->entries), false);
	devices_end_marks(d);
	d->bus = eventbus_free(d->bus); /* after all last words */
	map_free(d->entries, NULL);
	d->strays = strays_free(d->strays);
	d->grace_timer = loop_remove(d->loop, d->grace_timer);
	d->alone_timer = loop_remove(d->loop, d->alone_timer);
	d->farewells = view_farewells_free(d->farewells);
	d->fetch = fetch_free(d->fetch);
	d->store = store_close(d->store);
	d->env.pieces = pieces_free(d->env.pieces);
	devices_conf_done(&d->conf);
	templates_free(d->templates);
	free(d->path);
	free(d);
	return NULL;
}

static void hold_values(struct entry *e)
{
	device_hold_values(e->device, e->all->env.values_held);
}

void devices_hold_values(struct devices *d, bool held)
{
	d->env.values_held = held;
	each(d, hold_values);
}

/* ---- sums ---- */

struct sums {
	struct device_counters counters;
	size_t running, failed;
};

static void add_one(void *arg, const char *key, void *value)
{
	struct sums *s = arg;
	const struct entry *e = value;
	struct device_counters c;

	(void)key;
	device_get_counters(e->device, &c);
	add_counters(&s->counters, &c);
	s->running += device_get_state(e->device) == DEVICE_RUNNING;
	s->failed += device_get_state(e->device) == DEVICE_FAILED;
}

void devices_get_status(const struct devices *d, struct devices_status *ret)
{
	struct sums s = {.counters = d->gone};
	struct eventbus_stats bus = {.why = ""};

	if (d->bus != NULL)
		eventbus_get_stats(d->bus, &bus);
	map_each(d->entries, add_one, &s);
	*ret = (struct devices_status){
		.devices = map_count(d->entries),
		.running = s.running,
		.failed = s.failed,
		.bus = d->synced,
		.bus_why = bus.why,
		.why = d->why,
		.backlog = s.counters.backlog,
		.dropped = s.counters.shed,
	};
}

json_t *devices_counters(const struct devices *d)
{
	struct sums s = {.counters = d->gone};
	struct eventbus_stats bus = {0};

	map_each(d->entries, add_one, &s);
	if (d->bus != NULL)
		eventbus_get_stats(d->bus, &bus);
	const struct {
		const char *name;
		uint64_t n;
	} rows[] = {
		{"devices", map_count(d->entries)},
		{"devices_running", s.running},
		{"devices_failed", s.failed},
		{"device_backlog", s.counters.backlog},
		{"device_bus", d->synced},
		{"device_events_in", bus.received},
		{"device_events_out", bus.published},
		{"device_events_handled", s.counters.events},
		{"device_events_refused", s.counters.failed},
		{"device_events_dropped", bus.dropped + s.counters.dropped},
		{"device_events_unknown", d->unknown},
		{"device_events_stale", bus.stale},
		{"device_events_twice", bus.twice},
		{"device_emitted", s.counters.emitted},
		{"device_lost", s.counters.lost + s.counters.shed},
	};
	unsigned long before = shortage_count();
	json_t *all = json_object();

	for (size_t i = 0; all != NULL && i < ARRAY_LEN(rows); i++)
		json_object_set_new(all, rows[i].name, json_integer((json_int_t)rows[i].n));
	if (shortage_count() == before)
		return all;
	json_decref(all);
	return NULL;
}
