/* links.c - which links there are, in which graphs, and what becomes of them when their devices come and go. */
#include "csm/links_int.h"

#include "common/util.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
	[LINK_WAITING] = "waiting",
	[LINK_CONNECTING] = "connecting",
	[LINK_CONNECTED] = "connected",
	[LINK_ERROR] = "error",
};

#define KEY_SIZE (UUID_LEN + 5 + 255 + 1) /* ids, modes and features are checked where they come in */

/* In room of the caller's: that a link is not found must never mean that there was no memory to look for it. */
static bool make_key(char key[KEY_SIZE], const char *da_id, const char *feature, const char *mode)
{
	return snprintf(key, KEY_SIZE, "%s/%s/%s", da_id, mode, feature) < KEY_SIZE;
}

struct link *link_free(struct link *k)
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

struct links *links_new(struct csm *csm)
{
	struct links *l = calloc(1, sizeof(*l));
	if (l == NULL)
		return NULL;
	l->csm = csm;
	l->by_key = map_new();
	l->by_device = map_new();
	if (l->by_key == NULL || l->by_device == NULL ||
	    pace_new(csm->loop, &csm->settings->core.command_rate, link_on_turn, &l->pace, NULL) < 0)
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

struct link *links_first_of(const struct links *l, const char *da_id)
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

void links_drop_of_device(struct links *l, const struct link *k)
{
	struct of_device *o = map_find(l->by_device, k->da_id);
	struct link **at = &o->first;
	while (*at != k)
		at = &(*at)->next_of_device;
	*at = k->next_of_device;
	if (o->first == NULL)
		free(map_remove(l->by_device, k->da_id));
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
	    loop_add_timer(l->csm->loop, -1, 0, link_on_timer, k, &k->timer, NULL) < 0 ||
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
	links_drop_of_device(l, k);
	link_free(k);
}

void links_enliven(struct links *l, struct link *k)
{
	(void)l;
	if (k->live++ == 0 && device_online(k))
		link_connect(k);
}

void links_quiet(struct links *l, struct link *k)
{
	(void)l;
	if (--k->live == 0)
		link_disconnect(k, false);
}

/* ---- devices ---- */

bool links_connects_later(const struct links *l, const char *da_id, const char *feature, const char *mode)
{
	const struct link *k = links_find(l, da_id, feature, mode);
	return k != NULL && k->open_command != NULL && strcmp(k->open_command, "CONNECT") == 0 && (k->paced.waiting || k->unsent);
}

void links_on_online(struct links *l, const char *da_id)
{
	for (struct link *k = links_first_of(l, da_id); k != NULL; k = k->next_of_device)
		if (k->live > 0)
			link_connect(k);
}

/* Of a device that is not there; k is gone if nobody else has it. */
static void forget(struct link *k)
{
	k->connected = k->late = false;
	k->state = LINK_WAITING;
	link_close_command(k);
	if (k->leaving)
		link_leave(k);
}

void links_on_offline(struct links *l, const char *da_id)
{
	for (struct link *k = links_first_of(l, da_id), *next; k != NULL; k = next) {
		next = k->next_of_device;
		forget(k);
	}
}

void links_on_removed(struct links *l, const char *da_id)
{
	for (struct link *k = links_first_of(l, da_id), *next; k != NULL; k = next) {
		next = k->next_of_device;
		link_disconnect(k, true);
		free(TAKE(k->missing)); /* another device may come with this id */
		forget(k);
	}
	store_exec(l->csm->store, "DELETE FROM command WHERE da_id = $1", DB_V_TEXT(da_id));
}

void links_on_profile(struct links *l, const struct device *d, const struct profile *old)
{
	for (struct link *k = links_first_of(l, d->id.s); k != NULL; k = k->next_of_device) {
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
			link_report(k, k->missing);
	}
}

json_t *links_of(const struct links *l, const char *da_id)
{
	json_t *list = json_array();
	for (const struct link *k = links_first_of(l, da_id); k != NULL && list != NULL; k = k->next_of_device) {
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
