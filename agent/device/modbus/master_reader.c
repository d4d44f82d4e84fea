#include "agent/device/modbus/master_int.h"
#include "agent/device/modbus/modbus_points.h"
#include "common/err.h"
#include "common/log.h"

#define AGAIN_MS 100 /* until a request is tried again for which there was no room */
/* Intervals and delays of 0 are no busy loops. */
#define CYCLE_LEAST_MS 1
#define PAUSE_LEAST_MS 10 /* after what is told each time: an error, a timeout */

static int64_t now_ms(const struct remote *r)
{
	return loop_now_ms(r->master->loop);
}

/* ---- values ---- */

/* Tell a point's good value, if it is news. */
static void tell_value(struct remote *r, uint32_t point, uint64_t v)
{
	struct master_point *p = &r->master->points[point];
	struct value value = {.kind = VALUE_UINT, .u = v};
	const char *cause = p->state == POINT_GOOD ? "CHANGE" : "INTERROGATE";
	json_t *payload;

	if (p->state == POINT_GOOD && p->last == v)
		return;
	payload = master_result("SUCCESS");
	if (payload != NULL &&
	    (json_object_set_new_nocheck(payload, "value", modbus_value_json(v)) < 0 ||
	     json_object_set_new_nocheck(payload, "cause", json_string(cause)) < 0)) {
		json_decref(payload);
		payload = NULL;
	}
	/* what could not be told is news again the next time */
	if (master_emit(r, "read", point, payload, &value) < 0)
		return;
	p->state = POINT_GOOD;
	p->last = v;
}

/* An error is told at each poll. */
static void tell_error(struct remote *r, uint32_t point, const char *result)
{
	struct master_point *p = &r->master->points[point];
	struct value value = {.kind = VALUE_NONE, .quality = QUALITY_INVALID};

	p->state = POINT_FAILED;
	master_emit(r, "read", point, master_result(result), &value);
}

static void tell_group(struct remote *r, const struct plan_group *g, const struct modbus_answer *a)
{
	const struct plan_point *p = &r->plan.points[g->first];
	const char *error = a->exception != 0 ? master_exception(a->exception) : NULL;

	if (error == NULL && g->type == MODBUS_QUEUE && a->quantity == 0)
		return; /* the queue is empty: no news */
	for (uint32_t i = 0; i < g->n; i++, p++) {
		const struct master_point *at = &r->master->points[p->point];

		if (error != NULL)
			tell_error(r, p->point, error);
		else
			tell_value(r, p->point,
				   modbus_bits_get(&at->bits, &a->values[p->address - g->address]));
	}
}

/* No value is known any more. stale: the view does not see it by itself. */
static void forget_values(struct remote *r, bool stale)
{
	static const struct value gone = {.kind = VALUE_NONE, .quality = QUALITY_STALE};

	for (uint32_t i = r->first; i < r->first + r->n; i++) {
		struct master_point *p = &r->master->points[i];

		if (stale && p->state != POINT_UNKNOWN)
			port_value(r->master->port, i, &gone);
		p->state = POINT_UNKNOWN;
	}
}

/* ---- cycles ---- */

static void read_next(struct remote *r);

/* Mark the groups that are due, and say when they are due next: on the grid that the phase began,
 * however late this is. ret: there are some. */
static bool take_due(struct remote *r, int64_t now)
{
	bool any = false;

	for (size_t i = 0; i < r->plan.n_groups; i++) {
		struct plan_group *g = &r->plan.groups[i];
		int64_t late;

		if (g->due_ms > now)
			continue;
		late = g->interval_ms > 0 ? (now - g->due_ms) / g->interval_ms : 0;
		g->due_ms = g->interval_ms > 0 ? g->due_ms + (late + 1) * g->interval_ms
					       : now + CYCLE_LEAST_MS;
		g->reading = any = true;
		r->missed += (uint64_t)late;
	}
	r->at = 0;
	return any;
}

static int64_t first_due(const struct remote *r)
{
	int64_t due = r->plan.groups[0].due_ms;

	for (size_t i = 1; i < r->plan.n_groups; i++)
		if (r->plan.groups[i].due_ms < due)
			due = r->plan.groups[i].due_ms;
	return due;
}

/* All is due at once. The grid of the times after that is shifted by the phase, so that what starts
 * together is not polled together for ever. */
static void begin(struct remote *r)
{
	int64_t now = now_ms(r);

	for (size_t i = 0; i < r->plan.n_groups; i++) {
		struct plan_group *g = &r->plan.groups[i];

		g->reading = false;
		g->due_ms = g->interval_ms > 0 ? now - (now + r->phase) % g->interval_ms : now;
	}
	remote_set_status(r, REMOTE_CONNECTING);
	read_next(r);
}

/* The rest of the cycle is skipped. */
static void on_timeout(struct remote *r)
{
	r->timeouts++;
	r->reader = READER_PAUSED;
	remote_set_status(r, REMOTE_DISCONNECTED);
	forget_values(r, true);
	loop_arm(r->master->loop, r->timer,
		 r->timeout_poll_delay_ms > PAUSE_LEAST_MS ? r->timeout_poll_delay_ms
							   : PAUSE_LEAST_MS);
}

/* The device refuses what lies between the points of a group: do without it from now on. ret: it
 * has been split, its parts are to be read. */
static bool split(struct remote *r, const struct plan_group *g, const struct modbus_answer *a)
{
	if (a->exception != MODBUS_ILLEGAL_DATA_ADDRESS || !g->gaps ||
	    plan_split(&r->plan, r->at) < 0)
		return false;
	r->splits++;
	return true;
}

static void on_answer(struct remote *r, const struct modbus_answer *a)
{
	struct plan_group *g = &r->plan.groups[r->at];

	r->reader = READER_RESTING;
	remote_set_status(r, REMOTE_CONNECTED);
	if (!split(r, g, a)) {
		g->reading = false;
		if (a->exception != 0 && g->interval_ms == 0)
			g->due_ms = now_ms(r) + PAUSE_LEAST_MS;
		tell_group(r, g, a);
	}
	read_next(r);
}

static void on_result(void *arg, const struct modbus_result *res)
{
	struct remote *r = arg;

	switch (res->kind) {
	case MODBUS_DONE:
		on_answer(r, res->answer);
		return;
	case MODBUS_TIMED_OUT:
	case MODBUS_FULL:
		on_timeout(r);
		return;
	case MODBUS_LOST:
		r->reader = READER_RESTING; /* DISCONNECTED stops it */
		return;
	}
}

static void ask(struct remote *r)
{
	const struct plan_group *g = &r->plan.groups[r->at];
	struct modbus_request q;
	struct err err;
	int rc;

	plan_read(g->type, g->address, g->quantity, &q);
	rc = modbus_client_request(r->master->client, r->unit, &q, on_result, r, &err);
	r->reader = rc == 0 ? READER_READING : READER_RESTING;
	if (rc == 0)
		r->polls++;
	if (rc == 0 || rc == ERR_PEER)
		return;
	if (log_allowed("modbus_master.no_request", port_name(r->master->port)))
		log_warn("modbus_master.no_request", KV("device", port_name(r->master->port)),
			 KV("remote_device", r->id), KV("why", err.text));
	loop_arm(r->master->loop, r->timer, AGAIN_MS);
}

/* Read the next group of this cycle; after the last one begin another or wait for it. */
static void read_next(struct remote *r)
{
	int64_t now = now_ms(r);

	do {
		for (; r->at < r->plan.n_groups; r->at++)
			if (r->plan.groups[r->at].reading) {
				ask(r);
				return;
			}
	} while (take_due(r, now));
	r->reader = READER_RESTING;
	loop_arm(r->master->loop, r->timer, first_due(r) - now);
}

void reader_on_timer(void *arg)
{
	struct remote *r = arg;

	if (r->reader == READER_PAUSED)
		begin(r);
	else if (r->reader == READER_RESTING)
		read_next(r);
}

void reader_start(struct remote *r)
{
	forget_values(r, false);
	if (r->plan.n_groups > 0) {
		begin(r);
		return;
	}
	r->reader = READER_RESTING;
	remote_set_status(r, REMOTE_CONNECTED);
}

void reader_stop(struct remote *r)
{
	if (r->reader == READER_STOPPED)
		return;
	loop_arm(r->master->loop, r->timer, -1);
	if (!r->master->closing)
		modbus_client_forget(r->master->client, r);
	r->reader = READER_STOPPED;
	forget_values(r, r->master->link == LINK_CONNECTED);
	remote_set_status(r, REMOTE_DISABLED);
}
