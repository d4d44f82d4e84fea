/* effects.c - what operations ask of the drive when they are committed. */
#include "ccm/drive/graph.h"

#include "ccm/query.h"
#include "common/log.h"
#include "common/util.h"

void drive_touch(struct ccm *ccm, int64_t na_id)
{
	if (ccm->drive != NULL)
		graphs_touch(ccm->drive, na_id, CAUSE_CHANGE);
}

static int touch_changed(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	graphs_touch(arg, v[0].num, CAUSE_CHANGE);
	return 0;
}

void drive_touch_project(struct ccm *ccm, int64_t p_id)
{
	struct drive *d = ccm->drive;
	struct err err = {0};
	if (d == NULL)
		return;
	/* those it had: they may be gone from the store */
	CLEANUP(freep) void **all = map_values(d->graphs);
	if (all == NULL)
		graphs_lost(d, "out of memory");
	graphs_hold(d);
	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		const struct graph *g = all[i];
		if (g->p_id == p_id)
			graphs_touch(d, g->na_id, CAUSE_CHANGE);
	}
	if (db_run(ccm->db, &err, touch_changed, d, "SELECT na_id FROM NetworkApplication WHERE p_id = $1", DB_V_INT(p_id)) < 0)
		graphs_lost(d, err.text);
	graphs_release(d);
}

void drive_touch_function(struct ccm *ccm, int64_t fn_id)
{
	struct err err = {0};
	if (ccm->drive != NULL &&
	    db_run(ccm->db, &err, touch_changed, ccm->drive,
		   "SELECT na_id FROM DF_Module WHERE fn_id = $1 UNION SELECT na_id FROM MultipleJoin_Module WHERE fn_id = $1",
		   DB_V_INT(fn_id)) < 0)
		graphs_lost(ccm->drive, err.text);
}

/* ---- monitors ---- */

void drive_monitor(struct ccm *ccm, int64_t na_id, const char *gui_uuid)
{
	struct graph *g = ccm->drive != NULL ? graphs_get(ccm->drive, na_id) : NULL;
	if (g == NULL || graph_watch(g, gui_uuid) < 0) {
		if (g != NULL)
			log_error("drive.no_memory", KV("graph", na_id));
		return;
	}
	graphs_touch(ccm->drive, na_id, CAUSE_CHANGE);
}

void drive_unmonitor(struct ccm *ccm, const char *gui_uuid)
{
	struct drive *d = ccm->drive;
	if (d == NULL)
		return;
	CLEANUP(freep) void **all = map_values(d->graphs);
	graphs_hold(d);
	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		struct graph *g = all[i];
		if (graph_unwatch(g, gui_uuid) && g->watchers == NULL)
			graphs_touch(d, g->na_id, CAUSE_CHANGE);
	}
	graphs_release(d);
}
