#include "csm/listeners.h"

#include "common/id.h"
#include "common/log.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

/* Every change of a device is told to each of them. */
#define LISTENERS_MAX 256

struct listener {
	struct listeners *all;
	char client[];
};

struct listeners {
	struct csm *csm;
	struct map *by_client;
};

static struct listener *insert(struct listeners *l, const char *client)
{
	size_t len = strlen(client) + 1;
	struct listener *one = calloc(1, sizeof(*one) + len);
	if (one == NULL)
		return NULL;
	one->all = l;
	memcpy(one->client, client, len);
	if (map_add(l->by_client, one->client, one) < 0) {
		free(one);
		return NULL;
	}
	return one;
}

static int load_row(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	return v[0].type != DB_TEXT || insert(arg, v[0].text) != NULL ? 0 : ERR_NOMEM;
}

int listeners_new(struct csm *csm, struct listeners **ret, struct err *err)
{
	struct listeners *l = calloc(1, sizeof(*l));
	if (l == NULL || (l->by_client = map_new()) == NULL) {
		free(l);
		return err_set(err, ERR_NOMEM, "listeners");
	}
	l->csm = csm;
	int rc = db_run(store_db(csm->store), err, load_row, l, "SELECT client FROM device_client");
	if (rc < 0) {
		listeners_free(l);
		return rc;
	}
	*ret = l;
	return 0;
}

struct listeners *listeners_free(struct listeners *l)
{
	if (l == NULL)
		return NULL;
	map_free(l->by_client, free);
	free(l);
	return NULL;
}

static void not_attached(void *arg, const char *why)
{
	struct listener *one = arg;
	(void)why;
	map_remove(one->all->by_client, one->client);
	free(one);
}

bool listeners_has(const struct listeners *l, const char *client)
{
	return map_find(l->by_client, client) != NULL;
}

int listeners_attach(struct listeners *l, const char *client)
{
	if (map_find(l->by_client, client) != NULL)
		return 0;
	if (map_count(l->by_client) >= LISTENERS_MAX)
		return ERR_LIMIT;
	struct listener *one = insert(l, client);
	if (one == NULL)
		return ERR_NOMEM;
	store_exec(l->csm->store,
		   "INSERT INTO device_client (client) VALUES ($1) ON CONFLICT (client) DO NOTHING",
		   DB_V_TEXT(client));
	store_then(l->csm->store, NULL, not_attached, one);
	return 0;
}

static void detached(void *arg, const char *why)
{
	(void)why;
	free(arg);
}

static void not_detached(void *arg, const char *why)
{
	struct listener *one = arg;
	(void)why;
	if (map_add(one->all->by_client, one->client, one) < 0)
		free(one);
}

void listeners_detach(struct listeners *l, const char *client)
{
	struct listener *one = map_remove(l->by_client, client);
	if (one == NULL)
		return;
	store_exec(l->csm->store, "DELETE FROM device_client WHERE client = $1", DB_V_TEXT(client));
	store_then(l->csm->store, detached, not_detached, one);
}

struct announcement {
	struct csm *csm;
	json_t *message;
	void (*send)(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain);
};

static void tell(void *arg, const char *key, void *value)
{
	const struct announcement *a = arg;
	char *topic;
	(void)value;
	if (asprintf(&topic, "iottalk/api/res/%s/device", key) < 0)
		return;
	a->send(a->csm, topic, json_incref(a->message), 2, false);
	free(topic);
}

static void announce(struct announcement a, const char *type, json_t *da)
{
	struct csm *csm = a.csm;
	if (map_count(csm->listeners->by_client) == 0) {
		json_decref(da);
		return;
	}
	a.message = json_pack("{s:s, s:s, s:s, s:o}", "op", "anno", "type", type, "timestamp",
			      uuid1().s, "da", da);
	if (a.message == NULL) {
		log_error("announcement.lost", KV("type", type), KV("why", "out of memory"));
		return;
	}
	map_each(csm->listeners->by_client, tell, &a);
	json_decref(a.message);
}

void listeners_announce(struct csm *csm, const char *type, json_t *da)
{
	announce((struct announcement){.csm = csm, .send = csm_publish}, type, da);
}

void listeners_announce_fact(struct csm *csm, const char *type, json_t *da)
{
	announce((struct announcement){.csm = csm, .send = csm_send}, type, da);
}
