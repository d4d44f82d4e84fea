/* view_wanted.c - which IDFs are in a graph. A broker that is lost takes the answer with it: what
 * was wanted then stays so, and its values wait in the outbox, until csm says otherwise or, some
 * time after the broker is back, has said nothing (gateway-devices 4.2). The store knows it of
 * points whose values are kept on disk, so that it is true for the next process too.
 */
#include "agent/device/store.h"
#include "agent/device/view_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CONNECT_WITHIN_MS 30000 /* of csm, after the broker is back */

/* Kept states of ours: view/<id>/<feature>/ */
#define KEY_PREFIX "view/%s/"
#define KEY_MAX    (8 + UUID_LEN + FEATURE_MAX)

/* ---- the store ---- */

static void complain(const char *device, const struct err *err)
{
	if (log_allowed("view.store_failed", device))
		log_warn("view.store_failed", KV("device", device), KV("why", err->text));
}

/* wanted as the bits have it; a failure: after the next start it has to be told anew. */
static void store_wanted(struct view *v, struct idf *idf)
{
	char key[KEY_MAX];
	struct err err = {0};
	bool wanted = (*idf->bits & IDF_WANTED) != 0, stored = (*idf->bits & IDF_STORED) != 0;

	if (wanted == stored || (wanted && idf->keep == KEEP_NONE))
		return;
	snprintf(key, sizeof(key), KEY_PREFIX "%s/", v->id.s, idf->name);
	int rc = store_begin(v->conf.store, &err);
	if (rc == 0 && wanted)
		rc = store_keep_state(v->conf.store, key, "true", (int64_t)time(NULL) * 1000000,
				      &err);
	else if (rc == 0)
		rc = store_drop_states(v->conf.store, key, &err);
	if (rc < 0)
		complain(v->conf.name, &err);
	else
		*idf->bits ^= IDF_STORED;
}

static int on_stored(void *arg, const char *topic, const char *body, int64_t changed_us)
{
	struct view *v = arg;
	struct idf idf;
	char feature[FEATURE_MAX];
	const char *name = topic + strlen("view/") + UUID_LEN + 1;
	size_t len = strlen(name);

	(void)body, (void)changed_us;
	if (len < 2 || len > sizeof(feature))
		return 0;
	snprintf(feature, sizeof(feature), "%.*s", (int)len - 1, name);
	if (!view_find_idf(v, feature, &idf))
		return 0;
	*idf.bits |= IDF_WANTED | IDF_STORED;
	outbox_open(v->conf.outbox, OUTBOX_VALUES, feature, false);
	return 0;
}

/* ---- what csm says ---- */

static void unwant(struct view *v, struct idf *idf)
{
	*idf->bits &= (uint8_t) ~(IDF_WANTED | IDF_CONNECTED | IDF_PUT);
	store_wanted(v, idf);
	outbox_drop(v->conf.outbox, OUTBOX_VALUES, idf->name);
	outbox_open(v->conf.outbox, OUTBOX_VALUES, idf->name, true); /* nothing comes */
}

void view_wanted_connect(struct view *v, const char *feature)
{
	struct idf idf;

	if (!view_find_idf(v, feature, &idf) || (*idf.bits & IDF_CONNECTED) != 0)
		return;
	bool is_put = (*idf.bits & IDF_PUT) != 0;
	*idf.bits |= IDF_WANTED | IDF_CONNECTED;
	store_wanted(v, &idf);
	/* what it is now comes once: behind what waits, if that does not end with it */
	if (!is_put)
		view_put_last(v, &idf);
	outbox_open(v->conf.outbox, OUTBOX_VALUES, feature, true);
}

static void set_away(struct view *v, struct idf *idf)
{
	*idf->bits &= (uint8_t) ~(IDF_CONNECTED | IDF_PUT);
	if ((*idf->bits & IDF_WANTED) != 0)
		outbox_open(v->conf.outbox, OUTBOX_VALUES, idf->name, false);
}

void view_wanted_disconnect(struct view *v, const char *feature)
{
	struct idf idf;

	if (!view_find_idf(v, feature, &idf) || (*idf.bits & IDF_CONNECTED) == 0)
		return;
	/* dan forgets all that is connected before it says that the broker is back: that is no
	 * word of csm's */
	if (dan_is_online(v->dan))
		unwant(v, &idf);
	else
		set_away(v, &idf);
}

/* ---- the broker goes and comes ---- */

void view_wanted_away(struct view *v)
{
	loop_arm(v->loop, v->wanted_timer, -1);
	outbox_up(v->conf.outbox, OUTBOX_VALUES, false);
	view_each_idf(v, set_away);
}

void view_wanted_back(struct view *v)
{
	loop_arm(v->loop, v->wanted_timer, CONNECT_WITHIN_MS);
	outbox_up(v->conf.outbox, OUTBOX_VALUES, true);
}

static void end_wait(struct view *v, struct idf *idf)
{
	if ((*idf->bits & (IDF_WANTED | IDF_CONNECTED)) == IDF_WANTED)
		unwant(v, idf);
}

static void on_wanted_timer(void *arg)
{
	struct view *v = arg;

	if (v->dan != NULL)
		view_each_idf(v, end_wait);
	else
		view_start(v); /* it could not begin to register */
}

int view_wanted_load(struct view *v, struct err *err)
{
	char prefix[KEY_MAX];
	int rc = loop_add_timer(v->loop, -1, 0, on_wanted_timer, v, &v->wanted_timer, err);

	snprintf(prefix, sizeof(prefix), KEY_PREFIX, v->id.s);
	return rc < 0 ? rc : store_each_state(v->conf.store, prefix, on_stored, v, err);
}

void view_wanted_forget(struct store *store, const char *id)
{
	char prefix[KEY_MAX];
	struct err err = {0};

	snprintf(prefix, sizeof(prefix), KEY_PREFIX, id);
	int rc = store_begin(store, &err);
	if (rc == 0)
		rc = store_drop_states(store, prefix, &err);
	if (rc < 0)
		complain(id, &err);
}
