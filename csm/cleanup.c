#include "csm/cleanup.h"

#include "common/id.h"
#include "common/util.h"
#include "csm/store.h"
#include <stdio.h>

/* One timer for all: it fires when the earliest is due, clears what is due, and looks in the store for the next. */

static int on_due(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	if (v[0].type == DB_REAL)
		*(double *)arg = v[0].real;
	return 0;
}

struct due {
	struct csm *csm;
	struct uuid_text ids[64];
	size_t n;
};

static int on_device(void *arg, const struct db_value *v, size_t n)
{
	struct due *due = arg;
	(void)n;
	if (v[0].type == DB_TEXT && due->n < ARRAY_LEN(due->ids))
		snprintf(due->ids[due->n++].s, sizeof(due->ids[0].s), "%s", v[0].text);
	return 0;
}

static void rearm(struct csm *csm)
{
	double due = -1;
	int rc = db_run(store_db(csm->store), NULL, on_due, &due, "SELECT min(due) FROM cleanup");
	double in_s = due - csm_now();
	/* at least a moment: a store that does not take the DELETE must not make a busy loop */
	int64_t least_ms = rc < 0 || store_trouble(csm->store) != NULL ? 5000 : 200;
	int64_t in_ms = in_s * 1000 > (double)least_ms ? (int64_t)(in_s * 1000) + 1 : least_ms;
	loop_arm(csm->loop, csm->cleanup_timer, rc == 0 && due < 0 ? -1 : in_ms);
}

static void clear_due(void *arg)
{
	struct csm *csm = arg;
	struct due due = {.csm = csm};
	if (!bus_is_up(csm->bus)) {
		loop_arm(csm->loop, csm->cleanup_timer, 1000);
		return;
	}
	db_run(store_db(csm->store), NULL, on_device, &due,
	       "SELECT device_id FROM cleanup WHERE due <= $1 ORDER BY due LIMIT 64",
	       DB_V_REAL(csm_now()));
	for (size_t i = 0; i < due.n; i++) {
		char topic[80];
		snprintf(topic, sizeof(topic), "%s/ctrl/i", due.ids[i].s);
		if (bus_publish(csm->bus, topic, "", 0, 1, true, NULL) < 0)
			break; /* the queue is full: next time */
		store_exec(csm->store, "DELETE FROM cleanup WHERE device_id = $1",
			   DB_V_TEXT(due.ids[i].s));
	}
	rearm(csm);
}

int cleanup_load(struct csm *csm, struct err *err)
{
	int rc = loop_add_timer(csm->loop, -1, 0, clear_due, csm, &csm->cleanup_timer, err);
	if (rc == 0)
		rearm(csm);
	return rc;
}

void cleanup_schedule(struct csm *csm, const char *device_id)
{
	store_exec(csm->store,
		   "INSERT INTO cleanup (device_id, due) VALUES ($1, $2)"
		   " ON CONFLICT (device_id) DO UPDATE SET due = excluded.due",
		   DB_V_TEXT(device_id),
		   DB_V_REAL(csm_now() + (double)csm->settings->core.cleanup_delay_ms / 1000));
	rearm(csm);
}

void cleanup_cancel(struct csm *csm, const char *device_id)
{
	store_exec(csm->store, "DELETE FROM cleanup WHERE device_id = $1", DB_V_TEXT(device_id));
}
