/* view_wanted.c - which IDFs are in a graph. A broker that is lost takes the answer with it: what
 * was wanted then stays so, and its values wait in the outbox, until csm says otherwise or, some
 * time after the broker is back, has said nothing (gateway-devices 4.2). */
#include "agent/device/view_int.h"

#define CONNECT_WITHIN_MS 30000 /* of csm, after the broker is back */

/* ---- what csm says ---- */

static void unwant(struct view *v, struct idf *idf)
{
	*idf->bits &= (uint8_t) ~(IDF_WANTED | IDF_CONNECTED | IDF_PUT);
	view_store_wanted(v, idf);
	outbox_drop(v->conf.outbox, OUTBOX_VALUES, idf->name);
	outbox_open(v->conf.outbox, OUTBOX_VALUES, idf->name, true); /* nothing comes */
}

void view_wanted_connect(struct view *v, const char *feature)
{
	struct idf idf;

	if (!view_find_idf(v, feature, &idf) || (*idf.bits & IDF_CONNECTED) != 0)
		return;
	/* a SUSPEND of before comes again, right behind the CONNECT */
	bool hold = (*idf.bits & (IDF_PUT | IDF_SUSPENDED)) != 0;
	*idf.bits |= IDF_WANTED | IDF_CONNECTED;
	view_store_wanted(v, &idf);
	/* what it is now comes once: behind what waits, if that does not end with it */
	if (!hold)
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
	/* dan forgets all that is connected before it says that the broker is back: that is no
	 * word of csm's */
	bool told = dan_is_online(v->dan);

	if (!view_find_idf(v, feature, &idf))
		return;
	if (told)
		*idf.bits &= (uint8_t)~IDF_SUSPENDED;
	if ((*idf.bits & IDF_CONNECTED) == 0)
		return;
	if (told)
		unwant(v, &idf);
	else
		set_away(v, &idf);
}

void view_wanted_suspend(struct view *v, const char *feature, bool suspended)
{
	struct idf idf;

	if (!view_find_idf(v, feature, &idf))
		return;
	if (suspended) {
		unwant(v, &idf);
		*idf.bits |= IDF_SUSPENDED;
	} else {
		*idf.bits &= (uint8_t)~IDF_SUSPENDED;
		view_wanted_connect(v, feature);
	}
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
	if (!v->held)
		outbox_up(v->conf.outbox, OUTBOX_VALUES, true);
}

void view_hold(struct view *v, bool held)
{
	bool ends = v->held && !held;

	v->held = held;
	if (ends && v->dan != NULL && dan_is_online(v->dan))
		outbox_up(v->conf.outbox, OUTBOX_VALUES, true);
}

static void end_wait(struct view *v, struct idf *idf)
{
	if ((*idf->bits & (IDF_WANTED | IDF_CONNECTED)) == IDF_WANTED)
		unwant(v, idf);
	/* resumed while we were away */
	if ((*idf->bits & IDF_SUSPENDED) != 0 && (*idf->bits & IDF_CONNECTED) != 0) {
		*idf->bits &= (uint8_t)~IDF_SUSPENDED;
		if ((*idf->bits & IDF_PUT) == 0)
			view_put_last(v, idf);
	}
}

static void on_wanted_timer(void *arg)
{
	struct view *v = arg;

	if (v->dan != NULL)
		view_each_idf(v, end_wait);
	else
		view_start(v); /* it could not begin to register */
}

void view_wanted_stored(struct view *v, const char *feature)
{
	struct idf idf;

	if (!view_find_idf(v, feature, &idf))
		return; /* a configuration of before had it */
	*idf.bits |= IDF_WANTED | IDF_STORED;
	outbox_open(v->conf.outbox, OUTBOX_VALUES, feature, false);
}

int view_wanted_load(struct view *v, struct err *err)
{
	int rc = loop_add_timer(v->loop, -1, 0, on_wanted_timer, v, &v->wanted_timer, err);

	return rc < 0 ? rc : view_store_load_wanted(v, err);
}
