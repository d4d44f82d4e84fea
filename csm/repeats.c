#include "csm/repeats.h"

#include "common/id.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

#define KEEP_S	60 /* much longer than a broker takes to save (autosave_interval 5) */
#define PRUNE_MS (KEEP_S * 1000)
#define UNSURE_MS 3000 /* for what a broker has to repeat, whole handshakes included */

struct repeat {
	struct digest_text digest;
	double at;
	bool stored;
	struct repeat *next_unstored;
};

struct repeats {
	struct csm *csm;
	struct map *by_digest;
	struct repeat *unstored;
	struct loop_src *timer;
	int64_t sure_ms; /* from then on what comes is new: loop_now_ms() */
};

static struct repeat *insert(struct repeats *r, const char *digest, double at)
{
	struct repeat *one = calloc(1, sizeof(*one));
	if (one == NULL)
		return NULL;
	snprintf(one->digest.s, sizeof(one->digest.s), "%s", digest);
	one->at = at;
	if (map_add(r->by_digest, one->digest.s, one) == 0)
		return one;
	free(one);
	return NULL;
}

static int load_row(void *arg, const struct db_value *v, size_t n)
{
	struct repeats *r = arg;
	(void)n;
	if (v[0].type != DB_TEXT || !digest_valid(v[0].text))
		return 0;
	struct repeat *one = insert(r, v[0].text, csm_now());
	if (one == NULL)
		return ERR_NOMEM;
	one->stored = true;
	return 0;
}

/* Before the commit of a turn that changed something: all that was taken up since the last. */
static void store_all(void *arg)
{
	struct repeats *r = arg;
	for (struct repeat *one = r->unstored; one != NULL; one = one->next_unstored)
		store_exec(r->csm->store, "INSERT INTO request (digest, at) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
			   DB_V_TEXT(one->digest.s), DB_V_REAL(one->at));
}

static void stored_all(void *arg)
{
	struct repeats *r = arg;
	for (struct repeat *one = r->unstored; one != NULL; one = one->next_unstored)
		one->stored = true;
	r->unstored = NULL;
}

static void prune(void *arg)
{
	struct repeats *r = arg;
	double now = csm_now();
	CLEANUP(freep) struct repeat **all = (struct repeat **)map_values(r->by_digest);
	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		double age_s = now - all[i]->at;
		if (!all[i]->stored || (age_s >= 0 && age_s < KEEP_S))
			continue;
		store_exec(r->csm->store, "DELETE FROM request WHERE digest = $1", DB_V_TEXT(all[i]->digest.s));
		map_remove(r->by_digest, all[i]->digest.s);
		free(all[i]);
	}
}

int repeats_new(struct csm *csm, struct repeats **ret, struct err *err)
{
	struct repeats *r = calloc(1, sizeof(*r));
	if (r == NULL || (r->by_digest = map_new()) == NULL) {
		free(r);
		return err_set(err, ERR_NOMEM, "requests");
	}
	r->csm = csm;
	int rc = loop_add_timer(csm->loop, PRUNE_MS, PRUNE_MS, prune, r, &r->timer, err);
	if (rc == 0)
		rc = db_run(store_db(csm->store), err, load_row, r, "SELECT digest FROM request");
	if (rc < 0) {
		repeats_free(r);
		return rc;
	}
	store_with_commits(csm->store, store_all, stored_all, r);
	*ret = r;
	return 0;
}

struct repeats *repeats_free(struct repeats *r)
{
	if (r == NULL)
		return NULL;
	loop_remove(r->csm->loop, r->timer);
	map_free(r->by_digest, free);
	free(r);
	return NULL;
}

void repeats_on_up(struct repeats *r)
{
	r->sure_ms = bus_is_fresh(r->csm->bus) ? 0 : loop_now_ms(r->csm->loop) + UNSURE_MS;
}

static struct digest_text digest_of(const struct bus_msg *m)
{
	char both[2 * DIGEST_LEN + 1];
	struct digest_text topic = sha256_hex(m->topic, strlen(m->topic)), payload = sha256_hex(m->payload, m->len);
	snprintf(both, sizeof(both), "%s%s", topic.s, payload.s);
	return sha256_hex(both, strlen(both));
}

int repeats_take(struct repeats *r, const struct bus_msg *m)
{
	if (m->qos == 0)
		return 0; /* nobody repeats it */
	struct digest_text digest = digest_of(m);
	struct repeat *one = map_find(r->by_digest, digest.s);
	if (one != NULL && (!bus_is_up(r->csm->bus) || loop_now_ms(r->csm->loop) < r->sure_ms))
		return 1;
	if (one != NULL) {
		one->at = csm_now(); /* the same words again, by whoever asks */
		return 0;
	}
	one = insert(r, digest.s, csm_now());
	if (one == NULL)
		return ERR_NOMEM;
	one->next_unstored = r->unstored;
	r->unstored = one;
	return 0;
}
