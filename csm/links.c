#include "csm/links.h"

#include "common/histogram.h"
#include "common/id.h"
#include "common/log.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/graphs.h"
#include "csm/metrics.h"
#include "csm/pace.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum state { LINK_WAITING, LINK_CONNECTING, LINK_CONNECTED, LINK_ERROR };

static const char *const state_names[] = {
	[LINK_WAITING] = "waiting",
	[LINK_CONNECTING] = "connecting",
	[LINK_CONNECTED] = "connected",
	[LINK_ERROR] = "error",
};

#define UNSENT_AGAIN_MS 200 /* a command that lacked memory */
#define KEY_SIZE (UUID_LEN + 5 + 255 + 1) /* ids, modes and features are checked where they come in */

struct link {
	struct links *links;
	char *key; /* da_id/mode/feature; the three parts below are copies */
	char *da_id, *feature;
	const char *mode;
	char topic[64];
	unsigned refs, live;
	enum state state;
	bool connected; /* the device has been told CONNECT since it came online */
	bool resend;	/* while starting: its CONNECT may not have reached the device */
	char *missing; /* the device no longer declares the feature: in words; NULL: it does, or never did */
	char reason[300];
	struct uuid_text msg_id;    /* of the open command */
	const char *open_command;   /* NULL: none open */
	int64_t commanded_us;	    /* since when */
	struct paced paced;	    /* it waits for its turn */
	bool unsent;		    /* it is not on its way yet for lack of memory */
	bool late;		    /* nobody answered the CONNECT msg_id in time, but somebody may yet */
	struct loop_src *timer;	    /* runs while a command is open */
	struct link *next_of_device;
	bool leaving; /* nobody's any more, but its DISCONNECT has no answer yet: not in by_key */
	struct link *prev_leaving, *next_leaving;
};

struct of_device {
	struct link *first;
	char da_id[];
};

struct links {
	struct csm *csm;
	struct map *by_key;    /* -> struct link */
	struct map *by_device; /* da_id -> struct of_device */
	struct link *leaving;
	struct pace *pace; /* of the commands */
};

/* In room of the caller's: that a link is not found must never mean that there was no memory to look for it. */
static bool make_key(char key[KEY_SIZE], const char *da_id, const char *feature, const char *mode)
{
	return snprintf(key, KEY_SIZE, "%s/%s/%s", da_id, mode, feature) < KEY_SIZE;
}

static struct link *link_free(struct link *k)
{
	if (k == NULL)
		return NULL;
	pace_leave(k->links->pace, &k->paced);
	loop_remove(k->links->csm->loop, k->timer);
	free(k->key);
	free(k->da_id);
	free(k->feature);
	free(k->missing);
	free(k);
	return NULL;
}

static void free_link(void *value)
{
	link_free(value);
}

static void on_turn(struct paced *item);

struct links *links_new(struct csm *csm)
{
	struct links *l = calloc(1, sizeof(*l));
	if (l == NULL)
		return NULL;
	l->csm = csm;
	l->by_key = map_new();
	l->by_device = map_new();
	if (l->by_key == NULL || l->by_device == NULL ||
	    pace_new(csm->loop, &csm->settings->core.command_rate, on_turn, &l->pace, NULL) < 0)
		return links_free(l);
	return l;
}

struct links *links_free(struct links *l)
{
	if (l == NULL)
		return NULL;
	map_free(l->by_key, free_link);
	for (struct link *k = l->leaving, *next; k != NULL; k = next) {
		next = k->next_leaving;
		link_free(k);
	}
	map_free(l->by_device, free);
	pace_free(l->pace);
	free(l);
	return NULL;
}

size_t links_count(const struct links *l)
{
	return map_count(l->by_key);
}

struct link *links_find(const struct links *l, const char *da_id, const char *feature, const char *mode)
{
	char key[KEY_SIZE];
	return make_key(key, da_id, feature, mode) ? map_find(l->by_key, key) : NULL;
}

static struct link *first_of(const struct links *l, const char *da_id)
{
	const struct of_device *o = map_find(l->by_device, da_id);
	return o != NULL ? o->first : NULL;
}

static int add_to_device(struct links *l, struct link *k)
{
	struct of_device *o = map_find(l->by_device, k->da_id);
	if (o == NULL) {
		size_t len = strlen(k->da_id) + 1;
		o = calloc(1, sizeof(*o) + len);
		if (o == NULL)
			return ERR_NOMEM;
		memcpy(o->da_id, k->da_id, len);
		if (map_add(l->by_device, o->da_id, o) < 0) {
			free(o);
			return ERR_NOMEM;
		}
	}
	k->next_of_device = o->first;
	o->first = k;
	return 0;
}

static void remove_from_device(struct links *l, const struct link *k)
{
	struct of_device *o = map_find(l->by_device, k->da_id);
	struct link **at = &o->first;
	while (*at != k)
		at = &(*at)->next_of_device;
	*at = k->next_of_device;
	if (o->first == NULL)
		free(map_remove(l->by_device, k->da_id));
}

/* ---- commands ---- */

static void report(struct link *k, const char *reason)
{
	log_warn("link.failed", KV("device", k->da_id), KV("feature", k->feature), KV("mode", k->mode),
		 KV("why", reason));
	graphs_report_link(k->links->csm->graphs, k->da_id, k->feature, k->mode, reason);
}

static void fail(struct link *k, const char *reason)
{
	k->state = LINK_ERROR;
	snprintf(k->reason, sizeof(k->reason), "%s", reason);
	report(k, k->reason);
}

/* A link whose last word has been answered, or never will be. */
static void leave(struct link *k)
{
	struct links *l = k->links;
	*(k->prev_leaving != NULL ? &k->prev_leaving->next_leaving : &l->leaving) = k->next_leaving;
	if (k->next_leaving != NULL)
		k->next_leaving->prev_leaving = k->prev_leaving;
	remove_from_device(l, k);
	link_free(k);
}

/* The open command is over: answered, given up, or without an addressee. */
static void close_command(struct link *k)
{
	struct csm *csm = k->links->csm;
	if (k->open_command == NULL)
		return;
	k->open_command = NULL;
	pace_leave(k->links->pace, &k->paced);
	loop_arm(csm->loop, k->timer, -1);
	if (!csm->silent)
		store_exec(csm->store,
			   "DELETE FROM command WHERE da_id = $1 AND feature = $2 AND mode = $3 AND topic = $4",
			   DB_V_TEXT(k->da_id), DB_V_TEXT(k->feature), DB_V_TEXT(k->mode), DB_V_TEXT(k->topic));
}

/* A fact of the moment, not an effect of the store: sent even when the disk is full. */
static void send_command(struct link *k)
{
	struct csm *csm = k->links->csm;
	k->unsent = !csm_command(csm, k->da_id,
				 json_pack("{s:s, s:s, s:s, s:s}", "msg_id", k->msg_id.s, k->mode, k->feature,
					   "command", k->open_command, "topic", k->topic));
	loop_arm(csm->loop, k->timer, k->unsent ? UNSENT_AGAIN_MS : csm->settings->core.command_timeout_ms);
	/* after the CONNECT that makes sense of it */
	if (!k->unsent && strcmp(k->open_command, "CONNECT") == 0)
		suspensions_on_connect(csm->suspensions, k->da_id, k->mode, k->feature);
}

static void on_turn(struct paced *item)
{
	struct link *k = (struct link *)((char *)item - offsetof(struct link, paced));
	k->commanded_us = monotonic_us();
	send_command(k);
}

static void on_timer(void *arg)
{
	struct link *k = arg;
	char reason[128];
	if (k->unsent && monotonic_us() - k->commanded_us < k->links->csm->settings->core.command_timeout_ms * 1000) {
		send_command(k);
		return;
	}
	snprintf(reason, sizeof(reason), "no answer to %s within %lld ms", k->open_command,
		 (long long)k->links->csm->settings->core.command_timeout_ms);
	bool connect = strcmp(k->open_command, "CONNECT") == 0;
	metrics_command(k->links->csm->metrics, k->open_command, "timeout", 0);
	close_command(k);
	if (k->leaving) {
		leave(k);
	} else if (connect) {
		k->late = true;
		fail(k, reason);
	}
}

/* at_once: without waiting for its turn, as nobody will be there to wait. */
static void command(struct link *k, const char *what, bool at_once)
{
	struct csm *csm = k->links->csm;
	if (csm->silent)
		return;
	k->msg_id = uuid4();
	k->open_command = what;
	k->late = k->unsent = false;
	/* remembered until it is answered: what the MQTT library still has to send dies with us */
	store_exec(csm->store,
		   "INSERT INTO command (da_id, feature, mode, command, topic)"
		   " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (da_id, feature, mode)"
		   " DO UPDATE SET command = excluded.command, topic = excluded.topic",
		   DB_V_TEXT(k->da_id), DB_V_TEXT(k->feature), DB_V_TEXT(k->mode), DB_V_TEXT(what),
		   DB_V_TEXT(k->topic));
	loop_arm(csm->loop, k->timer, -1);
	if (!at_once) {
		pace_ask(k->links->pace, &k->paced);
		return;
	}
	pace_leave(k->links->pace, &k->paced);
	on_turn(&k->paced);
}

static void connect_link(struct link *k)
{
	/* what an earlier run confirmed was told to the device then: commands go out before the commit that confirms */
	k->connected = true;
	k->state = k->links->csm->silent ? LINK_CONNECTED : LINK_CONNECTING;
	command(k, "CONNECT", false);
}

static void disconnect_link(struct link *k, bool at_once)
{
	if (k->connected)
		command(k, "DISCONNECT", at_once);
	k->connected = false;
	k->state = LINK_WAITING;
}

static bool device_online(const struct link *k)
{
	const struct device *d = registry_find(k->links->csm->registry, k->da_id);
	return d != NULL && d->online;
}

/* ---- references ---- */

struct link *links_ref(struct links *l, const char *da_id, const char *feature, const char *mode,
		       const char *topic)
{
	char key[KEY_SIZE];
	if (!make_key(key, da_id, feature, mode))
		return NULL;
	struct link *k = map_find(l->by_key, key);
	if (k != NULL) {
		k->refs++;
		return k;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return NULL;
	k->links = l;
	k->refs = 1;
	k->mode = strcmp(mode, "idf") == 0 ? "idf" : "odf";
	k->key = strdup(key);
	k->da_id = strdup(da_id);
	k->feature = strdup(feature);
	if (topic != NULL)
		snprintf(k->topic, sizeof(k->topic), "%s", topic);
	else
		snprintf(k->topic, sizeof(k->topic), "iottalk/esm/%s", uuid4().s);
	if (k->key == NULL || k->da_id == NULL || k->feature == NULL ||
	    loop_add_timer(l->csm->loop, -1, 0, on_timer, k, &k->timer, NULL) < 0 ||
	    map_add(l->by_key, k->key, k) < 0)
		return link_free(k);
	if (add_to_device(l, k) < 0) {
		map_remove(l->by_key, k->key);
		return link_free(k);
	}
	return k;
}

void links_unref(struct links *l, struct link *k)
{
	if (k == NULL || --k->refs > 0)
		return;
	map_remove(l->by_key, k->key);
	if (k->open_command != NULL) {
		/* its DISCONNECT, which is sent again after a restart by its row in the store */
		k->leaving = true;
		k->next_leaving = l->leaving;
		if (k->next_leaving != NULL)
			k->next_leaving->prev_leaving = k;
		l->leaving = k;
		return;
	}
	remove_from_device(l, k);
	link_free(k);
}

void links_enliven(struct links *l, struct link *k)
{
	(void)l;
	if (k->live++ == 0 && device_online(k))
		connect_link(k);
}

void links_quiet(struct links *l, struct link *k)
{
	(void)l;
	if (--k->live == 0)
		disconnect_link(k, false);
}

/* ---- devices ---- */

bool links_connects_later(const struct links *l, const char *da_id, const char *feature, const char *mode)
{
	const struct link *k = links_find(l, da_id, feature, mode);
	return k != NULL && k->open_command != NULL && strcmp(k->open_command, "CONNECT") == 0 && (k->paced.waiting || k->unsent);
}

void links_on_online(struct links *l, const char *da_id)
{
	for (struct link *k = first_of(l, da_id); k != NULL; k = k->next_of_device)
		if (k->live > 0)
			connect_link(k);
}

/* Of a device that is not there; k is gone if nobody else has it. */
static void forget(struct link *k)
{
	k->connected = k->late = false;
	k->state = LINK_WAITING;
	close_command(k);
	if (k->leaving)
		leave(k);
}

void links_on_offline(struct links *l, const char *da_id)
{
	for (struct link *k = first_of(l, da_id), *next; k != NULL; k = next) {
		next = k->next_of_device;
		forget(k);
	}
}

void links_on_removed(struct links *l, const char *da_id)
{
	for (struct link *k = first_of(l, da_id), *next; k != NULL; k = next) {
		next = k->next_of_device;
		disconnect_link(k, true);
		free(TAKE(k->missing)); /* another device may come with this id */
		forget(k);
	}
	store_exec(l->csm->store, "DELETE FROM command WHERE da_id = $1", DB_V_TEXT(da_id));
}

void links_on_profile(struct links *l, const struct device *d, const struct profile *old)
{
	for (struct link *k = first_of(l, d->id.s); k != NULL; k = k->next_of_device) {
		/* one that was never declared is the graph's business: its device answers CONNECT */
		bool had = profile_has_feature(old, k->mode, k->feature);
		if (k->leaving)
			continue;
		if (profile_has_feature(&d->info, k->mode, k->feature))
			free(TAKE(k->missing));
		else if (k->missing != NULL || !had)
			continue;
		else if (asprintf(&k->missing, "feature %s is no longer in %s_list",
							k->feature, k->mode) < 0)
			k->missing = NULL;
		else
			report(k, k->missing);
	}
}

bool links_on_answer(struct links *l, const char *da_id, const char *msg_id, bool ok, const char *reason)
{
	for (struct link *k = first_of(l, da_id); k != NULL; k = k->next_of_device) {
		if ((k->open_command == NULL && !k->late) || strcasecmp(k->msg_id.s, msg_id) != 0)
			continue;
		if (k->late) { /* counted as a timeout already */
			k->late = false;
			if (ok)
				k->state = LINK_CONNECTED;
			else
				fail(k, reason);
			return true;
		}
		bool connect = strcmp(k->open_command, "CONNECT") == 0;
		metrics_command(l->csm->metrics, k->open_command, ok ? "ok" : "error",
				monotonic_us() - k->commanded_us);
		close_command(k);
		if (k->leaving)
			leave(k);
		else if (connect && ok)
			k->state = LINK_CONNECTED;
		else if (connect)
			fail(k, reason);
		return true;
	}
	return false;
}

/* ---- after a restart ---- */

struct resending {
	struct links *links;
	struct err *err;
};

static int resend_row(void *arg, const struct db_value *v, size_t n)
{
	const struct resending *r = arg;
	struct links *l = r->links;
	(void)n;
	for (size_t i = 0; i < 5; i++)
		if (v[i].type != DB_TEXT)
			return 0;
	const struct device *d = registry_find(l->csm->registry, v[0].text);
	struct link *k = links_find(l, v[0].text, v[1].text, v[2].text);
	if (d == NULL || !d->online)
		return 0; /* hears of its links when it comes online */
	if (k != NULL && k->live > 0) {
		k->resend = true;
	} else if (strcmp(v[3].text, "DISCONNECT") == 0 &&
		   !csm_command(l->csm, v[0].text,
				json_pack("{s:s, s:s, s:s, s:s}", "msg_id", uuid4().s, v[2].text, v[1].text, "command", "DISCONNECT",
					  "topic", v[4].text))) {
		return err_set(r->err, ERR_NOMEM, "repeating a DISCONNECT");
	}
	return 0;
}

static void connect_again(void *arg, const char *key, void *value)
{
	struct link *k = value;
	(void)arg;
	(void)key;
	if (k->resend)
		connect_link(k);
	k->resend = false;
}

int links_resend(struct links *l, struct err *err)
{
	struct resending r = {.links = l, .err = err};
	int rc = db_run(store_db(l->csm->store), err, resend_row, &r,
			"SELECT da_id, feature, mode, command, topic FROM command");
	if (rc < 0)
		return rc;
	store_exec(l->csm->store, "DELETE FROM command WHERE command = 'DISCONNECT'");
	map_each(l->by_key, connect_again, NULL);
	return 0;
}

json_t *links_of(const struct links *l, const char *da_id)
{
	json_t *list = json_array();
	for (const struct link *k = first_of(l, da_id); k != NULL && list != NULL; k = k->next_of_device) {
		const char *reason = link_reason(k);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:I, s:o*}", "mode", k->mode, "feature",
						      k->feature, "topic", k->topic, "state", link_state(k), "graphs",
						      (json_int_t)k->live, "reason",
						      reason != NULL ? csm_text(reason) : NULL));
	}
	return list;
}

const char *link_topic(const struct link *k)
{
	return k->topic;
}

const char *link_state(const struct link *k)
{
	return state_names[k->missing != NULL ? LINK_ERROR : k->state];
}

const char *link_reason(const struct link *k)
{
	if (k->missing != NULL)
		return k->missing;
	return k->state == LINK_ERROR ? k->reason : NULL;
}
